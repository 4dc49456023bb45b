//! The SSH executor: against a real sshd, against servers that misbehave, over lines that break.

mod agent;
mod detached;
mod endings;
mod floods;
mod host_keys;
mod kill;
mod line;
mod phases;
mod pool;
mod sign_in;
mod sshd;
mod starting;
mod support;

use birun_core::testing::harness::Suite;

pub(crate) fn add_to(suite: &mut Suite) {
    agent::add_to(suite);
    detached::add_to(suite);
    endings::add_to(suite);
    floods::add_to(suite);
    host_keys::add_to(suite);
    kill::add_to(suite);
    line::add_to(suite);
    phases::add_to(suite);
    pool::add_to(suite);
    sign_in::add_to(suite);
    sshd::add_to(suite);
    starting::add_to(suite);
}
