//! What executions need from a store: submitting and reading, handing out, journalling.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use crate::audit::AuditEntry;
use crate::error::ErrorCode;
use crate::execution::{
    Counts, Execution, ExecutionChange, ExecutionFilter, ExecutionStatus, Handle, Kill, Lease, Reason, Step,
    StepFilter, StepStatus,
};
use crate::gate::Scope;
use crate::id::{ExecutionId, Selector, StepId, WorkerId};
use crate::page::{Page, PageRequest};
use crate::script::Content;
use crate::store::StoreResult;

/// An execution to be accepted.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The execution: `queued`, or `running` in the hands of the worker that it names, under epoch 1, as if
    /// that had claimed it. Where that worker is not registered, [`QueueStore::reap`] takes it back.
    pub execution: Execution,
    /// Its steps, `pending`, one for each target.
    pub steps: Vec<Step>,
    /// The body, if it may not be stored yet.
    pub content: Option<Content>,
    /// The caller's key and a hash of the request, if it gave one.
    pub idempotency: Option<(String, [u8; 32])>,
    /// The audit entry.
    pub audit: AuditEntry,
}

/// What became of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// It was accepted.
    Created,
    /// The same request was accepted before under this key.
    Existing(ExecutionId),
    /// The key was used before for another request.
    KeyReused,
}

/// What became of a request to cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// It had not started, and is cancelled.
    Now,
    /// Its worker has been told.
    Requested,
    /// It had ended before, with this status; nothing was changed.
    AlreadyEnded(ExecutionStatus),
}

/// Which ended executions are deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrunePolicy {
    /// Only those that ended before this instant.
    pub ended_before: DateTime<Utc>,
    /// The newest so many of each subject are kept whatever their age.
    pub keep_per_subject: u32,
    /// Only these statuses; empty = every terminal one.
    pub status: Vec<ExecutionStatus>,
    /// Audit entries before this instant that are not sealed are deleted as well.
    pub audit_before: DateTime<Utc>,
    /// Idempotency keys before this instant are forgotten.
    pub keys_before: DateTime<Utc>,
}

/// What was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// Number of executions.
    pub executions: u64,
    /// Number of audit entries.
    pub audit_entries: u64,
    /// Number of idempotency keys, besides those that went with their executions.
    pub keys: u64,
}

/// Accepts and shows executions.
#[async_trait]
pub trait ExecutionStore {
    /// Accepts an execution: rows, body, idempotency key and audit entry in one transaction.
    ///
    /// When this answers `Created`, the execution survives any crash. After an error with unknown
    /// outcome, submitting the same ids again is safe: it answers `Created` too, once.
    async fn submit(&self, scope: &Scope, submission: Submission) -> StoreResult<Submitted>;

    /// What was accepted before under an idempotency key, for this request or another one.
    async fn submitted(&self, scope: &Scope, key: &str, request: &[u8; 32]) -> StoreResult<Option<Submitted>>;

    /// The execution that the selector names.
    async fn execution(&self, scope: &Scope, selector: &Selector) -> StoreResult<Execution>;

    /// Executions, newest first.
    async fn executions(
        &self,
        scope: &Scope,
        filter: &ExecutionFilter,
        page: PageRequest,
    ) -> StoreResult<Page<Execution>>;

    /// Steps of an execution, by ordinal: those with an ordinal from `from` on, at most `limit`.
    async fn steps(
        &self,
        scope: &Scope,
        execution: ExecutionId,
        filter: &StepFilter,
        from: u32,
        limit: u32,
    ) -> StoreResult<Vec<Step>>;

    /// The execution and the steps that changed after `rev`; `None` if nothing did.
    async fn changes(&self, scope: &Scope, execution: ExecutionId, rev: u64) -> StoreResult<Option<ExecutionChange>>;

    /// Asks for an execution to be cancelled, with its audit entry.
    ///
    /// `queued` and `waiting` ones end here, their pending steps with them; for `running` ones the
    /// request is noted and reaches the worker through [`QueueStore::renew`]. It is noted as well where
    /// a dead worker left a step in flight: whoever takes the execution up next looks after its
    /// processes first. Asking twice is the same as once, and what changes nothing is not audited.
    async fn cancel(
        &self,
        scope: &Scope,
        execution: ExecutionId,
        at: DateTime<Utc>,
        audit: &AuditEntry,
    ) -> StoreResult<Cancelled>;

    /// Deletes an ended execution with its steps; one that has not ended is `Conflict`.
    async fn delete_execution(&self, scope: &Scope, execution: ExecutionId, audit: &AuditEntry) -> StoreResult<()>;

    /// The executions that the policy gives up, oldest first, at most `limit`. Their output is deleted
    /// before their rows, so that whatever happens in between, something still names it.
    async fn given_up(&self, scope: &Scope, policy: &PrunePolicy, limit: u32) -> StoreResult<Vec<ExecutionId>>;

