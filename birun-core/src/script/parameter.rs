//! Typed parameters: what a script takes, and what a caller gives.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use crate::error::{Error, ErrorCode, Result};
use crate::text_enum::text_enum;
use crate::vault::Secret;

/// Largest size of all parameters of an execution together, in bytes.
pub(crate) const MAX_PARAMS: usize = 128 * 1024;

/// Names by which programs are found or shells are set up, and names that shells keep to themselves:
/// what is assigned to those is refused, or is something else when the script looks.
const REFUSED: &str = "PATH IFS ENV SHELLOPTS BASHOPTS BASHPID _ UID EUID PPID GROUPS DIRSTACK EPOCHREALTIME \
    EPOCHSECONDS FUNCNAME HISTCMD LINENO OPTIND PIPESTATUS RANDOM SECONDS SHLVL SRANDOM";
const REFUSED_PREFIXES: [&str; 5] = ["BIRUN_", "BASH_", "LD_", "DYLD_", "PYTHON"];

/// The name of a parameter, which becomes an environment variable: `[A-Za-z_][A-Za-z0-9_]*`.
///
/// Names that would change how programs are found or loaded are refused, and `BIRUN_*`, which is birun's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(transparent)]
pub struct EnvName(String);

impl EnvName {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// One of birun's own variables: `BIRUN_` and this suffix.
    #[must_use]
    pub fn own(suffix: &'static str) -> Self {
        Self(format!("BIRUN_{suffix}"))
    }
}

impl FromStr for EnvName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let shown = text.escape_default();
        let mut chars = text.chars();
        let alphabet = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            && chars.all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !alphabet || text.len() > 128 {
            return Err(Error::invalid(format!("`{shown}` cannot be a parameter's name"))
                .with_hint("it becomes an environment variable: letters, digits and underscores, no digit first"));
        }
        let refused = REFUSED.split_ascii_whitespace().any(|name| name == text);
        if refused || REFUSED_PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
            return Err(Error::invalid(format!("`{shown}` is reserved and cannot be a parameter's name")).with_hint(
                "PATH, IFS, ENV, what shells keep to themselves (UID, RANDOM, …), BIRUN_*, BASH_*, LD_*, DYLD_* \
                     and PYTHON* are not for parameters",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for EnvName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for EnvName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // birun's own names never come from outside, but they do come back from storage.
        text.parse().map_err(serde::de::Error::custom)
    }
}

text_enum! {
    /// The type of a parameter.
    pub enum ParamKind {
        /// Any text without NUL.
        Text = "text",
        /// A finite number.
        Number = "number",
        /// True or false; the script sees `true` or `false`.
        Boolean = "boolean",
        /// One of the listed texts.
        Choice = "choice",
        /// A text that is sealed at rest and masked in output.
        Secret = "secret",
    }
}

/// What a script says of one of its parameters.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParamSpec {
    /// Its name.
    pub name: EnvName,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: ParamKind,
    /// Whether a value must be given when there is no default.
    #[serde(default)]
    pub required: bool,
    /// The value when none is given; never for a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// A regular expression that the whole text must match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// The texts to choose from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// A value as a caller gives it.
#[derive(Clone, Debug)]
pub enum ParamValue {
    /// In clear.
    Plain(Value),
    /// To be sealed and masked, whatever the script says of it.
    Secret(Secret),
}

/// Parameters that were checked against their script.
#[derive(Clone, Debug, Default)]
pub struct BoundParams {
    /// In clear, in their types.
    pub plain: BTreeMap<EnvName, Value>,
    /// To be sealed and masked.
    pub secret: BTreeMap<EnvName, Secret>,
}

impl BoundParams {
    /// The parameters as records show them: secrets as `"***"`.
    #[must_use]
    pub fn public(&self) -> BTreeMap<EnvName, Value> {
        let mut shown = self.plain.clone();
        shown.extend(self.secret.keys().map(|name| (name.clone(), Value::from("***"))));
        shown
    }
}

