//! Lines that break: at any byte, in any way, and while something is to be stopped.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

use birun_core::execution::{Ending, Executor, Kill, LinkFault, ServerTarget, Target};
use birun_core::testing::harness::{Need, Suite};
use birun_exec::ssh::{SshExecutor, SshLimits};
use birun_exec::testing::{Act, Cut, Direction, Fault, Proxy, Script, ScriptedServer, Sshd};
use bytes::Bytes;
use futures::StreamExt;

use super::support::{Going, eventually, go, impatient, long_limits, patient, processes_of, run, strict, work};

pub(crate) fn add_to(suite: &mut Suite) {
    let sshd = [Need::new("sshd", Sshd::program().is_some())];
    suite.test("ssh::line::cut_at_any_byte_no_run_succeeds_falsely", &[], cut_at_any_byte);
    suite.test("ssh::line::a_slow_line_is_slow_and_right", &[], a_slow_line_is_slow_and_right);
    suite.test("ssh::line::a_stop_works_when_the_line_was_cut_before", &sshd, stop_after_cut);
    suite.test("ssh::line::a_run_whose_line_died_can_be_killed_later", &sshd, kill_after_cut);
    suite.test("ssh::line::a_stop_works_when_no_second_connection_can_be_made", &sshd, stop_on_own_connection);
    suite.test("ssh::line::a_stop_that_reaches_nothing_says_what_to_do", &sshd, stop_that_reaches_nothing);
    suite.test("ssh::line::after_a_storm_of_stops_nothing_is_left", &sshd, storm_of_stops);
}

fn behind(proxy: &Proxy, mut target: ServerTarget) -> Arc<ServerTarget> {
    target.port = proxy.port();
    Arc::new(target)
}

/// The last words of a client are an answer that nobody waits for: at most one packet.
const GOODBYE: u64 = 64;

/// A body that travels in several pieces.
fn long_body() -> String {
    format!("true\n{}", "# of no importance\n".repeat(5_000))
}

/// Every run ends, in time; none that was cut is called a success, and none that was begun is called
/// unreachable, which would be an invitation to run it again.
async fn cut_at_any_byte() {
    let begun = [Act::Accept, Act::AwaitWhole, Act::Started, Act::out("hello\n"), Act::Eof, Act::Status(0), Act::Close];
    let script = Script { run: begun.to_vec(), ..Script::default() };
    let server = ScriptedServer::start(script.clone()).await;
    let measured = Proxy::start(server.port(), Fault::Pass).await;
    assert_eq!(run(&patient(), &behind(&measured, server.target()), &long_body()).await.code(), 0);
    eventually("the line is over", || measured.over() == 1).await;
    let (up, down) = (measured.bytes(Direction::FromClient), measured.bytes(Direction::FromServer));
    let seed = std::hash::RandomState::new().build_hasher().finish();
    let mut random = numbers(seed);
    let mut cuts: Vec<(Direction, u64, Cut)> = Vec::new();
    for how in [Cut::Reset, Cut::Close, Cut::Silence] {
        cuts.extend((0..50).map(|_| (Direction::FromServer, random(down), how)));
        cuts.extend((0..30).map(|_| (Direction::FromClient, random(up), how)));
        // What decides stands at the end.
        cuts.extend((0..40).map(|_| (Direction::FromClient, up - random(400), how)));
    }
    let one = |(direction, at, how)| {
        let script = script.clone();
        async move {
            let server = ScriptedServer::start(script).await;
            let proxy = Proxy::start(server.port(), Fault::Cut(direction, at, how)).await;
            let ran = run(&impatient(), &behind(&proxy, server.target()), &long_body()).await;
            let started = server.witness().started();
            let told =
                format!("seed {seed}: {direction:?} at {at} of {up} up, {down} down, {how:?}: {started} {ran:?}");
            match &ran.ending {
                Ending::Unreachable(_) | Ending::NotStarted(_) => assert_eq!(started, 0, "{told}"),
                Ending::Lost { .. } => {}
                Ending::Exited { code: 0 } => {
                    assert!(direction == Direction::FromClient && at + GOODBYE >= up, "{told}");
                }
                _ => panic!("{told}"),
            }
            assert!(ran.took < Duration::from_secs(6), "{told}");
        }
    };
    futures::stream::iter(cuts).for_each_concurrent(16, one).await;
}

