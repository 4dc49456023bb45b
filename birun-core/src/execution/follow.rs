//! Following an execution: state by `rev`, output by `seq`, both ordered and without gaps.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::Stream as FutureStream;
use futures::stream;
use tokio::sync::watch;

use crate::engine::Shared;
use crate::error::Result;
use crate::execution::log::{LogCursor, LogReader, Record};
use crate::execution::{Execution, ExecutionChange, ExecutionStatus, Step};
use crate::gate::Scope;
use crate::id::ExecutionId;

/// How often a follower asks by itself: other processes cannot wake it.
const POLL: Duration = Duration::from_millis(150);
/// How often it asks when this engine drives the execution, and wakes it.
const SAFETY_POLL: Duration = Duration::from_secs(5);
/// Payload that is read from the log at once.
const READ_BYTES: usize = 1024 * 1024;

/// Wakes the followers of executions that this process drives.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    channels: Mutex<Channels>,
}

/// One channel for each execution that is or was followed.
#[derive(Debug, Default)]
struct Channels {
    open: HashMap<ExecutionId, watch::Sender<News>>,
    /// At so many, those that nobody listens to any more are forgotten.
    sweep_at: usize,
}

impl Channels {
    /// Forgets what nobody listens to, now and then: as often as doubles what is kept.
    fn sweep(&mut self) {
        if self.open.len() >= self.sweep_at {
            self.open.retain(|_, sender| sender.receiver_count() > 0);
            self.sweep_at = 2 * self.open.len() + 64;
        }
    }
}

/// What followers of an execution are woken with.
#[derive(Debug, Default)]
pub(crate) struct News {
    pulse: Pulse,
    /// The row as it was written when the execution ended here, if whoever wrote it knows it whole.
    last: Option<Arc<Execution>>,
}

/// What moved: how often the state, and how often the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pulse {
    state: u64,
    output: u64,
    driven: bool,
    ended: bool,
}

impl Hub {
    /// Listens to an execution.
    pub(crate) fn listen(&self, id: ExecutionId) -> watch::Receiver<News> {
        let mut channels = self.lock();
        channels.sweep();
        channels.open.entry(id).or_default().subscribe()
    }

    /// Wakes followers: the state moved.
    pub(crate) fn state_moved(&self, id: ExecutionId) {
        self.touch(id, |news| news.pulse.state += 1);
    }

    /// Wakes followers: the execution has ended. `last` makes its row; nobody asks for it if nobody follows.
    pub(crate) fn ended(&self, id: ExecutionId, last: impl FnOnce() -> Option<Execution>) {
        self.touch(id, |news| {
            news.last = last().map(Arc::new);
            news.pulse.ended = true;
            news.pulse.state += 1;
        });
    }

    /// Wakes followers: there is new output.
    pub(crate) fn output_moved(&self, id: ExecutionId) {
        self.touch(id, |news| news.pulse.output += 1);
    }

    /// Notes whether this process drives the execution, so that followers need not poll.
    pub(crate) fn driven(&self, id: ExecutionId, driven: bool) {
        self.touch(id, |news| {
            news.pulse.driven = driven;
            news.pulse.state += 1;
        });
    }

