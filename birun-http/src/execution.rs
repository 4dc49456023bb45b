//! Executions and their steps.

use birun_core::execution::follow::RunHandle;
use birun_core::execution::{self, ExecutionFilter, ExecutionKind, RetryOptions, StepFilter};
use birun_core::id::{ScriptId, Selector};
use birun_core::{Error, ErrorCode, Gate, Result};
use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::Json;

use crate::answer::errors::{BODY, CONFLICT, FORBIDDEN, INVALID, MALFORMED, RATE_LIMITED, SELECTED};
use crate::answer::{Accepted, ApiError, Deleted, Found, Links, Listed, Started, page_request};
use crate::auth::Caller;
use crate::body::{Body, LARGE};
use crate::document::Tag;
use crate::dto::execution::Execution;
use crate::dto::preview::Preview;
use crate::dto::run::{NewExecution, Retry};
use crate::dto::step::{Step, Steps};
use crate::dto::{parsed, words};
use crate::schema::{Timestamp, Word};

/// Steps on a page when the caller does not say.
const STEPS: u32 = 1000;
/// Longest idempotency key, in bytes.
const MAX_KEY: usize = 255;

/// The list's name in paths.
const LIST: &str = "executions";

/// Operations on executions.
pub(crate) struct Executions;

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Executions")]
impl Executions {
    /// List executions
    #[oai(path = "/executions", method = "get", operation_id = "list_executions")]
    #[expect(clippy::too_many_arguments, reason = "each is a query parameter of its own")]
    async fn list(
        &self,
        Caller(gate): Caller,
        /// Items on the page: 1 to 200, default 50.
        limit: Query<Option<u32>>,
        /// The `next` of the page before.
        cursor: Query<Option<String>>,
        /// Only these statuses, separated by commas: `failed,lost`.
        status: Query<Option<String>>,
        /// Only this kind.
        kind: Query<Option<Word<ExecutionKind>>>,
        /// Only runs of this script, by name or id; a deleted script by its full id.
        script: Query<Option<String>>,
        /// Only executions accepted at or after this instant.
        since: Query<Option<Timestamp>>,
        /// Only executions accepted before this instant.
        until: Query<Option<Timestamp>>,
    ) -> Result<Listed<Execution>, ApiError<{ MALFORMED | CONFLICT | INVALID }>> {
        let filter = ExecutionFilter {
            status: words("status", status.0.as_deref())?,
            kind: kind.0.map(|word| word.0),
            script: script_id(&gate, script.0.as_deref()).await?,
            since: since.0.map(|instant| instant.0),
            until: until.0.map(|instant| instant.0),
        };
        let page = gate.executions(&filter, page_request(LIST, limit.0, cursor.0.as_deref())?).await?;
        Ok(Listed::of(LIST, page, Execution::from))
    }

    /// Start an execution
    ///
    /// When this answers, the execution survives any crash. Follow it with its `logs` and `events`.
    #[oai(path = "/executions", method = "post", operation_id = "create_execution")]
    async fn create(
        &self,
        Caller(gate): Caller,
        Data(links): Data<&Links>,
        /// A key of the caller's: the same key and body are accepted once, and `Idempotency-Replayed` says so.
        #[oai(name = "Idempotency-Key")]
        key: Header<Option<String>>,
        body: Body<NewExecution, LARGE>,
    ) -> Result<Started<Execution>, ApiError<{ BODY | FORBIDDEN | CONFLICT | RATE_LIMITED }>> {
        let mut run = body.0.into_core()?;
        if let Some(key) = idempotency_key(key.0)? {
            run = run.idempotency_key(key);
        }
        started(&gate, links, &gate.run(run).await?).await
    }

    /// Preview an execution
    ///
    /// The targets that it would have, after the same checks; nothing is started. A random order is drawn anew.
    #[oai(path = "/executions/preview", method = "post", operation_id = "preview_execution")]
    async fn preview(
        &self,
        Caller(gate): Caller,
        body: Body<NewExecution, LARGE>,
    ) -> Result<Found<Preview>, ApiError<{ BODY | FORBIDDEN | CONFLICT }>> {
        let preview = gate.preview(&body.0.into_core()?).await?;
        Ok(Found::Found(Json(preview.into())))
    }

    /// Get an execution
    #[oai(path = "/executions/:id", method = "get", operation_id = "get_execution")]
    async fn get(
        &self,
        Caller(gate): Caller,
        /// Id, or part of an id.
        id: Path<String>,
    ) -> Result<Found<Execution>, ApiError<SELECTED>> {
        let execution = gate.execution(&id.parse()?).await?;
        let why = gate.why(&execution).await?;
        Ok(Found::Found(Json(Execution::from(execution).because(why))))
    }

