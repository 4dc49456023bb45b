//! Parameters of a run: `-p LIMIT=80`, `-p TOKEN=@token.txt`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use birun_core::script::ParamKind;
use birun_core::vault::Secret;
use serde_json::{Map, Value, json};

use super::{read_secret_file, read_text, read_value};
use crate::error::{CommandError, CommandResult};
use crate::ui::Ui;

/// Parameters, as given on the command line.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct ParamArgs {
    /// A parameter. The script sees it as an environment variable.
    ///
    /// NAME=VALUE gives it in clear. NAME=@FILE reads it from a file, NAME=@- from stdin (without the
    /// line end at its end), and NAME alone asks for it: such a value is a secret, sealed at rest and
    /// masked in the output, unless a stored script declares the parameter with another type. A value
    /// that begins with @ is written with two: NAME=@@home.
    #[arg(short = 'p', long = "param", value_name = "NAME=VALUE")]
    params: Vec<String>,

    /// A file with parameters: an object in JSON, or NAME = VALUE lines in TOML.
    #[arg(long, value_name = "FILE")]
    params_file: Option<PathBuf>,
}

impl ParamArgs {
    /// Whether any are given.
    pub(crate) const fn is_empty(&self) -> bool {
        self.params.is_empty() && self.params_file.is_none()
    }

    /// Whether stdin is read for one of them.
    pub(crate) fn reads_stdin(&self) -> bool {
        self.stdin_readers() > 0
    }

    fn stdin_readers(&self) -> usize {
        let file = self.params_file.iter().filter(|path| path.as_path() == Path::new("-"));
        self.params.iter().filter(|param| param.ends_with("=@-")).count() + file.count()
    }

    /// The parameters as the API takes them. `declared` are those of a stored script: the values of
    /// secret ones never stand on the command line, where every user of the machine sees them.
    ///
    /// # Errors
    /// When a parameter cannot be read or is given twice, or a secret stands on the command line.
    pub(crate) fn read(&self, ui: &Ui, declared: &BTreeMap<String, ParamKind>) -> CommandResult<Value> {
        if self.stdin_readers() > 1 {
            return Err(CommandError::usage("stdin cannot be read for several parameters")
                .hint("put all but one of them into files"));
        }
        let mut all = match &self.params_file {
            Some(path) => read_file(path)?.into_iter().map(|(name, value)| from_file(name, value, declared)).collect(),
            None => Map::new(),
        };
        let mut given = BTreeSet::new();
        for text in &self.params {
            let (name, value) = text.split_once('=').map_or((text.as_str(), None), |(name, value)| (name, Some(value)));
            if !given.insert(name) {
                return Err(CommandError::usage(format!("the parameter `{name}` is given twice"))
                    .hint("give each parameter once"));
            }
            all.insert(name.to_owned(), read_param(ui, name, value, declared.get(name).copied())?);
        }
        Ok(Value::Object(all))
    }
}

fn plain_secret(name: &str) -> CommandError {
    CommandError::usage(format!("`{name}` is a secret, and the command line is no place for one"))
        .hint(format!("give it with  -p {name}=@FILE,  -p {name}=@-  (stdin),  or  -p {name}  to be asked"))
}

/// One parameter as the API takes it: from a file or stdin, from a question, or from the command line.
fn read_param(ui: &Ui, name: &str, value: Option<&str>, kind: Option<ParamKind>) -> CommandResult<Value> {
    let Some(value) = value else {
        let answer = Secret::new(ui.secret(&format!("{name}:"), &format!("-p {name}=@FILE"))?);
        return Ok(if is_open(kind) { json!(answer.expose()) } else { hidden(&answer) });
    };
    match value.strip_prefix('@') {
        Some(path) if !path.starts_with('@') && is_open(kind) => Ok(json!(read_value(Path::new(path))?.expose())),
        Some(path) if !path.starts_with('@') => Ok(hidden(&read_secret_file(Path::new(path))?)),
        _ if kind == Some(ParamKind::Secret) => Err(plain_secret(name)),
        escaped => Ok(json!(escaped.unwrap_or(value))),
    }
}

/// Whether a script declares such a parameter as something else than a secret. Where no script declares
/// it, a value that does not stand on the command line is taken for one.
fn is_open(kind: Option<ParamKind>) -> bool {
    kind.is_some_and(|kind| kind != ParamKind::Secret)
}

