//! How executions are driven when something goes wrong around them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use birun_core::audit::AuditEntry;
use birun_core::clock::Clock;
use birun_core::engine::{Engine, Limits, Roles};
use birun_core::execution::{ExecutionStatus, Kill, Reason, Record, Retention, RetryOptions, StepStatus, Stream};
use birun_core::id::ProjectId;
use birun_core::inventory::{
    Credential, HostKeyStatus, NewCredential, NewHostKey, NewServer, OfferedKey, OpenCredential, Verdict,
};
use birun_core::page::PageRequest;
use birun_core::script::{LostPolicy, ParamValue};
use birun_core::store::StoreError;
use birun_core::testing::store::make::audit;
use birun_core::testing::{FakeExecutor, ManualClock, TestEngine, scope};
use birun_core::vault::{MasterKey, Sealed, Secret};
use birun_core::{ErrorCode, Store};
use chrono::DateTime;
use tokio::sync::Notify;

use crate::awkward::{Awkward, OnKill, Unlucky};
use crate::engine::{die_over, end, local, orphan, script, server, settings, start_with, steps, store, text};
use crate::faulty::{Faulty, unavailable};

fn unconfirmed() -> Kill {
    Kill::Unconfirmed { detail: "no route; run on web-1:  kill 7".to_owned() }
}

pub(crate) async fn a_run_whose_link_broke_is_killed_and_run_again_only_if_that_is_confirmed() {
    let patient = || {
        settings(|settings| {
            settings.on_lost = LostPolicy::Retry;
            settings.retry.max_attempts = 2;
            settings.retry.backoff.initial_ms = 1;
        })
    };
    for (kill, attempts) in [(Kill::Confirmed, 2), (Kill::Gone, 2), (unconfirmed(), 1)] {
        let fake = local();
        let engine = start_with(Awkward::killing(&fake, OnKill::Answers(kill.clone()))).await;
        let run = engine.gate().run(script("link-lost").settings(patient())).await.expect("accepted");
        let ended = run.outcome().await.expect("it ends").execution;
        assert_eq!(ended.status, ExecutionStatus::Lost, "{kill:?}");
        let steps = steps(&engine.gate(), &run).await;
        assert_eq!((steps.len(), fake.kills().len()), (attempts, attempts), "{kill:?}");
        assert!(steps.iter().all(|step| step.kill == Some(kill.clone())), "{steps:?}");
        engine.shutdown().await.expect("it stops");
    }
}

pub(crate) async fn an_executor_that_panics_while_it_kills_confirms_nothing() {
    for body in ["link-lost", "panic"] {
        let fake = local();
        let engine = start_with(Awkward::killing(&fake, OnKill::Panics)).await;
        let run = engine.gate().run(script(body)).await.expect("accepted");
        run.outcome().await.expect("it ends");
        let step = steps(&engine.gate(), &run).await.remove(0);
        assert!(
            matches!(&step.kill, Some(Kill::Unconfirmed { detail }) if detail.contains("no kill today")),
            "{step:?}"
        );
        engine.shutdown().await.expect("it stops");
    }
    let (store, fake) = (store().await, local());
    let run = orphan(&store, &fake, LostPolicy::Retry).await;
    let builder = Engine::builder_over(store).executor(Awkward::killing(&fake, OnKill::Panics));
    let engine = TestEngine::start(builder).await.expect("starts");
    let ended = engine.gate().attach(&run.id().into()).await.expect("found").outcome().await.expect("ends").execution;
    assert_eq!(ended.status, ExecutionStatus::Lost);
    assert!(fake.runs().is_empty(), "run beside what may still live");
    engine.shutdown().await.expect("it stops");
}

pub(crate) async fn an_executor_that_panics_over_a_handle_fails_its_step_alone() {
    let fake = local();
    let engine = start_with(Awkward { no_handle: true, ..Awkward::killing(&fake, OnKill::Panics) }).await;
    let run = engine.gate().run(script("exit 0")).await.expect("accepted");
    assert_eq!(run.outcome().await.expect("it ends").execution.status, ExecutionStatus::Failed);
    let step = steps(&engine.gate(), &run).await.remove(0);
    assert_eq!((step.reason, step.error), (Some(Reason::SpawnFailed), Some(ErrorCode::Internal)));
    assert!(fake.runs().is_empty());
    engine.shutdown().await.expect("it stops");
}

