//! `birun version`

use clap::Args;
use serde_json::json;

use crate::error::CommandResult;
use crate::ui::Ui;

/// Print the version.
#[derive(Debug, Args)]
pub(crate) struct VersionArgs {}

pub(crate) fn run(ui: &Ui, _args: VersionArgs) -> CommandResult {
    let version = env!("CARGO_PKG_VERSION");
    if ui.format().is_for_people() {
        ui.line(&format!("birun {version}"))
    } else {
        ui.value(&json!({"version": version}))
    }
}
