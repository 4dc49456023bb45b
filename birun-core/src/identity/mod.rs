//! Who acts, and what they may do.

mod actor;
mod permission;

pub use actor::{Actor, ActorKind, Principal};
pub use permission::{Permission, RULES, Role, allows};
