//! Following an execution: its output by sequence number, its state by revision. A connection that
//! breaks is made again, and nothing is told twice or left out.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::stream::{self, Stream};
use serde_json::Value;
use tokio::time::Instant;

use super::lines::Lines;
use super::sse::Events;
use super::{Client, Request, broken};
use crate::error::{CommandError, CommandResult};
use crate::exit::Exit;

/// First wait before a connection is made again.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Longest such wait.
const MAX_WAIT: Duration = Duration::from_secs(3);
/// How long a server may be away before following it is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Something that happened in an execution.
#[derive(Debug)]
pub(crate) enum Happening {
    /// A piece of output.
    Output(Record),
    /// The execution, and the steps that changed.
    Changed { execution: Value, steps: Vec<Value> },
}

/// A piece of output, as the API tells it.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Record {
    pub(crate) seq: u64,
    pub(crate) at: DateTime<Utc>,
    pub(crate) step: u32,
    pub(crate) target: String,
    pub(crate) stream: String,
    #[serde(default)]
    data: String,
    data_base64: Option<String>,
    /// The line that told it.
    #[serde(skip)]
    pub(crate) line: Bytes,
}

impl Record {
    /// The bytes as the program wrote them.
    ///
    /// # Errors
    /// When the server sent what is no base64.
    pub(crate) fn payload(&self) -> CommandResult<Vec<u8>> {
        use base64::Engine as _;
        match &self.data_base64 {
            None => Ok(self.data.clone().into_bytes()),
            Some(text) => base64::engine::general_purpose::STANDARD
                .decode(text)
                .map_err(|error| CommandError::failed("the server sent a damaged record").because(&error)),
        }
    }
}

/// Everything that happens in an execution, in order, until it has ended and all of it was told.
pub(crate) type Following = Pin<Box<dyn Stream<Item = CommandResult<Happening>> + Send>>;

impl Client {
    /// Follows output and state from the beginning.
    pub(crate) fn follow(&self, id: &str) -> Following {
        let output = self.output(Request::get(["executions", id, "logs"]), true);
        Box::pin(stream::select(output, self.follow_state(id)))
    }

    /// Reads output alone; `request` says which. Without `live` it ends with what there is now.
    pub(crate) fn output(&self, request: Request, live: bool) -> Following {
        let request = request.query("follow", live);
        let tail = Tail { client: self.clone(), request, retry: Retry::default() };
        unfold(OutputTail { tail, live, after: 0, lines: None })
    }

    fn follow_state(&self, id: &str) -> Following {
        let request = Request::get(["executions", id, "events"]).header("accept", "text/event-stream");
        let tail = Tail { client: self.clone(), request, retry: Retry::default() };
        unfold(StateTail { tail, rev: 0, events: None })
    }
}

/// One of the two things that are followed.
trait Follow: Send + 'static {
    /// What happened next; `None` at the end.
    fn next(&mut self) -> impl Future<Output = CommandResult<Option<Happening>>> + Send;
}

fn unfold(tail: impl Follow) -> Following {
    Box::pin(stream::try_unfold(
        tail,
        |mut tail| async move { Ok(tail.next().await?.map(|happening| (happening, tail))) },
    ))
}

/// What is asked again when a connection broke.
struct Tail {
    client: Client,
    request: Request,
    retry: Retry,
}

/// When to ask again.
#[derive(Default)]
struct Retry {
    wait: Duration,
    since: Option<Instant>,
}

struct OutputTail {
    tail: Tail,
    live: bool,
    after: u64,
    lines: Option<Lines>,
}

struct StateTail {
    tail: Tail,
    rev: u64,
    events: Option<Events>,
}

impl Follow for OutputTail {
    async fn next(&mut self) -> CommandResult<Option<Happening>> {
        loop {
            let lines = match &mut self.lines {
                Some(lines) => lines,
                closed => match self.tail.open(self.after).await? {
                    Some(body) => closed.insert(Lines::new(body)),
                    None => continue,
                },
            };
            match lines.next().await {
                Ok(Some(line)) if line.is_empty() => {}
                Ok(Some(line)) => {
                    self.tail.retry = Retry::default();
                    let Some(record) = read(line)? else { return Ok(None) };
                    self.after = record.seq;
                    return Ok(Some(Happening::Output(record)));
                }
                Ok(None) if !self.live => return Ok(None),
                other => {
                    self.lines = None;
                    self.tail.wait(other.err()).await?;
                }
            }
        }
    }
}

/// Reads a line of output; `None` for the line that says that it was the last.
fn read(line: Bytes) -> CommandResult<Option<Record>> {
    #[derive(serde::Deserialize)]
    struct Last {
        end: bool,
    }
    match serde_json::from_slice::<Record>(&line) {
        Ok(record) => Ok(Some(Record { line, ..record })),
        Err(_) if serde_json::from_slice::<Last>(&line).is_ok_and(|last| last.end) => Ok(None),
        Err(error) => Err(CommandError::failed("the server sent a damaged record").because(&error)),
    }
}

