//! The live form of an execution: its output as it comes, how it goes, how it ended.

mod assemble;
mod board;
mod interrupt;
mod printer;
mod progress;
mod summary;
mod watch;

use std::time::Duration;

pub(crate) use board::Board;
pub(crate) use interrupt::Interrupts;
pub(crate) use printer::{Layout, Printer};
pub(crate) use summary::{header, subject_of};
pub(crate) use watch::{ExitOf, Watch, how_to_go_on};

/// An unfinished line is shown after so much silence: it may be a question.
const SILENCE: Duration = Duration::from_millis(200);
