//! What callers can do with the inventory.

mod credentials;
mod groups;
mod host_keys;
mod import;
mod servers;
mod targets;

pub use targets::Resolved;
pub(crate) use targets::{open_targets, resolve};
