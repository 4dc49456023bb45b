//! `birun execution steps`

use birun_core::execution::StepStatus;
use clap::Args;
use serde_json::{Value, json};

use super::took;
use crate::client::Request;
use crate::context::Context;
use crate::error::CommandResult;
use crate::input;
use crate::ui::{Column, Kind, Ui, View};

/// Show how each target of an execution went.
#[derive(Debug, Args)]
pub(crate) struct Steps {
    /// The execution: its short id, its id, or the beginning of that.
    execution: String,

    /// Only these statuses.
    #[arg(long, value_name = "STATUS", value_delimiter = ',',
          value_parser = input::one_of(StepStatus::ALL, StepStatus::as_str))]
    status: Vec<String>,

    /// Only this target.
    #[arg(long, value_name = "TARGET")]
    on: Option<String>,

    /// Every attempt, not only the newest on each target.
    #[arg(long)]
    attempts: bool,
}

/// Steps, as people see them.
const VIEW: View = View {
    plural: "steps",
    name: "id",
    columns: &[
        Column::new("target", "/target", Kind::Text),
        Column::new("status", "/status", Kind::Status),
        Column::new("exit", "/exit_code", Kind::Text),
        Column::new("attempt", "/attempt", Kind::Text),
        Column::new("took", "/started_at", Kind::Made(took)),
        Column::new("reason", "/reason", Kind::Text),
        Column::new("detail", "/detail", Kind::Made(detail)),
        Column::new("signal", "/signal", Kind::Text).wide(),
        Column::new("kill", "/kill/result", Kind::Text).wide(),
        Column::new("bytes", "/output_bytes", Kind::Text).wide(),
        Column::new("dropped", "/output_dropped", Kind::Text).wide(),
        Column::new("id", "/id", Kind::Text).wide(),
    ],
};

/// The reason in words, and what can be run where a kill is not confirmed.
fn detail(step: &Value) -> String {
    let text = |pointer: &str| step.pointer(pointer).and_then(Value::as_str);
    [text("/detail"), text("/kill/detail")].into_iter().flatten().collect::<Vec<_>>().join(": ")
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: Steps) -> CommandResult {
    let statuses = (!args.status.is_empty()).then(|| args.status.join(","));
    let request = Request::get(["executions", &args.execution, "steps"])
        .query_opt("status", statuses)
        .query_opt("target", args.on)
        .query("newest_attempt", !args.attempts);
    let steps = ctx.client().await?.steps(request).await?;
    ui.list(&VIEW, &json!({"items": steps, "next": Value::Null}))
}
