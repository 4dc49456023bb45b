//! The two config files.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::error::{CommandError, CommandResult};
use crate::ui::{ColorChoice, Format};

/// What only the user may decide: a project that was checked out must not choose where its own
/// scripts run, or with which rights.
const NOT_FOR_PROJECTS: [&str; 6] = ["server", "token", "context", "contexts", "data_dir", "database_url"];

/// `$XDG_CONFIG_HOME/birun/config.toml`.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct UserFile {
    /// The context to use when nobody says otherwise.
    pub(crate) context: Option<String>,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) database_url: Option<String>,
    pub(crate) output: Option<Format>,
    pub(crate) color: Option<ColorChoice>,
    pub(crate) request_timeout: Option<String>,
    /// The servers that this user works with, by name.
    pub(crate) contexts: BTreeMap<String, ContextEntry>,
}

/// A server that this user works with.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ContextEntry {
    /// Its address: `https://birun.example.com`.
    pub(crate) server: String,
    /// The file that holds the token.
    pub(crate) token_file: Option<PathBuf>,
}

/// `birun.toml` of the current directory.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ProjectFile {
    pub(crate) output: Option<Format>,
    pub(crate) color: Option<ColorChoice>,
    pub(crate) request_timeout: Option<String>,
}

impl UserFile {
    /// Reads the file; one that does not exist says nothing.
    ///
    /// # Errors
    /// When it cannot be read, or says something that birun does not understand.
    pub(crate) fn read(path: &Path) -> CommandResult<Self> {
        parse(path, &text_of(path)?)
    }
}

impl ProjectFile {
    /// Reads the file; one that does not exist says nothing.
    ///
    /// # Errors
    /// As [`UserFile::read`], and when it sets what only the user may set.
    pub(crate) fn read(path: &Path) -> CommandResult<Self> {
        let text = text_of(path)?;
        let table: toml::Table = parse(path, &text)?;
        if let Some(key) = NOT_FOR_PROJECTS.iter().find(|key| table.contains_key(**key)) {
            return Err(CommandError::usage(format!("{} may not set `{key}`", path.display())).hint(
                "a project does not decide where its scripts run; set it in your own config file, or with a flag",
            ));
        }
        parse(path, &text)
    }
}

fn text_of(path: &Path) -> CommandResult<String> {
    match std::fs::read_to_string(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(String::new())
        }
        read => read.map_err(|error| CommandError::unreadable("read", path, &error)),
    }
}

fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> CommandResult<T> {
    toml::from_str(text)
        .map_err(|error| CommandError::usage(format!("{}: {}", path.display(), error.to_string().trim_end())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::CommandError;

    fn project(text: &str) -> CommandResult<ProjectFile> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("birun.toml");
        std::fs::write(&path, text).unwrap();
        ProjectFile::read(&path)
    }

    fn message(error: CommandError) -> String {
        match error {
            CommandError::Failed(failure) => failure.message,
            CommandError::Ended(exit) => format!("{exit:?}"),
        }
    }

    #[test]
    fn a_project_may_not_say_where_its_scripts_run() {
        for key in NOT_FOR_PROJECTS {
            let error = project(&format!("{key} = 'x'")).unwrap_err();
            assert!(message(error).ends_with(&format!("may not set `{key}`")));
        }
        assert_eq!(project("output = 'json'").unwrap().output, Some(Format::Json));
    }

    #[test]
    fn a_fault_in_a_file_shows_the_line_and_a_caret() {
        let text = message(project("output = 'json'\ncolour = 'always'").unwrap_err());
        assert!(text.contains("line 2") && text.contains('^') && text.contains("colour"), "{text}");
    }

    #[test]
    fn a_file_that_does_not_exist_says_nothing() {
        assert_eq!(ProjectFile::read(Path::new("/nowhere/birun.toml")).unwrap().output, None);
    }
}
