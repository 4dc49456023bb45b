//! `birun execution get`

use clap::Args;

use super::VIEW;
use crate::client::Request;
use crate::context::Context;
use crate::error::CommandResult;
use crate::ui::Ui;

/// Show an execution.
#[derive(Debug, Args)]
pub(crate) struct GetExecution {
    /// Its short id, its id, or the beginning of that.
    execution: String,
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: GetExecution) -> CommandResult {
    let execution = ctx.client().await?.send(Request::get(["executions", &args.execution])).await?;
    ui.item(&VIEW, &execution)
}
