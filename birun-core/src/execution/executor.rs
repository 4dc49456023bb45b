//! How work reaches the world: what an executor is given, promises and answers.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorCode, Result};
use crate::execution::Stream;
use crate::execution::pipe::StepInput;
use crate::execution::place::Waits;
use crate::id::{ExecutionId, ServerId, StepId};
use crate::inventory::{HostKey, HostKeyPolicy, OfferedKey, OpenCredential, Verdict};
use crate::name::Name;
use crate::script::{Content, EnvName, Interpreter, RunMode};
use crate::text_enum::text_enum;
use crate::vault::Secret;

/// Does one piece of [`Work`] on one target.
///
/// The engine chooses the executor by the target: `local` for [`Target::Local`], else the one that
/// the server names.
#[async_trait]
pub trait Executor: Debug + Send + Sync + 'static {
    /// The name that servers choose this executor by, for example `ssh`; `local` runs [`Target::Local`].
    fn name(&self) -> &str;

    /// What this executor will find the work's processes by, on any later day and from any process.
    ///
    /// It is journalled before [`run`](Executor::run) is called, so it holds only what is known before.
    fn handle(&self, work: &Work) -> Handle;

    /// Runs the work to its end and tells how it ended.
    ///
    /// - Every process that it starts carries `BIRUN_STEP_ID` in its environment. A shell that had no
    ///   environment of ours to begin with, as over SSH, carries the id as its last argument instead.
    /// - The environment, the body and the secrets of the work never stand in an argument list.
    /// - Output goes into `io.output` as it arrives, byte for byte; a slow receiver slows the process down.
    /// - [`Ending::Exited`] means: an exit status was received *and* all output was sent on.
    /// - Processes that the program leaves behind and that hold its output open get the work's grace
    ///   (at least a second) to end, then they are ended; one that let go of the output is left alone.
    /// - When `io.stop` fires, the whole process tree gets TERM, after the work's grace KILL, and the
    ///   answer is [`Ending::Stopped`] with what could be verified.
    /// - When the receiver of the output is gone, the work is stopped in the same way.
    /// - Every wait on a peer has a limit, and the error names the phase.
    /// - While a limit of the executor keeps the work waiting for its place, `io.waits` says so: that time
    ///   does not count as the attempt's.
    ///
    /// The future is never dropped before its end, but the whole process may die at any point: then
    /// [`kill`](Executor::kill) is called with the journalled handle.
    async fn run(&self, work: Work, io: WorkIo) -> Ending;

    /// Kills what is left of a piece of work: TERM, after `grace` KILL, verified.
    ///
    /// Calling it again, or for work that never began, does no harm and answers [`Kill::Gone`].
    async fn kill(&self, target: &Target, handle: &Handle, grace: Duration) -> Kill;

    /// Whether it can run work in [`RunMode::Detached`]: then [`adopt`](Executor::adopt) and
    /// [`forget`](Executor::forget) do what they say. Default: no.
    fn detaches(&self) -> bool {
        false
    }

    /// Takes up detached work that runs, or has ended, since an earlier [`run`](Executor::run) in this
    /// or another process, and goes on like it: output from the given places on, then the ending.
    ///
    /// [`Ending::Lost`] says that the work is not to be found, and why. Whatever the work was once
    /// started with is not needed any more: of `work`, only its ids, its target and its grace count.
    async fn adopt(&self, work: Work, io: WorkIo, from: Resume) -> Ending {
        let _none_of_it = (work, io, from);
        Ending::Lost { fault: LinkFault::RunDirectoryGone, detail: format!("`{}` keeps no detached work", self.name()) }
    }

    /// Removes what is kept of detached work whose end is journalled. What cannot be reached is left to
    /// remove itself some days later.
    async fn forget(&self, target: &Target, handle: &Handle) {
        let _nothing_is_kept = (target, handle);
    }

    /// Tries to reach the target, stage by stage, and runs nothing but a no-op there.
    async fn probe(&self, target: &Target, trust: Arc<dyn HostTrust>) -> Probe;
}

