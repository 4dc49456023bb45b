//! Promises about the journal.

use super::make::{
    at, audit, claim_one, claimed_job, drive, end, execution, finish, here, next_attempt, note, start, steps, worker,
};
use crate::error::ErrorCode;
use crate::execution::{Counts, Ended, Execution, ExecutionStatus, Kill, Reason, Step, StepEnd, StepStart, StepStatus};
use crate::store::Store;

pub(super) async fn a_started_step_is_running_under_the_claim(store: &dyn Store) {
    let claimed = claimed_job(store, 2).await;
    let step = &claimed.steps[0];
    store.start_steps(&here(), &claimed.lease, &[start(step, 3)]).await.unwrap();
    let expected = Step {
        status: StepStatus::Running,
        handle: start(step, 3).handle,
        started_at: Some(at(3)),
        epoch: claimed.lease.epoch,
        rev: claimed.execution.rev + 1,
        ..step.clone()
    };
    assert_eq!(steps(store, claimed.execution.id).await, [expected, claimed.steps[1].clone()]);
    let counts = Counts { total: 2, pending: 1, running: 1, ..Counts::default() };
    assert_eq!(execution(store, claimed.execution.id).await.counts, counts);
    // Jobs have no handle; starting again changes nothing.
    let bare = StepStart { handle: None, ..start(&claimed.steps[1], 4) };
    store.start_steps(&here(), &claimed.lease, &[bare, start(step, 9)]).await.unwrap();
    let now = steps(store, claimed.execution.id).await;
    assert_eq!((now[0].started_at, now[1].started_at), (Some(at(3)), Some(at(4))));
    assert_eq!(now[1].handle, None);
}

pub(super) async fn a_note_tells_what_a_running_step_waits_for(store: &dyn Store) {
    let claimed = claimed_job(store, 3).await;
    let (id, lease) = (claimed.execution.id, &claimed.lease);
    let [one, two, pending] = [0, 1, 2].map(|index| &claimed.steps[index]);
    store.start_steps(&here(), lease, &[start(one, 1), start(two, 1)]).await.unwrap();
    store.end_steps(&here(), lease, &[end(two, StepStatus::Failed, 2)], &[], None).await.unwrap();
    let before = steps(store, id).await;
    let rev = execution(store, id).await.rev + 1;
    let notes = [one, two, pending].map(|step| note(step, Some("its place")));
    store.note_steps(&here(), lease, &notes).await.unwrap();
    let noted = Step { detail: Some("its place".to_owned()), rev, ..before[0].clone() };
    assert_eq!(steps(store, id).await, [noted, before[1].clone(), before[2].clone()]);
    let change = store.changes(&here(), id, rev - 1).await.unwrap().unwrap();
    assert_eq!((change.execution.rev, change.steps.len()), (rev, 1));
    store.note_steps(&here(), lease, &[note(one, None)]).await.unwrap();
    assert_eq!(steps(store, id).await[0], Step { rev: rev + 1, ..before[0].clone() });
    assert_eq!(
        execution(store, id).await.counts,
        Counts { total: 3, pending: 1, running: 1, failed: 1, ..Counts::default() }
    );
}