    /// Deletes these executions, as far as they have ended, and of old unsealed audit entries and old idempotency
    /// keys at most `limit` each, so call it again while there are as many. Gives freed space back to
    /// the disk. If there was nothing to delete, nothing is audited.
    async fn prune(
        &self,
        scope: &Scope,
        executions: &[ExecutionId],
        policy: &PrunePolicy,
        limit: u32,
        audit: &AuditEntry,
    ) -> StoreResult<PruneReport>;

    /// How many executions are due before this one and not yet taken.
    async fn queued_before(&self, scope: &Scope, execution: &Execution) -> StoreResult<u64>;

    /// How many executions of the project stand so.
    async fn count_by_status(&self, scope: &Scope, status: ExecutionStatus) -> StoreResult<u64>;
}

/// A worker that registers itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerRegistration {
    /// Identifies the worker.
    pub id: WorkerId,
    /// For people: host and process id.
    pub name: String,
    /// How many executions it drives at once.
    pub slots: u32,
    /// Whether it takes only executions whose home it is.
    pub home_only: bool,
    /// When it started.
    pub started_at: DateTime<Utc>,
}

/// A registered worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// What it said of itself.
    pub registration: WorkerRegistration,
    /// Whether it is alive.
    pub alive: bool,
}

/// An execution handed to a worker.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The right to drive it.
    pub lease: Lease,
    /// The execution, `running`.
    pub execution: Execution,
    /// All its steps, by ordinal.
    pub steps: Vec<Step>,
}

/// What a worker hears about an execution that it drives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The lease holds.
    Held,
    /// The lease holds, and someone wants the execution cancelled.
    CancelRequested,
    /// The lease is gone: kill, and write nothing.
    Lost,
}

/// What a worker hears about its leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewals {
    /// About each lease that it named, in the same order.
    pub named: Vec<Renewal>,
    /// Leases that it holds as well and did not name: claims whose answer was lost, or is on its way.
    pub others: Vec<Lease>,
}

/// What was taken back from dead workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reaped {
    /// Executions that are queued again.
    pub requeued: u64,
    /// Executions that ended `lost`.
    pub lost: u64,
    /// Steps that ended `lost` with them.
    pub lost_steps: u64,
}

impl Reaped {
    /// How many executions were touched.
    #[must_use]
    pub const fn executions(&self) -> u64 {
        self.requeued + self.lost
    }
}

/// Hands executions to workers, and takes them back from dead ones.
#[async_trait]
pub trait QueueStore {
    /// How long a worker's lease lasts after it was renewed; `None` where leases do not run out.
    fn lease_length(&self) -> Option<Duration>;

    /// Registers a worker; it counts as alive until [`retire`](QueueStore::retire) or until it dies.
    ///
    /// How its death shows is the store's business: a lock that the operating system releases, or
    /// a lease that runs out by the database's clock.
    async fn register(&self, scope: &Scope, worker: &WorkerRegistration) -> StoreResult<()>;

    /// Takes a worker's leave: it holds nothing any more and does not count.
    async fn retire(&self, scope: &Scope, worker: WorkerId) -> StoreResult<()>;

    /// All registered workers.
    async fn workers(&self, scope: &Scope) -> StoreResult<Vec<Worker>>;

    /// Takes up to `limit` due executions, oldest wake first: they become `running`, with a lease
    /// for this worker under a new epoch. Fewer than are due where their steps are many: whoever has
    /// slots left asks again until nothing comes.
    ///
    /// Atomic: no two callers receive the same execution.
    async fn claim(&self, scope: &Scope, worker: WorkerId, limit: u32, now: DateTime<Utc>)
    -> StoreResult<Vec<Claimed>>;

    /// When the next execution that this worker may take is due, if there is one.
    async fn next_wake(&self, scope: &Scope, worker: WorkerId) -> StoreResult<Option<DateTime<Utc>>>;

    /// Whether something waits that was kept for a worker that is gone: any worker that does not take
    /// only its own may have it.
    async fn orphans_wait(&self, scope: &Scope) -> StoreResult<bool>;

    /// Shows that the worker lives, extends its leases, and tells about each that is named here, and
    /// which others it holds.
    async fn renew(&self, scope: &Scope, worker: WorkerId, leases: &[Lease]) -> StoreResult<Renewals>;

