//! `birun server host-key revoke`

use clap::Args;

use super::{ChosenKey, VIEW, action, chosen};
use crate::args::DryRun;
use crate::context::Context;
use crate::error::CommandResult;
use crate::ui::Ui;

/// Never trust a key again, whatever the policy.
#[derive(Debug, Args)]
pub(crate) struct RevokeHostKey {
    #[command(flatten)]
    key: ChosenKey,

    #[command(flatten)]
    dry_run: DryRun,
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: RevokeHostKey) -> CommandResult {
    let client = ctx.client().await?;
    let id = chosen(&client, &args.key, &["pending", "approved"]).await?;
    let Some(key) = client.change(ui, args.dry_run.dry_run, action(&id, "revoke")).await? else { return Ok(()) };
    ui.done(&VIEW, &key, |name| format!("revoked host key {name}"))
}
