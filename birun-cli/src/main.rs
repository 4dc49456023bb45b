//! The terminal: `birun`. The only part of birun that reads config files and the environment.
//!
//! Commands hold no rules: each one parses, makes requests to the API, and renders the answers. The
//! API is a server's, or that of an engine in this very process.

mod args;
mod client;
mod command;
mod config;
mod context;
mod error;
mod exit;
mod failpoint;
mod input;
mod live;
mod local;
mod logging;
#[cfg(test)]
mod reference;
mod ui;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Cli;
use crate::config::{Env, Paths, Settings};
use crate::context::Context;
use crate::error::{CommandError, CommandResult};
use crate::failpoint::Failpoint;
use crate::ui::{ColorChoice, Format, Manner, Ui};

/// Threads that drive what birun does at once; waiting takes none of them.
const THREADS: usize = 4;
/// A block of memory larger than any that is needed often.
const LARGEST_BLOCK: usize = 8 * 1024 * 1024;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let env = Env::read();
    match settings(&cli, &env) {
        Ok(settings) => {
            let ui = Ui::new(manner(&cli, settings.output.value, settings.color.value));
            let ctx = Context { settings, user: env.user() };
            let ended = failpoint(&env).and_then(|failpoint| run(&ui, ctx, cli, failpoint));
            finish(&ui, ended)
        }
        Err(error) => {
            let ui = Ui::new(manner(&cli, Format::default(), ColorChoice::default()));
            finish(&ui, Err(error))
        }
    }
}

fn settings(cli: &Cli, env: &Env) -> CommandResult<Settings> {
    Settings::read(&cli.global.flags(), env, &Paths::find()?, cli.command.database_use())
}

const fn manner(cli: &Cli, format: Format, color: ColorChoice) -> Manner {
    let global = &cli.global;
    Manner { format, color, quiet: global.quiet, verbose: global.verbose, yes: global.yes, no_input: global.no_input }
}

/// Where tests want this process to die.
fn failpoint(env: &Env) -> CommandResult<Option<Failpoint>> {
    env.get("BIRUN_FAILPOINT").map(Failpoint::parse).transpose()
}

fn run(ui: &Ui, ctx: Context, cli: Cli, failpoint: Option<Failpoint>) -> CommandResult {
    keep_freed_memory();
    let _logs = logging::start(cli.command.log_format(), ui.manner(), failpoint);
    // One provider of cryptography for the whole process, chosen here and not by whoever comes first.
    rustls::crypto::ring::default_provider().install_default().ok();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(THREADS);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    let runtime = runtime.map_err(|error| CommandError::failed("no threads can be started").because(&error))?;
    let ended = runtime.block_on(cli.command.run(ui, &ctx));
    // Whatever still waits in a thread of its own, a read of stdin for example, is not waited for.
    runtime.shutdown_background();
    ended
}

/// Lets the allocator keep what output frees for the output that follows.
///
/// glibc gives freed memory back to the kernel beyond a threshold, and output crosses the first one
/// all the time: each byte of it is then paid for with a fresh page. The threshold becomes twice the
/// largest block that was ever freed, so one is; nobody writes to it, so it takes no memory.
fn keep_freed_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGEST_BLOCK)));
}

fn finish(ui: &Ui, ended: CommandResult) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            ui.fail(&error);
            error.exit().into()
        }
    }
}
