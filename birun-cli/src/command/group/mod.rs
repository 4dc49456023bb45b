//! `birun group …`

mod create;
mod delete;
mod edit;
mod get;
mod list;

use birun_core::inventory::HostKeyPolicy;
use clap::Subcommand;
use clap::builder::PossibleValuesParser;

use crate::context::Context;
use crate::error::CommandResult;
use crate::input;
use crate::ui::{Column, Kind, Ui, View};

/// Named sets of servers.
#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// Create a group. Servers join it by  birun server edit SERVER --group GROUP.
    Create(create::CreateGroup),
    /// List groups.
    List(list::ListGroups),
    /// Show a group.
    Get(get::GetGroup),
    /// Change a group.
    Edit(edit::EditGroup),
    /// Delete groups; their servers stay.
    Delete(delete::DeleteGroups),
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, command: GroupCommand) -> CommandResult {
    match command {
        GroupCommand::Create(args) => create::run(ui, ctx, args).await,
        GroupCommand::List(args) => list::run(ui, ctx, args).await,
        GroupCommand::Get(args) => get::run(ui, ctx, args).await,
        GroupCommand::Edit(args) => edit::run(ui, ctx, args).await,
        GroupCommand::Delete(args) => delete::run(ui, ctx, args).await,
    }
}

/// Groups, as people see them.
const VIEW: View = View {
    plural: "groups",
    name: "name",
    columns: &[
        Column::new("name", "/name", Kind::Text),
        Column::new("host keys", "/host_key_policy", Kind::Text),
        Column::new("description", "/description", Kind::Text),
        Column::new("created", "/created_at", Kind::Instant).wide(),
        Column::new("updated", "/updated_at", Kind::Instant).wide(),
        Column::new("id", "/id", Kind::Text).wide(),
    ],
};

fn policies() -> PossibleValuesParser {
    input::one_of(HostKeyPolicy::ALL, HostKeyPolicy::as_str)
}