pub(crate) async fn a_fault_of_birun_around_an_attempt_ends_it_lost_and_killed() {
    let fake = local();
    let number = Duration::from_millis(987_654);
    let clock = Arc::new(Unlucky { number, ..Unlucky::default() });
    let builder = Engine::builder_over(store().await).executor(fake.clone()).clock(clock);
    let engine = TestEngine::start(builder).await.expect("starts");
    let unlucky = settings(|settings| settings.attempt_timeout_ms = Some(987_654));
    let run = engine.gate().run(script("hang").settings(unlucky)).await.expect("accepted");
    assert_eq!(run.outcome().await.expect("it ends").execution.status, ExecutionStatus::Lost);
    let step = steps(&engine.gate(), &run).await.remove(0);
    assert_eq!((step.status, step.reason), (StepStatus::Lost, Some(Reason::Internal)));
    assert_eq!((step.kill, fake.kills().len()), (Some(Kill::Confirmed), 1));
    engine.shutdown().await.expect("it stops");
}

/// A store whose first calls of a method fail as if it could not be reached.
fn hiccups(inner: Arc<dyn Store>, method: &'static str, count: usize) -> Arc<dyn Store> {
    let left = AtomicUsize::new(count);
    let fails = move || left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
    Arc::new(Faulty::new(inner, move |called| if called == method && fails() { unavailable() } else { None }))
}

pub(crate) async fn a_hiccup_of_storage_does_not_fail_what_is_taken_up() {
    for method in ["content", "start_steps", "end_steps"] {
        let fake = local();
        let store = hiccups(store().await, method, 3);
        let engine = TestEngine::start(Engine::builder_over(store).executor(fake.clone())).await.expect("starts");
        let run = engine.gate().run(script("exit 0")).await.expect("accepted");
        assert_eq!(run.outcome().await.expect("ends").execution.status, ExecutionStatus::Succeeded, "{method}");
        engine.shutdown().await.expect("it stops");
    }
    let (store, fake) = (store().await, local());
    let run = orphan(&store, &fake, LostPolicy::Lost).await;
    let builder = Engine::builder_over(hiccups(store, "content", 3)).executor(fake.clone());
    let engine = TestEngine::start(builder).await.expect("starts");
    let ended = engine.gate().attach(&run.id().into()).await.expect("found").outcome().await.expect("ends").execution;
    assert_eq!((ended.status, fake.kills().len()), (ExecutionStatus::Lost, 1));
    engine.shutdown().await.expect("it stops");
}

pub(crate) async fn a_credential_that_does_not_open_is_the_trouble_of_its_server_alone() {
    let (store, fake) = (store().await, FakeExecutor::named("fake"));
    let key = MasterKey::generate().expect("a key");
    let builder = || Engine::builder_over(Arc::clone(&store)).executor(fake.clone()).master_key(key.clone());
    let idle = builder().build().await.expect("builds");
    let gate = idle.system();
    let value = OpenCredential::Password(Secret::new("correct horse"));
    let new = NewCredential { name: "deploy".parse().expect("a name"), value, description: String::new() };
    let credential = gate.create_credential(new).await.expect("created");
    let guarded = NewServer { credential: Some(credential.id.into()), ..server(0) };
    gate.create_server(guarded).await.expect("created");
    gate.create_server(server(1)).await.expect("created");
    let damaged = Credential { sealed: Sealed::from_bytes(vec![1, 2, 3]), version: 2, ..credential };
    let entry = audit("credential.rotate");
    store.update_credential(&scope(ProjectId::DEFAULT), &damaged, &entry).await.expect("damaged");

    let run = gate.run(script("exit 0").on("tag:fleet")).await.expect("accepted");
    let left = gate.run(script("exit 0").on("tag:fleet")).await.expect("accepted");
    die_over(&store, &run).await;
    let engine = TestEngine::start(builder()).await.expect("starts");
    for run in [&run, &left] {
        let run = engine.gate().attach(&run.id().into()).await.expect("found");
        run.outcome().await.expect("it ends");
    }
    let orphans = steps(&engine.gate(), &run).await;
    assert!(matches!(orphans[0].kill, Some(Kill::Unconfirmed { .. })), "{:?}", orphans[0]);
    assert_eq!((&orphans[1].kill, fake.kills().len()), (&Some(Kill::Confirmed), 1));
    let steps = steps(&engine.gate(), &left).await;
    assert_eq!((steps[0].status, steps[0].error), (StepStatus::Failed, Some(ErrorCode::StorageCorrupt)));
    assert_eq!(steps[1].status, StepStatus::Succeeded);
    engine.shutdown().await.expect("it stops");
}

