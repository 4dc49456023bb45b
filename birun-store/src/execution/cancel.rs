//! Cancelling and deleting executions.

use birun_core::audit::AuditEntry;
use birun_core::execution::Cancelled;
use birun_core::id::{ExecutionId, ProjectId};
use birun_core::store::{StoreError, StoreResult};
use chrono::{DateTime, Utc};

use crate::audit;
use crate::execution::rows::EXECUTIONS;
use crate::script::drop_contents;
use crate::sql::{Tx, binds};

/// Only where nothing runs: a step in flight, left behind by a dead worker, must be killed first.
const CANCEL_NOW: &str = "UPDATE birun_executions SET status = 'cancelled', reason = 'cancel_requested', detail = NULL,
    finished_at = $3, cancel_requested_at = COALESCE(cancel_requested_at, $3), rev = rev + 1,
    n_cancelled = n_cancelled + n_pending, n_pending = 0
    WHERE project_id = $1 AND id = $2 AND status IN ('queued', 'waiting') AND n_running = 0 RETURNING rev";
const CANCEL_STEPS: &str = "UPDATE birun_steps SET status = 'cancelled', reason = 'cancel_requested', finished_at = $3,
    rev = $4 WHERE project_id = $1 AND execution_id = $2 AND status = 'pending'";
/// Due at once, so that a worker hears of it if none has it.
const REQUEST: &str = "UPDATE birun_executions SET cancel_requested_at = $3, rev = rev + 1,
    wake_at = CASE WHEN wake_at > $3 THEN $3 ELSE wake_at END
    WHERE project_id = $1 AND id = $2 AND finished_at IS NULL AND cancel_requested_at IS NULL";
const STATUS: &str = "SELECT id, status FROM birun_executions WHERE project_id = $1 AND id = $2";
const DELETE: &str = "DELETE FROM birun_executions WHERE project_id = $1 AND id = $2 AND finished_at IS NOT NULL
    RETURNING content";

pub(super) async fn cancel(
    tx: &mut Tx<'_>,
    project: ProjectId,
    execution: ExecutionId,
    at: DateTime<Utc>,
    audit: &AuditEntry,
) -> StoreResult<Cancelled> {
    let outcome = match tx.one(CANCEL_NOW, binds![project, execution, at]).await? {
        Some(row) => {
            let rev = row.columns(EXECUTIONS.name).int()?;
            tx.exec(CANCEL_STEPS, binds![project, execution, at, rev]).await?;
            Cancelled::Now
        }
        None if tx.exec(REQUEST, binds![project, execution, at]).await? > 0 => Cancelled::Requested,
        // Nothing changes, so there is nothing to audit.
        None => return standing(tx, project, execution).await,
    };
    audit::append(tx, project, audit).await?;
    Ok(outcome)
}

/// What an execution that is not to be cancelled (any more) says of itself.
async fn standing(tx: &mut Tx<'_>, project: ProjectId, execution: ExecutionId) -> StoreResult<Cancelled> {
    let row = tx.one(STATUS, binds![project, execution]).await?;
    let row = row.ok_or_else(|| EXECUTIONS.not_found(execution))?;
    let mut columns = row.columns(EXECUTIONS.name);
    columns.uuid()?;
    let status: birun_core::execution::ExecutionStatus = columns.parsed()?;
    Ok(if status.is_terminal() { Cancelled::AlreadyEnded(status) } else { Cancelled::Requested })
}

pub(super) async fn delete(tx: &mut Tx<'_>, project: ProjectId, execution: ExecutionId) -> StoreResult<()> {
    if let Some(row) = tx.one(DELETE, binds![project, execution]).await? {
        let content = row.columns(EXECUTIONS.name).opt_bytes()?;
        return drop_contents(tx, project, content.into_iter().collect()).await;
    }
    let there = tx.one(STATUS, binds![project, execution]).await?.is_some();
    Err(if there {
        StoreError::Conflict { why: format!("the execution {} has not ended", execution.short()) }
    } else {
        EXECUTIONS.not_found(execution)
    })
}