/// Checks a script's own parameter list.
///
/// # Errors
/// `invalid`, with a field for each fault.
pub(crate) fn check_specs(specs: &[ParamSpec]) -> Result<()> {
    let mut faults = Faults::default();
    for (index, spec) in specs.iter().enumerate() {
        let place = format!("parameters.{}", spec.name);
        if specs.iter().take(index).any(|earlier| earlier.name == spec.name) {
            faults.add(&place, "is declared twice");
        }
        if (spec.kind == ParamKind::Choice) == spec.choices.is_empty() {
            faults.add(&place, "a choice, and only a choice, lists its choices");
        }
        if spec.pattern.is_some() && !matches!(spec.kind, ParamKind::Text | ParamKind::Secret) {
            faults.add(&place, "only a text or a secret has a pattern");
        }
        if let Some(Err(error)) = spec.pattern.as_deref().map(compile) {
            faults.add(&place, &format!("the pattern is not a regular expression: {error}"));
            continue;
        }
        match &spec.default {
            Some(_) if spec.kind == ParamKind::Secret => faults.add(&place, "a secret has no default"),
            Some(value) => {
                if let Err(why) = check_value(spec, value) {
                    faults.add(&place, &format!("the default {why}"));
                }
            }
            None => {}
        }
    }
    faults.into_result(ErrorCode::Invalid)
}

/// Checks what a caller gives against what the script declares, and fills in defaults.
///
/// Without `specs` (an ad-hoc script or command) every name is taken, as text.
///
/// # Errors
/// `unknown_parameter`, `missing_parameter`, `too_large` or `invalid`, with a field for each fault.
/// No message holds a secret value.
pub(crate) fn bind(specs: Option<&[ParamSpec]>, given: BTreeMap<EnvName, ParamValue>) -> Result<BoundParams> {
    check_size(&given)?;
    let Some(specs) = specs else { return bind_free(given) };
    let mut given = given;
    let mut bound = BoundParams::default();
    let mut faults = Faults::default();
    for spec in specs {
        bind_one(spec, given.remove(&spec.name), &mut bound, &mut faults);
    }
    if let Some(unknown) = given.keys().next() {
        let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        let known =
            if names.is_empty() { "it takes none".to_owned() } else { format!("it takes {}", names.join(", ")) };
        return Err(Error::new(ErrorCode::UnknownParameter, format!("the script has no parameter `{unknown}`"))
            .with_field(format!("params.{unknown}"), "the script has no such parameter")
            .with_hint(known));
    }
    let code = if faults.only_missing { ErrorCode::MissingParameter } else { ErrorCode::Invalid };
    faults.into_result(code)?;
    Ok(bound)
}

fn bind_free(given: BTreeMap<EnvName, ParamValue>) -> Result<BoundParams> {
    let mut bound = BoundParams::default();
    let mut faults = Faults::default();
    for (name, value) in given {
        match value {
            ParamValue::Secret(secret) if secret.expose().contains('\0') => {
                faults.add(&format!("params.{name}"), "holds a NUL");
            }
            ParamValue::Secret(secret) => drop(bound.secret.insert(name, secret)),
            ParamValue::Plain(value) => match text_of(&value) {
                Some(text) if !text.contains('\0') => drop(bound.plain.insert(name, value)),
                Some(_) => faults.add(&format!("params.{name}"), "holds a NUL"),
                None => faults.add(&format!("params.{name}"), "must be a text, a number or a boolean"),
            },
        }
    }
    faults.into_result(ErrorCode::Invalid)?;
    Ok(bound)
}

fn bind_one(spec: &ParamSpec, given: Option<ParamValue>, bound: &mut BoundParams, faults: &mut Faults) {
    let place = format!("params.{}", spec.name);
    let value = match given {
        Some(ParamValue::Secret(secret)) => {
            match check_value(spec, &Value::from(secret.expose())) {
                Ok(_) => drop(bound.secret.insert(spec.name.clone(), secret)),
                // The reason may repeat the value.
                Err(_) => faults.add(&place, &format!("is not a valid {}", spec.kind)),
            }
            return;
        }
        Some(ParamValue::Plain(value)) => Some(value),
        None => spec.default.clone(),
    };
    match value {
        Some(value) => match check_value(spec, &value) {
            Ok(value) if spec.kind == ParamKind::Secret => {
                let text = value.as_str().unwrap_or_default();
                bound.secret.insert(spec.name.clone(), Secret::new(text));
            }
            Ok(value) => drop(bound.plain.insert(spec.name.clone(), value)),
            Err(_) if spec.kind == ParamKind::Secret => faults.add(&place, "is not a valid secret"),
            Err(why) => faults.add(&place, &why),
        },
        None if spec.required => faults.missing(&place),
        None => {}
    }
}

