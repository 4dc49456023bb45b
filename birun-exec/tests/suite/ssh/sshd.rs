//! Against a real OpenSSH server.

use std::sync::Arc;

use birun_core::execution::Target;
use birun_core::testing::executor::{Subject, cases};
use birun_core::testing::harness::{Need, Suite};
use birun_exec::testing::Sshd;

use super::support::{long_limits, strict};

fn sshd() -> [Need; 1] {
    [Need::new("sshd", Sshd::program().is_some())]
}

pub(crate) fn add_to(suite: &mut Suite) {
    for case in cases() {
        suite.test(format!("ssh::sshd::{}", case.name), &sshd(), move || async move {
            let server = Sshd::start();
            let target = Target::Server(Arc::new(server.target()));
            let executor = || Arc::new(strict().limits(long_limits()).build().unwrap());
            let subject = Subject { executor: executor(), other: executor(), target };
            (case.run)(subject).await;
        });
    }
}
