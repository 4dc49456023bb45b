//! `birun admin prune`

use std::time::Duration;

use birun_core::execution::ExecutionStatus;
use clap::Args;
use serde_json::{Map, Value, json};

use crate::args::DryRun;
use crate::client::Request;
use crate::context::Context;
use crate::error::CommandResult;
use crate::input;
use crate::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  birun admin prune                                     what is kept by default
  birun admin prune --executions 7d --status succeeded";

/// Delete history that is not to be kept any longer, and give the space back. Nothing is stopped for it.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Prune {
    /// How long executions are kept after their end (default 30d).
    #[arg(long, value_name = "TIME", value_parser = input::duration)]
    executions: Option<Duration>,

    /// How many of the newest executions of each script are kept whatever their age (default 20).
    #[arg(long, value_name = "N")]
    keep: Option<u32>,

    /// Delete only executions that ended so.
    #[arg(long, value_name = "STATUS", value_delimiter = ',',
          value_parser = input::one_of(ExecutionStatus::ALL, ExecutionStatus::as_str))]
    status: Vec<String>,

    /// How long the audit log is kept (default 400d).
    #[arg(long, value_name = "TIME", value_parser = input::duration)]
    audit: Option<Duration>,

    #[command(flatten)]
    dry_run: DryRun,
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: Prune) -> CommandResult {
    let request = Request::post(["admin", "prune"], body(&args)).patient();
    let client = ctx.client().await?;
    if !args.dry_run.dry_run {
        ui.confirm("delete history that is not to be kept any longer?")?;
    }
    let Some(pruned) = client.change(ui, args.dry_run.dry_run, request).await? else { return Ok(()) };
    if !ui.format().is_for_people() {
        return ui.value(&pruned);
    }
    let count = |field: &str| pruned.get(field).and_then(Value::as_u64).unwrap_or(0);
    ui.note(&format!("deleted {} executions and {} audit entries", count("executions"), count("audit_entries")));
    Ok(())
}

fn body(args: &Prune) -> Value {
    let mut body = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    };
    let duration = |duration: Duration| json!(birun_core::duration::format(duration));
    put("executions", args.executions.map(duration));
    put("keep_per_subject", args.keep.map(Value::from));
    put("status", (!args.status.is_empty()).then(|| json!(args.status)));
    put("audit", args.audit.map(duration));
    Value::Object(body)
}
