//! Promises about handing executions out.

use std::collections::BTreeSet;

use futures::future::join_all;

use super::make::{
    at, claim_one, claimed_at_once, elsewhere, execution, here, job, start, steps, submit, worker, worker_named,
};
use crate::execution::{ExecutionStatus, Reason, Renewal, Submission, WorkerRegistration};
use crate::id::{ExecutionId, WorkerId};
use crate::store::Store;

fn homed(home: WorkerId) -> Submission {
    let mut submission = job("ping", 1);
    submission.execution.home = Some(home);
    submission
}

async fn claim(store: &dyn Store, worker: WorkerId) -> BTreeSet<ExecutionId> {
    let claimed = store.claim(&here(), worker, 10, at(1)).await.unwrap();
    claimed.iter().map(|claimed| claimed.execution.id).collect()
}

pub(super) async fn due_executions_are_claimed_oldest_wake_first(store: &dyn Store) {
    let mut expected = Vec::new();
    for seconds in [3, 1, 2, 1] {
        let mut submission = job("ping", 2);
        submission.execution.wake_at = at(seconds);
        expected.push((seconds, submit(store, &submission).await));
    }
    expected.sort_unstable();
    let worker = worker(store).await;
    let claimed = store.claim(&here(), worker, 10, at(3)).await.unwrap();
    let order: Vec<ExecutionId> = claimed.iter().map(|claimed| claimed.execution.id).collect();
    assert_eq!(order, expected.iter().map(|(_, id)| *id).collect::<Vec<_>>());
    for claimed in claimed {
        assert_eq!(claimed.execution, execution(store, claimed.execution.id).await);
        assert_eq!(claimed.steps, steps(store, claimed.execution.id).await);
    }
}

pub(super) async fn an_execution_is_not_claimed_before_its_wake(store: &dyn Store) {
    let mut submission = job("ping", 1);
    submission.execution.wake_at = at(60);
    submit(store, &submission).await;
    let worker = worker(store).await;
    assert!(store.claim(&here(), worker, 10, at(59)).await.unwrap().is_empty());
    assert_eq!(store.claim(&here(), worker, 10, at(60)).await.unwrap().len(), 1);
}

pub(super) async fn no_more_executions_are_claimed_than_asked_for(store: &dyn Store) {
    for _ in 0..5 {
        submit(store, &job("ping", 1)).await;
    }
    let worker = worker(store).await;
    let mut sizes = Vec::new();
    for limit in [2, 2, 2, 2] {
        sizes.push(store.claim(&here(), worker, limit, at(1)).await.unwrap().len());
    }
    assert_eq!(sizes, [2, 2, 1, 0]);
}

pub(super) async fn a_claim_takes_no_more_steps_than_it_can_carry(store: &dyn Store) {
    let wide = submit(store, &job("ping", 10_000)).await;
    let small = submit(store, &job("ping", 1)).await;
    let worker = worker(store).await;
    for expected in [wide, small] {
        assert_eq!(claim(store, worker).await, BTreeSet::from([expected]));
    }
}

pub(super) async fn a_claim_raises_epoch_and_rev_and_keeps_the_first_start(store: &dyn Store) {
    let id = submit(store, &job("ping", 1)).await;
    let before = execution(store, id).await;
    let worker = worker(store).await;
    let first = claim_one(store, worker, 1).await;
    assert_eq!((first.lease.execution, first.lease.worker, first.lease.epoch), (id, worker, before.epoch + 1));
    assert_eq!((first.execution.status, first.execution.worker), (ExecutionStatus::Running, Some(worker)));
    assert_eq!((first.execution.epoch, first.execution.rev), (before.epoch + 1, before.rev + 1));
    assert_eq!(first.execution.started_at, Some(at(1)));
    store.park(&here(), &first.lease, at(2), Reason::RetryScheduled).await.unwrap();
    let second = claim_one(store, worker, 2).await;
    assert_eq!((second.lease.epoch, second.execution.started_at), (before.epoch + 2, Some(at(1))));
    assert_eq!(second.execution.reason, None);
}

pub(super) async fn what_is_submitted_as_claimed_is_in_its_workers_hands(store: &dyn Store) {
    let (mine, other) = (worker(store).await, worker(store).await);
    let (lease, submission) = claimed_at_once(job("ping", 2), mine);
    submit(store, &submission).await;
    assert_eq!(execution(store, lease.execution).await, submission.execution);
    assert!(claim(store, other).await.is_empty());
    assert!(claim(store, mine).await.is_empty());
    assert_eq!(store.renew(&here(), mine, &[lease]).await.unwrap().named, [Renewal::Held]);
    store.start_steps(&here(), &lease, &[start(&submission.steps[0], 1)]).await.unwrap();
    store.hand_back(&here(), &lease, at(1)).await.unwrap();
    assert_eq!(claim_one(store, other, 1).await.lease.epoch, lease.epoch + 1);
}

