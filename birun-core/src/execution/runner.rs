//! The runner: drives one claimed execution to its end, under its lease.
//!
//! It journals each transition before it acts on the next, so that another worker can go on from
//! the journal. When the lease is lost it kills what is not detached, and writes nothing more.

mod recovery;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{JoinError, JoinSet};

use crate::engine::{LOCAL_EXECUTOR, Shared};
use crate::error::{Error, ErrorCode, Result};
use crate::execution::executor::{HostTrust, ServerTarget};
use crate::execution::halt::Halt;
use crate::execution::journal::{Cut, Entry, Journal, Pauses};
use crate::execution::leftover::Leftover;
use crate::execution::pipe::OutputPipe;
use crate::execution::state::{Outcome, Progress, until};
use crate::execution::step::{Attempt, Attempted, Finished, Task, attempt};
use crate::execution::worker::Signals;
use crate::execution::{
    Claimed, Ending, Execution, Executor, Finish, Kill, Program, Reason, Step, StepEnd, StepNote, StepStart,
    StepStatus, Target, metrics,
};
use crate::gate::Scope;
use crate::id::{ServerId, StepId};
use crate::inventory::{EngineTrust, open_targets};
use crate::script::{Content, EnvName, LostPolicy, RunMode};
use crate::store::StoreError;
use crate::vault::{Secret, SecretSet};

/// A wait longer than this gives the execution back and holds no worker.
const PARK_AFTER: TimeDelta = TimeDelta::seconds(5);
/// The longest time that a stopped step may take by its own settings.
pub(crate) const fn longest_grace() -> Duration {
    Duration::from_secs(600)
}

/// Drives a claimed execution until it ended, is parked, was given back, or its lease is lost.
pub(crate) async fn drive(shared: Arc<Shared>, claimed: Claimed, signals: Signals) {
    let id = claimed.lease.execution;
    let _driven = metrics::Driven::begin();
    let fenced = fenced(signals.clone(), claimed.execution.plan.settings.on_lost);
    let mut runner = Runner::new(shared, claimed, signals);
    let driven = tokio::select! {
        driven = runner.run() => driven,
        never = fenced => match never {},
    };
    match driven {
        Ok(()) => {}
        Err(Cut::LeaseLost) => {
            metrics::lease_lost();
            tracing::warn!(execution = %id, "another worker took the execution over; stopping it here");
            runner.abandon().await;
        }
        Err(Cut::Broken(error)) => {
            tracing::error!(execution = %id, %error, "the journal cannot be written; ending the execution");
            runner.give_up(&error.into()).await;
        }
    }
    runner.forget_all().await;
}

/// Lets go of an execution whose steps another worker would run again, before that can take it over.
/// Others are kept: their processes go on, and the lease is renewed when storage answers again.
async fn fenced(signals: Signals, on_lost: LostPolicy) -> Infallible {
    if on_lost == LostPolicy::Retry {
        signals.fence.cancelled().await;
        tracing::warn!("storage has not answered for too long; ending what another worker may run again");
        signals.lost.cancel();
    }
    pending().await
}

struct Runner {
    shared: Arc<Shared>,
    journal: Journal,
    execution: Arc<Execution>,
    progress: Progress,
    halt: Halt,
    pipe: OutputPipe,
    means: Means,
    running: JoinSet<Attempted>,
    /// What targets keep of detached steps, until their end is journalled.
    kept: HashMap<StepId, Leftover>,
    /// The removal of what they kept.
    forgetting: JoinSet<()>,
    /// What attempts wait for, as they tell it.
    notes: (UnboundedSender<StepNote>, UnboundedReceiver<StepNote>),
    /// What ended and could not be written down.
    unwritten: Vec<StepEnd>,
    handing_back: bool,
    /// The execution has ended, is parked, or was given back: nothing more to write.
    done: bool,
}

/// What steps need to run: read once, when the execution is taken up.
#[derive(Default)]
struct Means {
    content: Option<Content>,
    secrets: BTreeMap<EnvName, Secret>,
    masks: SecretSet,
    /// A server that cannot be used says why.
    servers: HashMap<ServerId, Result<Arc<ServerTarget>>>,
}

