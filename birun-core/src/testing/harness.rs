//! The harness of integration suites: cases whose surroundings are absent are told as ignored, not as passed.
//!
//! A crate has one suite, `tests/suite/main.rs` with `harness = false`:
//!
//! ```no_run
//! use birun_core::testing::harness::{Need, Suite};
//!
//! fn main() -> std::process::ExitCode {
//!     let mut suite = Suite::new();
//!     suite.test("arithmetic_works", &[], || async { assert_eq!(1 + 1, 2) });
//!     suite.test("bash_is_there", &[Need::program("bash")], || async {});
//!     suite.run()
//! }
//! ```
//!
//! What a case needs and does not find makes it *ignored*, marked `needs bash`. The variable
//! `BIRUN_TEST_REQUIRE` (`bash,postgres`, or `all`) turns that into a failure: a machine that is to
//! run everything says so.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;

use futures::future::BoxFuture;
use libtest_mimic::{Arguments, Failed, Trial};

/// Something outside that a case cannot do without.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    name: &'static str,
    present: bool,
}

/// One promise of a conformance suite, to be shown on a `C`.
pub struct Case<C> {
    /// The promise as a name.
    pub name: &'static str,
    /// Shows it; panics where it does not hold.
    pub run: fn(C) -> BoxFuture<'static, ()>,
}

/// The cases of one test binary.
#[derive(Default)]
pub struct Suite {
    trials: Vec<Trial>,
    required: String,
}

impl Need {
    /// Something that `BIRUN_TEST_REQUIRE` knows by `name`, and whether it was found.
    #[must_use]
    pub fn new(name: &'static str, present: bool) -> Self {
        Self { name, present }
    }

    /// A program in the path.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "a test looks for what the machine offers")]
    pub fn program(name: &'static str) -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = |directory: PathBuf| directory.join(name).is_file();
        Self::new(name, std::env::split_paths(&path).any(found))
    }
}

impl Suite {
    /// An empty suite that follows `BIRUN_TEST_REQUIRE`.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one variable that configures tests")]
    pub fn new() -> Self {
        Self { trials: Vec::new(), required: std::env::var("BIRUN_TEST_REQUIRE").unwrap_or_default() }
    }

    /// Adds a case. It runs on a runtime of its own and fails by panicking.
    pub fn test<F, Fut>(&mut self, name: impl Into<String>, needs: &[Need], case: F)
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = ()>,
    {
        let Some(absent) = needs.iter().find(|need| !need.present).map(|need| need.name) else {
            self.trials.push(Trial::test(name, move || run_case(case)));
            return;
        };
        let required = self.requires(absent);
        let trial = Trial::test(name, move || Err(Failed::from(format!("{absent} is required and absent"))));
        self.trials.push(trial.with_kind(format!("needs {absent}")).with_ignored_flag(!required));
    }

    /// Adds a case that needs no runtime.
    pub fn plain(&mut self, name: impl Into<String>, needs: &[Need], case: impl FnOnce() + Send + 'static) {
        self.test(name, needs, move || async move { case() });
    }

    /// Runs what the command line asks for (the arguments of `cargo test`).
    #[must_use]
    pub fn run(self) -> ExitCode {
        libtest_mimic::run(&Arguments::from_args(), self.trials).exit_code()
    }

    fn requires(&self, name: &str) -> bool {
        self.required.split(',').map(str::trim).any(|word| word == name || word == "all")
    }
}

fn run_case<F: FnOnce() -> Fut, Fut: Future<Output = ()>>(case: F) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(case());
    Ok(())
}

impl fmt::Debug for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Suite").field("cases", &self.trials.len()).field("required", &self.required).finish()
    }
}

impl<C> fmt::Debug for Case<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Case").field(&self.name).finish()
    }
}
