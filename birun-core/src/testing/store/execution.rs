//! Promises about accepting and showing executions.

use futures::future::join_all;
use serde_json::json;

use super::make::{
    at, audit, audited, claim_one, claimed_job, command, drive, elsewhere, end, ended, execution, here, job,
    next_attempt, script_run, start, steps, submit, worker,
};
use crate::audit::AuditFilter;
use crate::execution::{
    Execution, ExecutionFilter, ExecutionStatus, Reason, StepFilter, StepStatus, Submission, Submitted, Trigger,
};
use crate::id::{ExecutionId, ScriptId, Selector, WorkerId};
use crate::page::PageRequest;
use crate::store::{Store, StoreError};
use crate::vault::Sealed;

fn with_key(submission: Submission, key: &str, request: u8) -> Submission {
    Submission { idempotency: Some((key.to_owned(), [request; 32])), ..submission }
}

pub(super) async fn a_submitted_execution_reads_back_as_it_was(store: &dyn Store) {
    let whole = script_run(ScriptId::new(), "disk");
    let whole = Submission {
        execution: Execution {
            secrets: Some(Sealed::from_bytes(vec![0, 1, 2])),
            trigger: Trigger::Retry,
            retry_of: Some(ExecutionId::new()),
            home: Some(WorkerId::new()),
            detail: Some("queued behind another".to_owned()),
            wake_at: at(100),
            params: [("NAME".parse().unwrap(), json!("ü\n\"x\""))].into(),
            ..whole.execution
        },
        ..whole
    };
    for submission in [whole, job("ping", 3), command("uptime")] {
        let id = submit(store, &submission).await;
        assert_eq!(execution(store, id).await, submission.execution);
        assert_eq!(steps(store, id).await, submission.steps);
        let short: Selector = id.short().parse().unwrap();
        assert_eq!(store.execution(&here(), &short).await.unwrap().id, id);
    }
    let unknown = store.execution(&here(), &ExecutionId::new().into()).await;
    assert!(matches!(unknown, Err(StoreError::NotFound { .. })), "{unknown:?}");
}

pub(super) async fn a_submission_is_audited_in_the_same_transaction(store: &dyn Store) {
    let submission = job("ping", 1);
    submit(store, &submission).await;
    let page = store.audit_entries(&here(), &AuditFilter::default(), PageRequest::default()).await.unwrap();
    assert_eq!(page.items, [submission.audit]);
}

pub(super) async fn submitting_the_same_ids_again_is_accepted_once(store: &dyn Store) {
    let submission = with_key(job("ping", 2), "key", 1);
    let scope = here();
    let at_once = join_all((0..4).map(|_| store.submit(&scope, submission.clone()))).await;
    assert!(at_once.into_iter().all(|answer| answer.unwrap() == Submitted::Created));
    assert_eq!(submit(store, &submission).await, submission.execution.id);
    assert_eq!(steps(store, submission.execution.id).await.len(), 2);
    assert_eq!(audited(store).await, 1);
    let page = store.executions(&here(), &ExecutionFilter::default(), PageRequest::default()).await.unwrap();
    assert_eq!(page.items.len(), 1);
}

pub(super) async fn a_key_used_again_for_the_same_request_names_the_first_execution(store: &dyn Store) {
    let first = with_key(job("ping", 1), "key", 1);
    submit(store, &first).await;
    let second = with_key(job("ping", 1), "key", 1);
    let answer = store.submit(&here(), second.clone()).await.unwrap();
    assert_eq!(answer, Submitted::Existing(first.execution.id));
    assert_eq!(store.submitted(&here(), "key", &[1; 32]).await.unwrap(), Some(answer));
    assert_eq!(store.submitted(&here(), "free", &[1; 32]).await.unwrap(), None);
    assert_eq!(store.submitted(&elsewhere(), "key", &[1; 32]).await.unwrap(), None);
    assert!(store.execution(&here(), &second.execution.id.into()).await.is_err());
    assert_eq!(audited(store).await, 1);
    // Keys belong to their project.
    assert_eq!(store.submit(&elsewhere(), second).await.unwrap(), Submitted::Created);
}

pub(super) async fn a_key_used_again_for_another_request_is_refused(store: &dyn Store) {
    submit(store, &with_key(job("ping", 1), "key", 1)).await;
    let second = with_key(job("pong", 1), "key", 2);
    assert_eq!(store.submit(&here(), second.clone()).await.unwrap(), Submitted::KeyReused);
    assert_eq!(store.submitted(&here(), "key", &[2; 32]).await.unwrap(), Some(Submitted::KeyReused));
    assert!(store.execution(&here(), &second.execution.id.into()).await.is_err());
    submit(store, &with_key(job("pong", 1), "another", 2)).await;
}

