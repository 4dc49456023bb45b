//! What every [`Executor`] promises, as cases to be shown on one.
//!
//! The target needs a POSIX shell, the usual small programs (`awk cat grep head kill seq sleep tr`) and `/proc`.
//! What happened there is looked at from there, by further work: so the cases are the same for the
//! own machine and for a server.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a case fails by panicking")]

mod ending;
mod output;
mod running;
mod starting;
mod stopping;

use std::sync::Arc;

use crate::execution::{Executor, Target};
use crate::script::RunMode;
use crate::testing::harness::Case;

/// What the cases are shown on.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The executor.
    pub executor: Arc<dyn Executor>,
    /// Another one of the same kind that knows nothing of the first, as after a restart.
    pub other: Arc<dyn Executor>,
    /// Where work is done.
    pub target: Target,
    /// How it hangs together with the executor.
    pub mode: RunMode,
}

/// Lists functions as cases under their names.
macro_rules! list_cases {
    ($($name:ident,)+) => {
        /// The cases of this file.
        pub(super) fn cases() -> Vec<$crate::testing::harness::Case<$crate::testing::executor::Subject>> {
            vec![$($crate::testing::harness::Case {
                name: stringify!($name),
                run: |subject| Box::pin($crate::testing::executor::running::in_time($name(subject))),
            }),+]
        }
    };
}
use list_cases;

/// Every promise of the documentation of [`Executor`].
#[must_use]
pub fn cases() -> Vec<Case<Subject>> {
    [starting::cases(), ending::cases(), output::cases(), stopping::cases()].into_iter().flatten().collect()
}
