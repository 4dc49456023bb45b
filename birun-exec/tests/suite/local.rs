//! The local executor, on this machine.

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use birun_core::Result;
use birun_core::execution::executor::HostTrust;
use birun_core::execution::{
    Ending, Executor, Handle, Kill, OutputSender, ServerTarget, Stop, Stream, Target, Waits, Work, WorkIo,
};
use birun_core::id::{ExecutionId, StepId};
use birun_core::inventory::{OfferedKey, Verdict};
use birun_core::script::{Content, Interpreter, RunMode};
use birun_core::testing::executor::{Subject, cases};
use birun_core::testing::harness::{Need, Suite};
use birun_exec::local::LocalExecutor;
use bytes::Bytes;
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinHandle;

const STUBBORN: &str = "sh -c 'trap \"\" TERM; while :; do sleep 600; done' & setsid sh -c 'trap \"\" TERM; sleep 600; sleep 600' & \
    echo ready; trap '' TERM; while :; do sleep 600; done";
const OBEDIENT: &str = "echo ready; sleep 600; :";

pub(crate) fn add_to(suite: &mut Suite) {
    for case in cases() {
        suite.test(format!("local::{}", case.name), &[], move || (case.run)(subject()));
    }
    suite.test("local::after_a_storm_of_stops_no_process_is_left", &[Need::program("setsid")], || storm(50));
    suite.test("local::what_a_dead_engine_left_is_found", &[Need::program("setsid")], what_a_dead_engine_left_is_found);
    suite.test("local::a_child_that_hides_its_environment_is_found", &[], a_child_that_hides_is_found);
    suite.test("local::what_is_left_behind_is_told_in_the_output", &[], what_is_left_behind_is_told);
    suite.test("local::each_process_is_told_to_end_once", &[], each_process_is_told_to_end_once);
    suite.test("local::a_handle_of_an_earlier_boot_is_gone", &[], a_handle_of_an_earlier_boot_is_gone);
    suite.test("local::programs_do_not_see_the_engines_own_variables", &[], only_the_given_environment_is_seen);
    suite.test("local::a_missing_bash_is_told", &[], a_missing_bash_is_told);
}

fn subject() -> Subject {
    let new = || Arc::new(LocalExecutor::new());
    Subject { executor: new(), other: new(), target: Target::Local, mode: RunMode::Attached }
}

#[derive(Debug)]
struct NoHostKeys;

#[async_trait]
impl HostTrust for NoHostKeys {
    async fn note(&self, _server: &ServerTarget, _offered: &OfferedKey, _verdict: &Verdict) -> Result<()> {
        Ok(())
    }
}

struct Running {
    step: StepId,
    handle: Handle,
    stop: Stop,
    output: Receiver<(Stream, Bytes)>,
    task: JoinHandle<Ending>,
}

fn work(body: &str, grace: Duration) -> Work {
    Work {
        execution: ExecutionId::new(),
        step: StepId::new(),
        target: Target::Local,
        content: Content::new(body).unwrap(),
        interpreter: Interpreter::Shebang,
        env: Vec::new(),
        grace,
        mode: RunMode::Attached,
    }
}

fn start(executor: &Arc<LocalExecutor>, work: Work) -> Running {
    let (sender, output) = OutputSender::channel(16);
    let (step, handle, stop) = (work.step, executor.handle(&work), Stop::default());
    let io = WorkIo { output: sender, stop: stop.clone(), trust: Arc::new(NoHostKeys), waits: Waits::default() };
    let executor = Arc::clone(executor);
    let task = tokio::spawn(async move { executor.run(work, io).await });
    Running { step, handle, stop, output, task }
}

impl Running {
    async fn until_ready(&mut self) {
        let chunk = self.output.recv().await;
        assert_eq!(chunk, Some((Stream::Stdout, Bytes::from("ready\n"))));
    }

    async fn end(mut self) -> (Ending, Vec<(Stream, Bytes)>) {
        let mut chunks = Vec::new();
        while let Some(chunk) = self.output.recv().await {
            chunks.push(chunk);
        }
        (self.task.await.unwrap(), chunks)
    }
}

/// The living processes that carry the id of one of these steps, as this test reads the process table.
fn alive(steps: &HashSet<StepId>) -> usize {
    let environ = |entry: fs::DirEntry| fs::read(entry.path().join("environ")).ok();
    let marks = |environ: Vec<u8>| {
        let text = String::from_utf8_lossy(&environ).into_owned();
        text.split('\0').any(|variable| {
            variable.strip_prefix("BIRUN_STEP_ID=").and_then(|id| id.parse().ok()).is_some_and(|id| steps.contains(&id))
        })
    };
    fs::read_dir("/proc").unwrap().flatten().filter_map(environ).filter(|text| marks(text.clone())).count()
}

async fn storm(size: usize) {
    let executor = Arc::new(LocalExecutor::new());
    let body = |index: usize| if index.is_multiple_of(2) { STUBBORN } else { OBEDIENT };
    let mut storm: Vec<Running> =
        (0..size).map(|index| start(&executor, work(body(index), Duration::from_millis(500)))).collect();
    let steps: HashSet<StepId> = storm.iter().map(|running| running.step).collect();
    for running in &mut storm {
        running.until_ready().await;
    }
    assert!(alive(&steps) >= 2 * size);
    for running in &storm {
        running.stop.gracefully.cancel();
    }
    for running in storm {
        let (ending, _) = running.end().await;
        assert!(matches!(ending, Ending::Stopped { kill: Kill::Confirmed }), "{ending:?}");
    }
    assert_eq!(alive(&steps), 0);
}

