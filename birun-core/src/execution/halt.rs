//! What stops the attempts of an execution.
//!
//! Each attempt listens by itself: its runner may be waiting for storage, which can take hours.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::execution::state::StopCause;
use crate::execution::worker::Signals;

/// The signals of an execution, and its limit.
#[derive(Clone)]
pub(super) struct Halt {
    pub(super) signals: Signals,
    /// When the execution's limit is reached, by the monotonic clock.
    pub(super) deadline: Duration,
    pub(super) clock: Arc<dyn Clock>,
}

impl Halt {
    /// How much time is left until the limit.
    pub(super) fn left(&self) -> Duration {
        self.deadline.saturating_sub(self.clock.monotonic())
    }

    /// Resolves when everything is to stop.
    pub(super) async fn cause(&self) -> StopCause {
        // The fence ends the lease, which is heard.
        let Signals { cancel, lost, fence: _, hand_back, kill } = &self.signals;
        tokio::select! {
            biased;
            () = cancel.cancelled() => StopCause::Cancel,
            () = self.clock.sleep(self.left()) => StopCause::ExecutionTimeout,
            () = hand_back.cancelled() => StopCause::WorkerStopped,
            () = kill.cancelled() => StopCause::WorkerStopped,
            () = lost.cancelled() => StopCause::WorkerStopped,
        }
    }

    /// Resolves when nothing more is waited for: KILL.
    pub(super) async fn at_once(&self) {
        tokio::select! {
            () = self.signals.kill.cancelled() => {}
            () = self.signals.lost.cancelled() => {}
        }
    }
}
