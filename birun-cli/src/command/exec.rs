//! `birun exec`

use std::collections::BTreeMap;
use std::time::Duration;

use birun_core::script::RunMode;
use clap::Args;
use serde_json::{Value, json};

use super::start::{FollowArgs, StrategyArgs, naming_targets};
use crate::client::Request;
use crate::context::Context;
use crate::error::CommandResult;
use crate::input::put;
use crate::input::{self, ParamArgs};
use crate::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  birun exec --on tag:prod -- uptime
  birun exec --on web-1 -- systemctl restart nginx       each word is quoted
  birun exec --on all -- 'df -h | tail -n 1'             one word is text for /bin/sh
  birun exec --on db-1 -p TOKEN=@token.txt -- 'curl -H \"Authorization: $TOKEN\" localhost'";

/// Run a command and show its output while it runs.
///
/// One word is text for /bin/sh -c; several words are a program and its arguments, each quoted.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ExecArgs {
    /// Where to run it: local, web-1, tag:prod, group:db, all; combined by , & and !
    #[arg(long, value_name = "TARGETS")]
    on: String,

    #[command(flatten)]
    params: ParamArgs,

    #[command(flatten)]
    strategy: StrategyArgs,

    /// Limit of the whole run.
    #[arg(long, value_name = "TIME", value_parser = input::duration)]
    timeout: Option<Duration>,

    /// How it runs on servers: ended with its connection (attached), or by itself, to be found again
    /// after a lost connection or worker (detached).
    #[arg(long, value_name = "MODE", value_parser = input::one_of(RunMode::ALL, RunMode::as_str))]
    mode: Option<String>,

    /// Accept the run only once under this key, however often it is sent.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,

    #[command(flatten)]
    follow: FollowArgs,

    /// The command.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: ExecArgs) -> CommandResult {
    let params = args.params.read(ui, &BTreeMap::new())?;
    let session = args.strategy.session(ctx, &args.follow).await?;
    let request = request(&args, &params);
    args.strategy.start(ui, args.follow, session, request).await
}

fn request(args: &ExecArgs, params: &Value) -> Request {
    let command = match args.command.as_slice() {
        [text] => json!(text),
        words => json!(words),
    };
    let mut body = json!({"kind": "command", "command": command, "targets": args.on, "params": params});
    if let Some(strategy) = args.strategy.body() {
        put(&mut body, "strategy", strategy);
    }
    if let Some(timeout) = args.timeout {
        put(&mut body, "timeout", json!(birun_core::duration::format(timeout)));
    }
    if let Some(mode) = &args.mode {
        put(&mut body, "mode", json!(mode));
    }
    let mut request = Request::post(["executions"], body);
    if let Some(key) = &args.idempotency_key {
        request = request.header("idempotency-key", key);
    }
    naming_targets(request, Some(&args.on))
}
