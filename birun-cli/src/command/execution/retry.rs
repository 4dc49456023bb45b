//! `birun execution retry`

use clap::Args;
use serde_json::json;

use super::super::start::FollowArgs;
use crate::client::Request;
use crate::context::Context;
use crate::error::CommandResult;
use crate::ui::Ui;

/// Run an execution again: the same program, with the same parameters.
#[derive(Debug, Args)]
pub(crate) struct RetryExecution {
    /// The execution: its short id, its id, or the beginning of that.
    execution: String,

    /// Only on targets where it did not succeed or was not started.
    #[arg(long)]
    failed_only: bool,

    /// Accept the retry only once under this key, however often it is sent.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,

    #[command(flatten)]
    follow: FollowArgs,
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: RetryExecution) -> CommandResult {
    let session = args.follow.session(ctx).await?;
    let mut request = Request::post(["executions", &args.execution, "retry"], json!({"failed_only": args.failed_only}));
    if let Some(key) = &args.idempotency_key {
        request = request.header("idempotency-key", key);
    }
    args.follow.start(ui, session, request).await
}
