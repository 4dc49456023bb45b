//! The pure rules of an execution: what starts next, what an ending means, how it all ends.
//!
//! [`Progress`] is rebuilt from the journal whenever a worker takes an execution up, and every
//! answer it gives depends on nothing but its arguments.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::error::ErrorCode;
use crate::execution::{
    Counts, Ending, ExecutionStatus, Finish, Kill, LinkFault, Reason, Step, StepEnd, StepStatus, Strategy,
};
use crate::id::StepId;
use crate::script::{LostPolicy, RetryPolicy, RunSettings};

/// Why running steps are stopped. Of two causes the earlier one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// Someone cancelled the execution.
    Cancel,
    /// The attempt's limit was reached.
    AttemptTimeout,
    /// The execution's limit was reached.
    ExecutionTimeout,
    /// It wrote more output than allowed.
    OutputLimit,
    /// Its output could not be stored.
    StorageFull,
    /// The worker is told to stop, and its drain time ran out.
    WorkerStopped,
}

/// What one attempt came to, in the words of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How the step stands now.
    pub status: StepStatus,
    /// Why.
    pub reason: Option<Reason>,
    /// In words.
    pub detail: Option<String>,
    /// The error's code.
    pub error: Option<ErrorCode>,
    /// The exit code.
    pub exit_code: Option<i32>,
    /// The signal.
    pub signal: Option<String>,
    /// What became of killed processes.
    pub kill: Option<Kill>,
}

impl Outcome {
    /// An outcome without particulars.
    #[must_use]
    pub const fn plain(status: StepStatus, reason: Option<Reason>) -> Self {
        Self { status, reason, detail: None, error: None, exit_code: None, signal: None, kill: None }
    }

    fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds what became of its processes. Where nobody could see their end, the detail says why,
    /// and what can be run to finish it.
    #[must_use]
    pub fn with_kill(mut self, kill: Kill) -> Self {
        if let Kill::Unconfirmed { detail } = &kill {
            let before = self.detail.take().map_or_else(String::new, |before| format!("{before}; "));
            self.detail = Some(format!("{before}its processes may still run: {detail}"));
        }
        self.kill = Some(kill);
        self
    }

    /// Writes this outcome for a step.
    #[must_use]
    pub fn end(self, step: StepId, at: DateTime<Utc>) -> StepEnd {
        StepEnd {
            step,
            status: self.status,
            reason: self.reason,
            detail: self.detail,
            error: self.error,
            exit_code: self.exit_code,
            signal: self.signal,
            kill: self.kill,
            at,
            output_bytes: 0,
            output_dropped: 0,
        }
    }
}

/// Judges how an attempt ended. `cause` is why it was stopped, if it was.
///
/// Success is an exit code among those that are one, of a program that was not told to stop;
/// everything else is something else.
#[must_use]
pub fn judge_ending(ending: Ending, cause: Option<StopCause>, settings: &RunSettings) -> Outcome {
    match ending {
        Ending::Exited { code } => judge_exit(code, settings),
        Ending::Signaled { signal } => Outcome {
            detail: Some(format!("killed by signal {signal}")),
            signal: Some(signal),
            ..Outcome::plain(StepStatus::Failed, Some(Reason::Signal))
        },
        Ending::Unreachable(error) => Outcome {
            error: Some(error.code()),
            ..Outcome::plain(StepStatus::Unreachable, Some(Reason::Unreachable)).with_detail(error.to_string())
        },
        Ending::NotStarted(error) => Outcome {
            error: Some(error.code()),
            ..Outcome::plain(StepStatus::Failed, Some(Reason::SpawnFailed)).with_detail(error.to_string())
        },
        Ending::Lost { fault, detail } => {
            let (reason, error) = match fault {
                LinkFault::LinkLost => (Reason::LinkLost, Some(ErrorCode::LinkLost)),
                LinkFault::NoExitStatus => (Reason::NoExitStatus, None),
            };
            Outcome { error, ..Outcome::plain(StepStatus::Lost, Some(reason)).with_detail(detail) }
        }
        Ending::Stopped { kill } => {
            let (status, reason) = stopped(cause);
            Outcome::plain(status, Some(reason)).with_kill(kill)
        }
    }
}

