//! `birun server host-key …`

mod add;
mod approve;
mod delete;
mod import;
mod list;
mod revoke;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::client::{Client, Collection, Request};
use crate::context::Context;
use crate::error::{CommandError, CommandResult};
use crate::exit::Exit;
use crate::ui::{Column, Kind, Ui, View};

/// The keys that servers identify themselves with.
#[derive(Debug, Subcommand)]
pub(crate) enum HostKeyCommand {
    /// List the keys that servers offered or that someone recorded.
    List(list::ListHostKeys),
    /// Trust a key that a server offered.
    Approve(approve::ApproveHostKey),
    /// Never trust a key again.
    Revoke(revoke::RevokeHostKey),
    /// Record a key that is known to be right.
    Add(add::AddHostKey),
    /// Record the keys that OpenSSH's file of known hosts holds.
    Import(import::ImportHostKeys),
    /// Forget keys, whatever was decided about them.
    Delete(delete::DeleteHostKeys),
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, command: HostKeyCommand) -> CommandResult {
    match command {
        HostKeyCommand::List(args) => list::run(ui, ctx, args).await,
        HostKeyCommand::Approve(args) => approve::run(ui, ctx, args).await,
        HostKeyCommand::Revoke(args) => revoke::run(ui, ctx, args).await,
        HostKeyCommand::Add(args) => add::run(ui, ctx, args).await,
        HostKeyCommand::Import(args) => import::run(ui, ctx, args).await,
        HostKeyCommand::Delete(args) => delete::run(ui, ctx, args).await,
    }
}

/// Host keys, as people see them.
const VIEW: View = View {
    plural: "host keys",
    name: "id",
    columns: &[
        Column::new("id", "/short_id", Kind::Text),
        Column::new("server", "/server", Kind::Text),
        Column::new("status", "/status", Kind::Status),
        Column::new("algorithm", "/algorithm", Kind::Text),
        Column::new("fingerprint", "/fingerprint", Kind::Text),
        Column::new("origin", "/origin", Kind::Text).wide(),
        Column::new("created", "/created_at", Kind::Instant).wide(),
        Column::new("updated", "/updated_at", Kind::Instant).wide(),
        Column::new("full id", "/id", Kind::Text).wide(),
    ],
};

/// The keys of a server with one of these statuses.
async fn keys_of(client: &Client, server: &str, statuses: &[&str]) -> CommandResult<Vec<Value>> {
    let request = Request::get(["host-keys"]).query("server", server).naming(Collection::Servers, server);
    let list = client.list(request, None).await?;
    let keys = list.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    let wanted =
        |key: &Value| key.get("status").and_then(Value::as_str).is_some_and(|status| statuses.contains(&status));
    Ok(keys.into_iter().filter(wanted).collect())
}

/// The key that a server offered and that waits for a decision; `offered` is what it offered last,
/// which holds the fingerprint.
pub(super) async fn pending_key(client: &Client, server: &str, offered: Option<&str>) -> CommandResult<Option<Value>> {
    let fits = |key: &Value| {
        let fingerprint = key.get("fingerprint").and_then(Value::as_str);
        offered.is_none_or(|offered| fingerprint.is_some_and(|fingerprint| offered.contains(fingerprint)))
    };
    Ok(keys_of(client, server, &["pending"]).await?.into_iter().find(fits))
}

/// The key that a user means.
#[derive(Debug, Args)]
struct ChosenKey {
    /// The key's id, or the name of its server.
    #[arg(value_name = "KEY|SERVER")]
    key: String,

    /// The key's fingerprint (SHA256:…), where the server has several.
    #[arg(value_name = "FINGERPRINT")]
    fingerprint: Option<String>,
}

/// A text field of a key.
fn text<'a>(key: &'a Value, field: &str) -> &'a str {
    key.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// A key in words: `ssh-ed25519 SHA256:… of web-1`
fn in_words(key: &Value) -> String {
    format!("{} {} of {}", text(key, "algorithm"), text(key, "fingerprint"), text(key, "server"))
}

/// The key that is meant, among those with one of these statuses.
async fn chosen(client: &Client, meant: &ChosenKey, statuses: &[&str]) -> CommandResult<Value> {
    let fits =
        |key: &Value| meant.fingerprint.as_ref().is_none_or(|wanted| text(key, "fingerprint") == wanted.as_str());
    let ChosenKey { key: named, fingerprint } = meant;
    let mut keys = if birun_core::id::looks_like_id(named) {
        vec![client.send(Request::get(["host-keys", named])).await?]
    } else {
        keys_of(client, named, statuses).await?
    };
    keys.retain(fits);
    match keys.as_slice() {
        [only] => Ok(only.clone()),
        [] => {
            let which = fingerprint.as_ref().map(|fingerprint| format!(" {fingerprint}")).unwrap_or_default();
            let told = format!("`{named}` has no host key{which} that is {}", statuses.join(" or "));
            Err(CommandError::new(Exit::NOT_FOUND, told).hint("see what there is with  birun server host-key list"))
        }
        several => Err(CommandError::usage(format!("server `{named}` has {} such host keys", several.len()))
            .hint(format!("name one by its fingerprint, from  birun server host-key list {named}"))),
    }
}

/// Nothing but a method and a path.
fn action(id: &str, verb: &str) -> Request {
    Request::act(["host-keys", id, verb])
}

/// A key to be recorded.
fn new_key(server: &str, public_key: &str) -> Request {
    Request::post(["host-keys"], json!({"server": server, "public_key": public_key}))
        .naming(Collection::Servers, server)
}