impl Follow for StateTail {
    async fn next(&mut self) -> CommandResult<Option<Happening>> {
        loop {
            let events = match &mut self.events {
                Some(events) => events,
                closed => match self.tail.open(self.rev).await? {
                    Some(body) => closed.insert(Events::new(body)),
                    None => continue,
                },
            };
            match events.next().await {
                Ok(Some(event)) if event.kind == "end" => return Ok(None),
                Ok(Some(event)) => {
                    self.tail.retry = Retry::default();
                    let change: Change = serde_json::from_str(&event.data)
                        .map_err(|error| CommandError::failed("the server sent a damaged event").because(&error))?;
                    self.rev = change.execution.get("rev").and_then(Value::as_u64).unwrap_or(self.rev);
                    return Ok(Some(Happening::Changed { execution: change.execution, steps: change.steps }));
                }
                other => {
                    self.events = None;
                    self.tail.wait(other.err()).await?;
                }
            }
        }
    }
}

#[derive(serde::Deserialize)]
struct Change {
    execution: Value,
    #[serde(default)]
    steps: Vec<Value>,
}

impl Tail {
    /// Asks for what comes after a place; `None` if the server is away, after a wait.
    async fn open(&mut self, after: u64) -> CommandResult<Option<super::Body>> {
        match self.client.stream(&self.request.clone().query("after", after)).await {
            Ok(body) => {
                // The server is there: only the pace at which it is asked again is kept.
                self.retry.since = None;
                Ok(Some(body))
            }
            Err(error) if error.exit() == Exit::ERROR => {
                self.retry.pause(error).await?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The answer ended without saying so: waits a little before it is asked for again.
    async fn wait(&mut self, error: Option<io::Error>) -> CommandResult {
        let error = error.unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
        self.retry.pause(broken(&error)).await
    }
}

impl Retry {
    /// Waits, longer each time; fails with the error when it has been tried for long enough.
    async fn pause(&mut self, error: CommandError) -> CommandResult {
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() > PATIENCE {
            return Err(error);
        }
        self.wait = (self.wait * 2).clamp(FIRST_WAIT, MAX_WAIT);
        tokio::time::sleep(self.wait).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use futures::StreamExt;

    use super::super::lines::body_of;
    use super::super::{Body, Transport};
    use super::*;

    /// Answers each request with the next of these bodies, and notes what was asked.
    #[derive(Debug)]
    struct Answers {
        bodies: Mutex<Vec<&'static [&'static str]>>,
        asked: &'static Mutex<Vec<String>>,
    }

    #[async_trait]
    impl Transport for Answers {
        fn base(&self) -> &str {
            ""
        }

        async fn call(&self, request: http::Request<Bytes>) -> CommandResult<http::Response<Body>> {
            self.asked.lock().unwrap().push(request.uri().to_string());
            let next = self.bodies.lock().unwrap().remove(0);
            Ok(http::Response::new(body_of(next)))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_connection_is_made_again_after_the_last_record() {
        static ASKED: Mutex<Vec<String>> = Mutex::new(Vec::new());
        const AT: &str =
            r#""at":"2026-11-02T10:00:00.000000Z","step":0,"target":"local","attempt":1,"stream":"stdout""#;
        let bodies: Vec<&'static [&'static str]> = vec![
            Box::leak(Box::new([&*format!("{{\"seq\":1,{AT},\"data\":\"a\"}}\n{{\"seq\":2,").leak()])),
            Box::leak(Box::new([
                &*format!("{{\"seq\":2,{AT},\"data_base64\":\"/w==\"}}\n").leak(),
                "{\"end\":true,\"status\":\"succeeded\",\"seq\":2}\n",
            ])),
        ];
        let client = Client::new(Answers { bodies: Mutex::new(bodies), asked: &ASKED }, Duration::from_secs(5));
        let request = Request::get(["executions", "7d20c1a9", "logs"]);
        let happenings: Vec<_> = client.output(request, true).collect().await;
        let payloads: Vec<Vec<u8>> = happenings
            .into_iter()
            .map(|happening| match happening.unwrap() {
                Happening::Output(record) => record.payload().unwrap(),
                Happening::Changed { .. } => panic!("no state was asked for"),
            })
            .collect();
        assert_eq!(payloads, [b"a".to_vec(), vec![0xff]]);
        let asked = ASKED.lock().unwrap();
        assert_eq!(
            *asked,
            [
                "/api/v1/executions/7d20c1a9/logs?follow=true&after=0",
                "/api/v1/executions/7d20c1a9/logs?follow=true&after=1"
            ]
        );
    }
}
