//! Settings: where each one comes from, and which one counts. The only place of birun that reads
//! config files and the environment.
//!
//! A flag counts more than the environment, that more than the project's file, that more than the
//! user's file, that more than the default.

mod env;
mod files;
mod origin;
mod paths;
mod settings;

pub(crate) use env::Env;
use files::{ProjectFile, UserFile};
pub(crate) use origin::{Origin, Setting};
pub(crate) use paths::{Paths, home};
pub(crate) use settings::{DatabaseUse, Flags, KeySource, Reach, Settings, TokenSource};
