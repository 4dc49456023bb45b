//! `birun credential edit`

use clap::Args;
use serde_json::json;

use super::{SecretArgs, VIEW, warn_of_certificate};
use crate::args::DryRun;
use crate::client::{Collection, Request};
use crate::context::Context;
use crate::error::CommandResult;
use crate::input::put;
use crate::ui::Ui;

/// Change a credential, or replace its value. What is not named stays as it is.
#[derive(Debug, Args)]
#[group(id = "change", required = true, multiple = true,
        args = ["key", "certificate", "password_file", "password", "answers", "agent", "name", "description"])]
pub(crate) struct EditCredential {
    /// Its name or id.
    credential: String,

    #[command(flatten)]
    secret: SecretArgs,

    /// Another name.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// Another description.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,

    #[command(flatten)]
    dry_run: DryRun,
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: EditCredential) -> CommandResult {
    let mut patch = args.secret.read(ui)?.unwrap_or_else(|| json!({}));
    for (field, value) in [("name", args.name), ("description", args.description)] {
        if let Some(value) = value {
            put(&mut patch, field, json!(value));
        }
    }
    let request = Request::patch(["credentials", &args.credential], patch);
    let request = request.naming(Collection::Credentials, &args.credential);
    let Some(credential) = ctx.client().await?.change(ui, args.dry_run.dry_run, request).await? else {
        return Ok(());
    };
    warn_of_certificate(ui, &credential);
    ui.done(&VIEW, &credential, |name| format!("changed credential {name}"))
}
