//! Dispatch: apalis's worker and monitor move claimed executions from the store to the engine.
//!
//! What is claimed waits on a shelf until it is started. The shelf outlives apalis's workers, and
//! the tasks that go through apalis are empty: so no fault in between can lose a claim.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use apalis::prelude::{Backend, Monitor, RandomId, Task, WorkerBuilder, WorkerContext};
use apalis_core::backend::BackendConfig;
use apalis_core::backend::finalize::Ephemeral;
use apalis_core::layers::Identity;
use async_trait::async_trait;
use birun_core::execution::{Claimed, Dispatcher, Drive};
use futures::future::BoxFuture;
use futures::{FutureExt as _, ready};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How long dispatch rests after a fault, or when it was given nothing.
const REST: Duration = Duration::from_millis(50);

/// Dispatches with apalis: its [`Monitor`] keeps one of its workers going over our own [`Backend`].
#[derive(Clone, Copy, Debug, Default)]
pub struct ApalisDispatcher;

#[async_trait]
impl Dispatcher for ApalisDispatcher {
    async fn run(&self, name: &str, drive: Arc<dyn Drive>, stop: CancellationToken) {
        let shelf = Arc::new(Shelf { drive, claimed: Mutex::default(), stop: stop.clone() });
        while !stop.is_cancelled() {
            let monitor = monitor(name.to_owned(), &shelf);
            let stopped = stop.clone();
            let running = monitor.run_with_signal(async move {
                stopped.cancelled().await;
                Ok(())
            });
            match AssertUnwindSafe(running).catch_unwind().await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "dispatch ended and begins again"),
                Err(_) => tracing::error!("dispatch panicked and begins again"),
            }
            shelf.rest().await;
        }
        // They are this worker's already, and it may still give them back.
        while std::panic::catch_unwind(AssertUnwindSafe(|| shelf.start_one())).unwrap_or(true) {}
    }
}

/// One worker, which is made anew whenever it fails.
fn monitor(name: String, shelf: &Arc<Shelf>) -> Monitor {
    let shelf = Arc::clone(shelf);
    let monitor = Monitor::new().register(move |_| {
        let backend = Claims { shelf: Arc::clone(&shelf), asking: None };
        let shelf = Arc::clone(&shelf);
        WorkerBuilder::new(name.as_str()).backend(backend).build(move |(): ()| {
            let shelf = Arc::clone(&shelf);
            async move {
                shelf.start_one();
            }
        })
    });
    monitor.should_restart(|worker, error| {
        tracing::error!(worker = worker.name(), %error, "a dispatching worker failed and is made anew");
        true
    })
}

/// What was claimed and not started yet.
#[derive(Debug)]
struct Shelf {
    drive: Arc<dyn Drive>,
    claimed: Mutex<VecDeque<Claimed>>,
    stop: CancellationToken,
}

impl Shelf {
    /// Waits for executions and puts them onto the shelf. May be dropped at any time.
    async fn fill(self: Arc<Self>) {
        let batch = self.drive.next().await;
        if batch.is_empty() {
            self.rest().await;
        }
        self.claimed().extend(batch);
    }

    /// Starts the execution that waited longest; answers whether there was one.
    fn start_one(&self) -> bool {
        let next = self.claimed().pop_front();
        let found = next.is_some();
        if let Some(claimed) = next {
            self.drive.start(claimed);
        }
        found
    }

    fn is_empty(&self) -> bool {
        self.claimed().is_empty()
    }

    async fn rest(&self) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = sleep(REST) => {}
        }
    }

    fn claimed(&self) -> MutexGuard<'_, VecDeque<Claimed>> {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Offers apalis one empty task for each execution on the shelf. Never answers an error, which
/// would end the worker.
struct Claims {
    shelf: Arc<Shelf>,
    asking: Option<BoxFuture<'static, ()>>,
}

impl Backend for Claims {
    type Task = Task<()>;
    type Error = Infallible;

    fn poll_ready(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Option<Result<Task<()>, Infallible>>> {
        while self.shelf.is_empty() {
            let asking = self.asking.get_or_insert_with(|| Arc::clone(&self.shelf).fill().boxed());
            ready!(asking.poll_unpin(context));
            self.asking = None;
        }
        Poll::Ready(Some(Ok(Task::new(()))))
    }

    fn poll_close(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
}

impl BackendConfig for Claims {
    type Args = ();
    type Id = RandomId;
    type Kind = Ephemeral;
    type Config = ();
    type Layer = Identity;

    fn config(&self) -> &() {
        &()
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> Identity {
        Identity::new()
    }
}
