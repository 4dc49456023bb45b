//! `birun group create`

use clap::Args;
use serde_json::json;

use super::{VIEW, policies};
use crate::args::DryRun;
use crate::client::Request;
use crate::context::Context;
use crate::error::CommandResult;
use crate::ui::Ui;

/// Create a group. Servers join it by  birun server edit SERVER --group GROUP.
#[derive(Debug, Args)]
pub(crate) struct CreateGroup {
    /// Its name; targets are chosen by group:NAME.
    name: String,

    /// How unknown host keys of its servers are met: refused until approved, or trusted the first time.
    #[arg(long, value_name = "POLICY", value_parser = policies())]
    host_key_policy: Option<String>,

    /// What it is, for people.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    description: String,

    #[command(flatten)]
    dry_run: DryRun,
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: CreateGroup) -> CommandResult {
    let body = json!({
        "name": args.name,
        "description": args.description,
        "host_key_policy": args.host_key_policy,
    });
    let request = Request::post(["server-groups"], body);
    let Some(group) = ctx.client().await?.change(ui, args.dry_run.dry_run, request).await? else { return Ok(()) };
    ui.done(&VIEW, &group, |name| format!("created group {name}"))
}
