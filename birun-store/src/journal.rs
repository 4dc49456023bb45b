//! The journal: what a worker writes down under its lease.
//!
//! Steps are written before their execution, and both statements carry the lease: a stale worker
//! touches no step and then no execution, and is told so. The execution's counts move with its steps.

use std::collections::BTreeMap;

use async_trait::async_trait;
use birun_core::execution::{
    Ended, Finish, JournalStore, Lease, Reason, Step, StepEnd, StepNote, StepStart, StepStatus,
};
use birun_core::gate::Scope;
use birun_core::id::ProjectId;
use birun_core::store::{StoreError, StoreResult};
use chrono::{DateTime, Utc};

use crate::SqlStore;
use crate::execution::rows::{EXECUTIONS, STEPS, in_status, insert_steps};
use crate::json::opt_json;
use crate::sql::{Batch, Bind, DbError, Dialect, Done, Row, Statement, Tx, binds, chunks, padded, read_all, values};

/// The execution that a lease covers. Every statement of the journal begins with the values of [`held_by`].
macro_rules! held {
    () => {
        "e.project_id = $1 AND e.id = $2 AND e.worker = $3 AND e.epoch = $4 AND e.status = 'running'"
    };
}

/// What becomes of steps that start; `v` holds their values.
macro_rules! starting {
    ($holder:literal, $rev:literal) => {
        concat!(
            "UPDATE birun_steps SET status = 'running', handle = v.column2, started_at = v.column3, epoch = $4, rev = ",
            $rev,
            " FROM ",
            $holder,
            " CROSS JOIN (VALUES {values}) AS v
            WHERE birun_steps.project_id = $1 AND birun_steps.execution_id = $2 AND birun_steps.id = v.column1
              AND birun_steps.status = 'pending'"
        )
    };
}

/// What becomes of steps that end; `v` holds their values.
macro_rules! ending {
    ($holder:literal, $rev:literal) => {
        concat!(
            "UPDATE birun_steps SET status = v.column2, reason = v.column3, detail = v.column4, error = v.column5,
                exit_code = v.column6, signal = v.column7, killed = v.column8, finished_at = v.column9,
                output_bytes = v.column10, output_dropped = v.column11, rev = ",
            $rev,
            " FROM ",
            $holder,
            " CROSS JOIN (VALUES {values}) AS v
            WHERE birun_steps.project_id = $1 AND birun_steps.execution_id = $2 AND birun_steps.id = v.column1
              AND birun_steps.status IN ('pending', 'running')"
        )
    };
}

/// How an execution ends, with the values from `$5` on.
macro_rules! finish {
    () => {
        concat!(
            "UPDATE birun_executions AS e SET rev = rev + 1, n_pending = $5, n_running = $6, n_succeeded = $7,
                n_failed = $8, n_cancelled = $9, n_timed_out = $10, n_unreachable = $11, n_lost = $12, n_skipped = $13,
                status = $14, reason = $15, detail = $16, finished_at = $17, worker = NULL
            WHERE ",
            held!(),
            " RETURNING id, rev, wake_at, cancel_requested_at"
        )
    };
}

const START: &str = concat!(starting!("birun_executions AS e", "e.rev + 1"), " AND ", held!());
const NOTE: &str = concat!(
    "UPDATE birun_steps SET detail = v.column2, rev = e.rev + 1
    FROM birun_executions AS e CROSS JOIN (VALUES {values}) AS v
    WHERE ",
    held!(),
    " AND birun_steps.project_id = $1 AND birun_steps.execution_id = $2 AND birun_steps.id = v.column1
      AND birun_steps.status = 'running'"
);
/// After [`NOTE`], which stamped the steps that it touched with the rev that follows.
const NOTED: &str = concat!("UPDATE birun_executions AS e SET rev = rev + 1 WHERE ", held!(), " RETURNING rev");
const END: &str = concat!(
    ending!("birun_executions AS e", "e.rev + 1"),
    " AND ",
    held!(),
    " RETURNING birun_steps.id, birun_steps.position, birun_steps.attempt, birun_steps.status, birun_steps.started_at"
);
const PROGRESS: &str = concat!(
    "UPDATE birun_executions AS e SET rev = rev + 1, n_pending = n_pending + $5, n_running = n_running + $6,
        n_succeeded = n_succeeded + $7, n_failed = n_failed + $8, n_cancelled = n_cancelled + $9,
        n_timed_out = n_timed_out + $10, n_unreachable = n_unreachable + $11, n_lost = n_lost + $12,
        n_skipped = n_skipped + $13
    WHERE ",
    held!(),
    " RETURNING rev"
);
/// After [`START`], which stamped the steps that it touched with the rev that follows.
const STARTED: &str = concat!(
    "UPDATE birun_executions AS e SET rev = rev + 1,
        n_pending = n_pending - (SELECT COUNT(*) FROM birun_steps AS s WHERE s.execution_id = e.id AND s.rev = e.rev + 1),
        n_running = n_running + (SELECT COUNT(*) FROM birun_steps AS s WHERE s.execution_id = e.id AND s.rev = e.rev + 1)
    WHERE ",
    held!(),
    " RETURNING rev"
);
const FINISH: &str = finish!();

