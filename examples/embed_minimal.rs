//! birun inside a Rust program: run a script on this machine and look at how it ended.
#![expect(clippy::print_stdout, reason = "an example shows what it did")]

use std::error::Error;
use std::time::Duration;

use birun_core::engine::{Engine, Roles};
use birun_core::execution::Run;
use birun_core::script::Interpreter;
use birun_exec::LocalExecutor;
use birun_store::SqlStore;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // A store in memory forgets everything at the end; "sqlite://birun.db" or "postgres://…" do not.
    let store = SqlStore::memory().await?;
    store.migrate().await?;
    let engine = Engine::builder(store).executor(LocalExecutor::new()).build().await?;
    let running = engine.start(Roles::all()).await?;

    let hello = Run::content("hello", "echo \"hello, $NAME\"; exit 3", Interpreter::Sh).param("NAME", "ana");
    let execution = engine.system().run(hello).await?.outcome().await?.execution;

    // How a run ended is data. `into_result()` turns anything but success into an error.
    println!("{} ended {}", execution.subject.title, execution.status);

    running.shutdown(Duration::from_secs(10)).await?;
    Ok(())
}
