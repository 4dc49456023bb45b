//! The live form of an execution: its output as it comes, how it goes, how it ended.

mod assemble;
mod board;
mod interrupt;
mod outage;
mod printer;
mod progress;
mod summary;
mod watch;
mod why;

use std::time::Duration;

pub(crate) use board::Board;
pub(crate) use interrupt::Interrupts;
pub(crate) use outage::{lost, regained};
pub(crate) use printer::{Layout, Printer};
pub(crate) use summary::{header, subject_of, tell_end};
pub(crate) use watch::{ExitOf, Watch, goes_on_without_us};
pub(crate) use why::Why;

/// An unfinished line is shown after so much silence: it may be a question.
const SILENCE: Duration = Duration::from_millis(200);
