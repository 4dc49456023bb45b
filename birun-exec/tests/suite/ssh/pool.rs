//! Connections are kept, shared out fairly, and never trusted for too long.

use std::sync::Arc;
use std::time::{Duration, Instant};

use birun_core::execution::{Ending, Executor, Kill, OutputSender, ServerTarget, Stop, Waits, WorkIo};
use birun_core::testing::harness::Suite;
use birun_exec::testing::{Act, Fault, Notes, Opening, Proxy, Script, ScriptedServer};
use futures::future::join_all;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::support::{eventually, go, patient, run, short_limits, strict, work};

pub(crate) fn add_to(suite: &mut Suite) {
    suite.test("ssh::pool::a_connection_is_used_again", &[], a_connection_is_used_again);
    suite.test("ssh::pool::one_execution_at_a_time_uses_a_connection", &[], one_at_a_time);
    suite.test("ssh::pool::waiters_are_served_in_turn", &[], waiters_are_served_in_turn);
    suite.test("ssh::pool::another_revision_gets_another_connection", &[], another_revision);
    suite.test("ssh::pool::two_revisions_share_the_places_and_keep_their_connections", &[], two_revisions);
    suite.test("ssh::pool::idle_connections_are_closed", &[], idle_connections_are_closed);
    suite.test("ssh::pool::a_dead_connection_is_replaced", &[], a_dead_connection_is_replaced);
    suite.test("ssh::pool::a_silent_connection_is_replaced_once", &[], a_silent_connection_is_replaced_once);
    suite.test("ssh::pool::a_busy_server_is_asked_again", &[], a_busy_server_is_asked_again);
    suite.test("ssh::pool::a_server_that_always_drops_is_given_up", &[], a_server_that_always_drops);
    suite.test("ssh::pool::abandoned_waits_cost_no_place", &[], abandoned_waits_cost_no_place);
    suite.test("ssh::pool::who_waits_for_a_place_says_so", &[], who_waits_says_so);
    suite.test("ssh::pool::a_stop_while_waiting_starts_nothing", &[], a_stop_while_waiting);
    suite.test("ssh::pool::dead_links_are_noticed_by_keepalives", &[], dead_links_are_noticed);
}

fn waiting() -> Script {
    Script::running([Act::out("on\n"), Act::Hang])
}

async fn a_connection_is_used_again() {
    let server = ScriptedServer::start(Script::default()).await;
    let (executor, target) = (patient(), Arc::new(server.target()));
    for _ in 0..5 {
        assert_eq!(run(&executor, &target, "true").await.stdout(), "hello\n");
    }
    assert_eq!((server.witness().connections(), server.witness().commands()), (1, 5));
}

async fn one_at_a_time() {
    let acts = [Act::Pause(Duration::from_millis(100)), Act::Status(0), Act::Close];
    let server = ScriptedServer::start(Script::running(acts)).await;
    let (executor, target) = (strict().connections_per_server(3).build().unwrap(), Arc::new(server.target()));
    let runs = join_all((0..5).map(|_| run(&executor, &target, "true"))).await;
    assert!(runs.iter().all(|run| run.code() == 0));
    assert_eq!((server.witness().connections(), server.witness().commands()), (3, 5));
}

async fn waiters_are_served_in_turn() {
    let server = ScriptedServer::start(Script::default()).await;
    let (executor, target) = (strict().connections_per_server(1).build().unwrap(), Arc::new(server.target()));
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut runs = Vec::new();
    for number in 0..10 {
        let (executor, target, order) = (executor.clone(), Arc::clone(&target), Arc::clone(&order));
        let mut running = Box::pin(async move {
            run(&executor, &target, "true").await.code();
            order.lock().unwrap().push(number);
        });
        // Each takes its place in line before the next comes.
        assert!(futures::poll!(&mut running).is_pending());
        runs.push(running);
    }
    join_all(runs).await;
    assert_eq!(*order.lock().unwrap(), (0..10).collect::<Vec<_>>());
}

async fn another_revision() {
    let server = ScriptedServer::start(Script::default()).await;
    let (executor, mut target) = (patient(), server.target());
    for revision in [1, 2, 2] {
        target.revision = revision;
        assert_eq!(run(&executor, &Arc::new(target.clone()), "true").await.code(), 0);
    }
    assert_eq!(server.witness().connections(), 2);
}

async fn two_revisions() {
    let pause = Duration::from_millis(150);
    let acts = [Act::Pause(pause), Act::Status(0), Act::Close];
    let server = ScriptedServer::start(Script::running(acts)).await;
    let executor = strict().connections_per_server(1).build().unwrap();
    let revision = |revision| Arc::new(ServerTarget { revision, ..server.target() });
    let targets = [revision(1), revision(2)];
    let targets = [&targets[0], &Arc::new(ServerTarget { id: targets[0].id, ..(*targets[1]).clone() })];
    let begun = Instant::now();
    let runs = join_all((0..6).map(|number| run(&executor, targets[number % 2], "true"))).await;
    assert!(runs.iter().all(|run| run.code() == 0));
    assert!(begun.elapsed() >= 6 * pause, "two at once, where there is one place");
    assert_eq!(server.witness().connections(), 2);
}

async fn idle_connections_are_closed() {
    let server = ScriptedServer::start(Script::default()).await;
    let proxy = Proxy::start(server.port(), Fault::Pass).await;
    let mut target = server.target();
    target.port = proxy.port();
    let executor = strict().keep_idle(Duration::from_millis(100)).build().unwrap();
    assert_eq!(run(&executor, &Arc::new(target.clone()), "true").await.code(), 0);
    eventually("the connection is closed", || proxy.ended_by_client() == 1).await;
    assert_eq!(run(&executor, &Arc::new(target), "true").await.code(), 0);
    assert_eq!(proxy.connections(), 2);
}

