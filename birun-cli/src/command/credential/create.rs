//! `birun credential create`

use clap::Args;
use serde_json::json;

use super::{SecretArgs, VIEW, warn_of_certificate};
use crate::args::DryRun;
use crate::client::Request;
use crate::context::Context;
use crate::error::{CommandError, CommandResult};
use crate::input::put;
use crate::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  birun credential create deploy --key ~/.ssh/id_ed25519
  birun credential create deploy --key ./id_ed25519 --passphrase-file ./passphrase
  birun credential create deploy --key ./id_ed25519 --certificate ./id_ed25519-cert.pub
  birun credential create console --password
  birun credential create laptop --agent
  birun credential create vault --key ./id_ed25519 --password-file ./password
  birun credential create bastion --answer 'Password:*=@password' --answer '*code*=@code'";

/// Store a credential: a private key, a password, answers to what a server asks, a key of an ssh-agent,
/// or several of these. The value is sealed, and never shown again.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct CreateCredential {
    /// Its name.
    name: String,

    #[command(flatten)]
    secret: SecretArgs,

    /// What it is, for people.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,

    #[command(flatten)]
    dry_run: DryRun,
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: CreateCredential) -> CommandResult {
    let mut body = args.secret.read(ui)?.ok_or_else(|| {
        CommandError::usage("no value is given")
            .hint("give it with  --key FILE,  --password-file FILE,  --password,  --answer PROMPT=@FILE  or  --agent")
    })?;
    put(&mut body, "name", json!(args.name));
    if let Some(description) = args.description {
        put(&mut body, "description", json!(description));
    }
    let request = Request::post(["credentials"], body);
    let Some(credential) = ctx.client().await?.change(ui, args.dry_run.dry_run, request).await? else {
        return Ok(());
    };
    warn_of_certificate(ui, &credential);
    ui.done(&VIEW, &credential, |name| format!("created credential {name}"))
}