pub(super) async fn an_ended_step_keeps_how_it_ended(store: &dyn Store) {
    let claimed = claimed_job(store, 4).await;
    let starts: Vec<StepStart> = claimed.steps.iter().take(3).map(|step| start(step, 1)).collect();
    store.start_steps(&here(), &claimed.lease, &starts).await.unwrap();
    let whole = StepEnd {
        reason: Some(Reason::LinkLost),
        detail: Some("the link broke\nin the exec phase".to_owned()),
        error: Some(ErrorCode::LinkLost),
        exit_code: None,
        signal: Some("SEGV".to_owned()),
        kill: Some(Kill::Unconfirmed { detail: "cut off".to_owned() }),
        ..end(&claimed.steps[0], StepStatus::Lost, 5)
    };
    let negative =
        StepEnd { exit_code: Some(-1), kill: Some(Kill::Gone), ..end(&claimed.steps[1], StepStatus::Failed, 5) };
    let plain = end(&claimed.steps[2], StepStatus::Succeeded, 6);
    let skipped = StepEnd { exit_code: None, ..end(&claimed.steps[3], StepStatus::Skipped, 6) };
    let ends = [whole, negative, plain, skipped];
    store.end_steps(&here(), &claimed.lease, &ends, &[], None).await.unwrap();
    for (step, end) in steps(store, claimed.execution.id).await.into_iter().zip(ends) {
        assert_eq!((step.id, step.status, step.reason), (end.step, end.status, end.reason));
        assert_eq!((step.detail, step.error, step.exit_code), (end.detail, end.error, end.exit_code));
        assert_eq!((step.signal, step.kill, step.finished_at), (end.signal, end.kill, Some(end.at)));
        assert_eq!((step.output_bytes, step.output_dropped), (10, 2));
    }
    let counts = Counts { total: 4, lost: 1, failed: 1, succeeded: 1, skipped: 1, ..Counts::default() };
    assert_eq!(execution(store, claimed.execution.id).await.counts, counts);
}

pub(super) async fn a_step_that_has_ended_keeps_its_first_end(store: &dyn Store) {
    let claimed = claimed_job(store, 2).await;
    let step = &claimed.steps[0];
    store.start_steps(&here(), &claimed.lease, &[start(step, 1)]).await.unwrap();
    for (status, seconds) in [(StepStatus::Failed, 2), (StepStatus::Succeeded, 3)] {
        store.end_steps(&here(), &claimed.lease, &[end(step, status, seconds)], &[], None).await.unwrap();
    }
    store.start_steps(&here(), &claimed.lease, &[start(step, 4)]).await.unwrap();
    let now = steps(store, claimed.execution.id).await;
    assert_eq!((now[0].status, now[0].finished_at), (StepStatus::Failed, Some(at(2))));
    let counts = Counts { total: 2, pending: 1, failed: 1, ..Counts::default() };
    assert_eq!(execution(store, claimed.execution.id).await.counts, counts);
}

pub(super) async fn the_next_attempt_counts_instead_of_the_one_before(store: &dyn Store) {
    let claimed = claimed_job(store, 2).await;
    let first = &claimed.steps[1];
    let second = next_attempt(first, 2);
    store.start_steps(&here(), &claimed.lease, &[start(first, 1)]).await.unwrap();
    let ends = [end(first, StepStatus::Failed, 2)];
    store.end_steps(&here(), &claimed.lease, &ends, std::slice::from_ref(&second), None).await.unwrap();
    let now = execution(store, claimed.execution.id).await;
    assert_eq!(now.counts, Counts { total: 2, pending: 2, ..Counts::default() });
    let third = next_attempt(&second, 3);
    store.start_steps(&here(), &claimed.lease, &[start(&second, 3)]).await.unwrap();
    // An end and the attempt that follows may come apart, and come twice.
    store.end_steps(&here(), &claimed.lease, &[end(&second, StepStatus::TimedOut, 4)], &[], None).await.unwrap();
    for _ in 0..2 {
        store.end_steps(&here(), &claimed.lease, &[], std::slice::from_ref(&third), None).await.unwrap();
    }
    let now = execution(store, claimed.execution.id).await;
    assert_eq!(now.counts, Counts { total: 2, pending: 2, ..Counts::default() });
    let added = steps(store, claimed.execution.id).await.remove(3);
    assert_eq!(Step { rev: third.rev, ..added }, third);
}

pub(super) async fn a_finish_ends_the_execution(store: &dyn Store) {
    let claimed = claimed_job(store, 2).await;
    let starts: Vec<StepStart> = claimed.steps.iter().map(|step| start(step, 1)).collect();
    store.start_steps(&here(), &claimed.lease, &starts).await.unwrap();
    let ends = [end(&claimed.steps[0], StepStatus::Succeeded, 2), end(&claimed.steps[1], StepStatus::Failed, 2)];
    let counts = Counts { total: 2, succeeded: 1, failed: 1, ..Counts::default() };
    let mut finish = finish(ExecutionStatus::Failed, counts, 3);
    finish.detail = Some("1 of 2 failed".to_owned());
    store.end_steps(&here(), &claimed.lease, &ends, &[], Some(&finish)).await.unwrap();
    let now = execution(store, claimed.execution.id).await;
    assert_eq!((now.status, now.reason), (ExecutionStatus::Failed, Some(Reason::StepsFailed)));
    assert_eq!((now.detail, now.finished_at), (finish.detail, Some(at(3))));
    assert_eq!((now.counts, now.worker, now.epoch), (counts, None, claimed.lease.epoch));
}

