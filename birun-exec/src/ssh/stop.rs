//! Ending one run, which may not have begun yet.

use std::time::Duration;

use birun_core::execution::{Kill, Work, WorkIo};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::ssh::connection::Connection;
use crate::ssh::kill::Killer;
use crate::ssh::listen::{Heard, until};
use crate::ssh::phase::SshLimits;

/// How often a run is looked for that may not have begun.
const LOOKS: usize = 2;
/// How long a server may take to notice that its client is gone.
const AFTER_LOSS: Duration = Duration::from_secs(1);

/// Resolves when the run is to be stopped, by request or because nobody takes its output.
pub(super) async fn asked_to_stop(io: &WorkIo) {
    tokio::select! {
        () = io.stop.gracefully.cancelled() => {}
        () = io.stop.now.cancelled() => {}
        () = io.output.closed() => {}
    }
}

/// Ends one run.
pub(super) struct Stopper<'a> {
    pub(super) killer: Killer<'a>,
    pub(super) work: &'a Work,
    pub(super) io: &'a WorkIo,
    /// The connection of the run, where it has one.
    pub(super) own: Option<&'a Connection>,
    pub(super) limits: &'a SshLimits,
}

impl Stopper<'_> {
    pub(super) async fn stop(&self) -> Kill {
        self.killer.stop(self.work, self.io, self.own).await
    }

    /// Ends a run that may not have begun yet: to find none of its processes proves something only
    /// if the program had been started, or can be started no more, before they were looked for.
    pub(super) async fn stop_for_good(&self, heard: watch::Receiver<Heard>) -> Kill {
        for _ in 0..LOOKS {
            let settled = heard.borrow().is_settled();
            match self.stop().await {
                Kill::Gone if settled => return Kill::Confirmed,
                Kill::Gone => self.wait_for_news(heard.clone()).await,
                kill => return kill,
            }
        }
        let why = "the server agreed to run the script, then neither started it nor closed its channel";
        self.killer.unconfirmed(self.work.step, why)
    }

    /// Looks again after a kill: where something was on its way to begin the program, that may have begun since.
    pub(super) async fn once_more(&self, first: Kill) -> Kill {
        sleep(AFTER_LOSS).await;
        match self.stop().await {
            Kill::Gone => first,
            kill => kill,
        }
    }

    async fn wait_for_news(&self, heard: watch::Receiver<Heard>) {
        let news = until(heard.clone(), |heard| heard != Heard::Nothing);
        if timeout(self.limits.exec, news).await.is_ok() && *heard.borrow() == Heard::Lost {
            sleep(AFTER_LOSS).await;
        }
    }
}
