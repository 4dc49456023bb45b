//! An executor that does as its scripts say, and remembers what it did.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;
use tokio::sync::watch;

use crate::error::{Error, ErrorCode};
use crate::execution::executor::HostTrust;
use crate::execution::{
    Ending, Executor, Handle, Kill, LinkFault, Probe, ProbeStage, Resume, Stage, StageStatus, Stream, Target, Work,
    WorkIo,
};
use crate::id::StepId;
use crate::script::RunMode;

/// An executor without a world.
///
/// A script is lines of: `print TEXT`, `error TEXT` (to standard error), `show NAME` (prints a
/// variable), `hold` (waits for [`release`](FakeExecutor::release)), `place WHY` (does so as well, and says
/// that it waits for its place), `hang` (waits to be stopped),
/// `ignore` (goes on as if it had not been told to stop), and one of `exit N`, `signal NAME`,
/// `unreachable`, `not-started`, `link-lost`, `no-status`, `panic`. A script that ends without one
/// of the last exits 0.
///
/// Detached work that holds or hangs can be left. When it is adopted, it goes through its script again from
/// the beginning, and what was had of its output before is not sent again.
#[derive(Clone, Debug)]
pub struct FakeExecutor {
    name: String,
    log: Arc<Mutex<Log>>,
    released: watch::Sender<u64>,
}

/// What the executor remembers.
#[derive(Debug, Default)]
struct Log {
    runs: Vec<(StepId, String)>,
    kills: Vec<Handle>,
    adopted: Vec<(StepId, Resume)>,
    forgotten: Vec<Handle>,
    now: usize,
    most: usize,
}

