//! The engine as a whole: on a real store, with an executor that does as its scripts say.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use birun_core::clock::Clock;
use birun_core::engine::{Engine, EngineBuilder, Limits, Roles};
use birun_core::execution::{
    Amount, ExecutionStatus, Executor, FollowFrom, LogCursor, Reason, RetryOptions, Run, RunEvent, RunHandle, Step,
    StepFilter, StepStart, StepStatus, Strategy, Stream, WorkerRegistration,
};
use birun_core::id::{ProjectId, WorkerId};
use birun_core::identity::{Actor, ActorKind, Principal, Role};
use birun_core::inventory::NewServer;
use birun_core::page::PageRequest;
use birun_core::script::{Interpreter, LostPolicy, ParamValue, RunSettings};
use birun_core::testing::{FakeExecutor, ManualClock, TestEngine, scope};
use birun_core::vault::{MasterKey, Secret};
use birun_core::{ErrorCode, Gate, Store};
use birun_store::SqlStore;
use chrono::DateTime;
use futures::StreamExt;

use crate::faulty::Faulty;

pub(crate) async fn store() -> Arc<dyn Store> {
    let store = SqlStore::memory().await.expect("a memory store opens");
    store.migrate().await.expect("it migrates");
    Arc::new(store)
}

pub(crate) async fn builder(fake: &FakeExecutor) -> EngineBuilder {
    Engine::builder_over(store().await).executor(fake.clone())
}

pub(crate) async fn start(fake: &FakeExecutor) -> TestEngine {
    TestEngine::start(builder(fake).await).await.expect("the engine starts")
}

/// An engine over an executor of the case's own.
pub(crate) async fn start_with(executor: impl Executor) -> TestEngine {
    TestEngine::start(Engine::builder_over(store().await).executor(executor)).await.expect("the engine starts")
}

pub(crate) fn local() -> FakeExecutor {
    FakeExecutor::named("local")
}

pub(crate) fn script(body: &str) -> Run {
    Run::content("test", body, Interpreter::Shebang)
}

pub(crate) fn settings(change: impl FnOnce(&mut RunSettings)) -> RunSettings {
    let mut settings = RunSettings::default();
    change(&mut settings);
    settings
}

pub(crate) async fn steps(gate: &Gate, run: &RunHandle) -> Vec<Step> {
    gate.steps(&run.id().into(), &StepFilter::default(), 0, 10_000).await.expect("steps are read")
}

/// A fake for servers, and an engine with so many of them, tagged `fleet`.
pub(crate) async fn fleet(count: usize) -> (FakeExecutor, TestEngine) {
    let fake = FakeExecutor::named("fake");
    let engine = start(&fake).await;
    for number in 0..count {
        engine.gate().create_server(server(number)).await.expect("a server is created");
    }
    (fake, engine)
}

/// A server of the fleet.
pub(crate) fn server(number: usize) -> NewServer {
    NewServer {
        name: format!("web-{number:04}").parse().expect("a name"),
        host: "127.0.0.1".to_owned(),
        port: None,
        user: "deploy".to_owned(),
        credential: None,
        executor: Some("fake".to_owned()),
        tags: vec!["fleet".parse().expect("a tag")],
        groups: Vec::new(),
        maintenance: false,
        description: String::new(),
    }
}

pub(crate) async fn a_script_runs_and_its_output_is_followed_to_the_end() {
    let fake = local();
    let engine = start(&fake).await;
    let run = engine.gate().run(script("print one\nerror two\nprint three")).await.expect("accepted");
    let mut output = Vec::new();
    let mut last = None;
    let mut events = run.events();
    while let Some(event) = events.next().await {
        match event.expect("an event") {
            RunEvent::Output(records) => {
                assert!(last != Some(ExecutionStatus::Succeeded), "output after the end");
                output.extend(records.into_iter().map(|record| (record.seq, record.stream, record.payload)));
            }
            RunEvent::Changed(change) => last = Some(change.execution.status),
            RunEvent::Steps(steps) => assert!(!steps.is_empty(), "an event without news"),
        }
    }
    assert_eq!(last, Some(ExecutionStatus::Succeeded));
    let stdout: Vec<u8> =
        output.iter().filter(|(_, s, _)| *s == Stream::Stdout).flat_map(|(_, _, p)| p.to_vec()).collect();
    let stderr: Vec<u8> =
        output.iter().filter(|(_, s, _)| *s == Stream::Stderr).flat_map(|(_, _, p)| p.to_vec()).collect();
    assert_eq!((stdout.as_slice(), stderr.as_slice()), (&b"one\nthree\n"[..], &b"two\n"[..]));
    let seqs: Vec<u64> = output.iter().map(|(seq, _, _)| *seq).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    engine.shutdown().await.expect("it stops");
}