/// Numbers below a bound (SplitMix64).
fn numbers(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |bound| {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}

async fn a_slow_line_is_slow_and_right() {
    let acts = [Act::Flood(Bytes::from(vec![b'x'; 10_000]), 10), Act::Eof, Act::Status(7), Act::Close];
    let server = ScriptedServer::start(Script::running(acts)).await;
    let proxy = Proxy::start(server.port(), Fault::Delay(Duration::from_millis(40))).await;
    let ran = run(&patient(), &behind(&proxy, server.target()), "true").await;
    assert_eq!((ran.code(), ran.stdout.len()), (7, 100_000));
}

/// Processes that do not mind TERM, one of them in a session of its own.
const STUBBORN: &str = "
    sh -c 'trap \"\" TERM; while :; do sleep 600; done' &
    setsid sh -c 'trap \"\" TERM; while :; do sleep 600; done' >/dev/null 2>&1 &
    trap '' TERM
    echo ready
    while :; do sleep 600; done
";

/// A run on a real server, behind a proxy, with everything started.
async fn stubborn(executor: &SshExecutor, target: &Arc<ServerTarget>) -> Going {
    let mut going = go(executor, work(target, STUBBORN));
    going.wait_for("ready").await;
    assert!(processes_of(going.step) >= 3);
    going
}

async fn stop_after_cut() {
    let server = Sshd::start();
    let proxy = Proxy::start(server.port(), Fault::Pass).await;
    let (executor, target) = (patient(), behind(&proxy, server.target()));
    let going = stubborn(&executor, &target).await;
    proxy.set(Fault::BlackHole);
    eventually("the line is cut", || proxy.silent() == 1).await;
    proxy.set(Fault::Pass);
    let step = going.step;
    going.stop.gracefully.cancel();
    let ending = going.end().await;
    assert!(matches!(ending, Ending::Stopped { kill: Kill::Confirmed }), "{ending:?}");
    assert_eq!(processes_of(step), 0);
}

async fn kill_after_cut() {
    let server = Sshd::start();
    let proxy = Proxy::start(server.port(), Fault::Pass).await;
    let (executor, target) = (patient(), behind(&proxy, server.target()));
    let going = stubborn(&executor, &target).await;
    let (step, handle) = (going.step, going.handle.clone());
    proxy.set(Fault::Reset);
    let ending = going.end().await;
    assert!(matches!(ending, Ending::Lost { fault: LinkFault::LinkLost, .. }), "{ending:?}");
    proxy.set(Fault::Pass);
    assert!(processes_of(step) >= 2, "a lost line ends nothing on the server");
    let kill = executor.kill(&Target::Server(target), &handle, Duration::from_millis(200)).await;
    assert_eq!(kill, Kill::Confirmed);
    assert_eq!(processes_of(step), 0);
}

async fn stop_on_own_connection() {
    let server = Sshd::start();
    let proxy = Proxy::start(server.port(), Fault::Pass).await;
    let limits = SshLimits { connect: Duration::from_millis(300), ..SshLimits::default() };
    let (executor, target) = (strict().limits(limits).build().unwrap(), behind(&proxy, server.target()));
    let going = stubborn(&executor, &target).await;
    proxy.set(Fault::Refuse);
    let step = going.step;
    going.stop.gracefully.cancel();
    let ending = going.end().await;
    assert!(matches!(ending, Ending::Stopped { kill: Kill::Confirmed }), "{ending:?}");
    assert_eq!(processes_of(step), 0);
}

async fn stop_that_reaches_nothing() {
    let server = Sshd::start();
    let proxy = Proxy::start(server.port(), Fault::Pass).await;
    let limits =
        SshLimits { handshake: Duration::from_millis(300), close: Duration::from_millis(300), ..SshLimits::default() };
    let (executor, target) = (strict().limits(limits).build().unwrap(), behind(&proxy, server.target()));
    let going = stubborn(&executor, &target).await;
    proxy.set(Fault::BlackHole);
    eventually("the line is cut", || proxy.silent() == 1).await;
    let (step, handle) = (going.step, going.handle.clone());
    going.stop.gracefully.cancel();
    let ending = going.end().await;
    let Ending::Stopped { kill: Kill::Unconfirmed { detail } } = &ending else { panic!("{ending:?}") };
    assert!(detail.contains("timed out in banner"), "{detail}");
    assert!(detail.contains(&format!("run on web-1:  kill -KILL $(grep -lsz BIRUN_STEP_ID={step}")), "{detail}");
    proxy.set(Fault::Pass);
    assert_eq!(executor.kill(&Target::Server(target), &handle, Duration::ZERO).await, Kill::Confirmed);
    assert_eq!(processes_of(step), 0);
}

/// Fifty runs at once on a stock sshd, which drops part of so many new connections; then all stopped.
async fn storm_of_stops() {
    let server = Sshd::options().line("MaxStartups 10:30:100").start();
    let executor = strict().connections_per_server(50).limits(long_limits()).build().unwrap();
    let target = Arc::new(server.target());
    let mut runs: Vec<Going> = (0..50).map(|_| go(&executor, work(&target, STUBBORN))).collect();
    for run in &mut runs {
        run.wait_for("ready").await;
    }
    let steps: Vec<_> = runs.iter().map(|run| run.step).collect();
    assert!(steps.iter().all(|step| processes_of(*step) >= 3));
    for run in &runs {
        run.stop.gracefully.cancel();
    }
    for run in runs {
        let ending = run.end().await;
        assert!(matches!(ending, Ending::Stopped { kill: Kill::Confirmed }), "{ending:?}");
    }
    assert_eq!(steps.iter().map(|step| processes_of(*step)).sum::<usize>(), 0);
    // Every place is free again.
    let after = futures::future::join_all((0..50).map(|_| run(&executor, &target, "true"))).await;
    assert!(after.iter().all(|ran| ran.code() == 0));
}
