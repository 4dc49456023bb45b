//! A run that is stopped between the server's yes and the first word of the program.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use birun_core::execution::{Ending, Executor, Kill, Target};
use birun_core::id::StepId;
use birun_core::testing::harness::{Need, Suite};
use birun_exec::testing::{Act, Notes, Script, ScriptedServer, Sshd};

use super::support::{LIMIT, eventually, go, impatient, patient, work};

pub(crate) fn add_to(suite: &mut Suite) {
    let sshd = [Need::new("sshd", Sshd::program().is_some())];
    suite.test("ssh::starting::a_stop_while_the_login_shell_starts_is_final", &sshd, stop_while_the_login_shell_starts);
    suite.test("ssh::starting::what_is_not_whole_is_cut_by_a_stop", &[], what_is_not_whole_is_cut);
    suite.test("ssh::starting::a_run_that_hangs_there_is_not_confirmed", &[], a_run_that_hangs_there);
    suite.test("ssh::starting::a_kill_that_hangs_is_unconfirmed", &[], a_kill_that_hangs);
    suite.test("ssh::starting::a_probe_that_hangs_names_the_answer", &[], a_probe_that_hangs);
}

/// A server whose first login shell waits for a file, and the directory in which it does.
fn slow_login() -> (Sshd, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let (profile, place) = (directory.path().join("profile"), directory.path().display());
    fs::write(&profile, format!("mkdir {place}/begun 2>/dev/null && while ! [ -e {place}/go ]; do sleep 0.05; done"))
        .unwrap();
    let server = Sshd::options().line(format!("SetEnv BASH_ENV={}", profile.display())).start();
    (server, directory)
}

/// Whether any command line of this machine names the step.
fn is_named(step: StepId) -> bool {
    let id = step.to_string();
    let names = |path: std::path::PathBuf| {
        let text = fs::read(path.join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&text).contains(&id)
    };
    fs::read_dir("/proc").unwrap().flatten().any(|entry| names(entry.path()))
}

async fn stop_while_the_login_shell_starts() {
    let (server, directory) = slow_login();
    let witness = directory.path().join("witness");
    let executor = patient();
    let going = go(&executor, work(&Arc::new(server.target()), &format!("echo >{}; sleep 600", witness.display())));
    let step = going.step;
    eventually("the login shell starts", || directory.path().join("begun").exists()).await;
    going.stop.gracefully.cancel();
    let ending = going.end().await;
    fs::write(directory.path().join("go"), "").unwrap();
    assert!(matches!(ending, Ending::Stopped { kill: Kill::Confirmed }), "{ending:?}");
    eventually("nothing names the step", || !is_named(step)).await;
    assert!(!witness.exists());
}

/// The server takes nothing of the script, is told its end, and refuses it as the bootstrap would.
async fn what_is_not_whole_is_cut() {
    let ending = vec![Act::AwaitInput, Act::Refusal("cut"), Act::Eof, Act::Status(126), Act::Close];
    let acts = [Act::Accept, Act::out("here")].into_iter().chain(ending).collect();
    let errand = vec![Act::Accept, Act::out("gone\n"), Act::Eof, Act::Status(0), Act::Close];
    let server = ScriptedServer::start(Script { window: 0, run: acts, errand, ..Script::default() }).await;
    let mut going = go(&patient(), work(&Arc::new(server.target()), "true"));
    going.wait_for("here").await;
    going.stop.gracefully.cancel();
    let ending = going.end().await;
    assert!(matches!(ending, Ending::Stopped { kill: Kill::Confirmed }), "{ending:?}");
    // The first look came too early to prove anything, so there was a second one.
    assert_eq!(server.witness().commands(), 3);
    assert_eq!(server.witness().started(), 0);
}

async fn a_run_that_hangs_there() {
    let acts = vec![Act::Accept, Act::out("here"), Act::Hang];
    let server = ScriptedServer::start(Script { run: acts, ..Script::default() }).await;
    let mut going = go(&impatient(), work(&Arc::new(server.target()), "true"));
    going.wait_for("here").await;
    going.stop.gracefully.cancel();
    let ending = going.end().await;
    let Ending::Stopped { kill: Kill::Unconfirmed { detail } } = &ending else { panic!("{ending:?}") };
    assert!(detail.contains("neither started it nor closed its channel"), "{detail}");
}

async fn a_kill_that_hangs() {
    let server = ScriptedServer::start(Script { errand: vec![Act::Accept, Act::Hang], ..Script::default() }).await;
    let target = Arc::new(server.target());
    let executor = impatient();
    let handle = executor.handle(&work(&target, "true"));
    let kill = executor.kill(&Target::Server(target), &handle, Duration::ZERO).await;
    let Kill::Unconfirmed { detail } = kill else { panic!("{kill:?}") };
    assert!(detail.contains("timed out in answer after 1m") && detail.contains("run on web-1:"), "{detail}");
}

async fn a_probe_that_hangs() {
    let server = ScriptedServer::start(Script { errand: vec![Act::Accept, Act::Hang], ..Script::default() }).await;
    let begun = std::time::Instant::now();
    let probe = impatient().probe(&Target::Server(Arc::new(server.target())), Notes::new()).await;
    let message = probe.stages.last().and_then(|stage| stage.message.clone()).unwrap();
    assert!(!probe.ok && message.ends_with("timed out in answer after 400ms"), "{message}");
    assert!(begun.elapsed() < LIMIT + Duration::from_secs(2));
}
