//! What executions write, and how they change: streams.

use birun_core::execution::{FollowFrom, LogCursor, Stream};
use birun_core::id::Selector;
use birun_core::{Error, Result};
use poem::http::header::ACCEPT;
use poem::{Body, Request};
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::Binary;
use poem_openapi::{ApiResponse, OpenApi, ResponseContent};

use crate::answer::ApiError;
use crate::answer::errors::SELECTED;
use crate::auth::Caller;
use crate::document::Tag;
use crate::dto::output::{ExecutionChange, OutputLine};
use crate::dto::parsed;
use crate::schema::Word;
use crate::stream::change::Changes;
use crate::stream::output::{Events, Lines, OutputFilter, Raw, Reading};
use crate::stream::{self, EventStream, JsonLines};

/// Operations that follow executions.
pub(crate) struct Logs;

/// Output as it was asked for.
#[derive(ApiResponse)]
enum Output {
    /// The output, in order. It ends with a last line that says how the execution stands; a stream that breaks off
    /// without it was cut.
    #[oai(status = 200)]
    Output(Form),
}

/// The forms of output.
#[derive(ResponseContent)]
enum Form {
    #[oai(content_type = "application/x-ndjson")]
    Lines(JsonLines<OutputLine>),
    #[oai(content_type = "text/event-stream")]
    Events(EventStream<OutputLine>),
    #[oai(content_type = "application/octet-stream")]
    Raw(Binary<Body>),
}

/// Changes as events.
#[derive(ApiResponse)]
enum ChangeEvents {
    /// The changes, in order. It ends with an event that says how the execution stands.
    #[oai(status = 200)]
    Changes(EventStream<ExecutionChange>),
}

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Executions")]
impl Logs {
    /// Read or follow output
    ///
    /// One JSON object a line. With `Accept: text/event-stream`, server-sent events: `record`, then `end`, with `seq`
    /// as their id, and a comment every 15 seconds. With `raw`, the bytes alone, as the processes wrote them.
    #[oai(path = "/executions/:id/logs", method = "get", operation_id = "get_logs")]
    #[expect(clippy::too_many_arguments, reason = "each is a parameter of its own")]
    async fn logs(
        &self,
        Caller(gate): Caller,
        request: &Request,
        /// Id, or part of an id.
        id: Path<String>,
        /// Only records after this `seq`.
        after: Query<Option<u64>>,
        /// Waits for more until the execution has ended, instead of ending with what there is now.
        follow: Query<Option<bool>>,
        /// Only output of this step, by id or part of an id.
        step: Query<Option<String>>,
        /// Only output of steps on this target.
        target: Query<Option<String>>,
        /// Only this stream.
        stream: Query<Option<Word<Stream>>>,
        /// The bytes alone.
        raw: Query<Option<bool>>,
        /// Where an event stream goes on; counts more than `after`.
        #[oai(name = "Last-Event-ID")]
        last_event_id: Header<Option<u64>>,
    ) -> Result<Output, ApiError<SELECTED>> {
        let filter = OutputFilter {
            step: step.0.as_deref().map(step_selector).transpose()?,
            target: target.0,
            stream: stream.0.map(|word| word.0),
        };
        let handle = gate.attach(&id.parse()?).await?;
        let after = last_event_id.0.or(after.0).unwrap_or_default();
        let reading = Reading::new(filter, handle.execution().status, after);
        let now_only = !follow.0.unwrap_or_default();
        let events = handle.follow(FollowFrom { rev: 0, output: Some(LogCursor(after)), now_only });
        Ok(Output::Output(if raw.0.unwrap_or_default() {
            Form::Raw(Binary(stream::body(request, events, Raw(reading))))
        } else if wants_events(request) {
            Form::Events(stream::body(request, events, Events(reading)).into())
        } else {
            Form::Lines(stream::body(request, events, Lines(reading)).into())
        }))
    }

    /// Follow changes of an execution
    ///
    /// Server-sent events: `change` with the execution and the steps that changed, several changes perhaps in one;
    /// then `end`. Their id is `rev`. A comment every 15 seconds.
    #[oai(path = "/executions/:id/events", method = "get", operation_id = "get_events")]
    async fn events(
        &self,
        Caller(gate): Caller,
        request: &Request,
        /// Id, or part of an id.
        id: Path<String>,
        /// Only changes after this `rev`.
        after: Query<Option<u64>>,
        /// Where the stream goes on; counts more than `after`.
        #[oai(name = "Last-Event-ID")]
        last_event_id: Header<Option<u64>>,
    ) -> Result<ChangeEvents, ApiError<SELECTED>> {
        let handle = gate.attach(&id.parse()?).await?;
        let rev = last_event_id.0.or(after.0).unwrap_or_default();
        let events = handle.follow(FollowFrom { rev, output: None, now_only: false });
        let changes = Changes::new(handle.execution().status, rev);
        Ok(ChangeEvents::Changes(stream::body(request, events, changes).into()))
    }
}

/// Whether the caller asks for server-sent events.
fn wants_events(request: &Request) -> bool {
    let accepted = request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(names_events)
}

/// Whether one part of an `Accept` header asks for server-sent events; with a weight of 0 it asks for anything else.
fn names_events(part: &str) -> bool {
    let mut parameters = part.split(';').map(str::trim);
    let named = parameters.next().is_some_and(|media| media.eq_ignore_ascii_case("text/event-stream"));
    let weight = parameters.find_map(|parameter| parameter.strip_prefix("q="));
    named && weight.is_none_or(|weight| weight.trim().parse::<f32>().is_ok_and(|weight| weight > 0.0))
}

fn step_selector(text: &str) -> Result<Selector> {
    match parsed("step", text)? {
        Selector::Name(_) => Err(Error::invalid_field("step", "is not the id of a step")),
        selector => Ok(selector),
    }
}
