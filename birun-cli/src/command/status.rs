//! `birun status`

use clap::Args;
use serde_json::{Value, json};

use crate::client::Request;
use crate::context::Context;
use crate::error::CommandResult;
use crate::ui::{Column, Kind, Ui, View};

/// How the queue and its workers stand.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {}

const QUEUE: View = View {
    plural: "queues",
    name: "version",
    columns: &[
        Column::new("version", "/version", Kind::Text),
        Column::new("queued", "/queue/queued", Kind::Text),
        Column::new("waiting", "/queue/waiting", Kind::Text),
        Column::new("running", "/queue/running", Kind::Text),
        Column::new("workers", "/workers", Kind::Made(workers)),
    ],
};

const WORKERS: View = View {
    plural: "workers",
    name: "name",
    columns: &[Column::new("worker", "/name", Kind::Text), Column::new("slots", "/slots", Kind::Text)],
};

fn workers(status: &Value) -> String {
    status.get("workers").and_then(Value::as_array).map_or(0, Vec::len).to_string()
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, _args: StatusArgs) -> CommandResult {
    let status = ctx.client().await?.send(Request::get(["status"])).await?;
    ui.item(&QUEUE, &status)?;
    if !ui.format().is_for_people() || workers(&status) == "0" {
        return Ok(());
    }
    ui.line("")?;
    ui.list(&WORKERS, &json!({"items": status.get("workers"), "next": Value::Null}))
}
