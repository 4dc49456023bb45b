//! Executions on the wire.

use std::collections::BTreeMap;

use birun_core::execution::{self, ExecutionKind, ExecutionStatus, Reason, Trigger};
use poem_openapi::Object;
use serde_json::Value;
use uuid::Uuid;

use crate::dto::actor::Actor;
use crate::dto::settings::{Settings, text};
use crate::dto::strategy::Strategy;
use crate::schema::{Timestamp, Word};

/// One run of something, as it stands.
#[derive(Debug, Object)]
pub(crate) struct Execution {
    id: Uuid,
    /// The last eight hex digits of the id.
    short_id: String,
    project_id: Uuid,
    kind: Word<ExecutionKind>,
    /// The script's or job's name, or the first line of the command.
    title: String,
    /// The stored script, if it is one.
    #[oai(nullable)]
    script_id: Option<Uuid>,
    /// The version of the stored script.
    #[oai(nullable)]
    script_version: Option<u32>,
    /// Parameters by name; secret ones as `***`.
    params: BTreeMap<String, Value>,
    /// The target expression as it was given.
    targets: String,
    strategy: Strategy,
    /// Limit of the whole execution.
    timeout: String,
    settings: Settings,
    trigger: Word<Trigger>,
    /// Who asked for it.
    actor: Actor,
    /// The execution that this one repeats.
    #[oai(nullable)]
    retry_of: Option<Uuid>,
    status: Word<ExecutionStatus>,
    /// Why, where the status alone does not say.
    #[oai(nullable)]
    reason: Option<Word<Reason>>,
    /// The reason in words.
    #[oai(nullable)]
    detail: Option<String>,
    /// Why it does not go on, in words: what it waits for, or that its worker is gone; lists leave it out.
    #[oai(nullable)]
    why: Option<String>,
    counts: Counts,
    /// When it was accepted.
    created_at: Timestamp,
    /// When a worker first took it up.
    #[oai(nullable)]
    started_at: Option<Timestamp>,
    /// When it ended.
    #[oai(nullable)]
    finished_at: Option<Timestamp>,
    /// When someone asked to cancel it.
    #[oai(nullable)]
    cancel_requested_at: Option<Timestamp>,
    /// Who drives it now.
    #[oai(nullable)]
    worker_id: Option<Uuid>,
    /// How often a worker took it up.
    epoch: u64,
    /// Rises with each change of the execution or its steps.
    rev: u64,
}

impl From<execution::Execution> for Execution {
    fn from(execution: execution::Execution) -> Self {
        let (script_id, script_version) = execution.subject.script.unzip();
        Self {
            id: execution.id.as_uuid(),
            short_id: execution.id.short(),
            project_id: execution.project_id.as_uuid(),
            kind: Word(execution.kind),
            title: execution.subject.title,
            script_id: script_id.map(Uuid::from),
            script_version,
            params: execution.params.into_iter().map(|(name, value)| (name.to_string(), value)).collect(),
            targets: execution.targets,
            strategy: execution.strategy.into(),
            timeout: text(execution.plan.timeout_ms),
            settings: execution.plan.settings.into(),
            trigger: Word(execution.trigger),
            actor: execution.actor.into(),
            retry_of: execution.retry_of.map(Uuid::from),
            status: Word(execution.status),
            reason: execution.reason.map(Word),
            detail: execution.detail,
            why: None,
            counts: execution.counts.into(),
            created_at: execution.created_at.into(),
            started_at: execution.started_at.map(Timestamp),
            finished_at: execution.finished_at.map(Timestamp),
            cancel_requested_at: execution.cancel_requested_at.map(Timestamp),
            worker_id: execution.worker.map(Uuid::from),
            epoch: execution.epoch,
            rev: execution.rev,
        }
    }
}

impl Execution {
    /// Says why it does not go on.
    pub(crate) fn because(mut self, why: Option<String>) -> Self {
        self.why = why;
        self
    }
}

/// How many targets stand how; only the newest attempt on each counts.
#[derive(Clone, Copy, Debug, Object)]
pub(crate) struct Counts {
    total: u32,
    pending: u32,
    running: u32,
    succeeded: u32,
    failed: u32,
    cancelled: u32,
    timed_out: u32,
    unreachable: u32,
    lost: u32,
    skipped: u32,
}

impl From<execution::Counts> for Counts {
    fn from(counts: execution::Counts) -> Self {
        Self {
            total: counts.total,
            pending: counts.pending,
            running: counts.running,
            succeeded: counts.succeeded,
            failed: counts.failed,
            cancelled: counts.cancelled,
            timed_out: counts.timed_out,
            unreachable: counts.unreachable,
            lost: counts.lost,
            skipped: counts.skipped,
        }
    }
}