const ONE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
const TWO: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

/// An engine with one server, and a run on it that meets this key when it is released.
async fn meeting(line: &str, verdict: Verdict) -> (FakeExecutor, TestEngine) {
    let fake = FakeExecutor::named("fake");
    let offered = OfferedKey::parse(line).expect("a key");
    let executor =
        Awkward { meets: Some((offered, verdict)), ..Awkward::killing(&fake, OnKill::Answers(Kill::Confirmed)) };
    let engine = start_with(executor).await;
    engine.gate().create_server(server(0)).await.expect("created");
    (fake, engine)
}

fn approved(line: &str) -> NewHostKey {
    NewHostKey {
        server: "web-0000".parse().expect("a name"),
        public_key: line.to_owned(),
        status: HostKeyStatus::Approved,
    }
}

pub(crate) async fn a_key_is_judged_by_what_is_recorded_when_it_is_met() {
    // Another key was approved after the executor's snapshot was taken.
    let (fake, engine) = meeting(TWO, Verdict::TrustAndRecord).await;
    let run = engine.gate().run(script("hold").on("web-0000")).await.expect("accepted");
    fake.has_begun(1).await;
    engine.gate().create_host_key(approved(ONE)).await.expect("approved");
    fake.release();
    run.outcome().await.expect("ends");
    let step = steps(&engine.gate(), &run).await.remove(0);
    assert_eq!((step.status, step.error), (StepStatus::Unreachable, Some(ErrorCode::HostKeyMismatch)), "{step:?}");
    let keys = engine.gate().host_keys(None, PageRequest::default()).await.expect("listed").items;
    let statuses = |status| keys.iter().filter(|key| key.status == status).count();
    assert_eq!((statuses(HostKeyStatus::Approved), statuses(HostKeyStatus::Pending)), (1, 1));
    engine.shutdown().await.expect("it stops");

    // The key was revoked after the snapshot was taken.
    let (fake, engine) = meeting(ONE, Verdict::Trust).await;
    let key = engine.gate().create_host_key(approved(ONE)).await.expect("approved");
    let run = engine.gate().run(script("hold").on("web-0000")).await.expect("accepted");
    fake.has_begun(1).await;
    engine.gate().revoke_host_key(&key.id.into()).await.expect("revoked");
    fake.release();
    run.outcome().await.expect("ends");
    let step = steps(&engine.gate(), &run).await.remove(0);
    assert_eq!((step.status, step.error), (StepStatus::Unreachable, Some(ErrorCode::HostKeyRevoked)), "{step:?}");
    engine.shutdown().await.expect("it stops");

    // Nothing has happened since.
    let (fake, engine) = meeting(ONE, Verdict::TrustAndRecord).await;
    let run = engine.gate().run(script("hold").on("web-0000")).await.expect("accepted");
    fake.has_begun(1).await;
    fake.release();
    assert_eq!(run.outcome().await.expect("ends").execution.status, ExecutionStatus::Succeeded);
    let keys = engine.gate().host_keys(None, PageRequest::default()).await.expect("listed").items;
    assert_eq!(keys.iter().map(|key| key.status).collect::<Vec<_>>(), [HostKeyStatus::Approved]);
    engine.shutdown().await.expect("it stops");
}

