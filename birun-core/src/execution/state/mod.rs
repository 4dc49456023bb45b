//! The pure rules of an execution: what starts next, what an ending means, how it all ends.
//!
//! [`Progress`] is rebuilt from the journal whenever a worker takes an execution up, and every
//! answer it gives depends on nothing but its arguments.

mod outcome;
mod progress;

pub use outcome::{Outcome, StopCause, backoff, judge_ending, judge_orphan, retries, until};
pub use progress::Progress;
