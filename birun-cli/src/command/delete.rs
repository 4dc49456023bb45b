//! What every `delete` of a named resource does.

use crate::args::DryRun;
use crate::client::{Client, Collection, Request};
use crate::context::Context;
use crate::error::CommandResult;
use crate::ui::Ui;

/// Deletes resources by name or id, after a question.
///
/// # Errors
/// The first that cannot be deleted; those before it are gone.
pub(super) async fn delete(
    ui: &Ui,
    ctx: &Context,
    collection: Collection,
    kind: &str,
    names: &[String],
    dry_run: DryRun,
) -> CommandResult {
    let client = ctx.client().await?;
    if !dry_run.dry_run {
        ui.confirm(&format!("delete {kind} {}?", names.join(", ")))?;
    }
    for name in names {
        delete_one(ui, &client, collection, kind, name, dry_run.dry_run).await?;
    }
    Ok(())
}

/// Deletes one resource, without a question.
///
/// # Errors
/// When it cannot be deleted.
pub(super) async fn delete_one(
    ui: &Ui,
    client: &Client,
    collection: Collection,
    kind: &str,
    name: &str,
    dry_run: bool,
) -> CommandResult {
    let request = Request::delete([collection.path(), name]).naming(collection, name);
    if client.change(ui, dry_run, request).await?.is_some() {
        ui.note(&format!("deleted {kind} {name}"));
    }
    Ok(())
}
