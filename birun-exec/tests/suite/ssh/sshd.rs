//! Against a real OpenSSH server.

use std::sync::Arc;

use birun_core::execution::Target;
use birun_core::script::RunMode;
use birun_core::testing::executor::{Subject, cases};
use birun_core::testing::harness::{Need, Suite};
use birun_exec::testing::Sshd;

use super::support::{long_limits, strict};

fn sshd() -> [Need; 1] {
    [Need::new("sshd", Sshd::program().is_some())]
}

pub(crate) fn add_to(suite: &mut Suite) {
    for (kind, mode) in [("sshd", RunMode::Attached), ("detached", RunMode::Detached)] {
        // What is detached writes to files, which do not slow it down; and it costs several processes, so
        // that fewer exit codes are tried.
        let attached_only = ["a_slow_receiver_slows_the_program_down", "every_exit_code_is_told_exactly"];
        let fits = |name| mode == RunMode::Attached || !attached_only.contains(&name);
        for case in cases().into_iter().filter(|case| fits(case.name)) {
            suite.test(format!("ssh::{kind}::{}", case.name), &sshd(), move || async move {
                let server = Sshd::start();
                let target = Target::Server(Arc::new(server.target()));
                let executor = || Arc::new(strict().limits(long_limits()).build().unwrap());
                (case.run)(Subject { executor: executor(), other: executor(), target, mode }).await;
            });
        }
    }
}
