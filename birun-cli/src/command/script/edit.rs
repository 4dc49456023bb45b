//! `birun script edit`

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};

use super::VIEW;
use super::settings::SpecArgs;
use crate::args::DryRun;
use crate::client::{Collection, Request};
use crate::context::Context;
use crate::error::{CommandError, CommandResult};
use crate::input::read_text;
use crate::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  birun script edit disk-report --file disk.sh
  birun script edit disk-report --attempts 3 --retry-exit-codes 75";

/// Change a script. What is not named stays; parameters are replaced as a whole.
///
/// A change of what it does makes a version; what was started before goes on with its own.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct EditScript {
    /// Its name or id.
    script: String,

    /// The file that holds the new body; - is stdin.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Another name.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// Another description.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,

    #[command(flatten)]
    spec: SpecArgs,

    #[command(flatten)]
    dry_run: DryRun,
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: EditScript) -> CommandResult {
    let client = ctx.client().await?;
    let request = Request::get(["scripts", &args.script]).naming(Collection::Scripts, &args.script);
    let script = client.send(request).await?;
    let patch = patch(&args, &script)?;
    let request = Request::patch(["scripts", &args.script], patch).if_unchanged(&script);
    let Some(script) = client.change(ui, args.dry_run.dry_run, request).await? else { return Ok(()) };
    let latest = script.get("latest").and_then(Value::as_u64).unwrap_or(0);
    ui.done(&VIEW, &script, |name| format!("changed script {name}, which is at v{latest}"))?;
    args.spec.warn_of_targets(ui, &client).await;
    Ok(())
}

fn patch(args: &EditScript, script: &Value) -> CommandResult<Value> {
    let mut patch = Map::new();
    if let Some(path) = &args.file {
        patch.insert("content".to_owned(), json!(read_text(path)?));
    }
    for (field, value) in [("name", &args.name), ("description", &args.description)] {
        if let Some(value) = value {
            patch.insert(field.to_owned(), json!(value));
        }
    }
    args.spec.add_to(&mut patch, script.get("settings"))?;
    if patch.is_empty() {
        return Err(CommandError::usage("nothing is to be changed").hint("say what, for example  --file FILE"));
    }
    Ok(Value::Object(patch))
}
