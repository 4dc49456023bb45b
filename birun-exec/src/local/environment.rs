//! What a local program finds in its environment before its own variables are set.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use birun_core::id::StepId;

use crate::bootstrap::DIRECTORY;

/// The variables that every local program begins with: never one of birun's own.
#[derive(Debug)]
pub(super) struct Environment(Vec<(OsString, OsString)>);

impl Environment {
    /// Takes variables, and leaves out `BIRUN_*`: the engine's keys and tokens may be among them.
    pub(super) fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self(variables.into_iter().filter(|(name, _)| !name.as_bytes().starts_with(b"BIRUN_")).collect())
    }

    /// The variables.
    pub(super) fn variables(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.0.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }

    /// Where the private directory of a step may stand.
    pub(super) fn private_directories(&self, step: StepId) -> impl Iterator<Item = PathBuf> {
        let chosen = ["XDG_RUNTIME_DIR", "TMPDIR"].into_iter().filter_map(|name| self.get(name));
        let parents = chosen.map(Path::new).chain([Path::new("/tmp")]).filter(|parent| parent.is_absolute());
        parents.map(move |parent| parent.join(format!("{DIRECTORY}{step}")))
    }

    fn get(&self, name: &str) -> Option<&OsStr> {
        self.variables().find(|(known, _)| *known == name).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_engines_own_is_left_out() {
        let variables =
            [("PATH", "/bin"), ("BIRUN_MASTER_KEY", "k"), ("TMPDIR", "/var/tmp"), ("XDG_RUNTIME_DIR", "run")];
        let environment = Environment::new(variables.map(|(name, value)| (name.into(), value.into())));
        let names: Vec<&OsStr> = environment.variables().map(|(name, _)| name).collect();
        assert_eq!(names, ["PATH", "TMPDIR", "XDG_RUNTIME_DIR"]);
    }

    #[test]
    fn a_private_directory_has_an_absolute_place() {
        let step = StepId::new();
        let variables = [("TMPDIR", "/var/tmp"), ("XDG_RUNTIME_DIR", "run")];
        let environment = Environment::new(variables.map(|(name, value)| (name.into(), value.into())));
        let places: Vec<PathBuf> = environment.private_directories(step).collect();
        assert_eq!(places, ["/var/tmp", "/tmp"].map(|parent| PathBuf::from(format!("{parent}/birun-{step}"))));
    }
}
