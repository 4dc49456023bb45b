//! The executor itself: how it is built, and what it does with a piece of work.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use birun_core::execution::executor::HostTrust;
use birun_core::execution::{Ending, Executor, Handle, Kill, Probe, Resume, ServerTarget, Target, Work, WorkIo};
use birun_core::id::StepId;
use birun_core::inventory::HostKeyPolicy;
use birun_core::{Error, Result};

use crate::ssh::blocking::Blocking;
use crate::ssh::kill::{Killer, KnownKeysOnly};
use crate::ssh::phase::SshLimits;
use crate::ssh::pool::Pool;
use crate::ssh::{detached, probe, run};

/// How long after a look that found nothing a second one is worth while.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// Runs work on servers over SSH.
///
/// Host keys are judged before anything else: nothing is sent to a server whose key is not trusted.
/// Connections are kept and used again, one execution at a time on each. Clones share them.
///
/// Nothing is connected and nothing spawned before the first call.
#[derive(Clone, Debug)]
pub struct SshExecutor {
    settings: Arc<Settings>,
    pool: Pool,
}

/// What an executor was built with.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) policy: HostKeyPolicy,
    pub(super) limits: SshLimits,
    pub(super) connections: usize,
    pub(super) keep_idle: Duration,
    /// Interval, and how many may go unanswered.
    pub(super) keepalive: (Duration, usize),
    /// The socket of the agent that credentials use that name none.
    pub(super) agent: Option<PathBuf>,
    pub(super) blocking: Blocking,
}

/// Builds an [`SshExecutor`].
#[derive(Debug)]
#[must_use]
pub struct SshBuilder(Settings);

impl SshExecutor {
    /// Begins with how unknown host keys are met where the target does not say it itself.
    pub fn builder(policy: HostKeyPolicy) -> SshBuilder {
        SshBuilder(Settings {
            policy,
            limits: SshLimits::default(),
            connections: 4,
            keep_idle: Duration::from_secs(60),
            keepalive: (Duration::from_secs(15), 3),
            agent: None,
            blocking: Blocking::default(),
        })
    }
}

impl SshBuilder {
    /// Sets the limits of the phases.
    pub const fn limits(mut self, limits: SshLimits) -> Self {
        self.0.limits = limits;
        self
    }

    /// Sets how many executions may use one server at once, each on a connection of its own.
    /// Default 4. Killing may use as many again.
    pub const fn connections_per_server(mut self, connections: usize) -> Self {
        self.0.connections = connections;
        self
    }

    /// Sets how long an unused connection is kept. Default 60 s.
    pub const fn keep_idle(mut self, keep: Duration) -> Self {
        self.0.keep_idle = keep;
        self
    }

    /// Sets how often a silent server is asked whether it is there, and how many questions in a row
    /// may go unanswered before the link counts as dead. Default: every 15 s, 3.
    pub const fn keepalive(mut self, interval: Duration, unanswered: usize) -> Self {
        self.0.keepalive = (interval, unanswered);
        self
    }

    /// Sets the socket of the ssh-agent that signs for credentials of kind agent that name none
    /// themselves. Default: there is none. The agent is never forwarded.
    pub fn agent(mut self, socket: impl Into<PathBuf>) -> Self {
        self.0.agent = Some(socket.into());
        self
    }

    /// Finishes the executor.
    ///
    /// # Errors
    /// `invalid` if no connection or no time is allowed.
    pub fn build(self) -> Result<SshExecutor> {
        let settings = self.0;
        if settings.connections == 0 {
            return Err(Error::invalid_field("connections_per_server", "must be at least 1"));
        }
        if settings.keepalive.0.is_zero() {
            return Err(Error::invalid_field("keepalive", "the interval must be longer than nothing"));
        }
        let settings = Arc::new(settings);
        Ok(SshExecutor { pool: Pool::new(Arc::clone(&settings)), settings })
    }
}

#[async_trait]
impl Executor for SshExecutor {
    fn name(&self) -> &str {
        "ssh"
    }

    fn handle(&self, work: &Work) -> Handle {
        Handle(serde_json::json!({ "step_id": work.step }))
    }

    async fn run(&self, work: Work, io: WorkIo) -> Ending {
        match server(&work.target) {
            Ok(target) => run::run(&self.pool, &self.settings, target, work, io).await,
            Err(error) => Ending::NotStarted(error),
        }
    }

    fn detaches(&self) -> bool {
        true
    }

    async fn adopt(&self, work: Work, io: WorkIo, from: Resume) -> Ending {
        match server(&work.target) {
            Ok(target) => run::adopt(&self.pool, &self.settings, target, (work, from), io).await,
            Err(error) => Ending::NotStarted(error),
        }
    }

    async fn forget(&self, target: &Target, handle: &Handle) {
        if let (Ok(target), Ok(step)) = (server(target), step(handle)) {
            detached::forget(&self.pool, &target, step).await;
        }
    }

    async fn kill(&self, target: &Target, handle: &Handle, grace: Duration) -> Kill {
        let (target, step) = match server(target).and_then(|target| Ok((target, step(handle)?))) {
            Ok(found) => found,
            Err(error) => return Kill::Unconfirmed { detail: error.to_string() },
        };
        let killer = Killer { pool: &self.pool, target: &target };
        let first = killer.end(step, grace, &KnownKeysOnly, None).await;
        if first != Kill::Gone {
            return first;
        }
        // A server that has just agreed to run something may not have begun it.
        tokio::time::sleep(SECOND_LOOK).await;
        killer.end(step, grace, &KnownKeysOnly, None).await
    }

    async fn probe(&self, target: &Target, trust: Arc<dyn HostTrust>) -> Probe {
        match server(target) {
            Ok(target) => probe::probe(target, Arc::clone(&self.settings), trust).await,
            Err(_) => Probe { ok: false, stages: Vec::new(), host_key: None },
        }
    }
}

fn server(target: &Target) -> Result<Arc<ServerTarget>> {
    match target {
        Target::Server(server) => Ok(Arc::clone(server)),
        Target::Local => Err(Error::internal("the ssh executor was given work for the local machine")),
    }
}

fn step(handle: &Handle) -> Result<StepId> {
    let id = handle.0.get("step_id").and_then(serde_json::Value::as_str);
    id.ok_or_else(|| Error::internal("the handle is not one of the ssh executor"))?.parse()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Notes, server_target};
    use birun_core::inventory::OpenCredential;
    use birun_core::vault::Secret;

    /// The name servers answer nobody: every place for a look-up is taken.
    #[tokio::test]
    async fn a_look_up_that_hangs_ends_at_its_limit() {
        let limits = SshLimits { resolve: Duration::from_millis(50), ..SshLimits::default() };
        let executor = SshExecutor::builder(HostKeyPolicy::Strict).limits(limits).build().unwrap();
        let lookups = Arc::clone(&executor.settings.blocking.lookups);
        let all = u32::try_from(lookups.available_permits()).unwrap();
        let _places = lookups.acquire_many(all).await.unwrap();
        let mut target = server_target(22, "deploy", OpenCredential::Password(Secret::new("x")), Vec::new());
        target.host = "db.example.com".to_owned();
        let probe = executor.probe(&Target::Server(Arc::new(target)), Notes::new()).await;
        let stage = probe.stages.first().unwrap();
        assert_eq!(stage.message.as_deref(), Some("db.example.com:22: timed out in resolve after 50ms"));
    }
}
