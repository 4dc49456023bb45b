//! `birun group delete`

use clap::Args;

use crate::args::DryRun;
use crate::client::Collection;
use crate::command::delete::delete;
use crate::context::Context;
use crate::error::CommandResult;
use crate::ui::Ui;

/// Delete groups; their servers stay.
#[derive(Debug, Args)]
pub(crate) struct DeleteGroups {
    /// Names or ids.
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,

    #[command(flatten)]
    dry_run: DryRun,
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: DeleteGroups) -> CommandResult {
    delete(ui, ctx, Collection::Groups, "group", &args.groups, args.dry_run).await
}
