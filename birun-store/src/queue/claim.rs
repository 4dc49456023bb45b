//! Claiming: due executions become this worker's, under a new epoch.

use std::collections::HashMap;

use birun_core::execution::{Claimed, Execution, Lease, Step};
use birun_core::id::{ExecutionId, ProjectId, WorkerId};
use birun_core::store::{StoreError, StoreResult};
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::execution::rows::{EXECUTIONS, STEPS, read_execution, read_step};
use crate::sql::{Bind, Tx, binds, padded, placeholders};

/// What a worker may take: what is nobody's or its own, and what was kept for a worker that is gone.
/// A worker that takes only its own leaves the rest.
macro_rules! takeable {
    () => {
        "FROM birun_workers AS me CROSS JOIN birun_executions AS due
        WHERE me.project_id = $1 AND me.id = $2 AND due.project_id = $1 AND due.status IN ('queued', 'waiting')
        AND (due.home = $2 OR (due.home IS NULL AND me.home_only = 0) OR (me.home_only = 0
            AND due.home IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM birun_workers AS owner WHERE owner.project_id = $1 AND owner.id = due.home)))"
    };
}

macro_rules! claim {
    ($alive:literal, $lock:literal, $project:literal) => {
        concat!(
            "WITH due AS MATERIALIZED (SELECT due.id, due.wake_at,
                (SELECT COALESCE(MAX(s.ordinal), 0) + 1 FROM birun_steps AS s WHERE s.execution_id = due.id) AS steps ",
            takeable!(),
            " AND due.wake_at <= $3",
            $alive,
            " ORDER BY due.wake_at, due.id LIMIT $4",
            $lock,
            "), few AS (SELECT id FROM
                (SELECT id, SUM(steps) OVER (ORDER BY wake_at, id) - steps AS before FROM due) AS counted
                WHERE before < $5)
            UPDATE birun_executions SET status = 'running', detail = NULL, worker = $2,
                reason = CASE WHEN reason = 'attempts_exhausted' THEN reason END, epoch = epoch + 1, rev = rev + 1,
                started_at = COALESCE(started_at, $3)
            WHERE ",
            $project,
            "id IN (SELECT id FROM few) RETURNING "
        )
    };
}

const CLAIM_SQLITE: &str = claim!("", "", "project_id = $1 AND ");
/// What another transaction is claiming is passed over. The lock on the worker's own row keeps a
/// reaper from burying it in the same moment. The ids say which project it is, and the planner cannot
/// be led to read all rows of it.
const CLAIM_POSTGRES: &str =
    claim!(" AND me.lease_until > birun_now()", " FOR UPDATE OF due SKIP LOCKED FOR SHARE OF me", "");
const NEXT_WAKE: &str = concat!("SELECT due.wake_at ", takeable!(), " ORDER BY due.wake_at, due.id LIMIT 1");
const ORPHANS_WAIT: &str = "SELECT 1 FROM birun_executions AS due
    WHERE due.project_id = $1 AND due.status IN ('queued', 'waiting') AND due.home IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM birun_workers AS owner WHERE owner.project_id = $1 AND owner.id = due.home) LIMIT 1";
const PUT_ASIDE: &str = "UPDATE birun_executions SET status = 'queued', worker = NULL, wake_at = $3, detail = $4,
    rev = rev + 1 WHERE project_id = $1 AND id = $2";

/// A claim that has so many steps takes no further execution: all of them are read before it ends.
const STEPS_AT_ONCE: u32 = 10_000;

/// How long a row that cannot be read is left alone.
const ASIDE: TimeDelta = TimeDelta::minutes(1);

