//! `birun server host-key list`

use clap::Args;

use super::VIEW;
use crate::args::ListArgs;
use crate::client::{Collection, Request};
use crate::context::Context;
use crate::error::CommandResult;
use crate::ui::Ui;

/// List the keys that servers offered or that someone recorded.
#[derive(Debug, Args)]
pub(crate) struct ListHostKeys {
    /// Only those of this server.
    #[arg(id = "server_name", value_name = "SERVER")]
    server: Option<String>,

    #[command(flatten)]
    list: ListArgs,
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: ListHostKeys) -> CommandResult {
    let mut request = Request::get(["host-keys"]).query_opt("server", args.server.as_deref());
    if let Some(server) = &args.server {
        request = request.naming(Collection::Servers, server);
    }
    let list = ctx.client().await?.list(request, args.list.limit()).await?;
    ui.list(&VIEW, &list)
}
