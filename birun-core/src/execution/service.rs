//! What callers can do with executions, besides starting them.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use crate::error::{Error, ErrorCode, Result};
use crate::execution::follow::RunHandle;
use crate::execution::{
    Cancelled, Execution, ExecutionFilter, ExecutionStatus, PrunePolicy, Reason, Step, StepFilter, StepStatus, Worker,
    metrics,
};
use crate::gate::Gate;
use crate::id::{Selector, WorkerId};
use crate::identity::Permission;
use crate::page::{Page, PageRequest};

/// Executions that are deleted in one transaction.
const PRUNE_BATCH: u32 = 200;
/// Steps that are looked at together.
const STEPS_AT_ONCE: u32 = 500;

/// What is kept when history is pruned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Ended executions are kept so long after their end.
    pub executions: TimeDelta,
    /// The newest so many of each subject are kept whatever their age.
    pub keep_per_subject: u32,
    /// Only executions with these statuses are deleted; empty = every terminal one.
    pub status: Vec<ExecutionStatus>,
    /// Audit entries are kept so long.
    pub audit: TimeDelta,
}

impl Default for Retention {
    fn default() -> Self {
        Self { executions: TimeDelta::days(30), keep_per_subject: 20, status: Vec::new(), audit: TimeDelta::days(400) }
    }
}

/// What was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Pruned {
    /// Number of executions, with their steps and output.
    pub executions: u64,
    /// Number of audit entries.
    pub audit_entries: u64,
}

/// How the queue and its workers stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueState {
    /// Executions that wait for a worker.
    pub queued: u64,
    /// Executions that wait for their time.
    pub waiting: u64,
    /// Executions that workers drive.
    pub running: u64,
    /// Names and slots of the workers that are alive.
    pub workers: Vec<(String, u32)>,
}

impl Gate {
    /// One execution.
    ///
    /// # Errors
    /// `not_found`; `conflict` if a part of an id fits several.
    pub async fn execution(&self, selector: &Selector) -> Result<Execution> {
        let scope = self.authorize(Permission::ExecutionRead).await?;
        Ok(self.shared.store.execution(&scope, selector).await?)
    }

    /// Executions, newest first.
    ///
    /// # Errors
    /// What storage answers.
    pub async fn executions(&self, filter: &ExecutionFilter, page: PageRequest) -> Result<Page<Execution>> {
        let scope = self.authorize(Permission::ExecutionRead).await?;
        Ok(self.shared.store.executions(&scope, filter, page).await?)
    }

    /// Steps of an execution, by ordinal: from `from` on, at most `limit` (1 to 10,000).
    ///
    /// # Errors
    /// `not_found`; `invalid` for the limit.
    pub async fn steps(&self, selector: &Selector, filter: &StepFilter, from: u32, limit: u32) -> Result<Vec<Step>> {
        let scope = self.authorize(Permission::ExecutionRead).await?;
        if !(1..=10_000).contains(&limit) {
            return Err(Error::invalid_field("limit", "must be between 1 and 10000"));
        }
        let execution = self.shared.store.execution(&scope, selector).await?;
        Ok(self.shared.store.steps(&scope, execution.id, filter, from, limit).await?)
    }

