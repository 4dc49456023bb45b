//! birun itself, on the wire.

use birun_core::execution::{self, ExecutionStatus, Retention};
use birun_core::{Error, Result, vault};
use chrono::TimeDelta;
use poem_openapi::Object;
use serde::Deserialize;

use crate::dto::settings::millis;
use crate::schema::Word;

/// Whether birun lives.
#[derive(Debug, Object)]
pub(crate) struct Health {
    /// `ok`
    pub(crate) status: String,
}

/// Whether birun can do its work.
#[derive(Debug, Object)]
pub(crate) struct Readiness {
    /// `ok`, or `unavailable`
    pub(crate) status: String,
    /// Part by part; only for callers with a credential.
    pub(crate) checks: Vec<Check>,
}

/// One part that birun needs.
#[derive(Debug, Object)]
pub(crate) struct Check {
    /// `database`, `queue`, or `key`
    pub(crate) name: String,
    pub(crate) ok: bool,
    /// Why it is not.
    #[oai(nullable)]
    pub(crate) message: Option<String>,
}

/// How birun stands.
#[derive(Debug, Object)]
pub(crate) struct Status {
    /// The version of birun.
    version: String,
    queue: Queue,
    /// The workers that are alive.
    workers: Vec<Worker>,
}

/// How many executions stand how.
#[derive(Debug, Object)]
pub(crate) struct Queue {
    /// Waiting for a worker.
    queued: u64,
    /// Waiting for their time.
    waiting: u64,
    /// Driven by workers.
    running: u64,
}

/// A worker that is alive.
#[derive(Debug, Object)]
pub(crate) struct Worker {
    name: String,
    /// How many executions it drives at once.
    slots: u32,
}

impl From<execution::QueueState> for Status {
    fn from(state: execution::QueueState) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            queue: Queue { queued: state.queued, waiting: state.waiting, running: state.running },
            workers: state.workers.into_iter().map(|(name, slots)| Worker { name, slots }).collect(),
        }
    }
}

/// What is kept when history is pruned. What is left out has its default.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
pub(crate) struct Prune {
    /// Ended executions are kept so long after their end; `30d` if not given.
    executions: Option<String>,
    /// The newest so many of each subject are kept whatever their age; 20 if not given.
    keep_per_subject: Option<u32>,
    /// Only executions with these statuses are deleted; empty: all that have ended.
    #[serde(default)]
    #[oai(default)]
    status: Vec<Word<ExecutionStatus>>,
    /// Audit entries are kept so long; `400d` if not given.
    audit: Option<String>,
}

impl Prune {
    pub(crate) fn into_core(self) -> Result<Retention> {
        let usual = Retention::default();
        let length = |field: &str, text: Option<String>, usual| text.map_or(Ok(usual), |text| delta(field, &text));
        Ok(Retention {
            executions: length("executions", self.executions, usual.executions)?,
            keep_per_subject: self.keep_per_subject.unwrap_or(usual.keep_per_subject),
            status: self.status.into_iter().map(|word| word.0).collect(),
            audit: length("audit", self.audit, usual.audit)?,
        })
    }
}

fn delta(field: &str, text: &str) -> Result<TimeDelta> {
    let millis = millis(field, text)?;
    let delta = i64::try_from(millis).ok().and_then(TimeDelta::try_milliseconds);
    delta.ok_or_else(|| Error::invalid_field(field, "is too long"))
}

/// What was deleted.
#[derive(Debug, Object)]
pub(crate) struct Pruned {
    /// Executions, with their steps and output.
    executions: u64,
    /// Entries of the audit log.
    audit_entries: u64,
}

impl From<execution::Pruned> for Pruned {
    fn from(pruned: execution::Pruned) -> Self {
        Self { executions: pruned.executions, audit_entries: pruned.audit_entries }
    }
}

/// What was sealed anew.
#[derive(Debug, Object)]
pub(crate) struct Rekeyed {
    /// Values that are under the newest master key now, and were under another one.
    resealed: u64,
    /// Values that stay under another key: none of the keys opens them, or others keep writing them.
    left: u64,
}

impl From<vault::Rekeyed> for Rekeyed {
    fn from(rekeyed: vault::Rekeyed) -> Self {
        Self { resealed: rekeyed.resealed, left: rekeyed.left }
    }
}
