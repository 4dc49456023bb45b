//! Executions and steps as rows.

use birun_core::execution::{Counts, Execution, ExecutionKind, Program, Step, StepStatus, Subject};
use birun_core::id::{ExecutionId, ProjectId, ScriptId, ServerId, StepId, WorkerId};
use birun_core::store::StoreResult;
use birun_core::vault::Sealed;
use sha2::{Digest as _, Sha256};
use uuid::{Builder, Uuid};

use crate::audit::read_actor;
use crate::json::{json, opt_json};
use crate::sql::{Bind, Columns, Row, Statement, Table, binds, chunks, short, values};

pub(crate) const EXECUTIONS: Table = Table {
    name: "birun_executions",
    kind: "execution",
    columns: "id, project_id, kind, title, script_id, script_version, params, secrets, targets, strategy, plan, \
              triggered_by, actor_kind, actor_name, retry_of, status, reason, detail, n_pending, n_running, \
              n_succeeded, n_failed, n_cancelled, n_timed_out, n_unreachable, n_lost, n_skipped, created_at, \
              started_at, finished_at, cancel_requested_at, wake_at, home, worker, epoch, rev",
    named: false,
};

pub(crate) const STEPS: Table = Table {
    name: "birun_steps",
    kind: "step",
    columns: "id, execution_id, ordinal, position, target, server_id, attempt, status, reason, detail, error, \
              exit_code, signal, killed, handle, epoch, not_before, started_at, finished_at, output_bytes, \
              output_dropped, rev",
    named: false,
};

const INSERT: &str = "INSERT INTO birun_executions (id, project_id, kind, title, script_id, script_version, params,
    secrets, targets, strategy, plan, triggered_by, actor_kind, actor_name, retry_of, status, reason, detail,
    n_pending, n_running, n_succeeded, n_failed, n_cancelled, n_timed_out, n_unreachable, n_lost, n_skipped,
    created_at, started_at, finished_at, cancel_requested_at, wake_at, home, worker, epoch, rev,
    short, subject, content)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23,
    $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39)
    ON CONFLICT (project_id, id) DO NOTHING";

/// The columns of a step, its project last.
const STEP_COLUMNS: usize = 23;

/// Writes an execution down, once, however often it is asked for.
pub(crate) fn insert_execution(project: ProjectId, execution: &Execution) -> StoreResult<Statement> {
    let counts = execution.counts;
    let values = binds![
        execution.id,
        project,
        execution.kind.as_str(),
        &execution.subject.title,
        execution.subject.script.map(|(script, _)| script),
        execution.subject.script.map(|(_, version)| version),
        json(&execution.params)?,
        execution.secrets.as_ref().map(Sealed::as_bytes),
        &execution.targets,
        json(&execution.strategy)?,
        json(&execution.plan)?,
        execution.trigger.as_str(),
        execution.actor.kind.as_str(),
        &execution.actor.name,
        execution.retry_of,
        execution.status.as_str(),
        execution.reason.map(|reason| reason.as_str()),
        execution.detail.as_ref(),
        counts.pending,
        counts.running,
        counts.succeeded,
        counts.failed,
        counts.cancelled,
        counts.timed_out,
        counts.unreachable,
        counts.lost,
        counts.skipped,
        execution.created_at,
        execution.started_at,
        execution.finished_at,
        execution.cancel_requested_at,
        execution.wake_at,
        execution.home,
        execution.worker,
        execution.epoch,
        execution.rev,
        short(execution.id.as_uuid()),
        subject_key(execution.kind, &execution.subject),
        content_hash(&execution.plan.program),
    ];
    Ok(Statement::new(INSERT, values))
}

/// Writes steps down.
pub(crate) fn insert_steps(project: ProjectId, steps: &[Step]) -> StoreResult<Vec<Statement>> {
    chunks(steps).into_iter().map(|chunk| insert_chunk(project, chunk, "")).collect()
}

/// Writes steps down, once, however often it is asked for.
pub(crate) fn insert_steps_once(project: ProjectId, steps: &[Step]) -> StoreResult<Vec<Statement>> {
    chunks(steps).into_iter().map(|chunk| insert_chunk(project, chunk, " ON CONFLICT DO NOTHING")).collect()
}

fn insert_chunk(project: ProjectId, chunk: &[Step], on_conflict: &str) -> StoreResult<Statement> {
    let list = values(1, STEP_COLUMNS, chunk.len());
    let mut values = Vec::with_capacity(chunk.len() * STEP_COLUMNS);
    for step in chunk {
        values.extend(step_values(project, step)?);
    }
    let sql = format!("INSERT INTO birun_steps ({}, project_id) VALUES {list}{on_conflict}", STEPS.columns);
    Ok(Statement::new(sql, values))
}