    /// List the steps of an execution, by ordinal
    #[oai(path = "/executions/:id/steps", method = "get", operation_id = "list_steps")]
    #[expect(clippy::too_many_arguments, reason = "each is a query parameter of its own")]
    async fn steps(
        &self,
        Caller(gate): Caller,
        /// Id, or part of an id.
        id: Path<String>,
        /// Only these statuses, separated by commas.
        status: Query<Option<String>>,
        /// Only steps on this target.
        target: Query<Option<String>>,
        /// Only the newest attempt on each target.
        newest_attempt: Query<Option<bool>>,
        /// Only steps with this ordinal or a higher one: the `next` of the page before.
        from: Query<Option<u32>>,
        /// Items on the page: 1 to 10000, default 1000.
        limit: Query<Option<u32>>,
    ) -> Result<Found<Steps>, ApiError<SELECTED>> {
        let filter = StepFilter {
            status: words("status", status.0.as_deref())?,
            target: target.0,
            newest_attempt: newest_attempt.0.unwrap_or_default(),
        };
        let limit = limit.0.unwrap_or(STEPS);
        let steps = gate.steps(&id.parse()?, &filter, from.0.unwrap_or_default(), limit).await?;
        let full = steps.len() == limit as usize;
        let next = steps.last().filter(|_| full).map(|step| step.ordinal + 1);
        Ok(Found::Found(Json(Steps { items: steps.into_iter().map(Step::from).collect(), next })))
    }

    /// Cancel an execution
    ///
    /// One that runs ends `cancelled` a little later, when its processes are gone. Asking twice is the same as once.
    #[oai(path = "/executions/:id/cancel", method = "post", operation_id = "cancel_execution")]
    async fn cancel(
        &self,
        Caller(gate): Caller,
        Data(links): Data<&Links>,
        /// Id, or part of an id.
        id: Path<String>,
    ) -> Result<Accepted<Execution>, ApiError<{ SELECTED | FORBIDDEN }>> {
        let execution = gate.cancel(&id.parse()?).await?;
        let (execution, location) = located(&gate, links, execution).await?;
        Ok(Accepted::Accepted(execution, location))
    }

    /// Run an ended execution again
    ///
    /// With the same program, parameters and targets.
    #[oai(path = "/executions/:id/retry", method = "post", operation_id = "retry_execution")]
    async fn retry(
        &self,
        Caller(gate): Caller,
        Data(links): Data<&Links>,
        /// Id, or part of an id.
        id: Path<String>,
        /// A key of the caller's: the same key and body are accepted once, and `Idempotency-Replayed` says so.
        #[oai(name = "Idempotency-Key")]
        key: Header<Option<String>>,
        body: Body<Retry>,
    ) -> Result<Started<Execution>, ApiError<{ SELECTED | BODY | FORBIDDEN | RATE_LIMITED }>> {
        let options = RetryOptions { failed_only: body.0.failed_only, idempotency_key: idempotency_key(key.0)? };
        started(&gate, links, &gate.retry(&id.parse()?, options).await?).await
    }

    /// Delete an ended execution
    ///
    /// With its steps and its output.
    #[oai(path = "/executions/:id", method = "delete", operation_id = "delete_execution")]
    async fn delete(
        &self,
        Caller(gate): Caller,
        /// Id, or part of an id.
        id: Path<String>,
    ) -> Result<Deleted, ApiError<{ SELECTED | FORBIDDEN }>> {
        gate.delete_execution(&id.parse()?).await?;
        Ok(Deleted::Deleted)
    }
}

async fn started<const E: u16>(
    gate: &Gate,
    links: &Links,
    handle: &RunHandle,
) -> Result<Started<Execution>, ApiError<E>> {
    let (execution, location) = located(gate, links, handle.execution().clone()).await?;
    Ok(Started::Started(execution, location, handle.was_accepted_before().then_some(true)))
}

/// An execution as it is answered, and where it is.
async fn located(gate: &Gate, links: &Links, execution: execution::Execution) -> Result<(Json<Execution>, String)> {
    let location = links.to("executions", execution.id);
    let why = gate.why(&execution).await?;
    Ok((Json(Execution::from(execution).because(why)), location))
}

/// The script that a filter names. A full id is taken as it is: the script may be deleted.
async fn script_id(gate: &Gate, text: Option<&str>) -> Result<Option<ScriptId>> {
    match text.map(|text| parsed::<Selector>("script", text)).transpose()? {
        None => Ok(None),
        Some(Selector::Id(id)) => Ok(Some(ScriptId::from_uuid(id))),
        Some(selector) => Ok(Some(gate.script(&selector).await?.id)),
    }
}

fn idempotency_key(key: Option<String>) -> Result<Option<String>> {
    match key {
        Some(key) if key.is_empty() || key.len() > MAX_KEY || !key.chars().all(|c| c.is_ascii_graphic()) => {
            let why = format!("must be 1 to {MAX_KEY} visible ASCII characters");
            Err(Error::new(ErrorCode::Malformed, format!("Idempotency-Key: {why}")).with_field("Idempotency-Key", why))
        }
        key => Ok(key),
    }
}
