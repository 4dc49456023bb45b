//! `birun server host-key add`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{VIEW, new_key};
use crate::args::DryRun;
use crate::context::Context;
use crate::error::{CommandError, CommandResult};
use crate::input::read_text;
use crate::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  birun server host-key add web-1 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA…'
  ssh-keyscan -t ed25519 10.0.0.5 | cut -d ' ' -f 2- | birun server host-key add web-1 --file -";

/// Record a key that is known to be right, so that the server is trusted from the first connection on.
///
/// A key that the server has offered already is approved, as `birun server host-key approve` does it.
/// Any other is trusted beside those that are approved: a server may change to it without a gap.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct AddHostKey {
    /// The server's name or id.
    #[arg(id = "server_name", value_name = "SERVER")]
    server: String,

    /// The public key: a line such as ssh-ed25519 AAAA…
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    public_key: Option<String>,

    /// A file that holds it, such as ssh_host_ed25519_key.pub; - is stdin.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,

    #[command(flatten)]
    dry_run: DryRun,
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: AddHostKey) -> CommandResult {
    let line = match (&args.public_key, &args.file) {
        (Some(line), _) => line.clone(),
        (None, Some(path)) => read_text(path)?,
        (None, None) => return Err(CommandError::usage("no key is given")),
    };
    let request = new_key(&args.server, line.trim());
    let Some(key) = ctx.client().await?.change(ui, args.dry_run.dry_run, request).await? else { return Ok(()) };
    // What was only recorded now is at its first version.
    let done = if key.get("version") == Some(&json!(1)) { "recorded" } else { "approved" };
    ui.done(&VIEW, &key, |name| format!("{done} host key {name} for {}", args.server))
}
