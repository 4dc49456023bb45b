//! The databases that the suite runs on.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use birun_core::execution::log::{LogReader, LogStore, LogWriter};
use birun_core::execution::{Claimed, ExecutionStore as _, LogCursor, QueueStore as _, Record};
use birun_core::id::ExecutionId;
use birun_core::store::StoreResult;
use birun_core::testing::harness::Need;
use birun_core::testing::store::make::{at, here, job, worker_named};
use birun_store::{SqlStore, StoreOptions};
use sqlx::{Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;

/// A store, and what must live as long as it.
pub(crate) struct Fixture {
    pub(crate) store: Arc<SqlStore>,
    pub(crate) directory: Option<TempDir>,
    pub(crate) schema: Option<Schema>,
}

/// A schema of a PostgreSQL database, for one case.
#[derive(Debug)]
pub(crate) struct Schema {
    pub(crate) name: String,
}

/// A log store for cases that keep no output.
#[derive(Debug)]
pub(crate) struct NoLogs;

pub(crate) fn options() -> StoreOptions {
    StoreOptions { logs: Some(Arc::new(NoLogs)), ..StoreOptions::default() }
}

/// A store in memory.
pub(crate) async fn sqlite_memory() -> Fixture {
    let store = SqlStore::open_with("sqlite::memory:", options()).await.expect("a store in memory opens");
    store.migrate().await.expect("it migrates");
    Fixture { store: Arc::new(store), directory: None, schema: None }
}

/// A store on a file of its own.
pub(crate) async fn sqlite_file() -> Fixture {
    let directory = TempDir::new().expect("a directory for the case");
    let store = open_file(&directory.path().join("birun.db")).await;
    Fixture { store: Arc::new(store), directory: Some(directory), schema: None }
}

/// A store on this file, migrated.
pub(crate) async fn open_file(path: &Path) -> SqlStore {
    let store = SqlStore::open_with(&file_url(path), options()).await.expect("the file opens");
    store.migrate().await.expect("it migrates");
    store
}

pub(crate) fn file_url(path: &Path) -> String {
    format!("sqlite://{}", path.display())
}

/// A store in a PostgreSQL schema of its own.
pub(crate) async fn postgres() -> Fixture {
    let schema = Schema::create().await;
    let store = SqlStore::open_with(&schema.url(), options()).await.expect("PostgreSQL answers");
    store.migrate().await.expect("it migrates");
    Fixture { store: Arc::new(store), directory: None, schema: Some(schema) }
}

/// Whether PostgreSQL answers.
pub(crate) fn need_postgres() -> Need {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let answers = async { PgConnection::connect(&postgres_url()).await.is_ok() };
    Need::new("postgres", runtime.block_on(answers))
}

#[expect(clippy::disallowed_methods, reason = "the one variable that names the database of the suite")]
fn postgres_url() -> String {
    std::env::var("BIRUN_TEST_POSTGRES_URL")
        .unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned())
}

impl Fixture {
    /// Closes the store and removes what it left.
    pub(crate) async fn remove(self) {
        self.store.close().await;
        if let Some(schema) = self.schema {
            schema.drop().await;
        }
    }
}

impl Schema {
    pub(crate) async fn create() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("birun_test_{}_{count}", std::process::id());
        run(&format!("DROP SCHEMA IF EXISTS {name} CASCADE; CREATE SCHEMA {name}")).await;
        Self { name }
    }

    /// A URL under which the schema is the only one, and connections carry its name.
    pub(crate) fn url(&self) -> String {
        let url = postgres_url();
        let mark = if url.contains('?') { '&' } else { '?' };
        format!("{url}{mark}options[search_path]={0}&application_name={0}", self.name)
    }

    /// Runs statements in the schema.
    pub(crate) async fn run(&self, sql: &str) {
        run(&format!("SET search_path = {}; {sql}", self.name)).await;
    }

    /// A connection to the schema.
    pub(crate) async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url()).await.expect("PostgreSQL answers")
    }

    pub(crate) async fn drop(self) {
        run(&format!("DROP SCHEMA {} CASCADE", self.name)).await;
    }
}

async fn run(sql: &str) {
    let mut conn = PgConnection::connect(&postgres_url()).await.expect("PostgreSQL answers");
    conn.execute(sqlx::AssertSqlSafe(sql.to_owned())).await.expect("the statements run");
    conn.close().await.expect("the connection closes");
}

/// Waits until something holds; fails after a while.
pub(crate) async fn wait_until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(20), waiting).await.is_ok(), "in vain: {what}");
}

/// A store with executions that one of its workers has claimed.
pub(crate) async fn claimed_executions(store: &SqlStore, count: u32) -> Vec<Claimed> {
    for _ in 0..count {
        store.submit(&here(), job("ping", 1)).await.expect("it is accepted");
    }
    let worker = worker_named("host-1");
    store.register(&here(), &worker).await.expect("it is registered");
    store.claim(&here(), worker.id, count, at(1)).await.expect("they are claimed")
}

#[async_trait]
impl LogStore for NoLogs {
    async fn open(&self, _: ExecutionId, _: u64) -> StoreResult<Box<dyn LogWriter>> {
        Ok(Box::new(Self))
    }

    async fn reader(&self, _: ExecutionId, _: LogCursor) -> StoreResult<Box<dyn LogReader>> {
        Ok(Box::new(Self))
    }

    async fn delete(&self, _: ExecutionId) -> StoreResult<()> {
        Ok(())
    }
}

#[async_trait]
impl LogWriter for NoLogs {
    fn last_seq(&self) -> u64 {
        0
    }

    async fn append(&mut self, _: Vec<Record>) -> StoreResult<()> {
        Ok(())
    }

    async fn sync(&mut self) -> StoreResult<()> {
        Ok(())
    }
}

#[async_trait]
impl LogReader for NoLogs {
    async fn next(&mut self, _: usize) -> StoreResult<Vec<Record>> {
        Ok(Vec::new())
    }
}
