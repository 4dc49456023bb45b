//! Opening connections, with the settings that birun's promises rest on.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use birun_core::store::{StoreError, StoreResult};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection as _, Executor as _};
use tokio::time::{Instant, sleep, timeout};

use crate::sql::{DbError, Dialect, Kind, Tx, backend};

/// How long SQLite waits for another process that holds the database.
const BUSY: Duration = Duration::from_secs(2);
/// How long a connection to PostgreSQL may take to come about.
const CONNECT: Duration = Duration::from_secs(4);
/// Prepared statements kept for each connection.
const STATEMENTS: usize = 256;
/// A write-ahead log that grew beyond this many bytes is cut back when it is reset.
const WAL_LIMIT: &str = "67108864";

/// Rows that SQLite may be ahead of their reader: with all of a claim in it, the two need not take turns.
const ROWS_AHEAD: usize = 1024;

const SQLITE_READERS: u32 = 4;
const POSTGRES_READERS: u32 = 8;

/// No statement holds PostgreSQL for longer, and no transaction stays open without work.
const POSTGRES_SESSION: &str = "SET statement_timeout = '10s'; SET idle_in_transaction_session_timeout = '30s';
    SET client_min_messages = 'warning'";

/// What the writer does is short, and has an index for each step. A young table has no statistics yet:
/// the planner takes it for tiny, and would read it whole each time.
const POSTGRES_WRITER: &str = "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off;
    SET enable_mergejoin = off";

/// Where the data is.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A SQLite database of this process alone, gone with its one connection.
    Memory,
    /// A SQLite file.
    File(PathBuf),
    /// A PostgreSQL database.
    Postgres(Box<PgConnectOptions>),
}

/// A connection that the writer owns.
#[derive(Debug)]
pub(crate) enum Link {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// Connections for reading.
#[derive(Debug)]
pub(crate) enum Readers {
    /// There is one connection, and the writer has it.
    Writer,
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Source {
    /// Reads `sqlite://path`, `sqlite::memory:` or `postgres://…`.
    pub(crate) fn parse(url: &str) -> StoreResult<Self> {
        let refuse = |why: &str| StoreError::Conflict { why: format!("the database URL {why}") };
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            // The parser's error may quote the URL, and so the password.
            let options = PgConnectOptions::from_str(url).map_err(|_| refuse("is not a valid postgres:// URL"))?;
            let options = match options.get_application_name() {
                Some(_) => options,
                None => options.application_name("birun"),
            };
            let options = options.statement_cache_capacity(STATEMENTS).disable_statement_logging();
            return Ok(Self::Postgres(Box::new(options)));
        }
        match url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:")) {
            Some(":memory:") => Ok(Self::Memory),
            Some("") => Err(refuse("names no file")),
            Some(path) => Ok(Self::File(PathBuf::from(path))),
            None => Err(refuse("begins with neither sqlite:// nor postgres://")),
        }
    }