pub(crate) async fn what_was_to_be_cancelled_or_is_overdue_ends_so_after_its_worker_died() {
    let (store, fake) = (store().await, local());
    let run = orphan(&store, &fake, LostPolicy::Lost).await;
    let builder = || Engine::builder_over(Arc::clone(&store)).executor(fake.clone());
    let idle = builder().build().await.expect("builds");
    idle.system().cancel(&run.id().into()).await.expect("requested");
    let engine = TestEngine::start(builder()).await.expect("starts");
    let ended = engine.gate().attach(&run.id().into()).await.expect("found").outcome().await.expect("ends").execution;
    assert_eq!((ended.status, ended.reason), (ExecutionStatus::Cancelled, Some(Reason::CancelRequested)));
    assert_eq!(fake.kills().len(), 1);
    engine.shutdown().await.expect("it stops");

    let run = orphan(&store, &fake, LostPolicy::Lost).await;
    let clock = Arc::new(ManualClock::at(run.execution().created_at + Duration::from_secs(25 * 3600)));
    let engine = TestEngine::start(builder().clock(Arc::<ManualClock>::clone(&clock))).await.expect("starts");
    let ended = end(&clock, &engine.gate().attach(&run.id().into()).await.expect("found")).await;
    assert_eq!((ended.status, ended.reason), (ExecutionStatus::TimedOut, Some(Reason::ExecutionTimeout)));
    assert_eq!(fake.kills().len(), 2);
}

/// A store that fails to write ends while a switch is on, and tells when it does.
fn broken_while(
    on: &Arc<AtomicBool>,
    inner: Arc<dyn Store>,
    fault: fn() -> Option<StoreError>,
) -> (Arc<dyn Store>, Arc<Notify>) {
    let (on, failing) = (Arc::clone(on), Arc::new(Notify::new()));
    let tell = Arc::clone(&failing);
    let meet = move |called: &str| {
        let fails = called == "end_steps" && on.load(SeqCst);
        if fails {
            tell.notify_one();
        }
        if fails { fault() } else { None }
    };
    (Arc::new(Faulty::new(inner, meet)), failing)
}

pub(crate) async fn what_runs_is_stopped_while_storage_does_not_answer() {
    // One target ends, which cannot be written down: the runner waits. The other one hangs.
    for case in ["cancel", "limit", "drain"] {
        let (outage, fake) = (Arc::new(AtomicBool::new(true)), FakeExecutor::named("fake"));
        let quick = Awkward::quick("quick");
        let clock = Arc::new(ManualClock::at(DateTime::UNIX_EPOCH));
        let (store, failing) = broken_while(&outage, store().await, unavailable);
        let builder = Engine::builder_over(store).executor(fake.clone()).executor(quick.clone());
        let engine = builder.clock(Arc::<ManualClock>::clone(&clock)).build().await.expect("builds");
        let running = engine.start(Roles::all()).await.expect("starts");
        let ticking = tick(&clock);
        let gate = engine.system();
        gate.create_server(server(0)).await.expect("created");
        let other = NewServer { executor: Some("quick".to_owned()), ..server(1) };
        gate.create_server(other).await.expect("created");
        let limit = Duration::from_secs(if case == "limit" { 60 } else { 36_000 });
        let run = gate.run(script("hang").on("tag:fleet").timeout(limit)).await.expect("accepted");
        fake.has_begun(1).await;
        failing.notified().await;
        let stopping = match case {
            "cancel" => {
                gate.cancel(&run.id().into()).await.expect("requested");
                None
            }
            "drain" => Some(tokio::spawn(running.shutdown(Duration::ZERO))),
            _ => None,
        };
        fake.is_idle().await;
        outage.store(false, SeqCst);
        let expected = match case {
            "cancel" => ExecutionStatus::Cancelled,
            "limit" => ExecutionStatus::TimedOut,
            _ => ExecutionStatus::Failed,
        };
        assert_eq!(run.outcome().await.expect("ends").execution.status, expected, "{case}");
        if let Some(stopping) = stopping {
            stopping.await.expect("joined").expect("it stops");
        }
        ticking.abort();
    }
}

