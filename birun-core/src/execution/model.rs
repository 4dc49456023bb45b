//! What an execution is made of.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::error::ErrorCode;
use crate::execution::{Handle, Kill, Strategy};
use crate::id::{ExecutionId, ProjectId, ScriptId, ServerId, StepId, WorkerId};
use crate::identity::Actor;
use crate::inventory::TargetName;
use crate::script::{ContentHash, EnvName, Interpreter, RunSettings};
use crate::text_enum::text_enum;
use crate::vault::Sealed;

text_enum! {
    /// What kind of work an execution is.
    pub enum ExecutionKind {
        /// A stored script, or one sent along.
        Script = "script",
        /// A command line.
        Command = "command",
        /// A closure that the embedding program registered.
        Job = "job",
    }
}

text_enum! {
    /// How an execution stands.
    pub enum ExecutionStatus {
        /// Accepted; no worker has it.
        Queued = "queued",
        /// No step runs and the next wake is some time away; no worker has it.
        Waiting = "waiting",
        /// A worker drives it.
        Running = "running",
        /// Every step succeeded.
        Succeeded = "succeeded",
        /// Something did not succeed.
        Failed = "failed",
        /// Someone cancelled it.
        Cancelled = "cancelled",
        /// It ran out of time.
        TimedOut = "timed_out",
        /// We do not know how it ended.
        Lost = "lost",
        /// It was not run, for a reason.
        Skipped = "skipped",
    }
}

impl ExecutionStatus {
    /// Whether the execution has ended. What has ended never changes again.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        !matches!(self, Self::Queued | Self::Waiting | Self::Running)
    }
}

text_enum! {
    /// How a step stands.
    pub enum StepStatus {
        /// Not started.
        Pending = "pending",
        /// Started, as far as we know.
        Running = "running",
        /// It ended well.
        Succeeded = "succeeded",
        /// It ended otherwise.
        Failed = "failed",
        /// It was stopped, or never started, because someone cancelled.
        Cancelled = "cancelled",
        /// It ran out of time.
        TimedOut = "timed_out",
        /// Its target could not be reached; nothing was started there.
        Unreachable = "unreachable",
        /// It was started, and we do not know how it ended.
        Lost = "lost",
        /// It was not started, for a reason.
        Skipped = "skipped",
    }
}

impl StepStatus {
    /// Whether the step has ended.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }
}

text_enum! {
    /// Why an execution or step stands as it does, where the status alone does not say.
    #[non_exhaustive]
    pub enum Reason {
        /// The exit code is not among those that are a success.
        ExitCode = "exit_code",
        /// A signal ended it.
        Signal = "signal",
        /// At least one step did not succeed.
        StepsFailed = "steps_failed",
        /// A person cancelled it.
        CancelRequested = "cancel_requested",
        /// The worker was told to stop and the drain time ran out.
        WorkerStopped = "worker_stopped",
        /// The attempt's limit was reached.
        AttemptTimeout = "attempt_timeout",
        /// The execution's limit was reached.
        ExecutionTimeout = "execution_timeout",
        /// Its worker died.
        WorkerDied = "worker_died",
        /// The link to the target broke.
        LinkLost = "link_lost",
        /// The target closed the channel without an exit status.
        NoExitStatus = "no_exit_status",
        /// The server was started again while a detached program ran there.
        HostRebooted = "host_rebooted",
        /// What the server kept of a detached program is gone.
        RunDirectoryGone = "run_directory_gone",
        /// It was started too often without an end.
        AttemptsExhausted = "attempts_exhausted",
        /// The target could not be reached.
        Unreachable = "unreachable",
        /// Too many targets had failed before.
        MaxFailures = "max_failures",
        /// Another target had succeeded before, and one is enough.
        FirstSuccess = "first_success",
        /// An earlier target is lost: its work may have been done, and may not be repeated elsewhere.
        TargetLost = "target_lost",
        /// The server is in maintenance.
        Maintenance = "maintenance",
        /// It wrote more output than allowed.
        OutputLimit = "output_limit",
        /// Its output could not be stored.
        StorageFull = "storage_full",
        /// The program could not be started.
        SpawnFailed = "spawn_failed",
        /// The closure answered an error.
        JobFailed = "job_failed",
        /// The closure panicked.
        JobPanicked = "job_panicked",
        /// It waits for the next attempt.
        RetryScheduled = "retry_scheduled",
        /// birun itself is at fault; the detail says how.
        Internal = "internal",
    }
}

