//! Detached work: left by one worker, taken up by another.

use std::sync::Arc;
use std::time::Duration;

use birun_core::engine::{Engine, EngineBuilder};
use birun_core::execution::{ExecutionStatus, Kill, LogCursor, Reason, Run, RunHandle, StepStatus, Stream};
use birun_core::script::{LostPolicy, OutputLimit, OutputPolicy, ParamValue, RunMode};
use birun_core::testing::{FakeExecutor, TestEngine};
use birun_core::vault::{MasterKey, Secret};
use birun_core::{ErrorCode, Gate, Store};

use crate::awkward::{Awkward, OnKill};
use crate::engine::{die_over, local, script, settings, start_with, steps, store};

/// A store, an executor, and a way to start engines over both.
struct World {
    store: Arc<dyn Store>,
    fake: FakeExecutor,
    key: MasterKey,
}

impl World {
    async fn new() -> Self {
        Self { store: store().await, fake: local(), key: MasterKey::generate().expect("a key") }
    }

    fn builder(&self) -> EngineBuilder {
        Engine::builder_over(Arc::clone(&self.store)).executor(self.fake.clone()).master_key(self.key.clone())
    }

    async fn start(&self) -> TestEngine {
        TestEngine::start(self.builder()).await.expect("starts")
    }

    /// A run that was started by an engine which then shut down, without waiting for it.
    async fn left(&self, run: Run) -> RunHandle {
        let engine = self.start().await;
        let run = engine.gate().run(run.mode(RunMode::Detached)).await.expect("accepted");
        self.fake.has_begun(1).await;
        let writing = async {
            while self.text(&run, Stream::Stdout).await.is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), writing).await.expect("it is written");
        engine.shutdown_within(Duration::ZERO).await.expect("it stops");
        run
    }

    /// What the log has of a stream.
    async fn text(&self, run: &RunHandle, stream: Stream) -> String {
        let mut reader = self.store.logs().reader(run.id(), LogCursor::default()).await.expect("a reader");
        let mut text = Vec::new();
        loop {
            let records = reader.next(1024).await.expect("records");
            if records.is_empty() {
                return String::from_utf8(text).expect("text");
            }
            let own = records.into_iter().filter(|record| record.stream == stream);
            own.for_each(|record| text.extend_from_slice(&record.payload));
        }
    }

    /// Goes on with a run to its end.
    async fn end(&self, run: &RunHandle) -> (Gate, TestEngine, ExecutionStatus) {
        let engine = self.start().await;
        let again = engine.gate().attach(&run.id().into()).await.expect("found");
        let waiting = async {
            while self.fake.adopted().is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("it is taken up");
        self.fake.release();
        let ended = again.outcome().await.expect("it ends").execution;
        (engine.gate(), engine, ended.status)
    }
}

pub(crate) async fn what_a_worker_leaves_another_takes_up() {
    let world = World::new().await;
    let run = world.left(script("print one\nerror two\nhold\nprint three\nexit 7")).await;
    let idle = world.builder().build().await.expect("builds");
    let step = steps(&idle.system(), &run).await.remove(0);
    assert_eq!((step.status, step.attempt), (StepStatus::Running, 1));

    let (gate, engine, status) = world.end(&run).await;
    assert_eq!(status, ExecutionStatus::Failed);
    let steps = steps(&gate, &run).await;
    assert_eq!((steps.len(), steps[0].exit_code), (1, Some(7)));
    assert_eq!(world.text(&run, Stream::Stdout).await, "one\nthree\n");
    assert_eq!(world.text(&run, Stream::Stderr).await, "two\n");
    assert_eq!(steps[0].output_bytes, 14);
    assert_eq!((world.fake.runs().len(), world.fake.kills().len()), (1, 0));
    engine.shutdown().await.expect("it stops");
    assert_eq!(world.fake.forgotten(), [steps[0].handle.clone().expect("a handle")]);
}

pub(crate) async fn what_a_dead_worker_left_is_taken_up_whatever_the_policy_for_lost_steps() {
    for on_lost in [LostPolicy::Lost, LostPolicy::Retry] {
        let world = World::new().await;
        let idle = world.builder().build().await.expect("builds");
        let settings = settings(|settings| (settings.on_lost, settings.mode) = (on_lost, RunMode::Detached));
        let run = idle.system().run(script("print one\nhold\nprint two").settings(settings)).await.expect("accepted");
        die_over(&world.store, &run).await;
        let (_, engine, status) = world.end(&run).await;
        assert_eq!(status, ExecutionStatus::Succeeded);
        assert_eq!(world.text(&run, Stream::Stdout).await, "one\ntwo\n");
        assert_eq!((world.fake.runs().len(), world.fake.kills().len()), (0, 0));
        engine.shutdown().await.expect("it stops");
    }
}

pub(crate) async fn a_secret_at_the_place_where_output_is_taken_up_stays_hidden() {
    let world = World::new().await;
    let token = ParamValue::Secret(Secret::new("hunter2-hunter2"));
    let body = "print before\nshow TOKEN\nhold\nshow TOKEN\nprint after";
    let run = world.left(script(body).param_value("TOKEN", token)).await;
    let (_, engine, _) = world.end(&run).await;
    assert_eq!(world.text(&run, Stream::Stdout).await, "before\n***\n***\nafter\n");
    engine.shutdown().await.expect("it stops");
}

pub(crate) async fn the_limit_of_the_output_counts_what_was_there_before() {
    let world = World::new().await;
    let settings = settings(|settings| settings.output = OutputLimit { bytes: 10, policy: OutputPolicy::Fail });
    let run = world.left(script("print 1234567\nhold\nprint 1234567\nhang").settings(settings)).await;
    let (gate, engine, status) = world.end(&run).await;
    assert_eq!(status, ExecutionStatus::Failed);
    assert_eq!(steps(&gate, &run).await[0].reason, Some(Reason::OutputLimit));
    engine.shutdown().await.expect("it stops");
}

pub(crate) async fn what_is_cancelled_while_nobody_has_it_is_stopped_when_it_is_taken_up() {
    let world = World::new().await;
    let run = world.left(script("print one\nhang")).await;
    let idle = world.builder().build().await.expect("builds");
    idle.system().cancel(&run.id().into()).await.expect("requested");
    let (gate, engine, status) = world.end(&run).await;
    assert_eq!(status, ExecutionStatus::Cancelled);
    let step = steps(&gate, &run).await.remove(0);
    assert_eq!((step.status, step.kill), (StepStatus::Cancelled, Some(Kill::Confirmed)));
    engine.shutdown().await.expect("it stops");
    assert_eq!(world.fake.forgotten().len(), 1);
}

pub(crate) async fn only_what_can_be_done_detached_is_accepted_so() {
    let engine = start_with(Awkward::killing(&local(), OnKill::Answers(Kill::Gone))).await;
    let refused = engine.gate().run(script("exit 0").mode(RunMode::Detached)).await.expect_err("refused");
    assert_eq!((refused.code(), refused.fields()[0].field.as_str()), (ErrorCode::Invalid, "mode"));
    assert!(refused.to_string().contains("the executor `local` of target `local` cannot do it"), "{refused}");
    engine.shutdown().await.expect("it stops");
}
