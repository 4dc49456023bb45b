//! Promises about retention.

use super::make::{at, audit, audited, command, elsewhere, ended, here, job, script_run, submit};
use crate::audit::AuditFilter;
use crate::execution::{ExecutionFilter, ExecutionStatus, PrunePolicy, PruneReport, Submission};
use crate::id::{ExecutionId, ScriptId};
use crate::page::PageRequest;
use crate::store::Store;

/// Gives up what ended before [`at`]`(seconds)`, and nothing else.
fn before(seconds: i64) -> PrunePolicy {
    PrunePolicy {
        ended_before: at(seconds),
        keep_per_subject: 0,
        status: Vec::new(),
        audit_before: at(-1_000_000),
        keys_before: at(-1_000_000),
    }
}

/// Prunes once, and answers what was given up.
async fn prune(store: &dyn Store, policy: &PrunePolicy, limit: u32) -> Vec<ExecutionId> {
    let given_up = store.given_up(&here(), policy, limit).await.unwrap();
    let report = delete(store, &given_up, policy, limit).await;
    assert_eq!(report.executions, given_up.len() as u64);
    given_up
}

async fn delete(store: &dyn Store, executions: &[ExecutionId], policy: &PrunePolicy, limit: u32) -> PruneReport {
    store.prune(&here(), executions, policy, limit, &audit("execution.prune")).await.unwrap()
}

async fn left(store: &dyn Store) -> Vec<ExecutionId> {
    let page = PageRequest::new(200, None).unwrap();
    let page = store.executions(&here(), &ExecutionFilter::default(), page).await.unwrap();
    let mut ids: Vec<ExecutionId> = page.items.iter().map(|execution| execution.id).collect();
    ids.sort_unstable();
    ids
}

pub(super) async fn only_what_ended_long_ago_is_deleted(store: &dyn Store) {
    let old = ended(store, &job("a", 2), ExecutionStatus::Succeeded, 10).await;
    let young = ended(store, &job("b", 1), ExecutionStatus::Succeeded, 20).await;
    let queued = submit(store, &job("c", 1)).await;
    assert_eq!(prune(store, &before(20), 100).await, [old]);
    assert_eq!(left(store).await, [young, queued]);
    assert!(super::make::steps(store, old).await.is_empty());
}

pub(super) async fn what_has_not_ended_is_not_deleted(store: &dyn Store) {
    let queued = submit(store, &job("a", 1)).await;
    assert_eq!(delete(store, &[queued], &before(100), 100).await, PruneReport::default());
    assert_eq!(left(store).await, [queued]);
}

pub(super) async fn the_newest_of_each_subject_are_kept(store: &dyn Store) {
    let script = ScriptId::new();
    let (mut runs, mut commands) = (Vec::new(), Vec::new());
    for index in 0..4 {
        let mut run = script_run(script, "disk");
        // A new version and a new name are the same subject still.
        run.execution.subject.script = Some((script, index + 1));
        run.execution.subject.title = format!("disk-{index}");
        runs.push(ended(store, &run, ExecutionStatus::Succeeded, 10).await);
        commands.push(ended(store, &command("uptime"), ExecutionStatus::Failed, 10).await);
    }
    let single = ended(store, &command("hostname"), ExecutionStatus::Succeeded, 10).await;
    // A job that happens to be called as a command is another subject.
    let namesake = ended(store, &job("uptime", 1), ExecutionStatus::Succeeded, 10).await;
    let policy = PrunePolicy { keep_per_subject: 2, ..before(100) };
    let mut given_up = prune(store, &policy, 100).await;
    given_up.sort_unstable();
    let mut expected = [&runs[..2], &commands[..2]].concat();
    expected.sort_unstable();
    assert_eq!(given_up, expected);
    let mut kept = [&runs[2..], &commands[2..], &[single, namesake]].concat();
    kept.sort_unstable();
    assert_eq!(left(store).await, kept);
}

