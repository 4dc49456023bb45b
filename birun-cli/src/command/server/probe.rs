//! Trying to reach a server, and deciding about a host key that nobody knows yet.

use clap::Args;
use serde_json::{Value, json};

use super::host_key::pending_key;
use crate::client::{Client, Collection, Request};
use crate::error::{CommandError, CommandResult};
use crate::exit::Exit;
use crate::ui::{Column, Kind, Ui, View, visible};

/// What to do about a host key that nobody knows yet.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct TrustArgs {
    /// Trust the host key that the server offers now, if none is known for it.
    ///
    /// Without this flag the fingerprint is shown and, on a terminal, asked about. --yes does not
    /// answer that question: whoever trusts a wrong key signs in to someone else's machine. A key that
    /// was trusted is told, with its type and fingerprint.
    #[arg(long)]
    trust_host_key: bool,
}

impl TrustArgs {
    /// Whether the user has trusted the key beforehand: then it has to be met.
    pub(super) const fn is_given(self) -> bool {
        self.trust_host_key
    }
}

/// The stages of a probe, as people see them.
const STAGES: View = View {
    plural: "stages",
    name: "stage",
    columns: &[
        Column::new("stage", "/stage", Kind::Text),
        Column::new("status", "/status", Kind::Status),
        Column::new("took", "/micros", Kind::Made(took)),
        Column::new("message", "/message", Kind::Text),
    ],
};

fn took(stage: &Value) -> String {
    match (stage.get("status").and_then(Value::as_str), stage.get("micros").and_then(Value::as_u64)) {
        (Some("not_tried"), _) | (_, None) => String::new(),
        (_, Some(micros)) => format!("{}.{} ms", micros / 1000, micros % 1000 / 100),
    }
}

/// Tries to reach a server, and shows every stage.
///
/// # Errors
/// When a stage failed.
pub(super) async fn probe(ui: &Ui, client: &Client, server: &str, trust: TrustArgs) -> CommandResult {
    let mut result = ask(client, server).await?;
    if failed_stage(&result).is_some_and(|stage| code(stage) == "host_key_unknown")
        && let Some(key) = pending_key(client, server, result.get("host_key").and_then(Value::as_str)).await?
        && is_trusted(ui, server, &key, trust)?
    {
        let id = key.get("id").and_then(Value::as_str).unwrap_or_default();
        client.send(Request::act(["host-keys", id, "approve"])).await?;
        ui.note(&format!("trusted the host key of {server}: {}", in_words(&key)));
        result = ask(client, server).await?;
    }
    show(ui, &result)?;
    failed_stage(&result).map_or(Ok(()), |stage| Err(failure(server, stage)))
}

async fn ask(client: &Client, server: &str) -> CommandResult<Value> {
    client.send(Request::act(["servers", server, "test"]).naming(Collection::Servers, server)).await
}

fn show(ui: &Ui, result: &Value) -> CommandResult {
    if !ui.format().is_for_people() {
        return ui.value(result);
    }
    ui.list(&STAGES, &json!({"items": result.get("stages"), "next": Value::Null}))
}

fn failed_stage(result: &Value) -> Option<&Value> {
    result.get("stages")?.as_array()?.iter().find(|stage| stage.get("status") == Some(&json!("failed")))
}

fn code(stage: &Value) -> &str {
    stage.get("code").and_then(Value::as_str).unwrap_or_default()
}

fn failure(server: &str, stage: &Value) -> CommandError {
    let text = |name: &str| stage.get(name).and_then(Value::as_str);
    let message = text("message").unwrap_or("a stage failed");
    let error = CommandError::new(Exit::ERROR, format!("cannot reach server {server}: {message}"));
    match text("hint") {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// Whether the user trusts a key.
fn is_trusted(ui: &Ui, server: &str, key: &Value, trust: TrustArgs) -> CommandResult<bool> {
    if trust.trust_host_key {
        return Ok(true);
    }
    ui.note(&format!("{server} offers a host key that is not known: {}", in_words(key)));
    Ok(ui.can_ask() && ui.ask(&format!("trust {} from now on?", in_words(key)))?)
}

/// The type and the fingerprint of a key: `ssh-ed25519 SHA256:…`
fn in_words(key: &Value) -> String {
    let text = |name: &str| key.get(name).and_then(Value::as_str).unwrap_or_default();
    visible(&format!("{} {}", text("algorithm"), text("fingerprint"))).into_owned()
}
