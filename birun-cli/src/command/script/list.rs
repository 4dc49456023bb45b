//! `birun script list`

use clap::Args;

use super::VIEW;
use crate::args::ListArgs;
use crate::client::Request;
use crate::context::Context;
use crate::error::CommandResult;
use crate::ui::Ui;

/// List scripts.
#[derive(Debug, Args)]
pub(crate) struct ListScripts {
    #[command(flatten)]
    list: ListArgs,
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: ListScripts) -> CommandResult {
    let list = ctx.client().await?.list(Request::get(["scripts"]), args.list.limit()).await?;
    ui.list(&VIEW, &list)
}
