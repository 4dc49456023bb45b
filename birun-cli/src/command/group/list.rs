//! `birun group list`

use clap::Args;

use super::VIEW;
use crate::args::ListArgs;
use crate::client::Request;
use crate::context::Context;
use crate::error::CommandResult;
use crate::ui::Ui;

/// List groups.
#[derive(Debug, Args)]
pub(crate) struct ListGroups {
    #[command(flatten)]
    list: ListArgs,
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: ListGroups) -> CommandResult {
    let list = ctx.client().await?.list(Request::get(["server-groups"]), args.list.limit()).await?;
    ui.list(&VIEW, &list)
}
