//! Scripts on the wire.

use birun_core::inventory::TargetExpr;
use birun_core::script::{self, Content, ParamKind, ScriptSpec, ScriptSummary};
use birun_core::{Result, script::Interpreter};
use poem_openapi::Object;
use poem_openapi::types::MaybeUndefined;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::dto::settings::{Settings, millis, text};
use crate::dto::{new_value, parsed};
use crate::schema::{Timestamp, Word, in_field};

/// A script as it is now, with its newest version.
#[derive(Debug, Object)]
pub(crate) struct Script {
    id: Uuid,
    /// The last eight hex digits of the id.
    short_id: String,
    project_id: Uuid,
    /// Unique in the project.
    name: String,
    /// For people.
    description: String,
    /// The number of the newest version; versions count from 1.
    latest: u32,
    /// The body; left out of lists.
    #[oai(skip_serializing_if_is_none)]
    content: Option<String>,
    /// `shebang`, `sh`, `bash`, `python3`, or an absolute path.
    interpreter: String,
    /// What it takes.
    parameters: Vec<Parameter>,
    /// Where it runs when the caller does not say.
    #[oai(nullable)]
    targets: Option<String>,
    /// Limit of an execution when the caller does not say.
    #[oai(nullable)]
    timeout: Option<String>,
    settings: Settings,
    /// Rises by one with each change, of name and description too; the `ETag` says it too.
    version: u64,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl Script {
    /// A script with its newest version.
    pub(crate) fn of(script: script::Script, newest: ScriptSpec) -> Self {
        let (summary, content) = ScriptSummary::of(script, newest);
        Self { content: Some(content.as_str().to_owned()), ..Self::from(summary) }
    }
}

/// As lists show it.
impl From<ScriptSummary> for Script {
    fn from(summary: ScriptSummary) -> Self {
        let script = summary.script;
        Self {
            id: script.id.as_uuid(),
            short_id: script.id.short(),
            project_id: script.project_id.as_uuid(),
            name: script.name.to_string(),
            description: script.description,
            latest: script.latest,
            content: None,
            interpreter: summary.interpreter.to_string(),
            parameters: summary.parameters.into_iter().map(Parameter::from).collect(),
            targets: summary.targets.map(|targets| targets.to_string()),
            timeout: summary.timeout_ms.map(text),
            settings: summary.settings.into(),
            version: script.version,
            created_at: script.created_at.into(),
            updated_at: script.updated_at.into(),
        }
    }
}

/// A version of a script. It never changes.
#[derive(Debug, Object)]
pub(crate) struct ScriptVersion {
    /// Counts from 1 without gaps.
    pub(crate) number: u32,
    /// The body.
    content: String,
    /// `shebang`, `sh`, `bash`, `python3`, or an absolute path.
    interpreter: String,
    /// What it takes.
    parameters: Vec<Parameter>,
    /// Where it runs when the caller does not say.
    #[oai(nullable)]
    targets: Option<String>,
    /// Limit of an execution when the caller does not say.
    #[oai(nullable)]
    timeout: Option<String>,
    settings: Settings,
    created_at: Timestamp,
    /// The name of who made it.
    created_by: String,
}

impl From<script::ScriptVersion> for ScriptVersion {
    fn from(version: script::ScriptVersion) -> Self {
        Self {
            number: version.number,
            content: version.spec.content.as_str().to_owned(),
            interpreter: version.spec.interpreter.to_string(),
            parameters: version.spec.parameters.into_iter().map(Parameter::from).collect(),
            targets: version.spec.targets.map(|targets| targets.to_string()),
            timeout: version.spec.timeout_ms.map(text),
            settings: version.spec.settings.into(),
            created_at: version.created_at.into(),
            created_by: version.created_by,
        }
    }
}

/// Versions of a script, newest first.
#[derive(Debug, Object)]
pub(crate) struct ScriptVersions {
    /// The versions.
    pub(crate) items: Vec<ScriptVersion>,
    /// What to send as `before` for the next page; `null` on the last one.
    #[oai(nullable)]
    pub(crate) next: Option<u32>,
}

/// What a script says of one of its parameters.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameter {
    /// The environment variable that the script finds it in: `[A-Za-z_][A-Za-z0-9_]*`.
    name: String,
    #[serde(rename = "type")]
    #[oai(rename = "type")]
    kind: Word<ParamKind>,
    /// Whether a value must be given when there is no default.
    #[serde(default)]
    #[oai(default)]
    required: bool,
    /// The value when none is given; never for a secret.
    #[oai(nullable)]
    default: Option<Value>,
    /// A regular expression that the whole text must match.
    #[oai(nullable)]
    pattern: Option<String>,
    /// The texts to choose from.
    #[serde(default)]
    #[oai(default)]
    choices: Vec<String>,
    /// For people.
    #[serde(default)]
    #[oai(default)]
    description: String,
}