pub(super) async fn an_end_tells_what_the_row_says_then(store: &dyn Store) {
    let claimed = claimed_job(store, 2).await;
    let id = claimed.execution.id;
    store.start_steps(&here(), &claimed.lease, &[start(&claimed.steps[0], 1)]).await.unwrap();
    let ends = [end(&claimed.steps[0], StepStatus::Succeeded, 2)];
    assert_eq!(store.end_steps(&here(), &claimed.lease, &ends, &[], None).await.unwrap(), None);
    store.cancel(&here(), id, at(2), &audit("execution.cancel")).await.unwrap();
    let counts = Counts { total: 2, succeeded: 1, cancelled: 1, ..Counts::default() };
    let finish = finish(ExecutionStatus::Cancelled, counts, 3);
    let ends = [end(&claimed.steps[1], StepStatus::Cancelled, 3)];
    let told = store.end_steps(&here(), &claimed.lease, &ends, &[], Some(&finish)).await.unwrap();
    let row = execution(store, id).await;
    let Execution { rev, wake_at, cancel_requested_at, .. } = row;
    assert_eq!(told, Some(Ended { rev, wake_at, cancel_requested_at }));
    assert_eq!(cancel_requested_at, Some(at(2)));
    let again = store.end_steps(&here(), &claimed.lease, &ends, &[], Some(&finish)).await.unwrap();
    assert_eq!(again, told);
}

pub(super) async fn each_write_raises_rev_by_one_and_stamps_what_it_changed(store: &dyn Store) {
    let claimed = claimed_job(store, 3).await;
    let (id, mut rev) = (claimed.execution.id, claimed.execution.rev);
    let [one, two, three] = [0, 1, 2].map(|index| &claimed.steps[index]);
    store.start_steps(&here(), &claimed.lease, &[start(one, 1), start(two, 1)]).await.unwrap();
    rev += 1;
    let change = store.changes(&here(), id, rev - 1).await.unwrap().unwrap();
    assert_eq!(change.execution.rev, rev);
    assert_eq!(change.steps.iter().map(|step| (step.id, step.rev)).collect::<Vec<_>>(), [(one.id, rev), (two.id, rev)]);
    let next = next_attempt(one, 3);
    let ends = [end(one, StepStatus::Failed, 2)];
    store.end_steps(&here(), &claimed.lease, &ends, std::slice::from_ref(&next), None).await.unwrap();
    rev += 1;
    let change = store.changes(&here(), id, rev - 1).await.unwrap().unwrap();
    assert_eq!(change.execution.rev, rev);
    assert_eq!(
        change.steps.iter().map(|step| (step.id, step.rev)).collect::<Vec<_>>(),
        [(one.id, rev), (next.id, rev)]
    );
    store.park(&here(), &claimed.lease, at(9), Reason::RetryScheduled).await.unwrap();
    assert_eq!(execution(store, id).await.rev, rev + 1);
    let again = claim_one(store, claimed.lease.worker, 9).await;
    store.hand_back(&here(), &again.lease, at(9)).await.unwrap();
    let last = claim_one(store, claimed.lease.worker, 9).await;
    assert_eq!(last.execution.rev, rev + 4);
    let all = store.changes(&here(), id, 1).await.unwrap().unwrap();
    assert!(all.steps.iter().all(|step| step.id != three.id), "what did not change is not told");
}

