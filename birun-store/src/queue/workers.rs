//! The workers that are registered.

use birun_core::execution::WorkerRegistration;
use birun_core::id::{ProjectId, WorkerId};
use birun_core::store::StoreResult;

use crate::sql::{Row, Tx, binds, read_all};

/// `{lease}` is when the lease ends, where one tells of life.
const REGISTER: &str = "INSERT INTO birun_workers (id, project_id, name, slots, home_only, started_at, lease_until)
    VALUES ($1, $2, $3, $4, $5, $6, {lease})
    ON CONFLICT (project_id, id) DO UPDATE SET lease_until = excluded.lease_until";
const RETIRE: &str = "DELETE FROM birun_workers WHERE project_id = $1 AND id = $2";
const WORKERS: &str = "SELECT id, name, slots, home_only, started_at, {alive} FROM birun_workers
    WHERE project_id = $1 ORDER BY id";

/// Registers a worker, or renews its registration; `lease` is in microseconds and counts on PostgreSQL.
pub(super) async fn register(
    tx: &mut Tx<'_>,
    project: ProjectId,
    worker: &WorkerRegistration,
    lease: i64,
) -> StoreResult<()> {
    let mut values = binds![worker.id, project, &worker.name, worker.slots, worker.home_only, worker.started_at];
    values.extend(tx.dialect().pick(None, Some(lease)).map(crate::sql::Bind::from));
    let sql = REGISTER.replacen("{lease}", tx.dialect().pick("NULL", "birun_now() + $7"), 1);
    tx.exec(sql, values).await?;
    Ok(())
}

pub(super) async fn retire(tx: &mut Tx<'_>, project: ProjectId, worker: WorkerId) -> StoreResult<()> {
    tx.exec(RETIRE, binds![project, worker]).await?;
    Ok(())
}

/// All registered workers, and whether each lives as far as the database knows.
pub(super) async fn list(tx: &mut Tx<'_>, project: ProjectId) -> StoreResult<Vec<(WorkerRegistration, bool)>> {
    let alive = tx.dialect().pick("1", "CASE WHEN lease_until < birun_now() THEN 0 ELSE 1 END");
    // PostgreSQL reads a bare 1 as a 32-bit number.
    let sql = WORKERS.replacen("{alive}", &format!("CAST({alive} AS BIGINT)"), 1);
    read_all(&tx.all(sql, binds![project]).await?, read)
}

fn read(row: &Row) -> StoreResult<(WorkerRegistration, bool)> {
    let mut columns = row.columns("birun_workers");
    let registration = WorkerRegistration {
        id: WorkerId::from_uuid(columns.uuid()?),
        name: columns.text()?,
        slots: columns.num()?,
        home_only: columns.flag()?,
        started_at: columns.at()?,
    };
    Ok((registration, columns.flag()?))
}
