//! `birun config …`

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::config::{KeySource, Origin, Reach, Setting, Settings, TokenSource};
use crate::context::Context;
use crate::error::CommandResult;
use crate::ui::{Column, Kind, Ui, View};

/// The settings that count, and where they come from.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show the settings that count.
    Show(Show),
}

/// Show the settings that count. Secrets are not shown.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Show where each of them comes from.
    #[arg(long)]
    origin: bool,
}

const VALUES: View = View {
    plural: "settings",
    name: "setting",
    columns: &[Column::new("setting", "/setting", Kind::Text), Column::new("value", "/value", Kind::Text)],
};

const ORIGINS: View = View {
    plural: "settings",
    name: "setting",
    columns: &[
        Column::new("setting", "/setting", Kind::Text),
        Column::new("value", "/value", Kind::Text),
        Column::new("origin", "/origin", Kind::Text),
    ],
};

pub(crate) fn run(ui: &Ui, ctx: &Context, command: ConfigCommand) -> CommandResult {
    let ConfigCommand::Show(args) = command;
    let mut items = rows(&ctx.settings);
    if !args.origin {
        items.iter_mut().filter_map(Value::as_object_mut).for_each(|row| drop(row.remove("origin")));
    }
    ui.list(if args.origin { &ORIGINS } else { &VALUES }, &json!({"items": items, "next": Value::Null}))
}

fn rows(settings: &Settings) -> Vec<Value> {
    let mut rows = vec![
        row("context", &settings.context, |context| json!(context)),
        row("data_dir", &settings.data_dir, |path| json!(path.display().to_string())),
        row("database_url", &settings.database_url, |_| json!(settings.database())),
        row("output", &settings.output, |output| json!(format!("{output:?}").to_lowercase())),
        row("color", &settings.color, |color| json!(format!("{color:?}").to_lowercase())),
        row("request_timeout", &settings.request_timeout, |time| json!(birun_core::duration::format(*time))),
    ];
    if let Reach::Server { address, token } = &settings.reach {
        rows.push(json!({"setting": "server", "value": address, "origin": settings.context.origin.to_string()}));
        let (value, origin) = match token {
            TokenSource::Given(_) => (json!("***"), Origin::Env("BIRUN_TOKEN").to_string()),
            TokenSource::File(path) => (json!("***"), Origin::File(path.clone()).to_string()),
            TokenSource::Unknown => (Value::Null, Origin::Default.to_string()),
        };
        rows.push(json!({"setting": "token", "value": value, "origin": origin}));
    }
    let key = match &settings.key {
        KeySource::Given(_) => Origin::Env("BIRUN_MASTER_KEY"),
        KeySource::File(path) => Origin::File(path.clone()),
        KeySource::DataDir => Origin::Default,
    };
    rows.push(json!({"setting": "master_key", "value": "***", "origin": key.to_string()}));
    rows
}

fn row<T>(name: &str, setting: &Setting<T>, show: impl FnOnce(&T) -> Value) -> Value {
    json!({"setting": name, "value": show(&setting.value), "origin": setting.origin.to_string()})
}
