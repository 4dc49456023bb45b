//! `birun server list`

use clap::Args;

use super::super::start::naming_targets;
use super::VIEW;
use crate::args::ListArgs;
use crate::client::Request;
use crate::context::Context;
use crate::error::CommandResult;
use crate::ui::Ui;

/// List servers.
#[derive(Debug, Args)]
pub(crate) struct ListServers {
    /// Only those that a target expression names: a look before a run.
    #[arg(long, value_name = "TARGETS")]
    on: Option<String>,

    /// Only those with this tag.
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,

    #[command(flatten)]
    list: ListArgs,
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: ListServers) -> CommandResult {
    let request = Request::get(["servers"]).query_opt("on", args.on.as_deref()).query_opt("tag", args.tag);
    let request = naming_targets(request, args.on.as_deref());
    let list = ctx.client().await?.list(request, args.list.limit()).await?;
    ui.list(&VIEW, &list)
}