impl Parameter {
    fn into_core(self) -> Result<script::ParamSpec> {
        Ok(script::ParamSpec {
            name: parsed("parameters.name", &self.name)?,
            kind: self.kind.0,
            required: self.required,
            default: self.default,
            pattern: self.pattern,
            choices: self.choices,
            description: self.description,
        })
    }
}

impl From<script::ParamSpec> for Parameter {
    fn from(spec: script::ParamSpec) -> Self {
        Self {
            name: spec.name.to_string(),
            kind: Word(spec.kind),
            required: spec.required,
            default: spec.default,
            pattern: spec.pattern,
            choices: spec.choices,
            description: spec.description,
        }
    }
}

/// A script to be created.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewScript {
    /// Unique in the project.
    name: String,
    /// For people.
    #[serde(default)]
    #[oai(default)]
    description: String,
    /// The body: at most 1 MiB, without NUL.
    content: String,
    /// `shebang` (the default), `sh`, `bash`, `python3`, or an absolute path.
    interpreter: Option<String>,
    /// What it takes.
    #[serde(default)]
    #[oai(default)]
    parameters: Vec<Parameter>,
    /// Where it runs when the caller does not say: `tag:prod,!web-3`.
    targets: Option<String>,
    /// Limit of an execution when the caller does not say.
    timeout: Option<String>,
    settings: Option<Settings>,
}

impl NewScript {
    pub(crate) fn into_core(self) -> Result<script::NewScript> {
        let interpreter = self.interpreter.as_deref().map(interpreter).transpose()?;
        Ok(script::NewScript {
            name: parsed("name", &self.name)?,
            description: self.description,
            spec: ScriptSpec {
                content: content(self.content)?,
                interpreter: interpreter.unwrap_or_default(),
                parameters: specs(self.parameters)?,
                targets: self.targets.as_deref().map(targets).transpose()?,
                timeout_ms: self.timeout.as_deref().map(timeout).transpose()?,
                settings: self.settings.unwrap_or_default().into_core()?,
            },
        })
    }
}

/// A change of a script: what is left out stays. A change of anything but name and description makes a version,
/// unless nothing differs.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScriptPatch {
    /// The new name.
    name: Option<String>,
    /// The new description.
    description: Option<String>,
    /// The new body.
    content: Option<String>,
    /// The new interpreter.
    interpreter: Option<String>,
    /// The new parameters, replacing the old ones.
    parameters: Option<Vec<Parameter>>,
    /// The new default targets; `null` takes them away.
    #[serde(default)]
    #[oai(nullable)]
    targets: MaybeUndefined<String>,
    /// The new default limit; `null` takes it away.
    #[serde(default)]
    #[oai(nullable)]
    timeout: MaybeUndefined<String>,
    /// The new settings, replacing the old ones.
    settings: Option<Settings>,
}

impl ScriptPatch {
    pub(crate) fn into_core(self) -> Result<script::ScriptPatch> {
        Ok(script::ScriptPatch {
            name: self.name.map(|text| parsed("name", &text)).transpose()?,
            description: self.description,
            content: self.content.map(content).transpose()?,
            interpreter: self.interpreter.as_deref().map(interpreter).transpose()?,
            parameters: self.parameters.map(specs).transpose()?,
            targets: new_value(self.targets, |text| targets(&text))?,
            timeout_ms: new_value(self.timeout, |text| timeout(&text))?,
            settings: self.settings.map(Settings::into_core).transpose()?,
        })
    }
}

fn content(text: String) -> Result<Content> {
    in_field("content", Content::new(text))
}

pub(crate) fn interpreter(text: &str) -> Result<Interpreter> {
    parsed("interpreter", text)
}

fn targets(text: &str) -> Result<TargetExpr> {
    parsed("targets", text)
}

pub(crate) fn timeout(text: &str) -> Result<u64> {
    millis("timeout", text)
}

fn specs(parameters: Vec<Parameter>) -> Result<Vec<script::ParamSpec>> {
    parameters.into_iter().map(Parameter::into_core).collect()
}