async fn a_dead_connection_is_replaced() {
    let server = ScriptedServer::start(Script::default()).await;
    let proxy = Proxy::start(server.port(), Fault::Pass).await;
    let mut target = server.target();
    target.port = proxy.port();
    let (executor, target) = (patient(), Arc::new(target));
    for round in 1..=3 {
        assert_eq!(run(&executor, &target, "true").await.code(), 0);
        assert_eq!(proxy.connections(), round);
        proxy.set(Fault::Reset);
        eventually("the connection is reset", || proxy.over() == round).await;
        proxy.set(Fault::Pass);
    }
}

/// The server answers nothing on connections that were used once: a fresh one must serve.
async fn a_silent_connection_is_replaced_once() {
    let server = ScriptedServer::start(Script { opening: Opening::HangLater, ..Script::default() }).await;
    let (executor, target) = (strict().limits(short_limits()).build().unwrap(), Arc::new(server.target()));
    for round in 1..=3 {
        assert_eq!(run(&executor, &target, "true").await.code(), 0);
        assert_eq!(server.witness().connections(), round);
    }
}

/// A listener that drops the first connections, as sshd does beyond `MaxStartups`.
async fn dropping(upstream: u16, times: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        for number in 0.. {
            let (mut client, _) = listener.accept().await.unwrap();
            if number < times {
                client.write_all(b"Exceeded MaxStartups\r\n").await.ok();
                continue;
            }
            let mut server = tokio::net::TcpStream::connect(("127.0.0.1", upstream)).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut server).await });
        }
    });
    port
}

async fn a_busy_server_is_asked_again() {
    let server = ScriptedServer::start(Script::default()).await;
    let mut target = server.target();
    target.port = dropping(server.port(), 3).await;
    assert_eq!(run(&patient(), &Arc::new(target), "true").await.code(), 0);
    assert_eq!(server.witness().connections(), 1);
}

async fn a_server_that_always_drops() {
    let server = ScriptedServer::start(Script::default()).await;
    let mut target = server.target();
    target.port = dropping(server.port(), usize::MAX).await;
    let executor = strict().limits(short_limits()).build().unwrap();
    let ran = run(&executor, &Arc::new(target), "true").await;
    let error = ran.unreachable();
    assert_eq!(error.code(), birun_core::ErrorCode::ConnectFailed);
    assert!(error.hint().unwrap().contains("MaxStartups"), "{error}");
    assert!(ran.took < Duration::from_secs(2), "{ran:?}");
}

async fn abandoned_waits_cost_no_place() {
    let server = ScriptedServer::start(Script::default()).await;
    let (executor, target) = (strict().connections_per_server(1).build().unwrap(), Arc::new(server.target()));
    for polls in 0..40 {
        let mut running = Box::pin(run(&executor, &target, "true"));
        for _ in 0..polls {
            if futures::poll!(&mut running).is_ready() {
                break;
            }
            tokio::time::sleep(Duration::from_micros(300)).await;
        }
    }
    assert_eq!(run(&executor, &target, "true").await.code(), 0);
}

async fn a_stop_while_waiting() {
    let server = ScriptedServer::start(waiting()).await;
    let (executor, target) = (strict().connections_per_server(1).build().unwrap(), Arc::new(server.target()));
    let mut first = go(&executor, work(&target, "true"));
    first.wait_for("on").await;
    let (output, _chunks) = OutputSender::channel(1);
    let stop = Stop::default();
    let io = WorkIo { output, stop: stop.clone(), trust: Notes::new(), waits: Waits::default() };
    let mut second = executor.run(work(&target, "true"), io);
    assert!(futures::poll!(&mut second).is_pending());
    stop.gracefully.cancel();
    let ending = second.await;
    assert!(matches!(ending, Ending::Stopped { kill: Kill::Gone }), "{ending:?}");
    assert_eq!(server.witness().commands(), 1);
}

async fn who_waits_says_so() {
    let server = ScriptedServer::start(waiting()).await;
    let (executor, target) = (strict().connections_per_server(1).build().unwrap(), Arc::new(server.target()));
    let mut first = go(&executor, work(&target, "true"));
    let why = format!("limit of server {} reached (1 at once)", target.name);
    first.wait_for("on").await;
    assert_eq!(first.waits.why(), None);
    let mut second = go(&executor, work(&target, "true"));
    eventually("it says why it waits", || second.waits.why().as_deref() == Some(&*why)).await;
    first.stop.gracefully.cancel();
    first.end().await;
    second.wait_for("on").await;
    assert_eq!(second.waits.why(), None);
    second.stop.gracefully.cancel();
    second.end().await;
}

async fn dead_links_are_noticed() {
    let server = ScriptedServer::start(waiting()).await;
    let proxy = Proxy::start(server.port(), Fault::Pass).await;
    let mut target = server.target();
    target.port = proxy.port();
    let executor = strict().keepalive(Duration::from_millis(100), 2).build().unwrap();
    let mut going = go(&executor, work(&Arc::new(target), "true"));
    going.wait_for("on").await;
    proxy.set(Fault::BlackHole);
    let ending = going.end().await;
    let Ending::Lost { detail, .. } = &ending else { panic!("{ending:?}") };
    assert!(detail.contains("stopped answering keep-alives"), "{detail}");
}
