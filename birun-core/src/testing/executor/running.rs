//! Running work for a case, and looking at what became of it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::Subject;
use crate::error::Result;
use crate::execution::executor::HostTrust;
use crate::execution::{Ending, Executor, Kill, OutputSender, ServerTarget, Stop, Stream, Waits, Work, WorkIo};
use crate::id::{ExecutionId, StepId};
use crate::inventory::{OfferedKey, Verdict};
use crate::script::{Content, EnvName, Interpreter};
use crate::vault::Secret;

/// No case takes longer.
const LIMIT: Duration = Duration::from_secs(120);

/// Host keys are not what these cases are about.
#[derive(Debug)]
struct NoNotes;

#[async_trait]
impl HostTrust for NoNotes {
    async fn note(&self, _server: &ServerTarget, _offered: &OfferedKey, _verdict: &Verdict) -> Result<()> {
        Ok(())
    }
}

/// Work that is under way.
pub(super) struct Running {
    pub(super) work: Work,
    pub(super) stop: Stop,
    executor: Arc<dyn Executor>,
    task: JoinHandle<Ending>,
    output: Option<Receiver<(Stream, Bytes)>>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// Work that has ended.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) ending: Ending,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
}

pub(super) async fn in_time(case: impl Future<Output = ()>) {
    assert!(timeout(LIMIT, case).await.is_ok(), "not done after {LIMIT:?}");
}

/// A script for `sh` with environment variables.
pub(super) fn script(subject: &Subject, body: &str, env: &[(&str, &str)]) -> Work {
    Work {
        execution: ExecutionId::new(),
        step: StepId::new(),
        target: subject.target.clone(),
        content: Content::new(body).unwrap(),
        interpreter: Interpreter::Shebang,
        env: env.iter().map(|(name, value)| (name.parse::<EnvName>().unwrap(), Secret::new(*value))).collect(),
        grace: Duration::from_secs(5),
        mode: subject.mode,
    }
}

pub(super) fn start(subject: &Subject, work: Work) -> Running {
    start_with(subject, work, Stop::default(), 64)
}

pub(super) fn start_with(subject: &Subject, work: Work, stop: Stop, chunks: usize) -> Running {
    let (sender, output) = OutputSender::channel(chunks);
    let io = WorkIo { output: sender, stop: stop.clone(), trust: Arc::new(NoNotes), waits: Waits::default() };
    let (executor, copy) = (Arc::clone(&subject.executor), work.clone());
    let task = tokio::spawn(async move { executor.run(copy, io).await });
    let executor = Arc::clone(&subject.executor);
    Running { work, stop, executor, task, output: Some(output), stdout: Vec::new(), stderr: Vec::new() }
}

pub(super) async fn run(subject: &Subject, work: Work) -> Ran {
    start(subject, work).end().await
}

/// Runs a script that must exit 0, and gives what it wrote to stdout.
pub(super) async fn answer(subject: &Subject, body: &str, env: &[(&str, &str)]) -> String {
    let ran = run(subject, script(subject, body, env)).await;
    assert_eq!(ran.code(), 0, "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

/// How many processes on the target carry the step's id, in their environment or as an argument. Those that
/// only keep and copy the output of a detached run do not count.
pub(super) async fn processes_of(subject: &Subject, step: StepId) -> usize {
    let id = step.to_string();
    let (head, tail) = id.split_at(18);
    // The id is put together where no environment and no command line shows it.
    let search = "printf '%s\\n' \"$HEAD$TAIL\" | \
        grep -slFf - /proc/[0-9]*/environ /proc/[0-9]*/cmdline | cut -d/ -f3 | sort -u | \
        while read -r pid; do tr '\\0' '\\n' <\"/proc/$pid/cmdline\" | grep -qx -e keep -e follow || echo \"$pid\"; done";
    answer(subject, search, &[("HEAD", head), ("TAIL", tail)]).await.lines().count()
}

pub(super) fn no_notes() -> Arc<dyn HostTrust> {
    Arc::new(NoNotes)
}

impl Running {
    /// Waits until stdout holds the text.
    pub(super) async fn until(&mut self, text: &str) {
        while !contains(&self.stdout, text) {
            let seen = self.receive().await;
            assert!(seen, "ended before `{text}`: {}", String::from_utf8_lossy(&self.stdout));
        }
    }

    /// Takes the next chunk; false at the end.
    pub(super) async fn receive(&mut self) -> bool {
        let Some(output) = self.output.as_mut() else { return false };
        let Some((stream, chunk)) = output.recv().await else { return false };
        match stream {
            Stream::Stdout => self.stdout.extend_from_slice(&chunk),
            Stream::Stderr => self.stderr.extend_from_slice(&chunk),
            Stream::System => {}
        }
        true
    }

    /// From now on nobody takes the output.
    pub(super) fn drop_receiver(&mut self) {
        self.output = None;
    }

    /// Forgets what was received so far.
    pub(super) fn forget(&mut self) -> usize {
        let length = self.stdout.len();
        self.stdout.clear();
        length
    }

    /// Takes the output to its end, and the ending; nothing is kept of the work then.
    pub(super) async fn end(mut self) -> Ran {
        while self.receive().await {}
        let ending = self.task.await.unwrap();
        self.executor.forget(&self.work.target, &self.executor.handle(&self.work)).await;
        Ran { ending, stdout: self.stdout, stderr: self.stderr }
    }

    /// Stops with grace, and takes the ending.
    pub(super) async fn stop(self) -> Ran {
        self.stop.gracefully.cancel();
        self.end().await
    }
}

impl Ran {
    /// The exit code of a program that ended by itself.
    pub(super) fn code(&self) -> i32 {
        let Ending::Exited { code } = self.ending else { panic!("not exited: {self:?}") };
        code
    }

    /// Asserts that it was stopped and that its end was observed.
    pub(super) fn assert_stopped(&self) {
        assert!(matches!(&self.ending, Ending::Stopped { kill: Kill::Confirmed }), "{:?}", self.ending);
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
