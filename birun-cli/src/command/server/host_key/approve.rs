//! `birun server host-key approve`

use clap::Args;

use super::{ChosenKey, VIEW, action, chosen};
use crate::args::DryRun;
use crate::context::Context;
use crate::error::CommandResult;
use crate::ui::Ui;

/// Trust a key that a server offered. Compare its fingerprint first, for example with what
/// `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` shows on the server itself.
#[derive(Debug, Args)]
pub(crate) struct ApproveHostKey {
    #[command(flatten)]
    key: ChosenKey,

    #[command(flatten)]
    dry_run: DryRun,
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: ApproveHostKey) -> CommandResult {
    let client = ctx.client().await?;
    let id = chosen(&client, &args.key, &["pending"]).await?;
    let Some(key) = client.change(ui, args.dry_run.dry_run, action(&id, "approve")).await? else { return Ok(()) };
    ui.done(&VIEW, &key, |name| {
        let text = |field: &str| key.get(field).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
        format!("approved host key {name} of {}: {} {}", text("server"), text("algorithm"), text("fingerprint"))
    })
}
