//! Promises about what dead workers leave behind. A worker that took its leave is as good as dead.

use super::make::{
    at, claim_one, claimed_at_once, claimed_job, end, execution, here, job, start, steps, submit, worker,
};
use crate::execution::{Counts, ExecutionStatus, Kill, Reaped, Reason, Renewal, StepStatus};
use crate::id::{ExecutionId, WorkerId};
use crate::store::Store;

pub(super) async fn nothing_is_taken_from_living_workers(store: &dyn Store) {
    let claimed = claimed_job(store, 1).await;
    assert_eq!(store.reap(&here(), 3, at(1_000_000)).await.unwrap().executions(), 0);
    let now = execution(store, claimed.execution.id).await;
    assert_eq!((now.status, now.worker), (ExecutionStatus::Running, Some(claimed.lease.worker)));
}

pub(super) async fn what_a_dead_worker_holds_is_queued_again(store: &dyn Store) {
    for _ in 0..3 {
        submit(store, &job("ping", 1)).await;
    }
    let (dead, alive) = (worker(store).await, worker(store).await);
    let taken = store.claim(&here(), dead, 2, at(1)).await.unwrap();
    let kept = claim_one(store, alive, 1).await;
    store.retire(&here(), dead).await.unwrap();
    assert_eq!(store.reap(&here(), 3, at(10)).await.unwrap().executions(), 2);
    for claimed in &taken {
        let now = execution(store, claimed.execution.id).await;
        assert_eq!((now.status, now.reason), (ExecutionStatus::Queued, Some(Reason::WorkerDied)));
        assert_eq!((now.wake_at, now.worker), (at(10), None));
        assert_eq!((now.epoch, now.rev), (claimed.lease.epoch, claimed.execution.rev + 1));
    }
    assert_eq!(execution(store, kept.execution.id).await.worker, Some(alive));
    assert_eq!(store.reap(&here(), 3, at(11)).await.unwrap().executions(), 0);
    assert_eq!(store.claim(&here(), alive, 10, at(10)).await.unwrap().len(), 2);
}

pub(super) async fn what_a_worker_that_is_not_registered_submits_as_claimed_is_taken_back(store: &dyn Store) {
    let (lease, submission) = claimed_at_once(job("ping", 1), WorkerId::new());
    submit(store, &submission).await;
    assert_eq!(store.reap(&here(), 3, at(10)).await.unwrap().executions(), 1);
    let now = execution(store, lease.execution).await;
    assert_eq!((now.status, now.worker, now.wake_at), (ExecutionStatus::Queued, None, at(10)));
}

pub(super) async fn a_step_in_flight_stays_in_flight_when_its_worker_dies(store: &dyn Store) {
    let claimed = claimed_job(store, 3).await;
    let [done, flying, pending] = [0, 1, 2].map(|index| &claimed.steps[index]);
    store.start_steps(&here(), &claimed.lease, &[start(done, 1), start(flying, 1)]).await.unwrap();
    store.end_steps(&here(), &claimed.lease, &[end(done, StepStatus::Succeeded, 2)], &[], None).await.unwrap();
    store.retire(&here(), claimed.lease.worker).await.unwrap();
    store.reap(&here(), 3, at(10)).await.unwrap();
    let next = worker(store).await;
    let taken_up = claim_one(store, next, 10).await;
    let standing: Vec<StepStatus> = taken_up.steps.iter().map(|step| step.status).collect();
    assert_eq!(standing, [StepStatus::Succeeded, StepStatus::Running, StepStatus::Pending]);
    // What its processes are found by is there.
    assert_eq!(taken_up.steps[1].handle, start(flying, 1).handle);
    assert_eq!(taken_up.steps[1].epoch, claimed.lease.epoch);
    assert_eq!(taken_up.steps[2].id, pending.id);
}

