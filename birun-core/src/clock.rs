//! Time, as something that is asked for.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use tokio::time::Instant;

/// Tells the time and waits.
///
/// [`now`](Clock::now) is wall-clock time for records; it may jump. [`monotonic`](Clock::monotonic)
/// never goes back and decides every time-out.
#[async_trait]
pub trait Clock: Debug + Send + Sync + 'static {
    /// The wall-clock time, in whole microseconds (the resolution of every store).
    fn now(&self) -> DateTime<Utc>;

    /// Time since some fixed moment; never goes back, not affected by changes of the wall clock.
    fn monotonic(&self) -> Duration;

    /// Waits until [`monotonic`](Clock::monotonic) has advanced by `duration`. Dropping is safe.
    async fn sleep(&self, duration: Duration);
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time begins now.
    #[must_use]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the machine")]
    fn now(&self) -> DateTime<Utc> {
        truncate(Utc::now())
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Cuts an instant to whole microseconds.
#[must_use]
pub fn truncate(instant: DateTime<Utc>) -> DateTime<Utc> {
    instant.duration_trunc(TimeDelta::microseconds(1)).unwrap_or(instant)
}
