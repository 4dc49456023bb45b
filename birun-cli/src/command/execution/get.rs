//! `birun execution get`

use clap::Args;
use serde_json::{Value, json};

use super::VIEW;
use crate::client::{Client, Request};
use crate::context::Context;
use crate::error::CommandResult;
use crate::input::put;
use crate::ui::{Ui, short};

/// Show an execution.
#[derive(Debug, Args)]
pub(crate) struct GetExecution {
    /// Its short id, its id, or the beginning of that.
    execution: String,
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: GetExecution) -> CommandResult {
    let client = ctx.client().await?;
    let mut execution = client.send(Request::get(["executions", &args.execution])).await?;
    if ui.format().is_for_people()
        && let Some(kill) = unconfirmed_kill(&client, &execution).await?
    {
        put(&mut execution, "kill", json!(kill));
    }
    ui.item(&VIEW, &execution)
}

/// Says where processes may still run because nobody saw their end.
async fn unconfirmed_kill(client: &Client, execution: &Value) -> CommandResult<Option<String>> {
    let id = execution.get("id").and_then(Value::as_str).unwrap_or_default();
    let request = Request::get(["executions", id, "steps"])
        .query("newest_attempt", true)
        .query("status", "failed,lost,timed_out,cancelled");
    let steps = client.steps(request).await?;
    let mut targets = steps
        .iter()
        .filter(|step| step.pointer("/kill/result") == Some(&json!("unconfirmed")))
        .filter_map(|step| step.get("target")?.as_str());
    let Some(first) = targets.next() else { return Ok(None) };
    let more = match targets.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Ok(Some(format!("unconfirmed on {first}{more}; see  birun execution steps {}", short(id))))
}
