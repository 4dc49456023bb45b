//! Something to be run, on the wire.

use std::collections::BTreeMap;
use std::time::Duration;

use birun_core::execution::{ExecutionKind, Run};
use birun_core::script::{ParamValue, RunMode};
use birun_core::{Error, Result};
use poem_openapi::Object;
use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::dto::script::{interpreter, timeout};
use crate::dto::secret::SecretText;
use crate::dto::settings::Settings;
use crate::dto::strategy::Strategy;
use crate::schema::{Word, described};

/// What a script is called that was sent along without a title.
const UNTITLED: &str = "inline script";

/// Something to be run.
///
/// `script`: a stored script (`script_id`) or one that is sent along (`content`). `command`: a command line. `job`: a
/// closure that the embedding program registered.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewExecution {
    kind: Word<ExecutionKind>,
    /// A stored script, by name or id.
    script_id: Option<String>,
    /// A version of the stored script; the newest, if not given.
    script_version: Option<u32>,
    /// A script that is sent along.
    content: Option<String>,
    /// What to call the script that is sent along.
    title: Option<String>,
    /// What runs the script that is sent along; `shebang`, if not given.
    interpreter: Option<String>,
    command: Option<Command>,
    /// The name of a registered job.
    job: Option<String>,
    /// Where: a target expression. A stored script has its own default, everything else runs on `local`.
    targets: Option<String>,
    /// Parameters by name.
    #[serde(default)]
    #[oai(default)]
    params: BTreeMap<String, GivenParam>,
    strategy: Option<Strategy>,
    /// Limit of the whole execution.
    timeout: Option<String>,
    /// How attempts are run and judged, instead of what the stored script says.
    settings: Option<Settings>,
    /// How a program on a server hangs together with birun, instead of what the settings say.
    mode: Option<Word<RunMode>>,
}

/// A command: one text for `/bin/sh -c`, or a program and its arguments, each kept as it is.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(untagged, expecting = "expected a text, or a list of texts")]
enum Command {
    Text(String),
    Words(Vec<String>),
}

described!(
    Command,
    "command",
    MetaSchema {
        description: Some("One text for `/bin/sh -c`, or a program and its arguments, each kept as it is."),
        any_of: vec![
            MetaSchemaRef::Inline(Box::new(MetaSchema::new("string"))),
            MetaSchemaRef::Inline(Box::new(MetaSchema {
                items: Some(Box::new(MetaSchemaRef::Inline(Box::new(MetaSchema::new("string"))))),
                ..MetaSchema::new("array")
            })),
        ],
        ..MetaSchema::ANY
    }
);

/// The value of a parameter.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(untagged, expecting = "expected a text, a number, true, false, or {\"secret\": \"…\"}")]
enum GivenParam {
    Secret(Hidden),
    Text(String),
    Number(serde_json::Number),
    Boolean(bool),
}

/// A value that is sealed at rest and masked in output.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Hidden {
    secret: SecretText,
}

described!(
    GivenParam,
    "parameter",
    MetaSchema {
        description: Some(
            "A value, or `{\"secret\": \"…\"}`: sealed at rest, masked in output, shown as `***`, whatever the script \
             says of the parameter."
        ),
        any_of: vec![scalar("string"), scalar("number"), scalar("boolean"), hidden()],
        ..MetaSchema::ANY
    }
);

fn scalar(kind: &'static str) -> MetaSchemaRef {
    MetaSchemaRef::Inline(Box::new(MetaSchema::new(kind)))
}

fn hidden() -> MetaSchemaRef {
    MetaSchemaRef::Inline(Box::new(MetaSchema {
        required: vec!["secret"],
        properties: vec![("secret", scalar("string"))],
        ..MetaSchema::new("object")
    }))
}

impl From<GivenParam> for ParamValue {
    fn from(given: GivenParam) -> Self {
        match given {
            GivenParam::Secret(hidden) => Self::Secret(hidden.secret.0),
            GivenParam::Text(text) => Self::Plain(Value::String(text)),
            GivenParam::Number(number) => Self::Plain(Value::Number(number)),
            GivenParam::Boolean(truth) => Self::Plain(Value::Bool(truth)),
        }
    }
}

impl NewExecution {
    pub(crate) fn into_core(mut self) -> Result<Run> {
        let mut run = self.what()?;
        self.refuse_the_rest()?;
        for (name, value) in self.params {
            run = run.param_value(name, value.into());
        }
        if let Some(targets) = self.targets {
            run = run.on(targets);
        }
        if let Some(strategy) = self.strategy {
            run = run.strategy(strategy.into_core()?);
        }
        if let Some(text) = self.timeout {
            run = run.timeout(Duration::from_millis(timeout(&text)?));
        }
        if let Some(settings) = self.settings {
            run = run.settings(settings.into_core()?);
        }
        if let Some(mode) = self.mode {
            run = run.mode(mode.0);
        }
        Ok(run)
    }

