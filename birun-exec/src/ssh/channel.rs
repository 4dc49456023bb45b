//! One command on one channel: how it is asked for, and what is heard of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use birun_core::execution::Stream;
use birun_core::{Error, ErrorCode, Result};
use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use russh::client::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::ssh::connection::Connection;
use crate::ssh::peer::printable;
use crate::ssh::phase::{Endpoint, Phase, timed_out};

/// Small pieces of output are joined up to this size while more is there already.
const JOINED: usize = 32 * 1024;
/// How much is handed over between two looks at the clock.
const PIECE: usize = 32 * 1024;
/// The longest answer that one of birun's own small commands may give.
const LONGEST_ANSWER: usize = 64 * 1024;

/// How a command said that it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// With a status.
    Status(u32),
    /// By a signal, named without `SIG`.
    Signal(String),
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "exit status {status}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// What is heard on a channel, as far as it matters.
#[derive(Debug)]
pub(super) enum Said {
    Output(Stream, Bytes),
    Exit(Exit),
    Closed,
    Accepted,
    Refused,
    /// Window changes and the like.
    Nothing,
}

impl From<ChannelMsg> for Said {
    fn from(message: ChannelMsg) -> Self {
        match message {
            ChannelMsg::Data { data } => Self::Output(Stream::Stdout, data),
            ChannelMsg::ExtendedData { data, .. } => Self::Output(Stream::Stderr, data),
            ChannelMsg::ExitStatus { exit_status } => Self::Exit(Exit::Status(exit_status)),
            ChannelMsg::ExitSignal { signal_name, .. } => Self::Exit(Exit::Signal(signal(&signal_name))),
            ChannelMsg::Close => Self::Closed,
            ChannelMsg::Success => Self::Accepted,
            ChannelMsg::Failure => Self::Refused,
            _ => Self::Nothing,
        }
    }
}

fn signal(name: &Sig) -> String {
    match name {
        Sig::Custom(name) => name.chars().filter(char::is_ascii_alphanumeric).take(16).collect(),
        known => format!("{known:?}"),
    }
}

/// A command that the server agreed to run.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) ear: Ear,
    pub(super) mouth: Mouth,
}

/// The listening side. Dropped, it frees the connection from waiting for us.
#[derive(Debug)]
pub(super) struct Ear {
    half: ChannelReadHalf,
    ahead: Option<Said>,
}

/// The speaking side.
#[derive(Debug)]
pub(super) struct Mouth {
    half: ChannelWriteHalf<Msg>,
    limit: Duration,
    /// Whether so much of the input is on its way that a shell could take it for the whole.
    whole: AtomicBool,
}

/// Why a command did not begin. Nothing was sent to it in either case.
#[derive(Debug)]
pub(super) enum NotBegun {
    /// The connection failed before the server was asked.
    Link(Error),
    /// The server was asked and did not answer: it may have begun, and reads the end of its input.
    NoReply(Error),
    /// The server refuses to run commands.
    Refused(Error),
}

impl NotBegun {
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Link(error) | Self::NoReply(error) | Self::Refused(error) => error,
        }
    }
}

impl Channel {
    /// Opens a channel and asks for a command; done when the server agreed.
    pub(super) async fn begin(connection: &Connection, command: &str) -> Result<Self, NotBegun> {
        let (endpoint, limit) = (connection.endpoint(), connection.limits().exec);
        let (half, writer) = connection.open().await.map_err(NotBegun::Link)?.split();
        let mut ear = Ear { half, ahead: None };
        let broke = || {
            let message = format!("{endpoint}: {} in exec reply", connection.why());
            NotBegun::NoReply(Error::new(ErrorCode::ConnectFailed, message))
        };
        let reply = async {
            writer.exec(true, command).await.map_err(|_| broke())?;
            ear.reply().await.ok_or_else(broke)
        };
        let agreed = timeout(limit, reply)
            .await
            .unwrap_or_else(|_| Err(NotBegun::NoReply(timed_out(endpoint, Phase::ExecReply, limit))))?;
        if agreed { Ok(Self { ear, mouth: Mouth::new(writer, limit) }) } else { Err(refused(endpoint)) }
    }
}

fn refused(endpoint: &Endpoint) -> NotBegun {
    NotBegun::Refused(
        Error::new(ErrorCode::SpawnFailed, format!("{endpoint}: the server refuses to run commands"))
            .with_hint("the user may be restricted to file transfer, or the server to other services"),
    )
}

impl Ear {
    /// Waits for what comes next; `None` when the connection is gone.
    pub(super) async fn next(&mut self) -> Option<Said> {
        let first = match self.ahead.take() {
            Some(said) => said,
            None => self.half.wait().await.map(Said::from)?,
        };
        match first {
            Said::Output(stream, bytes) if bytes.len() < JOINED => Some(self.join(stream, bytes)),
            other => Some(other),
        }
    }

