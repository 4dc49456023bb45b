//! Migrations: never applied, applied by several at once, altered, newer.

use birun_core::ErrorCode;
use birun_core::execution::ExecutionStore as _;
use birun_core::inventory::HostKeyStore as _;
use birun_core::page::PageRequest;
use birun_core::store::{StoreError, StoreResult, SystemStore as _};
use birun_core::testing::harness::Suite;
use birun_core::testing::store::make::{here, job};
use birun_store::SqlStore;
use futures::future::join_all;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Executor as _};
use tempfile::TempDir;

use crate::backend::{Schema, file_url, need_postgres, options};

pub(crate) fn add_to(suite: &mut Suite) {
    macro_rules! add {
        ($($name:ident),+ $(,)?) => {$(
            suite.test(concat!("migrations::sqlite::", stringify!($name)), &[], || async { $name(Place::file()).await });
            suite.test(concat!("migrations::postgres::", stringify!($name)), &[need_postgres()], || async {
                $name(Place::schema().await).await;
            });
        )+};
    }
    add!(
        a_database_that_was_never_migrated_is_outdated,
        a_table_that_was_taken_away_is_damage,
        migrating_again_changes_nothing,
        several_may_migrate_at_once,
        an_altered_migration_is_refused,
        a_newer_schema_is_refused,
    );
}

/// Where a database is, and how to meddle with it.
enum Place {
    File(TempDir),
    Schema(Schema),
}

impl Place {
    fn file() -> Self {
        Self::File(TempDir::new().unwrap())
    }

    async fn schema() -> Self {
        Self::Schema(Schema::create().await)
    }

    async fn open(&self) -> SqlStore {
        let url = match self {
            Self::File(directory) => file_url(&directory.path().join("birun.db")),
            Self::Schema(schema) => schema.url(),
        };
        SqlStore::open_with(&url, options()).await.unwrap()
    }

    async fn run(&self, sql: &str) {
        match self {
            Self::File(directory) => {
                let path = directory.path().join("birun.db");
                let mut conn = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
                conn.execute(sqlx::AssertSqlSafe(sql.to_owned())).await.unwrap();
            }
            Self::Schema(schema) => schema.run(sql).await,
        }
    }

    async fn remove(self, store: SqlStore) {
        store.close().await;
        if let Self::Schema(schema) = self {
            schema.drop().await;
        }
    }
}

fn code(result: StoreResult<()>) -> ErrorCode {
    birun_core::Error::from(result.unwrap_err()).code()
}

async fn a_database_that_was_never_migrated_is_outdated(place: Place) {
    let store = place.open().await;
    assert_eq!(code(store.check().await), ErrorCode::SchemaOutdated);
    let submitted = store.submit(&here(), job("ping", 1)).await;
    assert_eq!(code(submitted.map(drop)), ErrorCode::SchemaOutdated);
    store.migrate().await.unwrap();
    store.check().await.unwrap();
    store.submit(&here(), job("ping", 1)).await.unwrap();
    place.remove(store).await;
}

async fn a_table_that_was_taken_away_is_damage(place: Place) {
    let store = place.open().await;
    store.migrate().await.unwrap();
    place.run("DROP TABLE birun_host_keys").await;
    let answered = store.host_keys(&here(), None, PageRequest::default()).await;
    assert!(matches!(&answered, Err(StoreError::Corrupt { what }) if what.contains("birun_host_keys")), "{answered:?}");
    place.remove(store).await;
}

async fn migrating_again_changes_nothing(place: Place) {
    let store = place.open().await;
    store.migrate().await.unwrap();
    let submission = job("ping", 1);
    store.submit(&here(), submission.clone()).await.unwrap();
    store.migrate().await.unwrap();
    store.execution(&here(), &submission.execution.id.into()).await.unwrap();
    place.remove(store).await;
}

async fn several_may_migrate_at_once(place: Place) {
    let stores = join_all((0..4).map(|_| place.open())).await;
    for migrated in join_all(stores.iter().map(SqlStore::migrate)).await {
        migrated.unwrap();
    }
    for store in &stores {
        store.check().await.unwrap();
    }
    join_all(stores.iter().skip(1).map(SqlStore::close)).await;
    let first = stores.into_iter().next().unwrap();
    place.remove(first).await;
}

async fn an_altered_migration_is_refused(place: Place) {
    let store = place.open().await;
    store.migrate().await.unwrap();
    let altered = match &place {
        Place::File(_) => "UPDATE birun_migrations SET checksum = x'00'",
        Place::Schema(_) => "UPDATE birun_migrations SET checksum = '\\x00'",
    };
    place.run(altered).await;
    for refused in [store.check().await, store.migrate().await] {
        assert!(matches!(&refused, Err(StoreError::Corrupt { what }) if what.contains("0001_init")), "{refused:?}");
    }
    place.remove(store).await;
}

async fn a_newer_schema_is_refused(place: Place) {
    let store = place.open().await;
    store.migrate().await.unwrap();
    place.run("INSERT INTO birun_migrations (version, name, checksum) SELECT 99, 'future', checksum FROM birun_migrations WHERE version = 1").await;
    for refused in [store.check().await, store.migrate().await] {
        assert_eq!(code(refused), ErrorCode::SchemaNewer);
    }
    place.remove(store).await;
}
