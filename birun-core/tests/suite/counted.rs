//! What is counted for operators.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use birun_core::engine::{Engine, Limits};
use birun_core::execution::ExecutionStatus;
use birun_core::testing::TestEngine;
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};

use crate::engine::{die_after, local, script, store};

type Sums = Arc<Mutex<BTreeMap<String, f64>>>;

/// Adds up whatever is counted in this process, by name and labels.
#[derive(Clone, Default)]
struct Sum {
    all: Sums,
    described: Arc<Mutex<Vec<String>>>,
}

struct One {
    sums: Sums,
    key: String,
}

impl One {
    fn add(&self, value: f64) {
        *self.sums.lock().unwrap_or_else(PoisonError::into_inner).entry(self.key.clone()).or_default() += value;
    }
}

impl CounterFn for One {
    fn increment(&self, value: u64) {
        self.add(f64::from(u32::try_from(value).expect("small")));
    }
    fn absolute(&self, _: u64) {}
}

impl GaugeFn for One {
    fn increment(&self, value: f64) {
        self.add(value);
    }
    fn decrement(&self, value: f64) {
        self.add(-value);
    }
    fn set(&self, _: f64) {}
}

impl HistogramFn for One {
    fn record(&self, _: f64) {
        self.add(1.0);
    }
}

impl Sum {
    fn one(&self, key: &Key) -> Arc<One> {
        let labels: Vec<&str> = key.labels().map(metrics::Label::value).collect();
        let key = [vec![key.name()], labels].concat().join(" ");
        Arc::new(One { sums: Arc::clone(&self.all), key })
    }

    fn of(&self, key: &str) -> f64 {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied().unwrap_or_default()
    }

    fn describe(&self, name: &KeyName) {
        self.described.lock().unwrap_or_else(PoisonError::into_inner).push(name.as_str().to_owned());
    }
}

impl Recorder for Sum {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.describe(&name);
    }
    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.describe(&name);
    }
    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.describe(&name);
    }
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.one(key))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.one(key))
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.one(key))
    }
}

/// Begins to count, before the first case.
pub(crate) fn listen() {
    let sum = Sum::default();
    if metrics::set_global_recorder(sum.clone()).is_ok() {
        SUM.set(sum).ok();
    }
}

static SUM: OnceLock<Sum> = OnceLock::new();

pub(crate) async fn endings_and_output_are_counted_and_described() {
    let sum = SUM.get().expect("somebody listens");
    let watched = [
        "birun_executions_total succeeded",
        "birun_steps_total succeeded",
        "birun_step_seconds succeeded",
        "birun_output_bytes_total",
        "birun_executions_total cancelled",
    ];
    let before = watched.map(|key| sum.of(key));
    let builder = || async { Engine::builder_over(store().await).executor(local()) };
    let engine = TestEngine::start(builder().await).await.expect("starts");
    let run = engine.gate().run(script("print four")).await.expect("accepted");
    run.outcome().await.expect("ends");
    engine.shutdown().await.expect("it stops");
    let gate = builder().await.build().await.expect("builds").system();
    let queued = gate.run(script("exit 0")).await.expect("accepted");
    gate.cancel(&queued.id().into()).await.expect("cancelled");
    // Other cases may count at the same time.
    for ((key, before), more) in watched.iter().zip(before).zip([1.0, 1.0, 1.0, 5.0, 1.0]) {
        assert!(sum.of(key) >= before + more, "{key}: {} after {before}", sum.of(key));
    }
    let described = sum.described.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for key in watched {
        let name = key.split(' ').next().expect("a name");
        assert!(described.iter().any(|described| described == name), "{name} is not described");
    }
}

pub(crate) async fn what_the_reaper_ends_is_counted() {
    let sum = SUM.get().expect("somebody listens");
    let watched = ["birun_executions_total lost", "birun_steps_total lost"];
    let before = watched.map(|key| sum.of(key));
    let (store, fake) = (store().await, local());
    let idle = Engine::builder_over(Arc::clone(&store)).executor(fake.clone()).build().await.expect("builds");
    let run = idle.system().run(script("print never")).await.expect("accepted");
    // Its worker dies before it has started a step, so that nobody need look after processes.
    die_after(&store, &run, false).await;
    let limits = Limits { claims: 1, ..Limits::default() };
    let engine = TestEngine::start(Engine::builder_over(store).executor(fake).limits(limits)).await.expect("starts");
    let ended = engine.gate().execution(&run.id().into()).await.expect("read");
    assert_eq!(ended.status, ExecutionStatus::Lost);
    for (key, before) in watched.iter().zip(before) {
        assert!(sum.of(key) > before, "{key}: {} after {before}", sum.of(key));
    }
    engine.shutdown().await.expect("it stops");
}
