//! The program that ends processes on a server, under every shell that servers are likely to have.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use birun_core::id::StepId;
use birun_core::testing::harness::{Need, Suite};
use rustix::process::{Pid, Signal};

use super::support::{eventually, processes_of};

const PROGRAM: &str = include_str!("../../../src/ssh/kill.sh");

type Shell = &'static [&'static str];

const SHELLS: [(&str, Shell); 3] = [("dash", &["dash"]), ("bash", &["bash"]), ("busybox", &["busybox", "sh"])];

/// A user that nobody is.
const STRANGER: &str = "--reuid=54321";

pub(crate) fn add_to(suite: &mut Suite) {
    for (name, shell) in SHELLS {
        let needs = [Need::program(name), Need::program("setsid")];
        let case = |title: &str| format!("ssh::kill::{name}::{title}");
        suite.test(case("a_tree_is_ended"), &needs, move || a_tree_is_ended(shell));
        suite.test(case("who_comes_late_is_asked_too"), &needs, move || who_comes_late_is_asked_too(shell));
        suite.test(case("a_grace_of_nothing"), &needs, move || a_grace_of_nothing(shell));
        suite.test(case("a_login_shell_that_is_still_starting_is_found"), &needs, move || {
            a_login_shell_that_is_still_starting(shell)
        });
        for tool in ["awk", "sed", "grep"] {
            let title = case(&format!("without_{tool}_nothing_is_certain"));
            suite.test(title, &needs, move || without_a_tool(shell, tool));
        }
    }
    // A bash waits half a minute for room before it gives up.
    for (name, shell) in SHELLS.into_iter().filter(|(name, _)| *name != "bash") {
        let root = Need::new("root", rustix::process::geteuid().is_root());
        let needs = [Need::program(name), Need::program("setpriv"), Need::program("prlimit"), root];
        let title = format!("ssh::kill::{name}::without_room_for_processes_nothing_is_certain");
        suite.test(title, &needs, move || without_room(shell));
    }
}