text_enum! {
    /// What started an execution.
    pub enum Trigger {
        /// A person or program asked for it.
        Manual = "manual",
        /// It repeats an earlier one.
        Retry = "retry",
    }
}

/// What an execution runs, as records and people name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The script's name, the job's name, or the first line of the command or file.
    pub title: String,
    /// The stored script, if it is one.
    pub script: Option<(ScriptId, u32)>,
}

/// The program of an execution, fixed when it was submitted.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Program {
    /// A body, run by an interpreter on a target.
    Script {
        /// The body's hash in hex.
        content: ContentHash,
        /// What runs it.
        interpreter: Interpreter,
    },
    /// A registered closure.
    Job {
        /// Its name.
        name: String,
    },
}

/// Everything about an execution that is fixed when it is submitted and that only workers read.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Plan {
    /// What is run.
    pub program: Program,
    /// How attempts are run and judged.
    pub settings: RunSettings,
    /// Limit of the whole execution, in milliseconds.
    pub timeout_ms: u64,
}

/// The right to drive an execution: whose writes count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The execution.
    pub execution: ExecutionId,
    /// Who drives it.
    pub worker: WorkerId,
    /// Rises by one with each claim; a write with an older epoch changes nothing.
    pub epoch: u64,
}

/// How many steps stand how. Only the newest attempt of each target counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Targets in all.
    pub total: u32,
    /// Not started.
    pub pending: u32,
    /// Started.
    pub running: u32,
    /// Ended well.
    pub succeeded: u32,
    /// Ended with a failure.
    pub failed: u32,
    /// Cancelled.
    pub cancelled: u32,
    /// Ran out of time.
    pub timed_out: u32,
    /// Could not be reached.
    pub unreachable: u32,
    /// End unknown.
    pub lost: u32,
    /// Not run, for a reason.
    pub skipped: u32,
}

impl Counts {
    /// Counts statuses.
    #[must_use]
    pub fn of(statuses: impl IntoIterator<Item = StepStatus>) -> Self {
        let mut counts = Self::default();
        for status in statuses {
            counts.total += 1;
            *counts.slot(status) += 1;
        }
        counts
    }

    /// A step moves from one status to another.
    pub(super) fn moved(&mut self, from: StepStatus, to: StepStatus) {
        let slot = self.slot(from);
        *slot = slot.saturating_sub(1);
        *self.slot(to) += 1;
    }

    /// How many have ended.
    pub(super) const fn ended(&self) -> u32 {
        self.total - self.pending - self.running
    }

    fn slot(&mut self, status: StepStatus) -> &mut u32 {
        match status {
            StepStatus::Pending => &mut self.pending,
            StepStatus::Running => &mut self.running,
            StepStatus::Succeeded => &mut self.succeeded,
            StepStatus::Failed => &mut self.failed,
            StepStatus::Cancelled => &mut self.cancelled,
            StepStatus::TimedOut => &mut self.timed_out,
            StepStatus::Unreachable => &mut self.unreachable,
            StepStatus::Lost => &mut self.lost,
            StepStatus::Skipped => &mut self.skipped,
        }
    }
}

