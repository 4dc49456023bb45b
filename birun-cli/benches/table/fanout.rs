//! One execution with a thousand targets, over the same closures run bare.

use std::time::{Duration, Instant};

use birun_core::engine::Engine;
use birun_core::execution::{Run, Strategy};
use birun_core::inventory::NewServer;
use tokio::task::JoinSet;

use crate::Outcome;
use crate::engine::{NOOP, Started, directory, sqlite};
use crate::table::{Goal, Line, Table, median};

const TARGETS: u32 = 1000;
const ROUNDS: usize = 5;

pub(crate) async fn measure(table: &mut Table) -> Outcome {
    let directory = directory()?;
    let started = Started::with_noop(sqlite(directory.path()).await?).await?;
    add_servers(&started.engine).await?;
    for (width, goal) in [(TARGETS, Goal::Below(0.5)), (10, Goal::None)] {
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(millis(through(&started.engine, width).await?));
            bare.push(millis(closures().await?));
        }
        let (ours, bare) = (median(ours) / f64::from(TARGETS), median(bare) / f64::from(TARGETS));
        let measure = format!("{TARGETS} targets in one execution, {width} at once, over bare closures, each");
        table.add(Line::new(measure, ours - bare, "ms", goal).beside("bare closures", bare));
    }
    started.stop().await
}

async fn add_servers(engine: &Engine) -> Outcome {
    let gate = engine.system();
    for number in 0..TARGETS {
        let new = NewServer {
            name: format!("web-{number}").parse()?,
            host: "127.0.0.1".to_owned(),
            port: None,
            user: "deploy".to_owned(),
            credential: None,
            executor: None,
            tags: vec!["prod".parse()?],
            groups: Vec::new(),
            maintenance: false,
            description: String::new(),
        };
        gate.create_server(new).await?;
    }
    Ok(())
}

async fn through(engine: &Engine, width: u32) -> Outcome<Duration> {
    let strategy = Strategy { parallel: width, ..Strategy::default() };
    let begin = Instant::now();
    let run = engine.system().run(Run::job(NOOP).on("tag:prod").strategy(strategy)).await?;
    let ended = run.outcome().await?.into_result()?;
    let took = begin.elapsed();
    if ended.counts.succeeded == TARGETS { Ok(took) } else { Err(format!("not on all targets: {ended:?}").into()) }
}

/// The same closures, each in a task of its own.
async fn closures() -> Outcome<Duration> {
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..TARGETS {
        tasks.spawn(async {});
    }
    while let Some(done) = tasks.join_next().await {
        done?;
    }
    Ok(begin.elapsed())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