pub(super) async fn only_the_asked_for_statuses_are_deleted(store: &dyn Store) {
    let succeeded = ended(store, &job("a", 1), ExecutionStatus::Succeeded, 10).await;
    let failed = ended(store, &job("a", 1), ExecutionStatus::Failed, 10).await;
    let policy = PrunePolicy { status: vec![ExecutionStatus::Succeeded, ExecutionStatus::Cancelled], ..before(100) };
    assert_eq!(prune(store, &policy, 100).await, [succeeded]);
    assert_eq!(left(store).await, [failed]);
}

pub(super) async fn the_oldest_are_deleted_first_up_to_the_limit(store: &dyn Store) {
    let mut ids = Vec::new();
    for seconds in 0..5 {
        let mut submission = job("a", 1);
        submission.execution.created_at = at(seconds);
        ids.push(ended(store, &submission, ExecutionStatus::Succeeded, 10).await);
    }
    assert_eq!(prune(store, &before(100), 2).await, ids[..2]);
    assert_eq!(prune(store, &before(100), 2).await, ids[2..4]);
    assert_eq!(prune(store, &before(100), 2).await, ids[4..]);
    assert!(left(store).await.is_empty());
}

pub(super) async fn bodies_that_nothing_refers_to_are_deleted(store: &dyn Store) {
    let (gone, kept) = (command("uptime"), command("hostname"));
    ended(store, &gone, ExecutionStatus::Succeeded, 10).await;
    ended(store, &kept, ExecutionStatus::Succeeded, 10).await;
    ended(store, &command("hostname"), ExecutionStatus::Succeeded, 200).await;
    assert_eq!(prune(store, &before(100), 100).await.len(), 2);
    let body = |submission: &Submission| submission.content.clone().unwrap().hash();
    assert!(store.content(&here(), &body(&gone)).await.is_err());
    store.content(&here(), &body(&kept)).await.unwrap();
}

pub(super) async fn old_audit_entries_and_keys_are_deleted(store: &dyn Store) {
    let mut keyed = job("a", 1);
    keyed.idempotency = Some(("key".to_owned(), [1; 32]));
    submit(store, &keyed).await;
    let mut late = audit("server.edit");
    late.at = at(50);
    store.append_audit(&here(), &late).await.unwrap();
    let policy = PrunePolicy { audit_before: at(50), keys_before: at(50), ..before(-1_000) };
    let report = delete(store, &[], &policy, 100).await;
    assert_eq!(report, PruneReport { executions: 0, audit_entries: 1, keys: 1 });
    let entries = store.audit_entries(&here(), &AuditFilter::default(), PageRequest::default()).await.unwrap();
    let mut actions: Vec<&str> = entries.items.iter().map(|entry| entry.action.as_str()).collect();
    actions.sort_unstable();
    assert_eq!(actions, ["execution.prune", "server.edit"]);
    // The key means something new now.
    let mut again = job("b", 1);
    again.idempotency = Some(("key".to_owned(), [2; 32]));
    submit(store, &again).await;
}

pub(super) async fn a_prune_without_prey_leaves_no_trace(store: &dyn Store) {
    submit(store, &job("a", 1)).await;
    assert!(prune(store, &before(100), 100).await.is_empty());
    assert_eq!(audited(store).await, 1);
}

pub(super) async fn another_project_is_not_pruned(store: &dyn Store) {
    let id = ended(store, &job("a", 1), ExecutionStatus::Succeeded, 10).await;
    let policy = PrunePolicy { audit_before: at(1_000), keys_before: at(1_000), ..before(100) };
    assert!(store.given_up(&elsewhere(), &policy, 100).await.unwrap().is_empty());
    let report = store.prune(&elsewhere(), &[id], &policy, 100, &audit("execution.prune")).await.unwrap();
    assert_eq!(report, PruneReport::default());
    assert_eq!(left(store).await, [id]);
}
