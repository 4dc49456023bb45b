//! Where submissions meet the worker of their own engine.
//!
//! A submission usually waits in the queue until a worker claims it. Where this engine's worker has a
//! free slot and nothing is due before it, it is claimed in the transaction that accepts it: one way to
//! the disk instead of two.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::execution::{Claimed, Execution, ExecutionStatus, Lease, Step};
use crate::id::WorkerId;

/// The epoch of an execution that was claimed as it was accepted.
const FIRST_EPOCH: u64 = 1;

/// Wakes the worker, and gives its free slots to what is submitted.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    queued: Notify,
    door: Mutex<Option<Door>>,
}

/// A worker that takes executions on.
#[derive(Debug)]
struct Door {
    slots: Arc<Semaphore>,
    claims: UnboundedSender<Vec<Claimed>>,
    /// Nothing was due when the queue was last asked: nobody is passed over.
    caught_up: bool,
}

/// A slot that is kept for one submission, until it is filled or dropped.
#[derive(Debug)]
pub(super) struct Slot {
    permit: OwnedSemaphorePermit,
    claims: UnboundedSender<Vec<Claimed>>,
}

impl Intake {
    /// A worker begins to take executions on.
    pub(super) fn open(&self, slots: Arc<Semaphore>, claims: UnboundedSender<Vec<Claimed>>) {
        *self.door() = Some(Door { slots, claims, caught_up: false });
    }

    /// It takes nothing more on.
    pub(super) fn close(&self) {
        *self.door() = None;
    }

    /// Something is queued: the worker shall look.
    pub(super) fn queued(&self) {
        self.set_caught_up(false);
        self.queued.notify_one();
    }

    /// Resolves when something was queued since it was last asked.
    pub(super) async fn something_queued(&self) {
        self.queued.notified().await;
    }

    /// Whether whatever is due has been claimed.
    pub(super) fn set_caught_up(&self, caught_up: bool) {
        if let Some(door) = self.door().as_mut() {
            door.caught_up = caught_up;
        }
    }

    /// A free slot, if there is one and nothing in the queue comes first.
    pub(super) fn slot(&self) -> Option<Slot> {
        let door = self.door();
        let door = door.as_ref().filter(|door| door.caught_up)?;
        let permit = Arc::clone(&door.slots).try_acquire_owned().ok()?;
        Some(Slot { permit, claims: door.claims.clone() })
    }

    fn door(&self) -> MutexGuard<'_, Option<Door>> {
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Hands an execution to the worker, whose business the slot is from here on.
    pub(super) fn fill(self, claimed: Claimed) {
        self.permit.forget();
        // A worker that is gone has let go of what it holds: another takes that up.
        drop(self.claims.send(vec![claimed]));
    }
}

/// Claims an execution before it is submitted: the store accepts it as this worker's.
pub(super) fn claim_at_once(execution: &mut Execution, steps: &[Step], worker: WorkerId) -> Claimed {
    execution.status = ExecutionStatus::Running;
    execution.started_at = Some(execution.created_at);
    execution.worker = Some(worker);
    execution.epoch = FIRST_EPOCH;
    let lease = Lease { execution: execution.id, worker, epoch: FIRST_EPOCH };
    Claimed { lease, execution: execution.clone(), steps: steps.to_vec() }
}