/// A whole start on PostgreSQL, in one way there and back. The same start may be on its way to a commit
/// over another connection, its answer lost: so the execution's row is locked first, then the steps are
/// counted that are pending still when they are locked.
const START_AT_ONCE: &str = concat!(
    "WITH mine AS MATERIALIZED (SELECT e.id FROM birun_executions AS e WHERE ",
    held!(),
    " FOR UPDATE), fresh AS MATERIALIZED (SELECT s.id FROM mine CROSS JOIN birun_steps AS s
        WHERE s.project_id = $1 AND s.execution_id = mine.id AND s.status = 'pending'
          AND s.id IN (SELECT column1 FROM (VALUES {values}) AS v) FOR UPDATE OF s),
    held AS (UPDATE birun_executions AS e
        SET rev = e.rev + 1, n_pending = e.n_pending - counted.n, n_running = e.n_running + counted.n
        FROM (SELECT COUNT(*) AS n FROM fresh) AS counted WHERE ",
    held!(),
    " RETURNING e.rev), started AS (",
    starting!("held", "held.rev"),
    ") SELECT rev FROM held"
);
/// The last steps and their execution, likewise.
const FINISH_AT_ONCE: &str = concat!(
    "WITH held AS (",
    finish!(),
    "), ended AS (",
    ending!("held", "held.rev"),
    ") SELECT id, rev, wake_at, cancel_requested_at FROM held"
);
/// So many steps at most are written at once.
const AT_ONCE: usize = 256;
/// The same end once more, after an answer that was lost.
const FINISHED: &str = "SELECT id, rev, wake_at, cancel_requested_at FROM birun_executions
    WHERE project_id = $1 AND id = $2 AND epoch = $3 AND status = $4 AND finished_at = $5";
/// Someone may have asked to cancel it meanwhile: then it does not sleep.
const PARK: &str = concat!(
    "UPDATE birun_executions AS e SET rev = rev + 1, status = 'waiting', worker = NULL,
        wake_at = COALESCE(cancel_requested_at, $5), reason = $6
    WHERE ",
    held!()
);
const HAND_BACK: &str = concat!(
    "UPDATE birun_executions AS e SET rev = rev + 1, status = 'queued', worker = NULL, wake_at = $5 WHERE ",
    held!()
);
const ATTEMPT: &str = "SELECT id, status FROM birun_steps
    WHERE project_id = $1 AND execution_id = $2 AND position = $3 AND attempt = $4";

fn held_by(project: ProjectId, lease: &Lease) -> Vec<Bind> {
    binds![project, lease.execution, lease.worker, lease.epoch]
}

/// How many steps change from one status to another.
#[derive(Debug, Default)]
struct Moves(BTreeMap<StepStatus, i64>);

impl Moves {
    fn add(&mut self, status: StepStatus) {
        *self.0.entry(status).or_default() += 1;
    }

    fn remove(&mut self, status: StepStatus) {
        *self.0.entry(status).or_default() -= 1;
    }

    /// Values for the columns `n_pending`, `n_running` …, which stand in the order of the statuses.
    fn binds(&self) -> impl Iterator<Item = Bind> {
        StepStatus::ALL.iter().map(|status| Bind::from(self.0.get(status).copied().unwrap_or_default()))
    }
}