pub(super) async fn no_two_claimers_receive_the_same_execution(store: &dyn Store) {
    const EXECUTIONS: usize = 120;
    for _ in 0..EXECUTIONS {
        submit(store, &job("ping", 1)).await;
    }
    let mut workers = Vec::new();
    for _ in 0..4 {
        workers.push(worker(store).await);
    }
    let claims = join_all(workers.iter().map(|worker| async move {
        let mut mine = Vec::new();
        loop {
            let claimed = store.claim(&here(), *worker, 7, at(1)).await.unwrap();
            if claimed.is_empty() {
                return mine;
            }
            mine.extend(claimed.into_iter().map(|claimed| claimed.execution.id));
        }
    }));
    let all = claims.await.concat();
    assert_eq!(all.len(), EXECUTIONS);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), EXECUTIONS);
}

pub(super) async fn an_execution_goes_to_its_home_only(store: &dyn Store) {
    let (home, other) = (worker(store).await, worker(store).await);
    let id = submit(store, &homed(home)).await;
    assert!(claim(store, other).await.is_empty());
    assert_eq!(claim(store, home).await, [id].into());
}

pub(super) async fn an_execution_whose_home_died_goes_to_anyone(store: &dyn Store) {
    let (home, other) = (worker(store).await, worker(store).await);
    let id = submit(store, &homed(home)).await;
    store.retire(&here(), home).await.unwrap();
    assert_eq!(claim(store, other).await, [id].into());
}

pub(super) async fn a_worker_that_takes_its_own_leaves_orphans_to_others(store: &dyn Store) {
    let own = WorkerRegistration { home_only: true, ..worker_named("cli") };
    store.register(&here(), &own).await.unwrap();
    let (other, gone) = (worker(store).await, worker(store).await);
    let anyones = submit(store, &job("anyone", 1)).await;
    let others = submit(store, &homed(other)).await;
    let (owns, orphan) = (submit(store, &homed(own.id)).await, submit(store, &homed(gone)).await);
    store.retire(&here(), gone).await.unwrap();
    assert_eq!(claim(store, own.id).await, [owns].into());
    assert_eq!(store.next_wake(&here(), own.id).await.unwrap(), None);
    assert_eq!(claim(store, other).await, [anyones, others, orphan].into());
}

pub(super) async fn what_was_kept_for_a_worker_that_is_gone_is_seen_to_wait(store: &dyn Store) {
    let (home, other) = (worker(store).await, worker(store).await);
    submit(store, &job("anyone", 1)).await;
    submit(store, &homed(home)).await;
    assert!(!store.orphans_wait(&here()).await.unwrap(), "its worker lives");
    store.retire(&here(), home).await.unwrap();
    assert!(store.orphans_wait(&here()).await.unwrap());
    assert!(!store.orphans_wait(&elsewhere()).await.unwrap());
    claim(store, other).await;
    assert!(!store.orphans_wait(&here()).await.unwrap(), "it has been taken over");
}

pub(super) async fn a_worker_that_is_not_registered_receives_nothing(store: &dyn Store) {
    submit(store, &job("ping", 1)).await;
    assert!(claim(store, WorkerId::new()).await.is_empty());
    let left = worker(store).await;
    store.retire(&here(), left).await.unwrap();
    assert!(claim(store, left).await.is_empty());
}

pub(super) async fn the_next_wake_is_of_what_the_worker_may_take(store: &dyn Store) {
    let (one, other) = (worker(store).await, worker(store).await);
    assert_eq!(store.next_wake(&here(), one).await.unwrap(), None);
    for (seconds, home) in [(50, None), (10, Some(other)), (90, Some(one))] {
        let mut submission = job("ping", 1);
        submission.execution.wake_at = at(seconds);
        submission.execution.home = home;
        submit(store, &submission).await;
    }
    assert_eq!(store.next_wake(&here(), one).await.unwrap(), Some(at(50)));
    assert_eq!(store.next_wake(&here(), other).await.unwrap(), Some(at(10)));
    store.retire(&here(), other).await.unwrap();
    assert_eq!(store.next_wake(&here(), one).await.unwrap(), Some(at(10)));
}

pub(super) async fn executions_of_another_project_are_not_claimed(store: &dyn Store) {
    let scope = elsewhere();
    store.submit(&scope, job("ping", 1)).await.unwrap();
    let worker = worker(store).await;
    assert!(claim(store, worker).await.is_empty());
    assert_eq!(store.next_wake(&here(), worker).await.unwrap(), None);
    assert!(store.claim(&scope, worker, 10, at(1)).await.unwrap().is_empty());
}

pub(super) async fn registered_workers_are_alive_until_they_leave(store: &dyn Store) {
    let one = WorkerRegistration { home_only: true, slots: 64, started_at: at(7), ..worker_named("host-1:42") };
    let two = worker_named("host-2:43");
    for worker in [&one, &two] {
        store.register(&here(), worker).await.unwrap();
    }
    let workers = store.workers(&here()).await.unwrap();
    assert_eq!(workers.len(), 2);
    assert!(workers.iter().all(|worker| worker.alive));
    assert!(workers.iter().any(|worker| worker.registration == one));
    store.retire(&here(), one.id).await.unwrap();
    let left = store.workers(&here()).await.unwrap();
    assert_eq!(left.iter().map(|worker| worker.registration.id).collect::<Vec<_>>(), [two.id]);
    assert!(store.workers(&elsewhere()).await.unwrap().is_empty());
    // Leaving twice does no harm.
    store.retire(&here(), one.id).await.unwrap();
}
