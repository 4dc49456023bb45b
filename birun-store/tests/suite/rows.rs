//! Rows that this birun cannot read, as a newer one may leave them.

use std::future::Future;

use birun_core::execution::{ExecutionFilter, ExecutionStatus, ExecutionStore as _, QueueStore as _};
use birun_core::page::PageRequest;
use birun_core::store::StoreError;
use birun_core::testing::harness::Suite;
use birun_core::testing::store::make::{at, here, job, worker_named};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Executor as _};

use crate::backend::{Fixture, need_postgres, postgres, sqlite_file};

pub(crate) fn add_to(suite: &mut Suite) {
    macro_rules! add {
        ($($name:ident),+ $(,)?) => {$(
            suite.test(concat!("rows::sqlite::", stringify!($name)), &[], || $name(sqlite_file()));
            suite.test(concat!("rows::postgres::", stringify!($name)), &[need_postgres()], || $name(postgres()));
        )+};
    }
    add!(an_unknown_word_is_told_with_its_row, a_row_that_cannot_be_read_stops_no_other);
}

async fn run(fixture: &Fixture, sql: &str) {
    if let Some(schema) = &fixture.schema {
        schema.run(sql).await;
    } else if let Some(directory) = &fixture.directory {
        let options = SqliteConnectOptions::new().filename(directory.path().join("birun.db"));
        options.connect().await.unwrap().execute(sqlx::AssertSqlSafe(sql.to_owned())).await.unwrap();
    }
}

async fn an_unknown_word_is_told_with_its_row(fixture: impl Future<Output = Fixture>) {
    let fixture = fixture.await;
    let store = &fixture.store;
    let submission = job("ping", 1);
    store.submit(&here(), submission.clone()).await.unwrap();
    run(&fixture, "UPDATE birun_executions SET kind = 'workflow'").await;
    let id = submission.execution.id;
    let read = store.execution(&here(), &id.into()).await.unwrap_err();
    let StoreError::Corrupt { what } = read else { panic!("{read:?}") };
    for part in ["birun_executions", &id.to_string(), "kind", "workflow"] {
        assert!(what.contains(part), "{what} does not name {part}");
    }
    let listed = store.executions(&here(), &ExecutionFilter::default(), PageRequest::default()).await;
    assert!(matches!(listed, Err(StoreError::Corrupt { .. })), "{listed:?}");
    fixture.remove().await;
}

async fn a_row_that_cannot_be_read_stops_no_other(fixture: impl Future<Output = Fixture>) {
    let fixture = fixture.await;
    let store = &fixture.store;
    for title in ["good", "strange", "strange-step", "good"] {
        store.submit(&here(), job(title, 2)).await.unwrap();
    }
    run(&fixture, "UPDATE birun_executions SET triggered_by = 'comet' WHERE title = 'strange'").await;
    run(
        &fixture,
        "UPDATE birun_steps SET target = 'not a name' WHERE ordinal = 1 AND execution_id IN
            (SELECT id FROM birun_executions WHERE title = 'strange-step')",
    )
    .await;
    let worker = worker_named("host-1");
    store.register(&here(), &worker).await.unwrap();
    let claimed = store.claim(&here(), worker.id, 10, at(1)).await.unwrap();
    let titles: Vec<&str> = claimed.iter().map(|claimed| claimed.execution.subject.title.as_str()).collect();
    assert_eq!(titles, ["good", "good"]);
    // The others are put aside for a while, and nobody's.
    assert!(store.claim(&here(), worker.id, 10, at(2)).await.unwrap().is_empty());
    assert_eq!(store.count_by_status(&here(), ExecutionStatus::Queued).await.unwrap(), 2);
    run(&fixture, "UPDATE birun_executions SET triggered_by = 'manual'").await;
    run(&fixture, "UPDATE birun_steps SET target = 'web-1' WHERE ordinal = 1").await;
    assert_eq!(store.claim(&here(), worker.id, 10, at(120)).await.unwrap().len(), 2);
    fixture.remove().await;
}