/// A step that has just ended.
struct JustEnded {
    position: u32,
    attempt: u32,
    status: StepStatus,
    started: bool,
}

/// So that nobody raises the rev between the statements that follow.
const HOLD: &str = concat!("SELECT e.id FROM birun_executions AS e WHERE ", held!(), " FOR UPDATE");

/// The statement that goes before others; SQLite has one writer anyway.
fn hold(dialect: Dialect, project: ProjectId, lease: &Lease) -> Vec<Statement> {
    match dialect {
        Dialect::Sqlite => Vec::new(),
        Dialect::Postgres => vec![Statement::new(HOLD, held_by(project, lease))],
    }
}

/// What the outcome of statements means of which the last answers with the execution's new rev.
fn under_lease(done: Result<Vec<Done>, DbError>) -> StoreResult<()> {
    last_row(done?).map(drop).ok_or(StoreError::LeaseLost)
}

fn start(dialect: Dialect, project: ProjectId, lease: &Lease, starts: &[StepStart]) -> StoreResult<Batch> {
    if dialect == Dialect::Postgres && (1..=AT_ONCE).contains(&starts.len()) {
        let started = start_by(START_AT_ONCE, project, lease, &padded(starts.to_vec()))?;
        return Ok(Batch::new(dialect, vec![started]));
    }
    let mut statements = hold(dialect, project, lease);
    for chunk in chunks(starts) {
        statements.push(start_by(START, project, lease, chunk)?);
    }
    statements.push(Statement::new(STARTED, held_by(project, lease)));
    Ok(Batch::new(dialect, statements))
}

fn start_by(sql: &str, project: ProjectId, lease: &Lease, starts: &[StepStart]) -> StoreResult<Statement> {
    let mut binds = held_by(project, lease);
    for start in starts {
        binds.extend(binds![start.step, opt_json(start.handle.as_ref())?, start.at]);
    }
    Ok(Statement::new(sql.replace("{values}", &values(5, 3, starts.len())), binds))
}

fn note(dialect: Dialect, project: ProjectId, lease: &Lease, notes: &[StepNote]) -> Batch {
    let mut statements = hold(dialect, project, lease);
    for chunk in chunks(notes) {
        let mut binds = held_by(project, lease);
        for note in chunk {
            binds.extend(binds![note.step, note.waits_for.as_ref()]);
        }
        statements.push(Statement::new(NOTE.replacen("{values}", &values(5, 2, chunk.len()), 1), binds));
    }
    statements.push(Statement::new(NOTED, held_by(project, lease)));
    Batch::new(dialect, statements)
}

/// The last ends of an execution and its own. It tells its counts: so nothing hangs on which steps end just now.
fn last_ends(
    dialect: Dialect,
    project: ProjectId,
    lease: &Lease,
    ends: &[StepEnd],
    finish: &Finish,
) -> StoreResult<Batch> {
    if dialect == Dialect::Postgres && (1..=AT_ONCE).contains(&ends.len()) {
        return Ok(Batch::new(dialect, vec![finish_at_once(project, lease, finish, ends)?]));
    }
    let mut statements = hold(dialect, project, lease);
    statements.extend(end_steps(project, lease, ends)?);
    statements.push(conclude(project, lease, finish));
    Ok(Batch::new(dialect, statements))
}

/// What [`JournalStore::end_steps`] is to write.
#[derive(Debug)]
struct End {
    ends: Vec<StepEnd>,
    next: Vec<Step>,
    finish: Option<Finish>,
}

async fn end(tx: &mut Tx<'_>, project: ProjectId, lease: &Lease, end: &End) -> StoreResult<Option<Ended>> {
    let mut statements = hold(tx.dialect(), project, lease);
    let held = statements.len();
    statements.extend(end_steps(project, lease, &end.ends)?);
    let done = tx.several(statements).await?;
    let rows: Vec<Row> = done.into_iter().skip(held).flat_map(|done| done.rows).collect();
    let just_ended = read_all(&rows, read_ended)?;
    let mut moves = Moves::default();
    for step in &just_ended {
        moves.remove(if step.started { StepStatus::Running } else { StepStatus::Pending });
        moves.add(step.status);
    }
    let mut added = Vec::new();
    for step in &end.next {
        if let Some(before) = superseded(tx, project, lease, &just_ended, step).await? {
            moves.remove(before);
            moves.add(step.status);
            added.push(step.clone());
        }
    }
    let (rev, ended) = match &end.finish {
        Some(finish) => {
            let row = last_row(tx.several(vec![conclude(project, lease, finish)]).await?);
            let ended = concluded(tx, project, lease, finish, row).await?;
            (ended.rev, Some(ended))
        }
        None => (progress(tx, project, lease, &moves).await?, None),
    };
    for step in &mut added {
        step.rev = rev;
    }
    tx.several(insert_steps(project, &added)?).await?;
    Ok(ended)
}

