//! No-op executions on a store that holds many already, each of them made by the product itself.

use std::time::Instant;

use birun_core::engine::Engine;
use birun_core::execution::Run;
use tokio::task::JoinSet;

use crate::Outcome;
use crate::engine::{NOOP, Started, directory, sqlite};
use crate::noop::{SUBMITTERS, rate_of};
use crate::settings::Settings;
use crate::table::{Goal, Line, Table};

const FULL: u64 = 1_000_000;
const SHORT: u64 = 50_000;
/// More submitters share each commit, so that seeding takes less time.
const SEEDERS: u64 = 256;

pub(crate) async fn measure(settings: &Settings, table: &mut Table) -> Outcome {
    let executions = if settings.full { FULL } else { SHORT };
    let directory = directory()?;
    let started = Started::with_noop(sqlite(directory.path()).await?).await?;
    let begin = Instant::now();
    seed(&started.engine, executions).await?;
    eprintln!("  seeded {executions} executions in {:.0} s", begin.elapsed().as_secs_f64());
    let rate = rate_of(started, SUBMITTERS).await?;
    let goal = if settings.full { Goal::AtLeast(1500.0) } else { Goal::None };
    let measure = format!("no-op executions, SQLite with {executions}, {SUBMITTERS} submitters");
    table.add(Line::new(measure, rate, "/s", goal));
    Ok(())
}

async fn seed(engine: &Engine, executions: u64) -> Outcome {
    let mut tasks = JoinSet::new();
    for seeder in 0..SEEDERS {
        let gate = engine.system();
        let share = executions / SEEDERS + u64::from(seeder < executions % SEEDERS);
        tasks.spawn(async move {
            for _ in 0..share {
                gate.run(Run::job(NOOP)).await?.outcome().await?.into_result()?;
            }
            Outcome::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}
