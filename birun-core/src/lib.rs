//! What automation *is*: birun's domain types, its pure rules, the engine that sequences them, and
//! the traits of what the engine needs from outside.
//!
//! This crate knows no SQL, no SSH, no web framework, no terminal, no environment, no config file
//! and no wall clock (it asks [`clock::Clock`]). Backends live in `birun-store` and `birun-exec`.

pub mod audit;
pub mod clock;
pub mod duration;
pub mod engine;
pub mod error;
pub mod execution;
pub mod gate;
pub mod id;
pub mod identity;
pub mod inventory;
pub mod milestone;
pub mod name;
pub mod page;
pub mod script;
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;
mod text_enum;
pub mod vault;
pub mod wildcard;

pub use clock::{Clock, SystemClock};
pub use error::{Error, ErrorCode, FieldError, Result};
pub use gate::Gate;
pub use store::{Store, StoreError};