fn end_steps(project: ProjectId, lease: &Lease, ends: &[StepEnd]) -> StoreResult<Vec<Statement>> {
    let statement = |chunk: &[StepEnd]| {
        let mut binds = held_by(project, lease);
        for end in chunk {
            binds.extend(end_values(end)?);
        }
        Ok(Statement::new(END.replacen("{values}", &values(5, 11, chunk.len()), 1), binds))
    };
    chunks(ends).into_iter().map(statement).collect()
}

fn end_values(end: &StepEnd) -> StoreResult<Vec<Bind>> {
    Ok(binds![
        end.step,
        end.status.as_str(),
        end.reason.map(|reason| reason.as_str()),
        end.detail.as_ref(),
        end.error.map(|code| code.as_str()),
        end.exit_code,
        end.signal.as_ref(),
        opt_json(end.kill.as_ref())?,
        end.at,
        end.output_bytes,
        end.output_dropped,
    ])
}

fn read_ended(row: &Row) -> StoreResult<JustEnded> {
    let mut columns = row.columns(STEPS.name);
    columns.uuid()?;
    Ok(JustEnded {
        position: columns.num()?,
        attempt: columns.num()?,
        status: columns.parsed()?,
        started: columns.opt_at()?.is_some(),
    })
}

/// How the attempt stands that a new one follows; nothing if the new one is there already.
async fn superseded(
    tx: &mut Tx<'_>,
    project: ProjectId,
    lease: &Lease,
    ended: &[JustEnded],
    step: &Step,
) -> StoreResult<Option<StepStatus>> {
    let just_now = ended.iter().find(|end| end.position == step.position && end.attempt + 1 == step.attempt);
    if let Some(end) = just_now {
        return Ok(Some(end.status));
    }
    let attempt = |number: u32| binds![project, lease.execution, step.position, number];
    if tx.one(ATTEMPT, attempt(step.attempt)).await?.is_some() {
        return Ok(None);
    }
    let row = tx.one(ATTEMPT, attempt(step.attempt.saturating_sub(1))).await?;
    let row = row.ok_or_else(|| StoreError::Conflict {
        why: format!("attempt {} on {} does not follow another", step.attempt, step.target),
    })?;
    let mut columns = row.columns(STEPS.name);
    columns.uuid()?;
    columns.parsed().map(Some)
}

async fn progress(tx: &mut Tx<'_>, project: ProjectId, lease: &Lease, moves: &Moves) -> StoreResult<u64> {
    let mut binds = held_by(project, lease);
    binds.extend(moves.binds());
    rev(tx.one(PROGRESS, binds).await?)
}

fn last_row(mut done: Vec<Done>) -> Option<Row> {
    done.pop()?.rows.into_iter().next()
}

fn conclude(project: ProjectId, lease: &Lease, finish: &Finish) -> Statement {
    Statement::new(FINISH, finish_values(project, lease, finish))
}

fn finish_at_once(project: ProjectId, lease: &Lease, finish: &Finish, ends: &[StepEnd]) -> StoreResult<Statement> {
    let ends = padded(ends.to_vec());
    let mut binds = finish_values(project, lease, finish);
    let sql = FINISH_AT_ONCE.replace("{values}", &values(binds.len() + 1, 11, ends.len()));
    for end in &ends {
        binds.extend(end_values(end)?);
    }
    Ok(Statement::new(sql, binds))
}

fn finish_values(project: ProjectId, lease: &Lease, finish: &Finish) -> Vec<Bind> {
    let mut binds = held_by(project, lease);
    binds.extend(StepStatus::ALL.iter().map(|status| Bind::from(in_status(&finish.counts, *status))));
    binds.extend(binds![
        finish.status.as_str(),
        finish.reason.map(|reason| reason.as_str()),
        finish.detail.as_ref(),
        finish.at,
    ]);
    binds
}

