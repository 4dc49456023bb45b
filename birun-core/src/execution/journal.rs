//! Writing the journal of one execution, under one lease.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use crate::engine::Shared;
use crate::execution::{Ended, Execution, Finish, Lease, Reason, Step, StepEnd, StepNote, StepStart, metrics};
use crate::gate::Scope;
use crate::milestone;
use crate::store::{StoreError, StoreResult};

/// First wait between two tries while storage does not answer.
const FIRST_RETRY: Duration = Duration::from_millis(20);
/// Longest such wait.
const MAX_RETRY: Duration = Duration::from_secs(2);

/// How often an error is met that does not pass by itself, before it is believed.
const FAULTS: u32 = 5;

/// The growing waits between tries while storage does not answer.
pub(super) struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Self(FIRST_RETRY)
    }
}

/// Why nothing more can be written.
#[derive(Debug)]
pub(super) enum Cut {
    /// The lease is gone: another worker drives the execution.
    LeaseLost,
    /// Storage answered an error that does not pass by itself, several times.
    Broken(StoreError),
}

/// The journal of one execution.
pub(super) struct Journal {
    pub(super) shared: Arc<Shared>,
    pub(super) scope: Scope,
    /// The execution as it was claimed.
    pub(super) execution: Arc<Execution>,
    pub(super) lease: Lease,
    pub(super) lost: CancellationToken,
}

/// One transition.
pub(super) enum Entry<'a> {
    Start(&'a [StepStart]),
    Note(&'a StepNote),
    End { ends: &'a [StepEnd], next: &'a [Step], finish: Option<&'a Finish> },
    Park { wake_at: DateTime<Utc>, reason: Reason },
    HandBack { now: DateTime<Utc> },
}

impl Entry<'_> {
    const fn milestones(&self) -> (&'static str, &'static str) {
        match self {
            Self::Start(_) => ("start.before", "start.after"),
            Self::Note(_) => ("note.before", "note.after"),
            Self::End { finish: None, .. } => ("end.before", "end.after"),
            Self::End { finish: Some(_), .. } => ("finish.before", "finish.after"),
            Self::Park { .. } => ("park.before", "park.after"),
            Self::HandBack { .. } => ("hand_back.before", "hand_back.after"),
        }
    }
}

impl Journal {
    /// Writes a transition and wakes followers; waits out whatever keeps storage from answering.
    /// Steps that run hear by themselves what stops them meanwhile.
    pub(super) async fn write(&self, entry: Entry<'_>) -> Result<(), Cut> {
        let mut pauses = Pauses::default();
        let mut faults = 0;
        let (before, after) = entry.milestones();
        loop {
            milestone::reach(before);
            match self.try_write(&entry).await {
                Ok(ended) => {
                    milestone::reach(after);
                    self.tell(&entry, ended);
                    return Ok(());
                }
                Err(StoreError::LeaseLost) => return Err(Cut::LeaseLost),
                Err(error) => {
                    faults += u32::from(!error.is_retryable());
                    if faults >= FAULTS {
                        return Err(Cut::Broken(error));
                    }
                    let execution = self.lease.execution;
                    tracing::error!(%execution, %error, "the journal cannot be written; trying again until it can");
                }
            }
            self.pause(&mut pauses).await?;
        }
    }

    /// Waits before the next try.
    pub(super) async fn pause(&self, pauses: &mut Pauses) -> Result<(), Cut> {
        let wait = pauses.0;
        pauses.0 = (wait * 2).min(MAX_RETRY);
        tokio::select! {
            () = self.shared.clock.sleep(wait) => Ok(()),
            () = self.lost.cancelled() => Err(Cut::LeaseLost),
        }
    }

    fn tell(&self, entry: &Entry<'_>, ended: Option<Ended>) {
        if let Entry::End { ends, .. } = entry {
            metrics::steps_ended(ends);
        }
        match entry {
            Entry::End { finish: Some(finish), .. } => {
                metrics::execution_ended(finish.status);
                self.shared.hub.ended(self.lease.execution, || self.last_row(finish, ended?));
            }
            _ => self.shared.hub.state_moved(self.lease.execution),
        }
    }

    /// The row as it stands now, so that whoever waits for the end need not read it.
    ///
    /// A store may keep a text with small changes: then the row must be read.
    fn last_row(&self, finish: &Finish, ended: Ended) -> Option<Execution> {
        let row = || Execution {
            status: finish.status,
            reason: finish.reason,
            detail: None,
            counts: finish.counts,
            finished_at: Some(finish.at),
            worker: None,
            rev: ended.rev,
            wake_at: ended.wake_at,
            cancel_requested_at: ended.cancel_requested_at,
            ..(*self.execution).clone()
        };
        finish.detail.is_none().then(row)
    }

    async fn try_write(&self, entry: &Entry<'_>) -> StoreResult<Option<Ended>> {
        let store = &self.shared.store;
        match *entry {
            Entry::Start(starts) => store.start_steps(&self.scope, &self.lease, starts).await?,
            Entry::Note(note) => store.note_steps(&self.scope, &self.lease, std::slice::from_ref(note)).await?,
            Entry::End { ends, next, finish } => {
                return store.end_steps(&self.scope, &self.lease, ends, next, finish).await;
            }
            Entry::Park { wake_at, reason } => store.park(&self.scope, &self.lease, wake_at, reason).await?,
            Entry::HandBack { now } => store.hand_back(&self.scope, &self.lease, now).await?,
        }
        Ok(None)
    }
}
