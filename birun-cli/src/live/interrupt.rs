//! Ctrl-C, and the other ways to be told to stop.

use futures::StreamExt;
use futures::stream::{BoxStream, select_all};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{CommandError, CommandResult};

/// Requests to stop, as they come: SIGINT, SIGTERM, SIGHUP.
pub(crate) struct Interrupts {
    signals: BoxStream<'static, ()>,
    /// A request that could not be followed yet.
    kept: bool,
}

impl Interrupts {
    /// Listens from now on; the signals do not end the process any more.
    ///
    /// # Errors
    /// When signals cannot be heard.
    pub(crate) fn listen() -> CommandResult<Self> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let signals: Result<Vec<Signal>, _> = kinds.into_iter().map(signal).collect();
        let signals = signals.map_err(|error| CommandError::failed("signals cannot be heard").because(&error))?;
        let streams = signals.into_iter().map(|signal| {
            Box::pin(futures::stream::unfold(signal, |mut signal| async move { Some((signal.recv().await?, signal)) }))
        });
        Ok(Self { signals: select_all(streams).boxed(), kept: false })
    }

    /// Keeps the request that was just heard: the next look finds it again.
    pub(crate) const fn keep(&mut self) {
        self.kept = true;
    }

    /// Waits for the next request. Dropping the future loses none.
    pub(crate) async fn next(&mut self) {
        if std::mem::take(&mut self.kept) {
            return;
        }
        if self.signals.next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

impl std::fmt::Debug for Interrupts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Interrupts")
    }
}
