//! No-op executions end to end through the library: submit, claim, one step, finish, outcome.

use std::path::Path;
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};
use uuid::Uuid;

use crate::Outcome;
use crate::engine::{Started, directory, noop_rate, postgres, sqlite};
use crate::settings::Settings;
use crate::table::{Goal, Line, Table, median};

/// As many as the engine has slots.
pub(crate) const SUBMITTERS: usize = 64;
const POSTGRES_SUBMITTERS: usize = 16;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(3);

pub(crate) async fn measure(settings: &Settings, table: &mut Table) -> Outcome {
    let directory = directory()?;
    let store = sqlite(directory.path()).await?;
    let rate = rate_of(Started::with_noop(store).await?, SUBMITTERS).await?;
    let bare = one_by_one(&directory.path().join("bare.db")).await?;
    table.add(
        Line::new(format!("no-op executions, SQLite, {SUBMITTERS} submitters"), rate, "/s", Goal::AtLeast(2500.0))
            .beside("bare sqlx, 4 commits each, one by one", bare),
    );
    let schema = Schema::create(&settings.postgres).await?;
    let store = postgres(&schema.url(), directory.path()).await?;
    let rate = rate_of(Started::with_noop(store).await?, POSTGRES_SUBMITTERS).await;
    schema.drop().await?;
    let measure = format!("no-op executions, PostgreSQL, {POSTGRES_SUBMITTERS} submitters");
    table.add(Line::new(measure, rate?, "/s", Goal::AtLeast(1000.0)));
    Ok(())
}

/// The median of some rounds, after a short one that prepares statements.
pub(crate) async fn rate_of(started: Started, submitters: usize) -> Outcome<f64> {
    noop_rate(&started.engine, submitters, Duration::from_secs(1)).await?;
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        rates.push(noop_rate(&started.engine, submitters, ROUND).await?);
    }
    started.stop().await?;
    Ok(median(rates))
}

/// A schema of the database, gone when the bench is done.
struct Schema<'a> {
    database: &'a str,
}

const SCHEMA: &str = "birun_bench";

impl<'a> Schema<'a> {
    async fn create(database: &'a str) -> Outcome<Self> {
        let schema = Self { database };
        schema.run("DROP SCHEMA IF EXISTS birun_bench CASCADE; CREATE SCHEMA birun_bench").await?;
        Ok(schema)
    }

    fn url(&self) -> String {
        let mark = if self.database.contains('?') { '&' } else { '?' };
        format!("{}{mark}options[search_path]={SCHEMA}", self.database)
    }

    async fn drop(self) -> Outcome {
        self.run("DROP SCHEMA birun_bench CASCADE").await
    }

    async fn run(&self, sql: &'static str) -> Outcome {
        let mut connection = PgConnection::connect(self.database).await?;
        connection.execute(sqlx::raw_sql(sql)).await?;
        Ok(connection.close().await?)
    }
}

/// What a program gets that keeps the same rows itself: four durable commits for each execution.
async fn one_by_one(path: &Path) -> Outcome<f64> {
    let mut connection = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .connect()
        .await?;
    connection.execute(sqlx::raw_sql(TABLES)).await?;
    let begin = Instant::now();
    let mut done = 0;
    while begin.elapsed() < ROUND {
        bare_execution(&mut connection).await?;
        done += 1;
    }
    let rate = f64::from(done) / begin.elapsed().as_secs_f64();
    connection.close().await?;
    Ok(rate)
}

const TABLES: &str = "CREATE TABLE executions (id BLOB PRIMARY KEY, status TEXT, plan TEXT, worker BLOB);
    CREATE TABLE steps (execution BLOB PRIMARY KEY, status TEXT, finished_at INTEGER);
    CREATE TABLE audit (id BLOB PRIMARY KEY, action TEXT, after TEXT);";
const PLAN: &str = r#"{"kind":"job","title":"no-op","targets":"local","params":{}}"#;

async fn bare_execution(connection: &mut SqliteConnection) -> Outcome {
    let id = Uuid::now_v7();
    let mut tx = connection.begin().await?;
    sqlx::query("INSERT INTO executions VALUES ($1, 'queued', $2, NULL)").bind(id).bind(PLAN).execute(&mut *tx).await?;
    sqlx::query("INSERT INTO steps VALUES ($1, 'pending', NULL)").bind(id).execute(&mut *tx).await?;
    sqlx::query("INSERT INTO audit VALUES ($1, 'execution.run', $2)").bind(id).bind(PLAN).execute(&mut *tx).await?;
    tx.commit().await?;
    sqlx::query("UPDATE executions SET status = 'running', worker = $1 WHERE id = $1")
        .bind(id)
        .execute(&mut *connection)
        .await?;
    sqlx::query("UPDATE steps SET status = 'running' WHERE execution = $1").bind(id).execute(&mut *connection).await?;
    let mut tx = connection.begin().await?;
    sqlx::query("UPDATE steps SET status = 'succeeded', finished_at = 1 WHERE execution = $1")
        .bind(id)
        .execute(&mut *tx)
        .await?;
    sqlx::query("UPDATE executions SET status = 'succeeded', worker = NULL WHERE id = $1")
        .bind(id)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(())
}