fn judge_exit(code: i32, settings: &RunSettings) -> Outcome {
    let ok = settings.ok_exit_codes.contains(&code);
    let (status, reason) =
        if ok { (StepStatus::Succeeded, None) } else { (StepStatus::Failed, Some(Reason::ExitCode)) };
    Outcome { exit_code: Some(code), ..Outcome::plain(status, reason) }
}

/// What a stopped step is called. A receiver that went away without a cause is a storage fault.
const fn stopped(cause: Option<StopCause>) -> (StepStatus, Reason) {
    match cause {
        Some(StopCause::Cancel) => (StepStatus::Cancelled, Reason::CancelRequested),
        Some(StopCause::AttemptTimeout) => (StepStatus::TimedOut, Reason::AttemptTimeout),
        Some(StopCause::ExecutionTimeout) => (StepStatus::TimedOut, Reason::ExecutionTimeout),
        Some(StopCause::OutputLimit) => (StepStatus::Failed, Reason::OutputLimit),
        Some(StopCause::WorkerStopped) => (StepStatus::Failed, Reason::WorkerStopped),
        Some(StopCause::StorageFull) | None => (StepStatus::Failed, Reason::StorageFull),
    }
}

/// What becomes of a step that was in flight when its worker died, after its processes were looked for.
#[must_use]
pub fn judge_orphan(kill: Option<Kill>) -> Outcome {
    let outcome = Outcome::plain(StepStatus::Lost, Some(Reason::WorkerDied));
    let outcome = outcome.with_detail("its worker died while it ran");
    match kill {
        Some(kill) => outcome.with_kill(kill),
        None => outcome,
    }
}

/// Whether an attempt that came to this is tried again.
#[must_use]
pub fn retries(policy: &RetryPolicy, on_lost: LostPolicy, attempt: u32, outcome: &Outcome) -> bool {
    if matches!(outcome.kill, Some(Kill::Unconfirmed { .. })) {
        // Trying again beside processes that may still live would run the work twice at once.
        return false;
    }
    if matches!(outcome.reason, Some(Reason::WorkerDied | Reason::WorkerStopped)) {
        return on_lost == LostPolicy::Retry;
    }
    if attempt >= policy.max_attempts {
        return false;
    }
    match (outcome.status, outcome.exit_code) {
        (StepStatus::Failed, Some(code)) => policy.exit_codes.is_empty() || policy.exit_codes.contains(&code),
        (StepStatus::Failed, None) => matches!(outcome.reason, Some(Reason::Signal | Reason::JobFailed)),
        (StepStatus::Unreachable, _) => policy.unreachable,
        (StepStatus::TimedOut, _) => policy.timed_out && outcome.reason == Some(Reason::AttemptTimeout),
        (StepStatus::Lost, _) => on_lost == LostPolicy::Retry && outcome.reason == Some(Reason::LinkLost),
        _ => false,
    }
}

/// How long to wait before attempt number `attempt` (2 or more). `random` is between 0 and 1.
#[must_use]
pub fn backoff(policy: &RetryPolicy, attempt: u32, random: f64) -> Duration {
    let backoff = policy.backoff;
    let exponent = i32::try_from(attempt.saturating_sub(2)).unwrap_or(i32::MAX);
    let base = millis(backoff.initial_ms) * backoff.factor.powi(exponent);
    let wait = (base * (1.0 + backoff.jitter * random)).min(millis(backoff.max_ms));
    Duration::try_from_secs_f64(wait / 1000.0).unwrap_or(Duration::ZERO)
}

/// How long to wait until an instant: not at all, once it has passed.
#[must_use]
pub fn until(instant: DateTime<Utc>, now: DateTime<Utc>) -> Duration {
    (instant - now).to_std().unwrap_or_default()
}

/// Milliseconds as a float; exact for every wait shorter than 49 days, longer ones are cut.
fn millis(value: u64) -> f64 {
    f64::from(u32::try_from(value).unwrap_or(u32::MAX))
}

