//! What the released binary takes when it has nothing to do.

use std::fs;
use std::time::Duration;

use crate::Outcome;
use crate::served::{BINARY, Home};
use crate::settings::Settings;
use crate::table::{Goal, Line, Table, median};

const STARTS: usize = 5;
const MEGABYTE: f64 = 1024.0 * 1024.0;

pub(crate) async fn measure(settings: &Settings, table: &mut Table) -> Outcome {
    let mut first = Vec::new();
    let mut again = Vec::new();
    for _ in 0..STARTS {
        let home = Home::new()?;
        first.push(home.serve().await?.ready.as_secs_f64() * 1000.0);
        again.push(home.serve().await?.ready.as_secs_f64() * 1000.0);
    }
    table.add(Line::new("birun serve: ready, new data directory", median(first), "ms", Goal::Below(200.0)));
    table.add(Line::new("birun serve: ready, old data directory", median(again), "ms", Goal::Below(200.0)));
    idle(settings, table).await?;
    #[expect(clippy::cast_precision_loss, reason = "a file of some megabytes")]
    let size = fs::metadata(BINARY)?.len() as f64 / MEGABYTE;
    table.add(Line::new("birun: size of the binary", size, "MB", Goal::Below(30.0)));
    Ok(())
}

async fn idle(settings: &Settings, table: &mut Table) -> Outcome {
    let time = Duration::from_secs(if settings.full { 60 } else { 10 });
    let home = Home::new()?;
    let served = home.serve().await?;
    // What happens once after a start is not idleness.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = served.cpu_seconds()?;
    tokio::time::sleep(time).await;
    let used = (served.cpu_seconds()? - before) / time.as_secs_f64() * 100.0;
    table.add(Line::new("birun serve: idle RSS", served.memory("VmRSS")?, "MB", Goal::Below(30.0)));
    let measure = format!("birun serve: idle CPU over {} s", time.as_secs());
    table.add(Line::new(measure, used, "%", Goal::Below(0.3)));
    Ok(())
}