pub(super) async fn a_key_that_many_use_at_once_starts_one_execution(store: &dyn Store) {
    let submissions: Vec<Submission> = (0..16).map(|_| with_key(job("ping", 1), "key", 1)).collect();
    let scope = here();
    let answers = join_all(submissions.iter().map(|submission| store.submit(&scope, submission.clone()))).await;
    let answers: Vec<Submitted> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers.iter().filter(|answer| **answer == Submitted::Created).count(), 1);
    let winner = answers.iter().position(|answer| *answer == Submitted::Created).unwrap();
    let existing = Submitted::Existing(submissions[winner].execution.id);
    assert_eq!(answers.iter().filter(|answer| **answer == existing).count(), 15);
}

pub(super) async fn a_submission_without_its_body_leaves_nothing_behind(store: &dyn Store) {
    let bodiless = Submission { content: None, ..with_key(command("uptime"), "key", 1) };
    let submitted = store.submit(&here(), bodiless.clone()).await;
    assert!(matches!(submitted, Err(StoreError::Conflict { .. })), "{submitted:?}");
    assert!(store.execution(&here(), &bodiless.execution.id.into()).await.is_err());
    assert!(steps(store, bodiless.execution.id).await.is_empty());
    assert_eq!(audited(store).await, 0);
    submit(store, &with_key(job("ping", 1), "key", 2)).await;
}

pub(super) async fn a_thousand_targets_are_submitted_at_once(store: &dyn Store) {
    let submission = job("ping", 1_000);
    let id = submit(store, &submission).await;
    assert_eq!(steps(store, id).await, submission.steps);
    assert_eq!(execution(store, id).await.counts.total, 1_000);
}

pub(super) async fn steps_are_read_by_ordinal_from_a_place(store: &dyn Store) {
    let id = submit(store, &job("ping", 7)).await;
    let filter = StepFilter::default();
    let ordinals = |from, limit| {
        let filter = &filter;
        async move {
            let steps = store.steps(&here(), id, filter, from, limit).await.unwrap();
            steps.iter().map(|step| step.ordinal).collect::<Vec<_>>()
        }
    };
    assert_eq!(ordinals(0, 3).await, [0, 1, 2]);
    assert_eq!(ordinals(3, 3).await, [3, 4, 5]);
    assert_eq!(ordinals(6, 3).await, [6]);
    assert!(ordinals(7, 3).await.is_empty());
}

pub(super) async fn steps_are_found_by_status_and_target(store: &dyn Store) {
    let claimed = claimed_job(store, 3).await;
    let id = claimed.execution.id;
    let starts = [start(&claimed.steps[0], 1), start(&claimed.steps[1], 1)];
    store.start_steps(&here(), &claimed.lease, &starts).await.unwrap();
    let ends = [end(&claimed.steps[1], StepStatus::Failed, 2)];
    store.end_steps(&here(), &claimed.lease, &ends, &[], None).await.unwrap();
    let found = |status: Vec<StepStatus>, target: Option<&str>| {
        let filter = StepFilter { status, target: target.map(str::to_owned), newest_attempt: false };
        async move {
            let steps = store.steps(&here(), id, &filter, 0, 10).await.unwrap();
            steps.iter().map(|step| step.ordinal).collect::<Vec<_>>()
        }
    };
    assert_eq!(found(vec![StepStatus::Running], None).await, [0]);
    assert_eq!(found(vec![StepStatus::Failed, StepStatus::Pending], None).await, [1, 2]);
    assert_eq!(found(vec![], Some("web-2")).await, [2]);
    assert_eq!(found(vec![], Some("local")).await, [0]);
    assert!(found(vec![StepStatus::Failed], Some("local")).await.is_empty());
}

pub(super) async fn only_the_newest_attempt_on_each_target_is_shown(store: &dyn Store) {
    let claimed = claimed_job(store, 3).await;
    let second = next_attempt(&claimed.steps[1], 3);
    let third = next_attempt(&second, 4);
    for (failed, next) in [(&claimed.steps[1], &second), (&second, &third)] {
        store.start_steps(&here(), &claimed.lease, &[start(failed, 1)]).await.unwrap();
        let ends = [end(failed, StepStatus::Failed, 2)];
        store.end_steps(&here(), &claimed.lease, &ends, std::slice::from_ref(next), None).await.unwrap();
    }
    let filter = StepFilter { newest_attempt: true, ..StepFilter::default() };
    let newest = store.steps(&here(), claimed.execution.id, &filter, 0, 10).await.unwrap();
    assert_eq!(newest.iter().map(|step| (step.ordinal, step.attempt)).collect::<Vec<_>>(), [(0, 1), (2, 1), (4, 3)]);
}

pub(super) async fn nothing_is_told_when_nothing_changed(store: &dyn Store) {
    let id = submit(store, &job("ping", 1)).await;
    let rev = execution(store, id).await.rev;
    assert!(store.changes(&here(), id, rev).await.unwrap().is_none());
    assert!(store.changes(&here(), id, rev + 10).await.unwrap().is_none());
    let change = store.changes(&here(), id, 0).await.unwrap().unwrap();
    assert_eq!((change.execution.rev, change.steps.len()), (rev, 1));
}

