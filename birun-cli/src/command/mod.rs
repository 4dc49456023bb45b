//! The commands: one file for each. A command parses, makes one call, and renders.

mod admin;
mod audit;
mod completions;
mod config;
mod credential;
mod delete;
mod doctor;
mod exec;
mod execution;
mod group;
mod logs;
mod man;
mod openapi;
mod preview;
mod run;
mod script;
mod serve;
mod server;
mod start;
mod status;
mod version;
mod worker;

use clap::Subcommand;

use crate::config::DatabaseUse;
use crate::context::Context;
use crate::error::CommandResult;
use crate::ui::Ui;

/// Every command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a script: a stored one, a file, or what stdin holds.
    Run(run::RunArgs),
    /// Run a command.
    Exec(exec::ExecArgs),
    /// Show the output of an execution.
    Logs(logs::LogsArgs),
    /// What was run, and how it went.
    #[command(subcommand, visible_alias = "executions")]
    Execution(execution::ExecutionCommand),
    /// Scripts that are kept, with their versions.
    #[command(subcommand, visible_alias = "scripts")]
    Script(script::ScriptCommand),
    /// The machines that work can be run on.
    #[command(subcommand, visible_alias = "servers")]
    Server(server::ServerCommand),
    /// Named sets of servers.
    #[command(subcommand, visible_alias = "groups")]
    Group(group::GroupCommand),
    /// What servers are signed in to with.
    #[command(subcommand, visible_alias = "credentials")]
    Credential(credential::CredentialCommand),
    /// Who did what.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Offer the HTTP API, and run what it is asked to run.
    Serve(serve::ServeArgs),
    /// Run what is queued, without offering the HTTP API.
    Worker(worker::WorkerArgs),
    /// How the queue and its workers stand.
    Status(status::StatusArgs),
    /// Check that everything birun needs is there.
    Doctor(doctor::DoctorArgs),
    /// Look after the database.
    #[command(subcommand)]
    Admin(admin::AdminCommand),
    /// The settings that count, and where they come from.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Print a completion script for a shell.
    Completions(completions::CompletionsArgs),
    /// Print the manual page.
    Man(man::ManArgs),
    /// Print the description of the HTTP API.
    Openapi(openapi::OpenapiArgs),
    /// Print the version.
    Version(version::VersionArgs),
}

impl Command {
    /// Whether the command is about a database itself.
    pub(crate) const fn database_use(&self) -> DatabaseUse {
        match self {
            Self::Serve(_) | Self::Worker(_) | Self::Admin(_) => DatabaseUse::Direct,
            _ => DatabaseUse::Client,
        }
    }

    /// Whether the command goes on until it is told to stop, and logs meanwhile.
    pub(crate) const fn log_format(&self) -> Option<crate::logging::LogFormat> {
        match self {
            Self::Serve(args) => Some(args.log_format()),
            Self::Worker(args) => Some(args.log_format()),
            _ => None,
        }
    }

    /// Carries the command out.
    ///
    /// # Errors
    /// How the command failed, or that it ended with a code of its own.
    pub(crate) async fn run(self, ui: &Ui, ctx: &Context) -> CommandResult {
        match self {
            Self::Run(args) => run::run(ui, ctx, args).await,
            Self::Exec(args) => exec::run(ui, ctx, args).await,
            Self::Logs(args) => logs::run(ui, ctx, args).await,
            Self::Execution(command) => execution::run(ui, ctx, command).await,
            Self::Script(command) => script::run(ui, ctx, command).await,
            Self::Server(command) => server::run(ui, ctx, command).await,
            Self::Group(command) => group::run(ui, ctx, command).await,
            Self::Credential(command) => credential::run(ui, ctx, command).await,
            Self::Audit(command) => audit::run(ui, ctx, command).await,
            Self::Serve(args) => serve::run(ui, ctx, args).await,
            Self::Worker(args) => worker::run(ui, ctx, args).await,
            Self::Status(args) => status::run(ui, ctx, args).await,
            Self::Doctor(args) => doctor::run(ui, ctx, args).await,
            Self::Admin(command) => admin::run(ui, ctx, command).await,
            Self::Config(command) => config::run(ui, ctx, command),
            Self::Completions(args) => completions::run(ui, args),
            Self::Man(args) => man::run(ui, &args),
            Self::Openapi(args) => openapi::run(ui, args),
            Self::Version(args) => version::run(ui, args),
        }
    }
}
