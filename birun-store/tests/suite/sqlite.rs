//! What only a SQLite file can suffer: other processes, killed ones, damage, a full disk.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use birun_core::audit::AuditFilter;
use birun_core::execution::{
    ExecutionFilter, ExecutionStatus, ExecutionStore as _, JournalStore as _, PrunePolicy, QueueStore as _, Renewal,
    Submission,
};
use birun_core::page::PageRequest;
use birun_core::store::{AuditStore as _, StoreError};
use birun_core::testing::harness::{Need, Suite};
use birun_core::testing::store::make::{at, audit, here, job, worker_named};
use birun_store::SqlStore;
use futures::future::join_all;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Executor as _, Row as _};
use tempfile::TempDir;

use crate::backend::{claimed_executions, file_url, open_file, options};
use crate::child;
use crate::log_files::Tmpfs;

pub(crate) fn add_to(suite: &mut Suite) {
    macro_rules! add {
        ($($name:ident),+ $(,)?) => { $(suite.test(concat!("sqlite::", stringify!($name)), &[], $name);)+ };
    }
    add!(
        a_database_held_by_another_process_is_locked_in_time,
        a_file_that_is_no_database_is_corrupt,
        a_damaged_file_is_corrupt,
        a_file_that_cannot_be_opened_is_unavailable,
        a_url_of_nothing_known_is_refused_without_repeating_it,
        what_was_accepted_is_there_after_the_store_was_opened_again,
        two_stores_share_a_file,
        a_store_that_was_closed_is_unavailable,
        a_dropped_caller_does_not_cancel_its_operation,
        a_worker_is_alive_while_its_process_lives_and_dead_when_it_is_killed,
        a_worker_is_dead_when_its_store_was_dropped,
        a_registration_that_failed_can_be_tried_again,
        a_worker_whose_lock_file_was_removed_registers_itself_anew,
        a_prune_gives_the_disk_back,
    );
    let tmpfs = Tmpfs::mount();
    let needs = [Need::new("tmpfs", tmpfs.is_some())];
    suite.test("sqlite::a_full_disk_is_told_and_needs_no_restart", &needs, move || async move {
        a_full_disk_is_told_and_needs_no_restart(tmpfs.unwrap().path()).await;
    });
}

async fn connect(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).connect().await.unwrap()
}

async fn submit(store: &SqlStore, submission: Submission) -> Result<(), StoreError> {
    store.submit(&here(), submission).await.map(drop)
}

async fn a_database_held_by_another_process_is_locked_in_time() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("birun.db");
    let store = open_file(&path).await;
    submit(&store, job("ping", 1)).await.unwrap();
    let mut other = connect(&path).await;
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    let since = Instant::now();
    let (first, second) = futures::join!(submit(&store, job("ping", 1)), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        submit(&store, job("ping", 1)).await
    });
    assert!(matches!(first, Err(StoreError::Locked { .. })), "{first:?}");
    assert!(matches!(second, Err(StoreError::Locked { .. })), "{second:?}");
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    // Reading goes on meanwhile.
    assert_eq!(store.count_by_status(&here(), ExecutionStatus::Queued).await.unwrap(), 1);
    other.execute("COMMIT").await.unwrap();
    submit(&store, job("ping", 1)).await.unwrap();
    assert_eq!(store.count_by_status(&here(), ExecutionStatus::Queued).await.unwrap(), 2);
}

async fn a_file_that_is_no_database_is_corrupt() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("birun.db");
    fs::write(&path, "this is not a database, and long enough to be none\n".repeat(100)).unwrap();
    let opened = SqlStore::open_with(&file_url(&path), options()).await;
    assert!(matches!(opened, Err(StoreError::Corrupt { .. })), "{opened:?}");
}

async fn a_damaged_file_is_corrupt() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("birun.db");
    let store = open_file(&path).await;
    for _ in 0..50 {
        submit(&store, job("ping", 3)).await.unwrap();
    }
    store.close().await;
    let mut bytes = fs::read(&path).unwrap();
    // The first page, which says what is where, is left whole.
    bytes[8192..].fill(0xaa);
    fs::write(&path, bytes).unwrap();
    let store = match SqlStore::open_with(&file_url(&path), options()).await {
        Ok(store) => store,
        // It may show as early as that.
        Err(error) => return assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}"),
    };
    let page = PageRequest::default();
    let read = store.executions(&here(), &ExecutionFilter::default(), page).await;
    assert!(matches!(read, Err(StoreError::Corrupt { .. })), "{read:?}");
    let written = submit(&store, job("ping", 1)).await;
    assert!(matches!(written, Err(StoreError::Corrupt { .. })), "{written:?}");
}

