//! `birun server host-key revoke`

use clap::Args;

use super::{ChosenKey, VIEW, action, chosen, in_words, text};
use crate::args::DryRun;
use crate::context::Context;
use crate::error::CommandResult;
use crate::ui::{Ui, visible};

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
    let key = chosen(&client, &args.key, &["pending", "approved"]).await?;
    if !args.dry_run.dry_run {
        ui.confirm(&visible(&format!("revoke host key {}?", in_words(&key))))?;
    }
    let request = action(text(&key, "id"), "revoke");
    let Some(key) = client.change(ui, args.dry_run.dry_run, request).await? else { return Ok(()) };
    ui.done(&VIEW, &key, |name| format!("revoked host key {name}"))
}