    /// Takes back what dead workers hold: those executions become `queued` again, due at once. One
    /// whose worker died for the `max_claims`th time ends `lost`, `attempts_exhausted`, its unfinished
    /// steps with it. If a step of it is in flight, it is `queued` with that reason first, and keeps
    /// the reason when it is claimed: whoever takes it up starts nothing, and looks after the
    /// processes. When its workers die at that too, until it is twenty times `max_claims`, it ends all
    /// the same, those steps with `kill: unconfirmed`. Claims that ended otherwise do not count.
    async fn reap(&self, scope: &Scope, max_claims: u64, now: DateTime<Utc>) -> StoreResult<Reaped>;
}

/// A step that is about to be started.
#[derive(Clone, Debug)]
pub struct StepStart {
    /// Which.
    pub step: StepId,
    /// What its processes will be found by; jobs have none.
    pub handle: Option<Handle>,
    /// When.
    pub at: DateTime<Utc>,
}

/// Why a step that was started has not begun yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepNote {
    /// Which.
    pub step: StepId,
    /// What it waits for, in words; `None`: for nothing any more.
    pub waits_for: Option<String>,
}

/// How a step ended.
#[derive(Clone, Debug)]
pub struct StepEnd {
    /// Which.
    pub step: StepId,
    /// How: a terminal status.
    pub status: StepStatus,
    /// Why.
    pub reason: Option<Reason>,
    /// In words.
    pub detail: Option<String>,
    /// The code of the error that ended it.
    pub error: Option<ErrorCode>,
    /// Its exit code.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<String>,
    /// What became of its processes, where they were killed.
    pub kill: Option<Kill>,
    /// When.
    pub at: DateTime<Utc>,
    /// Bytes that the process wrote.
    pub output_bytes: u64,
    /// Bytes of them that were cut out.
    pub output_dropped: u64,
}

/// How an execution ended.
#[derive(Clone, Debug)]
pub struct Finish {
    /// How: a terminal status.
    pub status: ExecutionStatus,
    /// Why.
    pub reason: Option<Reason>,
    /// In words.
    pub detail: Option<String>,
    /// How its steps stand.
    pub counts: Counts,
    /// When.
    pub at: DateTime<Utc>,
}

/// What the row of an execution that has just ended says, and its worker cannot know: others may
/// have asked to cancel it meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// See [`Execution::rev`].
    pub rev: u64,
    /// See [`Execution::wake_at`].
    pub wake_at: DateTime<Utc>,
    /// See [`Execution::cancel_requested_at`].
    pub cancel_requested_at: Option<DateTime<Utc>>,
}

/// Journals what a worker does, under its lease.
///
/// Each method is one transaction, and checks the lease's epoch in it: `LeaseLost` means that
/// nothing was written and nothing may be written any more. Each raises the execution's `rev` by
/// one and stamps what it changed.
#[async_trait]
pub trait JournalStore {
    /// Notes that steps are about to be started.
    async fn start_steps(&self, scope: &Scope, lease: &Lease, starts: &[StepStart]) -> StoreResult<()>;

    /// Notes what started steps wait for, as their `detail`. A step that does not run keeps its own.
    async fn note_steps(&self, scope: &Scope, lease: &Lease, notes: &[StepNote]) -> StoreResult<()>;

    /// Notes how steps ended, adds the attempts that follow, and ends the execution if `finish` is given.
    ///
    /// A step that has ended keeps its first end, and the very same `finish` may be written again
    /// after an answer that was lost. With `finish` the answer tells of the row as it stands then.
    async fn end_steps(
        &self,
        scope: &Scope,
        lease: &Lease,
        ends: &[StepEnd],
        next: &[Step],
        finish: Option<&Finish>,
    ) -> StoreResult<Option<Ended>>;

    /// Gives the execution back until `wake_at`: `waiting`, without a worker.
    async fn park(&self, scope: &Scope, lease: &Lease, wake_at: DateTime<Utc>, reason: Reason) -> StoreResult<()>;

    /// Gives the execution back as it is: `queued`, due at once, for another worker.
    async fn hand_back(&self, scope: &Scope, lease: &Lease, now: DateTime<Utc>) -> StoreResult<()>;
}

/// Drives claimed executions: the engine's side of dispatch.
#[async_trait]
pub trait Drive: Debug + Send + Sync + 'static {
    /// Waits for a free slot and for due executions, and takes some. Never fails: trouble with the
    /// store is waited out. Dropping the future loses nothing that was claimed.
    async fn next(&self) -> Vec<Claimed>;

    /// Starts to drive an execution in a task of its own, and returns at once.
    fn start(&self, claimed: Claimed);
}

/// What moves claimed executions from the store to the engine, until it is stopped.
#[async_trait]
pub trait Dispatcher: Debug + Send + Sync + 'static {
    /// Asks `drive` for executions and hands each one to [`Drive::start`], until `stop` fires.
    /// Survives its own faults; `name` names the worker in logs.
    async fn run(&self, name: &str, drive: Arc<dyn Drive>, stop: CancellationToken);
}