impl Runner {
    fn new(shared: Arc<Shared>, claimed: Claimed, signals: Signals) -> Self {
        let Claimed { lease, execution, steps } = claimed;
        let execution = Arc::new(execution);
        let since_start = execution.started_at.map(|at| (shared.clock.now() - at).to_std().unwrap_or_default());
        let left = Duration::from_millis(execution.plan.timeout_ms).saturating_sub(since_start.unwrap_or_default());
        Self {
            journal: Journal {
                shared: Arc::clone(&shared),
                scope: Scope::of(execution.project_id),
                execution: Arc::clone(&execution),
                lease,
                lost: signals.lost.clone(),
            },
            progress: Progress::new(&execution.strategy, steps),
            halt: Halt { deadline: shared.clock.monotonic() + left, clock: Arc::clone(&shared.clock), signals },
            pipe: OutputPipe::closed(),
            means: Means::default(),
            running: JoinSet::new(),
            kept: HashMap::new(),
            forgetting: JoinSet::new(),
            notes: unbounded_channel(),
            unwritten: Vec::new(),
            handing_back: false,
            done: false,
            shared,
            execution,
        }
    }

    async fn run(&mut self) -> Result<(), Cut> {
        let prepared = self.prepare().await?;
        if self.execution.reason == Some(Reason::AttemptsExhausted) {
            self.progress.close(StepStatus::Lost, Reason::AttemptsExhausted);
        }
        if self.execution.cancel_requested_at.is_some() {
            self.halt.signals.cancel.cancel();
        }
        self.hear_signals();
        if self.handing_back && prepared.is_err() {
            return self.settle().await;
        }
        self.recover(prepared.is_ok()).await?;
        if let Err(error) = prepared
            && !self.progress.is_closed()
        {
            return self.fail(&error).await;
        }
        while !self.done {
            self.hear_signals();
            self.start_due().await?;
            if self.progress.is_running() {
                self.step().await?;
            } else {
                self.settle().await?;
            }
        }
        Ok(())
    }

    /// Reads what steps need; waits out whatever keeps storage from answering, unless the execution
    /// is to be given back.
    async fn prepare(&mut self) -> Result<Result<()>, Cut> {
        let mut pauses = Pauses::default();
        loop {
            match self.read_means().await {
                Err(error) if error.is_retryable() && !self.halt.signals.hand_back.is_cancelled() => {
                    let execution = self.journal.lease.execution;
                    tracing::warn!(%execution, %error, "what an execution needs cannot be read; trying again until it can");
                    tokio::select! {
                        paused = self.journal.pause(&mut pauses) => paused?,
                        () = self.halt.signals.hand_back.cancelled() => {}
                    }
                }
                read => return Ok(read),
            }
        }
    }

    /// Reads body, secrets and servers. Servers come first: what a dead worker left running on them
    /// is killed even if the rest cannot be read.
    async fn read_means(&mut self) -> Result<()> {
        let shared = &self.shared;
        let ids: Vec<ServerId> = self.progress.steps().iter().filter_map(|step| step.server_id).collect();
        if !ids.is_empty() {
            self.means.servers = open_targets(shared, &self.journal.scope, &ids).await?;
        }
        if let Program::Script { content, .. } = &self.execution.plan.program {
            self.means.content = Some(shared.store.content(&self.journal.scope, content).await?);
        }
        self.means.secrets = shared.open_params(&self.execution)?;
        let servers = self.means.servers.values().filter_map(|server| server.as_ref().ok());
        let credentials = servers.filter_map(|server| server.credential.as_ref());
        let hidden = credentials.flat_map(crate::inventory::OpenCredential::secrets);
        self.means.masks = SecretSet::new(self.means.secrets.values().chain(hidden));
        self.pipe = self.open_pipe();
        Ok(())
    }

    fn open_pipe(&self) -> OutputPipe {
        let (shared, id) = (Arc::clone(&self.shared), self.journal.lease.execution);
        let moved = Arc::new(move |_| shared.hub.output_moved(id));
        OutputPipe::new(
            self.shared.store.logs(),
            self.journal.lease,
            Arc::clone(&self.shared.clock),
            self.means.masks.clone(),
            moved,
        )
    }

    /// Ends an execution that cannot be driven on; nothing of it runs any more.
    async fn fail(&mut self, error: &Error) -> Result<(), Cut> {
        if self.done {
            return Ok(());
        }
        let now = self.shared.clock.now();
        self.progress.close(StepStatus::Failed, Reason::Internal);
        let detail = self.means.masks.mask_text(&error.to_string());
        let mut ends = std::mem::take(&mut self.unwritten);
        for (id, outcome) in self.progress.end_pending() {
            let outcome = Outcome { detail: Some(detail.clone()), error: Some(error.code()), ..outcome };
            ends.push(outcome.end(id, now));
        }
        let finish = self.progress.finish(now);
        let finish = finish.map(|finish| Finish { reason: Some(Reason::Internal), detail: Some(detail), ..finish });
        self.journal.write(Entry::End { ends: &ends, next: &[], finish: finish.as_ref() }).await
    }

