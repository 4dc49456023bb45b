//! The lines that a server's login shell is given for a detached run.
//!
//! The programs stand beside this file, one whole command a line. A login shell is given them as one
//! line between single quotes, whatever shell it is.

use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use birun_core::id::StepId;

use crate::bootstrap::{Bootstrap, line};

static START: LazyLock<String> = LazyLock::new(|| one_line(include_str!("start.sh")));
static KEEP: LazyLock<String> = LazyLock::new(|| one_line(include_str!("keep.sh")));
static FOLLOW: LazyLock<String> = LazyLock::new(|| one_line(include_str!("follow.sh")));
static FORGET: LazyLock<String> = LazyLock::new(|| one_line(include_str!("forget.sh")));

/// The name under which one follower speaks; nobody can know it before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name(String);

impl Name {
    /// A new one. Where the system has no randomness, it is only unlikely to be met again.
    pub(super) fn new() -> Self {
        let mut bytes = [0; 16];
        if getrandom::fill(&mut bytes).is_err() {
            return Self(StepId::new().to_string());
        }
        Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

#[cfg(feature = "testing")]
impl From<&str> for Name {
    fn from(name: &str) -> Self {
        Self(name.to_owned())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How many bytes of a run's output have been passed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) stdout: u64,
    pub(super) stderr: u64,
}

/// Begins a run and follows it. Processes that it leaves behind may hold its output for as long as `patience`.
pub(super) fn start(bootstrap: &Bootstrap, step: StepId, name: &Name, patience: Duration) -> String {
    let (shell, option, text) = bootstrap.shell();
    let (name, patience, step) = (name.to_string(), hundredths(patience), step.to_string());
    let programs = [START.as_str(), "start", &KEEP, &FOLLOW, &name, &patience];
    let script = [shell, option.unwrap_or_default(), text, "script", &step];
    line(&[["/bin/sh", "-c"].as_slice(), &programs, &script].concat())
}

/// Follows a run from a place on.
pub(super) fn follow(step: StepId, name: &Name, patience: Duration, from: Places) -> String {
    let numbers = [hundredths(patience), from.stdout.to_string(), from.stderr.to_string()];
    let [patience, stdout, stderr] = numbers.each_ref().map(String::as_str);
    line(&["/bin/sh", "-c", &FOLLOW, "follow", &step.to_string(), &name.to_string(), patience, stdout, stderr])
}

/// Removes what is kept of a run.
pub(super) fn forget(step: StepId) -> String {
    line(&["/bin/sh", "-c", &FORGET, "forget", &step.to_string()])
}

fn hundredths(time: Duration) -> String {
    time.as_millis().div_ceil(10).to_string()
}

/// A program without its comments and line ends.
fn one_line(program: &str) -> String {
    let lines = program.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::DIRECTORY;

    #[test]
    fn the_programs_can_stand_between_single_quotes_in_every_login_shell() {
        for text in [&START, &KEEP, &FOLLOW, &FORGET] {
            assert!(["'", "\n", "!", "\\\\"].iter().all(|bad| !text.contains(bad)), "{}", **text);
        }
    }

    #[test]
    fn the_directory_is_the_same_everywhere_and_not_that_of_the_script() {
        assert!(START.contains("dir=$base/birun-$uid/$step;"));
        assert!(FOLLOW.contains("/tmp/birun-$uid/$step"));
        assert!(FORGET.contains("$base/birun-$uid/$1"));
        assert!(KEEP.contains(&format!("$base/{DIRECTORY}$step")));
    }

    /// Whoever ends processes finds the shell that begins a run by the end of its command line, and spares
    /// whoever keeps it or follows it.
    #[test]
    fn only_what_leads_to_the_program_shows_as_the_step() {
        let (step, name) = (StepId::new(), Name::new());
        let follow = follow(step, &name, Duration::from_secs(1), Places { stdout: 7, stderr: 8 });
        assert!(follow.ends_with(&format!("follow {step} {name} 100 7 8")), "{follow}");
        assert!(START.contains("keep \"$step\" \"$dir\" \"$5\" \"$6\" \"$7\" "));
    }
}
