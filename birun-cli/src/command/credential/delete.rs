//! `birun credential delete`

use clap::Args;

use crate::args::DryRun;
use crate::client::Collection;
use crate::command::delete::delete;
use crate::context::Context;
use crate::error::CommandResult;
use crate::ui::Ui;

/// Delete credentials that no server uses.
#[derive(Debug, Args)]
pub(crate) struct DeleteCredentials {
    /// Names or ids.
    #[arg(required = true, value_name = "CREDENTIAL")]
    credentials: Vec<String>,

    #[command(flatten)]
    dry_run: DryRun,
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: DeleteCredentials) -> CommandResult {
    delete(ui, ctx, Collection::Credentials, "credential", &args.credentials, args.dry_run).await
}
