//! Migrations: numbered, embedded, never changed once released. Their record lives in a table of
//! our own, so that birun fits into an embedder's database.

use birun_core::error::ErrorCode;
use birun_core::store::{StoreError, StoreResult};
use sha2::{Digest as _, Sha256};

use crate::sql::{Dialect, Tx, binds};

/// One step from a schema to the next: the same meaning for both databases.
struct Migration {
    version: i64,
    name: &'static str,
    sqlite: &'static str,
    postgres: &'static str,
}

const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "init",
        sqlite: include_str!("../migrations/sqlite/0001_init.sql"),
        postgres: include_str!("../migrations/postgres/0001_init.sql"),
    },
    Migration {
        version: 2,
        name: "maintenance",
        sqlite: include_str!("../migrations/sqlite/0002_maintenance.sql"),
        postgres: include_str!("../migrations/postgres/0002_maintenance.sql"),
    },
    Migration {
        version: 3,
        name: "certificate",
        sqlite: include_str!("../migrations/sqlite/0003_certificate.sql"),
        postgres: include_str!("../migrations/postgres/0003_certificate.sql"),
    },
];

const CREATE_SQLITE: &str = "CREATE TABLE IF NOT EXISTS birun_migrations (
    version INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL, checksum BLOB NOT NULL,
    applied_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER))) STRICT";
/// The lock keeps a second process out until this one has committed; its number means nothing.
const CREATE_POSTGRES: &str = "SELECT pg_advisory_xact_lock(7075862351020164);
CREATE TABLE IF NOT EXISTS birun_migrations (
    version BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, checksum BYTEA NOT NULL,
    applied_at BIGINT NOT NULL DEFAULT (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT)";

const EXISTS_SQLITE: &str = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'birun_migrations'";
const EXISTS_POSTGRES: &str = "SELECT 1 WHERE to_regclass('birun_migrations') IS NOT NULL";

const APPLIED: &str = "SELECT version, checksum FROM birun_migrations ORDER BY version";
const NOTE: &str = "INSERT INTO birun_migrations (version, name, checksum) VALUES ($1, $2, $3)";

impl Migration {
    const fn sql(&self, dialect: Dialect) -> &'static str {
        dialect.pick(self.sqlite, self.postgres)
    }

    fn checksum(&self, dialect: Dialect) -> Vec<u8> {
        Sha256::digest(self.sql(dialect)).to_vec()
    }
}

/// What the database says was applied: version and checksum.
type Applied = Vec<(i64, Vec<u8>)>;

/// Brings the schema up to date. Whoever comes second finds nothing to do.
pub(crate) async fn migrate(tx: &mut Tx<'_>) -> StoreResult<()> {
    let dialect = tx.dialect();
    tx.script(dialect.pick(CREATE_SQLITE, CREATE_POSTGRES)).await?;
    let pending = pending(dialect, MIGRATIONS, &applied(tx).await?)?;
    for migration in pending {
        tx.script(migration.sql(dialect)).await?;
        tx.exec(NOTE, binds![migration.version, migration.name, migration.checksum(dialect)]).await?;
    }
    Ok(())
}

/// Checks that the schema is this birun's.
pub(crate) async fn check(tx: &mut Tx<'_>) -> StoreResult<()> {
    let dialect = tx.dialect();
    let exists = tx.one(dialect.pick(EXISTS_SQLITE, EXISTS_POSTGRES), Vec::new()).await?.is_some();
    let applied = if exists { applied(tx).await? } else { Vec::new() };
    let pending = pending(dialect, MIGRATIONS, &applied)?;
    if pending.is_empty() {
        return Ok(());
    }
    let (found, needed) = (newest(&applied), newest_known(MIGRATIONS));
    Err(StoreError::Schema {
        code: ErrorCode::SchemaOutdated,
        why: format!("the database has schema version {found}, this birun needs version {needed}"),
    })
}

async fn applied(tx: &mut Tx<'_>) -> StoreResult<Applied> {
    let rows = tx.all(APPLIED, Vec::new()).await?;
    rows.iter()
        .map(|row| {
            let mut columns = row.columns("birun_migrations");
            Ok((columns.int()?, columns.bytes()?))
        })
        .collect()
}

/// The migrations that are still to be applied, if those that were applied are ours.
fn pending<'m>(dialect: Dialect, known: &'m [Migration], applied: &Applied) -> StoreResult<Vec<&'m Migration>> {
    let (found, newest_known) = (newest(applied), newest_known(known));
    if found > newest_known {
        return Err(StoreError::Schema {
            code: ErrorCode::SchemaNewer,
            why: format!("the database has schema version {found}, this birun knows only version {newest_known}"),
        });
    }
    let mut pending = Vec::new();
    for migration in known {
        match applied.iter().find(|(version, _)| *version == migration.version) {
            None => pending.push(migration),
            Some((_, checksum)) if *checksum == migration.checksum(dialect) => {}
            Some(_) => return Err(altered(migration)),
        }
    }
    Ok(pending)
}

fn altered(migration: &Migration) -> StoreError {
    let Migration { version, name, .. } = migration;
    StoreError::Corrupt {
        what: format!("migration {version:04}_{name} was applied with another text than this birun's"),
    }
}

fn newest(applied: &Applied) -> i64 {
    applied.iter().map(|(version, _)| *version).max().unwrap_or_default()
}

fn newest_known(known: &[Migration]) -> i64 {
    known.iter().map(|migration| migration.version).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Migration] = &[
        Migration { version: 1, name: "init", sqlite: "A", postgres: "a" },
        Migration { version: 2, name: "more", sqlite: "B", postgres: "b" },
    ];

    fn applied(texts: &[&str]) -> Applied {
        (1..).zip(texts).map(|(version, text)| (version, Sha256::digest(text).to_vec())).collect()
    }

    fn versions(dialect: Dialect, texts: &[&str]) -> StoreResult<Vec<i64>> {
        Ok(pending(dialect, KNOWN, &applied(texts))?.iter().map(|migration| migration.version).collect())
    }

    #[test]
    fn what_is_not_applied_is_pending() {
        assert_eq!(versions(Dialect::Sqlite, &[]).unwrap(), [1, 2]);
        assert_eq!(versions(Dialect::Sqlite, &["A"]).unwrap(), [2]);
        assert!(versions(Dialect::Postgres, &["a", "b"]).unwrap().is_empty());
    }

    #[test]
    fn an_altered_migration_is_refused() {
        assert!(matches!(versions(Dialect::Postgres, &["A"]), Err(StoreError::Corrupt { .. })));
    }

    #[test]
    fn a_newer_schema_is_refused() {
        let newer = versions(Dialect::Sqlite, &["A", "B", "C"]);
        assert!(matches!(newer, Err(StoreError::Schema { code: ErrorCode::SchemaNewer, .. })));
    }

    #[test]
    fn migrations_count_from_one_without_gaps() {
        assert!(MIGRATIONS.iter().map(|migration| migration.version).eq(1..=newest_known(MIGRATIONS)));
    }
}
