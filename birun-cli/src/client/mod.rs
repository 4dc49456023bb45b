//! The client of birun's API. The same requests go over a socket to a server, or in process to an
//! embedded engine: commands do not see which.

mod follow;
mod in_process;
mod lines;
mod owner;
mod problem;
mod remote;
mod request;
mod sse;
mod suggest;
mod unreachable;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::{Value, json};

use crate::error::{CommandError, CommandResult};
use crate::ui::Ui;

pub(crate) use follow::{Happening, PATIENCE, Record};
pub(crate) use in_process::InProcess;
pub(crate) use owner::Owner;
pub(crate) use problem::Problem;
pub(crate) use remote::Remote;
pub(crate) use request::Request;
pub(crate) use suggest::Collection;

/// Items on one page, when many are wanted.
const PAGE: u32 = 200;

/// Steps on one page.
const STEPS: u32 = 1_000;

/// An answer's body, as it arrives.
pub(crate) type Body = BoxStream<'static, io::Result<Bytes>>;

/// What carries requests.
#[async_trait]
pub(crate) trait Transport: std::fmt::Debug + Send + Sync {
    /// What requests are addressed to: an origin without a trailing slash; empty in process.
    fn base(&self) -> &str;

    /// Sends a request and answers as soon as the head of the answer is there.
    async fn call(&self, request: http::Request<Bytes>) -> CommandResult<http::Response<Body>>;
}

/// The client of one birun.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    transport: Arc<dyn Transport>,
    /// Limit of each request that is not a stream.
    timeout: Duration,
}

/// What a request to start something was answered with.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) execution: Value,
    /// Nothing new was started: an earlier request under the same key was.
    pub(crate) before: bool,
}

impl Client {
    /// A client over a transport.
    pub(crate) fn new(transport: impl Transport + 'static, timeout: Duration) -> Self {
        Self { transport: Arc::new(transport), timeout }
    }

    /// Sends a request and reads the answer; one without a body is `null`.
    ///
    /// # Errors
    /// What the server refuses; when it cannot be reached or does not answer in time.
    pub(crate) async fn send(&self, request: Request) -> CommandResult<Value> {
        Ok(self.answer(request).await?.into_body())
    }

    /// Sends a request that starts an execution.
    ///
    /// # Errors
    /// As [`send`](Client::send).
    pub(crate) async fn start(&self, request: Request) -> CommandResult<Started> {
        let (head, execution) = self.answer(request).await?.into_parts();
        Ok(Started { execution, before: head.headers.contains_key("idempotency-replayed") })
    }

    /// Sends a request and reads the whole answer.
    async fn answer(&self, request: Request) -> CommandResult<http::Response<Value>> {
        let answer = async {
            let (head, body) = self.open(&request).await?.into_parts();
            let body = collect(body).await?;
            if body.is_empty() {
                return Ok(http::Response::from_parts(head, Value::Null));
            }
            let value = serde_json::from_slice(&body).map_err(|error| {
                CommandError::failed("the answer is not JSON; is this a birun server?").because(&error)
            })?;
            Ok(http::Response::from_parts(head, value))
        };
        if request.patient {
            return answer.await;
        }
        tokio::time::timeout(self.timeout, answer).await.unwrap_or_else(|_| Err(self.too_slow()))
    }

    /// Sends a request that changes something; on a dry run it is printed instead.
    ///
    /// # Errors
    /// As [`send`](Client::send).
    pub(crate) async fn change(&self, ui: &Ui, dry_run: bool, request: Request) -> CommandResult<Option<Value>> {
        if dry_run {
            ui.value(&request.preview()?)?;
            return Ok(None);
        }
        self.send(request).await.map(Some)
    }

    /// Opens a stream. Only the head of the answer is limited in time.
    ///
    /// # Errors
    /// As [`send`](Client::send).
    pub(crate) async fn stream(&self, request: &Request) -> CommandResult<Body> {
        let opened = tokio::time::timeout(self.timeout, self.open(request)).await;
        opened.unwrap_or_else(|_| Err(self.too_slow())).map(http::Response::into_body)
    }