/// How an execution stands inside.
///
/// Nothing here looks at every step when one of them moves: what is asked often is counted along.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The newest attempt on each target, in the order of the targets.
    current: Vec<Step>,
    /// Where each of them stands.
    places: HashMap<StepId, usize>,
    counts: Counts,
    next_ordinal: u32,
    parallel: usize,
    max_failures: Option<usize>,
    closing: Option<(StepStatus, Reason)>,
    batch: Batch,
    #[cfg(test)]
    visits: usize,
}

/// The targets that may be started now: all before them have ended, all behind them wait.
#[derive(Clone, Debug)]
struct Batch {
    size: usize,
    /// Where it begins.
    start: usize,
    /// How many of its targets have not ended.
    open: usize,
    /// Pending and due.
    due: BTreeSet<usize>,
    /// Pending until an instant.
    waiting: BTreeSet<(DateTime<Utc>, usize)>,
}

impl Progress {
    /// Takes an execution up as the journal has it.
    #[must_use]
    pub fn new(strategy: &Strategy, steps: Vec<Step>) -> Self {
        let next_ordinal = steps.iter().map(|step| step.ordinal + 1).max().unwrap_or(0);
        let mut current = steps;
        current.sort_by_key(|step| (step.position, std::cmp::Reverse(step.attempt)));
        current.dedup_by_key(|step| step.position);
        let total = current.len();
        let size = strategy.batch.map_or(total, |amount| amount.of(total)).max(1);
        let mut progress = Self {
            next_ordinal,
            parallel: strategy.parallel as usize,
            max_failures: strategy.max_failures.map(|amount| amount.of(total)),
            closing: None,
            places: current.iter().enumerate().map(|(place, step)| (step.id, place)).collect(),
            counts: Counts::of(current.iter().map(|step| step.status)),
            batch: Batch { size, start: 0, open: 0, due: BTreeSet::new(), waiting: BTreeSet::new() },
            current,
            #[cfg(test)]
            visits: 0,
        };
        progress.open_batch();
        progress
    }

