//! The engine on this machine.

use std::sync::Arc;

use birun_core::engine::{Engine, EngineBuilder, Limits};
use birun_core::inventory::HostKeyPolicy;
use birun_core::{Store, StoreError};
use birun_exec::LocalExecutor;
use birun_exec::ssh::{SshBuilder, SshExecutor, SshKeys};
use birun_store::log::FileLogs;
use birun_store::{SqlStore, StoreOptions};

use super::master_key::{place_of, take_keys};
use super::{DataDir, Detached};
use crate::config::{Env, Settings};
use crate::error::{CommandError, CommandResult};

/// What an engine is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To drive what this process submits, and keep it from others.
    Own,
    /// To ask and to change records; what is submitted is left to others.
    Ask,
    /// To drive whatever there is, so much at once.
    Work { slots: u32 },
}

/// An engine that was opened, and not started.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) engine: Engine,
    /// The worker that can go on with its work after this process.
    pub(crate) detached: Detached,
}

/// Opens the engine that the settings name, over its store.
///
/// # Errors
/// When the store cannot be opened, has another schema, or does not fit the key.
pub(crate) async fn open_engine(settings: &Settings, purpose: Purpose) -> CommandResult<Opened> {
    let dir = DataDir::at(&settings.data_dir.value);
    dir.create()?;
    let store: Arc<dyn Store> = Arc::new(open_store(settings, &dir).await?);
    let mut keys = take_keys(&settings.key, &dir, store.as_ref()).await?.into_iter();
    let ssh = SshExecutor::builder(HostKeyPolicy::Strict);
    let ssh = settings.agent.iter().fold(ssh, SshBuilder::agent).build()?;
    let mut builder = Engine::builder_over(store)
        .executor(LocalExecutor::with_environment(Env::for_scripts()))
        .executor(ssh)
        .credential_inspector(SshKeys)
        .worker_name(worker_name());
    builder = match purpose {
        Purpose::Own => builder.keep_to_itself(),
        Purpose::Ask => builder,
        Purpose::Work { slots } => builder.limits(Limits { slots, ..Limits::default() }),
    };
    if let Some(newest) = keys.next() {
        builder = keys.fold(builder.master_key(newest), EngineBuilder::former_master_key);
    }
    let engine = builder.build().await.map_err(|error| explain(error, settings, &dir))?;
    Ok(Opened { engine, detached: Detached { dir, database_url: settings.database_url.value.clone() } })
}

/// Opens the store as it is.
///
/// # Errors
/// When it cannot be opened.
pub(crate) async fn connect_store(settings: &Settings, dir: &DataDir) -> CommandResult<SqlStore> {
    let options = StoreOptions {
        logs: Some(Arc::new(FileLogs::new(dir.logs())?)),
        workers: Some(dir.workers()),
        ..StoreOptions::default()
    };
    SqlStore::open_with(&url_of(settings, dir), options).await.map_err(|error| match error {
        // What the settings say is no database's address.
        StoreError::Conflict { why } => {
            CommandError::usage(why).hint("a database is  sqlite://FILE  or  postgres://USER@HOST/NAME")
        }
        error => error.into(),
    })
}

/// Opens the store; a SQLite file, which is birun's own, is brought to the present schema. A
/// PostgreSQL database is its owner's, who says when.
async fn open_store(settings: &Settings, dir: &DataDir) -> CommandResult<SqlStore> {
    let store = connect_store(settings, dir).await?;
    if url_of(settings, dir).starts_with("sqlite:") {
        store.migrate().await?;
    }
    Ok(store)
}

fn url_of(settings: &Settings, dir: &DataDir) -> String {
    settings.database_url.value.clone().unwrap_or_else(|| dir.database_url())
}

fn worker_name() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{host}-{}", std::process::id())
}

/// Says which key did not fit.
fn explain(error: birun_core::Error, settings: &Settings, dir: &DataDir) -> CommandError {
    let mismatch = error.code() == birun_core::ErrorCode::KeyMismatch;
    let error = CommandError::from(error);
    if mismatch {
        error.hint(format!("the key that was tried is {}", place_of(&settings.key, dir).display()))
    } else {
        error
    }
}
