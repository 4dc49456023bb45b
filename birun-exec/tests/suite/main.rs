//! What birun-exec promises, shown on real shells, processes and servers.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a case fails by panicking")]

use std::process::ExitCode;

use birun_core::testing::harness::Suite;

mod bootstrap;
mod local;
mod ssh;

fn main() -> ExitCode {
    let mut suite = Suite::new();
    bootstrap::add_to(&mut suite);
    local::add_to(&mut suite);
    ssh::add_to(&mut suite);
    suite.run()
}
