//! An executor of one's own: reach targets that birun knows nothing about.
//!
//! This one "runs" a script by printing it in upper case. What a real one has to promise stands at
//! `birun_core::execution::Executor`, and `birun_core::testing::executor` checks it.
#![expect(clippy::print_stdout, reason = "an example shows what it did")]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use birun_core::engine::{Engine, Roles};
use birun_core::execution::executor::HostTrust;
use birun_core::execution::{Ending, Executor, Handle, Kill, Probe, Run, RunEvent, Stream, Target, Work, WorkIo};
use birun_core::inventory::NewServer;
use birun_core::script::Interpreter;
use birun_store::SqlStore;
use futures::StreamExt;

#[derive(Debug)]
struct Shout;

#[async_trait]
impl Executor for Shout {
    fn name(&self) -> &str {
        "shout"
    }

    fn handle(&self, work: &Work) -> Handle {
        Handle(work.step.to_string().into())
    }

    async fn run(&self, work: Work, io: WorkIo) -> Ending {
        let text = work.content.as_str().to_uppercase();
        match io.output.send(Stream::Stdout, text.into()).await {
            Ok(()) => Ending::Exited { code: 0 },
            Err(_) => Ending::Stopped { kill: Kill::Gone },
        }
    }

    async fn kill(&self, _target: &Target, _handle: &Handle, _grace: Duration) -> Kill {
        Kill::Gone
    }

    async fn probe(&self, _target: &Target, _trust: Arc<dyn HostTrust>) -> Probe {
        Probe { ok: true, stages: Vec::new(), host_key: None }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = SqlStore::memory().await?;
    store.migrate().await?;
    let engine = Engine::builder(store).executor(Shout).build().await?;
    let running = engine.start(Roles::all()).await?;

    // Servers name the executor that reaches them.
    let megaphone = NewServer {
        name: "megaphone".parse()?,
        host: "localhost".to_owned(),
        port: None,
        user: "anyone".to_owned(),
        credential: None,
        executor: Some("shout".to_owned()),
        tags: vec!["loud".parse()?],
        groups: Vec::new(),
        maintenance: false,
        description: String::new(),
    };
    engine.system().create_server(megaphone).await?;

    let run = engine.system().run(Run::content("shout", "hello\n", Interpreter::Sh).on("tag:loud")).await?;
    let mut events = run.events();
    while let Some(event) = events.next().await {
        if let RunEvent::Output(records) = event? {
            records.iter().for_each(|record| print!("{}", String::from_utf8_lossy(&record.payload)));
        }
    }

    running.shutdown(Duration::from_secs(10)).await?;
    Ok(())
}