async fn a_file_that_cannot_be_opened_is_unavailable() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("nowhere").join("birun.db");
    let opened = SqlStore::open_with(&file_url(&path), options()).await;
    assert!(matches!(opened, Err(StoreError::Unavailable { .. })), "{opened:?}");
}

async fn a_url_of_nothing_known_is_refused_without_repeating_it() {
    for url in ["mysql://ana:hunter2@db/birun", "postgres://ana:hunter2@db:port/birun", "sqlite://", "birun.db"] {
        let error = SqlStore::open_with(url, options()).await.unwrap_err();
        assert!(matches!(error, StoreError::Conflict { .. }), "{url}: {error:?}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}

async fn what_was_accepted_is_there_after_the_store_was_opened_again() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("birun.db");
    let store = open_file(&path).await;
    let submission = job("ping", 2);
    submit(&store, submission.clone()).await.unwrap();
    store.close().await;
    let store = open_file(&path).await;
    let found = store.execution(&here(), &submission.execution.id.into()).await.unwrap();
    assert_eq!(found, submission.execution);
}

async fn two_stores_share_a_file() {
    const EACH: usize = 60;
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("birun.db");
    let stores = join_all([open_file(&path), open_file(&path)]).await;
    let work = stores.iter().map(|store| async move {
        let worker = worker_named("host-1");
        store.register(&here(), &worker).await.unwrap();
        let submitting = join_all((0..EACH).map(|_| submit(store, job("ping", 1))));
        let claiming = async {
            let mut claimed = Vec::new();
            for _ in 0..EACH {
                claimed.extend(store.claim(&here(), worker.id, 3, at(1)).await.unwrap());
            }
            claimed
        };
        let (submitted, claimed) = futures::join!(submitting, claiming);
        submitted.into_iter().for_each(Result::unwrap);
        (worker, claimed)
    });
    let done = join_all(work).await;
    let mut ids: Vec<_> = done.iter().flat_map(|(_, claimed)| claimed).map(|claimed| claimed.execution.id).collect();
    let claimed = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), claimed, "no execution was claimed twice");
    let queued = stores[0].count_by_status(&here(), ExecutionStatus::Queued).await.unwrap();
    assert_eq!(usize::try_from(queued).unwrap() + claimed, 2 * EACH, "none was lost");
    // Each sees that the other's worker lives.
    for store in &stores {
        assert!(store.workers(&here()).await.unwrap().iter().all(|worker| worker.alive));
        assert_eq!(store.reap(&here(), 3, at(5)).await.unwrap().executions(), 0);
    }
}

async fn a_store_that_was_closed_is_unavailable() {
    let directory = TempDir::new().unwrap();
    let store = open_file(&directory.path().join("birun.db")).await;
    store.close().await;
    let written = submit(&store, job("ping", 1)).await;
    assert!(matches!(written, Err(StoreError::Unavailable { .. })), "{written:?}");
    let read = store.count_by_status(&here(), ExecutionStatus::Queued).await;
    assert!(matches!(read, Err(StoreError::Unavailable { .. })), "{read:?}");
}

async fn a_dropped_caller_does_not_cancel_its_operation() {
    let directory = TempDir::new().unwrap();
    let store = open_file(&directory.path().join("birun.db")).await;
    for _ in 0..20 {
        let submitting = submit(&store, job("ping", 1));
        // Long enough to be queued, mostly too short to be committed.
        drop(tokio::time::timeout(Duration::from_micros(50), submitting).await);
    }
    // What was queued before this one is committed when it answers.
    store.append_audit(&here(), &audit("end")).await.unwrap();
    let entries = store.audit_entries(&here(), &AuditFilter::default(), PageRequest::default()).await.unwrap();
    let queued = store.count_by_status(&here(), ExecutionStatus::Queued).await.unwrap();
    assert_eq!(entries.items.len(), usize::try_from(queued).unwrap() + 1, "all of it or nothing");
    assert!(queued > 0, "a caller that was queued");
}

async fn a_worker_is_alive_while_its_process_lives_and_dead_when_it_is_killed() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("birun.db");
    let store = open_file(&path).await;
    for _ in 0..2 {
        submit(&store, job("ping", 1)).await.unwrap();
    }
    let (mut child, worker, claimed) = child::start(&path);
    assert_eq!(claimed, 2);
    let alive = || async {
        let workers = store.workers(&here()).await.unwrap();
        workers.iter().find(|found| found.registration.id == worker).map(|found| found.alive)
    };
    assert_eq!(alive().await, Some(true));
    assert_eq!(store.reap(&here(), 3, at(1_000_000)).await.unwrap().executions(), 0);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(alive().await, Some(false));
    assert_eq!(store.reap(&here(), 3, at(5)).await.unwrap().executions(), 2);
    assert_eq!(alive().await, None);
    assert_eq!(store.count_by_status(&here(), ExecutionStatus::Queued).await.unwrap(), 2);
    let locks = fs::read_dir(directory.path().join("workers")).unwrap();
    assert_eq!(locks.count(), 0, "its lock file is gone");
}