pub(crate) async fn a_follower_of_what_has_ended_learns_of_steps_before_their_output() {
    let (_fake, engine) = fleet(2).await;
    let run = engine.gate().run(script("print one").on("tag:fleet")).await.expect("accepted");
    run.outcome().await.expect("it ends");
    let (mut known, mut told) = (Vec::new(), Vec::new());
    let mut events = run.events();
    while let Some(event) = events.next().await {
        match event.expect("an event") {
            RunEvent::Steps(steps) => known.extend(steps.into_iter().map(|step| step.ordinal)),
            RunEvent::Output(records) => {
                assert!(
                    records.iter().all(|record| known.contains(&record.step)),
                    "output of a step that nobody named"
                );
                told.extend(records);
            }
            RunEvent::Changed(change) => {
                assert!(change.execution.status.is_terminal());
                assert_eq!(told.len(), 2, "the end came before the output");
            }
        }
    }
    assert_eq!(known.len(), 2);
    engine.shutdown().await.expect("it stops");
}

pub(crate) async fn a_follower_resumes_where_it_stopped() {
    let fake = local();
    let engine = start(&fake).await;
    let run = engine.gate().run(script("print one\nhold\nprint two")).await.expect("accepted");
    let mut first = run.events();
    let cursor = loop {
        if let Some(Ok(RunEvent::Output(records))) = first.next().await {
            break LogCursor(records.last().expect("records").seq);
        }
    };
    drop(first);
    fake.release();
    let rest = run.follow(FollowFrom { output: Some(cursor), ..FollowFrom::default() });
    let rest: Vec<u8> = rest
        .filter_map(async |event| match event {
            Ok(RunEvent::Output(records)) => Some(records.iter().flat_map(|r| r.payload.to_vec()).collect::<Vec<u8>>()),
            _ => None,
        })
        .collect::<Vec<_>>()
        .await
        .concat();
    assert_eq!(rest, b"two\n");
    engine.shutdown().await.expect("it stops");
}

pub(crate) async fn every_ending_has_its_own_status() {
    let fake = local();
    let engine = start(&fake).await;
    for (body, status, reason, step_status, exit_code) in [
        ("exit 0", ExecutionStatus::Succeeded, None, StepStatus::Succeeded, Some(0)),
        ("exit 7", ExecutionStatus::Failed, Some(Reason::ExitCode), StepStatus::Failed, Some(7)),
        ("signal SEGV", ExecutionStatus::Failed, Some(Reason::Signal), StepStatus::Failed, None),
        ("unreachable", ExecutionStatus::Failed, Some(Reason::Unreachable), StepStatus::Unreachable, None),
        ("not-started", ExecutionStatus::Failed, Some(Reason::SpawnFailed), StepStatus::Failed, None),
        ("link-lost", ExecutionStatus::Lost, Some(Reason::LinkLost), StepStatus::Lost, None),
        ("no-status", ExecutionStatus::Lost, Some(Reason::NoExitStatus), StepStatus::Lost, None),
        ("panic", ExecutionStatus::Failed, Some(Reason::JobPanicked), StepStatus::Failed, None),
    ] {
        let run = engine.gate().run(script(body)).await.expect("accepted");
        let outcome = run.outcome().await.expect("it ends").execution;
        let step = steps(&engine.gate(), &run).await.remove(0);
        assert_eq!(outcome.status, status, "{body}");
        assert_eq!(outcome, engine.gate().execution(&run.id().into()).await.expect("it is there"), "{body}");
        assert_eq!((step.status, step.reason, step.exit_code), (step_status, reason, exit_code), "{body}");
    }
    engine.shutdown().await.expect("it stops");
}

pub(crate) async fn a_job_runs_fails_and_panics_by_itself() {
    let fake = local();
    let builder = builder(&fake)
        .await
        .job("greet", |cx| async move {
            let name = cx.params.values().next().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default();
            Ok(cx.print(format!("hello {name}")).await?)
        })
        .job("fail", |_| async { Err("no luck".into()) })
        .job("panic", |_| async { panic!("out of luck") });
    let engine = TestEngine::start(builder).await.expect("starts");
    let greeted = engine.gate().run(Run::job("greet").param("NAME", "ana")).await.expect("accepted");
    assert_eq!(greeted.outcome().await.expect("ends").execution.status, ExecutionStatus::Succeeded);
    assert_eq!(text(&greeted).await, "hello ana\n");
    for (job, reason, detail) in
        [("fail", Reason::JobFailed, "no luck"), ("panic", Reason::JobPanicked, "panicked: out of luck")]
    {
        let run = engine.gate().run(Run::job(job)).await.expect("accepted");
        assert_eq!(run.outcome().await.expect("ends").execution.status, ExecutionStatus::Failed);
        let step = steps(&engine.gate(), &run).await.remove(0);
        assert_eq!((step.reason, step.detail.as_deref()), (Some(reason), Some(detail)));
    }
    let error = engine.gate().run(Run::job("unknown")).await.expect_err("refused");
    assert_eq!(error.code(), ErrorCode::NotRegistered);
    engine.shutdown().await.expect("it stops");
}

pub(crate) async fn text(run: &RunHandle) -> String {
    let records = run.events().filter_map(async |event| match event {
        Ok(RunEvent::Output(records)) => Some(records),
        _ => None,
    });
    let payloads = records.concat().await.into_iter().flat_map(|record| record.payload.to_vec()).collect();
    String::from_utf8(payloads).expect("text")
}

