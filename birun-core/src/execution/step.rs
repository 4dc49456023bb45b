//! One attempt of a step: runs it, stops it when there is cause, and judges how it ended.

use std::any::Any;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;

use crate::clock::Clock;
use crate::error::{Error, ErrorCode};
use crate::execution::executor::HostTrust;
use crate::execution::halt::Halt;
use crate::execution::job::{Job, JobError};
use crate::execution::leftover::{Leftover, said};
use crate::execution::metrics;
use crate::execution::pipe::{StepOutput, StepTap};
use crate::execution::state::{Outcome, StopCause, judge_ending};
use crate::execution::{
    Ending, Execution, Executor, Handle, JobContext, Kill, LinkFault, OutputSender, Reason, Resume, Step, StepNote,
    StepStatus, Stop, Stream, Waits, Work, WorkIo,
};
use crate::id::{ExecutionId, StepId};
use crate::milestone;
use crate::script::{EnvName, RunMode, RunSettings};
use crate::store::StoreError;
use crate::vault::Secret;

/// What an attempt does.
pub(super) enum Task {
    /// A program on a target; with a place, one that runs there already.
    Work {
        executor: Arc<dyn Executor>,
        work: Box<Work>,
        trust: Arc<dyn HostTrust>,
        handle: Handle,
        resume: Option<Resume>,
    },
    /// A closure.
    Job { job: Job, call: JobCall },
    /// Nothing: it cannot be done, and ends like this.
    Impossible(Ending),
}

/// What a closure is called with.
pub(super) struct JobCall {
    execution: ExecutionId,
    step: StepId,
    attempt: u32,
    params: BTreeMap<EnvName, Value>,
    grace: Duration,
}

/// How a task ended.
enum Ended {
    Work(Ending),
    Job(Result<(), JobError>),
}

/// What became of an attempt.
pub(super) enum Attempted {
    /// It has ended.
    Ended(Finished),
    /// It runs on without this worker, which has nothing to say about it any more.
    Left,
}

/// An attempt that has ended.
pub(super) struct Finished {
    pub(super) step: StepId,
    pub(super) outcome: Outcome,
    pub(super) output: StepOutput,
}

impl Task {
    /// A program on a target; nothing can be done through an executor that panics.
    pub(super) fn work(executor: Arc<dyn Executor>, work: Work, trust: Arc<dyn HostTrust>) -> Self {
        match catch_unwind(AssertUnwindSafe(|| executor.handle(&work))) {
            Ok(handle) => Self::Work { executor, work: Box::new(work), trust, handle, resume: None },
            Err(panic) => Self::Impossible(Ending::NotStarted(Error::internal(format!(
                "the executor `{}` panicked before anything was started: {}",
                executor.name(),
                said(panic.as_ref())
            )))),
        }
    }

    /// The same work, taken up where an earlier worker left it.
    pub(super) fn taken_up(self, from: Resume) -> Self {
        match self {
            Self::Work { executor, work, trust, handle, .. } => {
                Self::Work { executor, work, trust, handle, resume: Some(from) }
            }
            other => other,
        }
    }

    /// Whether it goes on without its worker.
    fn is_detached(&self) -> bool {
        matches!(self, Self::Work { work, .. } if work.mode == RunMode::Detached)
    }

    /// What is kept of it on its target beyond its end.
    pub(super) fn kept(&self) -> Option<Leftover> {
        self.leftover().filter(|_| self.is_detached())
    }

    pub(super) fn job(job: Job, execution: &Execution, step: &Step, secrets: &BTreeMap<EnvName, Secret>) -> Self {
        let mut params = execution.params.clone();
        params.extend(secrets.iter().map(|(name, secret)| (name.clone(), Value::from(secret.expose()))));
        let grace = execution.plan.settings.grace();
        Self::Job {
            job,
            call: JobCall { execution: execution.id, step: step.id, attempt: step.attempt, params, grace },
        }
    }

    /// What its processes are found by.
    pub(super) fn handle(&self) -> Option<Handle> {
        match self {
            Self::Work { handle, .. } => Some(handle.clone()),
            Self::Job { .. } | Self::Impossible(_) => None,
        }
    }

    /// What may be left of it when its end is not known.
    fn leftover(&self) -> Option<Leftover> {
        match self {
            Self::Work { executor, work, handle, .. } => Some(Leftover {
                executor: Arc::clone(executor),
                target: work.target.clone(),
                handle: handle.clone(),
                grace: work.grace,
            }),
            Self::Job { .. } | Self::Impossible(_) => None,
        }
    }

    async fn run(self, output: OutputSender, stop: Stop, waits: Waits, clock: Arc<dyn Clock>) -> Ended {
        match self {
            Self::Work { executor, work, trust, handle: _, resume } => {
                let io = WorkIo { output, stop, trust, waits };
                Ended::Work(match resume {
                    Some(from) => executor.adopt(*work, io, from).await,
                    None => executor.run(*work, io).await,
                })
            }
            Self::Job { job, call } => run_job(&job, call, output, stop, clock).await,
            Self::Impossible(ending) => Ended::Work(ending),
        }
    }
}

