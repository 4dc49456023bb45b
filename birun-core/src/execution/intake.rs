//! Where submissions meet the worker of their own engine.
//!
//! A submission usually waits in the queue until a worker claims it. Where this engine's worker has a
//! free slot and nothing is due before it, it is claimed in the transaction that accepts it: one way to
//! the disk instead of two.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::execution::{Claimed, Execution, ExecutionStatus, Lease, Step};
use crate::id::WorkerId;

/// The epoch of an execution that was claimed as it was accepted.
const FIRST_EPOCH: u64 = 1;

/// Wakes the worker, and gives its free slots to what is submitted.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    wake: Notify,
    door: Mutex<Option<Door>>,
}

/// A worker that takes executions on.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) slots: Arc<Semaphore>,
    pub(super) claims: UnboundedSender<Vec<Claimed>>,
    /// When storage last answered that this worker lives, by the monotonic clock.
    pub(super) heard: Duration,
    /// How long after that it counts as alive for certain; `None`: as long as its process lives.
    pub(super) certain: Option<Duration>,
    /// Rises whenever something is queued here.
    pub(super) queued: u64,
    /// Nothing was due when the queue was last asked: nobody is passed over.
    pub(super) caught_up: bool,
}

/// How much had been queued here when the worker began to look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look(u64);

/// A slot that is kept for one submission. Dropped, it is free again.
#[derive(Debug)]
pub(super) struct Slot(OwnedSemaphorePermit);

/// An execution that is submitted as claimed, and its slot.
#[derive(Debug)]
pub(super) struct Held {
    slot: Slot,
    claimed: Claimed,
}

impl Intake {
    /// A worker begins to take executions on.
    pub(super) fn open(&self, door: Door) {
        *self.door() = Some(door);
    }

    /// It takes nothing more on.
    pub(super) fn close(&self) {
        *self.door() = None;
    }

    /// Something is queued: the worker shall look.
    pub(super) fn queued(&self) {
        if let Some(door) = self.door().as_mut() {
            door.queued += 1;
            door.caught_up = false;
        }
        self.wake.notify_one();
    }

    /// Resolves when something was queued since it was last asked.
    pub(super) async fn something_queued(&self) {
        self.wake.notified().await;
    }

    /// The worker looks what is due: until it has done so, everything goes through the queue.
    pub(super) fn look(&self) -> Look {
        let mut door = self.door();
        let Some(door) = door.as_mut() else { return Look(0) };
        door.caught_up = false;
        Look(door.queued)
    }

    /// Nothing was due. That is out of date if something was queued meanwhile.
    pub(super) fn nothing_due(&self, look: Look) {
        if let Some(door) = self.door().as_mut() {
            door.caught_up = door.queued == look.0;
        }
    }

    /// Storage answered that the worker lives, at this moment or later.
    pub(super) fn renewed(&self, at: Duration) {
        if let Some(door) = self.door().as_mut() {
            door.heard = at;
        }
    }

    /// A free slot, if there is one, nothing in the queue comes first, and no other process can take this
    /// worker for dead.
    pub(super) fn slot(&self, now: Duration) -> Option<Slot> {
        let door = self.door();
        let door = door.as_ref().filter(|door| door.caught_up)?;
        if door.certain.is_some_and(|certain| now.saturating_sub(door.heard) >= certain) {
            return None;
        }
        Arc::clone(&door.slots).try_acquire_owned().ok().map(Slot)
    }

    /// Hands an execution to the worker, whose business the slot is from here on.
    ///
    /// Answers whether the worker still takes executions on; else it must be given back.
    pub(super) fn deliver(&self, held: Held) -> bool {
        let Held { slot, claimed } = held;
        let sent = self.door().as_ref().is_some_and(|door| door.claims.send(vec![claimed]).is_ok());
        if sent {
            slot.0.forget();
        }
        sent
    }

    fn door(&self) -> MutexGuard<'_, Option<Door>> {
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// The lease that it is held under.
    pub(super) const fn lease(&self) -> Lease {
        self.claimed.lease
    }
}

impl Slot {
    /// Claims an execution before it is submitted: the store accepts it as this worker's.
    pub(super) fn claim(self, execution: &mut Execution, steps: &[Step], worker: WorkerId) -> Held {
        execution.status = ExecutionStatus::Running;
        execution.started_at = Some(execution.created_at);
        execution.worker = Some(worker);
        execution.epoch = FIRST_EPOCH;
        let lease = Lease { execution: execution.id, worker, epoch: FIRST_EPOCH };
        Held { slot: self, claimed: Claimed { lease, execution: execution.clone(), steps: steps.to_vec() } }
    }
}