    /// What is run, taken out of the fields that say it.
    fn what(&mut self) -> Result<Run> {
        match self.kind.0 {
            ExecutionKind::Script => self.script(),
            ExecutionKind::Command => match self.command.take() {
                Some(Command::Text(text)) => Ok(Run::command([text])),
                Some(Command::Words(words)) => Ok(Run::command(words)),
                None => Err(needed("command")),
            },
            ExecutionKind::Job => self.job.take().map(Run::job).ok_or_else(|| needed("job")),
        }
    }

    fn script(&mut self) -> Result<Run> {
        match (self.script_id.take(), self.content.take()) {
            (Some(script), None) => Ok(match self.script_version.take() {
                Some(version) => Run::script_version(script, version),
                None => Run::script(script),
            }),
            (None, Some(content)) => {
                let interpreter = self.interpreter.take().map(|text| interpreter(&text)).transpose()?;
                let title = self.title.take().unwrap_or_else(|| UNTITLED.to_owned());
                Ok(Run::content(title, content, interpreter.unwrap_or_default()))
            }
            (None, None) => Err(needed("script_id")),
            (Some(_), Some(_)) => Err(Error::invalid_field("content", "give either this or script_id")),
        }
    }

    /// A field that says what to run and that this kind does not take is a misunderstanding.
    fn refuse_the_rest(&self) -> Result<()> {
        let left = [
            ("script_id", self.script_id.is_some()),
            ("script_version", self.script_version.is_some()),
            ("content", self.content.is_some()),
            ("title", self.title.is_some()),
            ("interpreter", self.interpreter.is_some()),
            ("command", self.command.is_some()),
            ("job", self.job.is_some()),
        ];
        match left.iter().find(|(_, given)| *given) {
            Some((field, _)) => Err(Error::invalid_field(*field, "does not go with the other fields")),
            None => Ok(()),
        }
    }
}

fn needed(field: &str) -> Error {
    Error::invalid_field(field, "is needed for this kind")
}

/// How an execution is run again.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
pub(crate) struct Retry {
    /// Only on targets where it failed or was not started.
    #[serde(default)]
    #[oai(default)]
    pub(crate) failed_only: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(json: &str) -> Result<Run> {
        serde_json::from_str::<NewExecution>(json).unwrap().into_core()
    }

    #[test]
    fn each_kind_takes_its_own_fields() {
        for good in [
            r#"{"kind":"script","script_id":"hello"}"#,
            r#"{"kind":"script","script_id":"hello","script_version":3}"#,
            r#"{"kind":"script","content":"echo hi","title":"hi","interpreter":"bash"}"#,
            r#"{"kind":"command","command":"uptime"}"#,
            r#"{"kind":"command","command":["echo","a b"],"params":{"A":1,"B":true,"C":"x","D":{"secret":"s"}}}"#,
            r#"{"kind":"job","job":"nightly","timeout":"5m","strategy":{"batch":"20%","max_failures":2}}"#,
        ] {
            assert!(run(good).is_ok(), "{good}");
        }
        for (bad, field) in [
            (r#"{"kind":"script"}"#, "script_id"),
            (r#"{"kind":"command"}"#, "command"),
            (r#"{"kind":"job"}"#, "job"),
            (r#"{"kind":"script","script_id":"a","content":"b"}"#, "content"),
            (r#"{"kind":"script","content":"b","script_version":1}"#, "script_version"),
            (r#"{"kind":"command","command":"x","job":"y"}"#, "job"),
            (r#"{"kind":"command","command":"x","timeout":"soon"}"#, "timeout"),
            (r#"{"kind":"script","content":"x","interpreter":"ruby"}"#, "interpreter"),
        ] {
            assert_eq!(run(bad).unwrap_err().fields()[0].field, field, "{bad}");
        }
    }

    #[test]
    fn a_parameter_is_a_scalar_or_a_secret() {
        for bad in ["null", "[1]", r#"{"secret":"x","more":1}"#, "{}"] {
            assert!(serde_json::from_str::<GivenParam>(bad).is_err(), "{bad}");
        }
        let secret: GivenParam = serde_json::from_str(r#"{"secret":"hunter2"}"#).unwrap();
        assert!(!format!("{secret:?}").contains("hunter2"));
        assert!(!serde_json::to_string(&secret).unwrap().contains("hunter2"));
    }
}
