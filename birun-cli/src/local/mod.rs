//! birun on this machine, without a server: the data directory, and the engine that works on it.

mod data_dir;
mod detached;
mod engine;
mod key_use;
mod master_key;
mod rotation;
mod served;

pub(crate) use data_dir::DataDir;
pub(crate) use detached::Detached;
pub(crate) use engine::{Opened, Purpose, connect_store, open_engine};
pub(crate) use rotation::Rotation;
pub(crate) use served::{ServeFile, ServeLock, find_server};
