//! What only PostgreSQL has: leases by the database's clock, connections that break.

use std::time::Duration;

use birun_core::execution::{
    Execution, ExecutionStatus, ExecutionStore as _, JournalStore as _, QueueStore as _, Renewal, StepStart,
};
use birun_core::store::StoreError;
use birun_core::testing::harness::Suite;
use birun_core::testing::store::make::{at, audit, command, here, job, worker_named};
use birun_store::{SqlStore, StoreOptions};
use futures::future::join_all;
use sqlx::Executor as _;

use crate::backend::{Schema, claimed_executions, need_postgres, options, wait_until};

const LEASE: Duration = Duration::from_millis(400);

pub(crate) fn add_to(suite: &mut Suite) {
    macro_rules! add {
        ($($name:ident),+ $(,)?) => {$(
            suite.test(concat!("postgres::", stringify!($name)), &[need_postgres()], $name);
        )+};
    }
    add!(
        a_lease_that_is_renewed_outlives_its_length,
        a_worker_that_does_not_renew_is_dead_after_its_lease,
        a_reaper_without_contact_voids_no_lease,
        a_lease_that_ran_out_and_was_not_taken_is_renewed,
        a_worker_whose_lease_ran_out_claims_nothing,
        broken_connections_are_replaced,
        a_body_that_is_being_used_is_not_deleted_beside,
        a_start_that_is_written_again_beside_itself_counts_once,
        a_server_that_falls_silent_is_unavailable_in_time,
        a_server_that_is_not_there_is_unavailable,
    );
}

async fn open(schema: &Schema) -> SqlStore {
    let store = SqlStore::open_with(&schema.url(), StoreOptions { lease: LEASE, ..options() }).await.unwrap();
    store.migrate().await.unwrap();
    store
}

/// Puts the database's clock forward, for leases.
async fn put_clock_forward(schema: &Schema, seconds: u32) {
    let now = format!(
        "CREATE OR REPLACE FUNCTION birun_now() RETURNS BIGINT LANGUAGE sql VOLATILE
            AS 'SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT + {seconds}000000'"
    );
    schema.run(&now).await;
}

async fn end(schema: Schema, stores: impl IntoIterator<Item = SqlStore>) {
    for store in stores {
        store.close().await;
    }
    schema.drop().await;
}

async fn a_lease_that_is_renewed_outlives_its_length() {
    let schema = Schema::create().await;
    let (worker, reaper) = (open(&schema).await, open(&schema).await);
    let lease = claimed_executions(&worker, 1).await[0].lease;
    let since = tokio::time::Instant::now();
    wait_until("three leases have gone by", || async {
        assert_eq!(worker.renew(&here(), lease.worker, &[lease]).await.unwrap().named, [Renewal::Held]);
        assert_eq!(reaper.reap(&here(), 3, at(5)).await.unwrap().executions(), 0);
        since.elapsed() > 3 * LEASE
    })
    .await;
    end(schema, [worker, reaper]).await;
}

async fn a_worker_that_does_not_renew_is_dead_after_its_lease() {
    let schema = Schema::create().await;
    let (dead, reaper) = (open(&schema).await, open(&schema).await);
    let lease = claimed_executions(&dead, 2).await[0].lease;
    let since = tokio::time::Instant::now();
    wait_until("it is reaped", || async { reaper.reap(&here(), 3, at(5)).await.unwrap().executions() == 2 }).await;
    assert!(since.elapsed() >= LEASE / 2, "not before its lease ran out");
    assert_eq!(reaper.count_by_status(&here(), ExecutionStatus::Queued).await.unwrap(), 2);
    assert_eq!(dead.renew(&here(), lease.worker, &[lease]).await.unwrap().named, [Renewal::Lost]);
    // Having asked, it is registered again, and may claim.
    assert_eq!(dead.claim(&here(), lease.worker, 10, at(5)).await.unwrap().len(), 2);
    end(schema, [dead, reaper]).await;
}

async fn a_reaper_without_contact_voids_no_lease() {
    let schema = Schema::create().await;
    let dead = open(&schema).await;
    claimed_executions(&dead, 1).await;
    put_clock_forward(&schema, 3600).await;
    let reaper = open(&schema).await;
    let since = tokio::time::Instant::now();
    assert_eq!(reaper.reap(&here(), 3, at(5)).await.unwrap().executions(), 0, "it has been there for a moment only");
    wait_until("it is reaped", || async { reaper.reap(&here(), 3, at(5)).await.unwrap().executions() == 1 }).await;
    assert!(since.elapsed() >= LEASE / 2, "not before it was there for a while");
    end(schema, [dead, reaper]).await;
}

async fn a_lease_that_ran_out_and_was_not_taken_is_renewed() {
    let schema = Schema::create().await;
    let worker = open(&schema).await;
    let lease = claimed_executions(&worker, 1).await[0].lease;
    let registered = || async { worker.workers(&here()).await.unwrap()[0].alive };
    wait_until("its lease ran out", || async { !registered().await }).await;
    assert_eq!(worker.renew(&here(), lease.worker, &[lease]).await.unwrap().named, [Renewal::Held]);
    assert!(registered().await);
    end(schema, [worker]).await;
}

async fn a_worker_whose_lease_ran_out_claims_nothing() {
    let schema = Schema::create().await;
    let store = open(&schema).await;
    store.submit(&here(), job("ping", 1)).await.unwrap();
    let worker = worker_named("host-1");
    store.register(&here(), &worker).await.unwrap();
    put_clock_forward(&schema, 3600).await;
    assert!(store.claim(&here(), worker.id, 10, at(1)).await.unwrap().is_empty());
    end(schema, [store]).await;
}