/// Checks a value against its parameter and brings it into its type; texts are accepted for every
/// type, since that is all a command line has. The reason may repeat the value: it is not told of a secret.
fn check_value(spec: &ParamSpec, value: &Value) -> Result<Value, String> {
    match spec.kind {
        ParamKind::Text | ParamKind::Secret => {
            let text = match (spec.kind, value) {
                (_, Value::String(text)) => text.clone(),
                (ParamKind::Text, Value::Number(number)) => number.to_string(),
                (ParamKind::Text, Value::Bool(truth)) => truth.to_string(),
                _ => return Err("must be a text".to_owned()),
            };
            if text.contains('\0') {
                return Err("holds a NUL".to_owned());
            }
            match &spec.pattern {
                Some(pattern) if !compile(pattern).is_ok_and(|regex| regex.is_match(&text)) => {
                    Err(format!("does not match the pattern {pattern}"))
                }
                _ => Ok(Value::from(text)),
            }
        }
        ParamKind::Number => match value {
            Value::Number(_) => Ok(value.clone()),
            Value::String(text) => text
                .parse::<serde_json::Number>()
                .map(Value::Number)
                .map_err(|_| format!("`{}` is not a number", text.escape_default())),
            _ => Err("must be a number".to_owned()),
        },
        ParamKind::Boolean => match value {
            Value::Bool(_) => Ok(value.clone()),
            Value::String(text) if text == "true" => Ok(Value::Bool(true)),
            Value::String(text) if text == "false" => Ok(Value::Bool(false)),
            _ => Err("must be true or false".to_owned()),
        },
        ParamKind::Choice => match value.as_str() {
            Some(text) if spec.choices.iter().any(|choice| choice == text) => Ok(value.clone()),
            _ => Err(format!("must be one of {}", spec.choices.join(", "))),
        },
    }
}

/// The text that a script sees for a value.
#[must_use]
pub(crate) fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn compile(pattern: &str) -> Result<regex::Regex, regex::Error> {
    regex::RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(1 << 20).build()
}

fn check_size(given: &BTreeMap<EnvName, ParamValue>) -> Result<()> {
    let size: usize = given
        .iter()
        .map(|(name, value)| {
            let value = match value {
                ParamValue::Secret(secret) => secret.expose().len(),
                ParamValue::Plain(Value::String(text)) => text.len(),
                ParamValue::Plain(other) => other.to_string().len(),
            };
            name.as_str().len() + value + 2
        })
        .sum();
    if size <= MAX_PARAMS {
        return Ok(());
    }
    let why = format!("{size} bytes, at most {MAX_PARAMS} are allowed");
    Err(Error::new(ErrorCode::TooLarge, format!("params: {why}")).with_field("params", why))
}

/// Collects every fault, so that a caller mends all of them at once.
#[derive(Default)]
struct Faults {
    found: Vec<(String, String)>,
    only_missing: bool,
}

impl Faults {
    fn add(&mut self, field: &str, why: &str) {
        self.found.push((field.to_owned(), why.to_owned()));
        self.only_missing = false;
    }

    fn missing(&mut self, field: &str) {
        self.only_missing = self.found.is_empty() || self.only_missing;
        self.found.push((field.to_owned(), "is required and was not given".to_owned()));
    }

    fn into_result(self, code: ErrorCode) -> Result<()> {
        if self.found.is_empty() {
            return Ok(());
        }
        let lines: Vec<String> = self.found.iter().map(|(field, why)| format!("{field}: {why}")).collect();
        let error = Error::new(code, lines.join("; "));
        Err(self.found.into_iter().fold(error, |error, (field, why)| error.with_field(field, why)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn specs(value: Value) -> Vec<ParamSpec> {
        serde_json::from_value(value).unwrap()
    }

    fn given(pairs: &[(&str, Value)]) -> BTreeMap<EnvName, ParamValue> {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), ParamValue::Plain(value.clone()))).collect()
    }

