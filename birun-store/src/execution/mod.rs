//! Executions and their steps.

mod cancel;
mod prune;
mod read;
pub(crate) mod rows;
mod submit;

use async_trait::async_trait;
use birun_core::audit::AuditEntry;
use birun_core::execution::{
    Cancelled, Execution, ExecutionChange, ExecutionFilter, ExecutionStatus, ExecutionStore, PrunePolicy, PruneReport,
    Step, StepFilter, Submission, Submitted,
};
use birun_core::gate::Scope;
use birun_core::id::{ExecutionId, Selector};
use birun_core::page::{Page, PageRequest};
use birun_core::store::StoreResult;
use chrono::{DateTime, Utc};

use crate::SqlStore;

#[async_trait]
impl ExecutionStore for SqlStore {
    async fn submit(&self, scope: &Scope, submission: Submission) -> StoreResult<Submitted> {
        let project = scope.project();
        let acceptance = submit::Acceptance::new(self.db.dialect(), project, submission)?;
        if let Some(rows) = acceptance.only_rows() {
            return self.db.write_batch(rows, submit::accepted).await;
        }
        let args = (project, acceptance);
        self.db.write(args, |tx, (project, acceptance)| Box::pin(submit::submit(tx, *project, acceptance))).await
    }

    async fn submitted(&self, scope: &Scope, key: &str, request: &[u8; 32]) -> StoreResult<Option<Submitted>> {
        let args = (scope.project(), key.to_owned(), *request);
        let submitted =
            self.db.read(args, |tx, (project, key, request)| Box::pin(submit::submitted(tx, *project, key, request)));
        submitted.await
    }

    async fn execution(&self, scope: &Scope, selector: &Selector) -> StoreResult<Execution> {
        let args = (scope.project(), selector.clone());
        self.db.read(args, |tx, (project, selector)| Box::pin(read::find(tx, *project, selector))).await
    }

    async fn executions(
        &self,
        scope: &Scope,
        filter: &ExecutionFilter,
        page: PageRequest,
    ) -> StoreResult<Page<Execution>> {
        let args = (scope.project(), filter.clone(), page);
        self.db.read(args, |tx, (project, filter, page)| Box::pin(read::list(tx, *project, filter, *page))).await
    }

    async fn steps(
        &self,
        scope: &Scope,
        execution: ExecutionId,
        filter: &StepFilter,
        from: u32,
        limit: u32,
    ) -> StoreResult<Vec<Step>> {
        let args = (scope.project(), execution, filter.clone(), from, limit);
        let steps = self.db.read(args, |tx, (project, execution, filter, from, limit)| {
            Box::pin(read::steps(tx, *project, *execution, filter, *from, *limit))
        });
        steps.await
    }

    async fn changes(&self, scope: &Scope, execution: ExecutionId, rev: u64) -> StoreResult<Option<ExecutionChange>> {
        let args = (scope.project(), execution, rev);
        let changes =
            self.db.read(args, |tx, (project, execution, rev)| Box::pin(read::changes(tx, *project, *execution, *rev)));
        changes.await
    }

    async fn cancel(
        &self,
        scope: &Scope,
        execution: ExecutionId,
        at: DateTime<Utc>,
        audit: &AuditEntry,
    ) -> StoreResult<Cancelled> {
        let args = (scope.project(), execution, at, audit.clone());
        let cancel = self.db.write(args, |tx, (project, execution, at, audit)| {
            Box::pin(cancel::cancel(tx, *project, *execution, *at, audit))
        });
        cancel.await
    }

    async fn delete_execution(&self, scope: &Scope, execution: ExecutionId, audit: &AuditEntry) -> StoreResult<()> {
        let delete = self.audited(scope, execution, audit, |tx, project, execution| {
            Box::pin(cancel::delete(tx, project, *execution))
        });
        delete.await
    }

    async fn given_up(&self, scope: &Scope, policy: &PrunePolicy, limit: u32) -> StoreResult<Vec<ExecutionId>> {
        let args = (scope.project(), policy.clone(), limit);
        let given_up =
            self.db.read(args, |tx, (project, policy, limit)| Box::pin(prune::given_up(tx, *project, policy, *limit)));
        given_up.await
    }

    async fn prune(
        &self,
        scope: &Scope,
        executions: &[ExecutionId],
        policy: &PrunePolicy,
        limit: u32,
        audit: &AuditEntry,
    ) -> StoreResult<PruneReport> {
        let args = (scope.project(), executions.to_vec(), policy.clone(), limit, audit.clone());
        let report = self.db.write(args, |tx, (project, executions, policy, limit, audit)| {
            Box::pin(prune::prune(tx, *project, executions, policy, *limit, audit))
        });
        let report = report.await?;
        if report != PruneReport::default() {
            self.db.give_back_space().await;
        }
        Ok(report)
    }

    async fn queued_before(&self, scope: &Scope, execution: &Execution) -> StoreResult<u64> {
        let args = (scope.project(), execution.clone());
        let count = self.db.read(args, |tx, (project, execution)| Box::pin(read::due_before(tx, *project, execution)));
        Ok(count.await?.unsigned_abs())
    }

    async fn count_by_status(&self, scope: &Scope, status: ExecutionStatus) -> StoreResult<u64> {
        let args = (scope.project(), status);
        let count = self.db.read(args, |tx, (project, status)| Box::pin(read::count(tx, *project, *status)));
        Ok(count.await?.unsigned_abs())
    }
}
