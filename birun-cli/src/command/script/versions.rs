//! `birun script versions`

use clap::Args;
use serde_json::{Value, json};

use super::parameters;
use crate::client::{Collection, Request};
use crate::context::Context;
use crate::error::CommandResult;
use crate::ui::{Column, Kind, Ui, View};

/// List the versions of a script, newest first.
#[derive(Debug, Args)]
pub(crate) struct ScriptVersions {
    /// The script's name or id.
    script: String,

    /// How many to show.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=200))]
    limit: u32,
}

/// Versions, as people see them.
const VIEW: View = View {
    plural: "versions",
    name: "number",
    columns: &[
        Column::new("version", "/number", Kind::Text),
        Column::new("created", "/created_at", Kind::Instant),
        Column::new("by", "/created_by", Kind::Text),
        Column::new("bytes", "/content", Kind::Made(size)),
        Column::new("parameters", "/parameters", Kind::Made(parameters)),
        Column::new("interpreter", "/interpreter", Kind::Text).wide(),
        Column::new("targets", "/targets", Kind::Text).wide(),
        Column::new("timeout", "/timeout", Kind::Text).wide(),
    ],
};

fn size(version: &Value) -> String {
    version.get("content").and_then(Value::as_str).unwrap_or_default().len().to_string()
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: ScriptVersions) -> CommandResult {
    let request = Request::get(["scripts", &args.script, "versions"])
        .query("limit", args.limit)
        .naming(Collection::Scripts, &args.script);
    let list = ctx.client().await?.send(request).await?;
    let list = if ui.format().is_for_people() { json!({"items": list.get("items")}) } else { list };
    ui.list(&VIEW, &list)
}