async fn a_worker_is_dead_when_its_store_was_dropped() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("birun.db");
    let (gone, store) = (open_file(&path).await, open_file(&path).await);
    let claimed = claimed_executions(&gone, 1).await;
    let lease = claimed[0].lease;
    assert_eq!(store.renew(&here(), lease.worker, &[lease]).await.unwrap().named, [Renewal::Held]);
    drop(gone);
    assert_eq!(store.reap(&here(), 3, at(5)).await.unwrap().executions(), 1);
    let late = store.hand_back(&here(), &lease, at(6)).await;
    assert!(matches!(late, Err(StoreError::LeaseLost)), "{late:?}");
}

async fn a_registration_that_failed_can_be_tried_again() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("birun.db");
    let (store, worker) = (open_file(&path).await, worker_named("host-1"));
    let mut other = connect(&path).await;
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    let refused = store.register(&here(), &worker).await;
    assert!(matches!(refused, Err(StoreError::Locked { .. })), "{refused:?}");
    other.execute("COMMIT").await.unwrap();
    store.register(&here(), &worker).await.unwrap();
    assert!(store.workers(&here()).await.unwrap()[0].alive);
}

async fn a_worker_whose_lock_file_was_removed_registers_itself_anew() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("birun.db");
    let (store, other) = (open_file(&path).await, open_file(&path).await);
    let worker = worker_named("host-1");
    store.register(&here(), &worker).await.unwrap();
    fs::remove_dir_all(directory.path().join("workers")).unwrap();
    // Others cannot but take it for dead.
    other.reap(&here(), 3, at(1)).await.unwrap();
    assert!(other.workers(&here()).await.unwrap().is_empty());
    store.renew(&here(), worker.id, &[]).await.unwrap();
    assert!(other.workers(&here()).await.unwrap()[0].alive);
    submit(&store, job("ping", 1)).await.unwrap();
    assert_eq!(store.claim(&here(), worker.id, 10, at(1)).await.unwrap().len(), 1);
    assert_eq!(other.reap(&here(), 3, at(2)).await.unwrap().executions(), 0);
}

async fn a_prune_gives_the_disk_back() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("birun.db");
    let store = open_file(&path).await;
    for _ in 0..100 {
        let mut submission = job("ping", 1);
        submission.execution.detail = Some("x".repeat(20_000));
        let id = submission.execution.id;
        submit(&store, submission).await.unwrap();
        store.cancel(&here(), id, at(1), &audit("execution.cancel")).await.unwrap();
    }
    // What cancelling erases is written again, so that there is something to give back.
    let mut raw = connect(&path).await;
    raw.execute("UPDATE birun_executions SET detail = hex(zeroblob(10000))").await.unwrap();
    raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").await.unwrap();
    let vacuum: i64 = raw.fetch_one("PRAGMA auto_vacuum").await.unwrap().get(0);
    assert_eq!(vacuum, 2, "the file can shrink");
    drop(raw);
    let size = || fs::metadata(&path).unwrap().len();
    let before = size();
    assert!(before > 2_000_000, "{before} bytes");
    let policy = PrunePolicy {
        ended_before: at(100),
        keep_per_subject: 0,
        status: Vec::new(),
        audit_before: at(-1),
        keys_before: at(-1),
    };
    let given_up = store.given_up(&here(), &policy, 1_000).await.unwrap();
    let report = store.prune(&here(), &given_up, &policy, 1_000, &audit("execution.prune")).await.unwrap();
    assert_eq!(report.executions, 100);
    assert!(size() < before / 3, "{} of {before} bytes are left", size());
}

async fn a_full_disk_is_told_and_needs_no_restart(disk: &Path) {
    let path = disk.join("birun.db");
    let store = open_file(&path).await;
    let before = store.count_by_status(&here(), ExecutionStatus::Queued).await.unwrap();
    let mut accepted = before;
    let full = loop {
        let mut submission = job("ping", 1);
        submission.execution.detail = Some("x".repeat(50_000));
        match submit(&store, submission).await {
            Ok(()) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, StoreError::Full { .. }), "{full:?}");
    assert_eq!(store.count_by_status(&here(), ExecutionStatus::Queued).await.unwrap(), accepted);
    fs::remove_file(disk.join("ballast")).unwrap();
    submit(&store, job("ping", 1)).await.unwrap();
    assert_eq!(store.count_by_status(&here(), ExecutionStatus::Queued).await.unwrap(), accepted + 1);
    store.close().await;
}
