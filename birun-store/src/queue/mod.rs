//! The queue: executions are handed to workers, and taken back from dead ones.

mod claim;
mod reap;
mod workers;

use std::time::Duration;

use async_trait::async_trait;
use birun_core::execution::{Claimed, Lease, QueueStore, Reaped, Renewal, Renewals, Worker, WorkerRegistration};
use birun_core::gate::Scope;
use birun_core::id::{ProjectId, WorkerId};
use birun_core::store::StoreResult;
use chrono::{DateTime, Utc};

use crate::SqlStore;
use crate::liveness::{Dead, Liveness};

impl SqlStore {
    /// Writes a registration, which counts for the length of a lease where leases tell of life.
    async fn write_registration(&self, project: ProjectId, worker: &WorkerRegistration) -> StoreResult<()> {
        let lease = match &self.liveness {
            Liveness::Leases(leases) => leases.micros(),
            Liveness::Goodbye | Liveness::Locks(_) => 0,
        };
        let args = (project, worker.clone(), lease);
        let register = self
            .db
            .write(args, |tx, (project, worker, lease)| Box::pin(workers::register(tx, *project, worker, *lease)));
        register.await
    }

    /// The workers of the project that are dead, as far as this process may judge.
    async fn dead_workers(&self, project: ProjectId) -> StoreResult<Vec<Dead>> {
        match &self.liveness {
            Liveness::Goodbye => Ok(Vec::new()),
            Liveness::Locks(locks) => {
                let known = self.db.read(project, |tx, project| Box::pin(workers::list(tx, *project))).await?;
                locks.dead(known.into_iter().map(|(worker, _)| worker.id).collect()).await
            }
            // Who was out of contact itself cannot tell a dead worker from one that was too.
            Liveness::Leases(leases) if self.db.unbroken_contact() < leases.length() => Ok(Vec::new()),
            Liveness::Leases(_) => {
                let lapsed = self.db.read(project, |tx, project| Box::pin(reap::lapsed(tx, *project))).await?;
                Ok(lapsed.into_iter().map(Dead::without_lock).collect())
            }
        }
    }
}

#[async_trait]
impl QueueStore for SqlStore {
    fn lease_length(&self) -> Option<Duration> {
        match &self.liveness {
            Liveness::Leases(leases) => Some(leases.length()),
            Liveness::Locks(_) | Liveness::Goodbye => None,
        }
    }

    async fn register(&self, scope: &Scope, worker: &WorkerRegistration) -> StoreResult<()> {
        if let Liveness::Locks(locks) = &self.liveness {
            locks.hold(worker).await?;
        }
        if let Err(error) = self.write_registration(scope.project(), worker).await {
            // So that the same worker can try again.
            if let Liveness::Locks(locks) = &self.liveness {
                locks.release(worker.id).await?;
            }
            return Err(error);
        }
        if let Liveness::Leases(leases) = &self.liveness {
            leases.begin(worker);
        }
        Ok(())
    }

    async fn retire(&self, scope: &Scope, worker: WorkerId) -> StoreResult<()> {
        match &self.liveness {
            Liveness::Goodbye => {}
            Liveness::Locks(locks) => locks.release(worker).await?,
            Liveness::Leases(leases) => leases.end(worker),
        }
        let args = (scope.project(), worker);
        self.db.write(args, |tx, (project, worker)| Box::pin(workers::retire(tx, *project, *worker))).await
    }

    async fn workers(&self, scope: &Scope) -> StoreResult<Vec<Worker>> {
        let known = self.db.read(scope.project(), |tx, project| Box::pin(workers::list(tx, *project))).await?;
        let dead = match &self.liveness {
            Liveness::Locks(locks) => locks.dead(known.iter().map(|(worker, _)| worker.id).collect()).await?,
            Liveness::Goodbye | Liveness::Leases(_) => Vec::new(),
        };
        let alive = |id, leased| leased && !dead.iter().any(|dead| dead.worker == id);
        let workers =
            known.into_iter().map(|(worker, leased)| Worker { alive: alive(worker.id, leased), registration: worker });
        Ok(workers.collect())
    }

    async fn claim(
        &self,
        scope: &Scope,
        worker: WorkerId,
        limit: u32,
        now: DateTime<Utc>,
    ) -> StoreResult<Vec<Claimed>> {
        let args = (scope.project(), worker, limit, now);
        let claim = self.db.write(args, |tx, (project, worker, limit, now)| {
            Box::pin(claim::claim(tx, *project, *worker, *limit, *now))
        });
        claim.await
    }

    async fn next_wake(&self, scope: &Scope, worker: WorkerId) -> StoreResult<Option<DateTime<Utc>>> {
        let args = (scope.project(), worker);
        self.db.read(args, |tx, (project, worker)| Box::pin(claim::next_wake(tx, *project, *worker))).await
    }

    async fn orphans_wait(&self, scope: &Scope) -> StoreResult<bool> {
        self.db.read(scope.project(), |tx, project| Box::pin(claim::orphans_wait(tx, *project))).await
    }

    async fn renew(&self, scope: &Scope, worker: WorkerId, leases: &[Lease]) -> StoreResult<Renewals> {
        if let Liveness::Leases(registered) = &self.liveness
            && let Some(registration) = registered.to_renew(worker)
        {
            self.write_registration(scope.project(), &registration).await?;
            registered.begin(&registration);
        }
        if let Liveness::Locks(locks) = &self.liveness
            && let Some(registration) = locks.restore(worker).await?
        {
            tracing::warn!(%worker, "the lock file of this worker was gone; it is registered anew");
            self.write_registration(scope.project(), &registration).await?;
        }
        let args = (scope.project(), worker);
        let held = self.db.read(args, |tx, (project, worker)| Box::pin(claim::held(tx, *project, *worker))).await?;
        let judge = |lease: &Lease| match held.get(&lease.execution) {
            Some((epoch, _)) if *epoch != lease.epoch || lease.worker != worker => Renewal::Lost,
            Some((_, true)) => Renewal::CancelRequested,
            Some((_, false)) => Renewal::Held,
            None => Renewal::Lost,
        };
        let named = leases.iter().map(judge).collect();
        let held = held.iter().map(|(execution, (epoch, _))| Lease { execution: *execution, worker, epoch: *epoch });
        Ok(Renewals { named, others: held.filter(|lease| !leases.contains(lease)).collect() })
    }

    async fn reap(&self, scope: &Scope, max_claims: u64, now: DateTime<Utc>) -> StoreResult<Reaped> {
        let project = scope.project();
        let dead = self.dead_workers(project).await?;
        if dead.is_empty() && !self.db.read(project, |tx, project| Box::pin(reap::has_orphans(tx, *project))).await? {
            return Ok(Reaped::default());
        }
        let args = (project, dead.iter().map(|dead| dead.worker).collect::<Vec<_>>(), max_claims, now);
        let reaped = self.db.write(args, |tx, (project, dead, max_claims, now)| {
            Box::pin(reap::reap(tx, *project, dead, *max_claims, *now))
        });
        let reaped = reaped.await?;
        if let Liveness::Locks(locks) = &self.liveness {
            locks.forget(dead).await?;
        }
        Ok(reaped)
    }
}
