//! Promises about lists of executions.

use futures::future::join;

use super::make::{at, claim_one, command, ended, here, job, script_run, submit, worker};
use crate::execution::{ExecutionFilter, ExecutionKind, ExecutionStatus, Reason};
use crate::id::{ExecutionId, ScriptId};
use crate::page::PageRequest;
use crate::store::Store;

/// Walks through all pages.
async fn walk(store: &dyn Store, filter: &ExecutionFilter, limit: u32) -> Vec<ExecutionId> {
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = store.executions(&here(), filter, PageRequest::new(limit, after).unwrap()).await.unwrap();
        assert!(page.items.len() <= limit as usize);
        seen.extend(page.items.iter().map(|execution| execution.id));
        after = page.next;
        if after.is_none() {
            return seen;
        }
    }
}

fn newest_first(mut ids: Vec<ExecutionId>) -> Vec<ExecutionId> {
    ids.sort_unstable_by(|a, b| b.cmp(a));
    ids
}

pub(super) async fn executions_are_listed_newest_first_page_by_page(store: &dyn Store) {
    let mut ids = Vec::new();
    for _ in 0..7 {
        ids.push(submit(store, &job("ping", 1)).await);
    }
    let ids = newest_first(ids);
    for limit in [1, 3, 7, 8] {
        assert_eq!(walk(store, &ExecutionFilter::default(), limit).await, ids, "pages of {limit}");
    }
}

pub(super) async fn a_page_is_not_disturbed_by_executions_that_come_in(store: &dyn Store) {
    let mut before = Vec::new();
    for _ in 0..20 {
        before.push(submit(store, &job("ping", 1)).await);
    }
    let arriving = async {
        for _ in 0..20 {
            submit(store, &job("ping", 1)).await;
        }
    };
    let filter = ExecutionFilter::default();
    let (seen, ()) = join(walk(store, &filter, 3), arriving).await;
    assert_eq!(seen, newest_first(seen.clone()), "in order");
    assert_eq!(seen.iter().filter(|id| before.contains(id)).count(), before.len(), "each one once");
}

pub(super) async fn executions_are_listed_by_one_status_and_by_several(store: &dyn Store) {
    let succeeded = ended(store, &job("a", 1), ExecutionStatus::Succeeded, 1).await;
    let failed = ended(store, &job("b", 1), ExecutionStatus::Failed, 1).await;
    let second_failed = ended(store, &job("c", 1), ExecutionStatus::Failed, 1).await;
    let worker = worker(store).await;
    let waiting = submit(store, &job("d", 1)).await;
    let parked = claim_one(store, worker, 1).await;
    store.park(&here(), &parked.lease, at(900), Reason::RetryScheduled).await.unwrap();
    let running = submit(store, &job("e", 1)).await;
    claim_one(store, worker, 1).await;
    let queued = submit(store, &job("f", 1)).await;
    use ExecutionStatus::{Failed, Queued, Running, Skipped, Succeeded, Waiting};
    for (status, expected) in [
        (vec![Succeeded], vec![succeeded]),
        (vec![Failed], vec![failed, second_failed]),
        (vec![Waiting], vec![waiting]),
        (vec![Running], vec![running]),
        (vec![Queued], vec![queued]),
        (vec![Queued, Waiting, Running], vec![queued, waiting, running]),
        (vec![Failed, Running, Succeeded, Failed], vec![failed, second_failed, running, succeeded]),
        (vec![Skipped], vec![]),
    ] {
        let filter = ExecutionFilter { status: status.clone(), ..ExecutionFilter::default() };
        for limit in [1, 2, 10] {
            assert_eq!(walk(store, &filter, limit).await, newest_first(expected.clone()), "{status:?}");
        }
    }
}

pub(super) async fn executions_are_listed_by_kind_script_and_time(store: &dyn Store) {
    let script = ScriptId::new();
    let mut run = script_run(script, "disk");
    let (mut early, mut other) = (command("uptime"), script_run(ScriptId::new(), "disk"));
    for (submission, seconds) in [(&mut early, -10), (&mut run, 0), (&mut other, 10)] {
        submission.execution.created_at = at(seconds);
        submit(store, submission).await;
    }
    let [early, run, other] = [early, run, other].map(|submission| submission.execution.id);
    let all = ExecutionFilter::default;
    for (filter, expected) in [
        (ExecutionFilter { kind: Some(ExecutionKind::Command), ..all() }, vec![early]),
        (ExecutionFilter { kind: Some(ExecutionKind::Script), ..all() }, vec![run, other]),
        (ExecutionFilter { kind: Some(ExecutionKind::Job), ..all() }, vec![]),
        (ExecutionFilter { script: Some(script), ..all() }, vec![run]),
        (ExecutionFilter { since: Some(at(0)), ..all() }, vec![run, other]),
        (ExecutionFilter { until: Some(at(0)), ..all() }, vec![early]),
        (ExecutionFilter { since: Some(at(0)), until: Some(at(10)), ..all() }, vec![run]),
        (ExecutionFilter { script: Some(script), since: Some(at(1)), ..all() }, vec![]),
        (ExecutionFilter { status: vec![ExecutionStatus::Queued], until: Some(at(1)), ..all() }, vec![early, run]),
    ] {
        assert_eq!(walk(store, &filter, 2).await, newest_first(expected), "{filter:?}");
    }
}
