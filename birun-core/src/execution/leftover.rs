//! What may still live of a piece of work whose end nobody saw, and how it is killed.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;

use crate::execution::halt::Halt;
use crate::execution::{Executor, Handle, Kill, Target};

/// Processes that may still be there, and how to reach them.
#[derive(Clone, Debug)]
pub(super) struct Leftover {
    pub(super) executor: Arc<dyn Executor>,
    pub(super) target: Target,
    pub(super) handle: Handle,
    pub(super) grace: Duration,
}

impl Leftover {
    /// Kills them with grace, which is cut short when the execution is to stop at once.
    pub(super) async fn kill(&self, halt: &Halt) -> Kill {
        tokio::select! {
            kill = self.kill_after(self.grace) => kill,
            () = halt.at_once() => self.kill_after(Duration::ZERO).await,
        }
    }

    /// An executor that panics has confirmed nothing.
    async fn kill_after(&self, grace: Duration) -> Kill {
        let killing = async { self.executor.kill(&self.target, &self.handle, grace).await };
        AssertUnwindSafe(killing).catch_unwind().await.unwrap_or_else(|panic| Kill::Unconfirmed {
            detail: format!(
                "the executor `{}` panicked ({}) while it looked for them; look on the target for processes with \
                 BIRUN_STEP_ID in their environment, and end them",
                self.executor.name(),
                said(panic.as_ref())
            ),
        })
    }
}

/// What a panic said.
pub(super) fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}
