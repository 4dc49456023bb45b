//! `birun server test`

use clap::Args;

use super::probe::{TrustArgs, probe};
use crate::context::Context;
use crate::error::CommandResult;
use crate::ui::Ui;

/// Try to reach a server, stage by stage: its address, the connection, the host key, signing in, a shell.
#[derive(Debug, Args)]
pub(crate) struct TestServer {
    /// Its name or id.
    #[arg(id = "server_name", value_name = "SERVER")]
    server: String,

    #[command(flatten)]
    trust: TrustArgs,
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: TestServer) -> CommandResult {
    probe(ui, &ctx.client().await?, &args.server, args.trust).await
}
