//! Retention: deleting what is old.

use birun_core::audit::AuditEntry;
use birun_core::execution::{ExecutionStatus, PrunePolicy, PruneReport};
use birun_core::id::{ExecutionId, ProjectId};
use birun_core::store::StoreResult;

use crate::audit;
use crate::script::drop_contents;
use crate::sql::{Bind, Dialect, Row, Tx, binds, padded, placeholders};

/// What ended before an instant was accepted before it, which an index knows. The subquery counts
/// newer executions of the subject, but never more than are kept.
const GIVEN_UP: &str = "SELECT id FROM birun_executions AS old WHERE project_id = $1 AND created_at < $2
    AND finished_at < $2
    AND $3 <= (SELECT COUNT(*) FROM (SELECT 1 FROM birun_executions AS newer WHERE newer.project_id = $1
        AND newer.subject = old.subject AND newer.id > old.id LIMIT $3) AS kept)";
/// Sealed entries go with the beginning of their chain.
const AUDIT: &str = "DELETE FROM birun_audit_logs WHERE project_id = $1 AND id IN (
    SELECT id FROM birun_audit_logs WHERE project_id = $1 AND at < $2 AND seal_number IS NULL ORDER BY at LIMIT $3)";
const KEYS: &str = "DELETE FROM birun_idempotency_keys WHERE project_id = $1 AND key IN (
    SELECT key FROM birun_idempotency_keys WHERE project_id = $1 AND created_at < $2 ORDER BY created_at LIMIT $3)";
/// Moves free pages to the end of the file and cuts it there.
const SHRINK: &str = "PRAGMA incremental_vacuum";

/// Executions deleted in one statement.
const AT_ONCE: usize = 512;

pub(super) async fn prune(
    tx: &mut Tx<'_>,
    project: ProjectId,
    executions: &[ExecutionId],
    policy: &PrunePolicy,
    limit: u32,
    audit: &AuditEntry,
) -> StoreResult<PruneReport> {
    let (executions, contents) = delete(tx, project, executions).await?;
    drop_contents(tx, project, contents).await?;
    let audit_entries = tx.exec(AUDIT, binds![project, policy.audit_before, limit]).await?;
    let keys = tx.exec(KEYS, binds![project, policy.keys_before, limit]).await?;
    let report = PruneReport { executions, audit_entries, keys };
    if report == PruneReport::default() {
        return Ok(report);
    }
    audit::append(tx, project, audit).await?;
    if tx.dialect() == Dialect::Sqlite {
        tx.script(SHRINK).await?;
    }
    Ok(report)
}

pub(super) async fn given_up(
    tx: &mut Tx<'_>,
    project: ProjectId,
    policy: &PrunePolicy,
    limit: u32,
) -> StoreResult<Vec<ExecutionId>> {
    let mut sql = GIVEN_UP.to_owned();
    let statuses: Vec<&str> = policy.status.iter().copied().map(ExecutionStatus::as_str).collect();
    if !statuses.is_empty() {
        sql.extend([" AND status IN ('", &statuses.join("', '"), "')"]);
    }
    sql.push_str(" ORDER BY created_at LIMIT $4");
    let rows = tx.all(sql, binds![project, policy.ended_before, policy.keep_per_subject, limit]).await?;
    let id = |row: &Row| row.columns("birun_executions").uuid().map(ExecutionId::from_uuid);
    rows.iter().map(id).collect()
}

/// Deletes what has ended; answers how many there were, and the bodies that they had.
async fn delete(tx: &mut Tx<'_>, project: ProjectId, executions: &[ExecutionId]) -> StoreResult<(u64, Vec<Vec<u8>>)> {
    let (mut count, mut contents) = (0, Vec::new());
    for chunk in executions.chunks(AT_ONCE) {
        let ids = padded(chunk.to_vec());
        let list = placeholders(2, ids.len());
        let values = std::iter::once(Bind::from(project)).chain(ids.into_iter().map(Bind::from)).collect();
        let sql = format!(
            "DELETE FROM birun_executions WHERE project_id = $1 AND id IN ({list}) AND finished_at IS NOT NULL
             RETURNING content"
        );
        for row in tx.all(sql, values).await? {
            count += 1;
            contents.extend(row.columns("birun_executions").opt_bytes()?);
        }
    }
    Ok((count, contents))
}
