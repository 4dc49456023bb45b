//! The environment, read once.

use std::collections::BTreeMap;
use std::ffi::OsString;

/// Every variable that birun knows; no other is read.
const KNOWN: [&str; 15] = [
    "BIRUN_COLOR",
    "BIRUN_CONTEXT",
    "BIRUN_DATABASE_URL",
    "BIRUN_DATA_DIR",
    "BIRUN_FAILPOINT",
    "BIRUN_MASTER_KEY",
    "BIRUN_MASTER_KEY_FILE",
    "BIRUN_OUTPUT",
    "BIRUN_SERVER",
    "BIRUN_TOKEN",
    "DATABASE_URL",
    "LOGNAME",
    "NO_COLOR",
    "SSH_AUTH_SOCK",
    "USER",
];

/// What the environment says.
#[derive(Clone, Default)]
pub(crate) struct Env(BTreeMap<&'static str, String>);

impl Env {
    /// Reads the environment of this process. An empty variable counts as absent.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
    pub(crate) fn read() -> Self {
        Self(KNOWN.iter().filter_map(|name| Some((*name, std::env::var(name).ok()?))).collect::<BTreeMap<_, _>>())
            .without_empty()
    }

    /// What scripts on this machine begin with: everything but birun's own variables, and the
    /// address of a database, which may hold a password.
    pub(crate) fn for_scripts() -> impl Iterator<Item = (OsString, OsString)> {
        std::env::vars_os()
            .filter(|(name, _)| name != "DATABASE_URL" && !name.as_encoded_bytes().starts_with(b"BIRUN_"))
    }

    /// The value of a variable.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The name of the user, as the local audit log knows it.
    pub(crate) fn user(&self) -> String {
        self.get("USER").or_else(|| self.get("LOGNAME")).unwrap_or("local").to_owned()
    }

    fn without_empty(mut self) -> Self {
        self.0.retain(|_, value| !value.is_empty());
        self
    }

    #[cfg(test)]
    pub(crate) fn of(pairs: &[(&'static str, &str)]) -> Self {
        Self(pairs.iter().map(|(name, value)| (*name, (*value).to_owned())).collect())
    }
}

/// Names only: values may be secrets.
impl std::fmt::Debug for Env {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
