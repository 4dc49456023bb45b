//! The forms in which data is written to stdout.

use serde_json::Value;

use crate::error::{CommandError, CommandResult};

/// A form in which data is written to stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// All columns.
    Wide,
    /// The API's resource, indented.
    Json,
    /// One line of JSON for each item or record.
    Jsonl,
    /// The API's resource as YAML.
    Yaml,
    /// Names only, one in a line (ids, where there are no names).
    Name,
}

impl Format {
    /// Whether people are to read it.
    pub(crate) const fn is_for_people(self) -> bool {
        matches!(self, Self::Table | Self::Wide)
    }

    /// The text of a value in a machine format; tables have none and are JSON here.
    pub(crate) fn serialize(self, value: &Value) -> CommandResult<String> {
        match self {
            Self::Yaml => serde_saphyr::to_string(value)
                .map_err(|error| CommandError::failed("the answer cannot be written as YAML").because(&error)),
            Self::Jsonl => Ok(format!("{value}\n")),
            _ => Ok(format!("{value:#}\n")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_machine_format_ends_with_one_newline() {
        let value = json!({"name": "web-1", "tags": ["prod", "yes"], "port": 22, "note": null, "text": "a\nb"});
        for format in [Format::Json, Format::Jsonl, Format::Yaml] {
            let text = format.serialize(&value).unwrap();
            assert!(text.ends_with('\n') && !text.ends_with("\n\n"), "{format:?}: {text:?}");
        }
    }

    #[test]
    fn yaml_keeps_texts_that_look_like_something_else() {
        let text = Format::Yaml.serialize(&json!({"a": "yes", "b": "1", "c": true})).unwrap();
        assert!(text.contains("\"yes\"") || text.contains("'yes'"), "{text}");
        assert!(text.contains("\"1\"") || text.contains("'1'"), "{text}");
    }
}
