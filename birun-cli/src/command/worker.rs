//! `birun worker`

use std::time::Duration;

use birun_core::engine::Roles;
use birun_core::execution::Running;
use clap::Args;

use crate::config::Reach;
use crate::context::Context;
use crate::error::{CommandError, CommandResult};
use crate::input;
use crate::live::Interrupts;
use crate::local::{Purpose, open_engine};
use crate::logging::LogFormat;
use crate::ui::Ui;

/// Run what is queued, without offering the HTTP API.
///
/// Any number of workers share a database. On SIGTERM a worker starts nothing more and waits for
/// what runs; a second SIGTERM stops that. What may be run again, and what was not started,
/// goes to other workers.
#[derive(Debug, Args)]
pub(crate) struct WorkerArgs {
    /// End when there is nothing left to do.
    #[arg(long)]
    until_idle: bool,

    #[command(flatten)]
    daemon: DaemonArgs,
}

/// For commands that go on until they are told to stop.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct DaemonArgs {
    /// Executions that are run at once.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(super) slots: u32,

    /// How long to wait for what runs when told to stop.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = input::duration)]
    drain_timeout: Duration,

    /// The form of logs on stderr.
    #[arg(long, value_name = "FORM", default_value = "auto")]
    pub(super) log_format: LogFormat,
}

impl DaemonArgs {
    /// Stops what runs: at once when the user insists or the time is over.
    ///
    /// # Errors
    /// What storage answers.
    pub(super) async fn drain(self, running: Running, interrupts: &mut Interrupts) -> CommandResult {
        tracing::info!(executions = running.driving().len(), "draining");
        let patience = async {
            tokio::select! {
                () = tokio::time::sleep(self.drain_timeout) => tracing::warn!("the drain time is over"),
                () = interrupts.next() => tracing::warn!("stopping at once"),
            }
        };
        running.shutdown_after(patience).await?;
        tracing::info!("stopped");
        Ok(())
    }
}

impl WorkerArgs {
    /// The form of its logs.
    pub(super) const fn log_format(&self) -> LogFormat {
        self.daemon.log_format
    }
}

pub(crate) async fn run(_ui: &Ui, ctx: &Context, args: WorkerArgs) -> CommandResult {
    if ctx.settings.reach != Reach::Local {
        return Err(CommandError::usage("a worker needs the database itself, not a server")
            .hint("name the database with  --database-url  or BIRUN_DATABASE_URL"));
    }
    let mut interrupts = Interrupts::listen()?;
    let opened = open_engine(&ctx.settings, Purpose::Work { slots: args.daemon.slots }).await?;
    let running = opened.engine.start(Roles::all()).await?;
    tracing::info!(slots = args.daemon.slots, "working");
    let idle = async { if args.until_idle { running.idle().await } else { std::future::pending().await } };
    tokio::select! {
        () = idle => {}
        () = interrupts.next() => {}
    }
    args.daemon.drain(running, &mut interrupts).await
}
