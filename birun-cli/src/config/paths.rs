//! Where birun's files are.

use std::path::PathBuf;

use etcetera::BaseStrategy;

use crate::error::{CommandError, CommandResult};

/// The places that follow from the user's home directory.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    /// `$XDG_CONFIG_HOME/birun/config.toml`.
    pub(crate) user_file: PathBuf,
    /// `birun.toml` of the current directory.
    pub(crate) project_file: PathBuf,
    /// `$XDG_DATA_HOME/birun`.
    pub(crate) data_dir: PathBuf,
}

/// The user's home directory.
///
/// # Errors
/// When the user has none.
pub(crate) fn home() -> CommandResult<PathBuf> {
    etcetera::home_dir()
        .map_err(|error| CommandError::failed("no home directory is known").because(&error).hint("set HOME"))
}

impl Paths {
    /// The places of the user who runs this process.
    ///
    /// # Errors
    /// When the user has no home directory.
    pub(crate) fn find() -> CommandResult<Self> {
        let base = etcetera::base_strategy::Xdg::new()
            .map_err(|error| CommandError::failed("no home directory is known").because(&error).hint("set HOME"))?;
        Ok(Self {
            user_file: base.config_dir().join("birun/config.toml"),
            project_file: PathBuf::from("birun.toml"),
            data_dir: base.data_dir().join("birun"),
        })
    }
}
