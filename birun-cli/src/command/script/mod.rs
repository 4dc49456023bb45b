//! `birun script …`

mod create;
mod delete;
mod edit;
mod get;
mod list;
mod restore;
mod settings;
mod versions;

use clap::Subcommand;
use serde_json::Value;

use crate::context::Context;
use crate::error::CommandResult;
use crate::ui::{Column, Kind, Ui, View};

/// Scripts that are kept, with their versions.
#[derive(Debug, Subcommand)]
pub(crate) enum ScriptCommand {
    /// Keep a script.
    Create(create::CreateScript),
    /// List scripts.
    List(list::ListScripts),
    /// Show a script, or its body.
    Get(get::GetScript),
    /// Change a script; a change of what it does makes a version.
    Edit(edit::EditScript),
    /// Delete scripts, with their versions.
    Delete(delete::DeleteScripts),
    /// List the versions of a script, newest first.
    Versions(versions::ScriptVersions),
    /// Make an earlier version the newest again.
    Restore(restore::RestoreScript),
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, command: ScriptCommand) -> CommandResult {
    match command {
        ScriptCommand::Create(args) => create::run(ui, ctx, args).await,
        ScriptCommand::List(args) => list::run(ui, ctx, args).await,
        ScriptCommand::Get(args) => get::run(ui, ctx, args).await,
        ScriptCommand::Edit(args) => edit::run(ui, ctx, args).await,
        ScriptCommand::Delete(args) => delete::run(ui, ctx, args).await,
        ScriptCommand::Versions(args) => versions::run(ui, ctx, args).await,
        ScriptCommand::Restore(args) => restore::run(ui, ctx, args).await,
    }
}

/// Scripts, as people see them.
const VIEW: View = View {
    plural: "scripts",
    name: "name",
    columns: &[
        Column::new("name", "/name", Kind::Text),
        Column::new("version", "/latest", Kind::Text),
        Column::new("interpreter", "/interpreter", Kind::Text),
        Column::new("parameters", "/parameters", Kind::Made(parameters)),
        Column::new("targets", "/targets", Kind::Text),
        Column::new("description", "/description", Kind::Text),
        Column::new("timeout", "/timeout", Kind::Text).wide(),
        Column::new("created", "/created_at", Kind::Instant).wide(),
        Column::new("updated", "/updated_at", Kind::Instant).wide(),
        Column::new("id", "/id", Kind::Text).wide(),
    ],
};

/// `LIMIT:number=80 TOKEN:secret`, as `--param` takes them.
fn parameters(script: &Value) -> String {
    let list = script.get("parameters").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    list.iter().map(parameter).collect::<Vec<_>>().join(" ")
}

fn parameter(spec: &Value) -> String {
    let text = |field: &str| spec.get(field).and_then(Value::as_str).unwrap_or_default();
    let default = match spec.get("default") {
        Some(Value::String(text)) => format!("={text}"),
        Some(value) if !value.is_null() => format!("={value}"),
        _ if spec.get("required") == Some(&Value::Bool(true)) => String::new(),
        _ => "?".to_owned(),
    };
    format!("{}:{}{default}", text("name"), text("type"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parameters_are_shown_as_they_are_declared() {
        let script = json!({"parameters": [
            {"name": "LIMIT", "type": "number", "default": 80},
            {"name": "TOKEN", "type": "secret", "required": true},
            {"name": "NOTE", "type": "text", "required": false},
        ]});
        assert_eq!(parameters(&script), "LIMIT:number=80 TOKEN:secret NOTE:text?");
    }
}
