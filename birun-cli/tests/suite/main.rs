//! The binary, as users start it: what it writes, what it exits with, what it leaves behind.

#![expect(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a case fails by panicking")]

mod api;
mod audit;
mod birun;
mod canary;
mod contexts;
mod data_dir;
mod detached;
mod disk;
mod errors;
mod exit_codes;
mod import;
mod interrupts;
mod kill;
mod logs;
mod nemesis;
mod output;
mod random;
mod rekey;
mod secrets;
mod serve;
mod ssh;
mod storm;
mod tls;
mod volume;
mod witness;

use std::process::ExitCode;

use birun_core::testing::harness::Suite;

fn main() -> ExitCode {
    let mut suite = Suite::new();
    output::add(&mut suite);
    exit_codes::add(&mut suite);
    errors::add(&mut suite);
    contexts::add(&mut suite);
    data_dir::add(&mut suite);
    import::add(&mut suite);
    interrupts::add(&mut suite);
    audit::add(&mut suite);
    rekey::add(&mut suite);
    logs::add(&mut suite);
    secrets::add(&mut suite);
    serve::add(&mut suite);
    tls::add(&mut suite);
    ssh::add(&mut suite);
    kill::add(&mut suite);
    detached::add(&mut suite);
    storm::add(&mut suite);
    nemesis::add(&mut suite);
    canary::add(&mut suite);
    disk::add(&mut suite);
    volume::add(&mut suite);
    suite.run()
}
