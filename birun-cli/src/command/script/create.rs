//! `birun script create`

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};

use super::VIEW;
use super::settings::SpecArgs;
use crate::args::DryRun;
use crate::client::Request;
use crate::context::Context;
use crate::error::CommandResult;
use crate::input::read_text;
use crate::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  birun script create disk-report --file disk.sh --param LIMIT:number=80
  birun script create deploy --file deploy.sh --param TOKEN:secret --on tag:web --timeout 10m
  birun script create report --file - --interpreter python3 < report.py";

/// Keep a script under a name, so that it can be run again and again, with versions.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct CreateScript {
    /// Its name.
    name: String,

    /// The file that holds it; - is stdin.
    #[arg(long, value_name = "FILE")]
    file: PathBuf,

    /// What it does, for people.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,

    #[command(flatten)]
    spec: SpecArgs,

    #[command(flatten)]
    dry_run: DryRun,
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: CreateScript) -> CommandResult {
    let mut body = Map::new();
    body.insert("name".to_owned(), json!(args.name));
    body.insert("content".to_owned(), json!(read_text(&args.file)?));
    if let Some(description) = args.description {
        body.insert("description".to_owned(), json!(description));
    }
    args.spec.add_to(&mut body, None)?;
    let request = Request::post(["scripts"], Value::Object(body));
    let client = ctx.client().await?;
    let Some(script) = client.change(ui, args.dry_run.dry_run, request).await? else { return Ok(()) };
    ui.done(&VIEW, &script, |name| format!("created script {name} v1"))?;
    args.spec.warn_of_targets(ui, &client).await;
    Ok(())
}
