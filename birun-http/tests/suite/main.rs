//! What the HTTP API promises, shown through its own endpoint and over real sockets.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a case fails by panicking, and prints its seed"
)]

mod auth;
mod coverage;
mod document;
mod edges;
mod lists;
mod output;
mod schema;
mod secrets;
mod socket;
mod support;

use std::process::ExitCode;

use birun_core::testing::harness::Suite;

fn main() -> ExitCode {
    let mut suite = Suite::new();
    document::cases(&mut suite);
    coverage::cases(&mut suite);
    auth::cases(&mut suite);
    edges::cases(&mut suite);
    lists::cases(&mut suite);
    output::cases(&mut suite);
    secrets::cases(&mut suite);
    socket::cases(&mut suite);
    suite.run()
}
