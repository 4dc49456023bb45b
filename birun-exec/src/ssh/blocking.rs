//! Work that blocks a thread, bounded.

use std::sync::Arc;

use birun_core::{Error, Result};
use tokio::sync::Semaphore;

/// Name servers that do not answer must not take up every thread for blocking work.
const LOOKUPS: usize = 32;

/// How much of each kind may block a thread at once.
#[derive(Debug)]
pub(super) struct Blocking {
    /// Finding addresses: waits for name servers.
    pub(super) lookups: Arc<Semaphore>,
    /// Opening keys: keeps a processor busy.
    pub(super) keys: Arc<Semaphore>,
}

impl Default for Blocking {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self { lookups: Arc::new(Semaphore::new(LOOKUPS)), keys: Arc::new(Semaphore::new(processors)) }
    }
}

/// Does it on a thread for blocking work, once there is a place.
///
/// Dropping the future gives up waiting only: what has begun keeps its place to its end.
///
/// # Errors
/// `internal` if it panics.
pub(super) async fn block<T: Send + 'static>(
    places: &Arc<Semaphore>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let place = Arc::clone(places).acquire_owned().await;
    let placed = move || {
        let done = work();
        drop(place);
        done
    };
    tokio::task::spawn_blocking(placed).await.map_err(|_| Error::internal("blocking work did not end"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_keeps_its_place() {
        let places = Arc::new(Semaphore::new(1));
        let (release, held) = std::sync::mpsc::channel::<()>();
        let (began, begin) = tokio::sync::oneshot::channel();
        let first = block(&places, move || {
            began.send(()).unwrap();
            held.recv().unwrap();
        });
        {
            let mut first = Box::pin(first);
            assert!(futures::poll!(&mut first).is_pending());
        }
        begin.await.unwrap();
        assert_eq!(places.available_permits(), 0);
        let mut second = Box::pin(block(&places, || 2));
        assert!(futures::poll!(&mut second).is_pending());
        release.send(()).unwrap();
        assert_eq!(second.await.unwrap(), 2);
    }
}
