//! The output of one step: masked, limited, put into the queue.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::SemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::cut::{Cut, Part};
use super::queue::{Payload, Piece};
use super::{Shared, StepOutput, Written};
use crate::execution::log::MAX_PAYLOAD;
use crate::execution::{OutputClosed, Stream};
use crate::script::{OutputLimit, OutputPolicy};
use crate::store::StoreResult;
use crate::vault::{Masker, SecretSet};

/// Where a step's senders put its output.
pub(in crate::execution) struct StepInput {
    shared: Arc<Shared>,
    ordinal: u32,
    policy: OutputPolicy,
    limit_hit: CancellationToken,
    state: Mutex<State>,
}

struct State {
    lanes: BTreeMap<Stream, Lane>,
    cut: Cut,
    /// The place of the newest piece in the queue.
    last: Option<u64>,
    ended: bool,
}

/// One stream.
struct Lane {
    masker: Masker,
    /// Bytes that came so far.
    raw: u64,
}

impl StepInput {
    /// Goes on from what was written before.
    pub(super) fn new(shared: Arc<Shared>, ordinal: u32, limit: OutputLimit, written: &Written) -> Self {
        let lane = |(stream, end): (&Stream, &u64)| {
            let raw = written.resume(*stream);
            let spent = usize::try_from(end - raw).unwrap_or_default();
            (*stream, Lane { masker: shared.secrets.masker_after(spent), raw })
        };
        let lanes = written.ends.iter().map(lane).collect();
        let cut = Cut::new(limit.bytes.saturating_sub(written.shown));
        let state = State { lanes, cut, last: None, ended: false };
        Self { shared, ordinal, policy: limit.policy, limit_hit: CancellationToken::new(), state: Mutex::new(state) }
    }

    /// Takes a chunk; waits while the store is behind.
    pub(in crate::execution) async fn send(&self, stream: Stream, mut chunk: Bytes) -> Result<(), OutputClosed> {
        while !chunk.is_empty() {
            let next = chunk.split_to(chunk.len().min(MAX_PAYLOAD));
            let permit = self.shared.admit(next.len()).await?;
            self.take(stream, next, permit)?;
        }
        Ok(())
    }

    /// Resolves when nothing is taken any more.
    pub(in crate::execution) async fn closed(&self) {
        self.shared.closed.cancelled().await;
    }

    /// Resolves when the limit was exceeded and the policy is to fail.
    pub(super) async fn limit_hit(&self) {
        self.limit_hit.cancelled().await;
    }

    /// Ends the output, and waits until all of it survives a crash. The totals are known either way.
    pub(super) async fn finish(&self) -> (StepOutput, StoreResult<()>) {
        let (output, wrote) = self.end();
        (output, if wrote { self.shared.sync().await } else { self.shared.check() })
    }

    /// Takes nothing more, and waits until what was taken survives a crash.
    pub(super) async fn leave(&self) -> StoreResult<()> {
        self.state().ended = true;
        self.shared.sync().await
    }

    /// Takes a part of a chunk that was admitted to the queue.
    fn take(&self, stream: Stream, mut chunk: Bytes, permit: SemaphorePermit<'_>) -> Result<(), OutputClosed> {
        let mut state = self.state();
        if state.ended {
            return Err(OutputClosed);
        }
        let mut charge = permit.num_permits();
        while !chunk.is_empty() {
            let part = state.lane(stream, &self.shared.secrets).push(&mut chunk);
            self.pass(&mut state, stream, part, &mut charge);
        }
        if charge == 0 {
            // It is given back when the piece that it went into is written.
            permit.forget();
        }
        Ok(())
    }

    /// Flushes what was held back, and the kept tail; tells the totals, and whether anything was ever written.
    fn end(&self) -> (StepOutput, bool) {
        let mut state = self.state();
        state.ended = true;
        let ends: Vec<_> = state.lanes.iter_mut().map(|(stream, lane)| (*stream, lane.end())).collect();
        for (stream, part) in ends {
            self.pass(&mut state, stream, part, &mut 0);
        }
        let dropped = state.cut.dropped();
        if dropped > 0 {
            self.put(&mut state, self.mark(dropped), &mut 0);
        }
        for part in state.cut.end() {
            self.put(&mut state, part, &mut 0);
        }
        let output = StepOutput { bytes: state.bytes(), dropped, limit_hit: self.limit_hit.is_cancelled() };
        (output, state.last.is_some())
    }

    /// Puts into the queue what the limit allows.
    fn pass(&self, state: &mut State, stream: Stream, (bytes, raw_end): (Bytes, u64), charge: &mut usize) {
        let part = Part { stream, at: self.shared.clock.now(), raw_end, bytes };
        if let Some(part) = state.cut.take(part) {
            self.put(state, part, charge);
        }
        if state.cut.exceeded() && self.policy == OutputPolicy::Fail {
            self.limit_hit.cancel();
        }
    }

    fn put(&self, state: &mut State, part: Part, charge: &mut usize) {
        let Part { stream, at, raw_end, bytes } = part;
        let payload = Payload::Shared(bytes);
        let piece = Piece { step: self.ordinal, stream, at, raw_end, payload, charge: std::mem::take(charge) };
        state.last = Some(self.shared.put(piece, state.last));
    }

    /// birun's remark where output was cut.
    fn mark(&self, dropped: u64) -> Part {
        let text = format!("[birun: {dropped} bytes cut here]\n");
        Part { stream: Stream::System, at: self.shared.clock.now(), raw_end: 0, bytes: text.into() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn lane(&mut self, stream: Stream, secrets: &SecretSet) -> &mut Lane {
        self.lanes.entry(stream).or_insert_with(|| Lane { masker: secrets.masker(), raw: 0 })
    }

    /// Bytes that the process wrote.
    fn bytes(&self) -> u64 {
        self.lanes.iter().filter(|(stream, _)| **stream != Stream::System).map(|(_, lane)| lane.raw).sum()
    }
}

impl Lane {
    /// Masks the beginning of a chunk, no more of it than makes one record together with what was
    /// held back; tells where that ends, before masking.
    fn push(&mut self, chunk: &mut Bytes) -> (Bytes, u64) {
        let next = chunk.split_to(chunk.len().min(MAX_PAYLOAD - self.masker.held()));
        self.raw += next.len() as u64;
        let shown = self.masker.push(next);
        (shown, self.raw - self.masker.held() as u64)
    }

    fn end(&mut self) -> (Bytes, u64) {
        (self.masker.finish(), self.raw)
    }
}

impl fmt::Debug for StepInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StepInput({})", self.ordinal)
    }
}
