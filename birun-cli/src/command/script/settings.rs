//! What a version of a script is made of, besides its body.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use birun_core::inventory::TargetExpr;
use birun_core::script::{LostPolicy, RunMode};
use clap::Args;
use serde_json::{Map, Value, json};

use crate::client::{Client, Request};
use crate::error::{CommandError, CommandResult};
use crate::exit::Exit;
use crate::input::put;
use crate::input::{self, parse_spec, read_text};
use crate::ui::Ui;

/// What a version of a script is made of, besides its body.
#[derive(Clone, Debug, Args)]
pub(super) struct SpecArgs {
    /// What runs it: shebang, sh, bash, python3, or an absolute path.
    #[arg(long, value_name = "PROGRAM")]
    interpreter: Option<String>,

    /// A parameter: NAME, NAME:TYPE, or NAME:TYPE=DEFAULT. The script sees it as an environment variable.
    ///
    /// TYPE is text, number, boolean, secret or choice(a|b|c). Without a default it is required,
    /// unless a question mark follows: NAME:text?
    #[arg(long = "param", value_name = "NAME:TYPE=DEFAULT", value_parser = parse_spec)]
    params: Vec<Value>,

    /// A file with the parameters as the API takes them: a list in JSON.
    #[arg(long, value_name = "FILE", conflicts_with = "params")]
    params_file: Option<PathBuf>,

    /// Where it runs when nobody says otherwise.
    #[arg(long, value_name = "TARGETS")]
    on: Option<String>,

    /// Limit of a run when nobody says otherwise.
    #[arg(long, value_name = "TIME", value_parser = input::duration)]
    timeout: Option<Duration>,

    /// The exit codes that are a success.
    #[arg(long, value_name = "CODES", value_delimiter = ',')]
    ok_exit_codes: Option<Vec<i32>>,

    /// How often a step is tried, in all.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    attempts: Option<u32>,

    /// Try again only after these exit codes.
    #[arg(long, value_name = "CODES", value_delimiter = ',')]
    retry_exit_codes: Option<Vec<i32>>,

    /// Limit of one attempt.
    #[arg(long, value_name = "TIME", value_parser = input::duration)]
    attempt_timeout: Option<Duration>,

    /// Time between telling a step to end and killing it.
    #[arg(long, value_name = "TIME", value_parser = input::duration)]
    grace: Option<Duration>,

    /// What happens to a step whose worker died: it counts as lost, or is tried again (running it
    /// twice does no harm).
    #[arg(long, value_name = "POLICY", value_parser = input::one_of(LostPolicy::ALL, LostPolicy::as_str))]
    on_lost: Option<String>,

    /// How it runs on servers: ended with its connection (attached), or by itself, to be found again
    /// after a lost connection or worker (detached).
    #[arg(long, value_name = "MODE", value_parser = input::one_of(RunMode::ALL, RunMode::as_str))]
    mode: Option<String>,
}

impl SpecArgs {
    /// Adds what is given to a request's body. `settings` are those that the script has now: the
    /// API takes settings as a whole.
    ///
    /// # Errors
    /// When the file with the parameters cannot be read.
    pub(super) fn add_to(&self, body: &mut Map<String, Value>, settings: Option<&Value>) -> CommandResult {
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                body.insert(name.to_owned(), value);
            }
        };
        put("interpreter", self.interpreter.as_deref().map(Value::from));
        put("parameters", self.parameters()?);
        put("targets", self.on.as_deref().map(Value::from));
        put("timeout", self.timeout.map(duration));
        put("settings", self.settings(settings));
        Ok(())
    }

    /// Warns of default targets that match nothing. That is allowed: servers may come later.
    pub(super) async fn warn_of_targets(&self, ui: &Ui, client: &Client) {
        let expr: Option<TargetExpr> = self.on.as_deref().and_then(|on| on.parse().ok());
        let mut missing = Vec::new();
        for named in expr.iter().flat_map(TargetExpr::named) {
            let request = Request::get(["servers"]).query("on", &named);
            // The script is stored: what else goes wrong here is no failure of the command.
            if client.send(request).await.is_err_and(|error| error.exit() == Exit::NOT_FOUND) {
                missing.push(named);
            }
        }
        if !missing.is_empty() {
            ui.warn(&format!("no server matches these default targets yet: {}", missing.join(", ")));
        }
    }

    fn parameters(&self) -> CommandResult<Option<Value>> {
        let Some(path) = &self.params_file else {
            return Ok((!self.params.is_empty()).then(|| json!(self.params)));
        };
        let read = serde_json::from_str(&read_text(path)?);
        read.map(Some).map_err(|error| CommandError::usage(format!("{}: {error}", path.display())))
    }

    fn settings(&self, present: Option<&Value>) -> Option<Value> {
        let codes = |codes: &[i32]| json!(codes.iter().collect::<BTreeSet<_>>());
        let changes = [
            ("/ok_exit_codes", self.ok_exit_codes.as_deref().map(codes)),
            ("/retry/max_attempts", self.attempts.map(Value::from)),
            ("/retry/exit_codes", self.retry_exit_codes.as_deref().map(codes)),
            ("/attempt_timeout", self.attempt_timeout.map(duration)),
            ("/grace", self.grace.map(duration)),
            ("/on_lost", self.on_lost.as_deref().map(Value::from)),
            ("/mode", self.mode.as_deref().map(Value::from)),
        ];
        let mut settings = present.cloned().unwrap_or_else(|| json!({}));
        let mut changed = false;
        for (place, value) in changes {
            if let Some(value) = value {
                set(&mut settings, place, value);
                changed = true;
            }
        }
        changed.then_some(settings)
    }
}

fn duration(duration: Duration) -> Value {
    json!(birun_core::duration::format(duration))
}

/// Sets a field by its JSON pointer, one or two deep.
fn set(settings: &mut Value, place: &str, value: Value) {
    let place = place.trim_start_matches('/');
    match place.split_once('/') {
        Some((outer, inner)) => {
            let mut group = settings.get(outer).cloned().unwrap_or_else(|| json!({}));
            put(&mut group, inner, value);
            put(settings, outer, group);
        }
        None => put(settings, place, value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        spec: SpecArgs,
    }

    fn body(args: &[&str], settings: Option<Value>) -> Value {
        let line = Line::parse_from(["x"].iter().chain(args));
        let mut body = Map::new();
        line.spec.add_to(&mut body, settings.as_ref()).unwrap();
        Value::Object(body)
    }

    #[test]
    fn only_what_is_given_is_sent() {
        assert_eq!(body(&[], None), json!({}));
        let args = ["--param", "LIMIT:number=80", "--on", "tag:prod", "--timeout", "5m", "--ok-exit-codes", "0,2"];
        let expected = json!({
            "parameters": [{"name": "LIMIT", "type": "number", "required": false, "default": 80}],
            "targets": "tag:prod", "timeout": "5m", "settings": {"ok_exit_codes": [0, 2]},
        });
        assert_eq!(body(&args, None), expected);
    }

    #[test]
    fn settings_that_are_not_named_stay() {
        let present = json!({"grace": "10s", "retry": {"max_attempts": 1, "unreachable": true}});
        let changed = json!({"settings": {"grace": "10s", "retry": {"max_attempts": 3, "unreachable": true}}});
        assert_eq!(body(&["--attempts", "3"], Some(present)), changed);
    }
}
