//! `birun admin …`

mod migrate;
mod prune;
mod rekey;

use clap::Subcommand;

use crate::context::Context;
use crate::error::CommandResult;
use crate::ui::Ui;

/// Look after the database.
#[derive(Debug, Subcommand)]
pub(crate) enum AdminCommand {
    /// Bring the database to the schema of this version.
    Migrate(migrate::Migrate),
    /// Delete history that is not to be kept any longer, and give the space back.
    Prune(prune::Prune),
    /// Rotate the master key: seal every secret anew under a new one.
    Rekey(rekey::Rekey),
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, command: AdminCommand) -> CommandResult {
    match command {
        AdminCommand::Migrate(args) => migrate::run(ui, ctx, args).await,
        AdminCommand::Prune(args) => prune::run(ui, ctx, args).await,
        AdminCommand::Rekey(args) => rekey::run(ui, ctx, args).await,
    }
}
