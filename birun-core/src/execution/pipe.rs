//! The output pipe: what stands between executors and the log of one execution.
//!
//! A sender masks what it is given and puts it into a queue that is shared by all steps of the
//! execution; a task that lives only while there is something to write appends it to the log, in
//! batches. What waits in the queue is bounded in bytes: a slow store slows the senders down. A step
//! that writes nothing costs no task, no file and no sync.

mod cut;
mod queue;
mod step;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use self::queue::{Batch, Piece, Queue};
pub(super) use self::step::StepInput;
use crate::clock::Clock;
use crate::execution::leftover::said;
use crate::execution::log::LogWriter;
use crate::execution::{Lease, LogStore, OutputClosed, OutputSender, Record, Stream};
use crate::milestone;
use crate::script::OutputLimit;
use crate::store::{StoreError, StoreResult};
use crate::vault::SecretSet;

/// Most bytes that wait for the store, in one execution.
const BUDGET: usize = 2 * 1024 * 1024;
/// As many bytes every chunk counts at least, for what it costs besides its content.
const MIN_CHARGE: usize = 256;

/// Is told the last `seq` whenever records became visible to readers.
pub(crate) type Moved = Arc<dyn Fn(u64) + Send + Sync>;

/// Takes the output of an execution's steps, under one lease. Dropping it closes it.
///
/// The log is opened at the first byte. When the store fails, no more is taken from any step:
/// senders hear [`OutputClosed`], and every step that ends afterwards the error.
pub(crate) struct OutputPipe(Option<Arc<Shared>>);

/// The owner's side of a step's output.
pub(crate) struct StepTap(Option<Arc<StepInput>>);

/// How much output a step had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StepOutput {
    /// Bytes that the process wrote, all streams.
    pub(crate) bytes: u64,
    /// Bytes that were cut out, counted as they would have been shown.
    pub(crate) dropped: u64,
    /// Whether it went beyond its limit, and the policy is to fail then.
    pub(crate) limit_hit: bool,
}

/// What the log holds of a step's output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    /// Where each stream ends, in bytes before masking.
    ends: BTreeMap<Stream, u64>,
    /// Bytes of payload, birun's own remarks not counted.
    shown: u64,
}

impl Written {
    pub(crate) fn add(&mut self, record: &Record) {
        if record.stream != Stream::System {
            self.ends.insert(record.stream, record.raw_end);
            self.shown += record.payload.len() as u64;
        }
    }

    /// Bytes that the process wrote, as far as they are in the log.
    pub(crate) fn bytes(&self) -> u64 {
        self.ends.values().sum()
    }

    /// Where to take up a stream again: a little before its end, for what the masker must know.
    pub(crate) fn resume(&self, stream: Stream) -> u64 {
        self.ends.get(&stream).map_or(0, |end| end.saturating_sub(SecretSet::CONTEXT as u64))
    }
}

impl OutputPipe {
    /// A pipe into the log of the lease's execution and epoch.
    pub(crate) fn new(
        logs: Arc<dyn LogStore>,
        lease: Lease,
        clock: Arc<dyn Clock>,
        secrets: SecretSet,
        moved: Moved,
    ) -> Self {
        Self(Some(Arc::new(Shared {
            logs,
            lease,
            clock,
            secrets,
            moved,
            budget: Semaphore::new(BUDGET),
            closed: CancellationToken::new(),
            queue: Mutex::default(),
        })))
    }

    /// A pipe that takes nothing.
    pub(crate) const fn closed() -> Self {
        Self(None)
    }

    /// The two ends of a step's output: for the executor, and for the step's owner.
    pub(crate) fn step(&self, ordinal: u32, limit: OutputLimit) -> (OutputSender, StepTap) {
        self.step_after(ordinal, limit, &Written::default())
    }

    /// The same for a step that goes on with output of which a part is in the log: its streams are to be
    /// sent from [`Written::resume`] on.
    pub(crate) fn step_after(&self, ordinal: u32, limit: OutputLimit, written: &Written) -> (OutputSender, StepTap) {
        let Some(shared) = &self.0 else { return (OutputSender::channel(1).0, StepTap(None)) };
        let input = Arc::new(StepInput::new(Arc::clone(shared), ordinal, limit, written));
        (OutputSender::pipe(Arc::clone(&input)), StepTap(Some(input)))
    }

    /// Opens the log, before there is anything to write: from then on, what the log holds of earlier
    /// epochs does not change any more.
    pub(crate) async fn open_log(&self) -> StoreResult<()> {
        match &self.0 {
            Some(shared) => shared.sync().await,
            None => Ok(()),
        }
    }
}

impl Drop for OutputPipe {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            shared.fail(StoreError::Backend { backend: "log", source: "closed before its end".into() });
        }
    }
}

impl StepTap {
    /// Resolves when the step went beyond its limit and its policy is to fail: stop it.
    pub(crate) async fn limit_hit(&self) {
        match &self.0 {
            Some(input) => input.limit_hit().await,
            None => std::future::pending().await,
        }
    }