    /// A handle on an execution, to follow it or wait for it.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn attach(&self, selector: &Selector) -> Result<RunHandle> {
        let scope = self.authorize(Permission::ExecutionRead).await?;
        let execution = self.shared.store.execution(&scope, selector).await?;
        let pulses = self.shared.hub.listen(execution.id);
        let execution = self.shared.store.execution(&scope, &execution.id.into()).await?;
        Ok(RunHandle::new(Arc::clone(&self.shared), scope, execution, pulses))
    }

    /// Asks for an execution to be cancelled, and answers it as it stands then. One that runs ends
    /// `cancelled` a little later: after TERM, grace, KILL and a look whether its processes are gone.
    /// Asking twice is the same as once.
    ///
    /// # Errors
    /// `not_found`; `conflict` if it had ended otherwise before.
    pub async fn cancel(&self, selector: &Selector) -> Result<Execution> {
        let scope = self.authorize(Permission::ExecutionCancel).await?;
        let store = &self.shared.store;
        let execution = store.execution(&scope, selector).await?;
        let audit = self.audit("execution.cancel").on(execution.id, execution.subject.title.as_str());
        match store.cancel(&scope, execution.id, self.shared.clock.now(), &audit).await? {
            Cancelled::AlreadyEnded(ExecutionStatus::Cancelled) => {}
            Cancelled::Now => {
                metrics::execution_ended(ExecutionStatus::Cancelled);
                self.shared.hub.ended(execution.id, || None);
            }
            Cancelled::AlreadyEnded(status) => {
                return Err(Error::new(
                    ErrorCode::Conflict,
                    format!("execution {} has ended already: {status}", execution.id.short()),
                ));
            }
            Cancelled::Requested => {
                self.shared.active.cancel(execution.id);
                self.shared.hub.state_moved(execution.id);
            }
        }
        Ok(store.execution(&scope, &execution.id.into()).await?)
    }

    /// Deletes an ended execution with its steps and its output.
    ///
    /// # Errors
    /// `not_found`; `conflict` if it has not ended.
    pub async fn delete_execution(&self, selector: &Selector) -> Result<()> {
        let scope = self.authorize(Permission::ExecutionDelete).await?;
        let execution = self.shared.store.execution(&scope, selector).await?;
        if !execution.status.is_terminal() {
            return Err(Error::new(
                ErrorCode::Conflict,
                format!("the execution {} has not ended", execution.id.short()),
            ));
        }
        // Output goes first: nobody could name it without its execution.
        self.shared.store.logs().delete(execution.id).await?;
        let audit = self.audit("execution.delete").on(execution.id, execution.subject.title.as_str());
        Ok(self.shared.store.delete_execution(&scope, execution.id, &audit).await?)
    }

    /// Deletes what retention gives up, in many small transactions; freed space goes back to the disk.
    ///
    /// Output goes before its execution: a crash in the middle leaves executions without output at
    /// worst, which the next prune deletes.
    ///
    /// # Errors
    /// What storage answers; what was deleted before stays deleted.
    pub async fn prune(&self, retention: &Retention) -> Result<Pruned> {
        let scope = self.authorize(Permission::ExecutionDelete).await?;
        if let Some(status) = retention.status.iter().find(|status| !status.is_terminal()) {
            return Err(Error::invalid_field("status", format!("`{status}` executions have not ended")));
        }
        let policy = policy(retention, self.shared.clock.now());
        let store = &self.shared.store;
        // An audit log that was tampered with is kept, and keeps nothing else from being deleted.
        let cut = self.cut_audit_log(policy.audit_before).await;
        let mut pruned = Pruned::default();
        loop {
            let given_up = store.given_up(&scope, &policy, PRUNE_BATCH).await?;
            for id in &given_up {
                store.logs().delete(*id).await?;
            }
            let audit = self.audit("execution.prune").after(json!({"ended_before": policy.ended_before}));
            let report = store.prune(&scope, &given_up, &policy, PRUNE_BATCH, &audit).await?;
            pruned.executions += report.executions;
            pruned.audit_entries += report.audit_entries;
            let most = report.executions.max(report.audit_entries).max(report.keys);
            if most < u64::from(PRUNE_BATCH) {
                pruned.audit_entries += cut?;
                return Ok(pruned);
            }
        }
    }

    /// Why an execution does not go on, in words; `None` if a worker drives it or it has ended. One of
    /// which every started step waits for a place does not go on either.
    ///
    /// # Errors
    /// What storage answers.
    pub async fn why(&self, execution: &Execution) -> Result<Option<String>> {
        let scope = self.authorize(Permission::ExecutionRead).await?;
        match execution.status {
            ExecutionStatus::Queued => self.why_queued(&scope, execution).await.map(Some),
            ExecutionStatus::Running => match self.why_orphaned(&scope, execution).await? {
                None => self.why_waiting(&scope, execution).await,
                why => Ok(why),
            },
            ExecutionStatus::Waiting => {
                let what = match execution.reason {
                    Some(Reason::RetryScheduled) => "the next attempt",
                    _ => "its time",
                };
                let at = execution.wake_at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
                Ok(Some(format!("waits for {what} at {at}")))
            }
            _ => Ok(None),
        }
    }

    /// Why nothing of a started execution runs: what the first of its started steps waits for.
    async fn why_waiting(&self, scope: &crate::gate::Scope, execution: &Execution) -> Result<Option<String>> {
        let running = StepFilter { status: vec![StepStatus::Running], ..StepFilter::default() };
        let mut why = None;
        let mut from = 0;
        loop {
            let steps = self.shared.store.steps(scope, execution.id, &running, from, STEPS_AT_ONCE).await?;
            for step in &steps {
                let Some(detail) = &step.detail else { return Ok(None) };
                why.get_or_insert_with(|| format!("{} waits: {detail}", step.target));
            }
            match steps.last() {
                Some(last) if steps.len() == STEPS_AT_ONCE as usize => from = last.ordinal + 1,
                _ => return Ok(why),
            }
        }
    }

    async fn why_queued(&self, scope: &crate::gate::Scope, execution: &Execution) -> Result<String> {
        let workers = self.shared.store.workers(scope).await?;
        if !workers.iter().any(|worker| can_take(worker, execution, &workers)) {
            return Ok("no worker is running; start one with  birun worker,  or  birun serve".to_owned());
        }
        Ok(match self.shared.store.queued_before(scope, execution).await? {
            0 => "is next; waits for a worker's free slot".to_owned(),
            1 => "queued behind 1 execution".to_owned(),
            ahead => format!("queued behind {ahead} executions"),
        })
    }

    async fn why_orphaned(&self, scope: &crate::gate::Scope, execution: &Execution) -> Result<Option<String>> {
        let Some(why) = orphaned(execution, &self.shared.store.workers(scope).await?) else { return Ok(None) };
        // A worker that has done its work takes its leave: between the two looks, perhaps.
        let now = self.shared.store.execution(scope, &execution.id.into()).await?;
        let goes_on = (now.status, now.epoch) != (execution.status, execution.epoch);
        Ok((!goes_on).then(|| why.to_owned()))
    }

    /// How the queue and its workers stand.
    ///
    /// # Errors
    /// What storage answers.
    pub async fn queue(&self) -> Result<QueueState> {
        let scope = self.authorize(Permission::ExecutionRead).await?;
        let store = &self.shared.store;
        let workers = store.workers(&scope).await?.into_iter().filter(|worker| worker.alive);
        let state = QueueState {
            queued: store.count_by_status(&scope, ExecutionStatus::Queued).await?,
            waiting: store.count_by_status(&scope, ExecutionStatus::Waiting).await?,
            running: store.count_by_status(&scope, ExecutionStatus::Running).await?,
            workers: workers.map(|worker| (worker.registration.name, worker.registration.slots)).collect(),
        };
        metrics::queue_seen(state.queued, state.waiting, state.running);
        Ok(state)
    }
}

