//! Promises about cancelling.

use super::make::{
    at, audit, audited, claim_one, claimed_job, ended, execution, finish, here, job, start, steps, submit, worker,
};
use crate::execution::{Cancelled, Counts, ExecutionStatus, Reason, StepStatus};
use crate::id::ExecutionId;
use crate::store::{Store, StoreError};

async fn cancel(store: &dyn Store, id: ExecutionId, seconds: i64) -> Cancelled {
    store.cancel(&here(), id, at(seconds), &audit("execution.cancel")).await.unwrap()
}

/// It and all its steps ended now, because someone asked.
async fn assert_cancelled(store: &dyn Store, id: ExecutionId, targets: u32, seconds: i64) {
    let now = execution(store, id).await;
    assert_eq!((now.status, now.reason), (ExecutionStatus::Cancelled, Some(Reason::CancelRequested)));
    assert_eq!((now.finished_at, now.cancel_requested_at), (Some(at(seconds)), Some(at(seconds))));
    assert_eq!(now.counts, Counts { total: targets, cancelled: targets, ..Counts::default() });
    for step in steps(store, id).await {
        assert_eq!((step.status, step.finished_at), (StepStatus::Cancelled, Some(at(seconds))));
        assert_eq!((step.reason, step.rev), (Some(Reason::CancelRequested), now.rev));
    }
}

pub(super) async fn a_queued_execution_is_cancelled_at_once(store: &dyn Store) {
    let id = submit(store, &job("ping", 3)).await;
    let before = execution(store, id).await.rev;
    assert_eq!(cancel(store, id, 5).await, Cancelled::Now);
    assert_cancelled(store, id, 3, 5).await;
    assert_eq!(execution(store, id).await.rev, before + 1);
    assert_eq!(audited(store).await, 2);
}

pub(super) async fn a_waiting_execution_is_cancelled_at_once(store: &dyn Store) {
    let claimed = claimed_job(store, 1).await;
    store.park(&here(), &claimed.lease, at(60), Reason::RetryScheduled).await.unwrap();
    assert_eq!(cancel(store, claimed.execution.id, 5).await, Cancelled::Now);
    assert_cancelled(store, claimed.execution.id, 1, 5).await;
}

pub(super) async fn a_running_execution_is_asked_to_cancel(store: &dyn Store) {
    let claimed = claimed_job(store, 1).await;
    let id = claimed.execution.id;
    assert_eq!(cancel(store, id, 5).await, Cancelled::Requested);
    let now = execution(store, id).await;
    assert_eq!((now.status, now.cancel_requested_at), (ExecutionStatus::Running, Some(at(5))));
    assert_eq!(now.rev, claimed.execution.rev + 1);
    let counts = Counts { total: 1, cancelled: 1, ..Counts::default() };
    let finish = finish(ExecutionStatus::Cancelled, counts, 6);
    store.end_steps(&here(), &claimed.lease, &[], &[], Some(&finish)).await.unwrap();
    assert_eq!(cancel(store, id, 7).await, Cancelled::AlreadyEnded(ExecutionStatus::Cancelled));
}

pub(super) async fn asking_to_cancel_twice_is_the_same_as_once(store: &dyn Store) {
    let claimed = claimed_job(store, 1).await;
    let id = claimed.execution.id;
    assert_eq!(cancel(store, id, 5).await, Cancelled::Requested);
    let (first, entries) = (execution(store, id).await, audited(store).await);
    assert_eq!(cancel(store, id, 9).await, Cancelled::Requested);
    assert_eq!(execution(store, id).await, first);
    assert_eq!(audited(store).await, entries);
}

pub(super) async fn an_ended_execution_is_not_cancelled(store: &dyn Store) {
    let id = ended(store, &job("ping", 1), ExecutionStatus::Succeeded, 1).await;
    let (before, entries) = (execution(store, id).await, audited(store).await);
    assert_eq!(cancel(store, id, 5).await, Cancelled::AlreadyEnded(ExecutionStatus::Succeeded));
    assert_eq!(execution(store, id).await, before);
    assert_eq!(audited(store).await, entries);
}

pub(super) async fn an_unknown_execution_is_not_cancelled(store: &dyn Store) {
    let cancelled = store.cancel(&here(), ExecutionId::new(), at(5), &audit("execution.cancel")).await;
    assert!(matches!(cancelled, Err(StoreError::NotFound { .. })), "{cancelled:?}");
    assert_eq!(audited(store).await, 0);
}

pub(super) async fn a_step_in_flight_keeps_a_queued_execution_from_ending(store: &dyn Store) {
    let claimed = claimed_job(store, 2).await;
    let id = claimed.execution.id;
    store.start_steps(&here(), &claimed.lease, &[start(&claimed.steps[0], 1)]).await.unwrap();
    store.retire(&here(), claimed.lease.worker).await.unwrap();
    store.reap(&here(), 3, at(10)).await.unwrap();
    assert_eq!(execution(store, id).await.status, ExecutionStatus::Queued);
    // Its processes may live: a worker must look after them first.
    assert_eq!(cancel(store, id, 5).await, Cancelled::Requested);
    assert_eq!(execution(store, id).await.status, ExecutionStatus::Queued);
    let next = worker(store).await;
    let taken_up = claim_one(store, next, 5).await;
    assert_eq!(taken_up.execution.cancel_requested_at, Some(at(5)));
    assert_eq!(taken_up.steps[0].status, StepStatus::Running);
}

pub(super) async fn a_cancelled_execution_is_not_claimed(store: &dyn Store) {
    let id = submit(store, &job("ping", 1)).await;
    cancel(store, id, 0).await;
    let worker = worker(store).await;
    assert!(store.claim(&here(), worker, 10, at(100)).await.unwrap().is_empty());
    assert_eq!(store.next_wake(&here(), worker).await.unwrap(), None);
}
