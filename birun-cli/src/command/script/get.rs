//! `birun script get`

use clap::Args;
use serde_json::Value;

use super::VIEW;
use crate::client::{Collection, Request};
use crate::context::Context;
use crate::error::CommandResult;
use crate::ui::{Ui, visible};

const EXAMPLES: &str = "\
Examples:
  birun script get disk-report
  birun script get disk-report --content > disk.sh
  birun script get disk-report --content --version-number 3";

/// Show a script, or its body.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct GetScript {
    /// Its name or id.
    script: String,

    /// Only the body, as it is.
    #[arg(long)]
    content: bool,

    /// Another version than the newest.
    #[arg(long, value_name = "N")]
    version_number: Option<u32>,
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: GetScript) -> CommandResult {
    let number = args.version_number.map(|number| number.to_string());
    let path = ["scripts", &args.script].into_iter();
    let request = match &number {
        Some(number) => Request::get(path.chain(["versions", number])),
        None => Request::get(path),
    };
    let script = ctx.client().await?.send(request.naming(Collection::Scripts, &args.script)).await?;
    let content = script.get("content").and_then(Value::as_str).unwrap_or_default();
    if args.content {
        // On a terminal, a script must not act before it is run.
        return if ui.out_is_terminal() { ui.line(&visible(content)) } else { ui.write(content.as_bytes()) };
    }
    ui.item(&VIEW, &script)?;
    if ui.format().is_for_people() {
        ui.write(format!("\n{}\n", visible(content.trim_end())).as_bytes())
    } else {
        Ok(())
    }
}