/// Lets time pass, a second in a millisecond.
fn tick(clock: &Arc<ManualClock>) -> tokio::task::JoinHandle<()> {
    let clock = Arc::clone(clock);
    tokio::spawn(async move {
        loop {
            clock.advance(Duration::from_secs(1));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
}

pub(crate) async fn an_error_that_does_not_pass_ends_the_execution_or_lets_go_of_it() {
    let corrupt = || Some(StoreError::Corrupt { what: "page 7".to_owned() });
    // It does not pass for the transition, but an end can be written.
    let left = Arc::new(AtomicUsize::new(5));
    let fails = move || left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
    let store_once =
        Faulty::new(store().await, move |called| if called == "end_steps" && fails() { corrupt() } else { None });
    let fake = local();
    let builder = Engine::builder_over(Arc::new(store_once)).executor(fake.clone());
    let engine = TestEngine::start(builder).await.expect("starts");
    let run = engine.gate().run(script("exit 1").settings(settings(|s| s.retry.max_attempts = 2))).await;
    let ended = run.expect("accepted").outcome().await.expect("ends").execution;
    assert_eq!((ended.status, ended.reason), (ExecutionStatus::Failed, Some(Reason::Internal)));
    assert!(ended.detail.is_some_and(|detail| detail.contains("page 7")));
    engine.shutdown().await.expect("it stops");

    // It never passes.
    let (store, _) = broken_while(&Arc::new(AtomicBool::new(true)), store().await, corrupt);
    let engine = Engine::builder_over(store).executor(fake.clone()).build().await.expect("builds");
    let running = engine.start(Roles::all()).await.expect("starts");
    engine.system().run(script("exit 0")).await.expect("accepted");
    fake.has_begun(2).await;
    while !running.driving().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    running.shutdown(Duration::from_secs(10)).await.expect("it stops");
}

pub(crate) async fn what_a_dead_worker_logged_is_counted() {
    let (store, fake) = (store().await, local());
    let run = orphan(&store, &fake, LostPolicy::Lost).await;
    let record = |seq, stream, raw_end| Record {
        seq,
        at: run.execution().created_at,
        step: 0,
        stream,
        raw_end,
        payload: b"1234567".to_vec().into(),
    };
    let mut log = store.logs().open(run.id(), 1).await.expect("opens");
    let records = vec![
        record(1, Stream::Stdout, 7),
        record(2, Stream::Stderr, 9),
        record(3, Stream::System, 0),
        record(4, Stream::Stdout, 20),
    ];
    log.append(records).await.expect("kept");
    let engine = TestEngine::start(Engine::builder_over(store).executor(fake)).await.expect("starts");
    engine.gate().attach(&run.id().into()).await.expect("found").outcome().await.expect("ends");
    assert_eq!(steps(&engine.gate(), &run).await[0].output_bytes, 29);
    engine.shutdown().await.expect("it stops");
}

pub(crate) async fn no_secret_stands_in_what_is_said_of_a_kill() {
    const CANARY: &str = "c4n4ry-in-a-coal-mine";
    let fake = local();
    let telling = Awkward::killing(&fake, OnKill::Answers(Kill::Unconfirmed { detail: format!("saw {CANARY}") }));
    let key = MasterKey::generate().expect("a key");
    let builder = Engine::builder_over(store().await).executor(telling).master_key(key);
    let engine = TestEngine::start(builder).await.expect("starts");
    let run = script("link-lost").param_value("TOKEN", ParamValue::Secret(Secret::new(CANARY)));
    let run = engine.gate().run(run).await.expect("accepted");
    run.outcome().await.expect("ends");
    let step = steps(&engine.gate(), &run).await.remove(0);
    assert_eq!(step.kill, Some(Kill::Unconfirmed { detail: "saw ***".to_owned() }));
    assert!(step.detail.as_ref().is_some_and(|detail| !detail.contains(CANARY)), "{step:?}");
    engine.shutdown().await.expect("it stops");
}

pub(crate) async fn a_secret_that_is_too_short_to_be_hidden_is_named_in_the_output() {
    let fake = local();
    let key = MasterKey::generate().expect("a key");
    let builder = Engine::builder_over(store().await).executor(fake).master_key(key);
    let engine = TestEngine::start(builder).await.expect("starts");
    for (pin, warned) in [("123", true), ("12345678", false)] {
        let secret = |text: &str| ParamValue::Secret(Secret::new(text));
        let run = script("print x").param_value("PIN", secret(pin)).param_value("TOKEN", secret("long enough"));
        let run = engine.gate().run(run).await.expect("accepted");
        let text = text(&run).await;
        let expected = "[birun: secrets of fewer than 4 characters are not hidden in output: PIN]\nx\n";
        assert_eq!(text, if warned { expected } else { "x\n" });
    }
    engine.shutdown().await.expect("it stops");
}

pub(crate) async fn an_accepted_request_gets_the_same_answer_whatever_has_changed_since() {
    let fake = FakeExecutor::named("fake");
    let key = MasterKey::generate().expect("a key");
    let limits = Limits { queued: 1, ..Limits::default() };
    let builder = Engine::builder_over(store().await).executor(fake).master_key(key).limits(limits);
    let gate = builder.build().await.expect("builds").system();
    let doomed = gate.create_server(server(0)).await.expect("created");
    let request = |token: &str| {
        let run = script("print x").on("web-0000").idempotency_key("k");
        run.param_value("TOKEN", ParamValue::Secret(Secret::new(token)))
    };
    let first = gate.run(request("hunter2")).await.expect("accepted");
    assert_eq!(gate.run(script("print y").on("web-0000")).await.expect_err("full").code(), ErrorCode::RateLimited);
    assert_eq!(gate.run(request("hunter2")).await.expect("the queue is full").id(), first.id());
    gate.cancel(&first.id().into()).await.expect("cancelled");
    let again = || RetryOptions { idempotency_key: Some("r".to_owned()), ..RetryOptions::default() };
    let retried = gate.retry(&first.id().into(), again()).await.expect("accepted");
    gate.delete_server(&doomed.id.into(), None).await.expect("deleted");
    assert_eq!(gate.run(request("hunter2")).await.expect("the server is gone").id(), first.id());
    assert_eq!(gate.retry(&first.id().into(), again()).await.expect("the queue is full").id(), retried.id());
    assert_eq!(gate.run(request("hunter3")).await.expect_err("another secret").code(), ErrorCode::Conflict);
}

pub(crate) async fn everything_old_is_pruned_and_output_goes_first() {
    let (real, fake) = (store().await, local());
    let fails = Arc::new(AtomicBool::new(false));
    let failing = Arc::clone(&fails);
    let meet = move |called: &str| if called == "prune" && failing.load(SeqCst) { unavailable() } else { None };
    let store = Arc::new(Faulty::new(Arc::clone(&real), meet));
    let clock = Arc::new(ManualClock::at(DateTime::UNIX_EPOCH));
    let builder = Engine::builder_over(store).executor(fake).clock(Arc::<ManualClock>::clone(&clock));
    let engine = TestEngine::start(builder).await.expect("starts");
    let run = engine.gate().run(script("print x")).await.expect("accepted");
    end(&clock, &run).await;
    // More audit entries than go at once, and fewer executions.
    for _ in 0..450 {
        real.append_audit(&scope(ProjectId::DEFAULT), &AuditEntry { at: clock.now(), ..audit("server.edit") })
            .await
            .expect("written");
    }
    clock.advance(Duration::from_secs(500 * 86_400));
    let all = Retention { keep_per_subject: 0, ..Retention::default() };
    fails.store(true, SeqCst);
    engine.gate().prune(&all).await.expect_err("a crash in the middle");
    engine.gate().execution(&run.id().into()).await.expect("what has no output left is still named");
    assert_eq!(text(&run).await, "");
    fails.store(false, SeqCst);
    let pruned = engine.gate().prune(&all).await.expect("pruned");
    assert_eq!(pruned.executions, 1);
    assert!(pruned.audit_entries >= 450, "{pruned:?}");
}
