//! Servers that stop answering: one test for each point, each ends in time and names the point.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use birun_core::execution::executor::HostTrust;
use birun_core::execution::{Ending, Executor, ServerTarget, Target};
use birun_core::inventory::{OfferedKey, Verdict};
use birun_core::testing::harness::Suite;
use birun_core::{ErrorCode, Result};
use birun_exec::testing::{Act, Admission, Direction, Fault, Notes, Opening, Proxy, Script, ScriptedServer, Stage};
use bytes::Bytes;
use tokio::net::{TcpSocket, TcpStream};

use super::support::{LIMIT, Ran, eventually, impatient, run, run_trusting, work};

pub(crate) fn add_to(suite: &mut Suite) {
    suite.test("ssh::hang::accept", &[], hang_at_accept);
    suite.test("ssh::hang::banner", &[], || hang_in_handshake(Stage::Banner, "banner"));
    suite.test("ssh::hang::kexinit", &[], || hang_in_handshake(Stage::KexInit, "kexinit"));
    suite.test("ssh::hang::kex_reply", &[], || hang_in_handshake(Stage::KexReply, "kex reply"));
    suite.test("ssh::hang::newkeys", &[], || hang_in_handshake(Stage::NewKeys, "newkeys"));
    suite.test("ssh::hang::service", &[], || hang_in_handshake(Stage::Service, "authentication"));
    suite.test("ssh::hang::auth", &[], || hang_in_authentication(Admission::Hang));
    suite.test("ssh::hang::auth_partial", &[], || hang_in_authentication(Admission::HangAfterKey));
    suite.test("ssh::hang::channel_open", &[], hang_at_channel_open);
    suite.test("ssh::hang::exec_reply", &[], hang_at_exec_reply);
    suite.test("ssh::hang::while_the_script_is_sent", &[], hang_while_the_script_is_sent);
    suite.test("ssh::hang::before_start", &[], hang_before_start);
    suite.test("ssh::hang::after_first_byte", &[], hang_after_first_byte);
    suite.test("ssh::hang::before_exit_status", &[], hang_before_exit_status);
    suite.test("ssh::hang::before_close", &[], hang_before_close);
    suite.test("ssh::hang::host_key", &[], hang_at_host_key);
    suite.test("ssh::hang::a_drip_before_start", &[], a_drip_before_start);
    suite.test("ssh::hang::a_drip_before_close", &[], a_drip_before_close);
    suite.test("ssh::hang::disconnect", &[], hang_at_disconnect);
}

/// A limit plus a second; the connection itself was quick.
fn in_time(ran: &Ran) {
    in_time_after(Duration::ZERO, ran);
}

fn in_time_after(before: Duration, ran: &Ran) {
    assert!(ran.took < before + LIMIT + Duration::from_secs(1), "{ran:?}");
}

fn unreachable_in(ran: &Ran, phase: &str) {
    in_time(ran);
    let error = ran.unreachable();
    assert_eq!(error.code(), ErrorCode::PhaseTimeout, "{error}");
    assert!(error.to_string().ends_with(&format!("timed out in {phase} after 400ms")), "{error}");
    assert!(error.hint().is_some());
    assert!(error.is_retryable());
}

fn lost_in(ran: &Ran, phase: &str) {
    // What is left behind has a second at least.
    in_time_after(Duration::from_secs(if phase == "close" { 1 } else { 0 }), ran);
    let Ending::Lost { detail, .. } = &ran.ending else { panic!("{ran:?}") };
    assert!(detail.contains(&format!("timed out in {phase} after 400ms")), "{detail}");
}

/// A listener whose queue is full drops what comes.
async fn hang_at_accept() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(Ok(tcp)) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        waiting.push(tcp);
    }
    let server = ScriptedServer::start(Script::default()).await;
    let mut target = server.target();
    target.port = address.port();
    let ran = run(&impatient(), &Arc::new(target), "true").await;
    in_time(&ran);
    let error = ran.unreachable();
    assert_eq!(error.code(), ErrorCode::ConnectTimeout);
    assert_eq!(error.to_string(), format!("connect {address}: timed out after 400ms"));
}

async fn hang_in_handshake(stage: Stage, phase: &str) {
    let server = ScriptedServer::start(Script::default()).await;
    let proxy = Proxy::start(server.port(), Fault::Hold(stage)).await;
    let mut target = server.target();
    target.port = proxy.port();
    let ran = run(&impatient(), &Arc::new(target), "true").await;
    unreachable_in(&ran, phase);
    assert_eq!(server.witness().input(), 0);
}

async fn hang_in_authentication(admission: Admission) {
    let server = ScriptedServer::start(Script { admission, ..Script::default() }).await;
    let ran = run(&impatient(), &Arc::new(server.target()), "true").await;
    unreachable_in(&ran, "authentication");
    assert_eq!(server.witness().commands(), 0);
}

