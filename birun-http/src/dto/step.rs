//! Steps on the wire.

use birun_core::ErrorCode;
use birun_core::execution::{self, Reason, StepStatus};
use birun_core::inventory::advice;
use poem_openapi::{Enum, Object};
use uuid::Uuid;

use crate::schema::{Timestamp, Word};

/// One attempt on one target.
#[derive(Debug, Object)]
pub(crate) struct Step {
    /// Processes of the step carry it as `BIRUN_STEP_ID`.
    id: Uuid,
    /// The last eight hex digits of the id.
    short_id: String,
    execution_id: Uuid,
    /// Counts the steps of the execution from 0, attempts included; output names its step by it.
    pub(crate) ordinal: u32,
    /// Where the target stands in the execution's order, from 0; attempts share it.
    position: u32,
    /// `local`, or a server's name.
    target: String,
    /// The server, if the target is one.
    #[oai(nullable)]
    server_id: Option<Uuid>,
    /// Counts from 1.
    attempt: u32,
    status: Word<StepStatus>,
    /// Why, where the status alone does not say.
    #[oai(nullable)]
    reason: Option<Word<Reason>>,
    /// The reason in words.
    #[oai(nullable)]
    detail: Option<String>,
    /// The code of the error that ended it.
    #[oai(nullable)]
    error: Option<Word<ErrorCode>>,
    /// What can be done about that error, where a server could not be used.
    #[oai(nullable)]
    hint: Option<String>,
    /// The exit code, exactly.
    #[oai(nullable)]
    exit_code: Option<i32>,
    /// The signal that ended it, without `SIG`.
    #[oai(nullable)]
    signal: Option<String>,
    /// What became of its processes, where they were killed.
    #[oai(nullable)]
    kill: Option<Kill>,
    /// Not started before this instant (waits between attempts).
    #[oai(nullable)]
    not_before: Option<Timestamp>,
    #[oai(nullable)]
    started_at: Option<Timestamp>,
    #[oai(nullable)]
    finished_at: Option<Timestamp>,
    /// Bytes that the process wrote, both streams.
    output_bytes: u64,
    /// Bytes of them that were cut out.
    output_dropped: u64,
}

/// What became of processes that were to be killed.
#[derive(Debug, Object)]
pub(crate) struct Kill {
    result: KillResult,
    /// Why it is not confirmed, and what can be run to finish it.
    #[oai(skip_serializing_if_is_none)]
    detail: Option<String>,
}

/// `confirmed`: their end was observed. `gone`: there were none. `unconfirmed`: their end could not be observed.
#[derive(Clone, Copy, Debug, Enum)]
#[oai(rename_all = "snake_case")]
pub(crate) enum KillResult {
    Confirmed,
    Gone,
    Unconfirmed,
}

/// Steps of an execution, by ordinal.
#[derive(Debug, Object)]
pub(crate) struct Steps {
    /// The steps.
    pub(crate) items: Vec<Step>,
    /// What to send as `from` for the next page; `null` on the last one.
    #[oai(nullable)]
    pub(crate) next: Option<u32>,
}

impl From<execution::Step> for Step {
    fn from(step: execution::Step) -> Self {
        let hint = hint(&step);
        Self {
            id: step.id.as_uuid(),
            short_id: step.id.short(),
            execution_id: step.execution_id.as_uuid(),
            ordinal: step.ordinal,
            position: step.position,
            target: step.target.to_string(),
            server_id: step.server_id.map(Uuid::from),
            attempt: step.attempt,
            status: Word(step.status),
            reason: step.reason.map(Word),
            detail: step.detail,
            error: step.error.map(Word),
            hint,
            exit_code: step.exit_code,
            signal: step.signal,
            kill: step.kill.map(Kill::from),
            not_before: step.not_before.map(Timestamp),
            started_at: step.started_at.map(Timestamp),
            finished_at: step.finished_at.map(Timestamp),
            output_bytes: step.output_bytes,
            output_dropped: step.output_dropped,
        }
    }
}

fn hint(step: &execution::Step) -> Option<String> {
    step.server_id?;
    advice(step.error?, &step.target.to_string(), step.detail.as_deref().unwrap_or_default())
}

impl From<execution::Kill> for Kill {
    fn from(kill: execution::Kill) -> Self {
        match kill {
            execution::Kill::Confirmed => Self { result: KillResult::Confirmed, detail: None },
            execution::Kill::Gone => Self { result: KillResult::Gone, detail: None },
            execution::Kill::Unconfirmed { detail } => Self { result: KillResult::Unconfirmed, detail: Some(detail) },
        }
    }
}