pub(super) async fn changes_of_an_unknown_execution_are_not_found(store: &dyn Store) {
    let changes = store.changes(&here(), ExecutionId::new(), 0).await;
    assert!(matches!(changes, Err(StoreError::NotFound { .. })), "{changes:?}");
}

pub(super) async fn an_ended_execution_is_deleted_with_its_steps(store: &dyn Store) {
    let submission = with_key(command("uptime"), "key", 1);
    let id = ended(store, &submission, ExecutionStatus::Failed, 1).await;
    store.delete_execution(&here(), id, &audit("execution.delete")).await.unwrap();
    assert!(matches!(store.execution(&here(), &id.into()).await, Err(StoreError::NotFound { .. })));
    assert!(steps(store, id).await.is_empty());
    assert_eq!(audited(store).await, 2);
    let again = store.delete_execution(&here(), id, &audit("execution.delete")).await;
    assert!(matches!(again, Err(StoreError::NotFound { .. })), "{again:?}");
    // Its key is free again.
    submit(store, &with_key(command("uptime"), "key", 1)).await;
}

pub(super) async fn an_execution_that_has_not_ended_is_not_deleted(store: &dyn Store) {
    let queued = submit(store, &job("ping", 1)).await;
    let refused = |id| async move {
        let deleted = store.delete_execution(&here(), id, &audit("execution.delete")).await;
        assert!(matches!(deleted, Err(StoreError::Conflict { .. })), "{deleted:?}");
    };
    refused(queued).await;
    let worker = worker(store).await;
    let claimed = claim_one(store, worker, 1).await;
    refused(queued).await;
    store.park(&here(), &claimed.lease, at(60), Reason::RetryScheduled).await.unwrap();
    refused(queued).await;
    assert_eq!(execution(store, queued).await.status, ExecutionStatus::Waiting);
}

pub(super) async fn executions_due_before_another_are_counted(store: &dyn Store) {
    let mut submissions: Vec<Submission> = (0..4).map(|_| job("ping", 1)).collect();
    submissions[3].execution.wake_at = at(-5);
    for submission in &submissions {
        submit(store, submission).await;
    }
    let mut counts = Vec::new();
    for submission in &submissions {
        counts.push(store.queued_before(&here(), &submission.execution).await.unwrap());
    }
    assert_eq!(counts, [1, 2, 3, 0]);
    let worker = worker(store).await;
    assert_eq!(store.claim(&here(), worker, 2, at(1)).await.unwrap().len(), 2);
    assert_eq!(store.queued_before(&here(), &submissions[2].execution).await.unwrap(), 1);
    assert_eq!(store.queued_before(&elsewhere(), &submissions[2].execution).await.unwrap(), 0);
}

pub(super) async fn executions_are_counted_by_status(store: &dyn Store) {
    for _ in 0..4 {
        submit(store, &job("ping", 1)).await;
    }
    let worker = worker(store).await;
    let claimed = store.claim(&here(), worker, 2, at(1)).await.unwrap();
    drive(store, &claimed[0], ExecutionStatus::Failed, 2).await;
    let expected = [(ExecutionStatus::Queued, 2), (ExecutionStatus::Running, 1), (ExecutionStatus::Failed, 1)];
    for status in ExecutionStatus::ALL {
        let expected = expected.iter().find(|(of, _)| of == status).map_or(0, |(_, count)| *count);
        assert_eq!(store.count_by_status(&here(), *status).await.unwrap(), expected, "{status}");
        assert_eq!(store.count_by_status(&elsewhere(), *status).await.unwrap(), 0, "{status}");
    }
}

pub(super) async fn an_execution_of_another_project_does_not_exist(store: &dyn Store) {
    let id = ended(store, &job("ping", 1), ExecutionStatus::Succeeded, 1).await;
    let scope = elsewhere();
    assert!(matches!(store.execution(&scope, &id.into()).await, Err(StoreError::NotFound { .. })));
    assert!(store.steps(&scope, id, &StepFilter::default(), 0, 10).await.unwrap().is_empty());
    assert!(matches!(store.changes(&scope, id, 0).await, Err(StoreError::NotFound { .. })));
    let page = store.executions(&scope, &ExecutionFilter::default(), PageRequest::default()).await.unwrap();
    assert!(page.items.is_empty());
    let deleted = store.delete_execution(&scope, id, &audit("execution.delete")).await;
    assert!(matches!(deleted, Err(StoreError::NotFound { .. })), "{deleted:?}");
    let cancelled = store.cancel(&scope, id, at(1), &audit("execution.cancel")).await;
    assert!(matches!(cancelled, Err(StoreError::NotFound { .. })), "{cancelled:?}");
}
