//! `birun group edit`

use clap::Args;
use serde_json::{Map, Value};

use super::{VIEW, policies};
use crate::args::DryRun;
use crate::client::{Collection, Request};
use crate::context::Context;
use crate::error::CommandResult;
use crate::ui::Ui;

/// Change a group. What is not named stays as it is.
#[derive(Debug, Args)]
#[group(id = "change", required = true, multiple = true, args = ["name", "host_key_policy", "no_host_key_policy", "description"])]
pub(crate) struct EditGroup {
    /// Its name or id.
    group: String,

    /// Another name.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// Another way to meet unknown host keys.
    #[arg(long, value_name = "POLICY", value_parser = policies())]
    host_key_policy: Option<String>,

    /// No way of its own to meet unknown host keys any more.
    #[arg(long, conflicts_with = "host_key_policy")]
    no_host_key_policy: bool,

    /// Another description.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,

    #[command(flatten)]
    dry_run: DryRun,
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: EditGroup) -> CommandResult {
    let client = ctx.client().await?;
    let mut patch = Map::new();
    for (field, value) in
        [("name", args.name), ("host_key_policy", args.host_key_policy), ("description", args.description)]
    {
        if let Some(value) = value {
            patch.insert(field.to_owned(), Value::from(value));
        }
    }
    if args.no_host_key_policy {
        patch.insert("host_key_policy".to_owned(), Value::Null);
    }
    let request = Request::patch(["server-groups", &args.group], Value::Object(patch));
    let request = request.naming(Collection::Groups, &args.group);
    let Some(group) = client.change(ui, args.dry_run.dry_run, request).await? else { return Ok(()) };
    ui.done(&VIEW, &group, |name| format!("changed group {name}"))
}
