//! How an execution stands inside: what starts next, and how it ends.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};

use super::outcome::{Outcome, backoff, retries};
use crate::error::ErrorCode;
use crate::execution::{Counts, ExecutionStatus, Finish, Kill, Reason, Step, StepStatus, Strategy};
use crate::id::StepId;
use crate::script::{LostPolicy, RunSettings};

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
    /// How many of those that run were left to whoever drives the execution next.
    left: u32,
    next_ordinal: u32,
    parallel: usize,
    max_failures: Option<usize>,
    /// One success is enough.
    failover: bool,
    /// Whether a target that cannot be reached is no failure.
    skip_unreachable: bool,
    /// Targets that are neither success nor failure: left out, or excused by the strategy.
    excused: u32,
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
        let total = current.iter().filter(|step| step.reason != Some(Reason::Maintenance)).count();
        let size = strategy.batch_size(total, current.len());
        let mut progress = Self {
            left: 0,
            next_ordinal,
            parallel: strategy.width(),
            failover: strategy.failover,
            skip_unreachable: strategy.skip_unreachable,
            excused: current.iter().map(|step| u32::from(is_excused(strategy.skip_unreachable, step))).sum(),
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
        let step = self.current.get_mut(place)?;
        step.error = outcome.error;
        if self.closing.is_some() || !retries(&settings.retry, settings.on_lost, step.attempt, outcome) {
            self.leave(place, outcome, settings.on_lost);
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

    /// Whether any step runs that was not left.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        self.counts.running > self.left
    }

    /// Notes that a step was left running, for whoever drives the execution next.
    pub const fn left(&mut self) {
        self.left += 1;
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
            Some((StepStatus::Lost, reason) | (_, reason @ Reason::TargetLost)) => {
                return (ExecutionStatus::Lost, Some(reason));
            }
            _ => {}
        }
        let fell_short = self.fell_short(counts.total);
        if counts.succeeded > 0 && (fell_short == 0 || self.failover) {
            return (ExecutionStatus::Succeeded, None);
        }
        let reason = Some(Reason::StepsFailed);
        match fell_short {
            // Every target has an excuse, so that nothing was done anywhere.
            0 => (ExecutionStatus::Failed, reason),
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

    /// How many of so many targets did not succeed, and have no excuse.
    const fn fell_short(&self, of: u32) -> u32 {
        of.saturating_sub(self.counts.succeeded + self.excused)
    }

    /// A target has ended for good: looks at what follows for those that wait, and at the batch if it was
    /// its last one.
    fn leave(&mut self, place: usize, outcome: &Outcome, on_lost: LostPolicy) {
        let excused = self.current.get(place).is_some_and(|step| is_excused(self.skip_unreachable, step));
        self.excused += u32::from(excused);
        let failures = self.fell_short(self.counts.ended()) as usize;
        if self.max_failures.is_some_and(|limit| failures >= limit) {
            self.close(StepStatus::Skipped, Reason::MaxFailures);
        }
        if self.failover && outcome.status == StepStatus::Succeeded {
            self.close(StepStatus::Skipped, Reason::FirstSuccess);
        }
        if self.failover && may_have_done_it(outcome, on_lost) {
            self.close(StepStatus::Skipped, Reason::TargetLost);
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

/// Whether a target that ended without success is no failure of the execution. One whose host key or
/// sign-in is refused is there, and wants to be looked at.
fn is_excused(skip_unreachable: bool, step: &Step) -> bool {
    use ErrorCode::{ConnectFailed, ConnectTimeout, PhaseTimeout, ResolveFailed};
    let is_down = matches!(step.error, Some(ConnectFailed | ConnectTimeout | PhaseTimeout | ResolveFailed));
    match step.status {
        StepStatus::Skipped => step.reason == Some(Reason::Maintenance),
        StepStatus::Unreachable => skip_unreachable && is_down,
        _ => false,
    }
}

/// Whether to do the work elsewhere could do it twice.
fn may_have_done_it(outcome: &Outcome, on_lost: LostPolicy) -> bool {
    let unseen = matches!(outcome.kill, Some(Kill::Unconfirmed { .. }));
    unseen || (outcome.status == StepStatus::Lost && on_lost != LostPolicy::Retry)
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
    use crate::execution::state::judge_ending;
    use crate::execution::{Ending, LinkFault};
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

    fn end_as(progress: &mut Progress, id: StepId, ending: Ending, settings: &RunSettings) {
        let outcome = judge_ending(ending, None, settings);
        progress.ended(id, &outcome, settings, DateTime::UNIX_EPOCH, 0.0);
    }

    fn unreachable() -> Ending {
        Ending::Unreachable(Error::new(ErrorCode::ConnectTimeout, "no answer"))
    }

    fn lost() -> Ending {
        Ending::Lost { fault: LinkFault::LinkLost, detail: "cut".to_owned() }
    }

    #[test]
    fn with_failover_targets_are_tried_until_one_succeeds() {
        let mut progress = progress(4, &Strategy { failover: true, ..Strategy::default() });
        for ending in [unreachable(), Ending::Exited { code: 1 }, Ending::Exited { code: 0 }] {
            let ids = start_all(&mut progress);
            assert_eq!(ids.len(), 1, "one at a time");
            end_as(&mut progress, ids[0], ending, &RunSettings::default());
        }
        assert!(start_all(&mut progress).is_empty());
        let skipped = progress.end_pending();
        assert_eq!(skipped.len(), 1);
        assert_eq!((skipped[0].1.status, skipped[0].1.reason), (StepStatus::Skipped, Some(Reason::FirstSuccess)));
        let finish = progress.finish(DateTime::UNIX_EPOCH).unwrap();
        assert_eq!((finish.status, finish.reason), (ExecutionStatus::Succeeded, None));
    }

    #[test]
    fn with_failover_and_no_success_the_execution_fails() {
        let mut progress = progress(2, &Strategy { failover: true, ..Strategy::default() });
        for _ in 0..2 {
            let ids = start_all(&mut progress);
            end_as(&mut progress, ids[0], Ending::Exited { code: 1 }, &RunSettings::default());
        }
        assert_eq!(progress.finish(DateTime::UNIX_EPOCH).unwrap().status, ExecutionStatus::Failed);
    }

    #[test]
    fn with_failover_a_lost_target_ends_the_search_unless_its_work_may_be_repeated() {
        for (on_lost, more) in [(LostPolicy::Lost, 0), (LostPolicy::Retry, 1)] {
            let mut progress = progress(2, &Strategy { failover: true, ..Strategy::default() });
            let settings = RunSettings { on_lost, ..RunSettings::default() };
            let ids = start_all(&mut progress);
            end_as(&mut progress, ids[0], lost(), &settings);
            assert_eq!(start_all(&mut progress).len(), more, "{on_lost}");
            if more == 0 {
                assert_eq!(progress.end_pending()[0].1.reason, Some(Reason::TargetLost));
                let finish = progress.finish(DateTime::UNIX_EPOCH).unwrap();
                assert_eq!((finish.status, finish.reason), (ExecutionStatus::Lost, Some(Reason::TargetLost)));
            }
        }
    }

    #[test]
    fn failover_does_not_go_on_beside_processes_that_may_still_run() {
        let outcome = Outcome {
            kill: Some(Kill::Unconfirmed { detail: "no route".to_owned() }),
            ..Outcome::plain(StepStatus::TimedOut, Some(Reason::AttemptTimeout))
        };
        for on_lost in [LostPolicy::Lost, LostPolicy::Retry] {
            let mut progress = progress(2, &Strategy { failover: true, ..Strategy::default() });
            let settings = RunSettings { on_lost, ..RunSettings::default() };
            let ids = start_all(&mut progress);
            progress.ended(ids[0], &outcome, &settings, DateTime::UNIX_EPOCH, 0.0);
            assert!(start_all(&mut progress).is_empty(), "{on_lost}");
            assert_eq!(progress.end_pending()[0].1.reason, Some(Reason::TargetLost));
        }
    }

    #[test]
    fn a_target_that_refuses_is_no_excuse() {
        let strategy = Strategy { skip_unreachable: true, ..Strategy::default() };
        for (code, expected) in [
            (ErrorCode::ConnectFailed, ExecutionStatus::Succeeded),
            (ErrorCode::ResolveFailed, ExecutionStatus::Succeeded),
            (ErrorCode::PhaseTimeout, ExecutionStatus::Succeeded),
            (ErrorCode::HostKeyMismatch, ExecutionStatus::Failed),
            (ErrorCode::AuthFailed, ExecutionStatus::Failed),
            (ErrorCode::ServerDeleted, ExecutionStatus::Failed),
        ] {
            let mut progress = progress(2, &strategy);
            let ids = start_all(&mut progress);
            end_as(&mut progress, ids[0], Ending::Unreachable(Error::new(code, "no")), &RunSettings::default());
            end(&mut progress, ids[1], 0);
            assert_eq!(progress.finish(DateTime::UNIX_EPOCH).unwrap().status, expected, "{code}");
            let taken_up = Progress::new(&strategy, progress.steps().to_vec());
            assert_eq!(taken_up.finish(DateTime::UNIX_EPOCH).unwrap().status, expected, "{code}, from the journal");
        }
    }

    #[test]
    fn shares_are_of_the_targets_that_are_not_left_out() {
        let left_out =
            |position| Step { status: StepStatus::Skipped, reason: Some(Reason::Maintenance), ..step(position) };
        let strategy = Strategy { parallel: 1, max_failures: Some(Amount::Percent(50)), ..Strategy::default() };
        let mut progress = Progress::new(&strategy, vec![left_out(0), left_out(1), step(2), step(3)]);
        let ids = start_all(&mut progress);
        end(&mut progress, ids[0], 1);
        assert!(progress.is_closed(), "one of two has failed");
    }

    #[test]
    fn unreachable_targets_are_excused_where_the_strategy_says_so() {
        let strategy = Strategy {
            parallel: 1,
            skip_unreachable: true,
            max_failures: Some(Amount::Count(1)),
            ..Strategy::default()
        };
        for (last, expected) in [(0, ExecutionStatus::Succeeded), (1, ExecutionStatus::Failed)] {
            let mut progress = progress(2, &strategy);
            for ending in [unreachable(), Ending::Exited { code: last }] {
                let ids = start_all(&mut progress);
                assert_eq!(ids.len(), 1, "the failure limit was not reached");
                end_as(&mut progress, ids[0], ending, &RunSettings::default());
            }
            assert_eq!(progress.finish(DateTime::UNIX_EPOCH).unwrap().status, expected);
        }
        let mut progress = progress(1, &strategy);
        let ids = start_all(&mut progress);
        end_as(&mut progress, ids[0], unreachable(), &RunSettings::default());
        let finish = progress.finish(DateTime::UNIX_EPOCH).unwrap();
        assert_eq!(finish.status, ExecutionStatus::Failed, "nothing was done anywhere");
    }

    #[test]
    fn targets_that_were_left_out_are_neither_success_nor_failure() {
        let left_out = Step { status: StepStatus::Skipped, reason: Some(Reason::Maintenance), ..step(0) };
        let strategy = Strategy { max_failures: Some(Amount::Count(1)), ..Strategy::default() };
        for (code, expected) in [(0, ExecutionStatus::Succeeded), (1, ExecutionStatus::Failed)] {
            let mut progress = Progress::new(&strategy, vec![left_out.clone(), step(1)]);
            let ids = start_all(&mut progress);
            assert_eq!(ids.len(), 1);
            end(&mut progress, ids[0], code);
            let finish = progress.finish(DateTime::UNIX_EPOCH).unwrap();
            assert_eq!((finish.status, finish.counts.skipped), (expected, 1));
        }
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
