//! How full the queue may be.

use std::sync::atomic::{AtomicU64, Ordering};

/// An upper bound of what is queued, so that the queue is counted only when it may be full.
#[derive(Debug)]
pub(crate) struct QueueGauge(AtomicU64);

impl Default for QueueGauge {
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

impl QueueGauge {
    pub(super) fn may_be_full(&self, limit: u64) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bound| bound.checked_add(1)).unwrap_or(u64::MAX)
            >= limit
    }

    pub(super) fn counted(&self, queued: u64) {
        self.0.store(queued + 1, Ordering::Relaxed);
    }
}