    /// Ends the step's output: writes what was held back and the kept tail, and makes all of it
    /// survive a crash. Senders hear [`OutputClosed`] from now on. Tells the totals, and what the store
    /// answered if it failed at any time in this execution; what it had kept before is intact.
    pub(crate) async fn finish(self) -> (StepOutput, StoreResult<()>) {
        match self.0 {
            Some(input) => input.finish().await,
            None => (StepOutput::default(), Ok(())),
        }
    }

    /// Takes nothing more, and makes what was taken survive a crash, for whoever goes on with this
    /// output later: what was held back stays so.
    pub(crate) async fn leave(self) -> StoreResult<()> {
        match self.0 {
            Some(input) => input.leave().await,
            None => Ok(()),
        }
    }
}

/// What the steps of an execution share.
struct Shared {
    logs: Arc<dyn LogStore>,
    lease: Lease,
    clock: Arc<dyn Clock>,
    secrets: SecretSet,
    moved: Moved,
    /// One permit for each byte that may still be put into the queue.
    budget: Semaphore,
    closed: CancellationToken,
    queue: Mutex<Queue>,
}

/// The log, once it is open.
struct OpenLog {
    writer: Box<dyn LogWriter>,
    /// Whether something was appended since the last sync.
    dirty: bool,
}

impl Shared {
    /// Waits until so many bytes may be put into the queue.
    async fn admit(&self, bytes: usize) -> Result<SemaphorePermit<'_>, OutputClosed> {
        let charge = u32::try_from(bytes.clamp(MIN_CHARGE, BUDGET)).unwrap_or(u32::MAX);
        self.budget.acquire_many(charge).await.map_err(|_| OutputClosed)
    }

    /// Puts a piece into the queue, behind or into the piece at place `last`; tells its place.
    fn put(self: &Arc<Self>, piece: Piece, last: Option<u64>) -> u64 {
        let mut queue = self.queue();
        let place = queue.put(piece, last);
        self.wake_writer(queue);
        place
    }

    /// Waits until all that is in the queue now survives a crash of the machine.
    async fn sync(self: &Arc<Self>) -> StoreResult<()> {
        let done = {
            let mut queue = self.queue();
            let done = queue.sync();
            self.wake_writer(queue);
            done
        };
        // Nobody answers when the store has failed.
        if done.await.is_err() { self.check() } else { Ok(()) }
    }

    /// The error that the store answered, if it failed.
    fn check(&self) -> StoreResult<()> {
        self.queue().check()
    }

    /// Takes nothing more, and forgets what is not written yet. The first error counts.
    fn fail(&self, error: StoreError) {
        self.queue().fail(error);
        self.budget.close();
        self.closed.cancel();
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_writer(self: &Arc<Self>, mut queue: MutexGuard<'_, Queue>) {
        if queue.start_writing() {
            drop(queue);
            tokio::spawn(write_or_fail(Arc::clone(self)));
        }
    }

    fn next_batch(&self, log: &mut Option<OpenLog>) -> Option<Batch> {
        self.queue().next_batch(log)
    }

    /// Appends to the log, which is opened before the first time, and wakes followers.
    async fn append(&self, log: &mut Option<OpenLog>, pieces: Vec<Piece>, sync: bool) -> StoreResult<()> {
        let log = match log {
            Some(log) => log,
            none => none.insert(self.open().await?),
        };
        if !pieces.is_empty() {
            let first = log.writer.last_seq() + 1;
            let records = (first..).zip(pieces).map(|(seq, piece)| piece.into_record(seq));
            milestone::reach("append.before");
            log.writer.append(records.collect()).await?;
            milestone::reach("append.after");
            log.dirty = true;
            (self.moved)(log.writer.last_seq());
        }
        if sync && log.dirty {
            log.writer.sync().await?;
            log.dirty = false;
        }
        Ok(())
    }

    async fn open(&self) -> StoreResult<OpenLog> {
        let writer = self.logs.open(self.lease.execution, self.lease.epoch).await?;
        Ok(OpenLog { writer, dirty: false })
    }
}

/// Writes until there is nothing more to write. A store that panics has failed: whoever waits for it hears so.
async fn write_or_fail(shared: Arc<Shared>) {
    if let Err(panic) = AssertUnwindSafe(write(Arc::clone(&shared))).catch_unwind().await {
        let source = format!("it panicked: {}", said(panic.as_ref())).into();
        shared.fail(StoreError::Backend { backend: "log", source });
    }
}

/// Writes until there is nothing more to write.
async fn write(shared: Arc<Shared>) {
    let mut log = shared.queue().take_log();
    while let Some(batch) = shared.next_batch(&mut log) {
        let Batch { pieces, syncs, charge } = batch;
        if let Err(error) = shared.append(&mut log, pieces, !syncs.is_empty()).await {
            return shared.fail(error);
        }
        shared.budget.add_permits(charge);
        for done in syncs {
            // Whoever asked may have gone.
            let _ = done.send(());
        }
    }
}

#[cfg(test)]
mod tests;
