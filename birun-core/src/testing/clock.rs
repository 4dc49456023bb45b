//! A clock that stands still until it is told to go on.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::watch;

use crate::clock::Clock;

/// A clock that only [`advance`](ManualClock::advance) moves.
#[derive(Debug)]
pub struct ManualClock {
    start: DateTime<Utc>,
    elapsed: watch::Sender<Duration>,
}

impl ManualClock {
    /// A clock that stands at this instant.
    #[must_use]
    pub fn at(start: DateTime<Utc>) -> Self {
        Self { start, elapsed: watch::Sender::new(Duration::ZERO) }
    }

    /// Moves both times on and wakes whoever waited for it.
    pub fn advance(&self, by: Duration) {
        self.elapsed.send_modify(|elapsed| *elapsed += by);
    }

    /// How far it was moved.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        *self.elapsed.borrow()
    }

    /// Resolves when somebody waits for this clock.
    pub async fn is_awaited(&self) {
        while self.elapsed.receiver_count() == 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        let elapsed = TimeDelta::from_std(*self.elapsed.borrow()).unwrap_or(TimeDelta::MAX);
        self.start.checked_add_signed(elapsed).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    fn monotonic(&self) -> Duration {
        *self.elapsed.borrow()
    }

    async fn sleep(&self, duration: Duration) {
        let mut elapsed = self.elapsed.subscribe();
        let until = *elapsed.borrow() + duration;
        // The sender lives as long as the clock, which outlives this borrow.
        if elapsed.wait_for(|now| *now >= until).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
