//! `birun doctor`

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clap::Args;
use serde_json::{Value, json};

use crate::client::Request;
use crate::config::Reach;
use crate::context::Context;
use crate::error::{CommandError, CommandResult};
use crate::exit::Exit;
use crate::local::{DataDir, find_server};
use crate::ui::{Column, Kind, Ui, View};

/// Check that everything birun needs is there, and say how to mend what is not.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {}

/// Findings, as people see them.
const VIEW: View = View {
    plural: "checks",
    name: "check",
    columns: &[
        Column::new("check", "/check", Kind::Text),
        Column::new("status", "/status", Kind::Status),
        Column::new("message", "/message", Kind::Text),
    ],
};

/// What was looked at so far.
#[derive(Default)]
struct Findings {
    rows: Vec<Value>,
    hints: Vec<String>,
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, _args: DoctorArgs) -> CommandResult {
    let mut findings = Findings::default();
    if ctx.settings.reach == Reach::Local {
        look_at_files(ctx, &mut findings).await;
    }
    look_at_birun(ctx, &mut findings).await;
    ui.list(&VIEW, &json!({"items": findings.rows, "next": Value::Null}))?;
    findings.hints.iter().for_each(|hint| ui.hint(hint));
    let well = findings.rows.iter().all(|row| row.get("status") == Some(&json!("ok")));
    if well { Ok(()) } else { Err(CommandError::Ended(Exit::ERROR)) }
}

impl Findings {
    fn add(&mut self, check: &str, found: CommandResult<String>) {
        let (status, message) = match found {
            Ok(message) => ("ok", message),
            Err(CommandError::Ended(_)) => ("failed", "interrupted".to_owned()),
            Err(CommandError::Failed(failure)) => {
                self.hints.extend(failure.hints);
                ("failed", std::iter::once(failure.message).chain(failure.causes).collect::<Vec<_>>().join(": "))
            }
        };
        self.rows.push(json!({"check": check, "status": status, "message": message}));
    }
}

async fn look_at_files(ctx: &Context, findings: &mut Findings) {
    let dir = DataDir::at(&ctx.settings.data_dir.value);
    let exists = dir.path().exists();
    findings
        .add("data directory", if exists { private(dir.path()) } else { Ok("is made when it is needed".to_owned()) });
    if dir.key().exists() {
        findings.add("master key", private(&dir.key()));
    }
    let server = find_server(&dir).await;
    findings
        .add("server", server.map(|server| server.map_or("none; birun works by itself".to_owned(), |it| it.address)));
}

/// Whether a file or directory is its user's alone.
fn private(path: &Path) -> CommandResult<String> {
    let metadata = path.metadata().map_err(|error| CommandError::file("look at", path, &error))?;
    if metadata.permissions().mode() & 0o077 == 0 {
        return Ok(path.display().to_string());
    }
    Err(CommandError::failed(format!("{} can be read by others", path.display()))
        .hint(format!("make it yours alone with  chmod go= {}", path.display())))
}

async fn look_at_birun(ctx: &Context, findings: &mut Findings) {
    let client = match ctx.client().await {
        Ok(client) => client,
        Err(error) => return findings.add("birun", Err(error)),
    };
    match client.send(Request::get(["status"])).await {
        Ok(status) => findings.add("birun", version(&status)),
        Err(error) => return findings.add("birun", Err(error)),
    }
    match client.send(Request::ready()).await {
        Ok(readiness) => {
            for check in readiness.get("checks").and_then(Value::as_array).into_iter().flatten() {
                let text = |field: &str| check.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
                let well = check.get("ok") == Some(&json!(true));
                let name = text("name");
                let found =
                    if well { Ok(is_well(&name).to_owned()) } else { Err(CommandError::failed(text("message"))) };
                findings.add(&name, found);
            }
        }
        Err(error) => findings.add("ready", Err(error)),
    }
}

/// What it means that a part is ready.
fn is_well(part: &str) -> &'static str {
    match part {
        "database" => "answers, and has the schema of this version",
        "queue" => "can be read",
        "key" => "is the one that the secrets are sealed with",
        _ => "works",
    }
}

/// Client and server are to be of one version.
fn version(status: &Value) -> CommandResult<String> {
    let own = env!("CARGO_PKG_VERSION");
    match status.get("version").and_then(Value::as_str) {
        Some(theirs) if theirs != own => {
            Err(CommandError::failed(format!("the server is birun {theirs}, this is {own}"))
                .hint("use the same version on both sides"))
        }
        _ => Ok(format!("version {own}")),
    }
}