/// What an executor finds a piece of work by. Opaque to everyone else.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Handle(pub Value);

/// Where work is done, with everything that is needed to get there.
#[derive(Clone, Debug)]
pub enum Target {
    /// The machine on which the engine runs.
    Local,
    /// A server of the inventory.
    Server(Arc<ServerTarget>),
}

/// A server, with its secrets opened.
#[derive(Clone, Debug)]
pub struct ServerTarget {
    /// Identifies the server.
    pub id: ServerId,
    /// Its name.
    pub name: Name,
    /// The name of the executor that reaches it.
    pub executor: String,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The user to sign in as.
    pub user: String,
    /// What to sign in with, if anything is configured.
    pub credential: Option<OpenCredential>,
    /// Changes whenever server or credential change: connections made under another revision are
    /// not used again.
    pub revision: u64,
    /// Every key that is recorded for it.
    pub host_keys: Vec<HostKey>,
    /// How unknown keys are met, if a group of the server says so.
    pub host_key_policy: Option<HostKeyPolicy>,
}

/// A program to be run once on one target.
#[derive(Clone, Debug)]
pub struct Work {
    /// The execution it belongs to.
    pub execution: ExecutionId,
    /// The step it is.
    pub step: StepId,
    /// Where.
    pub target: Target,
    /// The body.
    pub content: Content,
    /// What runs it.
    pub interpreter: Interpreter,
    /// Environment variables: the parameters, and birun's own.
    pub env: Vec<(EnvName, Secret)>,
    /// Time between TERM and KILL.
    pub grace: Duration,
    /// Whether it is to outlive the connection.
    pub mode: RunMode,
}

/// Where detached work is taken up again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resume {
    /// The first byte of its standard output that is wanted.
    pub stdout: u64,
    /// The first byte of its standard error that is wanted.
    pub stderr: u64,
    /// How long ago it was started.
    pub age: Duration,
}

/// What connects a piece of work with the engine while it runs.
#[derive(Debug)]
pub struct WorkIo {
    /// Takes the output.
    pub output: OutputSender,
    /// Says when to stop.
    pub stop: Stop,
    /// Is told about host keys.
    pub trust: Arc<dyn HostTrust>,
    /// Is told while a limit keeps the work waiting for its place.
    pub waits: Waits,
}

/// Notes what an executor decided about an offered host key.
#[async_trait]
pub trait HostTrust: Debug + Send + Sync + 'static {
    /// Notes the verdict: records a key that is newly trusted, keeps an unknown one as pending,
    /// raises the alarm about a changed one.
    ///
    /// # Errors
    /// When a key that must be recorded could not be: then the executor does not go on.
    async fn note(&self, server: &ServerTarget, offered: &OfferedKey, verdict: &Verdict) -> Result<()>;
}

/// The ways to ask running work to stop, or to be left alone.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Leave it running where it is detached: answer [`Ending::Left`], soon. Nothing else heeds it.
    pub leave: CancellationToken,
    /// TERM, grace, KILL.
    pub gracefully: CancellationToken,
    /// KILL at once. Fires only after `gracefully`.
    pub now: CancellationToken,
}

/// The sending side of a piece of work's output. Clones send into the same output.
#[derive(Clone, Debug)]
pub struct OutputSender(Way);

#[derive(Clone, Debug)]
enum Way {
    Channel(mpsc::Sender<(Stream, Bytes)>),
    Pipe(Arc<StepInput>),
}

/// Nobody takes output any more: the work must be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the output is not taken any more")]
pub struct OutputClosed;

impl OutputSender {
    /// A channel that holds at most `chunks` chunks, for whoever wants the output of an executor as it is.
    #[must_use]
    pub fn channel(chunks: usize) -> (Self, mpsc::Receiver<(Stream, Bytes)>) {
        let (sender, receiver) = mpsc::channel(chunks);
        (Self(Way::Channel(sender)), receiver)
    }

