//! Handing work over to a worker that outlives this process.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Stdio;

use process_wrap::tokio::{CommandWrap, ProcessSession};

use super::DataDir;
use crate::error::{CommandError, CommandResult};

/// The worker that goes on after this process.
#[derive(Clone, Debug)]
pub(crate) struct Detached {
    pub(super) dir: DataDir,
    pub(super) database_url: Option<String>,
}

impl Detached {
    /// Starts `birun worker --until-idle` in a session of its own: closing the terminal does not reach
    /// it, and it ends by itself when there is nothing left to do.
    ///
    /// # Errors
    /// When no process can be started.
    pub(crate) fn start(&self) -> CommandResult {
        let path = self.dir.worker_log();
        let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        let log = log.map_err(|error| CommandError::file("open", &path, &error))?;
        let birun = std::env::current_exe()
            .map_err(|error| CommandError::failed("birun does not know where it lies itself").because(&error))?;
        let mut worker = CommandWrap::with_new(birun, |command| {
            command.arg("worker").arg("--until-idle").arg("--data-dir").arg(self.dir.path());
            // It stands for another application's database; this command did not look at it either.
            command.env_remove("DATABASE_URL");
            if let Some(url) = &self.database_url {
                // Not as an argument: it may hold a password.
                command.env("BIRUN_DATABASE_URL", url);
            }
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        });
        let started = worker.wrap(ProcessSession).spawn();
        started.map(drop).map_err(|error| CommandError::failed("no worker can be started").because(&error))
    }
}