    fn touch(&self, id: ExecutionId, change: impl FnOnce(&mut News)) {
        let mut channels = self.lock();
        let Some(sender) = channels.open.get(&id) else { return };
        if sender.receiver_count() == 0 {
            channels.open.remove(&id);
        } else {
            sender.send_modify(change);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Channels> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What happened in an execution.
#[derive(Clone, Debug)]
pub enum RunEvent {
    /// The execution or steps changed; several changes may have become one.
    Changed(Box<ExecutionChange>),
    /// Steps that are new to the follower of an execution that has ended: they are told before what
    /// they wrote, and the change that ended the execution after it.
    Steps(Vec<Step>),
    /// Output, in order.
    Output(Vec<Record>),
}

/// Where a follower begins, and what it wants to hear.
#[derive(Clone, Copy, Debug, Default)]
pub struct FollowFrom {
    /// State changes after this `rev`.
    pub rev: u64,
    /// Output after this place; `None` = no output.
    pub output: Option<LogCursor>,
    /// Ends with what there is now, instead of waiting for the execution to end.
    pub now_only: bool,
}

/// An accepted execution, at hand.
#[derive(Clone, Debug)]
pub struct RunHandle {
    shared: Arc<Shared>,
    scope: Scope,
    accepted: Execution,
    accepted_before: bool,
    pulses: watch::Receiver<News>,
}

/// How an execution ended. A failed one is data, unless [`into_result`](RunOutcome::into_result) asks for an error.
#[derive(Clone, Debug)]
pub struct RunOutcome {
    /// The execution, ended.
    pub execution: Execution,
}

impl RunOutcome {
    /// The ended execution, or an error if it did not succeed.
    ///
    /// # Errors
    /// `conflict`, naming the status and the reason.
    pub fn into_result(self) -> Result<Execution> {
        let execution = self.execution;
        if execution.status == ExecutionStatus::Succeeded {
            return Ok(execution);
        }
        let reason = execution.reason.map_or_else(String::new, |reason| format!(" ({reason})"));
        Err(crate::Error::new(
            crate::ErrorCode::Conflict,
            format!(
                "execution {} of {} ended {}{reason}",
                execution.id.short(),
                execution.subject.title,
                execution.status
            ),
        ))
    }
}

impl RunHandle {
    /// A handle on an execution. `pulses` listens since before the execution was read or accepted,
    /// so that nothing falls between.
    pub(crate) const fn new(
        shared: Arc<Shared>,
        scope: Scope,
        accepted: Execution,
        pulses: watch::Receiver<News>,
    ) -> Self {
        Self { shared, scope, accepted, accepted_before: false, pulses }
    }

    /// The same handle, on what an earlier request under the same idempotency key was answered with.
    pub(crate) fn of_an_earlier_request(self) -> Self {
        Self { accepted_before: true, ..self }
    }

    /// The execution's id.
    #[must_use]
    pub const fn id(&self) -> ExecutionId {
        self.accepted.id
    }

    /// The execution as it was when this handle was made.
    #[must_use]
    pub const fn execution(&self) -> &Execution {
        &self.accepted
    }

    /// Whether nothing new was accepted: the same request was, before, under its idempotency key.
    #[must_use]
    pub const fn was_accepted_before(&self) -> bool {
        self.accepted_before
    }

    /// Everything that happens, from the beginning; ends by itself after the last byte of output
    /// and the final change.
    pub fn events(&self) -> impl FutureStream<Item = Result<RunEvent>> + Send + Unpin + use<> {
        self.follow(FollowFrom { output: Some(LogCursor::default()), ..FollowFrom::default() })
    }

    /// What happens from somewhere on. A change that ends the execution comes after all output.
    pub fn follow(&self, from: FollowFrom) -> impl FutureStream<Item = Result<RunEvent>> + Send + Unpin + use<> {
        let follower = Follower {
            pulses: self.pulses.clone(),
            shared: Arc::clone(&self.shared),
            scope: self.scope.clone(),
            id: self.accepted.id,
            from,
            reader: None,
            seen: None,
            known_steps: 0,
            dry: true,
            ready: VecDeque::new(),
            end: End::NotInSight,
        };
        Box::pin(stream::try_unfold(follower, |mut follower| async move {
            Ok(follower.next().await?.map(|event| (event, follower)))
        }))
    }

    /// Waits for the end. Dropping the future changes nothing about the execution.
    ///
    /// # Errors
    /// What storage answers.
    pub async fn outcome(&self) -> Result<RunOutcome> {
        let mut pulses = self.pulses.clone();
        let mut execution = self.accepted.clone();
        while !execution.status.is_terminal() {
            let pulse = pulses.borrow_and_update().pulse;
            wait_for(&self.shared, &mut pulses, pulse, |_, now| now.ended).await;
            let last = pulses.borrow().last.clone();
            execution = match last {
                Some(last) => (*last).clone(),
                None => self.shared.store.execution(&self.scope, &self.accepted.id.into()).await?,
            };
        }
        Ok(RunOutcome { execution })
    }
}

/// Waits for a pulse that matters, or until it is time to ask without one.
async fn wait_for(
    shared: &Shared,
    pulses: &mut watch::Receiver<News>,
    seen: Pulse,
    matters: impl Fn(&Pulse, &Pulse) -> bool + Send + Sync,
) {
    let poll = if seen.driven { SAFETY_POLL } else { POLL };
    tokio::select! {
        _ = pulses.wait_for(|news| matters(&seen, &news.pulse)) => {}
        () = shared.clock.sleep(poll) => {}
    }
}

/// The state of one follower between two events.
struct Follower {
    shared: Arc<Shared>,
    scope: Scope,
    id: ExecutionId,
    from: FollowFrom,
    pulses: watch::Receiver<News>,
    reader: Option<Box<dyn LogReader>>,
    /// The pulse at the last look; `None` before the first.
    seen: Option<Pulse>,
    /// One more than the highest step ordinal that was told.
    known_steps: u32,
    /// Whether the log had no more at the last look.
    dry: bool,
    /// What was read and not yet told.
    ready: VecDeque<RunEvent>,
    end: End,
}

/// How far a follower is from its end.
enum End {
    NotInSight,
    /// The execution has ended; its last change, if it is news, is told after the last byte of output.
    AfterOutput(Option<Box<ExecutionChange>>),
    Told,
}

impl Follower {
    async fn next(&mut self) -> Result<Option<RunEvent>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            if !self.dry
                && let Some(records) = self.read().await?
            {
                return Ok(Some(RunEvent::Output(records)));
            }
            match std::mem::replace(&mut self.end, End::Told) {
                End::AfterOutput(Some(change)) => return Ok(Some(RunEvent::Changed(change))),
                End::AfterOutput(None) | End::Told => return Ok(None),
                End::NotInSight if self.from.now_only && self.seen.is_some() => return Ok(None),
                End::NotInSight => self.end = End::NotInSight,
            }
            self.look().await?;
        }
    }

    /// Waits until something may have moved, and reads the state if that did. The state is read
    /// before the output, so that a step is told before what it wrote.
    async fn look(&mut self) -> Result<()> {
        let before = self.seen;
        if let Some(seen) = before {
            wait_for(&self.shared, &mut self.pulses, seen, |old, new| old != new).await;
        }
        let pulse = self.pulses.borrow_and_update().pulse;
        self.seen = Some(pulse);
        self.dry = self.from.output.is_none();
        let only_output = before.is_some_and(|before| before.state == pulse.state && before.output != pulse.output);
        if only_output {
            return Ok(());
        }
        match self.changes().await? {
            Some(change) if change.execution.status.is_terminal() => {
                self.introduce(&change.steps);
                self.end = End::AfterOutput(Some(Box::new(change)));
            }
            Some(change) => self.tell(change),
            None if before.is_none() && self.has_ended().await? => self.end = End::AfterOutput(None),
            None => {}
        }
        Ok(())
    }

    /// The next records; `None` when there are no more now.
    async fn read(&mut self) -> Result<Option<Vec<Record>>> {
        let Some(after) = self.from.output else { return Ok(None) };
        let reader = match &mut self.reader {
            Some(reader) => reader,
            empty => empty.insert(self.shared.store.logs().reader(self.id, after).await?),
        };
        let records = reader.next(READ_BYTES).await?;
        let Some(last) = records.last() else {
            self.dry = true;
            return Ok(None);
        };
        self.from.output = Some(LogCursor(last.seq));
        let newest = records.iter().map(|record| record.step + 1).max().unwrap_or(0);
        if newest > self.known_steps {
            self.catch_up().await?;
        }
        if self.ready.is_empty() {
            return Ok(Some(records));
        }
        // A step that was unknown is told first; its output is read again after that.
        self.from.output = Some(after);
        self.reader = None;
        Ok(None)
    }

    /// Learns of steps that another process started since the last look.
    async fn catch_up(&mut self) -> Result<()> {
        if let Some(change) = self.changes().await? {
            if change.execution.status.is_terminal() {
                self.introduce(&change.steps);
            } else {
                self.tell(change);
            }
        }
        Ok(())
    }

    async fn changes(&self) -> Result<Option<ExecutionChange>> {
        Ok(self.shared.store.changes(&self.scope, self.id, self.from.rev).await?)
    }

    fn tell(&mut self, change: ExecutionChange) {
        self.from.rev = change.execution.rev;
        self.know(&change.steps);
        self.ready.push_back(RunEvent::Changed(Box::new(change)));
    }

    /// Tells of steps that are still unknown, ahead of the change that they came with.
    fn introduce(&mut self, steps: &[Step]) {
        let unknown: Vec<Step> = steps.iter().filter(|step| step.ordinal >= self.known_steps).cloned().collect();
        if self.from.output.is_some() && !unknown.is_empty() {
            self.know(&unknown);
            self.ready.push_back(RunEvent::Steps(unknown));
        }
    }

    fn know(&mut self, steps: &[Step]) {
        let highest = steps.iter().map(|step| step.ordinal + 1).max();
        self.known_steps = self.known_steps.max(highest.unwrap_or(0));
    }

    /// Whether the execution had ended before this follower began.
    async fn has_ended(&self) -> Result<bool> {
        let execution = self.shared.store.execution(&self.scope, &self.id.into()).await?;
        Ok(execution.status.is_terminal())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executions_that_nobody_follows_any_more_are_forgotten() {
        let hub = Hub::default();
        let kept: Vec<_> = (0..10).map(|_| ExecutionId::new()).map(|id| (id, hub.listen(id))).collect();
        for _ in 0..10_000 {
            drop(hub.listen(ExecutionId::new()));
        }
        let open = hub.lock().open.len();
        assert!(open <= 2 * kept.len() + 64, "{open} channels for {} followers", kept.len());
        for (id, mut pulses) in kept {
            hub.output_moved(id);
            assert_eq!(pulses.borrow_and_update().pulse.output, 1, "a follower was forgotten");
        }
    }
}
