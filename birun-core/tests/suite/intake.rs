//! What is submitted where the worker has a free slot is claimed as it is accepted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use birun_core::Gate;
use birun_core::engine::{Engine, Limits, Roles};
use birun_core::execution::{ExecutionStatus, Run, RunHandle};
use birun_core::testing::TestEngine;
use tokio::sync::Notify;

use crate::engine::{builder, local, script, store, submit_many};
use crate::faulty::{Faulty, unavailable};

/// Submits until a run is claimed as it is accepted: until the worker has caught up with its queue.
async fn claimed_at_once(gate: &Gate, run: impl Fn() -> Run) -> RunHandle {
    let submitting = async {
        loop {
            let run = gate.run(run()).await.expect("accepted");
            if run.execution().status == ExecutionStatus::Running {
                return run;
            }
            run.outcome().await.expect("ends");
        }
    };
    tokio::time::timeout(Duration::from_secs(60), submitting).await.expect("the worker catches up")
}

async fn succeeds(run: &RunHandle) {
    let ended = tokio::time::timeout(Duration::from_secs(60), run.outcome()).await.expect("in time").expect("ends");
    assert_eq!(ended.execution.status, ExecutionStatus::Succeeded);
}

pub(crate) async fn a_free_slot_spares_a_submission_the_queue() {
    let claims = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&claims);
    let store = Faulty::new(store().await, move |method| {
        counted.fetch_add(usize::from(method == "claim"), SeqCst);
        None
    });
    let engine = TestEngine::start(Engine::builder_over(Arc::new(store)).executor(local())).await.expect("starts");
    let gate = engine.gate();
    succeeds(&claimed_at_once(&gate, || script("exit 0")).await).await;
    let before = claims.load(SeqCst);
    for _ in 0..5 {
        succeeds(&claimed_at_once(&gate, || script("exit 0")).await).await;
    }
    assert_eq!(claims.load(SeqCst), before);
    engine.shutdown().await.expect("it stops");
}

pub(crate) async fn without_a_free_slot_a_submission_waits_in_the_queue() {
    let fake = local();
    let limits = Limits { slots: 1, ..Limits::default() };
    let engine = TestEngine::start(builder(&fake).await.limits(limits)).await.expect("starts");
    let gate = engine.gate();
    succeeds(&claimed_at_once(&gate, || script("exit 0")).await).await;
    let holds = gate.run(script("hang")).await.expect("accepted");
    let waits = gate.run(script("exit 0")).await.expect("accepted");
    assert_eq!(waits.execution().status, ExecutionStatus::Queued);
    gate.cancel(&holds.id().into()).await.expect("cancelled");
    succeeds(&waits).await;
    engine.shutdown().await.expect("it stops");
}

pub(crate) async fn a_submission_that_the_store_refuses_keeps_no_slot() {
    let refuses = Arc::new(AtomicBool::new(false));
    let refusing = Arc::clone(&refuses);
    let store =
        Faulty::new(
            store().await,
            move |method| {
                if method == "submit" && refusing.load(SeqCst) { unavailable() } else { None }
            },
        );
    let limits = Limits { slots: 1, ..Limits::default() };
    let builder = Engine::builder_over(Arc::new(store)).executor(local()).limits(limits);
    let engine = TestEngine::start(builder).await.expect("starts");
    let gate = engine.gate();
    succeeds(&claimed_at_once(&gate, || script("exit 0")).await).await;
    refuses.store(true, SeqCst);
    gate.run(script("exit 0")).await.expect_err("refused");
    refuses.store(false, SeqCst);
    succeeds(&claimed_at_once(&gate, || script("exit 0")).await).await;
    let twice = || script("exit 0").idempotency_key("k");
    succeeds(&gate.run(twice()).await.expect("accepted")).await;
    succeeds(&gate.run(twice()).await.expect("answered")).await;
    succeeds(&claimed_at_once(&gate, || script("exit 0")).await).await;
    engine.shutdown().await.expect("it stops");
}

pub(crate) async fn a_caller_that_goes_away_as_it_submits_loses_nothing() {
    let under_way = Arc::new(Notify::new());
    let telling = Arc::clone(&under_way);
    let store = Faulty::new(store().await, move |method| {
        if method == "submit" {
            telling.notify_one();
        }
        None
    });
    let limits = Limits { slots: 1, ..Limits::default() };
    let builder = Engine::builder_over(Arc::new(store)).executor(local()).limits(limits);
    let engine = TestEngine::start(builder).await.expect("starts");
    let gate = engine.gate();
    for _ in 0..20 {
        tokio::select! {
            biased;
            accepted = gate.run(script("exit 0")) => drop(accepted.expect("accepted")),
            () = under_way.notified() => {}
        }
    }
    let open = async {
        loop {
            let queue = gate.queue().await.expect("read");
            if (queue.queued, queue.running) == (0, 0) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), open).await.expect("all of them end");
    succeeds(&gate.run(script("exit 0")).await.expect("accepted")).await;
    engine.shutdown().await.expect("it stops");
}

pub(crate) async fn what_was_queued_before_comes_first() {
    let fake = local();
    let store = store().await;
    let earlier = submit_many(&store, &fake, 20, "exit 0").await;
    let limits = Limits { slots: 1, ..Limits::default() };
    let builder = Engine::builder_over(store).executor(fake.clone()).limits(limits);
    let engine = builder.build().await.expect("builds");
    let running = engine.start(Roles::all()).await.expect("starts");
    let later = engine.system().run(script("exit 0")).await.expect("accepted");
    assert_eq!(later.execution().status, ExecutionStatus::Queued);
    let later = later.outcome().await.expect("ends").execution;
    for run in earlier {
        let earlier = run.outcome().await.expect("ends").execution;
        assert!(earlier.finished_at <= later.started_at, "{earlier:?} {later:?}");
    }
    running.shutdown(Duration::ZERO).await.expect("it stops");
}