    /// Stops everything in order, and writes once more, as little as can be.
    async fn give_up(&mut self, error: &Error) {
        self.progress.close(StepStatus::Failed, Reason::Internal);
        self.halt.signals.hand_back.cancel();
        while let Some(attempted) = self.running.join_next().await {
            let finished = self.without_left(joined(attempted).into_iter().collect());
            let ended: Vec<_> = finished.into_iter().map(|done| self.end_of(done)).collect();
            let (ends, _) = self.follow_from(ended);
            self.unwritten.extend(ends);
        }
        if self.fail(error).await.is_err() {
            let execution = self.journal.lease.execution;
            tracing::error!(%execution, "the end of an execution cannot be written; it is taken up again when this worker is gone");
        }
    }

    /// Acts on what the runner was told from outside; running steps hear it by themselves.
    fn hear_signals(&mut self) {
        if self.halt.signals.cancel.is_cancelled() {
            self.progress.close(StepStatus::Cancelled, Reason::CancelRequested);
        }
        if self.halt.left().is_zero() {
            self.progress.close(StepStatus::TimedOut, Reason::ExecutionTimeout);
        }
        self.handing_back |= self.halt.signals.hand_back.is_cancelled();
    }

    /// Starts every step that may be started now: journalled first, in one transaction.
    async fn start_due(&mut self) -> Result<(), Cut> {
        if self.handing_back {
            return Ok(());
        }
        let now = self.shared.clock.now();
        let due = self.progress.startable(now);
        if due.is_empty() {
            return Ok(());
        }
        let steps = due.into_iter().filter_map(|place| self.progress.steps().get(place));
        let tasks: Vec<(StepId, u32, Task)> = steps.map(|step| (step.id, step.ordinal, self.task(step))).collect();
        if self.execution.plan.settings.mode == RunMode::Detached {
            // Before anything runs: a worker that finds only later that another one has the log stops what that adopted.
            self.pipe.open_log().await.map_err(cut)?;
        }
        let starts: Vec<StepStart> =
            tasks.iter().map(|(step, _, task)| StepStart { step: *step, handle: task.handle(), at: now }).collect();
        self.journal.write(Entry::Start(&starts)).await?;
        for (step, ordinal, task) in tasks {
            self.progress.started(step);
            self.start(step, ordinal, task);
        }
        Ok(())
    }

    fn start(&mut self, step: StepId, ordinal: u32, task: Task) {
        let settings = &self.execution.plan.settings;
        // Said once: the very first attempt of an execution has the ordinal 0.
        let remark = if ordinal == 0 { self.unmasked() } else { None };
        let (output, limit) = (self.pipe.step(ordinal, settings.output), settings.attempt_timeout());
        self.begin(Attempt { step, task, output, remark, limit, notes: self.notes.0.clone() });
    }

    fn begin(&mut self, begun: Attempt) {
        self.kept.extend(begun.task.kept().map(|kept| (begun.step, kept)));
        self.running.spawn(attempt(begun, &self.execution.plan.settings, self.halt.clone()));
    }

    /// What to say of secrets that are too short to be masked.
    fn unmasked(&self) -> Option<String> {
        let names: Vec<&str> = self.means.secrets.keys().map(EnvName::as_str).collect();
        let named = |index: &usize| names.get(*index).copied().unwrap_or("a server's credential");
        let short: BTreeSet<&str> = self.means.masks.too_short().iter().map(named).collect();
        if short.is_empty() {
            return None;
        }
        let short = short.into_iter().collect::<Vec<_>>().join(", ");
        let least = SecretSet::MIN_LENGTH;
        Some(format!("[birun: secrets of fewer than {least} characters are not hidden in output: {short}]\n"))
    }

