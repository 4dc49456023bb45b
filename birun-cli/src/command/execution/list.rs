//! `birun execution list`

use birun_core::execution::{ExecutionKind, ExecutionStatus};
use clap::Args;

use super::VIEW;
use crate::args::ListArgs;
use crate::client::{Collection, Request};
use crate::context::Context;
use crate::error::CommandResult;
use crate::input;
use crate::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  birun execution list --status failed,lost
  birun execution list --script disk-report --since 2d
  birun execution list -o json --all";

/// List executions, newest first.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ListExecutions {
    /// Only these statuses.
    #[arg(long, value_name = "STATUS", value_delimiter = ',',
          value_parser = input::one_of(ExecutionStatus::ALL, ExecutionStatus::as_str))]
    status: Vec<String>,

    /// Only this kind.
    #[arg(long, value_name = "KIND", value_parser = input::one_of(ExecutionKind::ALL, ExecutionKind::as_str))]
    kind: Option<String>,

    /// Only runs of this script.
    #[arg(long, value_name = "SCRIPT")]
    script: Option<String>,

    /// Only those accepted since: 2h, 7d, or an instant such as 2026-11-02T10:00:00Z.
    #[arg(long, value_name = "WHEN", value_parser = input::moment)]
    since: Option<String>,

    /// Only those accepted before: 2h, 7d, or an instant.
    #[arg(long, value_name = "WHEN", value_parser = input::moment)]
    until: Option<String>,

    #[command(flatten)]
    list: ListArgs,
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: ListExecutions) -> CommandResult {
    let statuses = (!args.status.is_empty()).then(|| args.status.join(","));
    let mut request = Request::get(["executions"])
        .query_opt("status", statuses)
        .query_opt("kind", args.kind)
        .query_opt("script", args.script.as_deref())
        .query_opt("since", args.since)
        .query_opt("until", args.until);
    if let Some(script) = &args.script {
        request = request.naming(Collection::Scripts, script);
    }
    let list = ctx.client().await?.list(request, args.list.limit()).await?;
    ui.list(&VIEW, &list)
}
