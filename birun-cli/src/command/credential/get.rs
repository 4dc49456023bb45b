//! `birun credential get`

use clap::Args;

use super::VIEW;
use crate::client::{Collection, Request};
use crate::context::Context;
use crate::error::CommandResult;
use crate::ui::Ui;

/// Show a credential, without its value.
#[derive(Debug, Args)]
pub(crate) struct GetCredential {
    /// Its name or id.
    credential: String,
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: GetCredential) -> CommandResult {
    let request = Request::get(["credentials", &args.credential]).naming(Collection::Credentials, &args.credential);
    ui.item(&VIEW, &ctx.client().await?.send(request).await?)
}
