//! What earlier workers left running: taken up again where it is detached, else killed; and what targets
//! keep of detached steps, until nobody needs it.

use std::collections::HashMap;
use std::time::Duration;

use futures::future::join_all;

use super::{Runner, cut};
use crate::error::Result;
use crate::execution::journal::Cut;
use crate::execution::leftover::Leftover;
use crate::execution::pipe::Written;
use crate::execution::state::judge_orphan;
use crate::execution::step::Attempt;
use crate::execution::{Kill, LogCursor, Reason, Resume, Step, StepEnd, StepStatus, Stream};
use crate::id::StepId;
use crate::milestone;
use crate::script::RunMode;
use crate::store::StoreResult;

/// Payload that is read at once from the log of a dead worker.
const READ_BYTES: usize = 1024 * 1024;
/// What targets keep of ended steps is removed within this time, or some days later.
const FORGET_LIMIT: Duration = Duration::from_secs(10);

impl Runner {
    /// Goes on with what earlier workers left running: takes up again what is detached, kills the rest
    /// and ends those steps.
    pub(super) async fn recover(&mut self, prepared: bool) -> Result<(), Cut> {
        let orphans: Vec<Step> =
            self.progress.steps().iter().filter(|step| step.status == StepStatus::Running).cloned().collect();
        if orphans.is_empty() {
            return Ok(());
        }
        let exhausted = self.execution.reason == Some(Reason::AttemptsExhausted);
        let (detached, orphans): (Vec<Step>, Vec<Step>) =
            orphans.into_iter().partition(|step| prepared && !exhausted && self.can_adopt(step));
        self.adopt(detached).await?;
        self.end_orphans(orphans).await
    }

    /// Kills what steps of a dead worker left running, and ends those steps.
    async fn end_orphans(&mut self, orphans: Vec<Step>) -> Result<(), Cut> {
        if orphans.is_empty() {
            return Ok(());
        }
        let kept = orphans.iter().filter(|step| self.can_adopt(step));
        let kept: Vec<_> = kept.filter_map(|step| Some((step.id, self.leftover(step)?.ok()?))).collect();
        self.kept.extend(kept);
        let kills = join_all(orphans.iter().map(|step| self.kill_orphan(step))).await;
        let written = self.written(&orphans).await.unwrap_or_else(|error| {
            tracing::warn!(execution = %self.execution.id, %error, "the output of a dead worker's steps cannot be counted");
            HashMap::new()
        });
        let now = self.shared.clock.now();
        let ends = orphans.iter().zip(kills).map(|(step, kill)| {
            let outcome = self.masked(judge_orphan(kill));
            let output_bytes = written.get(&step.ordinal).map(Written::bytes).unwrap_or_default();
            (outcome.clone(), StepEnd { output_bytes, ..outcome.end(step.id, now) })
        });
        let ends = ends.collect();
        self.journal_ends(ends).await
    }

    fn can_adopt(&self, step: &Step) -> bool {
        let detached = self.execution.plan.settings.mode == RunMode::Detached;
        detached && self.reach(step).is_ok_and(|(executor, _)| executor.detaches())
    }

    /// Takes up steps that run by themselves: their output from the place on that the log has.
    async fn adopt(&mut self, steps: Vec<Step>) -> Result<(), Cut> {
        if steps.is_empty() {
            return Ok(());
        }
        // What an earlier worker may still write does not count from here on.
        self.pipe.open_log().await.map_err(cut)?;
        let written = self.written(&steps).await.map_err(Cut::Broken)?;
        for step in steps {
            milestone::reach("adopt.before");
            let written = written.get(&step.ordinal).cloned().unwrap_or_default();
            let settings = &self.execution.plan.settings;
            let age = step.started_at.and_then(|at| (self.shared.clock.now() - at).to_std().ok()).unwrap_or_default();
            let (stdout, stderr) = (written.resume(Stream::Stdout), written.resume(Stream::Stderr));
            let task = self.task(&step).taken_up(Resume { stdout, stderr, age });
            let limit = settings.attempt_timeout().map(|limit| limit.saturating_sub(age));
            let output = self.pipe.step_after(step.ordinal, settings.output, &written);
            self.begin(Attempt { step: step.id, task, output, remark: None, limit, notes: self.notes.0.clone() });
        }
        Ok(())
    }

    /// What the log holds of these steps.
    async fn written(&self, steps: &[Step]) -> StoreResult<HashMap<u32, Written>> {
        let mut written: HashMap<u32, Written> = steps.iter().map(|step| (step.ordinal, Written::default())).collect();
        let mut reader = self.shared.store.logs().reader(self.execution.id, LogCursor::default()).await?;
        loop {
            let records = reader.next(READ_BYTES).await?;
            if records.is_empty() {
                return Ok(written);
            }
            for record in &records {
                if let Some(written) = written.get_mut(&record.step) {
                    written.add(record);
                }
            }
        }
    }

    /// Lets targets remove what they kept of ended steps; does not wait for those that do not answer.
    pub(super) async fn forget_all(&mut self) {
        tokio::select! {
            () = async { while self.forgetting.join_next().await.is_some() {} } => {}
            () = self.shared.clock.sleep(FORGET_LIMIT) => {}
        }
    }

    async fn kill_orphan(&self, step: &Step) -> Option<Kill> {
        Some(match self.leftover(step)? {
            Ok(leftover) => leftover.kill(&self.halt).await,
            Err(why) => {
                Kill::Unconfirmed { detail: format!("{why}; run on {}:  {}", step.target, kill_by_hand(step.id)) }
            }
        })
    }

    /// What may be left of a step that an earlier worker started, and how to reach it.
    fn leftover(&self, step: &Step) -> Option<Result<Leftover>> {
        let handle = step.handle.clone()?;
        let grace = self.execution.plan.settings.grace();
        Some(self.reach(step).map(|(executor, target)| Leftover { executor, target, handle, grace }))
    }

    /// Lets targets remove what they kept of steps whose end is journalled.
    pub(super) fn forget(&mut self, ends: &[StepEnd]) {
        for kept in ends.iter().filter_map(|end| self.kept.remove(&end.step)) {
            self.forgetting.spawn(async move { kept.executor.forget(&kept.target, &kept.handle).await });
        }
    }
}

/// What a person can run to end the processes of a step.
fn kill_by_hand(step: StepId) -> String {
    format!("kill -KILL $(grep -lsz BIRUN_STEP_ID={step} /proc/[0-9]*/environ | cut -d/ -f3)")
}
