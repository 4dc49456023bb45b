//! `birun server …`

mod add;
mod delete;
mod edit;
mod get;
mod host_key;
mod import;
mod list;
mod own_credential;
mod probe;
mod test;

use clap::Subcommand;
use serde_json::Value;

use crate::context::Context;
use crate::error::CommandResult;
use crate::ui::{Column, Kind, Ui, View};

/// The machines that work can be run on.
#[derive(Debug, Subcommand)]
pub(crate) enum ServerCommand {
    /// Add a server.
    #[command(visible_alias = "create")]
    Add(add::AddServer),
    /// Add the hosts that OpenSSH's client configuration names.
    Import(import::ImportServers),
    /// List servers.
    List(list::ListServers),
    /// Show a server.
    Get(get::GetServer),
    /// Change a server.
    Edit(edit::EditServer),
    /// Delete servers, with their host keys.
    Delete(delete::DeleteServers),
    /// Try to reach a server, stage by stage.
    Test(test::TestServer),
    /// The keys that servers identify themselves with.
    #[command(subcommand, visible_alias = "host-keys")]
    HostKey(host_key::HostKeyCommand),
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, command: ServerCommand) -> CommandResult {
    match command {
        ServerCommand::Add(args) => add::run(ui, ctx, args).await,
        ServerCommand::Import(args) => import::run(ui, ctx, args).await,
        ServerCommand::List(args) => list::run(ui, ctx, args).await,
        ServerCommand::Get(args) => get::run(ui, ctx, args).await,
        ServerCommand::Edit(args) => edit::run(ui, ctx, args).await,
        ServerCommand::Delete(args) => delete::run(ui, ctx, args).await,
        ServerCommand::Test(args) => test::run(ui, ctx, args).await,
        ServerCommand::HostKey(command) => host_key::run(ui, ctx, command).await,
    }
}

/// Servers, as people see them.
const VIEW: View = View {
    plural: "servers",
    name: "name",
    columns: &[
        Column::new("name", "/name", Kind::Text),
        Column::new("address", "/host", Kind::Made(address)),
        Column::new("tags", "/tags", Kind::Text),
        Column::new("groups", "/groups", Kind::Text),
        Column::new("maintenance", "/maintenance", Kind::Made(maintenance)),
        Column::new("description", "/description", Kind::Text).wide(),
        Column::new("executor", "/executor", Kind::Text).wide(),
        Column::new("credential", "/credential_id", Kind::ShortId).wide(),
        Column::new("created", "/created_at", Kind::Instant).wide(),
        Column::new("updated", "/updated_at", Kind::Instant).wide(),
        Column::new("id", "/id", Kind::Text).wide(),
    ],
};

/// `yes` for a server in maintenance, else nothing.
fn maintenance(server: &Value) -> String {
    let is_so = server.get("maintenance") == Some(&Value::Bool(true));
    if is_so { "yes".to_owned() } else { String::new() }
}

/// `deploy@10.0.0.5:22`, as `server add` takes it.
fn address(server: &Value) -> String {
    let text = |name: &str| server.get(name).and_then(Value::as_str).unwrap_or_default();
    let (user, host) = (text("user"), text("host"));
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    match server.get("port").and_then(Value::as_u64) {
        Some(22) | None => format!("{user}@{host}"),
        Some(port) => format!("{user}@{host}:{port}"),
    }
}
