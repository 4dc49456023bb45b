//! Parameters of a run: `-p LIMIT=80`, `-p TOKEN=@token.txt`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use birun_core::vault::Secret;
use serde_json::{Map, Value, json};

use super::{read_secret_file, read_text};
use crate::error::{CommandError, CommandResult};
use crate::ui::Ui;

/// Parameters, as given on the command line.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct ParamArgs {
    /// A parameter. The script sees it as an environment variable.
    ///
    /// NAME=VALUE gives it in clear. NAME=@FILE reads a secret from a file, NAME=@- from stdin, and
    /// NAME alone asks for it. Secrets are sealed at rest and masked in the output. A value that
    /// begins with @ is written with two: NAME=@@home.
    #[arg(short = 'p', long = "param", value_name = "NAME=VALUE")]
    params: Vec<String>,

    /// A file with parameters: an object in JSON, or NAME = VALUE lines in TOML.
    #[arg(long, value_name = "FILE")]
    params_file: Option<PathBuf>,
}

/// A value as the user gave it.
enum Given {
    Plain(Value),
    /// From a file, stdin or a question.
    Secret(Secret),
}

impl ParamArgs {
    /// Whether any are given.
    pub(crate) const fn is_empty(&self) -> bool {
        self.params.is_empty() && self.params_file.is_none()
    }

    /// Whether stdin is read for one of them.
    pub(crate) fn reads_stdin(&self) -> bool {
        self.params.iter().any(|param| param.ends_with("=@-"))
            || self.params_file.as_deref().is_some_and(|path| path == Path::new("-"))
    }

    /// The parameters as the API takes them. `secret` names those that the script declares secret:
    /// their values never stand on the command line, where every user of the machine sees them.
    ///
    /// # Errors
    /// When a parameter cannot be read, or a secret stands on the command line.
    pub(crate) fn read(&self, ui: &Ui, secret: &BTreeSet<String>) -> CommandResult<Value> {
        let mut all: BTreeMap<String, Given> = match &self.params_file {
            Some(path) => read_file(path)?.into_iter().map(|(name, value)| from_file(name, value, secret)).collect(),
            None => BTreeMap::new(),
        };
        for text in &self.params {
            let (name, given) = read_param(ui, text)?;
            if secret.contains(&name) && matches!(given, Given::Plain(_)) {
                return Err(plain_secret(&name));
            }
            all.insert(name, given);
        }
        let values = all.into_iter().map(|(name, given)| match given {
            Given::Plain(value) => (name, value),
            Given::Secret(value) => (name, json!({"secret": value.expose()})),
        });
        Ok(Value::Object(values.collect()))
    }
}

fn plain_secret(name: &str) -> CommandError {
    CommandError::usage(format!("`{name}` is a secret, and the command line is no place for one"))
        .hint(format!("give it with  -p {name}=@FILE,  -p {name}=@-  (stdin),  or  -p {name}  to be asked"))
}

fn read_param(ui: &Ui, text: &str) -> CommandResult<(String, Given)> {
    let Some((name, value)) = text.split_once('=') else {
        let answer = ui.secret(&format!("{text}:"), &format!("-p {text}=@FILE"))?;
        return Ok((text.to_owned(), Given::Secret(Secret::new(answer))));
    };
    let given = match value.strip_prefix('@') {
        Some(rest) if rest.starts_with('@') => Given::Plain(json!(rest)),
        Some(path) => Given::Secret(read_secret_file(Path::new(path))?),
        None => Given::Plain(json!(value)),
    };
    Ok((name.to_owned(), given))
}

/// A value of a file may be a secret: the file is not the command line.
fn from_file(name: String, value: Value, secret: &BTreeSet<String>) -> (String, Given) {
    let given = match (value.as_str(), value.get("secret").and_then(Value::as_str)) {
        (_, Some(text)) => Given::Secret(Secret::new(text)),
        (Some(text), None) if secret.contains(&name) => Given::Secret(Secret::new(text)),
        _ => Given::Plain(value),
    };
    (name, given)
}

fn read_file(path: &Path) -> CommandResult<Map<String, Value>> {
    let text = read_text(path)?;
    let refuse = |error: &dyn std::fmt::Display| {
        CommandError::usage(format!("{}: {}", path.display(), error.to_string().trim_end()))
    };
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(&text).map_err(|error| refuse(&error));
    }
    toml::from_str(&text).map_err(|error| refuse(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;
    use crate::ui::{ColorChoice, Format, Manner};

    fn ui() -> Ui {
        Ui::new(Manner {
            format: Format::Table,
            color: ColorChoice::Never,
            quiet: false,
            verbose: false,
            yes: false,
            no_input: true,
        })
    }

    fn read(params: &[&str], file: Option<&str>, secret: &[&str]) -> CommandResult<Value> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("token"), "hunter2\n").unwrap();
        let params_file = file.map(|text| {
            let path = dir.path().join("params");
            std::fs::write(&path, text).unwrap();
            path
        });
        let params =
            params.iter().map(|param| param.replace("@token", &format!("@{}/token", dir.path().display()))).collect();
        ParamArgs { params, params_file }.read(&ui(), &secret.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn values_are_plain_or_secret_as_they_are_given() {
        let value = read(&["LIMIT=80", "TOKEN=@token", "AT=@@home", "EMPTY=", "X=a=b"], None, &["TOKEN"]).unwrap();
        let expected = json!({"LIMIT": "80", "TOKEN": {"secret": "hunter2"}, "AT": "@home", "EMPTY": "", "X": "a=b"});
        assert_eq!(value, expected);
    }

    #[test]
    fn a_secret_on_the_command_line_is_refused_and_not_repeated() {
        let error = read(&["TOKEN=hunter2"], None, &["TOKEN"]).unwrap_err();
        assert_eq!(error.exit(), Exit::USAGE);
        assert!(!format!("{error:?}").contains("hunter2"));
    }

    #[test]
    fn a_file_gives_values_of_every_type_and_the_command_line_overrides_it() {
        let expected = json!({"LIMIT": "90", "DRY": true, "TOKEN": {"secret": "hunter2"}});
        for file in [r#"{"LIMIT": 80, "DRY": true, "TOKEN": "hunter2"}"#, "LIMIT = 80\nDRY = true\nTOKEN = 'hunter2'"] {
            assert_eq!(read(&["LIMIT=90"], Some(file), &["TOKEN"]).unwrap(), expected);
        }
        assert_eq!(read(&[], Some("{"), &[]).unwrap_err().exit(), Exit::USAGE);
    }

    #[test]
    fn a_name_alone_asks_where_someone_can_answer() {
        assert_eq!(read(&["TOKEN"], None, &[]).unwrap_err().exit(), Exit::USAGE);
    }
}
