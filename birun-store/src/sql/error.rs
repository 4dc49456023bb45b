//! What the two drivers say, in birun's words. The one place that reads driver errors.

use std::error::Error as StdError;
use std::sync::Arc;

use birun_core::error::ErrorCode;
use birun_core::store::StoreError;
use sqlx::error::DatabaseError;

use crate::sql::Dialect;

/// What a failed statement means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A unique value is taken.
    Unique,
    /// A row that is referred to does not exist, or a row that is to go is referred to.
    Reference,
    /// Two transactions were in each other's way; running this one again may work.
    Collision,
    /// Another process holds the database.
    Locked,
    /// The database cannot be reached, or does not answer in time.
    Unavailable,
    /// There is no room left.
    Full,
    /// What is stored cannot be read.
    Corrupt,
    /// A table is missing.
    NotMigrated,
    /// None of these.
    Other,
}

/// A failed statement. Cheap to clone: one failed commit answers many callers.
#[derive(Clone, Debug)]
pub(crate) struct DbError {
    pub(crate) kind: Kind,
    dialect: Dialect,
    source: Arc<dyn StdError + Send + Sync>,
}

impl DbError {
    pub(crate) fn new(dialect: Dialect, error: sqlx::Error) -> Self {
        let kind = match &error {
            sqlx::Error::Database(database) => match dialect {
                Dialect::Sqlite => sqlite_kind(database.as_ref()),
                Dialect::Postgres => postgres_kind(database.as_ref()),
            },
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Kind::Unavailable,
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => Kind::Corrupt,
            _ => Kind::Other,
        };
        Self { kind, dialect, source: Arc::new(error) }
    }

    /// The database did not answer in time.
    pub(crate) fn timed_out(dialect: Dialect) -> Self {
        Self { kind: Kind::Unavailable, dialect, source: Arc::new(Silent) }
    }

    /// What the database said, without the driver's words around it.
    fn message(&self) -> String {
        let database = self.source.downcast_ref::<sqlx::Error>().and_then(sqlx::Error::as_database_error);
        database.map_or_else(|| self.source.to_string(), |database| database.message().to_owned())
    }

    /// Turns the one kind that a caller can explain into its explanation.
    pub(crate) fn explain(self, kind: Kind, explanation: impl FnOnce() -> StoreError) -> StoreError {
        if self.kind == kind { explanation() } else { self.into() }
    }
}

impl From<DbError> for StoreError {
    fn from(error: DbError) -> Self {
        let missing = error.message();
        let source: Box<dyn StdError + Send + Sync> = Box::new(error.source);
        match error.kind {
            Kind::Locked => Self::Locked { source },
            Kind::Unavailable | Kind::Collision => Self::Unavailable { source },
            Kind::Full => Self::Full { source },
            Kind::Corrupt => Self::Corrupt { what: source.to_string() },
            Kind::NotMigrated => {
                Self::Schema { code: ErrorCode::SchemaOutdated, why: format!("{NOT_MIGRATED}{missing}") }
            }
            Kind::Unique | Kind::Reference | Kind::Other => backend(error.dialect, source),
        }
    }
}

/// How the error for a missing table begins, where nothing is known of the database.
const NOT_MIGRATED: &str = "the database has not been migrated: ";

/// The same error from a database that was found to be migrated: then a table that is missing was taken away.
pub(crate) fn in_migrated(error: StoreError) -> StoreError {
    match &error {
        StoreError::Schema { why, .. } => match why.strip_prefix(NOT_MIGRATED) {
            Some(missing) => StoreError::Corrupt { what: missing.to_owned() },
            None => error,
        },
        _ => error,
    }
}

/// A fault that storage has no better word for.
pub(crate) fn backend(dialect: Dialect, source: impl Into<Box<dyn StdError + Send + Sync>>) -> StoreError {
    StoreError::Backend { backend: dialect.name(), source: source.into() }
}

#[derive(Debug, thiserror::Error)]
#[error("the database did not answer in time")]
struct Silent;

/// Reads SQLite's result codes (<https://www.sqlite.org/rescode.html>).
fn sqlite_kind(error: &dyn DatabaseError) -> Kind {
    let code: i32 = error.code().and_then(|code| code.parse().ok()).unwrap_or_default();
    match (code, code & 0xff) {
        (2067 | 1555, _) => Kind::Unique,
        (787 | 1811, _) => Kind::Reference,
        (_, 5 | 6) => Kind::Locked,
        (_, 8 | 10 | 14) => Kind::Unavailable,
        (_, 11 | 26) => Kind::Corrupt,
        (_, 13) => Kind::Full,
        (_, 1) if error.message().contains("no such table: birun_") => Kind::NotMigrated,
        _ => Kind::Other,
    }
}

/// Reads PostgreSQL's error codes (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
fn postgres_kind(error: &dyn DatabaseError) -> Kind {
    let code = error.code().unwrap_or_default();
    match code.as_ref() {
        "23505" => Kind::Unique,
        "23503" => Kind::Reference,
        "40001" | "40P01" => Kind::Collision,
        "53100" => Kind::Full,
        "42P01" => Kind::NotMigrated,
        "XX001" | "XX002" => Kind::Corrupt,
        "25006" | "55P03" | "57014" => Kind::Unavailable,
        code if ["08", "53", "57P", "28", "3D"].iter().any(|class| code.starts_with(class)) => Kind::Unavailable,
        _ => Kind::Other,
    }
}
