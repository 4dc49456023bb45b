//! `birun server delete`

use clap::Args;

use crate::args::DryRun;
use crate::client::Collection;
use crate::command::delete::delete;
use crate::context::Context;
use crate::error::CommandResult;
use crate::ui::Ui;

/// Delete servers, with their host keys. What was run on them stays in the history.
#[derive(Debug, Args)]
pub(crate) struct DeleteServers {
    /// Names or ids.
    #[arg(required = true, value_name = "SERVER")]
    servers: Vec<String>,

    #[command(flatten)]
    dry_run: DryRun,
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: DeleteServers) -> CommandResult {
    delete(ui, ctx, Collection::Servers, "server", &args.servers, args.dry_run).await
}
