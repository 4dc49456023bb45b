//! The line that moves while an execution runs. On a terminal only.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Board;
use crate::ui::{Ui, visible};

/// How often it moves by itself.
const TICK: Duration = Duration::from_millis(120);
/// How many names of running targets are shown.
const NAMES: usize = 3;

/// The progress line.
#[derive(Debug)]
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// A line on stderr, if that is a terminal and talk is wanted.
    pub(super) fn new(ui: &Ui) -> Self {
        if !ui.err_is_terminal() || ui.is_quiet() {
            return Self(ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()));
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} · {elapsed}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// Shows how it stands.
    pub(super) fn show(&self, board: &Board) {
        if !self.0.is_hidden() {
            self.0.set_message(message(board));
        }
    }

    /// Writes something else without mixing it with the line.
    pub(super) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        self.0.suspend(write)
    }

    /// Takes the line away.
    pub(super) fn end(&self) {
        self.0.finish_and_clear();
    }
}

fn message(board: &Board) -> String {
    let running: Vec<&str> =
        board.steps().filter(|step| step.status == "running").map(|step| step.target.as_str()).collect();
    let names = match running.get(NAMES..) {
        Some(more) if !more.is_empty() => {
            format!("{} and {} more", running.get(..NAMES).unwrap_or_default().join(", "), more.len())
        }
        _ => running.join(", "),
    };
    let ended = board.steps().filter(|step| step.has_ended()).count();
    let status = board.status();
    match (board.total(), running.is_empty()) {
        (..=1, _) => status.to_owned(),
        (total, true) => format!("{status} · {ended}/{total}"),
        (total, false) => format!("{status} · {ended}/{total} · {}", visible(&names)),
    }
}
