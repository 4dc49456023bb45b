//! A started engine for tests of embedding programs.

use std::time::Duration;

use crate::engine::{Engine, EngineBuilder, Roles};
use crate::error::Result;
use crate::execution::{Run, RunOutcome, Running};
use crate::gate::Gate;

/// An engine that runs: built, started, and shut down at the end of a test.
///
/// ```ignore
/// let engine = TestEngine::start(Engine::builder(SqlStore::memory().await?).job("ping", ping)).await?;
/// let outcome = engine.run(Run::job("ping")).await?;
/// assert_eq!(outcome.execution.status, ExecutionStatus::Succeeded);
/// engine.shutdown().await?;
/// ```
#[derive(Debug)]
pub struct TestEngine {
    engine: Engine,
    running: Running,
}

impl TestEngine {
    /// Builds and starts an engine with all its parts.
    ///
    /// # Errors
    /// Those of [`EngineBuilder::build`] and [`Engine::start`].
    pub async fn start(builder: EngineBuilder) -> Result<Self> {
        let engine = builder.build().await?;
        let running = engine.start(Roles::all()).await?;
        Ok(Self { engine, running })
    }

    /// The engine.
    #[must_use]
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Everything that can be done, as the system.
    #[must_use]
    pub fn gate(&self) -> Gate {
        self.engine.system()
    }

    /// Runs something to its end.
    ///
    /// # Errors
    /// Those of [`Gate::run`]; a run that fails is data.
    pub async fn run(&self, run: Run) -> Result<RunOutcome> {
        self.gate().run(run).await?.outcome().await
    }

    /// Stops the engine; what runs has ten seconds.
    ///
    /// # Errors
    /// Those of [`Running::shutdown`].
    pub async fn shutdown(self) -> Result<()> {
        self.shutdown_within(Duration::from_secs(10)).await
    }

    /// Stops the engine; what runs has so long.
    ///
    /// # Errors
    /// Those of [`Running::shutdown`].
    pub async fn shutdown_within(self, drain: Duration) -> Result<()> {
        self.running.shutdown(drain).await
    }
}
