//! `birun server host-key approve`

use clap::Args;

use super::{ChosenKey, VIEW, action, chosen, in_words, keys_of, text};
use crate::args::DryRun;
use crate::context::Context;
use crate::error::CommandResult;
use crate::ui::{Ui, visible};

/// Trust a key that a server offered. Compare its fingerprint first, for example with what
/// `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` shows on the server itself.
///
/// It takes the place of the server's approved key of the same algorithm, if there is one: that is
/// revoked.
#[derive(Debug, Args)]
pub(crate) struct ApproveHostKey {
    #[command(flatten)]
    key: ChosenKey,

    #[command(flatten)]
    dry_run: DryRun,
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: ApproveHostKey) -> CommandResult {
    let client = ctx.client().await?;
    let key = chosen(&client, &args.key, &["pending"]).await?;
    let mut replaced = keys_of(&client, text(&key, "server"), &["approved"]).await?;
    replaced
        .retain(|other| text(other, "algorithm") == text(&key, "algorithm") && text(other, "id") != text(&key, "id"));
    let request = action(text(&key, "id"), "approve");
    let Some(key) = client.change(ui, args.dry_run.dry_run, request).await? else { return Ok(()) };
    ui.done(&VIEW, &key, |name| {
        let (algorithm, fingerprint) = (text(&key, "algorithm"), text(&key, "fingerprint"));
        format!("approved host key {name} of {}: {algorithm} {fingerprint}", text(&key, "server"))
    })?;
    for old in replaced {
        ui.note(&visible(&format!("revoked the host key that it replaces: {}", in_words(&old))));
    }
    Ok(())
}