pub(super) async fn a_follower_misses_nothing_and_hears_nothing_twice(store: &dyn Store) {
    let claimed = claimed_job(store, 40).await;
    let (id, lease) = (claimed.execution.id, claimed.lease);
    let driving = async {
        for step in &claimed.steps {
            store.start_steps(&here(), &lease, &[start(step, 1)]).await.unwrap();
            store.end_steps(&here(), &lease, &[end(step, StepStatus::Succeeded, 2)], &[], None).await.unwrap();
        }
        let finish = finish(ExecutionStatus::Succeeded, Counts { total: 40, succeeded: 40, ..Counts::default() }, 3);
        store.end_steps(&here(), &lease, &[], &[], Some(&finish)).await.unwrap();
    };
    let following = async {
        let mut known = claimed.steps.clone();
        let mut rev = claimed.execution.rev;
        loop {
            let Some(change) = store.changes(&here(), id, rev).await.unwrap() else {
                tokio::task::yield_now().await;
                continue;
            };
            assert!(change.execution.rev > rev);
            let mut before = rev;
            for step in change.steps {
                assert!(step.rev >= before && step.rev > rev && step.rev <= change.execution.rev, "in order, once");
                before = step.rev;
                let place = step.ordinal as usize;
                known[place] = step;
            }
            rev = change.execution.rev;
            if change.execution.status.is_terminal() {
                return known;
            }
        }
    };
    let ((), known) = futures::future::join(driving, following).await;
    assert_eq!(known, steps(store, id).await);
}

pub(super) async fn many_steps_are_journalled_at_once(store: &dyn Store) {
    let claimed = claimed_job(store, 700).await;
    drive(store, &claimed, ExecutionStatus::Succeeded, 5).await;
    let now = steps(store, claimed.execution.id).await;
    assert_eq!(now.len(), 700);
    for (step, before) in now.iter().zip(&claimed.steps) {
        assert_eq!((step.id, step.status), (before.id, StepStatus::Succeeded));
        assert_eq!((&step.handle, step.finished_at), (&start(before, 5).handle, Some(at(5))));
    }
    let counts = Counts { total: 700, succeeded: 700, ..Counts::default() };
    assert_eq!(execution(store, claimed.execution.id).await.counts, counts);
}

pub(super) async fn a_parked_execution_is_claimed_when_it_is_due(store: &dyn Store) {
    let claimed = claimed_job(store, 1).await;
    let worker = worker(store).await;
    store.park(&here(), &claimed.lease, at(60), Reason::RetryScheduled).await.unwrap();
    let now = execution(store, claimed.execution.id).await;
    assert_eq!((now.status, now.reason), (ExecutionStatus::Waiting, Some(Reason::RetryScheduled)));
    assert_eq!((now.wake_at, now.worker), (at(60), None));
    assert!(store.claim(&here(), worker, 10, at(59)).await.unwrap().is_empty());
    assert_eq!(store.next_wake(&here(), worker).await.unwrap(), Some(at(60)));
    assert_eq!(claim_one(store, worker, 60).await.execution.id, claimed.execution.id);
}

pub(super) async fn an_execution_to_be_cancelled_does_not_stay_parked(store: &dyn Store) {
    let claimed = claimed_job(store, 1).await;
    store.cancel(&here(), claimed.execution.id, at(2), &audit("execution.cancel")).await.unwrap();
    store.park(&here(), &claimed.lease, at(600), Reason::RetryScheduled).await.unwrap();
    let taken_up = claim_one(store, claimed.lease.worker, 3).await;
    assert_eq!(taken_up.execution.cancel_requested_at, Some(at(2)));
}

pub(super) async fn an_execution_that_is_handed_back_is_due_at_once(store: &dyn Store) {
    let claimed = claimed_job(store, 1).await;
    let worker = worker(store).await;
    store.hand_back(&here(), &claimed.lease, at(5)).await.unwrap();
    let now = execution(store, claimed.execution.id).await;
    assert_eq!((now.status, now.wake_at, now.worker), (ExecutionStatus::Queued, at(5), None));
    let again = claim_one(store, worker, 5).await;
    assert_eq!(again.lease.epoch, claimed.lease.epoch + 1);
}