fn step_values(project: ProjectId, step: &Step) -> StoreResult<Vec<Bind>> {
    Ok(binds![
        step.id,
        step.execution_id,
        step.ordinal,
        step.position,
        step.target.to_string(),
        step.server_id,
        step.attempt,
        step.status.as_str(),
        step.reason.map(|reason| reason.as_str()),
        step.detail.as_ref(),
        step.error.map(|code| code.as_str()),
        step.exit_code,
        step.signal.as_ref(),
        opt_json(step.kill.as_ref())?,
        opt_json(step.handle.as_ref())?,
        step.epoch,
        step.not_before,
        step.started_at,
        step.finished_at,
        step.output_bytes,
        step.output_dropped,
        step.rev,
        project,
    ])
}

/// What retention counts by: the script, or a digest of kind and title, since titles have no limit.
pub(crate) fn subject_key(kind: ExecutionKind, subject: &Subject) -> Uuid {
    if let Some((script, _)) = subject.script {
        return script.as_uuid();
    }
    let digest = Sha256::new().chain_update(kind.as_str()).chain_update([0]).chain_update(&subject.title).finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(digest.get(..16).unwrap_or_default());
    Builder::from_custom_bytes(bytes).into_uuid()
}

fn content_hash(program: &Program) -> Option<&[u8]> {
    match program {
        Program::Script { content, .. } => Some(&content.as_bytes()[..]),
        Program::Job { .. } => None,
    }
}

pub(crate) fn read_execution(row: &Row) -> StoreResult<Execution> {
    let mut columns = row.columns(EXECUTIONS.name);
    Ok(Execution {
        id: ExecutionId::from_uuid(columns.uuid()?),
        project_id: ProjectId::from_uuid(columns.uuid()?),
        kind: columns.parsed()?,
        subject: read_subject(&mut columns)?,
        params: columns.json()?,
        secrets: columns.opt_bytes()?.map(Sealed::from_bytes),
        targets: columns.text()?,
        strategy: columns.json()?,
        plan: columns.json()?,
        trigger: columns.parsed()?,
        actor: read_actor(&mut columns)?,
        retry_of: columns.opt_uuid()?.map(ExecutionId::from_uuid),
        status: columns.parsed()?,
        reason: columns.opt_parsed()?,
        detail: columns.opt_text()?,
        counts: read_counts(&mut columns)?,
        created_at: columns.at()?,
        started_at: columns.opt_at()?,
        finished_at: columns.opt_at()?,
        cancel_requested_at: columns.opt_at()?,
        wake_at: columns.at()?,
        home: columns.opt_uuid()?.map(WorkerId::from_uuid),
        worker: columns.opt_uuid()?.map(WorkerId::from_uuid),
        epoch: columns.num()?,
        rev: columns.num()?,
    })
}

fn read_subject(columns: &mut Columns<'_>) -> StoreResult<Subject> {
    let title = columns.text()?;
    let (script, version) = (columns.opt_uuid()?, columns.opt_num()?);
    Ok(Subject { title, script: script.map(ScriptId::from_uuid).zip(version) })
}

fn read_counts(columns: &mut Columns<'_>) -> StoreResult<Counts> {
    let mut counts = Counts {
        total: 0,
        pending: columns.num()?,
        running: columns.num()?,
        succeeded: columns.num()?,
        failed: columns.num()?,
        cancelled: columns.num()?,
        timed_out: columns.num()?,
        unreachable: columns.num()?,
        lost: columns.num()?,
        skipped: columns.num()?,
    };
    counts.total = StepStatus::ALL.iter().map(|status| in_status(&counts, *status)).sum();
    Ok(counts)
}

/// How many steps have a status.
pub(crate) const fn in_status(counts: &Counts, status: StepStatus) -> u32 {
    match status {
        StepStatus::Pending => counts.pending,
        StepStatus::Running => counts.running,
        StepStatus::Succeeded => counts.succeeded,
        StepStatus::Failed => counts.failed,
        StepStatus::Cancelled => counts.cancelled,
        StepStatus::TimedOut => counts.timed_out,
        StepStatus::Unreachable => counts.unreachable,
        StepStatus::Lost => counts.lost,
        StepStatus::Skipped => counts.skipped,
    }
}

pub(crate) fn read_step(row: &Row) -> StoreResult<Step> {
    let mut columns = row.columns(STEPS.name);
    Ok(Step {
        id: StepId::from_uuid(columns.uuid()?),
        execution_id: ExecutionId::from_uuid(columns.uuid()?),
        ordinal: columns.num()?,
        position: columns.num()?,
        target: columns.parsed()?,
        server_id: columns.opt_uuid()?.map(ServerId::from_uuid),
        attempt: columns.num()?,
        status: columns.parsed()?,
        reason: columns.opt_parsed()?,
        detail: columns.opt_text()?,
        error: columns.opt_parsed()?,
        exit_code: columns.opt_num()?,
        signal: columns.opt_text()?,
        kill: columns.opt_json()?,
        handle: columns.opt_json()?,
        epoch: columns.num()?,
        not_before: columns.opt_at()?,
        started_at: columns.opt_at()?,
        finished_at: columns.opt_at()?,
        output_bytes: columns.num()?,
        output_dropped: columns.num()?,
        rev: columns.num()?,
    })
}
