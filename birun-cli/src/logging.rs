//! Logs: what birun says of itself, on stderr.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::failpoint::Failpoint;

/// birun's own crates. All others are heard from warnings on: at lower levels they tell protocol details.
const OWN: [&str; 5] = ["birun", "birun_core", "birun_exec", "birun_http", "birun_store"];

/// It logs the errors that it answers as well: the command that gets them tells them.
const TOLD_OTHERWISE: &str = "rustls_platform_verifier";

/// The form of logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// For people.
    Text,
    /// One JSON object in a line.
    Json,
}

/// Starts logging. `format` is given by commands that go on until they are told to stop; others
/// log only what went wrong. A failpoint listens along.
///
/// What is answered writes the last lines when it is dropped. A thread of its own writes: whoever
/// reads the logs and stops reading does not stop birun; lines that find no room are left out.
pub(crate) fn start(format: Option<LogFormat>, verbose: bool, failpoint: Option<Failpoint>) -> WorkerGuard {
    let level = match (format, verbose) {
        (_, true) => LevelFilter::DEBUG,
        (Some(_), false) => LevelFilter::INFO,
        (None, false) => LevelFilter::WARN,
    };
    let filter = Targets::new()
        .with_default(LevelFilter::WARN)
        .with_targets(OWN.map(|name| (name, level)))
        .with_target(TOLD_OTHERWISE, LevelFilter::OFF);
    let (stderr, guard) = tracing_appender::non_blocking(std::io::stderr());
    let terminal = std::io::stderr().is_terminal();
    let layer = match format {
        None => {
            fmt::layer().with_writer(stderr).without_time().with_target(false).with_ansi(terminal).compact().boxed()
        }
        Some(LogFormat::Json) => fmt::layer().with_writer(stderr).json().flatten_event(true).boxed(),
        Some(LogFormat::Auto) if !terminal => fmt::layer().with_writer(stderr).json().flatten_event(true).boxed(),
        Some(_) => fmt::layer().with_writer(stderr).with_target(false).with_ansi(terminal).boxed(),
    };
    // There is one subscriber, and this is the only place that sets it.
    let registry = tracing_subscriber::registry().with(layer.with_filter(filter));
    match failpoint {
        Some(failpoint) => registry.with(failpoint.layer()).try_init().ok(),
        None => registry.try_init().ok(),
    };
    guard
}
