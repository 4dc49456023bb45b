//! `birun server host-key import`

use std::path::PathBuf;

use birun_core::inventory::OfferedKey;
use clap::Args;
use serde_json::{Value, json};

use super::text;
use crate::args::DryRun;
use crate::client::{Client, Request};
use crate::context::Context;
use crate::error::{CommandError, CommandResult};
use crate::exit::Exit;
use crate::input::{KnownHost, Mark, parse_known_hosts, read_text};
use crate::ui::{Column, Kind, Ui, View};

/// Record the keys that OpenSSH's file of known hosts holds for servers that are here.
///
/// Names may be plain, hashed, patterns, or have a port. Keys are approved, those marked
/// @revoked are revoked, also where they were approved; no key takes the place of an approved one. Lines
/// marked @cert-authority are skipped.
#[derive(Debug, Args)]
pub(crate) struct ImportHostKeys {
    /// The file, often ~/.ssh/known_hosts; - is stdin.
    #[arg(long, value_name = "FILE")]
    known_hosts: PathBuf,

    #[command(flatten)]
    dry_run: DryRun,
}

/// What became of each key.
const REPORT: View = View {
    plural: "host keys",
    name: "line",
    columns: &[
        Column::new("line", "/line", Kind::Text),
        Column::new("server", "/server", Kind::Text),
        Column::new("status", "/status", Kind::Status),
        Column::new("algorithm", "/algorithm", Kind::Text),
        Column::new("fingerprint", "/fingerprint", Kind::Text),
        Column::new("reason", "/reason", Kind::Text),
    ],
};

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: ImportHostKeys) -> CommandResult {
    let (known, broken) = parse_known_hosts(&read_text(&args.known_hosts)?);
    let client = ctx.client().await?;
    let servers = items(client.list(Request::get(["servers"]), None).await?);
    let recorded = items(client.list(Request::get(["host-keys"]), None).await?);
    let import = Import { client, dry_run: args.dry_run.dry_run, recorded };
    let mut rows: Vec<Value> =
        broken.iter().map(|line| skipped(*line, "it is no line of a file of known hosts")).collect();
    let mut strange = 0;
    for host in &known {
        if host.mark == Mark::Authority {
            rows.push(skipped(host.line, "birun takes no host certificates; record the hosts' own keys"));
            continue;
        }
        let of_host: Vec<&Value> = servers.iter().filter(|server| is_of(host, server)).collect();
        strange += usize::from(of_host.is_empty());
        for server in of_host {
            rows.push(import.key(host, text(server, "name")).await?);
        }
    }
    if strange > 0 {
        ui.note(&format!("{strange} lines are about no server that is here"));
    }
    ui.list(&REPORT, &json!({"items": rows, "next": Value::Null}))
}

fn items(list: Value) -> Vec<Value> {
    list.get("items").and_then(Value::as_array).cloned().unwrap_or_default()
}

fn is_of(host: &KnownHost, server: &Value) -> bool {
    let port = server.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
    host.is_of(text(server, "host"), port.unwrap_or(22))
}

fn skipped(line: usize, why: &str) -> Value {
    json!({"line": line, "status": "skipped", "reason": why})
}

/// An import under way.
struct Import {
    client: Client,
    dry_run: bool,
    /// The keys that were recorded before it began.
    recorded: Vec<Value>,
}

impl Import {
    async fn key(&self, host: &KnownHost, server: &str) -> CommandResult<Value> {
        let Ok(key) = OfferedKey::parse(&host.key) else {
            return Ok(skipped(host.line, "its key is damaged"));
        };
        let (status, reason) = match self.judge(host, server, &key) {
            Err((status, reason)) => (status, reason),
            Ok(status) => self.record(host, server, status).await?,
        };
        Ok(json!({
            "line": host.line, "server": server, "status": status, "algorithm": key.algorithm,
            "fingerprint": key.fingerprint, "reason": reason,
        }))
    }

    /// What is to become of a key; the error is why nothing is.
    fn judge(
        &self,
        host: &KnownHost,
        server: &str,
        key: &OfferedKey,
    ) -> Result<&'static str, (&'static str, Option<String>)> {
        let of_server = || self.recorded.iter().filter(|recorded| text(recorded, "server") == server);
        let same = of_server().find(|recorded| text(recorded, "fingerprint") == key.fingerprint);
        let status = if host.mark == Mark::Revoked { "revoked" } else { "approved" };
        match same.map(|same| text(same, "status")) {
            Some(known) if known == status => return Err(("exists", None)),
            Some("revoked") => return Err(("skipped", Some("it was revoked here".to_owned()))),
            _ if status == "revoked" => return Ok(status),
            _ => {}
        }
        let other = of_server()
            .find(|recorded| text(recorded, "status") == "approved" && text(recorded, "algorithm") == key.algorithm);
        match other {
            Some(other) => {
                let why = format!(
                    "another key is approved: {}; if this one is right,  birun server host-key add",
                    text(other, "fingerprint")
                );
                Err(("skipped", Some(why)))
            }
            None => Ok(status),
        }
    }

    async fn record(
        &self,
        host: &KnownHost,
        server: &str,
        status: &'static str,
    ) -> CommandResult<(&'static str, Option<String>)> {
        if self.dry_run {
            return Ok((if status == "revoked" { "would_revoke" } else { "would_approve" }, None));
        }
        let body = json!({"server": server, "public_key": host.key, "status": status});
        match self.client.send(Request::post(["host-keys"], body)).await {
            Ok(_) => Ok((status, None)),
            Err(CommandError::Failed(failure)) if matches!(failure.exit, Exit::USAGE | Exit::CONFLICT) => {
                Ok(("skipped", Some(failure.message.clone())))
            }
            Err(error) => Err(error),
        }
    }
}