pub(crate) async fn no_more_targets_run_at_once_than_the_strategy_says() {
    let (fake, engine) = fleet(12).await;
    let strategy = Strategy { parallel: 3, ..Strategy::default() };
    let run = engine.gate().run(script("hold").on("tag:fleet").strategy(strategy)).await.expect("accepted");
    for begun in [3, 6, 9, 12] {
        fake.has_begun(begun).await;
        fake.release();
    }
    let outcome = run.outcome().await.expect("ends").execution;
    assert_eq!((outcome.status, outcome.counts.succeeded), (ExecutionStatus::Succeeded, 12));
    assert_eq!(fake.most_at_once(), 3);
    let order: Vec<String> = fake.runs().into_iter().map(|(_, target)| target).collect();
    // The three of a width begin together, so their order among themselves is anybody's.
    let widths = order.chunks(3).map(|width| width.iter().max().zip(width.iter().min()));
    assert!(widths.clone().zip(widths.skip(1)).all(|(a, b)| a.map(|a| a.0) < b.map(|b| b.1)), "{order:?}");
    engine.shutdown().await.expect("it stops");
}

pub(crate) async fn a_retry_of_the_failed_takes_the_failed_and_the_not_started() {
    let (fake, engine) = fleet(4).await;
    let strategy = Strategy { parallel: 1, max_failures: Some(Amount::Count(1)), ..Strategy::default() };
    let run = engine.gate().run(script("exit 1").on("tag:fleet").strategy(strategy)).await.expect("accepted");
    let outcome = run.outcome().await.expect("ends").execution;
    assert_eq!((outcome.counts.failed, outcome.counts.skipped), (1, 3));
    let again = engine
        .gate()
        .retry(&run.id().into(), RetryOptions { failed_only: true, ..RetryOptions::default() })
        .await
        .expect("accepted");
    assert_eq!(again.execution().retry_of, Some(run.id()));
    assert_eq!(again.execution().targets, "web-0000,web-0001,web-0002,web-0003");
    assert_eq!(again.outcome().await.expect("ends").execution.counts.total, 4);
    assert_eq!(fake.runs().len(), 2);
    let good = engine.gate().run(script("exit 0").on("web-0000")).await.expect("accepted");
    good.outcome().await.expect("ends");
    let error = engine
        .gate()
        .retry(&good.id().into(), RetryOptions { failed_only: true, ..RetryOptions::default() })
        .await
        .expect_err("refused");
    assert_eq!(error.code(), ErrorCode::Conflict);
    engine.shutdown().await.expect("it stops");
}

pub(crate) async fn a_retry_says_which_targets_it_runs_on() {
    let (_fake, engine) = fleet(1).await;
    let run = engine.gate().run(script("exit 1").on("tag:fleet")).await.expect("accepted");
    run.outcome().await.expect("ends");
    for (failed_only, targets) in [(true, "web-0000"), (false, "tag:fleet")] {
        let options = RetryOptions { failed_only, ..RetryOptions::default() };
        let again = engine.gate().retry(&run.id().into(), options).await.expect("accepted");
        assert_eq!(again.execution().targets, targets);
        again.outcome().await.expect("ends");
    }
    engine.shutdown().await.expect("it stops");
}

pub(crate) async fn a_server_that_was_deleted_is_told_and_not_tried_again() {
    let (fake, engine) = fleet(1).await;
    let twice = settings(|settings| {
        settings.retry.max_attempts = 2;
        settings.retry.backoff.initial_ms = 1;
    });
    let run = engine.gate().run(script("exit 1").on("tag:fleet").settings(twice)).await.expect("accepted");
    run.outcome().await.expect("ends");
    assert_eq!(fake.runs().len(), 2);
    let doomed = "web-0000".parse().expect("a name");
    engine.gate().delete_server(&doomed, None).await.expect("deleted");
    // Whoever has the name now is another server.
    engine.gate().create_server(server(0)).await.expect("created");
    let again = engine.gate().retry(&run.id().into(), RetryOptions::default()).await.expect("accepted");
    assert_eq!(again.outcome().await.expect("ends").execution.counts.unreachable, 1);
    let steps = steps(&engine.gate(), &again).await;
    let told: Vec<_> = steps.iter().map(|step| (step.error, step.detail.as_deref())).collect();
    assert_eq!(told, [(Some(ErrorCode::ServerDeleted), Some("server `web-0000` was deleted"))]);
    assert_eq!(fake.runs().len(), 2);
    engine.shutdown().await.expect("it stops");
}

