//! Taking back what dead workers hold.

use birun_core::execution::{Kill, Reaped};
use birun_core::id::{ProjectId, WorkerId};
use birun_core::store::StoreResult;
use chrono::{DateTime, Utc};

use crate::execution::rows::EXECUTIONS;
use crate::json::opt_json;
use crate::sql::{Tx, binds};

/// An execution that runs under a worker that is not registered (any more).
macro_rules! orphaned {
    () => {
        "project_id = $1 AND status = 'running' AND NOT EXISTS (SELECT 1 FROM birun_workers AS owner
            WHERE owner.project_id = $1 AND owner.id = birun_executions.worker)"
    };
}

const ORPHANS: &str = concat!("SELECT 1 FROM birun_executions WHERE ", orphaned!(), " LIMIT 1");
const LAPSED: &str = "SELECT id FROM birun_workers WHERE project_id = $1 AND lease_until < birun_now()";
const BURY_LAPSED: &str = "DELETE FROM birun_workers WHERE project_id = $1 AND id = $2 AND lease_until < birun_now()";
const BURY: &str = "DELETE FROM birun_workers WHERE project_id = $1 AND id = $2";

const EXHAUST: &str = concat!(
    "UPDATE birun_executions SET status = 'lost', reason = 'attempts_exhausted', finished_at = $2, worker = NULL,
        deaths = deaths + 1, rev = rev + 1, n_lost = n_lost + n_pending + n_running, n_pending = 0, n_running = 0
    WHERE ",
    orphaned!(),
    " AND deaths + 1 >= $3 AND (n_running = 0 OR deaths + 1 >= 20 * $3) RETURNING id, rev"
);
/// Nobody has looked after the processes of a step that was in flight.
const EXHAUST_STEPS: &str = "UPDATE birun_steps SET status = 'lost', reason = 'attempts_exhausted', detail = NULL,
    finished_at = $3, rev = $4, killed = CASE WHEN handle IS NULL THEN killed ELSE $5 END
    WHERE project_id = $1 AND execution_id = $2 AND status IN ('pending', 'running')";
const REQUEUE: &str = concat!(
    "UPDATE birun_executions SET status = 'queued', wake_at = $2, worker = NULL, deaths = deaths + 1, rev = rev + 1,
        reason = CASE WHEN deaths + 1 >= $3 THEN 'attempts_exhausted' ELSE 'worker_died' END WHERE ",
    orphaned!()
);
/// What is told of such processes.
const UNSEEN: &str = "its workers died before they could look after its processes";

/// Whether an execution runs under a worker that is not registered.
pub(super) async fn has_orphans(tx: &mut Tx<'_>, project: ProjectId) -> StoreResult<bool> {
    Ok(tx.one(ORPHANS, binds![project]).await?.is_some())
}

/// Workers whose lease has run out by the database's clock.
pub(super) async fn lapsed(tx: &mut Tx<'_>, project: ProjectId) -> StoreResult<Vec<WorkerId>> {
    let rows = tx.all(LAPSED, binds![project]).await?;
    rows.iter().map(|row| Ok(WorkerId::from_uuid(row.columns("birun_workers").uuid()?))).collect()
}

/// Strikes dead workers off, then takes back whatever runs under a worker that is not registered.
///
/// On PostgreSQL a worker that has renewed meanwhile is not struck off.
pub(super) async fn reap(
    tx: &mut Tx<'_>,
    project: ProjectId,
    dead: &[WorkerId],
    max_claims: u64,
    now: DateTime<Utc>,
) -> StoreResult<Reaped> {
    let bury = tx.dialect().pick(BURY, BURY_LAPSED);
    for worker in dead {
        tx.exec(bury, binds![project, *worker]).await?;
    }
    let exhausted = tx.all(EXHAUST, binds![project, now, max_claims]).await?;
    let unseen = opt_json(Some(&Kill::Unconfirmed { detail: UNSEEN.to_owned() }))?;
    let mut reaped = Reaped { lost: exhausted.len() as u64, ..Reaped::default() };
    for row in &exhausted {
        let mut columns = row.columns(EXECUTIONS.name);
        let (execution, rev) = (columns.uuid()?, columns.int()?);
        reaped.lost_steps += tx.exec(EXHAUST_STEPS, binds![project, execution, now, rev, unseen.clone()]).await?;
    }
    reaped.requeued = tx.exec(REQUEUE, binds![project, now, max_claims]).await?;
    Ok(reaped)
}
