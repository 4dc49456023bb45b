//! Milestones: the places between which a crash makes a difference.
//!
//! Whoever wants to know that the engine got somewhere listens for trace events with the target
//! [`TARGET`]. Tests let a process die at them. Where nobody listens, a milestone costs one comparison.

/// The target of the events.
pub const TARGET: &str = "birun::milestone";

/// Says that the engine got to a place; the event's field `at` names it.
///
/// `X.before` and `X.after` stand around a transition of the store: `submit`, `claim`, `start` (of
/// steps), `end` (of steps), `finish` (of an execution), `park` and `hand_back`; around what is
/// appended to a log: `append`; and around every commit of a database: `commit`. `spawn.after`: the
/// process of a step was started. `exit.after`: its ending is known, and nothing is written about
/// it yet. `sync.after`: its output is on the disk.
pub fn reach(at: &'static str) {
    tracing::trace!(target: TARGET, at);
}
