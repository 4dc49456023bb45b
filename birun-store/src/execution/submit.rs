//! Accepting executions.

use birun_core::execution::{Submission, Submitted};
use birun_core::id::{ExecutionId, ProjectId};
use birun_core::script::Content;
use birun_core::store::{StoreError, StoreResult};
use chrono::{DateTime, Utc};

use crate::audit;
use crate::execution::rows::{insert_execution, insert_steps_once};
use crate::script::keep_content;
use crate::sql::{Batch, DbError, Dialect, Done, Kind, Tx, binds};

const TAKE_KEY: &str = "INSERT INTO birun_idempotency_keys (project_id, key, request, execution_id, created_at)
    VALUES ($1, $2, $3, $4, $5) ON CONFLICT (project_id, key) DO NOTHING";
const KEY: &str = "SELECT execution_id, request FROM birun_idempotency_keys WHERE project_id = $1 AND key = $2";

/// A submission that is ready to be written.
pub(super) struct Acceptance {
    id: ExecutionId,
    created_at: DateTime<Utc>,
    content: Option<Content>,
    idempotency: Option<(String, [u8; 32])>,
    rows: Batch,
}

impl Acceptance {
    /// The same submission once more, after an answer that was lost, finds all of its rows there.
    pub(super) fn new(dialect: Dialect, project: ProjectId, submission: Submission) -> StoreResult<Self> {
        let mut rows = vec![insert_execution(project, &submission.execution)?];
        rows.extend(insert_steps_once(project, &submission.steps)?);
        rows.push(audit::append_once(project, &submission.audit)?);
        Ok(Self {
            id: submission.execution.id,
            created_at: submission.execution.created_at,
            content: submission.content,
            idempotency: submission.idempotency,
            rows: Batch::at_once(dialect, rows),
        })
    }

    /// The rows, if they are all there is to write.
    pub(super) fn only_rows(&self) -> Option<Batch> {
        (self.content.is_none() && self.idempotency.is_none()).then(|| self.rows.clone())
    }
}

/// What the outcome of writing the rows means.
pub(super) fn accepted(done: Result<Vec<Done>, DbError>) -> StoreResult<Submitted> {
    let gone = || StoreError::Conflict { why: "the body of the script is gone".to_owned() };
    done.map(|_| Submitted::Created).map_err(|error| error.explain(Kind::Reference, gone))
}

/// Writes everything that belongs to an execution.
pub(super) async fn submit(tx: &mut Tx<'_>, project: ProjectId, acceptance: &Acceptance) -> StoreResult<Submitted> {
    if let Some(answer) = answered_before(tx, project, acceptance).await? {
        return Ok(answer);
    }
    if let Some(content) = &acceptance.content {
        keep_content(tx, project, content).await?;
    }
    accepted(tx.batch(acceptance.rows.clone()).await)
}

/// What was accepted before under a key.
pub(super) async fn submitted(
    tx: &mut Tx<'_>,
    project: ProjectId,
    key: &str,
    request: &[u8; 32],
) -> StoreResult<Option<Submitted>> {
    let Some(row) = tx.one(KEY, binds![project, key]).await? else { return Ok(None) };
    let mut columns = row.columns("birun_idempotency_keys");
    let (holder, stored) = (ExecutionId::from_uuid(columns.uuid()?), columns.bytes()?);
    Ok(Some(if stored == request { Submitted::Existing(holder) } else { Submitted::KeyReused }))
}

/// Takes the submission's key; if another execution has it, that is the answer.
async fn answered_before(
    tx: &mut Tx<'_>,
    project: ProjectId,
    acceptance: &Acceptance,
) -> StoreResult<Option<Submitted>> {
    let Some((key, request)) = &acceptance.idempotency else { return Ok(None) };
    let values = binds![project, key, &request[..], acceptance.id, acceptance.created_at];
    if tx.exec(TAKE_KEY, values).await? > 0 {
        return Ok(None);
    }
    let before = submitted(tx, project, key, request).await?;
    let before = before.ok_or_else(|| StoreError::Conflict { why: format!("the idempotency key `{key}` vanished") })?;
    // The same submission once more, after an answer that was lost, is not answered.
    Ok(Some(before).filter(|before| *before != Submitted::Existing(acceptance.id)))
}
