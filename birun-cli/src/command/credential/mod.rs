//! `birun credential …`

mod certificate;
mod create;
mod delete;
mod edit;
mod get;
mod list;
mod secret;

use clap::Subcommand;

use crate::context::Context;
use crate::error::CommandResult;
use crate::ui::{Column, Kind, Ui, View};

pub(super) use certificate::warn_of_certificate;
pub(super) use secret::SecretArgs;

/// What servers are signed in to with. Values go in and never come out.
#[derive(Debug, Subcommand)]
pub(crate) enum CredentialCommand {
    /// Store a credential: a private key, a password, answers to what a server asks, a key of an ssh-agent, or several of these.
    Create(create::CreateCredential),
    /// List credentials, without their values.
    List(list::ListCredentials),
    /// Show a credential, without its value.
    Get(get::GetCredential),
    /// Change a credential, or replace its value.
    Edit(edit::EditCredential),
    /// Delete credentials that no server uses.
    Delete(delete::DeleteCredentials),
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, command: CredentialCommand) -> CommandResult {
    match command {
        CredentialCommand::Create(args) => create::run(ui, ctx, args).await,
        CredentialCommand::List(args) => list::run(ui, ctx, args).await,
        CredentialCommand::Get(args) => get::run(ui, ctx, args).await,
        CredentialCommand::Edit(args) => edit::run(ui, ctx, args).await,
        CredentialCommand::Delete(args) => delete::run(ui, ctx, args).await,
    }
}

/// Credentials, as people see them.
const VIEW: View = View {
    plural: "credentials",
    name: "name",
    columns: &[
        Column::new("name", "/name", Kind::Text),
        Column::new("kind", "/kind", Kind::Text),
        Column::new("algorithm", "/algorithm", Kind::Text),
        Column::new("fingerprint", "/fingerprint", Kind::Text),
        Column::new("certificate", "/certificate", Kind::Made(certificate::summary)).wide(),
        Column::new("description", "/description", Kind::Text).wide(),
        Column::new("created", "/created_at", Kind::Instant).wide(),
        Column::new("updated", "/updated_at", Kind::Instant).wide(),
        Column::new("id", "/id", Kind::Text).wide(),
    ],
};
