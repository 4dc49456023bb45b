//! `birun execution delete`

use clap::Args;
use serde_json::Value;

use crate::args::DryRun;
use crate::client::Request;
use crate::context::Context;
use crate::error::CommandResult;
use crate::ui::Ui;

/// Delete executions that have ended, with their output.
#[derive(Debug, Args)]
pub(crate) struct DeleteExecutions {
    /// Short ids, ids, or beginnings of ids.
    #[arg(required = true, value_name = "EXECUTION")]
    executions: Vec<String>,

    #[command(flatten)]
    dry_run: DryRun,
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: DeleteExecutions) -> CommandResult {
    let client = ctx.client().await?;
    if !args.dry_run.dry_run {
        ui.confirm(&format!("delete {}?", args.executions.join(", ")))?;
    }
    for execution in &args.executions {
        let found = client.send(Request::get(["executions", execution])).await?;
        let text = |field: &str| found.get(field).and_then(Value::as_str).unwrap_or(execution);
        let request = Request::delete(["executions", text("id")]);
        if client.change(ui, args.dry_run.dry_run, request).await?.is_some() {
            ui.note(&format!("deleted execution {}", text("short_id")));
        }
    }
    Ok(())
}
