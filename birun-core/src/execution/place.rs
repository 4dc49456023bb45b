//! Waiting for a place: work that a limit keeps from beginning says so, and is not charged for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Clock;

/// A wait is told once it lasts so long: most are over sooner, and telling costs two writes.
const TOLD_AFTER: Duration = Duration::from_secs(1);

/// Tells the engine why a piece of work has not begun, where a limit keeps it waiting for its place.
///
/// What waits is not charged for the time: the limit of an attempt counts only while it has its
/// place. It has one unless it says otherwise.
#[derive(Clone, Debug, Default)]
pub struct Waits(watch::Sender<Option<Arc<str>>>);

/// Work that waits for its place. It has it when this is dropped.
#[derive(Debug)]
#[must_use]
pub struct Waiting(watch::Sender<Option<Arc<str>>>);

impl Waits {
    /// The work waits from now on; `why` is shown to people, for example `limit of server web-1 reached`.
    pub fn begin(&self, why: impl Into<Arc<str>>) -> Waiting {
        self.0.send_replace(Some(why.into()));
        Waiting(self.0.clone())
    }

    /// Why the work waits, if it does.
    #[must_use]
    pub fn why(&self) -> Option<Arc<str>> {
        self.0.borrow().clone()
    }

    /// Resolves when the work has had its place for so long.
    pub(super) async fn had_place_for(&self, limit: Duration, clock: &dyn Clock) {
        let mut waiting = self.0.subscribe();
        let mut left = limit;
        loop {
            changed(&mut waiting, false).await;
            let begun = clock.monotonic();
            tokio::select! {
                () = clock.sleep(left) => return,
                () = changed(&mut waiting, true) => {}
            }
            left = left.saturating_sub(clock.monotonic().saturating_sub(begun));
        }
    }

    /// Resolves with why the work waits when it has waited for a while, and with nothing when a wait
    /// that was `told` is over.
    pub(super) async fn news(&self, told: bool, clock: &dyn Clock) -> Option<Arc<str>> {
        let mut waiting = self.0.subscribe();
        if told {
            changed(&mut waiting, false).await;
            return None;
        }
        loop {
            changed(&mut waiting, true).await;
            tokio::select! {
                () = clock.sleep(TOLD_AFTER) => {}
                () = changed(&mut waiting, false) => continue,
            }
            if let Some(why) = self.why() {
                return Some(why);
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.send_replace(None);
    }
}

/// Resolves when the work waits, or when it does not.
async fn changed(waiting: &mut watch::Receiver<Option<Arc<str>>>, waits: bool) {
    // The sender outlives everyone who asks it.
    let _why = waiting.wait_for(|why| why.is_some() == waits).await.map(|why| why.is_some());
}
