//! What birun-store promises, on every database.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a case fails by panicking"
)]

use std::process::ExitCode;

use birun_core::testing::harness::Suite;

mod backend;
mod child;
mod conformance;
mod dispatch;
mod log;
mod log_files;
mod migrations;
mod postgres;
mod rows;
mod sqlite;

fn main() -> ExitCode {
    if let Some(database) = child::database() {
        return child::run(&database);
    }
    let mut suite = Suite::new();
    conformance::add_to(&mut suite);
    dispatch::add_to(&mut suite);
    migrations::add_to(&mut suite);
    postgres::add_to(&mut suite);
    rows::add_to(&mut suite);
    sqlite::add_to(&mut suite);
    log::add_to(&mut suite);
    log_files::add_to(&mut suite);
    suite.run()
}
