//! One run: begun on a connection, followed to its end, and what becomes of the connection.

use std::sync::Arc;

use birun_core::execution::{Ending, Kill, Resume, ServerTarget, Work, WorkIo};
use birun_core::id::StepId;
use birun_core::script::RunMode;
use futures::FutureExt;

use crate::bootstrap::Bootstrap;
use crate::ssh::channel::{Channel, NotBegun};
use crate::ssh::detached;
use crate::ssh::executor::Settings;
use crate::ssh::kill::{Killer, remove_directory};
use crate::ssh::listen::{Cause, Run, Talk};
use crate::ssh::phase::{Endpoint, SshLimits};
use crate::ssh::pool::{Freshness, Lane, Lease, Pool};
use crate::ssh::stop::{Stopper, asked_to_stop};

/// Runs a piece of work on a server.
pub(super) async fn run(pool: &Pool, settings: &Settings, target: Arc<ServerTarget>, work: Work, io: WorkIo) -> Ending {
    let bootstrap = match Bootstrap::new(&work) {
        Ok(bootstrap) => bootstrap,
        Err(error) => return Ending::NotStarted(error),
    };
    let endpoint = Endpoint { host: target.host.clone(), port: target.port };
    let site = Site { pool, limits: &settings.limits, target: &target, endpoint: &endpoint };
    if work.mode == RunMode::Detached {
        return detached::run(site, &bootstrap, &work, &io).await;
    }
    let command = bootstrap.command_line();
    let begun = tokio::select! {
        biased;
        () = asked_to_stop(&io) => return Ending::Stopped { kill: Kill::Gone },
        begun = site.begin(&command, &io, Again::Always) => begun,
    };
    match begun {
        Ok((lease, channel)) => site.finish(&bootstrap, &work, &io, lease, channel).await,
        Err(NotBegun::Link(error) | NotBegun::NoReply(error)) => Ending::Unreachable(error),
        Err(NotBegun::Refused(error)) => Ending::NotStarted(error),
    }
}

/// Takes up detached work that runs on a server already.
pub(super) async fn adopt(
    pool: &Pool,
    settings: &Settings,
    target: Arc<ServerTarget>,
    (work, from): (Work, Resume),
    io: WorkIo,
) -> Ending {
    let endpoint = Endpoint { host: target.host.clone(), port: target.port };
    let site = Site { pool, limits: &settings.limits, target: &target, endpoint: &endpoint };
    detached::adopt(site, &work, &io, from).await
}

/// Whether a server may be asked once more to run a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// Also where it did not answer.
    Always,
    /// Only where it cannot have heard of it: what it began then would be in the way.
    Unheard,
}

/// Where a run takes place.
#[derive(Clone, Copy)]
pub(super) struct Site<'a> {
    pub(super) pool: &'a Pool,
    pub(super) limits: &'a SshLimits,
    pub(super) target: &'a Arc<ServerTarget>,
    pub(super) endpoint: &'a Endpoint,
}

impl Site<'_> {
    /// Gets a connection on which the server agreed to run a command.
    ///
    /// A kept connection that turns out to be dead is replaced once: nothing of the script was sent.
    pub(super) async fn begin(&self, command: &str, io: &WorkIo, again: Again) -> Result<(Lease, Channel), NotBegun> {
        let mut freshness = Freshness::Any;
        loop {
            let lane = Lane::Work(&io.waits);
            let lease = self.pool.lease(self.target, &*io.trust, lane, freshness).await.map_err(NotBegun::Link)?;
            match Channel::begin(&lease.connection, command).await {
                Ok(channel) => return Ok((lease, channel)),
                Err(NotBegun::Link(_)) if lease.reused => freshness = Freshness::New,
                Err(NotBegun::NoReply(_)) if lease.reused && again == Again::Always => freshness = Freshness::New,
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends the script, passes its output on, and ends it when asked to.
    async fn finish(&self, bootstrap: &Bootstrap, work: &Work, io: &WorkIo, lease: Lease, channel: Channel) -> Ending {
        let Channel { ear, mouth } = channel;
        let killer = Killer { pool: self.pool, target: self.target };
        let stopper = Stopper { killer, work, io, own: Some(&lease.connection), limits: self.limits };
        let talk = Talk::default();
        let mut run = Run::new(ear, &io.output, work, self.limits);
        let mut followed = run.follow((&mouth, bootstrap.input()), &stopper, &talk).await;
        if followed.kill.is_none() && io.output.closed().now_or_never().is_some() {
            followed.kill = Some(stopper.stop_for_good(talk.heard.subscribe()).await);
        }
        // Whoever kills removes the directory as well.
        let leftovers = bootstrap.leaves_file() && followed.kill != Some(Kill::Confirmed);
        let ending = match followed.kill {
            Some(kill) => Ending::Stopped { kill },
            None => run.ending(&followed.cause, self.endpoint, lease.connection.why(), mouth.is_whole()).await,
        };
        match followed.cause {
            Cause::Closed if lease.connection.is_dead() => {}
            Cause::Closed if leftovers => tidy_up(lease, work.step),
            Cause::Closed => lease.give_back(),
            Cause::LinkDown | Cause::TimedOut(..) => {}
        }
        ending
    }
}

/// Removes the private directory of a program that has ended, then gives the connection back, if it
/// proved to be good. Nobody waits for it: dropped half way, with the runtime, it leaves a directory
/// behind that its user alone can read, and nothing else.
fn tidy_up(lease: Lease, step: StepId) {
    tokio::spawn(async move {
        if remove_directory(&lease.connection, step).await {
            lease.give_back();
        }
    });
}
