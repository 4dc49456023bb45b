//! Dying at a milestone, for tests of what a crash leaves behind.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use birun_core::milestone;
use rustix::process::{Signal, getpid, kill_process};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::error::{CommandError, CommandResult};

/// Where the process dies: at a milestone, when it is reached for the `n`th time.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failpoint {
    at: String,
    n: u64,
}

impl Failpoint {
    /// Reads `NAME` or `NAME:N`, as `BIRUN_FAILPOINT` gives it.
    ///
    /// # Errors
    /// When `N` is no number from 1 on.
    pub(crate) fn parse(text: &str) -> CommandResult<Self> {
        let (at, n) = text.split_once(':').unwrap_or((text, "1"));
        match n.parse() {
            Ok(n) if n > 0 => Ok(Self { at: at.to_owned(), n }),
            _ => Err(CommandError::usage(format!("BIRUN_FAILPOINT: `{n}` is not a number from 1 on"))),
        }
    }

    /// What hears milestones, and kills this process at the one that is meant: as `kill -9` does,
    /// without a chance to tidy up.
    pub(crate) fn layer<S>(self) -> impl Layer<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let milestones = Targets::new().with_target(milestone::TARGET, LevelFilter::TRACE);
        Killer { at: self.at, left: AtomicU64::new(self.n) }.with_filter(milestones)
    }
}

struct Killer {
    at: String,
    left: AtomicU64,
}

impl<S: Subscriber> Layer<S> for Killer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut named = Named { name: &self.at, found: false };
        event.record(&mut named);
        if named.found && self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            // Nothing comes after it.
            kill_process(getpid(), Signal::KILL).ok();
        }
    }
}

/// Whether an event's `at` is this name.
struct Named<'a> {
    name: &'a str,
    found: bool,
}

impl Visit for Named<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.found |= field.name() == "at" && value == self.name;
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_milestone_may_be_counted() {
        assert_eq!(Failpoint::parse("claim.after").unwrap(), Failpoint { at: "claim.after".to_owned(), n: 1 });
        assert_eq!(Failpoint::parse("commit.before:7").unwrap(), Failpoint { at: "commit.before".to_owned(), n: 7 });
        assert!(Failpoint::parse("commit.before:0").is_err() && Failpoint::parse("commit.before:x").is_err());
    }
}
