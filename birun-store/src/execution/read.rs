//! Showing executions and steps.

use std::cmp::Reverse;

use birun_core::execution::{Execution, ExecutionChange, ExecutionFilter, ExecutionStatus, Step, StepFilter};
use birun_core::id::{ExecutionId, ProjectId, Selector};
use birun_core::page::{Page, PageRequest};
use birun_core::store::StoreResult;

use crate::execution::rows::{EXECUTIONS, STEPS, read_execution, read_step};
use crate::sql::{List, Row, Tx, binds, read_all};

const CHANGED_STEPS: &str = "WHERE execution_id = $1 AND rev > $2 AND rev <= $3 ORDER BY rev, ordinal";
const DUE_BEFORE: &str = "SELECT COUNT(*) FROM birun_executions WHERE project_id = $1
    AND status IN ('queued', 'waiting') AND (wake_at < $2 OR (wake_at = $2 AND id < $3))";
const COUNT: &str = "SELECT COUNT(*) FROM birun_executions WHERE project_id = $1";

/// Steps whose target has a later attempt are left out. First attempts are not in the index.
const NEWEST: &str = "NOT EXISTS (SELECT 1 FROM birun_steps AS later WHERE later.attempt > 1
    AND later.execution_id = birun_steps.execution_id AND later.position = birun_steps.position
    AND later.attempt > birun_steps.attempt)";

/// A condition for a status, in the words of the index that serves it. `?` is the status.
const fn stands_so(status: ExecutionStatus) -> &'static str {
    match status {
        ExecutionStatus::Queued | ExecutionStatus::Waiting => "status IN ('queued', 'waiting') AND status = ?",
        ExecutionStatus::Running => "status = 'running' AND status = ?",
        _ => "finished_at IS NOT NULL AND status = ?",
    }
}

/// The same for a list by id: what has not ended is few, and is found by its own index first.
fn listed_so(status: ExecutionStatus) -> String {
    let condition = stands_so(status);
    if status.is_terminal() {
        return condition.to_owned();
    }
    format!("id IN (SELECT id FROM birun_executions WHERE project_id = $1 AND {condition})")
}

pub(super) async fn find(tx: &mut Tx<'_>, project: ProjectId, selector: &Selector) -> StoreResult<Execution> {
    read_execution(&EXECUTIONS.find(tx, project, selector).await?)
}

pub(super) async fn list(
    tx: &mut Tx<'_>,
    project: ProjectId,
    filter: &ExecutionFilter,
    page: PageRequest,
) -> StoreResult<Page<Execution>> {
    let mut found = Vec::new();
    if filter.status.is_empty() {
        found = read_all(&some(tx, project, filter, None, page).await?, read_execution)?;
    }
    // One list for each status, so that each has its index; the page is made of their newest.
    for (index, status) in filter.status.iter().enumerate() {
        if !filter.status.iter().take(index).any(|earlier| earlier == status) {
            found.extend(read_all(&some(tx, project, filter, Some(*status), page).await?, read_execution)?);
        }
    }
    found.sort_unstable_by_key(|execution| Reverse(execution.id));
    Ok(Page::from_rows(found, page, |execution| execution.id.as_uuid()))
}

async fn some(
    tx: &mut Tx<'_>,
    project: ProjectId,
    filter: &ExecutionFilter,
    status: Option<ExecutionStatus>,
    page: PageRequest,
) -> StoreResult<Vec<Row>> {
    let mut list = List::of(&EXECUTIONS, project);
    if let Some(status) = status {
        list = list.and(&listed_so(status), status.as_str());
    }
    let (sql, values) = list
        .and_if("kind = ?", filter.kind.map(|kind| kind.as_str()))
        .and_if("subject = ?", filter.script)
        .and_if("created_at >= ?", filter.since)
        // The plus keeps the index on time for `since`: everything older is no help in finding the newest.
        .and_if("+created_at < ?", filter.until)
        .page(page);
    Ok(tx.all(sql, values).await?)
}

pub(super) async fn steps(
    tx: &mut Tx<'_>,
    project: ProjectId,
    execution: ExecutionId,
    filter: &StepFilter,
    from: u32,
    limit: u32,
) -> StoreResult<Vec<Step>> {
    let mut list = List::of(&STEPS, project).and("execution_id = ?", execution).and("ordinal >= ?", from);
    if !filter.status.is_empty() {
        let statuses: Vec<&str> = filter.status.iter().map(|status| status.as_str()).collect();
        list = list.fixed(&format!("status IN ('{}')", statuses.join("', '")));
    }
    if filter.newest_attempt {
        list = list.fixed(NEWEST);
    }
    let (sql, values) = list.and_if("target = ?", filter.target.as_ref()).ordered("ordinal", limit);
    read_all(&tx.all(sql, values).await?, read_step)
}

/// What changed after `rev`. The execution is read first, and later changes of steps are left for
/// the next question: so nothing is missed and nothing is told twice.
pub(super) async fn changes(
    tx: &mut Tx<'_>,
    project: ProjectId,
    execution: ExecutionId,
    rev: u64,
) -> StoreResult<Option<ExecutionChange>> {
    let execution = find(tx, project, &execution.into()).await?;
    if execution.rev <= rev {
        return Ok(None);
    }
    let sql = format!("{} {CHANGED_STEPS}", STEPS.select());
    let rows = tx.all(sql, binds![execution.id, rev, execution.rev]).await?;
    Ok(Some(ExecutionChange { steps: read_all(&rows, read_step)?, execution }))
}

pub(super) async fn due_before(tx: &mut Tx<'_>, project: ProjectId, execution: &Execution) -> StoreResult<i64> {
    number(tx.one(DUE_BEFORE, binds![project, execution.wake_at, execution.id]).await?)
}

pub(super) async fn count(tx: &mut Tx<'_>, project: ProjectId, status: ExecutionStatus) -> StoreResult<i64> {
    let sql = format!("{COUNT} AND {}", stands_so(status).replacen('?', "$2", 1));
    number(tx.one(sql, binds![project, status.as_str()]).await?)
}

fn number(row: Option<Row>) -> StoreResult<i64> {
    row.map_or(Ok(0), |row| row.columns("birun_executions").int())
}