async fn hang_at_channel_open() {
    let server = ScriptedServer::start(Script { opening: Opening::Hang, ..Script::default() }).await;
    let ran = run(&impatient(), &Arc::new(server.target()), "true").await;
    unreachable_in(&ran, "channel open");
}

async fn hang_at_exec_reply() {
    let server = ScriptedServer::start(Script { run: vec![Act::Hang], ..Script::default() }).await;
    let ran = run(&impatient(), &Arc::new(server.target()), "true").await;
    unreachable_in(&ran, "exec reply");
    assert_eq!(server.witness().input(), 0, "nothing of the script is sent before the server agrees");
}

/// The window is never opened, so the script never leaves us: nothing of it can have run.
async fn hang_while_the_script_is_sent() {
    let script = Script { window: 0, run: vec![Act::Accept, Act::Hang], ..Script::default() };
    let server = ScriptedServer::start(script).await;
    let ran = run(&impatient(), &Arc::new(server.target()), "true").await;
    unreachable_in(&ran, "script");
    assert_eq!(server.witness().input(), 0);
}

async fn hang_before_start() {
    let run_acts = vec![Act::Accept, Act::AwaitInput, Act::Hang];
    let server = ScriptedServer::start(Script { run: run_acts, ..Script::default() }).await;
    lost_in(&run(&impatient(), &Arc::new(server.target()), "true").await, "script");
}

async fn hang_after_first_byte() {
    let server = ScriptedServer::start(Script::running([Act::out("x"), Act::Hang])).await;
    let ran = run(&impatient(), &Arc::new(server.target()), "true").await;
    lost_in(&ran, "idle");
    assert_eq!(ran.stdout(), "x");
}

async fn hang_before_exit_status() {
    let server = ScriptedServer::start(Script::running([Act::out("x"), Act::Eof, Act::Hang])).await;
    lost_in(&run(&impatient(), &Arc::new(server.target()), "true").await, "idle");
}

async fn hang_before_close() {
    let server = ScriptedServer::start(Script::running([Act::out("x"), Act::Eof, Act::Status(0), Act::Hang])).await;
    let ran = run(&impatient(), &Arc::new(server.target()), "true").await;
    lost_in(&ran, "close");
    let Ending::Lost { detail, .. } = &ran.ending else { panic!("{ran:?}") };
    assert!(detail.contains("after exit status 0"), "{detail}");
}

/// A store that does not answer.
#[derive(Debug)]
struct Silence;

#[async_trait]
impl HostTrust for Silence {
    async fn note(&self, _: &ServerTarget, _: &OfferedKey, _: &Verdict) -> Result<()> {
        std::future::pending().await
    }
}

async fn hang_at_host_key() {
    let server = ScriptedServer::start(Script::default()).await;
    let work = work(&Arc::new(server.target()), "true");
    unreachable_in(&run_trusting(&impatient(), work, Arc::new(Silence)).await, "host key");
    assert_eq!(server.witness().attempts(), 0);
}

/// A byte now and then is no progress.
fn drip() -> Act {
    Act::Drip(Bytes::from_static(b"."), Duration::from_millis(50), 200)
}

async fn a_drip_before_start() {
    let acts = vec![Act::Accept, Act::AwaitInput, drip(), Act::Started, Act::Status(0), Act::Close];
    let server = ScriptedServer::start(Script { run: acts, ..Script::default() }).await;
    lost_in(&run(&impatient(), &Arc::new(server.target()), "true").await, "script");
}

async fn a_drip_before_close() {
    let server = ScriptedServer::start(Script::running([Act::Status(0), drip(), Act::Close])).await;
    lost_in(&run(&impatient(), &Arc::new(server.target()), "true").await, "close");
}

/// The server hears nothing of our leave, so it never closes: we do.
async fn hang_at_disconnect() {
    let said =
        [Act::out("birun-probe-ok\n"), Act::Pause(Duration::from_millis(200)), Act::Eof, Act::Status(0), Act::Close];
    let errand = [Act::Accept, Act::AwaitInput].into_iter().chain(said).collect();
    let server = ScriptedServer::start(Script { errand, ..Script::default() }).await;
    let proxy = Proxy::start(server.port(), Fault::Pass).await;
    let mut target = server.target();
    target.port = proxy.port();
    let begin = Instant::now();
    let executor = impatient();
    let target = Target::Server(Arc::new(target));
    let probing = executor.probe(&target, Notes::new());
    let muting = async {
        eventually("the no-op arrives", || server.witness().input() > 0).await;
        proxy.set(Fault::Mute(Direction::FromClient));
    };
    let (probe, ()) = tokio::join!(probing, muting);
    assert!(probe.ok, "{probe:?}");
    assert!(begin.elapsed() < LIMIT + Duration::from_secs(1));
    eventually("our side is closed", || proxy.ended_by_client() == 1).await;
}