fn hidden(secret: &Secret) -> Value {
    json!({"secret": secret.expose()})
}

/// A value of a file may be a secret: the file is not the command line.
fn from_file(name: String, value: Value, declared: &BTreeMap<String, ParamKind>) -> (String, Value) {
    let value = match value {
        Value::String(text) if declared.get(&name) == Some(&ParamKind::Secret) => hidden(&Secret::new(text)),
        other => other,
    };
    (name, value)
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

    fn read(params: &[&str], file: Option<&str>, declared: &[(&str, ParamKind)]) -> CommandResult<Value> {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in [("token", "hunter2\n"), ("limit", "80\n"), ("empty", "")] {
            std::fs::write(dir.path().join(name), content).unwrap();
        }
        let params_file = file.map(|text| {
            let path = dir.path().join("params");
            std::fs::write(&path, text).unwrap();
            path
        });
        let there = format!("@{}/", dir.path().display());
        let params = params.iter().map(|param| param.replace("@./", &there)).collect();
        let declared = declared.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect();
        ParamArgs { params, params_file }.read(&ui(), &declared)
    }

    #[test]
    fn values_are_plain_or_secret_as_they_are_given() {
        let given = ["LIMIT=80", "TOKEN=@./token", "AT=@@home", "EMPTY=", "X=a=b"];
        let value = read(&given, None, &[("TOKEN", ParamKind::Secret)]).unwrap();
        let expected = json!({"LIMIT": "80", "TOKEN": {"secret": "hunter2"}, "AT": "@home", "EMPTY": "", "X": "a=b"});
        assert_eq!(value, expected);
    }

    #[test]
    fn a_value_from_a_file_is_of_the_declared_type_and_else_a_secret() {
        for kind in [ParamKind::Text, ParamKind::Number, ParamKind::Boolean, ParamKind::Choice] {
            assert_eq!(read(&["N=@./limit"], None, &[("N", kind)]).unwrap(), json!({"N": "80"}), "{kind}");
        }
        for declared in [&[("N", ParamKind::Secret)][..], &[]] {
            assert_eq!(read(&["N=@./limit"], None, declared).unwrap(), json!({"N": {"secret": "80"}}));
            assert_eq!(read(&["N=@./empty"], None, declared).unwrap_err().exit(), Exit::USAGE);
        }
        assert_eq!(read(&["N=@./empty"], None, &[("N", ParamKind::Text)]).unwrap(), json!({"N": ""}));
    }

    #[test]
    fn a_parameter_is_given_once_and_stdin_is_read_once() {
        for (params, named) in [
            (["N=1", "N=2"], "`N` is given twice"),
            (["N=1", "N=@./limit"], "`N` is given twice"),
            (["N=@-", "M=@-"], "stdin cannot be read for several parameters"),
        ] {
            let error = read(&params, None, &[]).unwrap_err();
            assert_eq!(error.exit(), Exit::USAGE);
            assert!(format!("{error:?}").contains(named), "{error:?}");
        }
    }

    #[test]
    fn a_secret_on_the_command_line_is_refused_and_not_repeated() {
        let error = read(&["TOKEN=hunter2"], None, &[("TOKEN", ParamKind::Secret)]).unwrap_err();
        assert_eq!(error.exit(), Exit::USAGE);
        assert!(!format!("{error:?}").contains("hunter2"));
    }

    #[test]
    fn a_file_gives_values_of_every_type_and_the_command_line_overrides_it() {
        let expected = json!({"LIMIT": "90", "DRY": true, "TOKEN": {"secret": "hunter2"}});
        for file in [r#"{"LIMIT": 80, "DRY": true, "TOKEN": "hunter2"}"#, "LIMIT = 80\nDRY = true\nTOKEN = 'hunter2'"] {
            assert_eq!(read(&["LIMIT=90"], Some(file), &[("TOKEN", ParamKind::Secret)]).unwrap(), expected);
        }
        assert_eq!(read(&[], Some("{"), &[]).unwrap_err().exit(), Exit::USAGE);
    }

    #[test]
    fn a_name_alone_asks_where_someone_can_answer() {
        assert_eq!(read(&["TOKEN"], None, &[]).unwrap_err().exit(), Exit::USAGE);
    }
}
