//! Following an execution: its output by sequence number, its state by revision. A connection that
//! breaks is made again, and nothing is told twice or left out; one that stays away is told.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::StreamExt;
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
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// A server that is away for longer is told to be: one that is only started anew is back by then.
const NOTICE: Duration = Duration::from_secs(1);

/// Something that happened in an execution.
#[derive(Debug)]
pub(crate) enum Happening {
    /// A piece of output.
    Output(Record),
    /// The execution, and the steps that changed.
    Changed { execution: Value, steps: Vec<Value> },
    /// The server is away, for this reason, and asked again and again.
    Lost(String),
    /// It is there again.
    Regained,
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
        Box::pin(once_per_outage(stream::select(output, self.follow_state(id))))
    }

    /// Reads output alone; `request` says which. Without `live` it ends with what there is now.
    pub(crate) fn output(&self, request: Request, live: bool) -> Following {
        let request = request.query("follow", live);
        let tail = Tail { client: self.clone(), request, retry: Retry::default() };
        unfold(OutputTail { tail, live, after: 0, lines: None })
    }

    /// Follows the state alone, from the beginning.
    pub(crate) fn follow_state(&self, id: &str) -> Following {
        let request = Request::get(["executions", id, "events"]).header("accept", "text/event-stream");
        let tail = Tail { client: self.clone(), request, retry: Retry::default() };
        unfold(StateTail { tail, rev: 0, events: None })
    }
}

/// Tells an outage once where several streams over one connection meet it: when the first of them
/// does, and when the last of them is over it.
fn once_per_outage(
    happenings: impl Stream<Item = CommandResult<Happening>>,
) -> impl Stream<Item = CommandResult<Happening>> {
    let mut without: u32 = 0;
    happenings.filter(move |happening| {
        let is_news = match happening {
            Ok(Happening::Lost(_)) => {
                without += 1;
                without == 1
            }
            Ok(Happening::Regained) => {
                without = without.saturating_sub(1);
                without == 0
            }
            _ => true,
        };
        std::future::ready(is_news)
    })
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

/// When to ask again, and what to tell of it.
#[derive(Default)]
struct Retry {
    wait: Duration,
    /// Since when the server is away, and what was met last.
    away: Option<(Instant, CommandError)>,
    /// It was told that the server is away.
    told: bool,
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
            if let Some(news) = self.tail.retry.news() {
                return Ok(Some(news));
            }
            let Some(lines) = &mut self.lines else {
                self.lines = self.tail.open(self.after).await?.map(Lines::new);
                continue;
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
            if let Some(news) = self.tail.retry.news() {
                return Ok(Some(news));
            }
            let Some(events) = &mut self.events else {
                self.events = self.tail.open(self.rev).await?.map(Events::new);
                continue;
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
                self.retry.away = None;
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
        let since = self.away.as_ref().map_or_else(Instant::now, |(since, _)| *since);
        if since.elapsed() > PATIENCE {
            return Err(error);
        }
        self.away = Some((since, error));
        self.wait = (self.wait * 2).clamp(FIRST_WAIT, MAX_WAIT);
        tokio::time::sleep(self.wait).await;
        Ok(())
    }

    /// What is to be told: that the server is away, and when it is back, that.
    fn news(&mut self) -> Option<Happening> {
        let news = match &self.away {
            Some((since, why)) if !self.told && since.elapsed() >= NOTICE => Happening::Lost(why.message()),
            None if self.told => Happening::Regained,
            _ => return None,
        };
        self.told = !self.told;
        Some(news)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    use async_trait::async_trait;

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
                other => panic!("only output was asked for: {other:?}"),
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

    /// A server that is not there, after a first answer without an end perhaps.
    #[derive(Debug)]
    struct Gone {
        answers_once: AtomicBool,
    }

    #[async_trait]
    impl Transport for Gone {
        fn base(&self) -> &str {
            ""
        }

        async fn call(&self, _: http::Request<Bytes>) -> CommandResult<http::Response<Body>> {
            match self.answers_once.swap(false, Ordering::Relaxed) {
                true => Ok(http::Response::new(stream::pending().boxed())),
                false => Err(CommandError::failed("cannot reach it")),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_stays_away_is_told_once_and_given_up_after_a_minute() {
        let client = Client::new(Gone { answers_once: false.into() }, Duration::from_secs(5));
        let begun = Instant::now();
        let mut following = client.follow("7d20c1a9");
        let first = following.next().await.unwrap().unwrap();
        assert!(matches!(&first, Happening::Lost(why) if why == "cannot reach it"), "{first:?}");
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        let given_up = following.next().await.unwrap().unwrap_err();
        assert_eq!(given_up.exit(), Exit::ERROR);
        assert!((PATIENCE..PATIENCE + 2 * MAX_WAIT).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_says_nothing_for_long_is_away() {
        let client = Client::new(Gone { answers_once: true.into() }, Duration::from_secs(5));
        let mut output = client.output(Request::get(["executions", "7d20c1a9", "logs"]), true);
        assert!(matches!(output.next().await, Some(Ok(Happening::Lost(_)))));
    }
}