    #[test]
    fn values_are_brought_into_their_types() {
        let specs = specs(json!([
            {"name": "LIMIT", "type": "number", "default": 80},
            {"name": "DRY", "type": "boolean", "default": false},
            {"name": "ENVIRONMENT", "type": "choice", "choices": ["dev", "prod"], "required": true},
            {"name": "TOKEN", "type": "secret"},
        ]));
        let bound = bind(
            Some(&specs),
            given(&[("DRY", json!("true")), ("ENVIRONMENT", json!("prod")), ("TOKEN", json!("hunter2"))]),
        )
        .unwrap();
        assert_eq!(
            Value::Object(bound.public().into_iter().map(|(k, v)| (k.to_string(), v)).collect()),
            json!({"LIMIT": 80, "DRY": true, "ENVIRONMENT": "prod", "TOKEN": "***"})
        );
        assert_eq!(bound.secret.len(), 1);
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let specs = specs(json!([
            {"name": "A", "type": "number"},
            {"name": "B", "type": "text", "pattern": "[a-z]+"},
            {"name": "C", "type": "text", "required": true},
        ]));
        let error = bind(Some(&specs), given(&[("A", json!("many")), ("B", json!("x1"))])).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Invalid);
        let fields: Vec<&str> = error.fields().iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, ["params.A", "params.B", "params.C"]);
    }

    #[test]
    fn unknown_and_missing_parameters_have_codes_of_their_own() {
        let specs = specs(json!([{"name": "A", "type": "text", "required": true}]));
        assert_eq!(bind(Some(&specs), given(&[])).unwrap_err().code(), ErrorCode::MissingParameter);
        let error = bind(Some(&specs), given(&[("A", json!("x")), ("Z", json!("x"))])).unwrap_err();
        assert_eq!(error.code(), ErrorCode::UnknownParameter);
        assert_eq!(error.hint(), Some("it takes A"));
    }

    #[test]
    fn a_refused_secret_is_not_repeated() {
        for kind in ["text", "number", "boolean", "choice", "secret"] {
            let mut spec = json!({"name": "TOKEN", "type": kind});
            match kind {
                "text" | "secret" => spec["pattern"] = json!("[0-9]+"),
                "choice" => spec["choices"] = json!(["a", "b"]),
                _ => {}
            }
            let specs = specs(json!([spec]));
            let secret = || ParamValue::Secret(Secret::new("hunter2"));
            let plain = || ParamValue::Plain(json!("hunter2"));
            let values = if kind == "secret" { vec![secret(), plain()] } else { vec![secret()] };
            for value in values {
                let error = bind(Some(&specs), BTreeMap::from([("TOKEN".parse().unwrap(), value)])).unwrap_err();
                assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
                assert_eq!(error.fields()[0].message, format!("is not a valid {kind}"));
            }
        }
    }

    #[test]
    fn names_that_change_how_programs_are_found_are_refused() {
        for bad in [
            "PATH",
            "IFS",
            "_",
            "UID",
            "LD_PRELOAD",
            "BASH_ENV",
            "BIRUN_STEP_ID",
            "PYTHONPATH",
            "A=B",
            "",
            "1A",
            "A B",
            "A\n",
        ] {
            assert!(bad.parse::<EnvName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_parameter_list_is_checked_as_a_whole() {
        for bad in [
            json!([{"name": "A", "type": "choice"}]),
            json!([{"name": "A", "type": "text", "choices": ["x"]}]),
            json!([{"name": "A", "type": "text", "pattern": "("}]),
            json!([{"name": "A", "type": "number", "default": "x"}]),
            json!([{"name": "A", "type": "secret", "default": "x"}]),
            json!([{"name": "A", "type": "text"}, {"name": "A", "type": "text"}]),
        ] {
            assert!(check_specs(&specs(bad.clone())).is_err(), "{bad}");
        }
    }
}
