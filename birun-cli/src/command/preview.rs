//! The targets of a run that is not started.

use serde_json::{Value, json};

use crate::client::{Client, Request};
use crate::error::CommandResult;
use crate::ui::{Column, Format, Kind, Ui, View};

/// Targets of a run that was not started, as people see them.
const TARGETS: View = View {
    plural: "targets",
    name: "target",
    columns: &[
        Column::new("target", "/target", Kind::Text),
        Column::new("batch", "/batch", Kind::Text),
        Column::new("left out", "/left_out", Kind::Text),
    ],
};

/// Shows what a request would start, instead of sending it.
///
/// # Errors
/// When it would be refused.
pub(super) async fn show(ui: &Ui, client: &Client, request: Request) -> CommandResult {
    let preview = client.send(request.at(["executions", "preview"])).await?;
    if matches!(ui.format(), Format::Json | Format::Yaml) {
        return ui.value(&preview);
    }
    ui.list(&TARGETS, &json!({"items": preview.get("targets"), "next": null}))?;
    if ui.format().is_for_people() {
        ui.note(&summary(&preview));
    }
    Ok(())
}

fn summary(preview: &Value) -> String {
    let count = |field: &str| preview.get(field).and_then(Value::as_u64).unwrap_or_default();
    let targets = match count("total") {
        1 => "1 target".to_owned(),
        total => format!("{total} targets"),
    };
    let left_out = match count("left_out") {
        0 => String::new(),
        some => format!(", {some} of them left out"),
    };
    let batches = match count("batches") {
        0 | 1 => String::new(),
        batches => format!(", in {batches} batches"),
    };
    format!("{targets}{left_out}; {} at once{batches}; nothing was started", count("width"))
}