    pub(crate) const fn dialect(&self) -> Dialect {
        match self {
            Self::Memory | Self::File(_) => Dialect::Sqlite,
            Self::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Opens a connection for writing.
    pub(crate) async fn link(&self) -> Result<Link, DbError> {
        match self {
            Self::Memory => {
                let options = sqlite_options().in_memory(true);
                options.connect().await.map(Link::Sqlite).map_err(|error| DbError::new(Dialect::Sqlite, error))
            }
            Self::File(path) => {
                let options = durable(sqlite_options()).filename(path).create_if_missing(true);
                open_file(options).await.map(Link::Sqlite)
            }
            Self::Postgres(options) => {
                let opened = timeout(CONNECT, async {
                    let mut conn = options.connect().await?;
                    conn.execute(POSTGRES_SESSION).await?;
                    conn.execute(POSTGRES_WRITER).await?;
                    Ok(conn)
                });
                match opened.await {
                    Ok(conn) => conn.map(Link::Postgres).map_err(|error| DbError::new(Dialect::Postgres, error)),
                    Err(_) => Err(DbError::timed_out(Dialect::Postgres)),
                }
            }
        }
    }

    /// Connections for reading; none is opened before it is needed.
    pub(crate) fn readers(&self) -> Readers {
        match self {
            Self::Memory => Readers::Writer,
            Self::File(path) => {
                let pool = SqlitePoolOptions::new().max_connections(SQLITE_READERS).acquire_timeout(CONNECT);
                let options = sqlite_options().filename(path).pragma("query_only", "ON");
                // A connection to a file cannot have died.
                Readers::Sqlite(pool.test_before_acquire(false).connect_lazy_with(options))
            }
            Self::Postgres(options) => {
                let pool = PgPoolOptions::new()
                    .max_connections(POSTGRES_READERS)
                    .acquire_timeout(CONNECT)
                    .after_connect(|conn, _| Box::pin(async move { conn.execute(POSTGRES_SESSION).await.map(drop) }));
                Readers::Postgres(pool.connect_lazy_with((**options).clone()))
            }
        }
    }
}

impl Link {
    pub(crate) fn tx(&mut self) -> Tx<'_> {
        match self {
            Self::Sqlite(conn) => Tx::sqlite(conn),
            Self::Postgres(conn) => Tx::postgres(conn),
        }
    }

    /// Gives the connection back to the operating system, and waits until it is closed.
    pub(crate) async fn close(self) {
        let closed = match self {
            Self::Sqlite(conn) => conn.close().await,
            Self::Postgres(conn) => conn.close().await,
        };
        if let Err(error) = closed {
            tracing::debug!(%error, "a database connection did not close properly");
        }
    }
}

fn sqlite_options() -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .busy_timeout(BUSY)
        .foreign_keys(true)
        .statement_cache_capacity(STATEMENTS)
        .row_buffer_size(ROWS_AHEAD)
        .thread_name(|index| format!("birun-sqlite-{index}"))
        .disable_statement_logging()
}

/// What a connection sets that writes to a file. A reader leaves it alone: it would wait for writers.
fn durable(options: SqliteConnectOptions) -> SqliteConnectOptions {
    options
        .auto_vacuum(SqliteAutoVacuum::Incremental)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("journal_size_limit", WAL_LIMIT)
}

/// Opens a SQLite file. Switching a new file to a write-ahead log does not wait for other
/// processes by itself, so it is tried again for a while.
async fn open_file(options: SqliteConnectOptions) -> Result<SqliteConnection, DbError> {
    let deadline = Instant::now() + BUSY;
    loop {
        match options.connect().await.map_err(|error| DbError::new(Dialect::Sqlite, error)) {
            Err(error) if error.kind == Kind::Locked && Instant::now() < deadline => {
                sleep(Duration::from_millis(10)).await;
            }
            result => return result,
        }
    }
}

/// Asserts what "accepted is durable" rests on: every commit is on the disk when it answers.
pub(crate) async fn assert_durable(tx: &mut Tx<'_>) -> StoreResult<()> {
    let found = match tx.one(DURABILITY, Vec::new()).await? {
        Some(row) => row.columns("the database").text()?,
        None => String::new(),
    };
    if found == "synchronous=2 journal_mode=wal" {
        return Ok(());
    }
    Err(backend(Dialect::Sqlite, format!("the file system does not allow durable commits: {found}")))
}

const DURABILITY: &str = "SELECT 'synchronous=' || synchronous || ' journal_mode=' || journal_mode
    FROM pragma_synchronous, pragma_journal_mode";

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_file_with_a_synchronous_log_is_durable() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = Source::File(directory.path().join("birun.db")).link().await.unwrap();
        assert_durable(&mut file.tx()).await.unwrap();
        file.tx().script("PRAGMA synchronous = NORMAL").await.unwrap();
        assert!(assert_durable(&mut file.tx()).await.is_err());
        let mut memory = Source::Memory.link().await.unwrap();
        assert!(assert_durable(&mut memory.tx()).await.is_err());
    }
}
