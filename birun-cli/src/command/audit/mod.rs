//! `birun audit …`

mod list;
mod verify;

use clap::Subcommand;

use crate::context::Context;
use crate::error::CommandResult;
use crate::ui::Ui;

/// Who did what.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List the audit log, newest first.
    List(list::ListAudit),
    /// Check that nobody changed the audit log.
    Verify(verify::VerifyAudit),
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, command: AuditCommand) -> CommandResult {
    match command {
        AuditCommand::List(args) => list::run(ui, ctx, args).await,
        AuditCommand::Verify(args) => verify::run(ui, ctx, args).await,
    }
}
