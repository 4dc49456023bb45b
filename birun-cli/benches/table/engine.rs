//! Engines to measure on, and no-op executions through them.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use birun_core::Gate;
use birun_core::engine::{Engine, Roles};
use birun_core::execution::{Run, Running};
use birun_core::inventory::HostKeyPolicy;
use birun_exec::SshExecutor;
use birun_store::log::FileLogs;
use birun_store::{SqlStore, StoreOptions};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::Outcome;

/// The job that does nothing.
pub(crate) const NOOP: &str = "no-op";

/// An engine that runs.
pub(crate) struct Started {
    pub(crate) engine: Engine,
    running: Running,
}

impl Started {
    /// Starts an engine with the job that does nothing.
    pub(crate) async fn with_noop(store: SqlStore) -> Outcome<Self> {
        // Servers name an executor, even where only closures run on them.
        let ssh = SshExecutor::builder(HostKeyPolicy::Strict).build()?;
        let engine = Engine::builder(store).executor(ssh).job(NOOP, |_| async { Ok(()) }).build().await?;
        Self::start(engine).await
    }

    pub(crate) async fn start(engine: Engine) -> Outcome<Self> {
        let running = engine.start(Roles::all()).await?;
        Ok(Self { engine, running })
    }

    /// Resolves when nothing runs and nothing is queued.
    pub(crate) async fn idle(&self) {
        self.running.idle().await;
    }

    pub(crate) async fn stop(self) -> Outcome {
        Ok(self.running.shutdown(Duration::from_secs(30)).await?)
    }
}

/// A directory on the disk that the build is on; one in memory would measure nothing durable.
pub(crate) fn directory() -> Outcome<TempDir> {
    Ok(TempDir::new_in(env!("CARGO_TARGET_TMPDIR"))?)
}

pub(crate) async fn sqlite(directory: &Path) -> Outcome<SqlStore> {
    migrated(SqlStore::open(&format!("sqlite://{}", directory.join("birun.db").display())).await?).await
}

pub(crate) async fn postgres(url: &str, directory: &Path) -> Outcome<SqlStore> {
    let options =
        StoreOptions { logs: Some(Arc::new(FileLogs::new(directory.join("logs"))?)), ..StoreOptions::default() };
    migrated(SqlStore::open_with(url, options).await?).await
}

async fn migrated(store: SqlStore) -> Outcome<SqlStore> {
    store.migrate().await?;
    Ok(store)
}

/// No-op executions from submit to outcome: how many a second so many submitters get through, each
/// one after the other.
pub(crate) async fn noop_rate(engine: &Engine, submitters: usize, time: Duration) -> Outcome<f64> {
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..submitters {
        tasks.spawn(submit_until(engine.system(), begin + time));
    }
    let mut done: u32 = 0;
    while let Some(count) = tasks.join_next().await {
        done += count??;
    }
    Ok(f64::from(done) / begin.elapsed().as_secs_f64())
}

async fn submit_until(gate: Gate, end: Instant) -> Outcome<u32> {
    let mut done = 0;
    while Instant::now() < end {
        gate.run(Run::job(NOOP)).await?.outcome().await?.into_result()?;
        done += 1;
    }
    Ok(done)
}