    /// Sends into the log of an execution.
    pub(super) const fn pipe(input: Arc<StepInput>) -> Self {
        Self(Way::Pipe(input))
    }

    /// Sends a chunk on; waits while the store is behind. Chunks of 16 to 64 KiB work best.
    ///
    /// Dropping the future may leave a part of a large chunk sent.
    ///
    /// # Errors
    /// [`OutputClosed`]: stop the work.
    pub async fn send(&self, stream: Stream, chunk: Bytes) -> Result<(), OutputClosed> {
        match &self.0 {
            Way::Channel(sender) => sender.send((stream, chunk)).await.map_err(|_| OutputClosed),
            Way::Pipe(input) => input.send(stream, chunk).await,
        }
    }

    /// Resolves when nobody takes output any more.
    pub async fn closed(&self) {
        match &self.0 {
            Way::Channel(sender) => sender.closed().await,
            Way::Pipe(input) => input.closed().await,
        }
    }
}

/// What became of processes that were to be killed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Kill {
    /// They were there, and their end was observed.
    Confirmed,
    /// There were none.
    Gone,
    /// Their end could not be observed.
    Unconfirmed {
        /// Why, and what the user can run to finish it.
        detail: String,
    },
}

/// How a piece of work ended.
#[derive(Debug)]
pub enum Ending {
    /// The program ended by itself, and all its output was sent on.
    Exited {
        /// Its exit code, exactly.
        code: i32,
    },
    /// A signal that birun did not send ended the program.
    Signaled {
        /// The signal's name without `SIG`, for example `SEGV`.
        signal: String,
    },
    /// Nothing was started on the target: trying again is safe.
    Unreachable(Error),
    /// The target was reached, but the program could not be started.
    NotStarted(Error),
    /// The program was started, and nobody knows how it ended.
    Lost {
        /// What broke.
        fault: LinkFault,
        /// In words, with the phase.
        detail: String,
    },
    /// It was stopped, because `stop` fired or nobody took the output.
    Stopped {
        /// What became of its processes.
        kill: Kill,
    },
    /// It runs on and was left, because `stop.leave` fired: someone else adopts it.
    Left,
}

/// What broke between birun and a running program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkFault {
    /// The connection.
    LinkLost,
    /// Nothing, but the peer closed the channel without telling an exit status.
    NoExitStatus,
    /// The server was started again since the work began.
    HostRebooted,
    /// What the server kept of detached work is gone.
    RunDirectoryGone,
}

text_enum! {
    /// One stage of reaching a target.
    pub enum Stage {
        /// Finding the address.
        Resolve = "resolve",
        /// Opening a TCP connection.
        Connect = "connect",
        /// Agreeing on keys and algorithms.
        Handshake = "handshake",
        /// Judging the host key.
        HostKey = "host_key",
        /// Signing in.
        Authentication = "authentication",
        /// Running a no-op.
        Shell = "shell",
    }
}

text_enum! {
    /// How a stage went.
    pub enum StageStatus {
        /// Well.
        Ok = "ok",
        /// Not well; no later stage was tried.
        Failed = "failed",
        /// An earlier stage failed.
        NotTried = "not_tried",
    }
}

/// One stage of a probe.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ProbeStage {
    /// Which.
    pub stage: Stage,
    /// How it went.
    pub status: StageStatus,
    /// How long it took, in microseconds.
    pub micros: u64,
    /// The error's code, where it failed.
    pub code: Option<ErrorCode>,
    /// Why it failed.
    pub message: Option<String>,
    /// What can be done.
    pub hint: Option<String>,
}

/// The result of a probe.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Probe {
    /// Whether every stage went well.
    pub ok: bool,
    /// Every stage that this executor knows, in order.
    pub stages: Vec<ProbeStage>,
    /// The host key that the server offered, if it came so far: algorithm and fingerprint.
    pub host_key: Option<String>,
}
