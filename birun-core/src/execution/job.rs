//! Jobs: plain Rust of the embedding program, run as executions.

use std::fmt::{self, Debug};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use std::collections::BTreeMap;

use crate::execution::{OutputClosed, OutputSender, Stream};
use crate::id::{ExecutionId, StepId};
use crate::script::EnvName;
use tokio_util::sync::CancellationToken;

/// What a job's closure may fail with.
pub type JobError = Box<dyn std::error::Error + Send + Sync>;

type JobFuture = Pin<Box<dyn Future<Output = Result<(), JobError>> + Send>>;

/// A registered closure.
#[derive(Clone)]
pub struct Job(Arc<dyn Fn(JobContext) -> JobFuture + Send + Sync>);

impl Job {
    /// Wraps a closure. Its error becomes the step's detail; a panic ends only its own step.
    pub fn new<F, Fut>(closure: F) -> Self
    where
        F: Fn(JobContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), JobError>> + Send + 'static,
    {
        Self(Arc::new(move |context| Box::pin(closure(context))))
    }

    /// Starts it.
    pub(crate) fn call(&self, context: JobContext) -> JobFuture {
        (self.0)(context)
    }
}

impl Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Job")
    }
}

/// What a job is given.
#[derive(Debug)]
pub struct JobContext {
    /// The execution it runs in.
    pub execution: ExecutionId,
    /// The step it is.
    pub step: StepId,
    /// Counts from 1.
    pub attempt: u32,
    /// The parameters, secret ones in clear.
    pub params: BTreeMap<EnvName, Value>,
    pub(crate) output: OutputSender,
    pub(crate) stop: CancellationToken,
}

impl JobContext {
    /// Writes a line of output, visible to followers at once. Secret parameters are masked in it.
    ///
    /// # Errors
    /// [`OutputClosed`] when the output cannot be stored any more: return.
    pub async fn print(&self, line: impl Into<String>) -> Result<(), OutputClosed> {
        let mut text = line.into();
        text.push('\n');
        self.output.send(Stream::Stdout, Bytes::from(text)).await
    }

    /// Resolves when the job is to stop: cancelled, out of time, or its worker drains.
    ///
    /// A job that does not watch it is dropped at its next await when the grace time is over.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }
}
