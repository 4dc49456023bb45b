//! `birun server host-key delete`

use clap::Args;

use super::in_words;
use crate::args::DryRun;
use crate::client::Request;
use crate::context::Context;
use crate::error::CommandResult;
use crate::ui::Ui;

/// Forget keys, whatever was decided about them: one that was revoked by mistake can be approved when
/// the server offers it again.
#[derive(Debug, Args)]
pub(crate) struct DeleteHostKeys {
    /// Ids, from `birun server host-key list`.
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<String>,

    #[command(flatten)]
    dry_run: DryRun,
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: DeleteHostKeys) -> CommandResult {
    let client = ctx.client().await?;
    for key in &args.keys {
        let told = in_words(&client.send(Request::get(["host-keys", key])).await?);
        if !args.dry_run.dry_run {
            ui.confirm(&format!("delete host key {told}?"))?;
        }
        if client.change(ui, args.dry_run.dry_run, Request::delete(["host-keys", key])).await?.is_some() {
            ui.note(&format!("deleted host key {told}"));
        }
    }
    Ok(())
}
