//! Promises about leases and fencing.

use super::make::{
    at, audit, claim_one, claimed_job, drive, end, execution, finish, here, job, next_attempt, note, stale, start,
    steps, submit, worker,
};
use crate::execution::{Claimed, Counts, ExecutionStatus, Lease, Reason, Renewal, StepStatus};
use crate::store::{Store, StoreError};

async fn renew(store: &dyn Store, lease: Lease) -> Renewal {
    let renewals = store.renew(&here(), lease.worker, &[lease]).await.unwrap().named;
    assert_eq!(renewals.len(), 1);
    renewals[0]
}

pub(super) async fn a_held_lease_is_renewed(store: &dyn Store) {
    for _ in 0..3 {
        submit(store, &job("ping", 1)).await;
    }
    let worker = worker(store).await;
    let claimed = store.claim(&here(), worker, 10, at(1)).await.unwrap();
    let mut leases: Vec<Lease> = claimed.iter().map(|claimed| claimed.lease).collect();
    assert_eq!(store.renew(&here(), worker, &leases).await.unwrap().named, [Renewal::Held; 3]);
    drive(store, &claimed[0], ExecutionStatus::Succeeded, 2).await;
    leases.rotate_left(1);
    assert_eq!(
        store.renew(&here(), worker, &leases).await.unwrap().named,
        [Renewal::Held, Renewal::Held, Renewal::Lost]
    );
    assert!(store.renew(&here(), worker, &[]).await.unwrap().named.is_empty());
}

pub(super) async fn a_lease_that_is_not_named_is_told(store: &dyn Store) {
    for _ in 0..3 {
        submit(store, &job("ping", 1)).await;
    }
    let (worker, other) = (worker(store).await, worker(store).await);
    let claimed = store.claim(&here(), worker, 2, at(1)).await.unwrap();
    claim_one(store, other, 1).await;
    let [named, unnamed] = [claimed[0].lease, claimed[1].lease];
    assert_eq!(store.renew(&here(), worker, &[named]).await.unwrap().others, [unnamed]);
    assert!(store.renew(&here(), worker, &[named, unnamed]).await.unwrap().others.is_empty());
    // A lease of an earlier claim does not stand for this one.
    assert_eq!(store.renew(&here(), worker, &[named, stale(unnamed)]).await.unwrap().others, [unnamed]);
    store.hand_back(&here(), &unnamed, at(2)).await.unwrap();
    assert!(store.renew(&here(), worker, &[named]).await.unwrap().others.is_empty());
}

pub(super) async fn a_request_to_cancel_reaches_the_worker(store: &dyn Store) {
    let claimed = claimed_job(store, 1).await;
    store.cancel(&here(), claimed.execution.id, at(2), &audit("execution.cancel")).await.unwrap();
    assert_eq!(renew(store, claimed.lease).await, Renewal::CancelRequested);
    assert_eq!(renew(store, claimed.lease).await, Renewal::CancelRequested);
}

pub(super) async fn a_lease_of_an_earlier_claim_is_lost(store: &dyn Store) {
    let first = claimed_job(store, 1).await;
    store.hand_back(&here(), &first.lease, at(2)).await.unwrap();
    assert_eq!(renew(store, first.lease).await, Renewal::Lost);
    let second = claim_one(store, first.lease.worker, 2).await;
    assert_eq!(renew(store, first.lease).await, Renewal::Lost);
    assert_eq!(renew(store, second.lease).await, Renewal::Held);
    store.hand_back(&here(), &second.lease, at(3)).await.unwrap();
    let other = worker(store).await;
    claim_one(store, other, 3).await;
    assert_eq!(renew(store, second.lease).await, Renewal::Lost);
}

pub(super) async fn a_lease_ends_with_its_execution(store: &dyn Store) {
    let claimed = claimed_job(store, 1).await;
    drive(store, &claimed, ExecutionStatus::Succeeded, 2).await;
    assert_eq!(renew(store, claimed.lease).await, Renewal::Lost);
    assert_eq!(execution(store, claimed.execution.id).await.worker, None);
}

/// Tries every method of the journal under a lease that does not hold.
async fn assert_fenced(store: &dyn Store, lease: &Lease, claimed: &Claimed) {
    let before = (execution(store, lease.execution).await, steps(store, lease.execution).await);
    let step = &claimed.steps[0];
    let counts = Counts { total: 1, failed: 1, ..Counts::default() };
    let (starts, ends) = ([start(step, 50)], [end(step, StepStatus::Failed, 50)]);
    let (next, finish) = (next_attempt(step, 99), finish(ExecutionStatus::Failed, counts, 50));
    let scope = here();
    let writes = [
        ("start_steps", store.start_steps(&scope, lease, &starts).await),
        ("start_steps of nothing", store.start_steps(&scope, lease, &[]).await),
        ("note_steps", store.note_steps(&scope, lease, &[note(step, Some("its place"))]).await),
        ("end_steps", store.end_steps(&scope, lease, &ends, &[], None).await.map(drop)),
        ("end_steps with a next attempt", store.end_steps(&scope, lease, &ends, &[next], None).await.map(drop)),
        ("end_steps with an end", store.end_steps(&scope, lease, &ends, &[], Some(&finish)).await.map(drop)),
        ("park", store.park(&scope, lease, at(90), Reason::RetryScheduled).await),
        ("hand_back", store.hand_back(&scope, lease, at(50)).await),
    ];
    for (method, written) in writes {
        assert!(matches!(written, Err(StoreError::LeaseLost)), "{method}: {written:?}");
    }
    assert_eq!((execution(store, lease.execution).await, steps(store, lease.execution).await), before);
}

pub(super) async fn a_stale_lease_writes_nothing_by_any_method(store: &dyn Store) {
    let first = claimed_job(store, 1).await;
    store.start_steps(&here(), &first.lease, &[start(&first.steps[0], 1)]).await.unwrap();
    assert_fenced(store, &stale(first.lease), &first).await;
    let stranger = Lease { worker: worker(store).await, ..first.lease };
    assert_fenced(store, &stranger, &first).await;
    store.retire(&here(), first.lease.worker).await.unwrap();
    store.reap(&here(), 3, at(2)).await.unwrap();
    assert_fenced(store, &first.lease, &first).await;
    let second = claim_one(store, stranger.worker, 2).await;
    assert_fenced(store, &first.lease, &first).await;
    store.start_steps(&here(), &second.lease, &[]).await.unwrap();
}

pub(super) async fn an_ended_execution_takes_no_more_writes(store: &dyn Store) {
    let claimed = claimed_job(store, 1).await;
    drive(store, &claimed, ExecutionStatus::Succeeded, 2).await;
    assert_fenced(store, &claimed.lease, &claimed).await;
}

pub(super) async fn the_same_end_may_be_written_twice(store: &dyn Store) {
    let claimed = claimed_job(store, 1).await;
    let step = &claimed.steps[0];
    store.start_steps(&here(), &claimed.lease, &[start(step, 1)]).await.unwrap();
    let ends = [end(step, StepStatus::Succeeded, 2)];
    let finish = finish(ExecutionStatus::Succeeded, Counts { total: 1, succeeded: 1, ..Counts::default() }, 2);
    let write = || async { store.end_steps(&here(), &claimed.lease, &ends, &[], Some(&finish)).await };
    write().await.unwrap();
    let first = execution(store, claimed.execution.id).await;
    write().await.unwrap();
    assert_eq!(execution(store, claimed.execution.id).await, first);
}
