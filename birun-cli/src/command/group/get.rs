//! `birun group get`

use clap::Args;

use super::VIEW;
use crate::client::{Collection, Request};
use crate::context::Context;
use crate::error::CommandResult;
use crate::ui::Ui;

/// Show a group. Its servers are shown by  birun server list --on group:NAME.
#[derive(Debug, Args)]
pub(crate) struct GetGroup {
    /// Its name or id.
    group: String,
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: GetGroup) -> CommandResult {
    let request = Request::get(["server-groups", &args.group]).naming(Collection::Groups, &args.group);
    ui.item(&VIEW, &ctx.client().await?.send(request).await?)
}
