//! Logs: what birun says of itself, on stderr.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::failpoint::Failpoint;
use crate::ui::Manner;

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
/// log only what went wrong. Where only data is wanted, errors are all that is logged. A failpoint
/// listens along.
///
/// What is answered writes the last lines when it is dropped. A thread of its own writes: whoever
/// reads the logs and stops reading does not stop birun; lines that find no room are left out.
pub(crate) fn start(format: Option<LogFormat>, manner: &Manner, failpoint: Option<Failpoint>) -> WorkerGuard {
    let level = level(format, manner);
    let filter = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
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

/// From which level on birun's own crates are heard.
const fn level(format: Option<LogFormat>, manner: &Manner) -> LevelFilter {
    match format {
        _ if manner.quiet => LevelFilter::ERROR,
        _ if manner.verbose => LevelFilter::DEBUG,
        Some(_) => LevelFilter::INFO,
        None => LevelFilter::WARN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::{ColorChoice, Format};

    #[test]
    fn quiet_is_silent_but_for_errors() {
        let manner = |quiet, verbose| {
            let (format, color) = (Format::default(), ColorChoice::default());
            Manner { format, color, quiet, verbose, yes: false, no_input: false }
        };
        assert_eq!(level(None, &manner(true, false)), LevelFilter::ERROR);
        assert_eq!(level(Some(LogFormat::Text), &manner(true, false)), LevelFilter::ERROR);
        assert_eq!(level(None, &manner(false, false)), LevelFilter::WARN);
        assert_eq!(level(None, &manner(false, true)), LevelFilter::DEBUG);
        assert_eq!(level(Some(LogFormat::Json), &manner(false, false)), LevelFilter::INFO);
    }
}
