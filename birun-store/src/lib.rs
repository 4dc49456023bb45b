//! How birun keeps records and output, and how work is handed out.
//!
//! Records are kept in SQLite or PostgreSQL through sqlx, output in files, and claimed work is moved
//! to the engine by apalis. This crate knows databases and files. It must never know SSH, HTTP, or
//! any rule: it keeps what the core decided.
//!
//! There is one file for each room of the core, with its statements beside the functions that use
//! them. `sql` holds the one place that knows two drivers, `writer` the tasks that make transactions.

mod audit;
mod connect;
mod contact;
mod credential;
mod database;
mod dispatch;
mod execution;
mod group;
mod host_key;
mod journal;
mod json;
mod liveness;
pub mod log;
mod migrate;
mod queue;
mod script;
mod server;
mod sql;
mod store;
mod system;
mod vault;
mod writer;

pub use dispatch::ApalisDispatcher;
pub use store::{DEFAULT_LEASE, SqlStore, StoreOptions};
