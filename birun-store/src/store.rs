//! The store as a whole.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use birun_core::Store;
use birun_core::audit::AuditEntry;
use birun_core::execution::{Dispatcher, LogStore};
use birun_core::gate::Scope;
use birun_core::id::ProjectId;
use birun_core::store::{StoreError, StoreResult};
use futures::future::BoxFuture;

use crate::connect::Source;
use crate::database::Database;
use crate::dispatch::ApalisDispatcher;
use crate::liveness::{Leases, Liveness, Locks};
use crate::log::{FileLogs, MemoryLogs};
use crate::sql::Tx;
use crate::{audit, migrate};

/// How long a worker's lease lasts on PostgreSQL, unless the options say otherwise.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(30);

/// What a store needs besides its database. Nothing needs to be set for a SQLite file.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Where output is kept. `None`: in files in `logs/` beside a SQLite file, in memory for a
    /// memory store; PostgreSQL has no default.
    pub logs: Option<Arc<dyn LogStore>>,
    /// Where workers on a SQLite file keep their locks. `None`: in `workers/` beside the file.
    pub workers: Option<PathBuf>,
    /// How long a worker on PostgreSQL counts as alive after it was last heard of.
    pub lease: Duration,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { logs: None, workers: None, lease: DEFAULT_LEASE }
    }
}

/// Keeps birun's records in SQLite or PostgreSQL.
///
/// Every method of the store traits is one transaction that is on the disk when it answers.
/// Dropping its future does not cancel it once it is queued. An error means that nothing was changed,
/// except `Unavailable` from PostgreSQL: then nobody knows, and asking again with the same ids is safe.
#[derive(Debug)]
pub struct SqlStore {
    pub(crate) db: Database,
    pub(crate) liveness: Liveness,
    logs: Arc<dyn LogStore>,
}

/// A change of something, which is committed together with an audit entry.
pub(crate) type Change<A> = for<'t, 'c> fn(&'t mut Tx<'c>, ProjectId, &'t A) -> BoxFuture<'t, StoreResult<()>>;

impl SqlStore {
    /// Opens `sqlite://path` (the file is made if it is not there) or `postgres://…`.
    ///
    /// Call [`migrate`](SqlStore::migrate) before anything else, once for each version of birun.
    /// Must be called within a tokio runtime, on which the store's own tasks run.
    ///
    /// # Errors
    /// `Unavailable` if the database cannot be reached, `Locked` if another process holds it, `Corrupt` if
    /// the file is no database, `Conflict` for a URL that is neither.
    pub async fn open(url: &str) -> StoreResult<Self> {
        Self::open_with(url, StoreOptions::default()).await
    }

    /// Opens a store in memory, for tests and short-lived engines: gone when it is dropped.
    ///
    /// # Errors
    /// `Backend` if SQLite cannot be started.
    pub async fn memory() -> StoreResult<Self> {
        Self::open("sqlite::memory:").await
    }

    /// Opens a store as [`open`](SqlStore::open) does, with options.
    ///
    /// # Errors
    /// Those of [`open`](SqlStore::open).
    pub async fn open_with(url: &str, options: StoreOptions) -> StoreResult<Self> {
        let source = Source::parse(url)?;
        let (liveness, logs) = (liveness(&source, &options), logs(&source, &options)?);
        let db = Database::open(source, options.lease / 2).await?;
        Ok(Self { db, liveness, logs })
    }

    /// Brings the database's schema up to date. Safe to call at any time, from any number of
    /// processes at once; all or nothing.
    ///
    /// # Errors
    /// `Schema` if a newer birun wrote the database, `Corrupt` if its migrations are not birun's.
    pub async fn migrate(&self) -> StoreResult<()> {
        self.db.write((), |tx, ()| Box::pin(migrate::migrate(tx))).await?;
        self.db.is_migrated();
        Ok(())
    }

    /// Finishes what is queued and closes every connection. Afterwards every method answers `Unavailable`.
    pub async fn close(&self) {
        self.db.close().await;
    }

    /// Changes something and writes its audit entry, or does neither.
    pub(crate) async fn audited<A>(
        &self,
        scope: &Scope,
        args: A,
        audit: &AuditEntry,
        change: Change<A>,
    ) -> StoreResult<()>
    where
        A: Send + Sync + 'static,
    {
        self.audited_by(scope, args, std::slice::from_ref(audit), change).await
    }

    /// The same for a change that several entries tell of.
    pub(crate) async fn audited_by<A>(
        &self,
        scope: &Scope,
        args: A,
        audit: &[AuditEntry],
        change: Change<A>,
    ) -> StoreResult<()>
    where
        A: Send + Sync + 'static,
    {
        let args = (scope.project(), args, audit.to_vec(), change);
        let operation = self.db.write(args, |tx, (project, args, audit, change)| {
            Box::pin(async move {
                change(tx, *project, args).await?;
                for entry in audit {
                    audit::append(tx, *project, entry).await?;
                }
                Ok(())
            })
        });
        operation.await
    }
}

impl Store for SqlStore {
    fn logs(&self) -> Arc<dyn LogStore> {
        Arc::clone(&self.logs)
    }

    fn dispatcher(&self) -> Arc<dyn Dispatcher> {
        Arc::new(ApalisDispatcher)
    }
}

fn liveness(source: &Source, options: &StoreOptions) -> Liveness {
    match source {
        Source::Memory => Liveness::Goodbye,
        Source::File(path) => {
            let directory = options.workers.clone().unwrap_or_else(|| beside(path, "workers"));
            Liveness::Locks(Locks::new(directory))
        }
        Source::Postgres(_) => Liveness::Leases(Leases::new(options.lease)),
    }
}

fn logs(source: &Source, options: &StoreOptions) -> StoreResult<Arc<dyn LogStore>> {
    if let Some(logs) = &options.logs {
        return Ok(Arc::clone(logs));
    }
    match source {
        Source::Memory => Ok(Arc::new(MemoryLogs::default())),
        Source::File(path) => Ok(Arc::new(FileLogs::new(beside(path, "logs"))?)),
        Source::Postgres(_) => Err(StoreError::Conflict { why: "the options name no place for output".to_owned() }),
    }
}

fn beside(file: &Path, name: &str) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join(name)
}