/// A program of a step, begun as birun's shell would have it.
fn begin(step: StepId, body: &str) -> Child {
    let mut command = Command::new("setsid");
    command.args(["sh", "-c", body]).env("BIRUN_STEP_ID", step.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Runs the program; gives its answer and how long it took.
fn kill(mut command: Command, step: StepId, grace: Duration) -> (String, Duration) {
    let begun = Instant::now();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let input = format!("id={step}\ngrace={}\n{PROGRAM}", grace.as_millis() / 10);
    // One that has given up does not read to the end.
    child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
    let mut answer = String::new();
    child.stdout.take().unwrap().read_to_string(&mut answer).unwrap();
    child.wait().unwrap();
    (answer.trim().to_owned(), begun.elapsed())
}

fn sh(shell: Shell) -> Command {
    let mut command = Command::new(shell[0]);
    command.args(&shell[1..]).arg("-s");
    command
}

async fn until_written(path: &Path) {
    eventually(&format!("{} is written", path.display()), || path.exists()).await;
}

async fn a_tree_is_ended(shell: Shell) {
    let (step, directory) = (StepId::new(), tempfile::tempdir().unwrap());
    let ready = directory.path().join("ready");
    let body = format!("trap '' TERM; env -i setsid sleep 600 & sleep 600 & : >{}; wait; sleep 600", ready.display());
    let mut program = begin(step, &body);
    until_written(&ready).await;
    let grace = Duration::from_millis(700);
    let (answer, took) = kill(sh(shell), step, grace);
    assert_eq!(answer, "confirmed");
    assert!(took >= grace, "{took:?}");
    program.wait().unwrap();
    assert_eq!(processes_of(step), 0);
    assert_eq!(kill(sh(shell), step, grace).0, "gone");
}

/// What the program starts when it is asked to end is asked to end as well, not just killed.
async fn who_comes_late_is_asked_too(shell: Shell) {
    let (step, directory) = (StepId::new(), tempfile::tempdir().unwrap());
    let (ready, asked) = (directory.path().join("ready"), directory.path().join("asked"));
    let late = directory.path().join("late");
    let late_body = format!("trap ': >{}; exit' TERM; while :; do sleep 0.05; done", asked.display());
    fs::write(&late, late_body).unwrap();
    let body = format!(
        "trap 'sh {} & wait; sleep 600' TERM; : >{}; while :; do sleep 0.05; done",
        late.display(),
        ready.display()
    );
    let mut program = begin(step, &body);
    until_written(&ready).await;
    let (answer, _) = kill(sh(shell), step, Duration::from_secs(5));
    assert_eq!(answer, "confirmed");
    program.wait().unwrap();
    assert!(asked.exists());
}

async fn a_grace_of_nothing(shell: Shell) {
    let step = StepId::new();
    let mut program = begin(step, "trap '' TERM; sleep 600; sleep 600");
    eventually("it runs", || processes_of(step) > 1).await;
    assert_eq!(kill(sh(shell), step, Duration::ZERO).0, "confirmed");
    program.wait().unwrap();
    assert_eq!(processes_of(step), 0);
}

async fn a_login_shell_that_is_still_starting(shell: Shell) {
    let (step, directory) = (StepId::new(), tempfile::tempdir().unwrap());
    let (profile, ready) = (directory.path().join("profile"), directory.path().join("ready"));
    fs::write(&profile, format!(": >{}; while :; do sleep 0.05; done", ready.display())).unwrap();
    let line = format!("exec /bin/sh -c 'echo never' script {step}");
    let mut login = Command::new("setsid").args(["bash", "-c", &line]).env("BASH_ENV", &profile).spawn().unwrap();
    until_written(&ready).await;
    assert_eq!(kill(sh(shell), step, Duration::from_secs(5)).0, "confirmed");
    assert!(!login.wait().unwrap().success());
}

/// Whatever is missing, the answer is right or `unknown`; what carries the mark is ended where it can be found.
async fn without_a_tool(shell: Shell, tool: &str) {
    let (step, directory) = (StepId::new(), tempfile::tempdir().unwrap());
    let search = "for tool in grep sed tr sleep rm awk date; do command -v $tool; done";
    let list = Command::new("sh").args(["-c", search]).output().unwrap();
    for program in String::from_utf8(list.stdout).unwrap().lines().map(Path::new) {
        let name = program.file_name().unwrap();
        if name != tool {
            symlink(fs::canonicalize(program).unwrap(), directory.path().join(name)).unwrap();
        }
    }
    let mut program = begin(step, "sleep 600; sleep 600");
    eventually("it runs", || processes_of(step) > 1).await;
    // The shell itself is found by the path of this test, its tools by the other one.
    let mut command = Command::new("env");
    let shell_path = Command::new("sh").args(["-c", &format!("command -v {}", shell[0])]).output().unwrap();
    let shell_path = String::from_utf8(shell_path.stdout).unwrap();
    command.arg(format!("PATH={}", directory.path().display())).arg(shell_path.trim()).args(&shell[1..]).arg("-s");
    let (answer, _) = kill(command, step, Duration::from_millis(200));
    let left = processes_of(step);
    assert!(answer == "unknown" || (answer == "confirmed" && left == 0), "{answer:?} with {left} left");
    if tool == "awk" {
        // Nobody looked whether they were gone when the answer was given.
        eventually("what carries the mark is gone", || processes_of(step) == 0).await;
    }
    // All of its session: what was not found is left over otherwise.
    rustix::process::kill_process_group(Pid::from_child(&program), Signal::KILL).unwrap();
    program.wait().unwrap();
}

/// However many processes there is room for, an answer is right or there is none.
async fn without_room(shell: Shell) {
    for room in 2..9 {
        let step = StepId::new();
        let mut sleeper = Command::new("setpriv");
        sleeper.args([STRANGER, "--clear-groups", "sleep", "600"]).env("BIRUN_STEP_ID", step.to_string());
        let mut sleeper = sleeper.spawn().unwrap();
        eventually("it runs", || processes_of(step) == 1).await;
        let mut command = Command::new("setpriv");
        command.args([STRANGER, "--clear-groups", "prlimit", &format!("--nproc={room}")]).args(shell).arg("-s");
        let (answer, _) = kill(command, step, Duration::ZERO);
        let alive = sleeper.try_wait().unwrap().is_none();
        assert!(answer == "unknown" || (answer == "confirmed" && !alive), "room for {room}: {answer:?}");
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
    }
}
