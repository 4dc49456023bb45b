//! `birun audit list`

use clap::Args;

use crate::args::ListArgs;
use crate::client::Request;
use crate::context::Context;
use crate::error::CommandResult;
use crate::input;
use crate::ui::{Column, Kind, Ui, View};

/// List the audit log, newest first.
#[derive(Debug, Args)]
pub(crate) struct ListAudit {
    /// Only this action, for example server.create.
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,

    /// Only what was done to the resource with this id.
    #[arg(long, value_name = "ID")]
    resource: Option<String>,

    /// Only what this actor did.
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,

    /// Only since: 2h, 7d, or an instant such as 2026-11-02T10:00:00Z.
    #[arg(long, value_name = "WHEN", value_parser = input::moment)]
    since: Option<String>,

    /// Only before: 2h, 7d, or an instant.
    #[arg(long, value_name = "WHEN", value_parser = input::moment)]
    until: Option<String>,

    #[command(flatten)]
    list: ListArgs,
}

/// Entries, as people see them.
const VIEW: View = View {
    plural: "entries",
    name: "id",
    columns: &[
        Column::new("when", "/at", Kind::Instant),
        Column::new("who", "/actor/name", Kind::Text),
        Column::new("action", "/action", Kind::Text),
        Column::new("outcome", "/outcome", Kind::Status),
        Column::new("resource", "/resource_name", Kind::Text),
        Column::new("resource id", "/resource_id", Kind::Text).wide(),
        Column::new("request", "/request_id", Kind::Text).wide(),
        Column::new("before", "/before", Kind::Text).wide(),
        Column::new("after", "/after", Kind::Text).wide(),
    ],
};

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: ListAudit) -> CommandResult {
    let request = Request::get(["audit-logs"])
        .query_opt("action", args.action)
        .query_opt("resource_id", args.resource)
        .query_opt("actor", args.actor)
        .query_opt("since", args.since)
        .query_opt("until", args.until);
    let list = ctx.client().await?.list(request, args.list.limit()).await?;
    ui.list(&VIEW, &list)
}
