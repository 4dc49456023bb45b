//! What waits to be written to the log of one execution.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use tokio::sync::oneshot;

use super::OpenLog;
use crate::execution::{Record, Stream};
use crate::store::{StoreError, StoreResult};

/// What is smaller than this is copied, joined while it waits, and does not keep its reader's buffer alive.
const SMALL: usize = 16 * 1024;
/// Most payload that is appended at once.
const BATCH: usize = 1024 * 1024;

/// A piece of output that waits to become a record.
pub(super) struct Piece {
    pub(super) step: u32,
    pub(super) stream: Stream,
    pub(super) at: DateTime<Utc>,
    pub(super) raw_end: u64,
    pub(super) payload: Payload,
    /// Bytes of the budget that it takes up.
    pub(super) charge: usize,
}

/// The bytes of a piece.
pub(super) enum Payload {
    /// As they came.
    Shared(Bytes),
    /// Copied, since they are small; they grow while they wait.
    Growing(BytesMut),
}

/// Pieces of all steps in the order of their arrival.
#[derive(Default)]
pub(super) struct Queue {
    pieces: VecDeque<Piece>,
    /// Pieces that were taken out so far: the place of the first one.
    taken: u64,
    /// Who waits for a sync, and up to which place.
    syncs: Vec<(u64, oneshot::Sender<()>)>,
    /// Whether a task is writing; it holds the log then.
    writing: bool,
    log: Option<OpenLog>,
    failed: Option<StoreError>,
}

/// What is written at once.
pub(super) struct Batch {
    pub(super) pieces: Vec<Piece>,
    pub(super) syncs: Vec<oneshot::Sender<()>>,
    pub(super) charge: usize,
}

impl Queue {
    /// Adds a piece: to the one at place `last`, if that still waits and the two fit together, else
    /// behind all others. Tells its place.
    pub(super) fn put(&mut self, piece: Piece, last: Option<u64>) -> u64 {
        if let Some((last, waiting)) = last.and_then(|last| Some((last, self.at(last)?)))
            && waiting.join(&piece)
        {
            return last;
        }
        if self.failed.is_none() {
            self.pieces.push_back(piece.waiting());
        }
        self.end().saturating_sub(1)
    }

    /// Asks for a sync of all that waits now. The answer does not come if the store fails.
    pub(super) fn sync(&mut self) -> oneshot::Receiver<()> {
        let (done, answer) = oneshot::channel();
        if self.failed.is_none() {
            self.syncs.push((self.end(), done));
        }
        answer
    }

    /// Whether there is something to write and nobody writes it: then the caller does.
    pub(super) fn start_writing(&mut self) -> bool {
        let idle = !(self.writing || self.pieces.is_empty() && self.syncs.is_empty());
        self.writing |= idle;
        idle
    }

    /// The log, for whoever writes; `None` if it is not open yet.
    pub(super) fn take_log(&mut self) -> Option<OpenLog> {
        self.log.take()
    }

    /// What to write next. When there is nothing more, takes the log back.
    pub(super) fn next_batch(&mut self, log: &mut Option<OpenLog>) -> Option<Batch> {
        if self.pieces.is_empty() && self.syncs.is_empty() {
            self.writing = false;
            self.log = log.take();
            return None;
        }
        let pieces = self.take_pieces();
        let charge = pieces.iter().map(|piece| piece.charge).sum();
        let taken = self.taken;
        let due = self.syncs.extract_if(.., |(place, _)| *place <= taken);
        Some(Batch { pieces, charge, syncs: due.map(|(_, done)| done).collect() })
    }

    /// Takes and keeps nothing from now on.
    pub(super) fn fail(&mut self, error: StoreError) {
        self.failed.get_or_insert(error);
        self.pieces.clear();
        self.syncs.clear();
    }

    /// The error that the store answered, if it failed.
    pub(super) fn check(&self) -> StoreResult<()> {
        self.failed.as_ref().map_or(Ok(()), |error| Err(again(error)))
    }

    fn take_pieces(&mut self) -> Vec<Piece> {
        let mut bytes = 0;
        let fits = |piece: &&Piece| {
            bytes += piece.payload.len();
            bytes <= BATCH
        };
        let count = self.pieces.iter().take_while(fits).count().max(1).min(self.pieces.len());
        self.taken += count as u64;
        self.pieces.drain(..count).collect()
    }

    fn at(&mut self, place: u64) -> Option<&mut Piece> {
        let index = place.checked_sub(self.taken)?;
        self.pieces.get_mut(usize::try_from(index).ok()?)
    }

    /// The place behind the last piece.
    fn end(&self) -> u64 {
        self.taken + self.pieces.len() as u64
    }
}

impl Piece {
    pub(super) fn into_record(self, seq: u64) -> Record {
        let Self { step, stream, at, raw_end, payload, .. } = self;
        Record { seq, at, step, stream, raw_end, payload: payload.freeze() }
    }

    /// The piece, in a form that later ones can join.
    fn waiting(self) -> Self {
        Self { payload: self.payload.waiting(), ..self }
    }

    /// Takes in a later piece of the same step, if both are small and of one stream.
    fn join(&mut self, later: &Self) -> bool {
        let joined = self.stream == later.stream && self.payload.join(&later.payload);
        if joined {
            self.raw_end = later.raw_end;
            self.charge += later.charge;
        }
        joined
    }
}

impl Payload {
    fn waiting(self) -> Self {
        match self {
            Self::Shared(bytes) if bytes.len() < SMALL => Self::Growing(BytesMut::from(&bytes[..])),
            other => other,
        }
    }

    fn len(&self) -> usize {
        self.as_slice().len()
    }

    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Growing(bytes) => bytes,
        }
    }

    fn freeze(self) -> Bytes {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Growing(bytes) => bytes.freeze(),
        }
    }

    fn join(&mut self, later: &Self) -> bool {
        match self {
            Self::Growing(bytes) if bytes.len() + later.len() <= SMALL => {
                bytes.extend_from_slice(later.as_slice());
                true
            }
            _ => false,
        }
    }
}

/// The same error once more: every step of an execution hears it.
fn again(error: &StoreError) -> StoreError {
    match error {
        StoreError::LeaseLost => StoreError::LeaseLost,
        StoreError::Locked { source } => StoreError::Locked { source: source.to_string().into() },
        StoreError::Unavailable { source } => StoreError::Unavailable { source: source.to_string().into() },
        StoreError::Full { source } => StoreError::Full { source: source.to_string().into() },
        StoreError::Corrupt { what } => StoreError::Corrupt { what: what.clone() },
        StoreError::Backend { backend, source } => StoreError::Backend { backend, source: source.to_string().into() },
        other => StoreError::Backend { backend: "log", source: other.to_string().into() },
    }
}
