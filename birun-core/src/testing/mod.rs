//! Conformance suites, fakes and a test engine, for birun's own backends and third parties'.

mod clock;
mod engine;
pub mod executor;
mod fake;
pub mod harness;
pub mod log;
pub mod store;

use crate::gate::Scope;
use crate::id::ProjectId;

pub use clock::ManualClock;
pub use engine::TestEngine;
pub use fake::FakeExecutor;

/// A scope as the gate would make it, for suites that talk to a store directly.
#[must_use]
pub fn scope(project: ProjectId) -> Scope {
    Scope::of(project)
}