/// One run of something, as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Execution {
    /// Identifies the execution.
    pub id: ExecutionId,
    /// The project it belongs to.
    pub project_id: ProjectId,
    /// What kind of work.
    pub kind: ExecutionKind,
    /// What it runs.
    pub subject: Subject,
    /// Parameters by name; secret ones as `"***"`.
    pub params: BTreeMap<EnvName, Value>,
    /// The secret parameters: a sealed JSON object of texts.
    pub secrets: Option<Sealed>,
    /// The target expression as given.
    pub targets: String,
    /// How it goes through its targets.
    pub strategy: Strategy,
    /// What workers need to know.
    pub plan: Plan,
    /// What started it.
    pub trigger: Trigger,
    /// Who asked for it.
    pub actor: Actor,
    /// The execution that this one repeats.
    pub retry_of: Option<ExecutionId>,
    /// How it stands.
    pub status: ExecutionStatus,
    /// Why, where the status alone does not say.
    pub reason: Option<Reason>,
    /// A sentence for people: an error's message, a limit, a phase.
    pub detail: Option<String>,
    /// How its steps stand; kept up to date when it ends, computed from the steps before.
    pub counts: Counts,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// When a worker first took it up.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// When someone asked to cancel it.
    pub cancel_requested_at: Option<DateTime<Utc>>,
    /// When it is due for a worker; has a meaning while `queued` or `waiting`.
    pub wake_at: DateTime<Utc>,
    /// The worker that it is kept for, while that worker lives. `None`: any.
    pub home: Option<WorkerId>,
    /// Who drives it now.
    pub worker: Option<WorkerId>,
    /// How often it was claimed.
    pub epoch: u64,
    /// Rises with each change of the execution or its steps; see [`ExecutionChange`].
    pub rev: u64,
}

/// One attempt of one node on one target.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Identifies the step; processes that it starts carry it as `BIRUN_STEP_ID`.
    pub id: StepId,
    /// The execution it belongs to.
    pub execution_id: ExecutionId,
    /// Counts the steps of an execution from 0, attempts included. What its output is stored under.
    pub ordinal: u32,
    /// Where the target stands in the execution's order, from 0; attempts share it.
    pub position: u32,
    /// On what it runs.
    pub target: TargetName,
    /// The server, if the target is one.
    pub server_id: Option<ServerId>,
    /// Counts from 1.
    pub attempt: u32,
    /// How it stands.
    pub status: StepStatus,
    /// Why, where the status alone does not say.
    pub reason: Option<Reason>,
    /// A sentence for people. While the step runs: what it waits for, if a limit keeps it from beginning.
    pub detail: Option<String>,
    /// The code of the error that ended it, if one did.
    pub error: Option<ErrorCode>,
    /// The exit code, exactly.
    pub exit_code: Option<i32>,
    /// The name of the signal that ended it, without `SIG`.
    pub signal: Option<String>,
    /// How the processes ended, where they were killed.
    pub kill: Option<Kill>,
    /// What the executor finds its processes by; written before anything is started.
    pub handle: Option<Handle>,
    /// The claim under which it was started; 0 before.
    pub epoch: u64,
    /// Not started before this instant (waits between attempts).
    pub not_before: Option<DateTime<Utc>>,
    /// When it was started.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// Bytes that the process wrote, both streams.
    pub output_bytes: u64,
    /// Bytes of them that were cut out.
    pub output_dropped: u64,
    /// The execution's `rev` when the step last changed.
    pub rev: u64,
}

/// What changed in an execution after a `rev`.
#[derive(Clone, Debug)]
pub struct ExecutionChange {
    /// The execution as it is now; its `rev` is where the next question begins.
    pub execution: Execution,
    /// The steps that changed, as they are now, by `rev`.
    pub steps: Vec<Step>,
}

/// Which executions of a list.
#[derive(Clone, Debug, Default)]
pub struct ExecutionFilter {
    /// Only these statuses; empty = all.
    pub status: Vec<ExecutionStatus>,
    /// Only this kind.
    pub kind: Option<ExecutionKind>,
    /// Only runs of this script.
    pub script: Option<ScriptId>,
    /// Only executions accepted at or after this instant.
    pub since: Option<DateTime<Utc>>,
    /// Only executions accepted before this instant.
    pub until: Option<DateTime<Utc>>,
}

/// Which steps of an execution.
#[derive(Clone, Debug, Default)]
pub struct StepFilter {
    /// Only these statuses; empty = all.
    pub status: Vec<StepStatus>,
    /// Only steps on this target.
    pub target: Option<String>,
    /// Only the newest attempt on each target.
    pub newest_attempt: bool,
}
