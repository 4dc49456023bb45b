//! How birun's work reaches the world: local processes and SSH.
//!
//! This crate knows processes and protocols. It knows no store and no web framework, and it reads no
//! environment variables, except that a local program inherits what the embedding program has.

mod bootstrap;
mod leftover;
pub mod local;
pub mod ssh;
#[cfg(feature = "testing")]
pub mod testing;

pub use local::LocalExecutor;
pub use ssh::{SshExecutor, SshKeys};
