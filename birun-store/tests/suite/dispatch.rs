//! What dispatch promises, shown with an engine's side that does as the case says.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use birun_core::execution::{Claimed, Dispatcher, Drive};
use birun_core::id::ExecutionId;
use birun_core::testing::harness::Suite;
use birun_store::ApalisDispatcher;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::backend::{claimed_executions, sqlite_memory, wait_until};

pub(crate) fn add_to(suite: &mut Suite) {
    suite.test("dispatch::each_claimed_execution_is_started_once", &[], each_claimed_execution_is_started_once);
    suite.test("dispatch::a_panic_in_start_stops_nothing_else", &[], a_panic_in_start_stops_nothing_else);
    suite.test("dispatch::a_panic_in_next_stops_nothing", &[], a_panic_in_next_stops_nothing);
    suite.test("dispatch::stopping_ends_it_while_it_waits", &[], stopping_ends_it_while_it_waits);
    suite.test("dispatch::what_was_taken_is_started_when_it_stops", &[], what_was_taken_is_started_when_it_stops);
    suite.test("dispatch::it_does_not_spin_when_it_is_given_nothing", &[], it_does_not_spin_when_it_is_given_nothing);
}

/// Hands out batches and remembers what was started.
#[derive(Debug, Default)]
struct Script {
    batches: Mutex<VecDeque<Vec<Claimed>>>,
    more: Notify,
    started: Mutex<Vec<ExecutionId>>,
    asked: AtomicUsize,
    panics_on: Mutex<Option<ExecutionId>>,
    panics_next: Mutex<bool>,
    closed: bool,
    stop_at_first: Option<CancellationToken>,
}

#[async_trait]
impl Drive for Script {
    async fn next(&self) -> Vec<Claimed> {
        loop {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let panics = std::mem::take(&mut *self.panics_next.lock().unwrap());
            assert!(!panics, "as the case says");
            if let Some(batch) = self.batches.lock().unwrap().pop_front() {
                return batch;
            }
            if self.closed {
                return Vec::new();
            }
            self.more.notified().await;
        }
    }

    fn start(&self, claimed: Claimed) {
        let id = claimed.lease.execution;
        if let Some(stop) = &self.stop_at_first {
            stop.cancel();
        }
        self.started.lock().unwrap().push(id);
        let panics = *self.panics_on.lock().unwrap() == Some(id);
        assert!(!panics, "as the case says");
    }
}

impl Script {
    fn give(&self, batch: &[Claimed]) {
        self.batches.lock().unwrap().push_back(batch.to_vec());
        self.more.notify_one();
    }

    fn started(&self) -> Vec<ExecutionId> {
        self.started.lock().unwrap().clone()
    }
}

fn run(script: &Arc<Script>) -> (JoinHandle<()>, CancellationToken) {
    let stop = CancellationToken::new();
    let (drive, token): (Arc<dyn Drive>, _) = (Arc::<Script>::clone(script), stop.clone());
    (tokio::spawn(async move { ApalisDispatcher.run("test", drive, token).await }), stop)
}

async fn claims(count: u32) -> Vec<Claimed> {
    let fixture = sqlite_memory().await;
    let claimed = claimed_executions(&fixture.store, count).await;
    fixture.remove().await;
    claimed
}

fn ids(claimed: &[Claimed]) -> Vec<ExecutionId> {
    claimed.iter().map(|claimed| claimed.lease.execution).collect()
}

async fn ends(running: JoinHandle<()>) {
    let ended = tokio::time::timeout(std::time::Duration::from_secs(10), running).await;
    ended.expect("it ends soon").expect("it does not panic");
}

async fn each_claimed_execution_is_started_once() {
    let claimed = claims(100).await;
    let script = Arc::new(Script::default());
    let (running, stop) = run(&script);
    for batch in claimed.chunks(7) {
        script.give(batch);
    }
    wait_until("all are started", || async { script.started().len() >= 100 }).await;
    assert_eq!(script.started(), ids(&claimed));
    stop.cancel();
    ends(running).await;
    assert_eq!(script.started().len(), 100);
}

async fn a_panic_in_start_stops_nothing_else() {
    let claimed = claims(20).await;
    let script = Arc::new(Script::default());
    *script.panics_on.lock().unwrap() = Some(claimed[3].lease.execution);
    let (running, stop) = run(&script);
    script.give(&claimed[..10]);
    script.give(&claimed[10..]);
    wait_until("all are started", || async { script.started().len() >= 20 }).await;
    assert_eq!(script.started(), ids(&claimed));
    stop.cancel();
    ends(running).await;
}

async fn a_panic_in_next_stops_nothing() {
    let claimed = claims(3).await;
    let script = Arc::new(Script::default());
    *script.panics_next.lock().unwrap() = true;
    let (running, stop) = run(&script);
    script.give(&claimed);
    wait_until("all are started", || async { script.started().len() >= 3 }).await;
    stop.cancel();
    ends(running).await;
}

async fn stopping_ends_it_while_it_waits() {
    let script = Arc::new(Script::default());
    let (running, stop) = run(&script);
    wait_until("it waits", || async { script.asked.load(Ordering::Relaxed) > 0 }).await;
    stop.cancel();
    ends(running).await;
    // A stop that came before the start counts too.
    let stopped = CancellationToken::new();
    stopped.cancel();
    ApalisDispatcher.run("test", script, stopped).await;
}

async fn what_was_taken_is_started_when_it_stops() {
    let claimed = claims(10).await;
    let stop = CancellationToken::new();
    let script = Arc::new(Script { stop_at_first: Some(stop.clone()), ..Script::default() });
    script.give(&claimed);
    let drive: Arc<dyn Drive> = Arc::<Script>::clone(&script);
    ends(tokio::spawn(async move { ApalisDispatcher.run("test", drive, stop).await })).await;
    assert_eq!(script.started(), ids(&claimed));
}

async fn it_does_not_spin_when_it_is_given_nothing() {
    let script = Arc::new(Script { closed: true, ..Script::default() });
    let (running, stop) = run(&script);
    wait_until("it asks again", || async { script.asked.load(Ordering::Relaxed) >= 3 }).await;
    let (asked, since) = (script.asked.load(Ordering::Relaxed), tokio::time::Instant::now());
    wait_until("it asks again", || async { script.asked.load(Ordering::Relaxed) >= asked + 2 }).await;
    assert!(since.elapsed() >= std::time::Duration::from_millis(40), "it rests in between");
    stop.cancel();
    ends(running).await;
}
