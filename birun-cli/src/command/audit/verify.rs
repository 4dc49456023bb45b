//! `birun audit verify`

use clap::Args;
use serde_json::Value;

use crate::client::Request;
use crate::context::Context;
use crate::error::{CommandError, CommandResult};
use crate::ui::Ui;

/// Check that nobody changed, removed or moved an entry of the audit log.
///
/// Entries are sealed within a second, under a key that the master key seals. Exits with 1 and names
/// the first entry that is not right.
#[derive(Debug, Args)]
pub(crate) struct VerifyAudit {}

pub(crate) async fn run(ui: &Ui, ctx: &Context, _args: VerifyAudit) -> CommandResult {
    let check = ctx.client().await?.send(Request::get(["audit-logs", "verify"]).patient()).await?;
    let count = |name: &str| check.get(name).and_then(Value::as_u64).unwrap_or(0);
    if ui.format().is_for_people() {
        ui.note(&format!(
            "{} entries are as they were sealed, {} are not sealed yet",
            count("checked"),
            count("unsealed")
        ));
    } else {
        ui.value(&check)?;
    }
    match check.get("fault") {
        Some(Value::Object(fault)) => {
            let text = |name: &str| fault.get(name).and_then(Value::as_str).unwrap_or_default();
            let number = fault.get("number").and_then(Value::as_u64).unwrap_or(0);
            let entry = Some(text("entry")).filter(|entry| !entry.is_empty()).map(|entry| format!(" ({entry})"));
            Err(CommandError::failed(format!(
                "the audit log was tampered with at number {number}{}: {}",
                entry.unwrap_or_default(),
                text("message")
            ))
            .hint("compare with a backup; what comes after that number proves nothing"))
        }
        _ => Ok(()),
    }
}