    /// What is to be done for a step; a step that cannot be done is a task that says so.
    fn task(&self, step: &Step) -> Task {
        match (&self.execution.plan.program, &self.means.content) {
            (Program::Job { name }, _) => match self.shared.jobs.get(name) {
                Some(job) => Task::job(job.clone(), &self.execution, step, &self.means.secrets),
                None => Task::Impossible(Ending::NotStarted(Error::new(
                    ErrorCode::NotRegistered,
                    format!("no job is named `{name}` in this worker"),
                ))),
            },
            (Program::Script { interpreter, .. }, Some(content)) => match self.reach(step) {
                Ok((executor, target)) => {
                    let work = crate::execution::Work {
                        execution: self.execution.id,
                        step: step.id,
                        target,
                        content: content.clone(),
                        interpreter: interpreter.clone(),
                        env: self.environment(step),
                        grace: self.execution.plan.settings.grace(),
                        mode: self.execution.plan.settings.mode,
                    };
                    Task::work(executor, work, self.trust())
                }
                Err(why) if why.code() == ErrorCode::ServerDeleted => Task::Impossible(Ending::Unreachable(why)),
                Err(why) => Task::Impossible(Ending::NotStarted(why)),
            },
            (Program::Script { .. }, None) => {
                let why = Error::new(ErrorCode::NotFound, "the script's body is gone");
                Task::Impossible(Ending::NotStarted(why))
            }
        }
    }

    fn environment(&self, step: &Step) -> Vec<(EnvName, Secret)> {
        let started_at = self.execution.started_at.unwrap_or(self.execution.created_at);
        crate::execution::environment::environment(&self.execution, step, &self.means.secrets, started_at)
    }

    fn trust(&self) -> Arc<dyn HostTrust> {
        EngineTrust::shared(Arc::clone(&self.shared), self.execution.project_id)
    }

    fn reach(&self, step: &Step) -> Result<(Arc<dyn Executor>, Target)> {
        let target = self.target(step)?;
        let executor = self.executor(&target)?;
        Ok((Arc::clone(executor), target))
    }

    fn target(&self, step: &Step) -> Result<Target> {
        let Some(id) = step.server_id else { return Ok(Target::Local) };
        match self.means.servers.get(&id) {
            Some(Ok(server)) => Ok(Target::Server(Arc::clone(server))),
            Some(Err(error)) => Err(Error::new(error.code(), error.to_string())),
            None => Err(Error::new(ErrorCode::ServerDeleted, format!("server `{}` was deleted", step.target))),
        }
    }

    fn executor(&self, target: &Target) -> Result<&Arc<dyn Executor>> {
        match target {
            Target::Local => self.shared.executor(LOCAL_EXECUTOR),
            Target::Server(server) => self.shared.executor(&server.executor),
        }
    }

    /// Waits for the next thing to happen while steps run.
    async fn step(&mut self) -> Result<(), Cut> {
        let now = self.shared.clock.now();
        // What has come due meanwhile is started at once.
        let retry_in = self.progress.next_due().map(|due| until(due, now));
        let closed = self.progress.is_closed();
        tokio::select! {
            biased;
            () = self.halt.signals.lost.cancelled() => Err(Cut::LeaseLost),
            Some(finished) = self.running.join_next() => {
                let mut all = vec![finished];
                while let Some(more) = self.running.try_join_next() {
                    all.push(more);
                }
                self.ended(all.into_iter().filter_map(joined).collect()).await
            }
            Some(note) = self.notes.1.recv() => self.journal.write(Entry::Note(&note)).await,
            () = self.halt.signals.cancel.cancelled(), if !closed => Ok(()),
            () = self.halt.signals.hand_back.cancelled(), if !self.handing_back => Ok(()),
            () = self.shared.clock.sleep(self.halt.left()), if !closed => Ok(()),
            () = self.shared.clock.sleep(retry_in.unwrap_or_default()), if retry_in.is_some() && !closed => Ok(()),
        }
    }

    /// Journals how attempts ended; the execution's own end goes into the same transaction.
    async fn ended(&mut self, attempted: Vec<Attempted>) -> Result<(), Cut> {
        let finished = self.without_left(attempted);
        if finished.is_empty() {
            return Ok(());
        }
        // What stopped them is heard here no later than there.
        self.hear_signals();
        if finished.iter().any(|done| done.outcome.reason == Some(Reason::ExecutionTimeout)) {
            self.progress.close(StepStatus::TimedOut, Reason::ExecutionTimeout);
        }
        let ended = finished.into_iter().map(|done| self.end_of(done)).collect();
        self.journal_ends(ended).await
    }

    /// The attempts that have ended; those that were left are noted.
    fn without_left(&mut self, attempted: Vec<Attempted>) -> Vec<Finished> {
        let mut finished = Vec::with_capacity(attempted.len());
        for attempted in attempted {
            match attempted {
                Attempted::Ended(done) => finished.push(done),
                Attempted::Left => self.progress.left(),
            }
        }
        finished
    }

