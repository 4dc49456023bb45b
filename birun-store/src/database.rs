//! A database: connections for reading, and the writer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use birun_core::store::StoreResult;
use sqlx::PgPool;
use tokio::time::timeout;

use crate::connect::{Readers, Source, assert_durable};
use crate::contact::Contact;
use crate::sql::{Batch, DbError, Dialect, Kind, Operation, POSTGRES_LIMIT, Tx, backend, in_migrated};
use crate::writer::{Judge, Writer};

/// An open database.
#[derive(Debug)]
pub(crate) struct Database {
    dialect: Dialect,
    readers: Readers,
    writer: Writer,
    contact: Arc<Contact>,
    /// Whether the schema was found to be birun's.
    migrated: AtomicBool,
}

impl Database {
    /// Opens it. `gap` is how long it may stay silent without counting as lost.
    pub(crate) async fn open(source: Source, gap: Duration) -> StoreResult<Self> {
        let mut link = source.link().await?;
        if matches!(source, Source::File(_)) {
            assert_durable(&mut link.tx()).await?;
        }
        let (source, contact) = (Arc::new(source), Arc::new(Contact::new(gap)));
        contact.answered();
        let dialect = source.dialect();
        let writer = Writer::start(&source, link, &contact).map_err(|error| backend(dialect, error))?;
        Ok(Self { dialect, readers: source.readers(), writer, contact, migrated: AtomicBool::new(false) })
    }

    /// Notes that the schema is birun's: a table that is missing from now on was taken away.
    pub(crate) fn is_migrated(&self) {
        self.migrated.store(true, Ordering::Relaxed);
    }

    fn judged<T>(&self, result: StoreResult<T>) -> StoreResult<T> {
        result.map_err(|error| if self.migrated.load(Ordering::Relaxed) { in_migrated(error) } else { error })
    }

    pub(crate) const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// For how long the database has answered this process without a gap.
    pub(crate) fn unbroken_contact(&self) -> Duration {
        self.contact.unbroken()
    }

    /// Runs an operation in a transaction. Its error means that nothing was changed, except for
    /// `Unavailable` from PostgreSQL: then the outcome is unknown. Dropping the future does not stop it.
    pub(crate) async fn write<A, T>(&self, args: A, operation: Operation<A, StoreResult<T>>) -> StoreResult<T>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
    {
        let result = self.writer.run(args, operation).await;
        self.judged(result)
    }

    /// Runs a batch in a transaction, like [`write`](Self::write). It must come to the same when it is run
    /// again. `judge` says what its outcome means.
    pub(crate) async fn write_batch<T: Send + 'static>(&self, batch: Batch, judge: Judge<T>) -> StoreResult<T> {
        let result = self.writer.run_batch(batch, judge).await;
        self.judged(result)
    }

    /// Runs an operation that only reads, outside any transaction: each statement sees what is
    /// committed when it begins.
    pub(crate) async fn read<A, T>(&self, args: A, operation: Operation<A, StoreResult<T>>) -> StoreResult<T>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
    {
        let result = match &self.readers {
            Readers::Writer => self.writer.run(args, operation).await,
            Readers::Sqlite(pool) => {
                let mut conn = pool.acquire().await.map_err(|error| self.failed(error))?;
                operation(&mut Tx::sqlite(&mut conn), &args).await
            }
            Readers::Postgres(pool) => self.read_postgres(pool, args, operation).await,
        };
        self.judged(result)
    }

    /// Reads over one of the connections, which is given up when it does not answer.
    async fn read_postgres<A, T>(
        &self,
        pool: &PgPool,
        args: A,
        operation: Operation<A, StoreResult<T>>,
    ) -> StoreResult<T> {
        let acquired = timeout(POSTGRES_LIMIT, pool.acquire()).await;
        let mut conn = acquired.map_err(|_| self.silent())?.map_err(|error| self.failed(error))?;
        let mut tx = Tx::postgres(&mut conn);
        let result = operation(&mut tx, &args).await;
        if tx.fault() == Some(Kind::Unavailable) {
            self.contact.lost();
            // Closed without a word: the other side may not hear it.
            drop(conn.detach());
        } else {
            self.contact.answered();
        }
        result
    }

    /// Lets a SQLite file shrink to what is in it. If others are reading it does so later.
    pub(crate) async fn give_back_space(&self) {
        if matches!(self.readers, Readers::Sqlite(_)) {
            let checkpoint = self
                .read((), |tx, ()| Box::pin(async move { Ok(tx.script("PRAGMA wal_checkpoint(TRUNCATE)").await?) }));
            if let Err(error) = checkpoint.await {
                tracing::debug!(%error, "the database file was not cut back");
            }
        }
    }

    /// Finishes what is queued and closes every connection.
    pub(crate) async fn close(&self) {
        self.writer.close().await;
        match &self.readers {
            Readers::Writer => {}
            Readers::Sqlite(pool) => pool.close().await,
            Readers::Postgres(pool) => pool.close().await,
        }
    }

    fn silent(&self) -> DbError {
        self.contact.lost();
        DbError::timed_out(self.dialect)
    }

    fn failed(&self, error: sqlx::Error) -> DbError {
        self.contact.lost();
        DbError::new(self.dialect, error)
    }
}
