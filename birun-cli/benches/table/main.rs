//! How fast birun is: one table, each line with its limit, or with a peer that did the same work in
//! the same run.
//!
//! `cargo bench -p birun-cli` measures everything, `cargo bench -p birun-cli -- noop ssh` these
//! groups. `BIRUN_BENCH_FULL=1` measures at full length. The method is in `docs/performance.md`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the table is what it is for")]

mod bare;
mod engine;
mod fanout;
mod latency;
mod machine;
mod noop;
mod output;
mod seeded;
mod serve;
mod served;
mod settings;
mod ssh;
mod table;

use std::error::Error;
use std::process::ExitCode;

use crate::settings::Settings;
use crate::table::Table;

/// What a measurement answers; whatever goes wrong ends the bench.
type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// The groups of the table, in its order.
const GROUPS: [&str; 7] = ["noop", "seeded", "latency", "ssh", "output", "fanout", "serve"];

fn main() -> ExitCode {
    // Cargo says `--bench`; everything else names groups.
    let named: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    if let Some(unknown) = named.iter().find(|name| !GROUPS.contains(&name.as_str())) {
        eprintln!("error: no group is named `{unknown}`; there are {}", GROUPS.join(", "));
        return ExitCode::from(2);
    }
    match measure(&named) {
        Ok(table) => {
            println!("{}\n{table}", machine::describe());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(named: &[String]) -> Outcome<Table> {
    let settings = Settings::read();
    // One provider of cryptography for the whole process, as in the binary.
    rustls::crypto::ring::default_provider().install_default().ok();
    // As many threads as the binary has.
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(4);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    let mut table = Table::default();
    for group in GROUPS {
        if named.is_empty() || named.iter().any(|name| name == group) {
            eprintln!("{group}: load average {}", machine::load());
            runtime.block_on(run(group, &settings, &mut table))?;
        }
    }
    Ok(table)
}

async fn run(group: &str, settings: &Settings, table: &mut Table) -> Outcome {
    match group {
        "noop" => noop::measure(settings, table).await,
        "seeded" => seeded::measure(settings, table).await,
        "latency" => latency::measure(settings, table).await,
        "ssh" => ssh::measure(settings, table).await,
        "output" => output::measure(settings, table).await,
        "fanout" => fanout::measure(table).await,
        "serve" => serve::measure(settings, table).await,
        _ => Ok(()),
    }
}
