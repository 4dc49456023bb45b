//! `birun script delete`

use clap::Args;

use crate::args::DryRun;
use crate::client::Collection;
use crate::command::delete::delete;
use crate::context::Context;
use crate::error::CommandResult;
use crate::ui::Ui;

/// Delete scripts, with their versions. What was run stays in the history.
#[derive(Debug, Args)]
pub(crate) struct DeleteScripts {
    /// Names or ids.
    #[arg(required = true, value_name = "SCRIPT")]
    scripts: Vec<String>,

    #[command(flatten)]
    dry_run: DryRun,
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: DeleteScripts) -> CommandResult {
    delete(ui, ctx, Collection::Scripts, "script", &args.scripts, args.dry_run).await
}
