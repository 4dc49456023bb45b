//! Trying to reach a server, stage by stage.

use std::sync::Arc;

use birun_core::execution::executor::HostTrust;
use birun_core::execution::{Probe, ProbeStage, ServerTarget, Stage, StageStatus};
use birun_core::{Error, ErrorCode, Result};
use tokio::time::Instant;

use crate::ssh::approach::Approach;
use crate::ssh::channel::{Errand, SHELL, ask};
use crate::ssh::connection::Connection;
use crate::ssh::executor::Settings;
use crate::ssh::keys::Identity;

/// What the probe's no-op says, so that a login shell that only prints something is noticed.
const SIGN: &str = "birun-probe-ok";
const NO_OP: &str = "echo birun-probe-ok\n";

/// Goes through every stage on a connection of its own, until one fails.
pub(super) async fn probe(target: Arc<ServerTarget>, settings: Arc<Settings>, trust: Arc<dyn HostTrust>) -> Probe {
    let approach = Approach::new(target, settings);
    let mut log = Log { stages: Vec::new(), begin: Instant::now(), host_key: None };
    let ok = match walk(&approach, &*trust, &mut log).await {
        Ok(()) => true,
        Err(error) => {
            log.failed(&error);
            false
        }
    };
    Probe { ok, stages: log.stages, host_key: log.host_key }
}

async fn walk(approach: &Approach, trust: &dyn HostTrust, log: &mut Log) -> Result<()> {
    let addresses = approach.resolve().await?;
    log.passed();
    let tcp = approach.dial(&addresses).await?;
    log.passed();
    let met = approach.meet(tcp, &addresses).await?;
    log.host_key = Some(format!("{} {}", met.key().algorithm, met.key().fingerprint));
    log.passed();
    let admitted = met.admit(approach, trust).await?;
    log.passed();
    let identity = match &approach.judge.target.credential {
        Some(credential) => Some(Identity::open(credential, &approach.settings.blocking.keys).await?),
        None => None,
    };
    let connection = admitted.sign_in(approach, identity.as_ref()).await?;
    log.passed();
    let shell = try_shell(&connection).await;
    if shell.is_ok() {
        log.passed();
    }
    connection.leave().await;
    shell
}

async fn try_shell(connection: &Connection) -> Result<()> {
    let errand = Errand { command: SHELL, input: NO_OP, limit: connection.limits().exec };
    let answer = ask(connection, errand).await?;
    if answer.text.lines().any(|line| line == SIGN) {
        return Ok(());
    }
    let exit = answer.exit.map_or_else(|| "no exit status".to_owned(), |exit| exit.to_string());
    let endpoint = connection.endpoint();
    let words = if answer.text.is_empty() { String::new() } else { format!(": {}", answer.text) };
    Err(Error::new(ErrorCode::SpawnFailed, format!("{endpoint}: no shell could be used ({exit}){words}"))
        .with_hint("give the user a login shell that runs commands, and the server a /bin/sh"))
}

/// The stages so far.
struct Log {
    stages: Vec<ProbeStage>,
    begin: Instant,
    host_key: Option<String>,
}

impl Log {
    fn passed(&mut self) {
        self.note(StageStatus::Ok, None);
    }

    fn failed(&mut self, error: &Error) {
        self.note(StageStatus::Failed, Some(error));
        while self.stages.len() < Stage::ALL.len() {
            self.note(StageStatus::NotTried, None);
        }
    }

    fn note(&mut self, status: StageStatus, error: Option<&Error>) {
        let Some(stage) = Stage::ALL.get(self.stages.len()).copied() else { return };
        let now = Instant::now();
        let micros = if status == StageStatus::NotTried { 0 } else { now.duration_since(self.begin).as_micros() };
        self.begin = now;
        self.stages.push(ProbeStage {
            stage,
            status,
            micros: u64::try_from(micros).unwrap_or(u64::MAX),
            code: error.map(Error::code),
            message: error.map(ToString::to_string),
            hint: error.and_then(Error::hint).map(str::to_owned),
        });
    }
}