    /// Reads a list, page after page, until `limit` items are there; `None` = all of them.
    ///
    /// # Errors
    /// As [`send`](Client::send).
    pub(crate) async fn list(&self, request: Request, limit: Option<u32>) -> CommandResult<Value> {
        let mut items: Vec<Value> = Vec::new();
        let mut next = Value::Null;
        loop {
            let missing = limit.map_or(PAGE, |limit| limit.saturating_sub(u32::try_from(items.len()).unwrap_or(limit)));
            if missing == 0 {
                break;
            }
            let page = request.clone().query("limit", missing.min(PAGE)).query_opt("cursor", next.as_str());
            let mut page = self.send(page).await?;
            if let Some(found) = page.get_mut("items").and_then(Value::as_array_mut) {
                items.append(found);
            }
            next = page.get_mut("next").map(Value::take).unwrap_or_default();
            if next.is_null() {
                break;
            }
        }
        Ok(json!({"items": items, "next": next}))
    }

    /// The names of an execution's targets, in their order.
    ///
    /// # Errors
    /// As [`send`](Client::send).
    pub(crate) async fn targets_of(&self, execution: &Value) -> CommandResult<Vec<String>> {
        let id = execution.get("id").and_then(Value::as_str).unwrap_or_default();
        let steps = self.steps(Request::get(["executions", id, "steps"]).query("newest_attempt", true)).await?;
        let place = |step: &Value| step.get("position").and_then(Value::as_u64);
        let mut named: Vec<(Option<u64>, String)> =
            steps.iter().filter_map(|step| Some((place(step), step.get("target")?.as_str()?.to_owned()))).collect();
        named.sort();
        Ok(named.into_iter().map(|(_, name)| name).collect())
    }

    /// Reads steps, page after page.
    ///
    /// # Errors
    /// As [`send`](Client::send).
    pub(crate) async fn steps(&self, request: Request) -> CommandResult<Vec<Value>> {
        let mut steps = Vec::new();
        let mut from = Some(0);
        while let Some(at) = from {
            let mut page = self.send(request.clone().query("from", at).query("limit", STEPS)).await?;
            if let Some(items) = page.get_mut("items").and_then(Value::as_array_mut) {
                steps.append(items);
            }
            from = page.get("next").and_then(Value::as_u64);
        }
        Ok(steps)
    }

    /// Sends a request; an answer that is a problem is an error.
    async fn open(&self, request: &Request) -> CommandResult<http::Response<Body>> {
        let answer = self.transport.call(request.to_http(self.transport.base())?).await?;
        let (head, body) = answer.into_parts();
        if head.status.is_success() {
            return Ok(http::Response::from_parts(head, body));
        }
        let problem = Problem::read(head.status, &collect(body).await?);
        let similar = if problem.is_not_found() { self.similar(&request.names).await } else { None };
        let error = match head.extensions.get::<Arc<birun_core::Error>>() {
            // In process nothing is kept from us, and no log tells it.
            Some(error) if head.status.is_server_error() => CommandError::from(error.as_ref()),
            _ => CommandError::from(problem),
        };
        Err(match similar {
            Some(name) => error.hint(format!("did you mean `{name}`?")),
            None => error,
        })
    }

    fn too_slow(&self) -> CommandError {
        let limit = birun_core::duration::format(self.timeout);
        CommandError::failed(format!("no answer within {limit}")).hint("wait longer with  --request-timeout 2m")
    }
}

async fn collect(mut body: Body) -> CommandResult<Bytes> {
    let mut whole = BytesMut::new();
    while let Some(chunk) = body.next().await {
        whole.extend_from_slice(&chunk.map_err(|error| broken(&error))?);
    }
    Ok(whole.freeze())
}

/// The error for an answer that broke off.
fn broken(error: &io::Error) -> CommandError {
    CommandError::failed("the answer broke off").because(error)
}
