//! Plain Rust as a job: retried, logged and recorded like any other run.
#![expect(clippy::print_stdout, reason = "an example shows what it did")]

use std::error::Error;
use std::time::Duration;

use birun_core::engine::{Engine, Roles};
use birun_core::execution::{JobContext, Run, StepFilter};
use birun_core::script::RunSettings;
use birun_store::SqlStore;

/// Fails the first time, as the outside world does.
async fn nightly_report(cx: JobContext) -> Result<(), Box<dyn Error + Send + Sync>> {
    cx.print(format!("attempt {}", cx.attempt)).await?;
    if cx.attempt == 1 {
        return Err("the printer is on fire".into());
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = SqlStore::memory().await?;
    store.migrate().await?;
    let engine = Engine::builder(store).job("nightly-report", nightly_report).build().await?;
    let running = engine.start(Roles::all()).await?;

    let mut settings = RunSettings::default();
    settings.retry.max_attempts = 3;
    settings.retry.backoff.initial_ms = 10;
    let run = engine.system().run(Run::job("nightly-report").settings(settings)).await?;
    let execution = run.outcome().await?.into_result()?;

    for step in engine.system().steps(&execution.id.into(), &StepFilter::default(), 0, 100).await? {
        println!("attempt {}: {} {}", step.attempt, step.status, step.detail.unwrap_or_default());
    }

    running.shutdown(Duration::from_secs(10)).await?;
    Ok(())
}