    fn end_of(&self, done: Finished) -> (Outcome, StepEnd) {
        let outcome = self.masked(done.outcome);
        let end = StepEnd {
            output_bytes: done.output.bytes,
            output_dropped: done.output.dropped,
            ..outcome.clone().end(done.step, self.shared.clock.now())
        };
        (outcome, end)
    }

    /// An outcome as records may show it.
    fn masked(&self, outcome: Outcome) -> Outcome {
        let mask = |text: String| self.means.masks.mask_text(&text);
        let kill = outcome.kill.map(|kill| match kill {
            Kill::Unconfirmed { detail } => Kill::Unconfirmed { detail: mask(detail) },
            known => known,
        });
        Outcome { detail: outcome.detail.map(mask), kill, ..outcome }
    }

    /// Works out what follows from ended steps, and writes all of it at once.
    async fn journal_ends(&mut self, ended: Vec<(Outcome, StepEnd)>) -> Result<(), Cut> {
        let now = self.shared.clock.now();
        let (mut ends, next) = self.follow_from(ended);
        ends.extend(self.progress.end_pending().into_iter().map(|(id, outcome)| outcome.end(id, now)));
        let finish = self.progress.finish(now);
        let written = self.journal.write(Entry::End { ends: &ends, next: &next, finish: finish.as_ref() }).await;
        match &written {
            Ok(()) => self.forget(&ends),
            Err(_) => self.unwritten = ends,
        }
        self.done = written.is_ok() && finish.is_some();
        written
    }

    /// What follows from ended steps: their ends, and the attempts that come after them.
    fn follow_from(&mut self, ended: Vec<(Outcome, StepEnd)>) -> (Vec<StepEnd>, Vec<Step>) {
        let now = self.shared.clock.now();
        let settings = &self.execution.plan.settings;
        let mut next = Vec::new();
        let mut ends = Vec::with_capacity(ended.len());
        for (outcome, end) in ended {
            next.extend(self.progress.ended(end.step, &outcome, settings, now, random()));
            ends.push(end);
        }
        (ends, next)
    }

    /// Nothing runs: ends the execution, gives it back, or waits for the next attempt.
    async fn settle(&mut self) -> Result<(), Cut> {
        let now = self.shared.clock.now();
        if self.handing_back {
            return self.let_go(Entry::HandBack { now }).await;
        }
        let Some(due) = self.progress.next_due() else { return self.journal_ends(Vec::new()).await };
        let left = self.halt.left();
        // The limit of the execution cuts the wait short.
        let limit = TimeDelta::from_std(left).ok().and_then(|left| now.checked_add_signed(left));
        let wake_at = limit.map_or(due, |limit| due.min(limit));
        if wake_at - now > PARK_AFTER {
            return self.let_go(Entry::Park { wake_at, reason: Reason::RetryScheduled }).await;
        }
        tokio::select! {
            () = self.shared.clock.sleep(until(due, now)) => Ok(()),
            () = self.shared.clock.sleep(left) => Ok(()),
            () = self.halt.signals.cancel.cancelled() => Ok(()),
            () = self.halt.signals.hand_back.cancelled() => Ok(()),
            () = self.halt.signals.lost.cancelled() => Err(Cut::LeaseLost),
        }
    }

    /// Lets go of an execution that has not ended.
    async fn let_go(&mut self, entry: Entry<'_>) -> Result<(), Cut> {
        self.journal.write(entry).await?;
        self.done = true;
        Ok(())
    }

    /// Stops everything at once, and writes nothing.
    async fn abandon(&mut self) {
        self.halt.signals.lost.cancel();
        while self.running.join_next().await.is_some() {}
    }
}

/// What became of an attempt. An attempt never panics and is never aborted: only a runtime that goes
/// down takes one away.
fn joined(attempted: Result<Attempted, JoinError>) -> Option<Attempted> {
    attempted.inspect_err(|error| tracing::error!(%error, "an attempt was taken away from its runner")).ok()
}

/// What a log that cannot be opened means.
fn cut(error: StoreError) -> Cut {
    if matches!(error, StoreError::LeaseLost) { Cut::LeaseLost } else { Cut::Broken(error) }
}

/// A number between 0 and 1, for jitter.
fn random() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness there is no jitter, which is safe.
    if getrandom::fill(&mut bytes).is_err() {
        return 0.0;
    }
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}