/// Whether a worker lives.
fn lives(id: WorkerId, workers: &[Worker]) -> bool {
    workers.iter().any(|worker| worker.alive && worker.registration.id == id)
}

/// Whether a worker may take a queued execution: its own, and if it takes more than that, what is
/// nobody's and what was kept for a worker that died.
fn can_take(worker: &Worker, execution: &Execution, workers: &[Worker]) -> bool {
    let own = execution.home == Some(worker.registration.id);
    let left = execution.home.is_none_or(|home| !lives(home, workers));
    worker.alive && (own || (left && !worker.registration.home_only))
}

/// Why a running execution does not go on: whoever drove it died, and nobody has taken it over yet.
fn orphaned(execution: &Execution, workers: &[Worker]) -> Option<&'static str> {
    if execution.worker.is_none_or(|worker| lives(worker, workers)) {
        return None;
    }
    Some(if workers.iter().any(|worker| worker.alive && !worker.registration.home_only) {
        "its worker is gone; another worker takes it over"
    } else if execution.home.is_none() {
        "its worker is gone; the next  birun worker  or  birun serve  takes it over"
    } else {
        "its worker is gone; the next  birun run,  birun worker  or  birun serve  takes it over"
    })
}

fn policy(retention: &Retention, now: DateTime<Utc>) -> PrunePolicy {
    let before = |keep: TimeDelta| now.checked_sub_signed(keep).unwrap_or(DateTime::<Utc>::MIN_UTC);
    PrunePolicy {
        ended_before: before(retention.executions),
        keep_per_subject: retention.keep_per_subject,
        status: retention.status.clone(),
        audit_before: before(retention.audit),
        keys_before: before(TimeDelta::days(2)),
    }
}