async fn what_a_dead_engine_left_is_found() {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let engine = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let running = runtime.block_on(async {
            let mut running = start(&Arc::new(LocalExecutor::new()), work(STUBBORN, Duration::from_secs(600)));
            running.until_ready().await;
            running
        });
        // The engine dies: its tasks are dropped where they stand, its ends of the pipes with them.
        runtime.shutdown_background();
        sender.send((running.step, running.handle)).unwrap();
    });
    let (step, handle) = receiver.await.unwrap();
    engine.join().unwrap();
    assert_ne!(alive(&HashSet::from([step])), 0);
    let next = LocalExecutor::new();
    assert_eq!(next.kill(&Target::Local, &handle, Duration::from_millis(200)).await, Kill::Confirmed);
    assert_eq!(alive(&HashSet::from([step])), 0);
}

async fn a_child_that_hides_is_found() {
    let hidden = format!("/tmp/birun-hidden-{}", StepId::new());
    let body = format!("env -i setsid sh -c 'echo $$ >{hidden}; echo ready; sleep 600; :' & wait");
    let mut running = start(&Arc::new(LocalExecutor::new()), work(&body, Duration::from_millis(200)));
    running.until_ready().await;
    let pid = fs::read_to_string(&hidden).unwrap();
    fs::remove_file(&hidden).unwrap();
    running.stop.gracefully.cancel();
    let (ending, _) = running.end().await;
    assert!(matches!(ending, Ending::Stopped { kill: Kill::Confirmed }), "{ending:?}");
    let state = fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    assert!(state.as_ref().map_or(true, |stat| stat.contains(") Z ")), "{state:?}");
}

async fn what_is_left_behind_is_told() {
    let running = start(&Arc::new(LocalExecutor::new()), work("sleep 600 & exit 3", Duration::from_millis(100)));
    let (ending, chunks) = running.end().await;
    assert!(matches!(ending, Ending::Exited { code: 3 }), "{ending:?}");
    let remarks: Vec<&(Stream, Bytes)> = chunks.iter().filter(|(stream, _)| *stream == Stream::System).collect();
    let [(_, remark)] = remarks.as_slice() else { panic!("{chunks:?}") };
    let mark = b"[birun: processes that the program left behind ";
    assert!(remark.starts_with(mark), "it is known as birun's own: {remark:?}");
}

/// The script counts how often it is told; its child says that it was, and another one takes its place.
async fn each_process_is_told_to_end_once() {
    let child = r#"trap "echo child $$; exit" TERM; sleep 600 & wait"#;
    let body = format!("n=0; trap 'n=$((n+1)); echo told $n' TERM; echo ready; while :; do sh -c '{child}'; done");
    let mut running = start(&Arc::new(LocalExecutor::new()), work(&body, Duration::from_secs(1)));
    running.until_ready().await;
    running.stop.gracefully.cancel();
    let (ending, chunks) = running.end().await;
    assert!(matches!(ending, Ending::Stopped { kill: Kill::Confirmed }), "{ending:?}");
    let output: Vec<u8> = chunks.iter().flat_map(|(_, chunk)| chunk.to_vec()).collect();
    let output = String::from_utf8_lossy(&output).into_owned();
    assert_eq!(output.matches("told").collect::<Vec<_>>(), ["told"], "{output}");
    let children: Vec<&str> = output.lines().filter(|line| line.starts_with("child ")).collect();
    assert!(children.len() > 1, "those that come later are told as well: {output}");
    assert_eq!(children.iter().collect::<HashSet<_>>().len(), children.len(), "{output}");
}

async fn a_handle_of_an_earlier_boot_is_gone() {
    let executor = Arc::new(LocalExecutor::new());
    let mut running = start(&executor, work(OBEDIENT, Duration::from_secs(5)));
    running.until_ready().await;
    let mut earlier = running.handle.clone();
    earlier.0["boot"] = "00000000-0000-0000-0000-000000000000".into();
    assert_eq!(executor.kill(&Target::Local, &earlier, Duration::ZERO).await, Kill::Gone);
    assert_ne!(alive(&HashSet::from([running.step])), 0);
    running.stop.gracefully.cancel();
    running.end().await;
}

async fn only_the_given_environment_is_seen() {
    let given = [("PATH", "/usr/bin:/bin"), ("BIRUN_MASTER_KEY", "canary"), ("TZ", "UTC")];
    let executor = LocalExecutor::with_environment(given.map(|(name, value)| (name.into(), value.into())));
    let (_, chunks) = start(&Arc::new(executor), work("env | cut -d= -f1 | sort", Duration::ZERO)).end().await;
    let seen: Vec<u8> = chunks.iter().flat_map(|(_, chunk)| chunk.to_vec()).collect();
    let expected = ["BIRUN_STEP_ID", "PATH", "PWD", "TZ"].map(|name| format!("{name}\n")).concat();
    assert_eq!(String::from_utf8_lossy(&seen), expected);
}

async fn a_missing_bash_is_told() {
    let executor = LocalExecutor::with_environment([("PATH".into(), "/nowhere".into())]);
    let (ending, chunks) =
        start(&Arc::new(executor), work("#!/usr/bin/env bash\necho ran", Duration::ZERO)).end().await;
    assert!(matches!(&ending, Ending::NotStarted(error) if error.to_string().contains("`bash`")), "{ending:?}");
    assert!(chunks.is_empty());
}
