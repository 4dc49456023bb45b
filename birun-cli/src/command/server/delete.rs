//! `birun server delete`

use clap::Args;

use super::own_credential;
use crate::args::DryRun;
use crate::client::Collection;
use crate::command::delete::delete_one;
use crate::context::Context;
use crate::error::CommandResult;
use crate::ui::Ui;

/// Delete servers, with their host keys. What was run on them stays in the history.
///
/// A credential that `birun server add` made from a file goes with the last server that uses it.
#[derive(Debug, Args)]
pub(crate) struct DeleteServers {
    /// Names or ids.
    #[arg(required = true, value_name = "SERVER")]
    servers: Vec<String>,

    #[command(flatten)]
    dry_run: DryRun,
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: DeleteServers) -> CommandResult {
    let client = ctx.client().await?;
    let dry_run = args.dry_run.dry_run;
    if !dry_run {
        ui.confirm(&format!("delete server {}?", args.servers.join(", ")))?;
    }
    for server in &args.servers {
        let credential = own_credential::of_server(&client, server).await?;
        delete_one(ui, &client, Collection::Servers, "server", server, dry_run).await?;
        if let Some(credential) = credential {
            own_credential::delete(ui, &client, &credential, dry_run).await?;
        }
    }
    Ok(())
}
