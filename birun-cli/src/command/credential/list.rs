//! `birun credential list`

use clap::Args;

use super::VIEW;
use crate::args::ListArgs;
use crate::client::Request;
use crate::context::Context;
use crate::error::CommandResult;
use crate::ui::Ui;

/// List credentials, without their values.
#[derive(Debug, Args)]
pub(crate) struct ListCredentials {
    #[command(flatten)]
    list: ListArgs,
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: ListCredentials) -> CommandResult {
    let list = ctx.client().await?.list(Request::get(["credentials"]), args.list.limit()).await?;
    ui.list(&VIEW, &list)
}
