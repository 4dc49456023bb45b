//! A process of its own that holds a worker until it is killed.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use birun_core::execution::QueueStore as _;
use birun_core::id::WorkerId;
use birun_core::testing::store::make::{at, here, worker_named};

use crate::backend::open_file;

const HOLD: &str = "--hold-a-worker-on";

/// The database of this process, if it is such a child.
pub(crate) fn database() -> Option<PathBuf> {
    let mut arguments = std::env::args().skip(1);
    (arguments.next()? == HOLD).then(|| arguments.next().map(PathBuf::from))?
}

/// Registers a worker, claims what is due, says so, and waits to be killed.
#[expect(clippy::print_stdout, reason = "this is what the parent waits for")]
pub(crate) fn run(database: &Path) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let store = open_file(database).await;
        let worker = worker_named("child");
        store.register(&here(), &worker).await.expect("it is registered");
        let claimed = store.claim(&here(), worker.id, 10, at(1)).await.expect("it claims");
        println!("{} {}", worker.id, claimed.len());
        std::future::pending().await
    })
}

/// Starts such a child; answers it, its worker, and how many executions it claimed.
pub(crate) fn start(database: &Path) -> (Child, WorkerId, usize) {
    let program = std::env::current_exe().expect("this program has a path");
    let mut child =
        Command::new(program).arg(HOLD).arg(database).stdout(Stdio::piped()).spawn().expect("the child starts");
    let mut line = String::new();
    let said = BufReader::new(child.stdout.take().expect("it has an output")).read_line(&mut line);
    said.expect("the child says something");
    let (worker, claimed) = line.trim().split_once(' ').expect("two words");
    (child, worker.parse().expect("an id"), claimed.parse().expect("a number"))
}
