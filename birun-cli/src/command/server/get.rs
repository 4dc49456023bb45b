//! `birun server get`

use clap::Args;

use super::VIEW;
use crate::client::{Collection, Request};
use crate::context::Context;
use crate::error::CommandResult;
use crate::ui::Ui;

/// Show a server.
#[derive(Debug, Args)]
pub(crate) struct GetServer {
    /// Its name or id.
    #[arg(id = "server_name", value_name = "SERVER")]
    server: String,
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: GetServer) -> CommandResult {
    let request = Request::get(["servers", &args.server]).naming(Collection::Servers, &args.server);
    ui.item(&VIEW, &ctx.client().await?.send(request).await?)
}
