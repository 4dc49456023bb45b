//! What the tests of the SSH executor have in common.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use birun_core::Error;
use birun_core::execution::executor::HostTrust;
use birun_core::execution::{
    Ending, Executor, Handle, OutputSender, Resume, ServerTarget, Stop, Stream, Target, Waits, Work, WorkIo,
};
use birun_core::id::{ExecutionId, StepId};
use birun_core::inventory::HostKeyPolicy;
use birun_core::script::{Content, Interpreter, RunMode};
use birun_exec::ssh::{SshBuilder, SshExecutor, SshLimits};
use birun_exec::testing::Notes;

/// The limit of every phase in these tests.
pub(crate) const LIMIT: Duration = Duration::from_millis(400);

/// Limits that a test can wait for.
pub(crate) fn short_limits() -> SshLimits {
    SshLimits {
        resolve: LIMIT,
        connect: LIMIT,
        handshake: LIMIT,
        host_key: LIMIT,
        authentication: LIMIT,
        agent: LIMIT / 2,
        channel: LIMIT,
        exec: LIMIT,
        idle: Some(LIMIT),
        close: LIMIT,
        disconnect: LIMIT,
    }
}

pub(crate) fn strict() -> SshBuilder {
    SshExecutor::builder(HostKeyPolicy::Strict)
}

/// An executor with limits that a test can wait for.
pub(crate) fn impatient() -> SshExecutor {
    strict().limits(short_limits()).build().unwrap()
}

/// Limits for a machine that is given too much to do.
pub(crate) fn long_limits() -> SshLimits {
    let long = Duration::from_secs(90);
    SshLimits {
        resolve: long,
        connect: long,
        handshake: long,
        host_key: long,
        authentication: long,
        agent: long,
        channel: long,
        exec: long,
        idle: None,
        close: long,
        disconnect: long,
    }
}

/// An executor as it comes.
pub(crate) fn patient() -> SshExecutor {
    strict().build().unwrap()
}

pub(crate) fn work(target: &Arc<ServerTarget>, body: &str) -> Work {
    Work {
        execution: ExecutionId::new(),
        step: StepId::new(),
        target: Target::Server(Arc::clone(target)),
        content: Content::new(body).unwrap(),
        interpreter: Interpreter::Shebang,
        env: Vec::new(),
        grace: Duration::from_millis(300),
        mode: RunMode::Attached,
    }
}

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) ending: Ending,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) took: Duration,
}

impl Ran {
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub(crate) fn code(&self) -> i32 {
        let Ending::Exited { code } = self.ending else { panic!("{self:?}") };
        code
    }

    pub(crate) fn unreachable(&self) -> &Error {
        let Ending::Unreachable(error) = &self.ending else { panic!("{self:?}") };
        error
    }
}

/// Runs a body to its end.
pub(crate) async fn run(executor: &SshExecutor, target: &Arc<ServerTarget>, body: &str) -> Ran {
    run_trusting(executor, work(target, body), Notes::new()).await
}

pub(crate) async fn run_trusting(executor: &SshExecutor, work: Work, trust: Arc<dyn HostTrust>) -> Ran {
    let begin = Instant::now();
    let (output, mut chunks) = OutputSender::channel(16);
    let running = executor.run(work, WorkIo { output, stop: Stop::default(), trust, waits: Waits::default() });
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let collecting = async {
        while let Some((stream, bytes)) = chunks.recv().await {
            match stream {
                Stream::Stdout => stdout.extend_from_slice(&bytes),
                Stream::Stderr | Stream::System => stderr.extend_from_slice(&bytes),
            }
        }
    };
    let (ending, ()) = tokio::join!(running, collecting);
    Ran { ending, stdout, stderr, took: begin.elapsed() }
}

/// A run that goes on beside the test.
pub(crate) struct Going {
    pub(crate) step: StepId,
    pub(crate) handle: Handle,
    pub(crate) stop: Stop,
    pub(crate) waits: Waits,
    pub(crate) chunks: tokio::sync::mpsc::Receiver<(Stream, bytes::Bytes)>,
    pub(crate) ending: tokio::task::JoinHandle<Ending>,
}

pub(crate) fn go(executor: &SshExecutor, work: Work) -> Going {
    go_from(executor, work, None)
}

/// Takes up detached work that runs already, from a place on.
pub(crate) fn adopt(executor: &SshExecutor, work: Work, from: Resume) -> Going {
    go_from(executor, work, Some(from))
}

fn go_from(executor: &SshExecutor, work: Work, from: Option<Resume>) -> Going {
    let (output, chunks) = OutputSender::channel(16);
    let stop = Stop::default();
    let waits = Waits::default();
    let io = WorkIo { output, stop: stop.clone(), trust: Notes::new(), waits: waits.clone() };
    let (step, handle) = (work.step, executor.handle(&work));
    let executor = executor.clone();
    let running = async move {
        match from {
            Some(from) => executor.adopt(work, io, from).await,
            None => executor.run(work, io).await,
        }
    };
    Going { step, handle, stop, waits, chunks, ending: tokio::spawn(running) }
}

impl Going {
    /// Waits for a line of output.
    pub(crate) async fn wait_for(&mut self, text: &str) {
        let mut seen = String::new();
        while !seen.contains(text) {
            let Some((_, bytes)) = self.chunks.recv().await else {
                panic!("ended before {text:?}: {seen}{:?}", (&mut self.ending).await);
            };
            seen.push_str(&String::from_utf8_lossy(&bytes));
        }
    }

    /// Takes the rest of the output, by streams, and the ending.
    pub(crate) async fn finish(mut self) -> (BTreeMap<Stream, Vec<u8>>, Ending) {
        let mut output: BTreeMap<Stream, Vec<u8>> = BTreeMap::new();
        while let Some((stream, bytes)) = self.chunks.recv().await {
            output.entry(stream).or_default().extend_from_slice(&bytes);
        }
        (output, self.ending.await.unwrap())
    }

    /// Takes the rest of the output and the ending.
    pub(crate) async fn end(mut self) -> Ending {
        while self.chunks.recv().await.is_some() {}
        self.ending.await.unwrap()
    }
}

/// How many processes of this machine carry the step's id, in their environment or as an argument. Those that
/// only keep and copy the output of a detached run do not count.
pub(crate) fn processes_of(step: StepId) -> usize {
    let (mark, id) = (format!("BIRUN_STEP_ID={step}"), step.to_string());
    let has = |path: std::path::PathBuf, word: &str| {
        let bytes = std::fs::read(path).unwrap_or_default();
        bytes.split(|byte| *byte == 0).any(|part| part == word.as_bytes())
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let keeps = |path: &std::path::Path| ["keep", "follow"].iter().any(|word| has(path.join("cmdline"), word));
    let processes = processes.filter(|path| has(path.join("environ"), &mark) || has(path.join("cmdline"), &id));
    processes.filter(|path| !keeps(path)).count()
}

/// Waits until something holds.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(10), "{what} does not come true");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
