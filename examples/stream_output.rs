//! Follow a run while it happens: every change and every byte, in order, until it ends.
#![expect(clippy::print_stdout, reason = "an example shows what it did")]

use std::error::Error;
use std::time::Duration;

use birun_core::engine::{Engine, Roles};
use birun_core::execution::{Run, RunEvent};
use birun_core::script::Interpreter;
use birun_exec::LocalExecutor;
use birun_store::SqlStore;
use futures::StreamExt;

const COUNT: &str = "for number in 1 2 3; do echo \"line $number\"; done; echo 'that was all' >&2";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = SqlStore::memory().await?;
    store.migrate().await?;
    let engine = Engine::builder(store).executor(LocalExecutor::new()).build().await?;
    let running = engine.start(Roles::all()).await?;

    let run = engine.system().run(Run::content("count", COUNT, Interpreter::Sh)).await?;
    let mut events = run.events();
    while let Some(event) = events.next().await {
        match event? {
            RunEvent::Output(records) => {
                for record in records {
                    print!("{}: {}", record.stream, String::from_utf8_lossy(&record.payload));
                }
            }
            RunEvent::Changed(change) if change.execution.status.is_terminal() => {
                println!("ended {}", change.execution.status);
            }
            RunEvent::Changed(_) | RunEvent::Steps(_) => {}
        }
    }

    running.shutdown(Duration::from_secs(10)).await?;
    Ok(())
}