/// Calls a closure; one that does not end within its grace after a stop is dropped at its next await.
async fn run_job(job: &Job, call: JobCall, output: OutputSender, stop: Stop, clock: Arc<dyn Clock>) -> Ended {
    let JobCall { execution, step, attempt, params, grace } = call;
    let context = JobContext { execution, step, attempt, params, output, stop: stop.gracefully.clone() };
    let overdue = async {
        stop.gracefully.cancelled().await;
        tokio::select! {
            () = clock.sleep(grace) => {}
            () = stop.now.cancelled() => {}
        }
    };
    tokio::select! {
        result = job.call(context) => Ended::Job(result),
        () = overdue => Ended::Work(Ending::Stopped { kill: Kill::Confirmed }),
    }
}

/// An attempt that is about to begin.
pub(super) struct Attempt {
    pub(super) step: StepId,
    pub(super) task: Task,
    pub(super) output: (OutputSender, StepTap),
    /// What birun itself says in the output first.
    pub(super) remark: Option<String>,
    /// How long it may take from now on.
    pub(super) limit: Option<Duration>,
    /// Takes what the attempt waits for.
    pub(super) notes: UnboundedSender<StepNote>,
}

/// Prepares an attempt: the future that runs it to its end, which comes early when the execution is
/// halted. The future never panics.
pub(super) fn attempt(
    attempt: Attempt,
    settings: &RunSettings,
    halt: Halt,
) -> impl Future<Output = Attempted> + Send + use<> {
    let settings = settings.clone();
    let Attempt { step, task, output: (output, tap), remark, limit: time, notes } = attempt;
    async move {
        if let Some(remark) = remark {
            // If the output is not taken, that is told when the step ends.
            let _closed = output.send(Stream::System, remark.into()).await;
        }
        let (leftover, detached) = (task.leftover(), task.is_detached());
        let (stop, waits) = (Stop::default(), Waits::default());
        let run = task.run(output, stop.clone(), waits.clone(), Arc::clone(&halt.clock));
        let run = AssertUnwindSafe(run).catch_unwind();
        let whole = async {
            let supervised = supervise(run, &stop, &halt, &tap, limit(time, &waits, &halt), detached);
            let (ended, cause) = tokio::select! {
                ended = supervised => ended,
                never = tell_waits(step, &waits, &notes, &halt) => match never {},
            };
            let ended = match ended {
                Ok(Ended::Work(Ending::Left)) if stop.leave.is_cancelled() => return leave(step, tap).await,
                Ok(Ended::Work(Ending::Left)) => Ok(Ended::Work(left_unasked())),
                ended => ended,
            };
            milestone::reach("exit.after");
            let outcome = judge(ended, cause, &settings, leftover.as_ref(), &halt).await;
            Attempted::Ended(store_output(step, tap, outcome).await)
        };
        let begun = halt.clock.monotonic();
        let attempted = match AssertUnwindSafe(whole).catch_unwind().await {
            Ok(attempted) => attempted,
            Err(panic) => {
                let outcome = kill_unseen(broken(panic.as_ref()), leftover.as_ref(), &halt).await;
                Attempted::Ended(Finished { step, outcome, output: StepOutput::default() })
            }
        };
        if let Attempted::Ended(finished) = &attempted {
            metrics::attempt_ran(finished.outcome.status, halt.clock.monotonic().saturating_sub(begun));
        }
        attempted
    }
}

/// What an executor says that leaves work alone although nobody asked it to.
fn left_unasked() -> Ending {
    Ending::Lost { fault: LinkFault::LinkLost, detail: "the executor left it, and was not asked to".to_owned() }
}

/// Leaves an attempt to whoever takes it up next.
async fn leave(step: StepId, tap: StepTap) -> Attempted {
    if let Err(error) = tap.leave().await {
        tracing::warn!(%step, %error, "the output of a step that is left may be read again");
    }
    Attempted::Left
}

/// Judges how a run ended. Where nobody saw the end of its processes, they are killed first.
async fn judge(
    ended: Result<Ended, Box<dyn Any + Send>>,
    cause: Option<StopCause>,
    settings: &RunSettings,
    leftover: Option<&Leftover>,
    halt: &Halt,
) -> Outcome {
    match ended {
        Ok(Ended::Work(ending)) => {
            let unseen = matches!(ending, Ending::Lost { .. });
            let outcome = judge_ending(ending, cause, settings);
            if unseen { kill_unseen(outcome, leftover, halt).await } else { outcome }
        }
        Ok(Ended::Job(result)) => judge_job(result, cause),
        Err(panic) => kill_unseen(panicked(panic.as_ref()), leftover, halt).await,
    }
}