/// What the execution's row says now that it has ended so, by these words or by the same before.
async fn concluded(
    tx: &mut Tx<'_>,
    project: ProjectId,
    lease: &Lease,
    finish: &Finish,
    row: Option<Row>,
) -> StoreResult<Ended> {
    match row {
        Some(row) => read_end(&row),
        None => ended_before(tx, project, lease, finish).await,
    }
}

/// What the row says of an execution that the same words ended before, by an answer that was lost.
async fn ended_before(tx: &mut Tx<'_>, project: ProjectId, lease: &Lease, finish: &Finish) -> StoreResult<Ended> {
    let same = binds![project, lease.execution, lease.epoch, finish.status.as_str(), finish.at];
    read_end(&tx.one(FINISHED, same).await?.ok_or(StoreError::LeaseLost)?)
}

fn read_end(row: &Row) -> StoreResult<Ended> {
    let mut columns = row.columns(EXECUTIONS.name);
    columns.uuid()?;
    Ok(Ended { rev: columns.num()?, wake_at: columns.at()?, cancel_requested_at: columns.opt_at()? })
}

fn rev(row: Option<Row>) -> StoreResult<u64> {
    row.ok_or(StoreError::LeaseLost)?.columns("birun_executions").num()
}

/// Gives the execution up, with one of the statements for that.
async fn give_up(
    tx: &mut Tx<'_>,
    project: ProjectId,
    lease: &Lease,
    sql: &'static str,
    more: Vec<Bind>,
) -> StoreResult<()> {
    let mut binds = held_by(project, lease);
    binds.extend(more);
    if tx.exec(sql, binds).await? == 0 { Err(StoreError::LeaseLost) } else { Ok(()) }
}

#[async_trait]
impl JournalStore for SqlStore {
    async fn start_steps(&self, scope: &Scope, lease: &Lease, starts: &[StepStart]) -> StoreResult<()> {
        let batch = start(self.db.dialect(), scope.project(), lease, starts)?;
        self.db.write_batch(batch, under_lease).await
    }

    async fn note_steps(&self, scope: &Scope, lease: &Lease, notes: &[StepNote]) -> StoreResult<()> {
        let batch = note(self.db.dialect(), scope.project(), lease, notes);
        self.db.write_batch(batch, under_lease).await
    }

    async fn end_steps(
        &self,
        scope: &Scope,
        lease: &Lease,
        ends: &[StepEnd],
        next: &[Step],
        finish: Option<&Finish>,
    ) -> StoreResult<Option<Ended>> {
        let project = scope.project();
        if let (Some(finish), []) = (finish, next) {
            let batch = last_ends(self.db.dialect(), project, lease, ends, finish)?;
            let row = self.db.write_batch(batch, |done| Ok(last_row(done?))).await?;
            let args = (project, *lease, finish.clone());
            return match row {
                Some(row) => read_end(&row).map(Some),
                None => self
                    .db
                    .read(args, |tx, (project, lease, finish)| Box::pin(ended_before(tx, *project, lease, finish)))
                    .await
                    .map(Some),
            };
        }
        let what = End { ends: ends.to_vec(), next: next.to_vec(), finish: finish.cloned() };
        let args = (project, *lease, what);
        self.db.write(args, |tx, (project, lease, what)| Box::pin(end(tx, *project, lease, what))).await
    }

    async fn park(&self, scope: &Scope, lease: &Lease, wake_at: DateTime<Utc>, reason: Reason) -> StoreResult<()> {
        let args = (scope.project(), *lease, wake_at, reason);
        let park = self.db.write(args, |tx, (project, lease, wake_at, reason)| {
            Box::pin(give_up(tx, *project, lease, PARK, binds![*wake_at, reason.as_str()]))
        });
        park.await
    }

    async fn hand_back(&self, scope: &Scope, lease: &Lease, now: DateTime<Utc>) -> StoreResult<()> {
        let args = (scope.project(), *lease, now);
        let hand_back = self
            .db
            .write(args, |tx, (project, lease, now)| Box::pin(give_up(tx, *project, lease, HAND_BACK, binds![*now])));
        hand_back.await
    }
}
