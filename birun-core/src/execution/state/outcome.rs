//! What an ending means, and whether another attempt follows it.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::error::ErrorCode;
use crate::execution::{Ending, Kill, LinkFault, Reason, StepEnd, StepStatus};
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

    /// Adds what became of its processes. Where nobody could see their end, the detail says that much;
    /// why, and what can be run to finish it, is the kill's own detail.
    #[must_use]
    pub fn with_kill(mut self, kill: Kill) -> Self {
        if matches!(kill, Kill::Unconfirmed { .. }) {
            let before = self.detail.take().map_or_else(String::new, |before| format!("{before}; "));
            self.detail = Some(format!("{before}its processes may still run"));
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
                LinkFault::HostRebooted => (Reason::HostRebooted, None),
                LinkFault::RunDirectoryGone => (Reason::RunDirectoryGone, None),
            };
            Outcome { error, ..Outcome::plain(StepStatus::Lost, Some(reason)).with_detail(detail) }
        }
        Ending::Stopped { kill } => {
            let (status, reason) = stopped(cause);
            Outcome::plain(status, Some(reason)).with_kill(kill)
        }
        // Whoever leaves it writes nothing down.
        Ending::Left => Outcome::plain(StepStatus::Running, None),
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
        // A server that was deleted does not come back.
        (StepStatus::Unreachable, _) => policy.unreachable && outcome.error != Some(ErrorCode::ServerDeleted),
        (StepStatus::TimedOut, _) => policy.timed_out && outcome.reason == Some(Reason::AttemptTimeout),
        (StepStatus::Lost, _) => on_lost == LostPolicy::Retry && outcome.reason.is_some_and(means_it_is_away),
        _ => false,
    }
}

/// Whether a lost step is lost because it cannot be reached or found any more.
const fn means_it_is_away(reason: Reason) -> bool {
    matches!(reason, Reason::LinkLost | Reason::HostRebooted | Reason::RunDirectoryGone)
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

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::error::Error;

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
    fn a_server_that_was_deleted_is_not_tried_again() {
        let retry = RetryPolicy { max_attempts: 9, ..RetryPolicy::default() };
        let settings = RunSettings { retry, ..RunSettings::default() };
        for (error, expected) in [(ErrorCode::ConnectFailed, true), (ErrorCode::ServerDeleted, false)] {
            let outcome = judge_ending(Ending::Unreachable(Error::new(error, "x")), None, &settings);
            assert_eq!(retries(&settings.retry, settings.on_lost, 1, &outcome), expected, "{error}");
        }
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
    fn processes_that_may_still_run_are_told_in_short_and_what_to_do_about_them_once() {
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
            assert!(detail.ends_with("its processes may still run"), "{outcome:?}");
            assert_eq!(outcome.kill, Some(unconfirmed()));
        }
        assert_eq!(judge_orphan(Some(Kill::Gone)).detail.as_deref(), Some("its worker died while it ran"));
    }

    #[test]
    fn what_is_overdue_is_not_waited_for() {
        let at = |seconds| DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds);
        assert_eq!(until(at(3), at(1)), Duration::from_secs(2));
        assert_eq!((until(at(1), at(1)), until(at(1), at(3))), (Duration::ZERO, Duration::ZERO));
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
}