pub(crate) async fn cancel_ends_what_is_queued_and_what_runs() {
    let fake = local();
    let idle = builder(&fake).await.build().await.expect("builds");
    let queued = idle.system().run(script("exit 0")).await.expect("accepted");
    let cancelled = idle.system().cancel(&queued.id().into()).await.expect("cancelled");
    assert_eq!(cancelled.status, ExecutionStatus::Cancelled);
    assert_eq!(steps(&idle.system(), &queued).await[0].status, StepStatus::Cancelled);

    let engine = start(&fake).await;
    let run = engine.gate().run(script("hang")).await.expect("accepted");
    fake.has_begun(1).await;
    engine.gate().cancel(&run.id().into()).await.expect("requested");
    engine.gate().cancel(&run.id().into()).await.expect("twice is the same as once");
    let outcome = run.outcome().await.expect("ends").execution;
    assert_eq!((outcome.status, outcome.reason), (ExecutionStatus::Cancelled, Some(Reason::CancelRequested)));
    engine.gate().cancel(&run.id().into()).await.expect("what is cancelled stays cancelled");
    let done = engine.gate().run(script("exit 0")).await.expect("accepted");
    done.outcome().await.expect("ends");
    let error = engine.gate().cancel(&done.id().into()).await.expect_err("ended before");
    assert_eq!(error.code(), ErrorCode::Conflict);
    engine.shutdown().await.expect("it stops");
}

/// An engine whose time only the test moves.
pub(crate) async fn timed(fake: &FakeExecutor) -> (Arc<ManualClock>, TestEngine) {
    let clock = Arc::new(ManualClock::at(DateTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)));
    let builder = builder(fake).await.clock(Arc::<ManualClock>::clone(&clock));
    (clock, TestEngine::start(builder).await.expect("starts"))
}

/// Moves time on in small steps until the execution has ended.
pub(crate) async fn end(clock: &ManualClock, run: &RunHandle) -> birun_core::execution::Execution {
    end_in_steps_of(Duration::from_millis(100), clock, run).await
}

async fn end_in_steps_of(step: Duration, clock: &ManualClock, run: &RunHandle) -> birun_core::execution::Execution {
    let outcome = run.outcome();
    tokio::pin!(outcome);
    loop {
        tokio::select! {
            outcome = &mut outcome => return outcome.expect("ends").execution,
            () = tokio::time::sleep(Duration::from_millis(1)) => clock.advance(step),
        }
    }
}

pub(crate) async fn an_attempt_that_takes_too_long_is_stopped() {
    let fake = local();
    let (clock, engine) = timed(&fake).await;
    let short = settings(|settings| settings.attempt_timeout_ms = Some(2_000));
    let run = engine.gate().run(script("hang").settings(short)).await.expect("accepted");
    let ended = end(&clock, &run).await;
    assert_eq!((ended.status, ended.reason), (ExecutionStatus::TimedOut, Some(Reason::AttemptTimeout)));
}

/// The step as it stands.
async fn first_step(engine: &TestEngine, run: &RunHandle) -> Step {
    steps(&engine.gate(), run).await.remove(0)
}

