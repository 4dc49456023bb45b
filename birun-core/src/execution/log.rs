//! Output: records, and what is needed to keep and follow them.

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};

use crate::id::ExecutionId;
use crate::store::StoreResult;
use crate::text_enum::text_enum;

/// Largest payload of a record, in bytes.
pub const MAX_PAYLOAD: usize = 64 * 1024;

text_enum! {
    /// Where bytes of output came from.
    pub enum Stream {
        /// Standard output.
        Stdout = "stdout",
        /// Standard error.
        Stderr = "stderr",
        /// birun's own remark, for example a mark where output was cut.
        System = "system",
    }
}

/// A piece of output: up to [`MAX_PAYLOAD`] bytes as the process wrote them, secrets masked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Counts the records of an execution from 1, without gaps, over all steps and epochs: the
    /// merged order, and the only cursor.
    pub seq: u64,
    /// When it arrived.
    pub at: DateTime<Utc>,
    /// The step's [`ordinal`](crate::execution::Step::ordinal).
    pub step: u32,
    /// Where it came from.
    pub stream: Stream,
    /// Bytes that the process had written to this stream up to the end of this record, before masking.
    pub raw_end: u64,
    /// The bytes.
    pub payload: Bytes,
}

/// A place in an execution's output: everything up to this `seq` was seen. 0 = nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogCursor(pub u64);

/// Keeps output: one append-only log for each execution and epoch.
///
/// One worker at a time appends to an execution, under its lease's epoch. Readers see the logs of
/// all epochs as one sequence by `seq`.
#[async_trait]
pub trait LogStore: Debug + Send + Sync + 'static {
    /// Opens the execution's log for appending under a new epoch and tells the last `seq` that is kept.
    ///
    /// What earlier epochs left is checked: a torn tail is cut, and what a stale worker appends to
    /// an earlier epoch from now on is never read.
    ///
    /// # Errors
    /// `LeaseLost` if a newer epoch was opened before, `Conflict` if this one was; `Full`, `Backend`.
    async fn open(&self, execution: ExecutionId, epoch: u64) -> StoreResult<Box<dyn LogWriter>>;

    /// A reader that begins after `after`. An execution without output has an empty log.
    async fn reader(&self, execution: ExecutionId, after: LogCursor) -> StoreResult<Box<dyn LogReader>>;

    /// Deletes an execution's output in all epochs and frees its space; nothing there is no error.
    async fn delete(&self, execution: ExecutionId) -> StoreResult<()>;
}

/// Appends to the log of one execution and epoch.
#[async_trait]
pub trait LogWriter: Debug + Send + Sync + 'static {
    /// The last `seq` that is kept, from this or an earlier epoch; 0 if there is none.
    fn last_seq(&self) -> u64;

    /// Appends records, whose `seq` go on after [`last_seq`](LogWriter::last_seq) without a gap.
    ///
    /// They are visible to readers when it answers; they survive a crash of the machine after
    /// [`sync`](LogWriter::sync). Cancelling is not supported: await it.
    ///
    /// # Errors
    /// `Full`, `Backend`: none of the records is kept, earlier ones are intact, and the same append
    /// may be tried again. Records that leave a gap or are too large are refused with `Backend`.
    async fn append(&mut self, records: Vec<Record>) -> StoreResult<()>;

    /// Makes everything appended so far survive a crash of the machine.
    async fn sync(&mut self) -> StoreResult<()>;
}

/// Reads an execution's output in order.
#[async_trait]
pub trait LogReader: Debug + Send + Sync + 'static {
    /// The next records, in order and without a gap, up to about `bytes` of payload; empty when
    /// there are no more *now* (ask again after a wake-up). Dropping the future loses nothing.
    ///
    /// # Errors
    /// `Corrupt` names the place; what was answered before is good.
    async fn next(&mut self, bytes: usize) -> StoreResult<Vec<Record>>;
}
