//! `birun execution cancel`

use clap::Args;

use super::VIEW;
use crate::args::DryRun;
use crate::client::Request;
use crate::context::{Context, Driver};
use crate::error::CommandResult;
use crate::ui::Ui;

/// Cancel executions: their processes are told to end, and killed if they do not.
///
/// A running execution ends a little later, when it is certain that its processes are gone.
#[derive(Debug, Args)]
pub(crate) struct CancelExecutions {
    /// Short ids, ids, or beginnings of ids.
    #[arg(required = true, value_name = "EXECUTION")]
    executions: Vec<String>,

    #[command(flatten)]
    dry_run: DryRun,
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: CancelExecutions) -> CommandResult {
    let session = ctx.session(Driver::Detached).await?;
    let mut left = false;
    for execution in &args.executions {
        let request = Request::act(["executions", execution, "cancel"]);
        let Some(execution) = session.client.change(ui, args.dry_run.dry_run, request).await? else { continue };
        let is_over = execution.get("status").and_then(|status| status.as_str()) == Some("cancelled");
        left |= !is_over;
        ui.done(&VIEW, &execution, |name| {
            if is_over {
                format!("cancelled execution {name}")
            } else {
                format!("execution {name} is told to stop; see  birun execution get {name}")
            }
        })?;
    }
    match session.here {
        // Whoever drives it hears of it; what a dead process left has nobody but this worker.
        Some(here) if left => here.detached.start(),
        _ => Ok(()),
    }
}