pub(crate) async fn an_attempt_is_not_charged_for_the_wait_for_its_place_and_says_why_it_waits() {
    let fake = local();
    let (clock, engine) = timed(&fake).await;
    let short = settings(|settings| settings.attempt_timeout_ms = Some(2_000));
    let run = engine.gate().run(script("place limit of server web-1 reached\nhang").settings(short)).await;
    let run = run.expect("accepted");
    fake.has_begun(1).await;
    let told = |detail: Option<String>| detail.as_deref() == Some("limit of server web-1 reached");
    while !told(first_step(&engine, &run).await.detail) {
        clock.advance(Duration::from_millis(500));
    }
    // Much longer than an attempt may take.
    for _ in 0..60 {
        clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    let waiting = engine.gate().execution(&run.id().into()).await.expect("read");
    assert_eq!((waiting.status, fake.running()), (ExecutionStatus::Running, 1));
    let why = engine.gate().why(&waiting).await.expect("told");
    assert_eq!(why.as_deref(), Some("local waits: limit of server web-1 reached"));
    let place = clock.now();
    fake.release();
    while told(first_step(&engine, &run).await.detail) {
        tokio::task::yield_now().await;
    }
    let running = engine.gate().execution(&run.id().into()).await.expect("read");
    assert_eq!(engine.gate().why(&running).await.expect("told"), None);
    let ended = end(&clock, &run).await;
    assert_eq!((ended.status, ended.reason), (ExecutionStatus::TimedOut, Some(Reason::AttemptTimeout)));
    let took = ended.finished_at.expect("ended") - place;
    assert!(took >= chrono::TimeDelta::seconds(2), "it had its place for {took}");
}

pub(crate) async fn a_short_wait_for_a_place_is_not_written_down() {
    let fake = local();
    let (clock, engine) = timed(&fake).await;
    let run = engine.gate().run(script("place limit of server web-1 reached")).await.expect("accepted");
    fake.has_begun(1).await;
    let started = engine.gate().execution(&run.id().into()).await.expect("read").rev;
    clock.advance(Duration::from_millis(500));
    fake.release();
    // The clock stands still: so the wait was a short one, however long this takes.
    let ended = run.outcome().await.expect("it ends").execution;
    assert_eq!((ended.status, ended.rev), (ExecutionStatus::Succeeded, started + 1));
}

pub(crate) async fn the_limit_of_the_execution_cuts_waits_between_attempts() {
    let fake = local();
    let (clock, engine) = timed(&fake).await;
    let patient = settings(|settings| {
        settings.retry.max_attempts = 9;
        settings.retry.backoff.initial_ms = 3_000;
        settings.retry.backoff.factor = 1.0;
        settings.retry.backoff.jitter = 0.0;
    });
    let run = script("exit 1").settings(patient).timeout(Duration::from_secs(8));
    let run = engine.gate().run(run).await.expect("accepted");
    let ended = end(&clock, &run).await;
    assert_eq!((ended.status, ended.reason), (ExecutionStatus::TimedOut, Some(Reason::ExecutionTimeout)));
    let attempts = steps(&engine.gate(), &run).await;
    assert!((2..=4).contains(&attempts.len()), "{} attempts in 8 s", attempts.len());
    assert_eq!(attempts.last().map(|step| step.status), Some(StepStatus::TimedOut));
}

pub(crate) async fn the_limit_of_the_execution_ends_a_wait_when_it_is_reached() {
    // In one case the worker waits itself, in the other the execution is parked.
    for (wait, limit) in [(4_000, 2), (600_000, 20)] {
        let fake = local();
        let (clock, engine) = timed(&fake).await;
        let patient = settings(|settings| {
            settings.retry.max_attempts = 9;
            settings.retry.backoff.initial_ms = wait;
            settings.retry.backoff.max_ms = wait;
            settings.retry.backoff.jitter = 0.0;
        });
        let run = script("exit 1").settings(patient).timeout(Duration::from_secs(limit));
        let run = engine.gate().run(run).await.expect("accepted");
        let ended = end_in_steps_of(Duration::from_millis(limit * 5), &clock, &run).await;
        assert_eq!((ended.status, ended.reason), (ExecutionStatus::TimedOut, Some(Reason::ExecutionTimeout)));
        let took = ended.finished_at.zip(ended.started_at).map(|(end, start)| end - start).expect("ran");
        let limit = chrono::TimeDelta::seconds(i64::try_from(limit).expect("small"));
        assert!(took >= limit && took < limit * 2, "ended after {took} of {limit}");
        assert_eq!(fake.runs().len(), 1);
    }
}

pub(crate) async fn each_attempt_has_its_own_step_and_waits_its_time() {
    let fake = local();
    let (clock, engine) = timed(&fake).await;
    let twice = settings(|settings| settings.retry.max_attempts = 2);
    let before = clock.now();
    let run = engine.gate().run(script("print try\nexit 5").settings(twice)).await.expect("accepted");
    let ended = end(&clock, &run).await;
    assert_eq!(ended.status, ExecutionStatus::Failed);
    let attempts = steps(&engine.gate(), &run).await;
    assert_eq!(
        attempts.iter().map(|step| (step.attempt, step.exit_code)).collect::<Vec<_>>(),
        [(1, Some(5)), (2, Some(5))]
    );
    let waited = attempts[1].started_at.expect("started") - before;
    assert!(waited >= chrono::TimeDelta::seconds(1), "the second attempt began after {waited}");
}

pub(crate) async fn a_long_wait_for_an_attempt_holds_no_worker_and_can_be_cancelled() {
    let fake = local();
    let (clock, engine) = timed(&fake).await;
    let slow = settings(|settings| {
        settings.retry.max_attempts = 2;
        settings.retry.backoff.initial_ms = 60_000;
    });
    let run = engine.gate().run(script("exit 1").settings(slow)).await.expect("accepted");
    let waiting = loop {
        let now = engine.gate().execution(&run.id().into()).await.expect("read");
        if now.status == ExecutionStatus::Waiting {
            break now;
        }
        assert!(!now.status.is_terminal(), "{:?}", now.status);
        clock.advance(Duration::from_millis(50));
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    assert_eq!((waiting.worker, waiting.reason), (None, Some(Reason::RetryScheduled)));
    let why = engine.gate().why(&waiting).await.expect("told");
    assert!(why.is_some_and(|why| why.starts_with("waits for the next attempt at")));
    let cancelled = engine.gate().cancel(&run.id().into()).await.expect("cancelled");
    assert_eq!(cancelled.status, ExecutionStatus::Cancelled);
}

/// Leaves an execution behind as a worker does that dies while its only step runs.
pub(crate) async fn orphan(store: &Arc<dyn Store>, fake: &FakeExecutor, on_lost: LostPolicy) -> RunHandle {
    let idle = Engine::builder_over(Arc::clone(store)).executor(fake.clone()).build().await.expect("builds");
    let run = script("print again").settings(settings(|settings| settings.on_lost = on_lost));
    let run = idle.system().run(run).await.expect("accepted");
    die_over(store, &run).await;
    run
}

/// Claims an execution and starts all its steps as a worker that dies over them.
pub(crate) async fn die_over(store: &Arc<dyn Store>, run: &RunHandle) {
    die_after(store, run, true).await;
}

/// Claims an execution as a worker that dies then, perhaps after it has started all steps.
pub(crate) async fn die_after(store: &Arc<dyn Store>, run: &RunHandle, starting: bool) {
    let (scope, worker, now) = (scope(ProjectId::DEFAULT), WorkerId::new(), run.execution().created_at);
    let registration =
        WorkerRegistration { id: worker, name: "doomed".to_owned(), slots: 1, home_only: false, started_at: now };
    store.register(&scope, &registration).await.expect("registered");
    let claimed = store.claim(&scope, worker, 1, now).await.expect("claimed").remove(0);
    let handle = Some(birun_core::execution::Handle(serde_json::json!({"step": "orphan"})));
    let start = |step: &Step| StepStart { step: step.id, handle: handle.clone(), at: now };
    let starts: Vec<StepStart> = claimed.steps.iter().filter(|_| starting).map(start).collect();
    store.start_steps(&scope, &claimed.lease, &starts).await.expect("journalled");
    store.retire(&scope, worker).await.expect("gone");
}

pub(crate) async fn a_step_of_a_dead_worker_is_killed_and_lost() {
    let (store, fake) = (store().await, local());
    let run = orphan(&store, &fake, LostPolicy::Lost).await;
    let engine = TestEngine::start(Engine::builder_over(store).executor(fake.clone())).await.expect("starts");
    let ended = engine.gate().attach(&run.id().into()).await.expect("found").outcome().await.expect("ends").execution;
    assert_eq!(ended.status, ExecutionStatus::Lost);
    let step = steps(&engine.gate(), &run).await.remove(0);
    assert_eq!((step.status, step.reason), (StepStatus::Lost, Some(Reason::WorkerDied)));
    assert_eq!((fake.kills().len(), fake.runs().len()), (1, 0), "killed once, never run again");
    engine.shutdown().await.expect("it stops");
}

pub(crate) async fn a_step_that_may_be_repeated_is_killed_first_and_run_again() {
    let (store, fake) = (store().await, local());
    let run = orphan(&store, &fake, LostPolicy::Retry).await;
    let (clock, builder) = {
        let clock = Arc::new(ManualClock::at(run.execution().created_at));
        (Arc::<ManualClock>::clone(&clock), Engine::builder_over(store).executor(fake.clone()).clock(clock))
    };
    let engine = TestEngine::start(builder).await.expect("starts");
    let attached = engine.gate().attach(&run.id().into()).await.expect("found");
    let ended = end(&clock, &attached).await;
    assert_eq!(ended.status, ExecutionStatus::Succeeded);
    assert_eq!((fake.kills().len(), fake.runs().len()), (1, 1));
    let attempts = steps(&engine.gate(), &run).await;
    assert_eq!(attempts.iter().map(|step| step.status).collect::<Vec<_>>(), [StepStatus::Lost, StepStatus::Succeeded]);
}

pub(crate) async fn an_execution_that_kills_its_workers_ends_lost() {
    let (store, fake) = (store().await, local());
    let run = orphan(&store, &fake, LostPolicy::Retry).await;
    let limits = Limits { claims: 1, ..Limits::default() };
    let builder = Engine::builder_over(store).executor(fake.clone()).limits(limits);
    let engine = TestEngine::start(builder).await.expect("starts");
    let ended = engine.gate().attach(&run.id().into()).await.expect("found").outcome().await.expect("ends").execution;
    assert_eq!((ended.status, ended.reason), (ExecutionStatus::Lost, Some(Reason::AttemptsExhausted)));
    assert_eq!((fake.kills().len(), fake.runs().len()), (1, 0), "what it left is killed all the same");
    engine.shutdown().await.expect("it stops");
}

pub(crate) async fn a_claim_whose_answer_was_lost_is_given_back_and_runs() {
    let (store, fake) = (store().await, local());
    let idle = Engine::builder_over(Arc::clone(&store)).executor(fake.clone()).build().await.expect("builds");
    let clock = Arc::new(ManualClock::at(DateTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)));
    let timed = Arc::<ManualClock>::clone(&clock);
    let builder = Engine::builder_over(Arc::clone(&store)).executor(fake.clone()).clock(timed);
    let engine = TestEngine::start(builder).await.expect("starts");
    let worker = store.workers(&scope(ProjectId::DEFAULT)).await.expect("read").remove(0).registration.id;
    // Its clock stands, so it does not look for work by itself; it hears of none either.
    clock.is_awaited().await;
    let run = idle.system().run(script("print here")).await.expect("accepted");
    // What the storage did for the worker, and never told it.
    let now = run.execution().created_at;
    assert_eq!(store.claim(&scope(ProjectId::DEFAULT), worker, 1, now).await.expect("claimed").len(), 1);
    let run = engine.gate().attach(&run.id().into()).await.expect("found");
    assert_eq!(end(&clock, &run).await.status, ExecutionStatus::Succeeded);
    assert_eq!(fake.runs().len(), 1);
}

pub(crate) async fn shutdown_waits_for_what_runs_and_gives_back_the_rest() {
    let (store, fake) = (store().await, local());
    let engine = Engine::builder_over(Arc::clone(&store)).executor(fake.clone()).build().await.expect("builds");
    let running = engine.start(Roles::all()).await.expect("starts");
    let run = engine.system().run(script("hold\nprint done")).await.expect("accepted");
    fake.has_begun(1).await;
    let stopping = tokio::spawn(running.shutdown(Duration::from_secs(60)));
    fake.release();
    stopping.await.expect("joined").expect("it stops");
    assert_eq!(run.outcome().await.expect("ends").execution.status, ExecutionStatus::Succeeded);

    // What is stopped follows its policy; what was not started goes back.
    for (on_lost, status, step) in [
        (LostPolicy::Lost, ExecutionStatus::Failed, StepStatus::Failed),
        (LostPolicy::Retry, ExecutionStatus::Queued, StepStatus::Pending),
    ] {
        let running = engine.start(Roles::all()).await.expect("starts again");
        let settings = settings(|settings| settings.on_lost = on_lost);
        let begun = fake.runs().len();
        let run = engine.system().run(script("hang").settings(settings)).await.expect("accepted");
        fake.has_begun(begun + 1).await;
        running.shutdown(Duration::ZERO).await.expect("it stops");
        let left = engine.system().execution(&run.id().into()).await.expect("read");
        assert_eq!((left.status, left.worker), (status, None), "{on_lost}");
        let steps = steps(&engine.system(), &run).await;
        assert_eq!((steps[0].status, steps[0].reason), (StepStatus::Failed, Some(Reason::WorkerStopped)), "{on_lost}");
        assert_eq!(steps.last().map(|step| step.status), Some(step), "{on_lost}");
    }
}

pub(crate) async fn shutdown_gives_back_the_targets_that_were_not_started() {
    let (fake, engine) = fleet(2).await;
    let one = Strategy { parallel: 1, ..Strategy::default() };
    let run = engine.gate().run(script("hang").on("tag:fleet").strategy(one)).await.expect("accepted");
    fake.has_begun(1).await;
    let gate = engine.gate();
    engine.shutdown_within(Duration::ZERO).await.expect("it stops");
    let left = gate.execution(&run.id().into()).await.expect("read");
    assert_eq!((left.status, left.worker), (ExecutionStatus::Queued, None));
    let statuses: Vec<StepStatus> = steps(&gate, &run).await.into_iter().map(|step| step.status).collect();
    assert_eq!(statuses, [StepStatus::Failed, StepStatus::Pending]);
}

/// Submits so many runs that nobody takes up yet.
pub(crate) async fn submit_many(
    store: &Arc<dyn Store>,
    fake: &FakeExecutor,
    count: usize,
    body: &str,
) -> Vec<RunHandle> {
    let idle = Engine::builder_over(Arc::clone(store)).executor(fake.clone()).build().await.expect("builds");
    let gate = idle.system();
    // What is stopped goes back as well.
    let run = || script(body).settings(settings(|settings| settings.on_lost = LostPolicy::Retry));
    futures::future::try_join_all((0..count).map(|_| gate.run(run()))).await.expect("accepted")
}

pub(crate) async fn what_was_claimed_and_not_started_is_given_back_when_the_worker_stops() {
    let fake = local();
    for round in 0..10 {
        let store = store().await;
        submit_many(&store, &fake, 60, "hang").await;
        let engine = Engine::builder_over(Arc::clone(&store)).executor(fake.clone()).build().await.expect("builds");
        let running = engine.start(Roles::all()).await.expect("starts");
        // The claim has been committed, and little of it can have been started.
        while engine.system().queue().await.expect("read").running == 0 {}
        running.shutdown(Duration::ZERO).await.expect("it stops");
        let queue = engine.system().queue().await.expect("read");
        assert_eq!((queue.queued, queue.running), (60, 0), "round {round}");
    }
}

pub(crate) async fn a_worker_is_not_idle_while_it_claims() {
    let fake = local();
    for round in 0..5 {
        let store = store().await;
        submit_many(&store, &fake, 8, "exit 0").await;
        let engine = Engine::builder_over(store).executor(fake.clone()).build().await.expect("builds");
        let running = engine.start(Roles::all()).await.expect("starts");
        while engine.system().queue().await.expect("read").queued > 0 {}
        running.idle().await;
        let queue = engine.system().queue().await.expect("read");
        assert_eq!((queue.queued, queue.running), (0, 0), "round {round}");
        running.shutdown(Duration::ZERO).await.expect("it stops");
    }
}

pub(crate) async fn a_panic_while_driving_costs_neither_slot_nor_execution() {
    let panicked = AtomicBool::new(false);
    let clumsy = Faulty::new(store().await, move |method| {
        assert!(method != "content" || panicked.swap(true, Ordering::Relaxed), "as the case says");
        None
    });
    let builder = Engine::builder_over(Arc::new(clumsy)).executor(local());
    let engine = TestEngine::start(builder.limits(Limits { slots: 1, ..Limits::default() })).await.expect("starts");
    let run = engine.gate().run(script("exit 0")).await.expect("accepted");
    let ended = tokio::time::timeout(Duration::from_secs(30), run.outcome()).await.expect("in time").expect("ends");
    assert_eq!(ended.execution.status, ExecutionStatus::Succeeded);
    engine.shutdown().await.expect("it stops");
}

pub(crate) async fn the_same_request_under_one_key_runs_once() {
    let fake = local();
    let engine = start(&fake).await;
    let request = || script("print x").idempotency_key("k1");
    let first = engine.gate().run(request()).await.expect("accepted");
    let second = engine.gate().run(request()).await.expect("the same answer");
    assert_eq!(first.id(), second.id());
    let error = engine.gate().run(script("print y").idempotency_key("k1")).await.expect_err("another request");
    assert_eq!(error.code(), ErrorCode::Conflict);
    first.outcome().await.expect("ends");
    assert_eq!(fake.runs().len(), 1);
    engine.shutdown().await.expect("it stops");
}

pub(crate) async fn a_refusal_is_written_into_the_audit_log() {
    let fake = local();
    let engine = start(&fake).await;
    let viewer = Principal {
        actor: Actor { kind: ActorKind::User, name: "vera".to_owned() },
        project: ProjectId::DEFAULT,
        role: Role::Viewer,
    };
    let error = engine.engine().gate(viewer).run(script("exit 0")).await.expect_err("refused");
    assert_eq!(error.code(), ErrorCode::Forbidden);
    let log = engine.gate().audit_log(&Default::default(), PageRequest::default()).await.expect("read");
    let entry = &log.items[0];
    assert_eq!((entry.actor.name.as_str(), entry.action.as_str()), ("vera", "execution.run_ad_hoc"));
    assert_eq!(entry.outcome.as_str(), "refused");
    engine.shutdown().await.expect("it stops");
}

pub(crate) async fn a_secret_parameter_reaches_the_script_and_nothing_else() {
    const CANARY: &str = "c4n4ry-in-a-coal-mine";
    let fake = local();
    let key = MasterKey::generate().expect("a key");
    let engine = TestEngine::start(builder(&fake).await.master_key(key)).await.expect("starts");
    let run = script("show TOKEN").param_value("TOKEN", ParamValue::Secret(Secret::new(CANARY)));
    let run = engine.gate().run(run).await.expect("accepted");
    let ended = run.outcome().await.expect("ends").execution;
    assert_eq!(text(&run).await, "***\n");
    assert!(!format!("{ended:?}").contains(CANARY));
    let again = engine.gate().retry(&run.id().into(), RetryOptions::default()).await.expect("accepted");
    assert_eq!(text(&again).await, "***\n", "the value went along, sealed anew");
    let log = engine.gate().audit_log(&Default::default(), PageRequest::default()).await.expect("read");
    assert!(!format!("{log:?}").contains(CANARY));
    engine.shutdown().await.expect("it stops");
}

pub(crate) async fn a_store_opens_only_with_the_key_that_filled_it() {
    let store = store().await;
    let build = |key: Option<MasterKey>| {
        let builder = Engine::builder_over(Arc::clone(&store));
        match key {
            Some(key) => builder.master_key(key).build(),
            None => builder.build(),
        }
    };
    build(None).await.expect("without secrets no key is needed");
    let key = MasterKey::generate().expect("a key");
    build(Some(key.clone())).await.expect("the first key");
    build(Some(key)).await.expect("the same key");
    let other = build(Some(MasterKey::generate().expect("a key"))).await.expect_err("another key");
    assert_eq!(other.code(), ErrorCode::KeyMismatch);
    assert_eq!(build(None).await.expect_err("no key").code(), ErrorCode::KeyMissing);
}

pub(crate) async fn bad_requests_change_nothing() {
    let (fake, engine) = fleet(1).await;
    let gate = engine.gate();
    for (run, code) in [
        (Run::script("nothing"), ErrorCode::NotFound),
        (script("exit 0").on("web-9999"), ErrorCode::NotFound),
        (script("exit 0").on("tag:none"), ErrorCode::NoTargetMatched),
        (script("exit 0").on("!web-0000"), ErrorCode::Invalid),
        (script("exit 0").on("local"), ErrorCode::NotRegistered),
        (script("").on("web-0000"), ErrorCode::Invalid),
        (script("#!relative\n").on("web-0000"), ErrorCode::Invalid),
        (script("exit 0").on("web-0000").param("PATH", "x"), ErrorCode::Invalid),
        (script("exit 0").on("web-0000").timeout(Duration::ZERO), ErrorCode::Invalid),
        (script(&"x".repeat(2 << 20)).on("web-0000"), ErrorCode::TooLarge),
        (Run::command(Vec::<String>::new()).on("web-0000"), ErrorCode::Invalid),
    ] {
        let shown = format!("{run:?}").chars().take(200).collect::<String>();
        let error = gate.run(run).await.expect_err(&shown);
        assert_eq!(error.code(), code, "{shown}: {error}");
    }
    let page = gate.executions(&Default::default(), PageRequest::default()).await.expect("listed");
    assert!(page.items.is_empty());
    assert!(fake.runs().is_empty());
    engine.shutdown().await.expect("it stops");
}
