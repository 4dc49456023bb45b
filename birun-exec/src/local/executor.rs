//! The executor for [`Target::Local`].

use std::ffi::OsString;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use birun_core::execution::executor::HostTrust;
use birun_core::execution::{
    Ending, Executor, Handle, Kill, Probe, ProbeStage, Stage, StageStatus, Target, Work, WorkIo,
};
use birun_core::id::StepId;
use birun_core::{Error, ErrorCode, milestone};
use process_wrap::tokio::ChildWrapper;
use rustix::process::Pid;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::environment::Environment;
use super::machine::Machine;
use super::processes::{ProcessTable, Session};
use super::program::Program;
use super::spawn::spawn;
use super::tree::Tree;
use crate::bootstrap::{Bootstrap, Opening};

/// How long a shell may take to do nothing.
const PROBE_LIMIT: Duration = Duration::from_secs(10);

/// Runs work on the machine that the engine runs on, as the user that it runs as.
///
/// **Environment.** A program finds the environment that the embedding program had when the executor
/// was made, without birun's own `BIRUN_*` (or exactly [what it was made with](Self::with_environment)),
/// then its own variables and `BIRUN_STEP_ID`. It starts in the embedding program's working directory.
///
/// **What belongs to a step.** The program is started in a session of its own. Its processes are those
/// that carry the `BIRUN_STEP_ID`, those in that session, and the descendants of both: also the ones that
/// began a session of their own, and the ones that hide their environment. Only a process that does
/// all three things (another session, another environment, no living ancestor) is not recognised.
///
/// **What a program leaves behind.** The step goes on until both output streams are at their end. A
/// background process that still holds one when the program has ended gets the work's grace time (at
/// least a second), then the step is ended like a stopped one, and the output says so. Where nothing
/// holds the output, a process that let go of it (`nohup server >server.log 2>&1 &`) is none of the
/// step's business any more, and lives on; beside one that holds it, it is ended with it.
///
/// **Stopping** is verified: the process table is read until none of the step's processes is left.
/// On systems other than Linux there is no such table; there a stop ends the process group and
/// answers [`Kill::Unconfirmed`].
#[derive(Debug)]
pub struct LocalExecutor {
    environment: Environment,
    machine: Machine,
    table: ProcessTable,
}

impl LocalExecutor {
    /// An executor whose programs begin with the environment that the calling program has now.
    #[must_use]
    pub fn new() -> Self {
        Self::with_environment(std::env::vars_os())
    }

    /// An executor whose programs begin with these variables only. `BIRUN_*` is left out.
    #[must_use]
    pub fn with_environment(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self { environment: Environment::new(variables), machine: Machine::this(), table: ProcessTable::default() }
    }

    async fn run_prepared(&self, bootstrap: &Bootstrap, work: &Work, io: &WorkIo) -> Ending {
        let child = match spawn(bootstrap, work.step, &self.environment) {
            Ok(child) => child,
            Err(error) => return Ending::NotStarted(not_spawned(bootstrap, error)),
        };
        milestone::reach("spawn.after");
        let tree = Tree::new(&self.table, work.step, session(child.as_ref()));
        let opening = Opening::new(work.step);
        let program = Program { child, input: bootstrap.input(), opening, tree, grace: work.grace };
        program.run(&io.output, &io.stop).await
    }

    /// Removes the private directory of a step, wherever it was made.
    async fn remove_file(&self, step: StepId) {
        for directory in self.environment.private_directories(step) {
            match tokio::fs::remove_dir_all(&directory).await {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(%error, directory = %directory.display(), "a script's private file could not be removed");
                }
                _ => {}
            }
        }
    }
}

impl Default for LocalExecutor {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Executor for LocalExecutor {
    fn name(&self) -> &str {
        "local"
    }

    fn handle(&self, work: &Work) -> Handle {
        self.machine.handle(work.step)
    }

    async fn run(&self, work: Work, io: WorkIo) -> Ending {
        let bootstrap = match Bootstrap::new(&work) {
            Ok(bootstrap) => bootstrap,
            Err(error) => return Ending::NotStarted(error),
        };
        if io.stop.gracefully.is_cancelled() {
            return Ending::Stopped { kill: Kill::Gone };
        }
        let ending = self.run_prepared(&bootstrap, &work, &io).await;
        if bootstrap.leaves_file() {
            self.remove_file(work.step).await;
        }
        ending
    }

    async fn kill(&self, _target: &Target, handle: &Handle, grace: Duration) -> Kill {
        let step = match self.machine.step(handle) {
            Ok(step) => step,
            Err(answer) => return answer,
        };
        let kill = Tree::new(&self.table, step, None).end(grace, &CancellationToken::new()).await;
        self.remove_file(step).await;
        kill
    }

    async fn probe(&self, _target: &Target, _trust: Arc<dyn HostTrust>) -> Probe {
        let begun = Instant::now();
        let result = try_shell(&self.environment).await;
        let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let error = result.err();
        let stage = ProbeStage {
            stage: Stage::Shell,
            status: if error.is_none() { StageStatus::Ok } else { StageStatus::Failed },
            micros,
            code: error.as_ref().map(Error::code),
            message: error.as_ref().map(Error::to_string),
            hint: error.as_ref().and_then(Error::hint).map(str::to_owned),
        };
        Probe { ok: error.is_none(), stages: vec![stage], host_key: None }
    }
}

/// The session that a program leads.
fn session(child: &dyn ChildWrapper) -> Option<Session> {
    child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw).map(Session::of_new)
}

fn not_spawned(bootstrap: &Bootstrap, error: std::io::Error) -> Error {
    let missing = error.kind() == std::io::ErrorKind::NotFound;
    let told = if missing {
        bootstrap.shell_missing()
    } else {
        Error::new(ErrorCode::SpawnFailed, "no process could be started")
            .with_hint("look at the limits of processes and open files (ulimit -u, ulimit -n)")
    };
    told.with_source(error)
}

async fn try_shell(environment: &Environment) -> Result<(), Error> {
    let failed = |why: String| Error::new(ErrorCode::SpawnFailed, format!("/bin/sh {why}"));
    let mut command = Command::new("/bin/sh");
    command.args(["-c", ":"]).env_clear().envs(environment.variables()).kill_on_drop(true);
    match tokio::time::timeout(PROBE_LIMIT, command.status()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(failed(format!("did nothing and failed ({status})"))),
        Ok(Err(error)) => Err(failed("could not be started".into()).with_source(error)),
        Err(_) => Err(Error::new(ErrorCode::PhaseTimeout, "/bin/sh did not end in time")),
    }
}
