//! What a script says of a parameter, in one word: `LIMIT:number=80`.

use crate::input::put;
use birun_core::script::{EnvName, ParamKind};
use serde_json::{Value, json};

/// Reads `NAME[:TYPE][?][=DEFAULT]`. Without a default the parameter is required, unless a question
/// mark says otherwise. A choice lists its choices: `LEVEL:choice(low|high)=low`.
pub(crate) fn parse_spec(text: &str) -> Result<Value, String> {
    let (head, default) = match text.split_once('=') {
        Some((head, default)) => (head, Some(default)),
        None => (text, None),
    };
    let (head, optional) = head.strip_suffix('?').map_or((head, false), |head| (head, true));
    let (name, kind) = head.split_once(':').unwrap_or((head, "text"));
    let name: EnvName = name.parse().map_err(|error: birun_core::Error| error.to_string())?;
    let (kind, choices) = match kind.strip_prefix("choice(").and_then(|rest| rest.strip_suffix(')')) {
        Some(list) => ("choice", list.split('|').map(str::trim).collect()),
        None => (kind, Vec::new()),
    };
    let kind: ParamKind = kind.parse().map_err(|error: birun_core::Error| format!("the type {error}"))?;
    let mut spec = json!({"name": name, "type": kind, "required": default.is_none() && !optional});
    if let Some(default) = default {
        put(&mut spec, "default", typed(kind, default));
    }
    if !choices.is_empty() {
        put(&mut spec, "choices", json!(choices));
    }
    Ok(spec)
}

/// The default in its type; what does not fit is left for the API to refuse.
fn typed(kind: ParamKind, text: &str) -> Value {
    match kind {
        ParamKind::Number => text.parse().map(Value::Number).unwrap_or_else(|_| json!(text)),
        ParamKind::Boolean => text.parse().map(Value::Bool).unwrap_or_else(|_| json!(text)),
        _ => json!(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_declared_in_a_word() {
        for (text, expected) in [
            ("NAME", json!({"name": "NAME", "type": "text", "required": true})),
            ("NAME?", json!({"name": "NAME", "type": "text", "required": false})),
            ("LIMIT:number=80", json!({"name": "LIMIT", "type": "number", "required": false, "default": 80})),
            ("DRY:boolean=false", json!({"name": "DRY", "type": "boolean", "required": false, "default": false})),
            ("TOKEN:secret", json!({"name": "TOKEN", "type": "secret", "required": true})),
            (
                "URL=https://x?y=1",
                json!({"name": "URL", "type": "text", "required": false, "default": "https://x?y=1"}),
            ),
            (
                "LEVEL:choice(low|high)=low",
                json!({"name": "LEVEL", "type": "choice", "required": false, "default": "low", "choices": ["low", "high"]}),
            ),
        ] {
            assert_eq!(parse_spec(text).unwrap(), expected, "{text}");
        }
        for bad in ["", "1A", "PATH", "A:list", "A:"] {
            assert!(parse_spec(bad).is_err(), "{bad}");
        }
    }
}