/// Claims executions and reads them with their steps. What cannot be read is put aside, so that it
/// stops nothing else.
pub(super) async fn claim(
    tx: &mut Tx<'_>,
    project: ProjectId,
    worker: WorkerId,
    limit: u32,
    now: DateTime<Utc>,
) -> StoreResult<Vec<Claimed>> {
    let claim = tx.dialect().pick(CLAIM_SQLITE, CLAIM_POSTGRES);
    let rows =
        tx.all(format!("{claim}{}", EXECUTIONS.columns), binds![project, worker, now, limit, STEPS_AT_ONCE]).await?;
    let mut steps = steps_of(tx, rows.iter().filter_map(|row| row.id()).collect()).await?;
    let mut claimed = Vec::with_capacity(rows.len());
    for row in &rows {
        let Some(id) = row.id() else { continue };
        let whole = read_execution(row).and_then(|execution| Ok((execution, steps.remove(&id).unwrap_or(Ok(vec![]))?)));
        match whole {
            Ok((execution, steps)) => claimed.push(hand_over(worker, execution, steps)),
            Err(error) => put_aside(tx, project, id, now, &error).await?,
        }
    }
    claimed.sort_unstable_by_key(|claimed| (claimed.execution.wake_at, claimed.execution.id));
    Ok(claimed)
}

fn hand_over(worker: WorkerId, execution: Execution, steps: Vec<Step>) -> Claimed {
    Claimed { lease: Lease { execution: execution.id, worker, epoch: execution.epoch }, execution, steps }
}

/// The steps of these executions, by ordinal. One that cannot be read spoils its own execution only.
async fn steps_of(tx: &mut Tx<'_>, executions: Vec<Uuid>) -> StoreResult<HashMap<Uuid, StoreResult<Vec<Step>>>> {
    let mut steps: HashMap<Uuid, StoreResult<Vec<Step>>> = HashMap::new();
    if executions.is_empty() {
        return Ok(steps);
    }
    let ids = padded(executions);
    let list = placeholders(1, ids.len());
    // Nothing but the ids, as in the claim itself.
    let sql = format!("{} WHERE execution_id IN ({list}) ORDER BY execution_id, ordinal", STEPS.select());
    let values = ids.into_iter().map(Bind::from).collect();
    for row in tx.all(sql, values).await? {
        let mut columns = row.columns(STEPS.name);
        columns.uuid()?;
        let of_one = steps.entry(columns.uuid()?).or_insert_with(|| Ok(Vec::new()));
        match (read_step(&row), of_one) {
            (Ok(step), Ok(steps)) => steps.push(step),
            (Err(error), of_one) => *of_one = Err(error),
            (Ok(_), Err(_)) => {}
        }
    }
    Ok(steps)
}

/// Gives a row back that this birun cannot read: a newer one may, later.
async fn put_aside(
    tx: &mut Tx<'_>,
    project: ProjectId,
    execution: Uuid,
    now: DateTime<Utc>,
    error: &StoreError,
) -> StoreResult<()> {
    tracing::error!(%execution, %error, "an execution cannot be read and is put aside");
    tx.exec(PUT_ASIDE, binds![project, execution, now + ASIDE, error.to_string()]).await?;
    Ok(())
}

pub(super) async fn next_wake(
    tx: &mut Tx<'_>,
    project: ProjectId,
    worker: WorkerId,
) -> StoreResult<Option<DateTime<Utc>>> {
    let row = tx.one(NEXT_WAKE, binds![project, worker]).await?;
    row.map(|row| row.columns(EXECUTIONS.name).at()).transpose()
}

pub(super) async fn orphans_wait(tx: &mut Tx<'_>, project: ProjectId) -> StoreResult<bool> {
    Ok(tx.one(ORPHANS_WAIT, binds![project]).await?.is_some())
}

/// The executions that a worker holds: epoch, and whether someone wants them cancelled.
pub(super) async fn held(
    tx: &mut Tx<'_>,
    project: ProjectId,
    worker: WorkerId,
) -> StoreResult<HashMap<ExecutionId, (u64, bool)>> {
    const HELD: &str = "SELECT id, epoch, cancel_requested_at FROM birun_executions
        WHERE project_id = $1 AND worker = $2 AND status = 'running'";
    let mut held = HashMap::new();
    for row in tx.all(HELD, binds![project, worker]).await? {
        let mut columns = row.columns(EXECUTIONS.name);
        let id = ExecutionId::from_uuid(columns.uuid()?);
        held.insert(id, (columns.num()?, columns.opt_at()?.is_some()));
    }
    Ok(held)
}
