//! The data directory: everything that birun keeps on a machine.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::error::{CommandError, CommandResult};

/// The data directory, and what lies where in it.
#[derive(Clone, Debug)]
pub(crate) struct DataDir(PathBuf);

impl DataDir {
    /// The directory at this path, which need not exist.
    pub(crate) fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Makes the directory, for this user alone, if it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn create(&self) -> CommandResult {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.0);
        made.map_err(|error| {
            CommandError::file("make the data directory", &self.0, &error).hint("choose another one with  --data-dir")
        })
    }

    /// The directory itself.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The database file.
    pub(crate) fn database(&self) -> PathBuf {
        self.0.join("birun.db")
    }

    /// The database file as a URL.
    pub(crate) fn database_url(&self) -> String {
        format!("sqlite://{}", self.database().display())
    }

    /// The master key.
    pub(crate) fn key(&self) -> PathBuf {
        self.0.join("birun.key")
    }

    /// Where processes lock what they seal with.
    pub(crate) fn key_locks(&self) -> PathBuf {
        self.0.join("keys")
    }

    /// Locked by who rotates the master key.
    pub(crate) fn rekey_lock(&self) -> PathBuf {
        self.0.join("rekey.lock")
    }

    /// Where output is kept.
    pub(crate) fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    /// Where workers keep their locks.
    pub(crate) fn workers(&self) -> PathBuf {
        self.0.join("workers")
    }

    /// Locked by the server that owns the directory.
    pub(crate) fn serve_lock(&self) -> PathBuf {
        self.0.join("serve.lock")
    }

    /// Says how to reach that server.
    pub(crate) fn serve_file(&self) -> PathBuf {
        self.0.join("serve.json")
    }

    /// What workers that nobody watches say.
    pub(crate) fn worker_log(&self) -> PathBuf {
        self.0.join("worker.log")
    }
}
