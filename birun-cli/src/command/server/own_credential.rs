//! The credential that `server add` makes from a file: it is the server's own, and goes with it.

use serde_json::Value;

use crate::client::{Client, Collection, Request};
use crate::command::delete::delete_one;
use crate::error::CommandResult;
use crate::exit::Exit;
use crate::ui::Ui;

/// How the description of such a credential begins: what a person stored or described is left alone.
const MADE: &str = "made by  birun server add";

/// The description of a credential that is made for a server.
pub(super) fn description(server: &str) -> String {
    format!("{MADE} {server}")
}

/// The name of the credential of a server, if it was made for one.
///
/// # Errors
/// When there is no such server.
pub(super) async fn of_server(client: &Client, server: &str) -> CommandResult<Option<String>> {
    let server = client.send(Request::get(["servers", server]).naming(Collection::Servers, server)).await?;
    let Some(id) = server.get("credential_id").and_then(Value::as_str) else { return Ok(None) };
    if_made(client, id).await
}

/// The name of a credential, if it was made for a server.
///
/// # Errors
/// What the server answers.
pub(super) async fn if_made(client: &Client, credential: &str) -> CommandResult<Option<String>> {
    let credential = client.send(Request::get(["credentials", credential])).await?;
    let text = |field: &str| credential.get(field).and_then(Value::as_str).unwrap_or_default();
    Ok(text("description").starts_with(MADE).then(|| text("name").to_owned()))
}

/// Deletes such a credential, unless another server uses it by now; answers whether it is gone.
///
/// # Errors
/// What the server answers.
pub(super) async fn delete(ui: &Ui, client: &Client, name: &str, dry_run: bool) -> CommandResult<bool> {
    match delete_one(ui, client, Collection::Credentials, "credential", name, dry_run).await {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.exit(), Exit::CONFLICT | Exit::FORBIDDEN) => Ok(false),
        Err(error) => Err(error),
    }
}