    /// The newest attempt on each target.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.current
    }

    /// How the targets stand.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// The places in [`steps`](Self::steps) of those that can be started now, in order, without going
    /// beyond width, batch and failure limit.
    #[must_use]
    pub fn startable(&mut self, now: DateTime<Utc>) -> Vec<usize> {
        if self.closing.is_some() {
            return Vec::new();
        }
        while let Some((at, place)) = self.batch.waiting.first().copied().filter(|(at, _)| *at <= now) {
            self.batch.waiting.remove(&(at, place));
            self.batch.due.insert(place);
            self.visit();
        }
        self.batch.due.iter().copied().take(self.room()).collect()
    }

    /// Notes that a step was started.
    pub fn started(&mut self, id: StepId) {
        if let Some(place) = self.places.get(&id).copied() {
            self.batch.due.remove(&place);
            self.set(place, StepStatus::Running);
        }
    }

    /// Notes how a step ended. Answers the attempt that follows, if one does.
    pub fn ended(
        &mut self,
        id: StepId,
        outcome: &Outcome,
        settings: &RunSettings,
        now: DateTime<Utc>,
        random: f64,
    ) -> Option<Step> {
        let place = self.places.get(&id).copied()?;
        self.set(place, outcome.status);
        let step = self.current.get(place)?;
        if self.closing.is_some() || !retries(&settings.retry, settings.on_lost, step.attempt, outcome) {
            self.leave(place);
            return None;
        }
        let wait = TimeDelta::from_std(backoff(&settings.retry, step.attempt + 1, random)).unwrap_or_default();
        let next = next_attempt(step, self.next_ordinal, now + wait);
        self.next_ordinal += 1;
        self.places.remove(&id);
        self.places.insert(next.id, place);
        self.set(place, next.status);
        if let Some(step) = self.current.get_mut(place) {
            step.clone_from(&next);
        }
        self.batch.waiting.insert((now + wait, place));
        Some(next)
    }

    /// Starts nothing more; what is pending will end like this. The first call counts, but to be told
    /// to end outweighs to have failed too often.
    pub fn close(&mut self, status: StepStatus, reason: Reason) {
        if self.closing.is_none_or(|(closed, _)| closed == StepStatus::Skipped) {
            self.closing = Some((status, reason));
        }
    }

    /// Whether nothing more is started.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.closing.is_some()
    }

    /// Ends what will never be started, and answers it.
    pub fn end_pending(&mut self) -> Vec<(StepId, Outcome)> {
        let Some((status, reason)) = self.closing else { return Vec::new() };
        if self.counts.pending == 0 {
            return Vec::new();
        }
        let pending = self.current.iter_mut().filter(|step| step.status == StepStatus::Pending);
        let ended = pending
            .map(|step| {
                step.status = status;
                (step.id, Outcome::plain(status, Some(reason)))
            })
            .collect();
        self.counts = Counts::of(self.current.iter().map(|step| step.status));
        ended
    }

    /// Whether any step runs.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        self.counts.running > 0
    }

    /// When the next attempt can be started, if one waits for its time and there is room for it.
    #[must_use]
    pub fn next_due(&self) -> Option<DateTime<Utc>> {
        let waits = self.closing.is_none() && self.room() > 0;
        self.batch.waiting.first().map(|(at, _)| *at).filter(|_| waits)
    }

    /// How the execution ends, once every step has ended.
    #[must_use]
    pub fn finish(&self, at: DateTime<Utc>) -> Option<Finish> {
        if self.counts.pending + self.counts.running > 0 {
            return None;
        }
        let (status, reason) = self.verdict(&self.counts);
        Some(Finish { status, reason, detail: None, counts: self.counts, at })
    }

    fn verdict(&self, counts: &Counts) -> (ExecutionStatus, Option<Reason>) {
        match self.closing {
            Some((StepStatus::Cancelled, reason)) => return (ExecutionStatus::Cancelled, Some(reason)),
            Some((StepStatus::TimedOut, reason)) => return (ExecutionStatus::TimedOut, Some(reason)),
            Some((StepStatus::Lost, reason)) => return (ExecutionStatus::Lost, Some(reason)),
            _ => {}
        }
        let fell_short = counts.total - counts.succeeded;
        if fell_short == 0 {
            return (ExecutionStatus::Succeeded, None);
        }
        let reason = Some(Reason::StepsFailed);
        match fell_short {
            short if short == counts.timed_out => (ExecutionStatus::TimedOut, Some(Reason::AttemptTimeout)),
            short if short == counts.lost => (ExecutionStatus::Lost, reason),
            _ => (ExecutionStatus::Failed, reason),
        }
    }

    /// How many more may be started at once.
    fn room(&self) -> usize {
        self.parallel.saturating_sub(self.counts.running as usize)
    }

    fn set(&mut self, place: usize, status: StepStatus) {
        if let Some(step) = self.current.get_mut(place) {
            self.counts.moved(step.status, status);
            step.status = status;
        }
    }

    /// A target has ended for good: looks at the failures, and at the batch if it was its last one.
    fn leave(&mut self, place: usize) {
        let failures = self.counts.ended() - self.counts.succeeded;
        if self.max_failures.is_some_and(|limit| failures as usize >= limit) {
            self.close(StepStatus::Skipped, Reason::MaxFailures);
        }
        if (self.batch.start..self.batch.start + self.batch.size).contains(&place) {
            self.batch.open = self.batch.open.saturating_sub(1);
        }
        if self.batch.open == 0 {
            self.batch.start += self.batch.size;
            self.open_batch();
        }
    }

    /// Opens the first batch from `start` on that has targets which have not ended.
    fn open_batch(&mut self) {
        while let Some(steps) = self.current.get(self.batch.start..).filter(|rest| !rest.is_empty()) {
            let mut visits = 0;
            for (place, step) in (self.batch.start..).zip(steps.iter().take(self.batch.size)) {
                visits += 1;
                self.batch.open += usize::from(!step.status.is_terminal());
                if step.status == StepStatus::Pending {
                    match step.not_before {
                        Some(at) => drop(self.batch.waiting.insert((at, place))),
                        None => drop(self.batch.due.insert(place)),
                    }
                }
            }
            self.visited(visits);
            if self.batch.open > 0 {
                return;
            }
            self.batch.start += self.batch.size;
        }
    }

    fn visit(&mut self) {
        self.visited(1);
    }

    #[cfg(test)]
    const fn visited(&mut self, steps: usize) {
        self.visits += steps;
    }

    #[cfg(not(test))]
    const fn visited(&mut self, _: usize) {}
}