impl FakeExecutor {
    /// An executor with this name.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), log: Arc::default(), released: watch::Sender::new(0) }
    }

    /// The steps that were run, with the names of their targets, in order.
    #[must_use]
    pub fn runs(&self) -> Vec<(StepId, String)> {
        self.lock().runs.clone()
    }

    /// The handles that were to be killed, in order.
    #[must_use]
    pub fn kills(&self) -> Vec<Handle> {
        self.lock().kills.clone()
    }

    /// The steps that were taken up, and from where, in order.
    #[must_use]
    pub fn adopted(&self) -> Vec<(StepId, Resume)> {
        self.lock().adopted.clone()
    }

    /// The handles of detached work of which nothing is kept any more, in order.
    #[must_use]
    pub fn forgotten(&self) -> Vec<Handle> {
        self.lock().forgotten.clone()
    }

    /// The most runs at one time.
    #[must_use]
    pub fn most_at_once(&self) -> usize {
        self.lock().most
    }

    /// How many run now.
    #[must_use]
    pub fn running(&self) -> usize {
        self.lock().now
    }

    /// Resolves when nothing runs.
    pub async fn is_idle(&self) {
        while self.lock().now > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Lets every run that holds go on.
    pub fn release(&self) {
        self.released.send_modify(|count| *count += 1);
    }

    /// Resolves when `count` runs have begun, counted from the first.
    pub async fn has_begun(&self, count: usize) {
        while self.lock().runs.len() < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, work: &Work) {
        let target = match &work.target {
            Target::Local => "local".to_owned(),
            Target::Server(server) => server.name.to_string(),
        };
        let mut log = self.lock();
        log.runs.push((work.step, target));
        log.now += 1;
        log.most = log.most.max(log.now);
    }

    /// `released` was subscribed before anyone could see that the run has begun.
    async fn follow_script(
        &self,
        work: &Work,
        io: &WorkIo,
        mut released: watch::Receiver<u64>,
        mut from: Resume,
    ) -> Ending {
        let mut stoppable = true;
        let detached = work.mode == RunMode::Detached;
        for line in work.content.as_str().lines() {
            let (verb, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
            if stoppable && io.stop.gracefully.is_cancelled() {
                return Ending::Stopped { kill: Kill::Confirmed };
            }
            match verb {
                "print" | "error" | "show" => {
                    let stream = if verb == "error" { Stream::Stderr } else { Stream::Stdout };
                    let text = if verb == "show" { variable(work, rest) } else { rest.to_owned() };
                    let bytes = unsent(&mut from, stream, Bytes::from(format!("{text}\n")));
                    if io.output.send(stream, bytes).await.is_err() {
                        return Ending::Stopped { kill: Kill::Confirmed };
                    }
                }
                "ignore" => stoppable = false,
                "hold" | "place" => {
                    let _waiting = (verb == "place").then(|| io.waits.begin(rest));
                    tokio::select! {
                        _ = released.changed() => {}
                        () = io.stop.gracefully.cancelled(), if stoppable => {}
                        () = io.stop.leave.cancelled(), if detached => return Ending::Left,
                    }
                }
                "hang" => tokio::select! {
                    () = io.stop.gracefully.cancelled() => {}
                    () = io.stop.leave.cancelled(), if detached => return Ending::Left,
                },
                "" => {}
                _ => return ending(verb, rest),
            }
        }
        if stoppable && io.stop.gracefully.is_cancelled() {
            return Ending::Stopped { kill: Kill::Confirmed };
        }
        Ending::Exited { code: 0 }
    }
}

/// What of some output was not had before.
fn unsent(from: &mut Resume, stream: Stream, mut bytes: Bytes) -> Bytes {
    let had = if stream == Stream::Stderr { &mut from.stderr } else { &mut from.stdout };
    let skipped = bytes.split_to(bytes.len().min(usize::try_from(*had).unwrap_or(usize::MAX)));
    *had -= skipped.len() as u64;
    bytes
}

fn variable(work: &Work, name: &str) -> String {
    let found = work.env.iter().find(|(known, _)| known.as_str() == name);
    found.map_or_else(String::new, |(_, value)| value.expose().to_owned())
}

#[expect(clippy::panic, reason = "a script may ask for it")]
fn ending(verb: &str, rest: &str) -> Ending {
    match verb {
        "exit" => Ending::Exited { code: rest.parse().unwrap_or(1) },
        "signal" => Ending::Signaled { signal: rest.to_owned() },
        "unreachable" => Ending::Unreachable(Error::new(ErrorCode::ConnectTimeout, "timed out in connect after 10s")),
        "not-started" => Ending::NotStarted(Error::new(ErrorCode::SpawnFailed, "no such interpreter")),
        "link-lost" => Ending::Lost { fault: LinkFault::LinkLost, detail: "the connection broke".to_owned() },
        "no-status" => Ending::Lost { fault: LinkFault::NoExitStatus, detail: "no exit status".to_owned() },
        "panic" => panic!("as the script says"),
        other => Ending::NotStarted(Error::new(ErrorCode::SpawnFailed, format!("the fake knows no `{other}`"))),
    }
}

#[async_trait]
impl Executor for FakeExecutor {
    fn name(&self) -> &str {
        &self.name
    }

    fn handle(&self, work: &Work) -> Handle {
        Handle(json!({ "step": work.step }))
    }

    async fn run(&self, work: Work, io: WorkIo) -> Ending {
        let released = self.released.subscribe();
        self.begin(&work);
        let leave = scope_exit(|| self.lock().now -= 1);
        let ending = self.follow_script(&work, &io, released, Resume::default()).await;
        drop(leave);
        ending
    }

    fn detaches(&self) -> bool {
        true
    }

    async fn adopt(&self, work: Work, io: WorkIo, from: Resume) -> Ending {
        let released = self.released.subscribe();
        self.lock().adopted.push((work.step, from));
        self.follow_script(&work, &io, released, from).await
    }

    async fn forget(&self, _target: &Target, handle: &Handle) {
        self.lock().forgotten.push(handle.clone());
    }

    async fn kill(&self, _target: &Target, handle: &Handle, _grace: Duration) -> Kill {
        self.lock().kills.push(handle.clone());
        Kill::Confirmed
    }

    async fn probe(&self, _target: &Target, _trust: Arc<dyn HostTrust>) -> Probe {
        let stage = ProbeStage {
            stage: Stage::Shell,
            status: StageStatus::Ok,
            micros: 0,
            code: None,
            message: None,
            hint: None,
        };
        Probe { ok: true, stages: vec![stage], host_key: None }
    }
}

/// Runs `leave` when the answer is dropped, also when a run panics.
fn scope_exit<F: FnMut()>(leave: F) -> impl Drop {
    struct OnDrop<F: FnMut()>(F);
    impl<F: FnMut()> Drop for OnDrop<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    OnDrop(leave)
}
