//! The ways in which a run can end, and lies about them: none of them becomes a false success.

use std::sync::Arc;
use std::time::Duration;

use birun_core::ErrorCode;
use birun_core::execution::{Ending, LinkFault};
use birun_core::testing::harness::{Need, Suite};
use birun_exec::ssh::SshLimits;
use birun_exec::testing::{Act, Fault, Notes, Opening, Proxy, Script, ScriptedServer, Sshd};
use russh::Sig;

use super::support::{Ran, eventually, go, impatient, patient, processes_of, run, run_trusting, strict, work};

/// A name, what the server does once the program runs, and what must come of it.
type Lie = (&'static str, fn() -> Vec<Act>, fn(&Ran));

/// A reset takes away what has not been read yet.
const PAUSE: Act = Act::Pause(Duration::from_millis(50));

pub(crate) fn add_to(suite: &mut Suite) {
    let endings: [Lie; 14] = [
        ("reset_after_output_is_a_lost_link", || vec![Act::out("x"), PAUSE, Act::Reset], link_lost),
        ("end_of_connection_after_output_is_a_lost_link", || vec![Act::out("x"), PAUSE, Act::Fin], link_lost),
        ("goodbye_after_output_is_a_lost_link", || vec![Act::out("x"), Act::Disconnect], link_lost),
        (
            "reset_after_status_is_a_lost_link",
            || vec![Act::out("x"), Act::Eof, Act::Status(0), PAUSE, Act::Reset],
            link_lost,
        ),
        ("end_without_status_has_no_status", || vec![Act::out("x"), Act::Eof, Act::Close], no_status),
        ("close_alone_has_no_status", || vec![Act::out("x"), Act::Close], no_status),
        (
            "status_without_end_of_output_counts_once_closed",
            || vec![Act::out("x"), Act::Status(0), Act::Close],
            success,
        ),
        ("status_before_end_of_output", || vec![Act::out("x"), Act::Status(0), Act::Eof, Act::Close], success),
        ("status_after_end_of_output", || vec![Act::out("x"), Act::Eof, Act::Status(0), Act::Close], success),
        ("output_after_the_status_is_kept", || vec![Act::Status(0), Act::out("x"), Act::Eof, Act::Close], success),
        ("two_statuses_are_none", || vec![Act::out("x"), Act::Status(0), Act::Status(1), Act::Close], no_status),
        ("a_status_told_twice_is_none", || vec![Act::out("x"), Act::Status(0), Act::Status(0), Act::Close], no_status),
        (
            "status_and_signal_are_none",
            || vec![Act::out("x"), Act::Status(0), Act::Signal(Sig::TERM), Act::Close],
            no_status,
        ),
        ("a_signal_is_a_signal", || vec![Act::out("x"), Act::Signal(Sig::SEGV), Act::Close], signalled),
    ];
    for (name, acts, check) in endings {
        suite.test(format!("ssh::ending::{name}"), &[], move || async move {
            let server = ScriptedServer::start(Script::running(acts())).await;
            let ran = run(&impatient(), &Arc::new(server.target()), "true").await;
            check(&ran);
            assert_eq!(ran.stdout(), "x", "{ran:?}");
        });
    }
    suite.test("ssh::ending::codes_are_kept_exactly", &[], codes_are_kept_exactly);
    suite.test("ssh::ending::names_of_signals_are_made_harmless", &[], names_of_signals_are_made_harmless);
    suite.test("ssh::ending::a_half_closed_line_is_a_lost_link", &[], a_half_closed_line_is_a_lost_link);
    let sshd = [Need::new("sshd", Sshd::program().is_some())];
    suite.test("ssh::ending::a_link_that_dies_after_the_start_is_lost", &[], a_link_that_dies_after_the_start);
    suite.test("ssh::ending::a_stubborn_child_costs_no_exit_code", &sshd, a_stubborn_child_costs_no_exit_code);
    suite.test("ssh::ending::a_child_that_goes_on_writing_is_ended", &sshd, a_child_that_goes_on_writing_is_ended);
    suite.test("ssh::ending::a_removal_that_hangs_holds_nobody_up", &[], a_removal_that_hangs_holds_nobody_up);
    suite.test("ssh::ending::a_refused_command_was_not_started", &[], a_refused_command_was_not_started);
    suite.test("ssh::ending::a_shell_that_starts_nothing_was_not_started", &[], a_shell_that_starts_nothing);
    suite.test("ssh::ending::a_refusal_of_the_bootstrap_was_not_started", &[], a_refusal_of_the_bootstrap);
    suite.test("ssh::ending::a_script_that_was_cut_is_unreachable", &[], a_script_that_was_cut);
    suite.test("ssh::ending::a_refused_channel_is_unreachable", &[], a_refused_channel_is_unreachable);
}

fn success(ran: &Ran) {
    assert_eq!(ran.code(), 0);
}

fn link_lost(ran: &Ran) {
    lost(ran, LinkFault::LinkLost);
}

fn no_status(ran: &Ran) {
    lost(ran, LinkFault::NoExitStatus);
}

fn lost(ran: &Ran, expected: LinkFault) {
    let Ending::Lost { fault, detail } = &ran.ending else { panic!("{ran:?}") };
    assert_eq!(*fault, expected, "{detail}");
    assert!(detail.starts_with("127.0.0.1:"), "{detail}");
}

fn signalled(ran: &Ran) {
    assert!(matches!(&ran.ending, Ending::Signaled { signal } if signal == "SEGV"), "{ran:?}");
}

async fn codes_are_kept_exactly() {
    for (status, code) in [(1, 1), (255, 255), (256, 256), (0xC000_0005, -1_073_741_819)] {
        let server = ScriptedServer::start(Script::running([Act::Status(status), Act::Close])).await;
        assert_eq!(run(&patient(), &Arc::new(server.target()), "true").await.code(), code);
    }
}

async fn names_of_signals_are_made_harmless() {
    let name = Sig::Custom("\u{1b}[31mRTMIN+3 and a long story".to_owned());
    let server = ScriptedServer::start(Script::running([Act::Signal(name), Act::Close])).await;
    let ran = run(&patient(), &Arc::new(server.target()), "true").await;
    assert!(matches!(&ran.ending, Ending::Signaled { signal } if signal == "31mRTMIN3andalon"), "{ran:?}");
}

async fn a_half_closed_line_is_a_lost_link() {
    let server = ScriptedServer::start(Script::running([Act::out("x"), Act::Hang])).await;
    let proxy = Proxy::start(server.port(), Fault::Pass).await;
    let mut target = server.target();
    target.port = proxy.port();
    let target = Arc::new(target);
    let mut going = go(&patient(), work(&target, "true"));
    going.wait_for("x").await;
    proxy.set(Fault::HalfClose);
    let ending = going.end().await;
    assert!(matches!(ending, Ending::Lost { fault: LinkFault::LinkLost, .. }), "{ending:?}");
}

/// The server has taken nothing of the script when it says that it runs: then it is believed.
async fn a_link_that_dies_after_the_start() {
    let acts = vec![Act::Accept, Act::Started, Act::out("x"), PAUSE, Act::Reset];
    let server = ScriptedServer::start(Script { window: 0, run: acts, ..Script::default() }).await;
    link_lost(&run(&impatient(), &Arc::new(server.target()), "true").await);
}

/// The grace and the limit of the close are as close to each other as they are by default.
async fn a_stubborn_child_costs_no_exit_code() {
    let server = Sshd::start();
    let limits = SshLimits { close: Duration::from_millis(1500), ..SshLimits::default() };
    let (executor, target) = (strict().limits(limits).build().unwrap(), Arc::new(server.target()));
    let mut work = work(&target, "(trap '' TERM; sleep 600; sleep 600) & echo early; exit 4");
    work.grace = limits.close;
    let step = work.step;
    let ran = run_trusting(&executor, work, Notes::new()).await;
    assert_eq!((ran.code(), ran.stdout()), (4, "early\n".to_owned()));
    assert!(String::from_utf8_lossy(&ran.stderr).contains("they were ended"), "{ran:?}");
    assert_eq!(processes_of(step), 0);
}

async fn a_child_that_goes_on_writing_is_ended() {
    let server = Sshd::start();
    let work = work(&Arc::new(server.target()), "while :; do date; sleep 0.1; done & exit 0");
    let step = work.step;
    let ran = run_trusting(&patient(), work, Notes::new()).await;
    assert_eq!(ran.code(), 0);
    assert!(ran.took < Duration::from_secs(20), "{ran:?}");
    assert_eq!(processes_of(step), 0);
}

async fn a_removal_that_hangs_holds_nobody_up() {
    let server = ScriptedServer::start(Script { errand: vec![Act::Accept, Act::Hang], ..Script::default() }).await;
    let (executor, target) = (patient(), Arc::new(server.target()));
    for round in 1..=2 {
        let ran = run(&executor, &target, "#!/usr/bin/awk -f\nBEGIN {}\n").await;
        assert_eq!(ran.code(), 0);
        assert!(ran.took < Duration::from_secs(2), "{ran:?}");
        assert_eq!(server.witness().connections(), round, "a connection that hangs is not used again");
        eventually("the removal is asked for", || server.witness().commands() == 2 * round).await;
    }
}

async fn a_refused_command_was_not_started() {
    let server = ScriptedServer::start(Script { run: vec![Act::Refuse], ..Script::default() }).await;
    let ran = run(&patient(), &Arc::new(server.target()), "true").await;
    let Ending::NotStarted(error) = &ran.ending else { panic!("{ran:?}") };
    assert_eq!(error.code(), ErrorCode::SpawnFailed);
    assert_eq!(server.witness().input(), 0);
}

async fn a_shell_that_starts_nothing() {
    let words = "This account is currently not available.\n";
    let acts = vec![Act::Accept, Act::out(words), Act::Eof, Act::Status(1), Act::Close];
    let server = ScriptedServer::start(Script { run: acts, ..Script::default() }).await;
    let ran = run(&patient(), &Arc::new(server.target()), "true").await;
    let Ending::NotStarted(error) = &ran.ending else { panic!("{ran:?}") };
    assert!(error.to_string().contains("login shell did not start the script (exit status 1)"), "{error}");
    assert_eq!(ran.stdout(), words);
}

async fn a_refusal_of_the_bootstrap() {
    // The step's id is not known here, so the server plays the shell by hand.
    let ran = refused_with("interpreter ruby").await;
    let Ending::NotStarted(error) = &ran.ending else { panic!("{ran:?}") };
    assert!(error.to_string().contains("`ruby`"), "{error}");
    assert!(ran.stderr.is_empty());
}

async fn a_script_that_was_cut() {
    let ran = refused_with("cut").await;
    assert_eq!(ran.unreachable().code(), ErrorCode::ConnectFailed);
}

async fn refused_with(why: &'static str) -> Ran {
    let acts = vec![Act::Accept, Act::AwaitInput, Act::Refusal(why), Act::Eof, Act::Status(126), Act::Close];
    let server = ScriptedServer::start(Script { run: acts, ..Script::default() }).await;
    run(&patient(), &Arc::new(server.target()), "true").await
}

async fn a_refused_channel_is_unreachable() {
    let server = ScriptedServer::start(Script { opening: Opening::Refuse, ..Script::default() }).await;
    let ran = run(&patient(), &Arc::new(server.target()), "true").await;
    let error = ran.unreachable();
    assert!(error.to_string().contains("resource shortage"), "{error}");
}