/// Kills what may be left of a run, and adds what became of it.
async fn kill_unseen(outcome: Outcome, leftover: Option<&Leftover>, halt: &Halt) -> Outcome {
    match leftover {
        Some(leftover) => outcome.with_kill(leftover.kill(halt).await),
        None => outcome,
    }
}

/// Ends the step's output, and what that means for its end.
async fn store_output(step: StepId, tap: StepTap, outcome: Outcome) -> Finished {
    let (output, stored) = tap.finish().await;
    milestone::reach("sync.after");
    let outcome = match stored {
        Ok(()) if output.limit_hit => beyond_limit(outcome),
        Ok(()) => outcome,
        Err(error) => not_stored(outcome, &error),
    };
    Finished { step, outcome, output }
}

/// Resolves when the attempt has had as much time as it is allowed, since it has its place.
async fn limit(limit: Option<Duration>, waits: &Waits, halt: &Halt) {
    match limit {
        Some(limit) => waits.had_place_for(limit, &*halt.clock).await,
        None => std::future::pending().await,
    }
}

/// Tells whoever keeps the journal why the attempt waits, and when it waits no more.
async fn tell_waits(step: StepId, waits: &Waits, notes: &UnboundedSender<StepNote>, halt: &Halt) -> Infallible {
    let mut told = false;
    loop {
        let why = waits.news(told, &*halt.clock).await;
        told = why.is_some();
        // Nobody listens once the execution is over.
        let _closed = notes.send(StepNote { step, waits_for: why.map(|why| why.to_string()) });
    }
}

/// Runs to the end, and tells the first cause to stop, if there was one. The run is never dropped. What is
/// detached goes on without its worker.
async fn supervise<T>(
    run: impl Future<Output = T>,
    stop: &Stop,
    halt: &Halt,
    tap: &StepTap,
    limit: impl Future<Output = ()>,
    detached: bool,
) -> (T, Option<StopCause>) {
    let cause = async {
        tokio::select! {
            biased;
            cause = halt.cause() => cause,
            () = limit => StopCause::AttemptTimeout,
            () = tap.limit_hit() => StopCause::OutputLimit,
        }
    };
    tokio::pin!(run, cause);
    // Whatever is to stop already is not let loose first.
    let cause = match (&mut cause).now_or_never() {
        Some(cause) => cause,
        None => tokio::select! {
            biased;
            ended = &mut run => return (ended, None),
            cause = cause => cause,
        },
    };
    if detached && cause == StopCause::WorkerStopped && !halt.signals.kill.is_cancelled() {
        stop.leave.cancel();
        return (run.await, Some(cause));
    }
    stop.gracefully.cancel();
    tokio::select! {
        biased;
        ended = &mut run => (ended, Some(cause)),
        () = halt.at_once() => {
            stop.now.cancel();
            (run.await, Some(cause))
        }
    }
}

fn judge_job(result: Result<(), JobError>, cause: Option<StopCause>) -> Outcome {
    match (result, cause) {
        (Ok(()), None) => Outcome::plain(StepStatus::Succeeded, None),
        // A job that was told to stop and returned has been stopped, whatever it returned.
        (_, Some(cause)) => {
            judge_ending(Ending::Stopped { kill: Kill::Confirmed }, Some(cause), &RunSettings::default())
        }
        (Err(error), None) => {
            Outcome { detail: Some(error.to_string()), ..Outcome::plain(StepStatus::Failed, Some(Reason::JobFailed)) }
        }
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Outcome {
    Outcome {
        detail: Some(format!("panicked: {}", said(panic))),
        error: Some(ErrorCode::Internal),
        ..Outcome::plain(StepStatus::Failed, Some(Reason::JobPanicked))
    }
}

/// birun itself panicked while it looked after an attempt: nobody knows how that ended.
fn broken(panic: &(dyn Any + Send)) -> Outcome {
    Outcome {
        detail: Some(format!("birun panicked while it ran: {}", said(panic))),
        error: Some(ErrorCode::Internal),
        ..Outcome::plain(StepStatus::Lost, Some(Reason::Internal))
    }
}

/// A step that wrote more than allowed has failed, even if it ended before it could be stopped.
fn beyond_limit(outcome: Outcome) -> Outcome {
    if outcome.status != StepStatus::Succeeded {
        return outcome;
    }
    Outcome { status: StepStatus::Failed, reason: Some(Reason::OutputLimit), ..outcome }
}

/// A step whose output is not stored has not succeeded, whatever its exit code.
fn not_stored(outcome: Outcome, error: &StoreError) -> Outcome {
    if !matches!(outcome.status, StepStatus::Succeeded | StepStatus::Failed) {
        return outcome;
    }
    let code = match error {
        StoreError::Full { .. } => ErrorCode::StorageFull,
        _ => ErrorCode::Internal,
    };
    Outcome {
        status: StepStatus::Failed,
        reason: Some(Reason::StorageFull),
        detail: Some(format!("its output could not be stored: {error}")),
        error: Some(code),
        ..outcome
    }
}