async fn broken_connections_are_replaced() {
    let schema = Schema::create().await;
    let store = open(&schema).await;
    let submit = || async { store.submit(&here(), job("ping", 1)).await.map(drop) };
    join_all((0..8).map(|_| submit())).await.into_iter().for_each(Result::unwrap);
    let of_the_store = format!("application_name = '{}'", schema.name);
    schema.run(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {of_the_store}")).await;
    // A dead connection shows when it is used: nothing was changed by then.
    for submitted in join_all((0..8).map(|_| submit())).await {
        submitted.unwrap();
    }
    wait_until("it can be read", || async { store.count_by_status(&here(), ExecutionStatus::Queued).await.is_ok() })
        .await;
    assert_eq!(store.count_by_status(&here(), ExecutionStatus::Queued).await.unwrap(), 16);
    end(schema, [store]).await;
}

async fn a_body_that_is_being_used_is_not_deleted_beside() {
    let schema = Schema::create().await;
    let (one, other) = (open(&schema).await, open(&schema).await);
    for round in 0..40 {
        let first = command("uptime");
        let id = first.execution.id;
        one.submit(&here(), first).await.unwrap();
        one.cancel(&here(), id, at(1), &audit("execution.cancel")).await.unwrap();
        let entry = audit("execution.delete");
        let scope = here();
        // The deletion takes the body along, unless the other run is there first.
        let deleting = one.delete_execution(&scope, id, &entry);
        let (deleted, submitted) = futures::join!(deleting, other.submit(&scope, command("uptime")));
        deleted.unwrap();
        assert!(submitted.is_ok(), "round {round}: {submitted:?}");
        schema.run("DELETE FROM birun_executions; DELETE FROM birun_contents").await;
    }
    end(schema, [one, other]).await;
}

/// The answer to a start was lost, and the start is written again while the first is still being committed.
async fn a_start_that_is_written_again_beside_itself_counts_once() {
    let schema = Schema::create().await;
    let store = SqlStore::open_with(&schema.url(), options()).await.unwrap();
    store.migrate().await.unwrap();
    let worker = worker_named("worker");
    store.register(&here(), &worker).await.unwrap();
    store.submit(&here(), job("ping", 2)).await.unwrap();
    let claimed = store.claim(&here(), worker.id, 1, at(100)).await.unwrap().remove(0);
    let mut first = schema.connect().await;
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut first).await.unwrap();
    first
        .execute(
            "BEGIN; UPDATE birun_executions SET rev = rev + 1, n_pending = 1, n_running = 1;
            UPDATE birun_steps SET status = 'running' WHERE ordinal = 0",
        )
        .await
        .unwrap();
    let starts: Vec<StepStart> =
        claimed.steps.iter().map(|step| StepStart { step: step.id, handle: None, at: at(101) }).collect();
    let scope = here();
    let again = store.start_steps(&scope, &claimed.lease, &starts[..1]);
    let commit = async {
        let mut watcher = schema.connect().await;
        let waiting = "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid)))";
        while !sqlx::query_scalar::<_, bool>(waiting).bind(pid).fetch_one(&mut watcher).await.unwrap() {
            tokio::task::yield_now().await;
        }
        first.execute("COMMIT").await.unwrap();
    };
    let (again, ()) = futures::join!(again, commit);
    again.unwrap();
    let counts = |execution: Execution| (execution.counts.pending, execution.counts.running);
    assert_eq!(counts(store.execution(&here(), &claimed.execution.id.into()).await.unwrap()), (1, 1));
    store.start_steps(&here(), &claimed.lease, &starts).await.unwrap();
    assert_eq!(counts(store.execution(&here(), &claimed.execution.id.into()).await.unwrap()), (0, 2));
    end(schema, [store]).await;
}

async fn a_server_that_falls_silent_is_unavailable_in_time() {
    let schema = Schema::create().await;
    let store = open(&schema).await;
    store.submit(&here(), job("ping", 1)).await.unwrap();
    assert_eq!(store.count_by_status(&here(), ExecutionStatus::Queued).await.unwrap(), 1);
    // Whoever reads or writes waits for this one, as for a server that does not answer any more.
    let mut silence = schema.connect().await;
    silence.execute("BEGIN; LOCK TABLE birun_executions IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let since = tokio::time::Instant::now();
    let read = async { store.count_by_status(&here(), ExecutionStatus::Queued).await.map(drop) };
    // So many that they share commits: none waits for the others' limits.
    let written = join_all((0..24).map(|_| async { store.submit(&here(), job("ping", 1)).await.map(drop) }));
    let (read, written) = futures::join!(read, written);
    for answer in written.into_iter().chain([read]) {
        assert!(matches!(answer, Err(StoreError::Unavailable { .. })), "{answer:?}");
    }
    assert!(since.elapsed() < Duration::from_secs(9), "after {:?}", since.elapsed());
    drop(silence);
    wait_until("it can be read", || async { store.count_by_status(&here(), ExecutionStatus::Queued).await.is_ok() })
        .await;
    store.submit(&here(), job("ping", 1)).await.unwrap();
    end(schema, [store]).await;
}

async fn a_server_that_is_not_there_is_unavailable() {
    let opened = SqlStore::open_with("postgres://ana:hunter2@127.0.0.1:1/birun", options()).await;
    let error = opened.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
}
