//! What is submitted where the worker has a free slot is claimed as it is accepted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::task::Poll;
use std::time::Duration;

use birun_core::engine::{Engine, Limits, Roles};
use birun_core::execution::{ExecutionStatus, Run, RunHandle};
use birun_core::testing::TestEngine;
use birun_core::{Gate, Store};
use futures::future::{BoxFuture, join_all};
use futures::{FutureExt as _, poll};

use crate::engine::{builder, local, script, store, submit_many};
use crate::faulty::{Faulty, unavailable};

/// A store that tells when it was given a submission.
struct Asked {
    inner: Arc<dyn Store>,
    submitted: Arc<AtomicBool>,
}

impl Asked {
    async fn new() -> Self {
        Self { inner: store().await, submitted: Arc::default() }
    }

    fn store(&self) -> Faulty {
        let submitted = Arc::clone(&self.submitted);
        Faulty::new(Arc::clone(&self.inner), move |method| {
            submitted.fetch_or(method == "submit", SeqCst);
            None
        })
    }

    /// A submission that the store was given, and whose caller does not listen to the answer.
    async fn given<'g>(&self, gate: &'g Gate, body: &str) -> BoxFuture<'g, birun_core::Result<RunHandle>> {
        loop {
            self.submitted.store(false, SeqCst);
            let mut submitting = gate.run(script(body)).boxed();
            let mut answer = Poll::Pending;
            while !self.submitted.load(SeqCst) {
                tokio::task::yield_now().await;
                answer = poll!(&mut submitting);
            }
            let Poll::Ready(accepted) = answer else { return submitting };
            // The store was quick for once.
            let accepted = accepted.expect("accepted");
            gate.cancel(&accepted.id().into()).await.ok();
            accepted.outcome().await.expect("ends");
        }
    }
}

/// Submits until a run is claimed as it is accepted: until the worker has caught up with its queue.
async fn claimed_at_once(gate: &Gate, run: impl Fn() -> Run + Send + Sync) -> RunHandle {
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
    for _ in 0..10 {
        gate.run(script("exit 0")).await.expect_err("refused");
    }
    refuses.store(false, SeqCst);
    succeeds(&claimed_at_once(&gate, || script("exit 0")).await).await;
    engine.shutdown().await.expect("it stops");
}

pub(crate) async fn of_many_that_use_a_key_at_once_all_but_one_keep_no_slot() {
    let engine = TestEngine::start(builder(&local()).await).await.expect("starts");
    let gate = engine.gate();
    for round in 0..20 {
        let request = || script("exit 0").idempotency_key(format!("k{round}"));
        let runs = join_all((0..8).map(|_| gate.run(request()))).await;
        let ids: BTreeSet<_> = runs.iter().map(|run| run.as_ref().expect("answered").id()).collect();
        assert_eq!(ids.len(), 1);
        succeeds(runs[0].as_ref().expect("answered")).await;
    }
    // 64 slots would have been used up by 140 that were kept.
    succeeds(&claimed_at_once(&gate, || script("exit 0")).await).await;
    engine.shutdown().await.expect("it stops");
}

pub(crate) async fn a_worker_that_stops_does_not_wait_for_a_caller_that_does_not_ask() {
    let asked = Asked::new().await;
    let engine = Engine::builder_over(Arc::new(asked.store())).executor(local()).build().await.expect("builds");
    let running = engine.start(Roles::all()).await.expect("starts");
    succeeds(&claimed_at_once(&engine.system(), || script("exit 0")).await).await;
    let gate = engine.system();
    let submitting = asked.given(&gate, "exit 0").await;
    let stopping = running.shutdown(Duration::ZERO);
    tokio::time::timeout(Duration::from_secs(60), stopping).await.expect("in time").expect("it stops");
    let accepted = submitting.await.expect("accepted");
    let left = engine.system().execution(&accepted.id().into()).await.expect("read");
    assert_eq!((left.status, left.worker), (ExecutionStatus::Queued, None));
}

pub(crate) async fn a_late_caller_disturbs_nothing_that_was_taken_up_meanwhile() {
    let fake = local();
    let asked = Asked::new().await;
    let engine = TestEngine::start(Engine::builder_over(Arc::new(asked.store())).executor(fake.clone()));
    let engine = engine.await.expect("starts");
    let gate = engine.gate();
    succeeds(&claimed_at_once(&gate, || script("exit 0")).await).await;
    let submitting = asked.given(&gate, "hold").await;
    let before = fake.runs().len();
    // Nobody knows of the lease, so that it is given back, and claimed again.
    fake.has_begun(before + 1).await;
    let accepted = submitting.await.expect("accepted");
    fake.release();
    succeeds(&accepted).await;
    let ended = gate.execution(&accepted.id().into()).await.expect("read");
    assert_eq!(ended.epoch, 2);
    engine.shutdown().await.expect("it stops");
}

pub(crate) async fn a_caller_that_goes_away_as_it_submits_loses_nothing() {
    let asked = Asked::new().await;
    let limits = Limits { slots: 1, ..Limits::default() };
    let builder = Engine::builder_over(Arc::new(asked.store())).executor(local()).limits(limits);
    let engine = TestEngine::start(builder).await.expect("starts");
    let gate = engine.gate();
    for _ in 0..20 {
        drop(asked.given(&gate, "exit 0").await);
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
    let earlier = submit_many(&store, &fake, 20, "hold").await;
    let limits = Limits { slots: 1, ..Limits::default() };
    let builder = Engine::builder_over(store).executor(fake.clone()).limits(limits);
    let engine = builder.build().await.expect("builds");
    let running = engine.start(Roles::all()).await.expect("starts");
    let later = engine.system().run(script("exit 0")).await.expect("accepted");
    assert_eq!(later.execution().status, ExecutionStatus::Queued);
    for begun in 1..=earlier.len() {
        fake.has_begun(begun).await;
        fake.release();
    }
    let later = later.outcome().await.expect("ends").execution;
    for run in earlier {
        let earlier = run.outcome().await.expect("ends").execution;
        assert!(earlier.finished_at <= later.started_at, "{earlier:?} {later:?}");
    }
    running.shutdown(Duration::ZERO).await.expect("it stops");
}
