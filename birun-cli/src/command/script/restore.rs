//! `birun script restore`

use clap::Args;
use serde_json::Value;

use super::VIEW;
use crate::args::DryRun;
use crate::client::{Collection, Request};
use crate::context::Context;
use crate::error::CommandResult;
use crate::ui::Ui;

/// Make an earlier version the newest again: its content becomes a version of its own.
#[derive(Debug, Args)]
pub(crate) struct RestoreScript {
    /// The script's name or id.
    script: String,

    /// The number of the version.
    #[arg(value_name = "VERSION")]
    number: u32,

    #[command(flatten)]
    dry_run: DryRun,
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: RestoreScript) -> CommandResult {
    let number = args.number.to_string();
    let request = Request::act(["scripts", &args.script, "versions", &number, "restore"]);
    let request = request.naming(Collection::Scripts, &args.script);
    let Some(script) = ctx.client().await?.change(ui, args.dry_run.dry_run, request).await? else { return Ok(()) };
    let latest = script.get("latest").and_then(Value::as_u64).unwrap_or(0);
    ui.done(&VIEW, &script, |name| format!("restored v{number} of script {name} as v{latest}"))
}