    /// Joins what is there already to a small piece of output.
    fn join(&mut self, stream: Stream, first: Bytes) -> Said {
        let mut joined: Option<BytesMut> = None;
        while joined.as_ref().map_or(first.len(), BytesMut::len) < JOINED {
            match self.half.wait().now_or_never().flatten().map(Said::from) {
                Some(Said::Output(same, bytes)) if same == stream => {
                    joined.get_or_insert_with(|| BytesMut::from(&first[..])).extend_from_slice(&bytes);
                }
                Some(Said::Nothing) => {}
                other => {
                    self.ahead = other;
                    break;
                }
            }
        }
        Said::Output(stream, joined.map_or(first, BytesMut::freeze))
    }

    /// Waits for the server's yes or no; `None` when the connection or the channel is gone.
    async fn reply(&mut self) -> Option<bool> {
        loop {
            match self.half.wait().await.map(Said::from)? {
                Said::Accepted => return Some(true),
                Said::Refused => return Some(false),
                Said::Closed => return None,
                // Nothing of ours runs yet, so this is a greeting of the server at most.
                Said::Output(..) | Said::Exit(_) | Said::Nothing => {}
            }
        }
    }
}

/// Why input was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotSent {
    /// The connection is gone.
    Broken,
    /// The server stopped taking it.
    Stuck,
}

impl Mouth {
    const fn new(half: ChannelWriteHalf<Msg>, limit: Duration) -> Self {
        Self { half, limit, whole: AtomicBool::new(false) }
    }

    /// Whether the input may have arrived whole. Until then nothing of it can have run.
    pub(super) fn is_whole(&self) -> bool {
        self.whole.load(Ordering::Relaxed)
    }

    /// Sends input and ends it. Fails when a piece of it is not taken within the limit.
    ///
    /// When `cut` fires before the input is whole, it is ended as it is: whoever reads it must notice.
    ///
    /// The future must run beside one that listens: a server may want to speak before it goes on
    /// to read.
    pub(super) async fn say(&self, input: &[u8], cut: &CancellationToken) -> Result<(), NotSent> {
        // A last newline is not missed by a shell, so that the byte before it makes the input whole.
        let (most, end) = input.split_at(input.len().saturating_sub(2));
        let sent = cut.run_until_cancelled(self.send(most)).await.transpose()?;
        if sent.is_some() && !cut.is_cancelled() {
            self.whole.store(true, Ordering::Relaxed);
            self.send(end).await?;
        }
        timeout(self.limit, self.half.eof()).await.map_err(|_| NotSent::Stuck)?.map_err(|_| NotSent::Broken)
    }

    async fn send(&self, input: &[u8]) -> Result<(), NotSent> {
        for piece in input.chunks(PIECE) {
            let sending = self.half.data_bytes(Bytes::copy_from_slice(piece));
            timeout(self.limit, sending).await.map_err(|_| NotSent::Stuck)?.map_err(|_| NotSent::Broken)?;
        }
        Ok(())
    }
}

/// What one of birun's own small commands answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) exit: Option<Exit>,
}

/// A line that every login shell understands; the program itself comes over stdin.
pub(super) const SHELL: &str = "exec /bin/sh -s";

/// One of birun's own small commands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Errand<'a> {
    pub(super) command: &'a str,
    pub(super) input: &'a str,
    pub(super) limit: Duration,
}

/// Runs a small command of birun's own and takes its answer.
///
/// # Errors
/// If it could not be begun, the connection broke, or it took longer than its limit.
pub(super) async fn ask(connection: &Connection, errand: Errand<'_>) -> Result<Answer> {
    let endpoint = connection.endpoint();
    let Channel { mut ear, mouth } = Channel::begin(connection, errand.command).await.map_err(NotBegun::into_error)?;
    let broke = || Error::new(ErrorCode::ConnectFailed, format!("{endpoint}: {}", connection.why()));
    let listening = async {
        let (mut text, mut exit) = (Vec::new(), None);
        loop {
            match ear.next().await.ok_or_else(broke)? {
                Said::Output(_, bytes) => text.extend(bytes.iter().take(LONGEST_ANSWER.saturating_sub(text.len()))),
                Said::Exit(how) => exit = Some(how),
                Said::Closed => return Ok(Answer { text: printable_lines(&text), exit }),
                Said::Accepted | Said::Refused | Said::Nothing => {}
            }
        }
    };
    let never = CancellationToken::new();
    // Whoever has answered need not have taken all of the input.
    let saying = async {
        let _sent = mouth.say(errand.input.as_bytes(), &never).await;
        std::future::pending().await
    };
    let both = async {
        tokio::select! {
            answer = listening => answer,
            never = saying => never,
        }
    };
    timeout(errand.limit, both).await.unwrap_or_else(|_| Err(timed_out(endpoint, Phase::Answer, errand.limit)))
}

fn printable_lines(text: &[u8]) -> String {
    String::from_utf8_lossy(text).lines().map(printable).collect::<Vec<_>>().join("\n")
}