pub(super) async fn an_execution_that_kills_its_workers_ends_lost(store: &dyn Store) {
    let id = submit(store, &job("poison", 3)).await;
    for round in 1..=3 {
        let worker = worker(store).await;
        let claimed = claim_one(store, worker, round).await;
        if round == 1 {
            store.start_steps(&here(), &claimed.lease, &[start(&claimed.steps[0], round)]).await.unwrap();
            let ends = [end(&claimed.steps[0], StepStatus::Succeeded, round)];
            store.end_steps(&here(), &claimed.lease, &ends, &[], None).await.unwrap();
        }
        store.retire(&here(), worker).await.unwrap();
        let reaped = store.reap(&here(), 3, at(round)).await.unwrap();
        let expected = if round < 3 {
            Reaped { requeued: 1, ..Reaped::default() }
        } else {
            Reaped { requeued: 0, lost: 1, lost_steps: 2 }
        };
        assert_eq!(reaped, expected);
    }
    buried(store, id, 3).await;
    for step in &steps(store, id).await[1..] {
        assert_eq!(step.kill, None, "it was never started");
    }
}

/// Its processes may live: somebody has to look after them before it ends.
pub(super) async fn a_step_in_flight_is_looked_after_before_its_execution_is_given_up(store: &dyn Store) {
    let id = submit(store, &job("poison", 3)).await;
    for round in 1..=60 {
        let worker = worker(store).await;
        let claimed = claim_one(store, worker, round).await;
        let expected = (round > 3).then_some(Reason::AttemptsExhausted);
        assert_eq!(claimed.execution.reason, expected, "round {round}");
        if round == 3 {
            store.start_steps(&here(), &claimed.lease, &[start(&claimed.steps[0], round)]).await.unwrap();
            let ends = [end(&claimed.steps[0], StepStatus::Succeeded, round)];
            store.end_steps(&here(), &claimed.lease, &ends, &[], None).await.unwrap();
            store.start_steps(&here(), &claimed.lease, &[start(&claimed.steps[1], round)]).await.unwrap();
        }
        store.retire(&here(), worker).await.unwrap();
        assert_eq!(store.reap(&here(), 3, at(round)).await.unwrap().executions(), 1);
    }
    buried(store, id, 60).await;
    let kills: Vec<_> = steps(store, id).await.into_iter().map(|step| step.kill).collect();
    assert!(matches!(kills.as_slice(), [None, Some(Kill::Unconfirmed { .. }), None]), "{kills:?}");
}

/// Its first step has succeeded, and nothing more will come of it.
async fn buried(store: &dyn Store, id: ExecutionId, round: i64) {
    let now = execution(store, id).await;
    assert_eq!((now.status, now.reason), (ExecutionStatus::Lost, Some(Reason::AttemptsExhausted)));
    assert_eq!((now.finished_at, now.worker), (Some(at(round)), None));
    assert_eq!(now.counts, Counts { total: 3, succeeded: 1, lost: 2, ..Counts::default() });
    let steps = steps(store, id).await;
    assert_eq!(steps[0].status, StepStatus::Succeeded);
    for step in &steps[1..] {
        assert_eq!((step.status, step.reason), (StepStatus::Lost, Some(Reason::AttemptsExhausted)));
        assert_eq!((step.finished_at, step.rev), (Some(at(round)), now.rev));
    }
    let worker = worker(store).await;
    assert!(store.claim(&here(), worker, 10, at(100)).await.unwrap().is_empty());
}

pub(super) async fn waiting_for_a_retry_does_not_use_up_claims(store: &dyn Store) {
    let id = submit(store, &job("patient", 1)).await;
    let first = worker(store).await;
    for round in 1..=5 {
        let claimed = claim_one(store, first, round).await;
        store.park(&here(), &claimed.lease, at(round + 1), Reason::RetryScheduled).await.unwrap();
    }
    claim_one(store, first, 6).await;
    store.retire(&here(), first).await.unwrap();
    store.reap(&here(), 3, at(7)).await.unwrap();
    assert_eq!(execution(store, id).await.status, ExecutionStatus::Queued);
}

pub(super) async fn a_reaped_worker_holds_no_lease(store: &dyn Store) {
    let claimed = claimed_job(store, 1).await;
    store.retire(&here(), claimed.lease.worker).await.unwrap();
    store.reap(&here(), 3, at(10)).await.unwrap();
    let renewals = store.renew(&here(), claimed.lease.worker, &[claimed.lease]).await.unwrap().named;
    assert_eq!(renewals, [Renewal::Lost]);
}
