//! Servers that send too much, or ask for too much: bounded, and nobody else suffers.

use std::sync::Arc;
use std::time::Duration;

use birun_core::ErrorCode;
use birun_core::execution::{Executor, OutputSender, Stop, Waits, WorkIo};
use birun_core::testing::harness::Suite;
use birun_exec::testing::{Act, Notes, Script, ScriptedServer};
use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::support::{eventually, go, impatient, patient, run, work};

pub(crate) fn add_to(suite: &mut Suite) {
    suite.test("ssh::flood::endless_lines_before_the_banner", &[], || chatter(b"welcome\r\n"));
    suite.test("ssh::flood::one_endless_line", &[], || chatter(b"welcome "));
    suite.test("ssh::flood::a_huge_banner", &[], || {
        chatter(b"SSH-2.0-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
    });
    suite.test("ssh::flood::a_million_tiny_packets", &[], a_million_tiny_packets);
    suite.test("ssh::flood::much_output_takes_little_memory", &[], much_output_takes_little_memory);
    suite.test("ssh::flood::a_slow_reader_holds_the_server_back", &[], a_slow_reader_holds_the_server_back);
    suite.test("ssh::flood::channels_that_nobody_asked_for", &[], channels_that_nobody_asked_for);
    suite.test("ssh::flood::a_storm_of_new_keys", &[], a_storm_of_new_keys);
}

/// A server that says the same thing for ever, and never comes to the point.
async fn chatter(words: &'static [u8]) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move { while client.write_all(words).await.is_ok() {} });
        }
    });
    let good = ScriptedServer::start(Script::default()).await;
    let mut target = good.target();
    target.port = port;
    let ran = run(&impatient(), &Arc::new(target), "true").await;
    let error = ran.unreachable();
    assert_eq!(error.code(), ErrorCode::ProtocolError, "{error}");
    assert!(error.to_string().contains("not SSH"), "{error}");
    assert!(ran.took < Duration::from_secs(1));
}

async fn a_million_tiny_packets() {
    let acts = [Act::Flood(Bytes::from_static(b"x"), 1_000_000), Act::Eof, Act::Status(0), Act::Close];
    let server = ScriptedServer::start(Script::running(acts)).await;
    let ran = run(&patient(), &Arc::new(server.target()), "true").await;
    assert_eq!((ran.code(), ran.stdout.len()), (0, 1_000_000));
}

const MEBIBYTE: usize = 1024 * 1024;

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// Says that this process does nothing else.
const ALONE: &str = "BIRUN_TEST_ALONE";

/// In a process of its own, where no other test takes memory.
#[expect(clippy::disallowed_methods, reason = "a test tells its own process what it is for")]
async fn much_output_takes_little_memory() {
    if std::env::var_os(ALONE).is_some() {
        return much_output().await;
    }
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "ssh::flood::much_output_takes_little_memory"]).env(ALONE, "1");
    let output = child.output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

async fn much_output() {
    let chunk = Bytes::from(vec![b'x'; 32 * 1024]);
    let acts = [Act::Flood(chunk, 16 * 1024), Act::Eof, Act::Status(0), Act::Close];
    let server = ScriptedServer::start(Script::running(acts)).await;
    let (executor, target) = (patient(), Arc::new(server.target()));
    let (output, mut chunks) = OutputSender::channel(16);
    let io = WorkIo { output, stop: Stop::default(), trust: Notes::new(), waits: Waits::default() };
    let running = executor.run(work(&target, "true"), io);
    let (mut total, mut most) = (0, 0);
    let counting = async {
        while let Some((_, bytes)) = chunks.recv().await {
            total += bytes.len();
            if total % (64 * MEBIBYTE) < bytes.len() {
                most = most.max(resident());
            }
        }
    };
    tokio::join!(running, counting);
    assert_eq!(total, 512 * MEBIBYTE);
    assert!(most > 0 && most < 64 * MEBIBYTE, "{most}");
}

/// Nobody reads the one run, and the other one ends all the same.
async fn a_slow_reader_holds_the_server_back() {
    let flood = [Act::Flood(Bytes::from(vec![b'x'; 32 * 1024]), 64 * 1024), Act::Eof, Act::Status(0), Act::Close];
    let flooding = ScriptedServer::start(Script::running(flood)).await;
    let good = ScriptedServer::start(Script::default()).await;
    let executor = patient();
    let slow = go(&executor, work(&Arc::new(flooding.target()), "true"));
    eventually("the flood runs", || flooding.witness().commands() == 1).await;
    let before = resident();
    for _ in 0..20 {
        assert_eq!(run(&executor, &Arc::new(good.target()), "true").await.code(), 0);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(resident().saturating_sub(before) < 128 * MEBIBYTE);
    assert!(!slow.ending.is_finished());
}

async fn channels_that_nobody_asked_for() {
    let acts = [Act::Pause(Duration::from_millis(300)), Act::out("hello\n"), Act::Eof, Act::Status(0), Act::Close];
    let server = ScriptedServer::start(Script { opens_channels: true, ..Script::running(acts) }).await;
    let ran = run(&patient(), &Arc::new(server.target()), "true").await;
    assert_eq!((ran.code(), ran.stdout()), (0, "hello\n".to_owned()));
    assert!(server.witness().refused() > 100, "{:?}", server.witness());
    assert_eq!(server.witness().granted(), 0);
}

async fn a_storm_of_new_keys() {
    let acts = [Act::Flood(Bytes::from(vec![b'x'; 4096]), 4096), Act::Eof, Act::Status(0), Act::Close];
    let server = ScriptedServer::start(Script { rekey_bytes: 256 * 1024, ..Script::running(acts) }).await;
    let ran = run(&patient(), &Arc::new(server.target()), "true").await;
    assert_eq!((ran.code(), ran.stdout.len()), (0, 16 * MEBIBYTE));
}
