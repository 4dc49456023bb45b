//! `birun execution …`

mod cancel;
mod delete;
mod get;
mod list;
mod retry;
mod steps;

use clap::Subcommand;
use serde_json::Value;

use crate::context::Context;
use crate::error::CommandResult;
use crate::live::subject_of;
use crate::ui::{Column, Kind, Ui, View, elapsed};

/// What was run, and how it went.
#[derive(Debug, Subcommand)]
pub(crate) enum ExecutionCommand {
    /// List executions, newest first.
    List(list::ListExecutions),
    /// Show an execution.
    Get(get::GetExecution),
    /// Show how each target of an execution went.
    Steps(steps::Steps),
    /// Cancel executions: their processes are told to end, then killed.
    Cancel(cancel::CancelExecutions),
    /// Run an execution again, on all its targets or on those that did not succeed.
    Retry(retry::RetryExecution),
    /// Delete executions that have ended, with their output.
    Delete(delete::DeleteExecutions),
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, command: ExecutionCommand) -> CommandResult {
    match command {
        ExecutionCommand::List(args) => list::run(ui, ctx, args).await,
        ExecutionCommand::Get(args) => get::run(ui, ctx, args).await,
        ExecutionCommand::Steps(args) => steps::run(ui, ctx, args).await,
        ExecutionCommand::Cancel(args) => cancel::run(ui, ctx, args).await,
        ExecutionCommand::Retry(args) => retry::run(ui, ctx, args).await,
        ExecutionCommand::Delete(args) => delete::run(ui, ctx, args).await,
    }
}

/// Executions, as people see them.
const VIEW: View = View {
    plural: "executions",
    name: "id",
    columns: &[
        Column::new("id", "/short_id", Kind::Text),
        Column::new("status", "/status", Kind::Status),
        Column::new("what", "/title", Kind::Made(subject_of)),
        Column::new("targets", "/targets", Kind::Long),
        Column::new("result", "/counts", Kind::Made(result)),
        Column::new("took", "/started_at", Kind::Made(took)),
        Column::new("created", "/created_at", Kind::Instant),
        Column::new("by", "/actor/name", Kind::Text),
        Column::new("reason", "/reason", Kind::Text).wide(),
        Column::new("detail", "/detail", Kind::Text).wide(),
        Column::new("why", "/why", Kind::Text).wide(),
        Column::new("kill", "/kill", Kind::Text).on_cards(),
        Column::new("retry of", "/retry_of", Kind::ShortId).wide(),
        Column::new("started", "/started_at", Kind::Instant).wide(),
        Column::new("finished", "/finished_at", Kind::Instant).wide(),
        Column::new("full id", "/id", Kind::Text).wide(),
    ],
};

/// How many targets succeeded, of how many.
fn result(execution: &Value) -> String {
    let count = |name: &str| execution.pointer(&format!("/counts/{name}")).and_then(Value::as_u64).unwrap_or(0);
    format!("{}/{}", count("succeeded"), count("total"))
}

/// How long it took, once it has ended.
fn took(resource: &Value) -> String {
    let at = |name: &str| resource.get(name)?.as_str()?.parse().ok();
    match (at("started_at"), at("finished_at")) {
        (Some(from), Some(to)) => elapsed(from, to),
        _ => String::new(),
    }
}