/// The attempt after `step`, which waits for its time.
fn next_attempt(step: &Step, ordinal: u32, not_before: DateTime<Utc>) -> Step {
    Step {
        id: StepId::new(),
        execution_id: step.execution_id,
        ordinal,
        position: step.position,
        target: step.target.clone(),
        server_id: step.server_id,
        attempt: step.attempt + 1,
        status: StepStatus::Pending,
        reason: Some(Reason::RetryScheduled),
        detail: None,
        error: None,
        exit_code: None,
        signal: None,
        kill: None,
        handle: None,
        epoch: 0,
        not_before: Some(not_before),
        started_at: None,
        finished_at: None,
        output_bytes: 0,
        output_dropped: 0,
        rev: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::execution::Amount;
    use crate::id::ExecutionId;
    use crate::inventory::TargetName;

    fn step(position: u32) -> Step {
        Step {
            id: StepId::new(),
            execution_id: ExecutionId::new(),
            ordinal: position,
            position,
            target: TargetName::Local,
            server_id: None,
            attempt: 1,
            status: StepStatus::Pending,
            reason: None,
            detail: None,
            error: None,
            exit_code: None,
            signal: None,
            kill: None,
            handle: None,
            epoch: 0,
            not_before: None,
            started_at: None,
            finished_at: None,
            output_bytes: 0,
            output_dropped: 0,
            rev: 0,
        }
    }

    fn progress(targets: u32, strategy: &Strategy) -> Progress {
        Progress::new(strategy, (0..targets).map(step).collect())
    }

    fn start_all(progress: &mut Progress) -> Vec<StepId> {
        let ids = startable(progress, DateTime::UNIX_EPOCH);
        ids.iter().for_each(|id| progress.started(*id));
        ids
    }

    fn startable(progress: &mut Progress, now: DateTime<Utc>) -> Vec<StepId> {
        progress.startable(now).into_iter().map(|place| progress.steps()[place].id).collect()
    }

    fn end(progress: &mut Progress, id: StepId, code: i32) -> Option<Step> {
        let settings = RunSettings::default();
        let outcome = judge_ending(Ending::Exited { code }, None, &settings);
        progress.ended(id, &outcome, &settings, DateTime::UNIX_EPOCH, 0.0)
    }

    #[test]
    fn only_an_exit_code_that_is_a_success_succeeds() {
        let settings = RunSettings { ok_exit_codes: [0, 3].into(), ..RunSettings::default() };
        let unreachable = || Error::new(ErrorCode::ConnectTimeout, "x");
        let cases = [
            (Ending::Exited { code: 0 }, None, StepStatus::Succeeded, None),
            (Ending::Exited { code: 3 }, None, StepStatus::Succeeded, None),
            (Ending::Exited { code: 1 }, None, StepStatus::Failed, Some(Reason::ExitCode)),
            (Ending::Signaled { signal: "SEGV".into() }, None, StepStatus::Failed, Some(Reason::Signal)),
            (Ending::Unreachable(unreachable()), None, StepStatus::Unreachable, Some(Reason::Unreachable)),
            (Ending::NotStarted(unreachable()), None, StepStatus::Failed, Some(Reason::SpawnFailed)),
            (
                Ending::Lost { fault: LinkFault::NoExitStatus, detail: String::new() },
                None,
                StepStatus::Lost,
                Some(Reason::NoExitStatus),
            ),
            (
                Ending::Stopped { kill: Kill::Confirmed },
                Some(StopCause::Cancel),
                StepStatus::Cancelled,
                Some(Reason::CancelRequested),
            ),
            (
                Ending::Stopped { kill: Kill::Confirmed },
                Some(StopCause::AttemptTimeout),
                StepStatus::TimedOut,
                Some(Reason::AttemptTimeout),
            ),
            (Ending::Stopped { kill: Kill::Confirmed }, None, StepStatus::Failed, Some(Reason::StorageFull)),
        ];
        for (ending, cause, status, reason) in cases {
            let shown = format!("{ending:?} {cause:?}");
            let outcome = judge_ending(ending, cause, &settings);
            assert_eq!((outcome.status, outcome.reason), (status, reason), "{shown}");
        }
    }

    #[test]
    fn no_more_than_the_width_run_at_once() {
        let mut progress = progress(5, &Strategy { parallel: 2, ..Strategy::default() });
        let first = start_all(&mut progress);
        assert_eq!(first.len(), 2);
        assert!(start_all(&mut progress).is_empty());
        end(&mut progress, first[0], 0);
        assert_eq!(start_all(&mut progress).len(), 1);
    }

    #[test]
    fn a_batch_waits_for_the_whole_batch_before_it() {
        let mut progress = progress(3, &Strategy { batch: Some(Amount::Count(2)), ..Strategy::default() });
        let first = start_all(&mut progress);
        assert_eq!(first.len(), 2);
        end(&mut progress, first[0], 0);
        assert!(start_all(&mut progress).is_empty());
        end(&mut progress, first[1], 1);
        assert_eq!(start_all(&mut progress).len(), 1);
    }

    #[test]
    fn after_too_many_failures_the_rest_is_skipped() {
        let strategy = Strategy { parallel: 1, max_failures: Some(Amount::Count(2)), ..Strategy::default() };
        let mut progress = progress(4, &strategy);
        for _ in 0..2 {
            let ids = start_all(&mut progress);
            end(&mut progress, ids[0], 1);
        }
        assert!(start_all(&mut progress).is_empty());
        assert_eq!(progress.end_pending().len(), 2);
        let finish = progress.finish(DateTime::UNIX_EPOCH).unwrap();
        assert_eq!((finish.status, finish.counts.skipped, finish.counts.failed), (ExecutionStatus::Failed, 2, 2));
    }

    #[test]
    fn a_retry_is_a_new_step_on_the_same_target_after_its_wait() {
        let mut progress = progress(1, &Strategy::default());
        let mut settings = RunSettings::default();
        settings.retry.max_attempts = 2;
        let ids = start_all(&mut progress);
        let outcome = judge_ending(Ending::Exited { code: 1 }, None, &settings);
        let next = progress.ended(ids[0], &outcome, &settings, DateTime::UNIX_EPOCH, 0.0).unwrap();
        assert_eq!((next.attempt, next.ordinal, next.position), (2, 1, 0));
        assert!(progress.startable(DateTime::UNIX_EPOCH).is_empty());
        let due = progress.next_due().unwrap();
        assert_eq!(startable(&mut progress, due), [next.id]);
        progress.started(next.id);
        assert!(progress.ended(next.id, &outcome, &settings, due, 0.0).is_none());
        assert_eq!(progress.finish(due).unwrap().status, ExecutionStatus::Failed);
    }

    #[test]
    fn nothing_is_retried_once_the_execution_is_closed() {
        let mut progress = progress(1, &Strategy::default());
        let mut settings = RunSettings::default();
        settings.retry.max_attempts = 5;
        let ids = start_all(&mut progress);
        progress.close(StepStatus::Cancelled, Reason::CancelRequested);
        let outcome = judge_ending(Ending::Exited { code: 1 }, None, &settings);
        assert!(progress.ended(ids[0], &outcome, &settings, DateTime::UNIX_EPOCH, 0.0).is_none());
        assert_eq!(progress.finish(DateTime::UNIX_EPOCH).unwrap().status, ExecutionStatus::Cancelled);
    }

    #[test]
    fn an_orphan_is_retried_only_where_that_is_declared_and_its_processes_are_gone() {
        let policy = RetryPolicy::default();
        let unconfirmed = Kill::Unconfirmed { detail: String::new() };
        for (on_lost, kill, expected) in [
            (LostPolicy::Lost, Some(Kill::Confirmed), false),
            (LostPolicy::Retry, Some(Kill::Confirmed), true),
            (LostPolicy::Retry, Some(Kill::Gone), true),
            (LostPolicy::Retry, None, true),
            (LostPolicy::Retry, Some(unconfirmed), false),
        ] {
            assert_eq!(retries(&policy, on_lost, 1, &judge_orphan(kill.clone())), expected, "{on_lost} {kill:?}");
        }
    }

    #[test]
    fn what_its_worker_stopped_is_tried_again_where_that_is_declared() {
        let settings = RunSettings::default();
        let stopped = |kill| judge_ending(Ending::Stopped { kill }, Some(StopCause::WorkerStopped), &settings);
        let unconfirmed = Kill::Unconfirmed { detail: String::new() };
        for (on_lost, kill, expected) in [
            (LostPolicy::Lost, Kill::Confirmed, false),
            (LostPolicy::Retry, Kill::Confirmed, true),
            (LostPolicy::Retry, unconfirmed, false),
        ] {
            let outcome = stopped(kill);
            assert_eq!(retries(&settings.retry, on_lost, 1, &outcome), expected, "{on_lost} {outcome:?}");
        }
    }

    #[test]
    fn nothing_is_tried_again_beside_processes_that_may_still_run() {
        let mut settings = RunSettings { on_lost: LostPolicy::Retry, ..RunSettings::default() };
        settings.retry = RetryPolicy { max_attempts: 9, timed_out: true, ..RetryPolicy::default() };
        let lost = || Ending::Lost { fault: LinkFault::LinkLost, detail: "the link broke".into() };
        let overdue = || Ending::Stopped { kill: Kill::Confirmed };
        let unconfirmed = || Kill::Unconfirmed { detail: "run  kill 1".into() };
        for (outcome, kill, expected) in [
            (judge_ending(lost(), None, &settings), Kill::Confirmed, true),
            (judge_ending(lost(), None, &settings), Kill::Gone, true),
            (judge_ending(lost(), None, &settings), unconfirmed(), false),
            (judge_ending(overdue(), Some(StopCause::AttemptTimeout), &settings), Kill::Confirmed, true),
            (judge_ending(overdue(), Some(StopCause::AttemptTimeout), &settings), unconfirmed(), false),
        ] {
            let outcome = outcome.with_kill(kill);
            assert_eq!(retries(&settings.retry, settings.on_lost, 1, &outcome), expected, "{outcome:?}");
        }
    }

    #[test]
    fn the_detail_says_what_to_do_about_processes_that_may_still_run() {
        let settings = RunSettings::default();
        let unconfirmed = || Kill::Unconfirmed { detail: "no route; run on web-1:  kill 7".into() };
        let lost = Ending::Lost { fault: LinkFault::LinkLost, detail: "the link broke".into() };
        let stopped = Ending::Stopped { kill: unconfirmed() };
        for outcome in [
            judge_ending(lost, None, &settings).with_kill(unconfirmed()),
            judge_ending(stopped, Some(StopCause::Cancel), &settings),
            judge_orphan(Some(unconfirmed())),
        ] {
            let detail = outcome.detail.clone().unwrap_or_default();
            assert!(detail.ends_with("its processes may still run: no route; run on web-1:  kill 7"), "{outcome:?}");
            assert_eq!(outcome.kill, Some(unconfirmed()));
        }
        assert_eq!(judge_orphan(Some(Kill::Gone)).detail.as_deref(), Some("its worker died while it ran"));
    }

    #[test]
    fn the_first_reason_to_end_counts_and_outweighs_failures() {
        use StepStatus::{Cancelled, Skipped, TimedOut};
        for (reasons, expected) in [
            (
                vec![(Cancelled, Reason::CancelRequested), (TimedOut, Reason::ExecutionTimeout)],
                ExecutionStatus::Cancelled,
            ),
            (
                vec![(TimedOut, Reason::ExecutionTimeout), (Cancelled, Reason::CancelRequested)],
                ExecutionStatus::TimedOut,
            ),
            (vec![(Skipped, Reason::MaxFailures), (Cancelled, Reason::CancelRequested)], ExecutionStatus::Cancelled),
            (vec![(Cancelled, Reason::CancelRequested), (Skipped, Reason::MaxFailures)], ExecutionStatus::Cancelled),
        ] {
            let mut progress = progress(1, &Strategy::default());
            reasons.iter().for_each(|(status, reason)| progress.close(*status, *reason));
            progress.end_pending();
            assert_eq!(progress.finish(DateTime::UNIX_EPOCH).unwrap().status, expected, "{reasons:?}");
        }
    }

    #[test]
    fn what_is_overdue_is_not_waited_for() {
        let at = |seconds| DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds);
        assert_eq!(until(at(3), at(1)), Duration::from_secs(2));
        assert_eq!((until(at(1), at(1)), until(at(1), at(3))), (Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn an_attempt_is_due_only_where_there_is_room_for_it() {
        let mut progress = progress(2, &Strategy { parallel: 1, ..Strategy::default() });
        let mut settings = RunSettings::default();
        settings.retry.max_attempts = 2;
        let first = start_all(&mut progress);
        let outcome = judge_ending(Ending::Exited { code: 1 }, None, &settings);
        let next = progress.ended(first[0], &outcome, &settings, DateTime::UNIX_EPOCH, 0.0).unwrap();
        assert_eq!(progress.next_due(), next.not_before);
        let second = start_all(&mut progress);
        assert_eq!(second.len(), 1);
        assert_eq!(progress.next_due(), None, "a timer without room to start anything would spin");
        end(&mut progress, second[0], 0);
        assert_eq!(progress.next_due(), next.not_before);
        progress.close(StepStatus::Cancelled, Reason::CancelRequested);
        assert_eq!(progress.next_due(), None);
    }

    #[test]
    fn each_of_ten_thousand_targets_is_looked_at_a_few_times_only() {
        const TARGETS: u32 = 10_000;
        for batch in [None, Some(Amount::Count(7))] {
            let mut progress = progress(TARGETS, &Strategy { parallel: 3, batch, ..Strategy::default() });
            let mut settings = RunSettings::default();
            settings.retry.max_attempts = 2;
            let mut now = DateTime::UNIX_EPOCH;
            let mut ended = 0;
            while progress.finish(now).is_none() {
                let ids = startable(&mut progress, now);
                ids.iter().for_each(|id| progress.started(*id));
                for id in &ids {
                    ended += 1;
                    let outcome = judge_ending(Ending::Exited { code: i32::from(ended % 3 == 0) }, None, &settings);
                    progress.ended(*id, &outcome, &settings, now, 0.0);
                }
                if ids.is_empty() {
                    now = progress.next_due().unwrap();
                }
            }
            assert!(ended > TARGETS);
            assert_eq!(progress.counts(), Counts::of(progress.steps().iter().map(|step| step.status)));
            assert!(progress.visits <= 3 * TARGETS as usize, "{} looks", progress.visits);
        }
    }

    #[test]
    fn waits_grow_stay_below_their_cap_and_are_never_shortened() {
        let mut policy = RetryPolicy::default();
        policy.backoff.max_ms = 5_000;
        let waits: Vec<u128> = (2..6).map(|attempt| backoff(&policy, attempt, 0.0).as_millis()).collect();
        assert_eq!(waits, [1_000, 2_000, 4_000, 5_000]);
        assert_eq!(backoff(&policy, 2, 1.0).as_millis(), 1_200);
        assert_eq!(backoff(&policy, u32::MAX, 1.0).as_millis(), 5_000);
    }

    #[test]
    fn the_execution_ends_as_its_steps_did() {
        use StepStatus::{Failed, Lost, Skipped, Succeeded, TimedOut, Unreachable};
        for (statuses, expected) in [
            (vec![Succeeded, Succeeded], ExecutionStatus::Succeeded),
            (vec![Succeeded, Failed], ExecutionStatus::Failed),
            (vec![Succeeded, Unreachable], ExecutionStatus::Failed),
            (vec![TimedOut, Succeeded], ExecutionStatus::TimedOut),
            (vec![Lost, Succeeded], ExecutionStatus::Lost),
            (vec![Lost, Failed], ExecutionStatus::Failed),
            (vec![Skipped, Failed], ExecutionStatus::Failed),
        ] {
            let steps = statuses.iter().zip(0..).map(|(status, position)| Step { status: *status, ..step(position) });
            let finish = Progress::new(&Strategy::default(), steps.collect()).finish(DateTime::UNIX_EPOCH).unwrap();
            assert_eq!(finish.status, expected, "{statuses:?}");
        }
    }
}
