//! Detached runs: what becomes of them when lines, workers, servers and their own processes go.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use birun_core::execution::{Ending, Executor, Kill, LinkFault, Resume, ServerTarget, Stream, Target, Work};
use birun_core::id::StepId;
use birun_core::script::{Interpreter, RunMode};
use birun_core::testing::harness::{Need, Suite};
use birun_exec::ssh::SshExecutor;
use birun_exec::testing::{Cut, Direction, Fault, Proxy, Sshd, detached_text};
use tempfile::TempDir;

use super::support::{Going, adopt, eventually, go, long_limits, patient, processes_of, strict, work};

pub(crate) fn add_to(suite: &mut Suite) {
    let sshd = [Need::new("sshd", Sshd::program().is_some())];
    suite.test("ssh::detached::a_line_that_is_cut_again_and_again_loses_and_doubles_nothing", &sshd, cut_lines);
    suite.test("ssh::detached::a_black_hole_is_outlived", &sshd, black_hole);
    suite.test("ssh::detached::what_is_left_goes_on_and_is_taken_up_anywhere", &sshd, left_and_taken_up);
    suite.test("ssh::detached::an_end_that_nobody_saw_is_told_later", &sshd, unseen_end);
    suite.test("ssh::detached::a_stop_finds_what_was_taken_up", &sshd, stop_after_adoption);
    suite.test("ssh::detached::what_had_ended_before_the_stop_has_its_own_end", &sshd, ended_before_the_stop);
    suite.test("ssh::detached::a_stop_while_the_server_is_away_says_what_to_do", &sshd, stop_while_away);
    suite.test("ssh::detached::a_run_that_is_not_there_is_gone", &sshd, gone);
    suite.test("ssh::detached::a_server_that_was_started_again_is_told", &sshd, rebooted);
    suite.test("ssh::detached::a_number_that_another_process_has_is_not_taken_for_the_run", &sshd, reused_number);
    suite.test("ssh::detached::what_ended_without_a_note_is_lost", &sshd, ended_without_a_note);
    suite.test("ssh::detached::more_output_than_is_kept_is_told", &sshd, beyond_the_cap);
    suite.test("ssh::detached::a_script_that_arrived_in_part_is_not_run", &sshd, cut_script);
    suite.test("ssh::detached::nothing_is_kept_of_what_is_forgotten", &sshd, forgotten);
    suite.test("ssh::detached::exit_codes_are_told_exactly", &sshd, exit_codes);
    for shell in ["dash", "bash", "busybox"] {
        let need = [Need::program(shell)];
        suite.test(format!("ssh::detached::{shell}_keeps_and_follows"), &need, move || async move { in_shell(shell) });
    }
    suite.test("ssh::detached::a_server_without_setsid_says_so", &[Need::program("busybox")], || async { no_setsid() });
    suite.test("ssh::detached::a_directory_of_someone_else_is_not_used", &[], || async { foreign_directory() });
    suite.test("ssh::detached::what_nobody_follows_removes_itself", &[], remove_itself);
}

fn detached(target: &Arc<ServerTarget>, body: &str) -> Work {
    Work { mode: RunMode::Detached, ..work(target, body) }
}

fn behind(proxy: &Proxy, mut target: ServerTarget) -> Arc<ServerTarget> {
    target.port = proxy.port();
    Arc::new(target)
}

/// Notices soon that nobody answers.
fn watchful() -> SshExecutor {
    strict().limits(long_limits()).keepalive(Duration::from_millis(200), 3).build().unwrap()
}

/// The directory of a run on this machine.
fn directory(step: StepId) -> PathBuf {
    let uid = own_uid();
    PathBuf::from(format!("/tmp/birun-{uid}/{step}"))
}

fn own_uid() -> u32 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").unwrap().uid()
}

async fn forget(executor: &SshExecutor, target: &Arc<ServerTarget>, work: &Work) {
    executor.forget(&Target::Server(Arc::clone(target)), &executor.handle(work)).await;
    assert!(!directory(work.step).exists());
}

fn text(output: &std::collections::BTreeMap<Stream, Vec<u8>>, stream: Stream) -> String {
    String::from_utf8(output.get(&stream).cloned().unwrap_or_default()).unwrap()
}

fn numbered(to: u32) -> String {
    (1..=to).map(|number| format!("{number}\n")).collect()
}

async fn cut_lines() {
    let server = Sshd::start();
    // At least one whole packet comes through each line.
    for (at, how) in [(60_000, Cut::Reset), (75_321, Cut::Close), (140_000, Cut::Silence)] {
        let proxy = Proxy::start(server.port(), Fault::Cut(Direction::FromServer, at, how)).await;
        let target = behind(&proxy, server.target());
        let executor = watchful();
        let work = detached(&target, "seq 1 60000; seq 1 9000 >&2; exit 7");
        let (output, ending) = go(&executor, work.clone()).finish().await;
        let told = format!("{at} {how:?} {ending:?} {}", text(&output, Stream::System));
        assert!(matches!(ending, Ending::Exited { code: 7 }), "{told}");
        assert!(text(&output, Stream::Stdout) == numbered(60_000), "{told}");
        assert!(text(&output, Stream::Stderr) == numbered(9_000), "{told}");
        assert!(proxy.connections() > 1, "{told}");
        assert!(text(&output, Stream::System).contains("web-1 is back"), "{told}");
        proxy.set(Fault::Pass);
        forget(&executor, &target, &work).await;
    }
}

async fn black_hole() {
    let server = Sshd::start();
    let proxy = Proxy::start(server.port(), Fault::Pass).await;
    let (executor, target) = (watchful(), behind(&proxy, server.target()));
    let gate = TempDir::new().unwrap();
    let body = format!("echo ready; {}; echo done", waits_for(gate.path()));
    let work = detached(&target, &body);
    let mut going = go(&executor, work.clone());
    going.wait_for("ready").await;
    proxy.set(Fault::BlackHole);
    going.wait_for("is looked for").await;
    fs::write(gate.path().join("go"), "").unwrap();
    eventually("the program has ended", || directory(work.step).join("exit").exists()).await;
    proxy.set(Fault::Pass);
    let (output, ending) = going.finish().await;
    assert!(matches!(ending, Ending::Exited { code: 0 }), "{ending:?}");
    assert_eq!(text(&output, Stream::Stdout), "done\n");
    forget(&executor, &target, &work).await;
}

/// Waits for the file `go`, and not for ever: nobody may be there any more to make it.
fn waits_for(gate: &Path) -> String {
    let go = gate.join("go");
    format!("n=0; until [ -e {} ] || [ $n -gt 2000 ]; do n=$((n + 1)); sleep 0.05; done", go.display())
}

/// A run that goes on when the file `go` appears, left after its first line.
async fn left(target: &Arc<ServerTarget>, gate: &Path, rest: &str) -> Work {
    let executor = patient();
    let body = format!("echo ready; echo first >&2; {}; {rest}", waits_for(gate));
    let work = detached(target, &body);
    let mut going = go(&executor, work.clone());
    going.wait_for("ready").await;
    going.stop.leave.cancel();
    let (_, ending) = going.finish().await;
    assert!(matches!(ending, Ending::Left), "{ending:?}");
    assert!(processes_of(work.step) > 0, "it goes on");
    let step = work.step;
    eventually("nobody follows it", || {
        !any_process(|line| line.contains("\0follow\0") && line.contains(&step.to_string()))
    })
    .await;
    work
}

/// Whether the command line of any process is like that.
fn any_process(is_so: impl Fn(&str) -> bool) -> bool {
    let lines = fs::read_dir("/proc").unwrap().flatten().map(|entry| fs::read(entry.path().join("cmdline")));
    lines.flatten().any(|line| is_so(&String::from_utf8_lossy(&line)))
}

/// A run that has ended since it was left.
async fn ended_alone(target: &Arc<ServerTarget>, rest: &str) -> Work {
    let gate = TempDir::new().unwrap();
    let work = left(target, gate.path(), rest).await;
    fs::write(gate.path().join("go"), "").unwrap();
    eventually("the program has ended", || directory(work.step).join("exit").exists()).await;
    work
}

async fn left_and_taken_up() {
    let server = Sshd::start();
    let (target, gate) = (Arc::new(server.target()), TempDir::new().unwrap());
    let work = left(&target, gate.path(), "echo more; echo second >&2; exit 4").await;
    let places = [(0, 0, "ready\nmore\n", "first\nsecond\n"), (3, 6, "dy\nmore\n", "second\n"), (11, 13, "", "")];
    let executor = patient();
    let going: Vec<(Going, &str, &str)> = places
        .into_iter()
        .map(|(stdout, stderr, out, err)| {
            let from = Resume { stdout, stderr, age: Duration::from_secs(1) };
            (adopt(&executor, work.clone(), from), out, err)
        })
        .collect();
    fs::write(gate.path().join("go"), "").unwrap();
    for (going, out, err) in going {
        let (output, ending) = going.finish().await;
        assert!(matches!(ending, Ending::Exited { code: 4 }), "{ending:?}");
        assert_eq!((text(&output, Stream::Stdout).as_str(), text(&output, Stream::Stderr).as_str()), (out, err));
    }
    forget(&executor, &target, &work).await;
}

async fn unseen_end() {
    let server = Sshd::start();
    let (target, executor) = (Arc::new(server.target()), patient());
    let work = ended_alone(&target, "echo more; kill -TERM $$").await;
    // As often as it is asked: nobody knows whether an answer was written down.
    for _ in 0..2 {
        let from = Resume { stdout: 6, stderr: 6, age: Duration::from_secs(1) };
        let (output, ending) = adopt(&executor, work.clone(), from).finish().await;
        assert!(matches!(&ending, Ending::Signaled { signal } if signal == "TERM"), "{ending:?}");
        assert_eq!(text(&output, Stream::Stdout), "more\n");
    }
    forget(&executor, &target, &work).await;
}

async fn ended_before_the_stop() {
    let server = Sshd::start();
    let (target, executor) = (Arc::new(server.target()), patient());
    let work = ended_alone(&target, "echo more; exit 4").await;
    let going = adopt(&executor, work.clone(), Resume { stdout: 6, stderr: 6, age: Duration::from_secs(1) });
    going.stop.gracefully.cancel();
    let (output, ending) = going.finish().await;
    assert!(matches!(ending, Ending::Exited { code: 4 }), "{ending:?}");
    assert_eq!(text(&output, Stream::Stdout), "more\n");
    forget(&executor, &target, &work).await;
}

async fn stop_after_adoption() {
    let server = Sshd::start();
    let (target, gate) = (Arc::new(server.target()), TempDir::new().unwrap());
    let work = left(&target, gate.path(), "true").await;
    let executor = patient();
    let mut going = adopt(&executor, work.clone(), Resume::default());
    going.wait_for("ready").await;
    going.stop.gracefully.cancel();
    let ending = going.end().await;
    assert!(matches!(ending, Ending::Stopped { kill: Kill::Confirmed }), "{ending:?}");
    assert_eq!(processes_of(work.step), 0);
    forget(&executor, &target, &work).await;
}

async fn stop_while_away() {
    let server = Sshd::start();
    let proxy = Proxy::start(server.port(), Fault::Pass).await;
    let (executor, target) = (watchful(), behind(&proxy, server.target()));
    let work = detached(&target, "echo ready; sleep 600; :");
    let mut going = go(&executor, work.clone());
    going.wait_for("ready").await;
    proxy.set(Fault::Reset);
    going.wait_for("is looked for").await;
    going.stop.gracefully.cancel();
    let ending = going.end().await;
    let Ending::Stopped { kill: Kill::Unconfirmed { detail } } = &ending else { panic!("{ending:?}") };
    assert!(detail.contains(&format!("kill -KILL $(grep -lsz BIRUN_STEP_ID={}", work.step)), "{detail}");
    proxy.set(Fault::Pass);
    let handle = executor.handle(&work);
    let kill = executor.kill(&Target::Server(Arc::clone(&target)), &handle, Duration::from_millis(100)).await;
    assert_eq!(kill, Kill::Confirmed);
    forget(&executor, &target, &work).await;
}

fn lost(ending: &Ending, expected: LinkFault) {
    assert!(matches!(ending, Ending::Lost { fault, .. } if *fault == expected), "{expected:?} {ending:?}");
}

async fn gone() {
    let server = Sshd::start();
    let target = Arc::new(server.target());
    let (_, ending) = adopt(&patient(), detached(&target, "true"), Resume::default()).finish().await;
    lost(&ending, LinkFault::RunDirectoryGone);
}

async fn rebooted() {
    let server = Sshd::start();
    let (target, gate) = (Arc::new(server.target()), TempDir::new().unwrap());
    // Older than the server has been up.
    let age = Duration::from_secs(60 * 60 * 24 * 365 * 50);
    let (_, ending) = adopt(&patient(), detached(&target, "true"), Resume { age, ..Resume::default() }).finish().await;
    lost(&ending, LinkFault::HostRebooted);
    // The directory outlived the boot, as it does outside of /tmp.
    let work = left(&target, gate.path(), "true").await;
    let pid = directory(work.step).join("pid");
    let note = fs::read_to_string(&pid).unwrap();
    let words: Vec<&str> = note.split_whitespace().collect();
    fs::write(&pid, format!("{} {} another-boot\n", words[0], words[1])).unwrap();
    let (_, ending) = adopt(&patient(), work.clone(), Resume::default()).finish().await;
    lost(&ending, LinkFault::HostRebooted);
    fs::write(gate.path().join("go"), "").unwrap();
    forget(&patient(), &target, &work).await;
}

async fn reused_number() {
    let server = Sshd::start();
    let (target, gate) = (Arc::new(server.target()), TempDir::new().unwrap());
    let work = left(&target, gate.path(), "true").await;
    let pid = directory(work.step).join("pid");
    let note = fs::read_to_string(&pid).unwrap();
    let boot = note.split_whitespace().nth(2).unwrap();
    let own = std::process::id();
    for wrong in [format!("1 1 {boot}"), format!("0 - {boot}"), format!("-1 - {boot}"), format!("{own} 1 {boot}")] {
        fs::write(&pid, format!("{wrong}\n")).unwrap();
        let (output, ending) = adopt(&patient(), work.clone(), Resume::default()).finish().await;
        lost(&ending, LinkFault::NoExitStatus);
        assert_eq!(text(&output, Stream::Stdout), "ready\n", "{wrong}");
    }
    fs::write(gate.path().join("go"), "").unwrap();
    forget(&patient(), &target, &work).await;
}

async fn ended_without_a_note() {
    let server = Sshd::start();
    let (target, gate) = (Arc::new(server.target()), TempDir::new().unwrap());
    let work = left(&target, gate.path(), "true").await;
    let kept = |file: &Path| fs::read(file.join("cmdline")).unwrap_or_default();
    let keeper = |path: &Path| {
        let line = String::from_utf8_lossy(&kept(path)).into_owned();
        line.contains("\0keep\0") && line.contains(&work.step.to_string())
    };
    let all: Vec<PathBuf> = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path()).collect();
    for path in all.iter().filter(|path| keeper(path)) {
        let pid = path.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    }
    fs::write(gate.path().join("go"), "").unwrap();
    let (_, ending) = adopt(&patient(), work.clone(), Resume::default()).finish().await;
    lost(&ending, LinkFault::NoExitStatus);
    forget(&patient(), &target, &work).await;
}

async fn beyond_the_cap() {
    const CAP: usize = 256 * 1024 * 1024;
    let server = Sshd::start();
    let (target, executor) = (Arc::new(server.target()), patient());
    let work = detached(&target, "head -c 270000000 /dev/zero; echo end >&2; exit 5");
    let mut going = go(&executor, work.clone());
    let (mut bytes, mut rest) = (0, String::new());
    while let Some((stream, chunk)) = going.chunks.recv().await {
        match stream {
            Stream::Stdout => bytes += chunk.len(),
            Stream::Stderr | Stream::System => rest.push_str(&String::from_utf8_lossy(&chunk)),
        }
    }
    let ending = going.ending.await.unwrap();
    assert!(matches!(ending, Ending::Exited { code: 5 }), "{ending:?} {rest}");
    assert_eq!(bytes, CAP);
    assert!(rest.starts_with("end\n[birun: web-1 kept 268435456 bytes of stdout, and there was more"), "{rest}");
    forget(&executor, &target, &work).await;
}

async fn cut_script() {
    let server = Sshd::start();
    let proxy = Proxy::start(server.port(), Fault::Cut(Direction::FromClient, 40_000, Cut::Reset)).await;
    let (executor, target) = (watchful(), behind(&proxy, server.target()));
    let witness = TempDir::new().unwrap();
    let marker = witness.path().join("ran");
    let body = format!("touch {}\n{}", marker.display(), "# of no importance\n".repeat(20_000));
    let work = detached(&target, &body);
    let (_, ending) = go(&executor, work.clone()).finish().await;
    assert!(matches!(ending, Ending::Unreachable(_)), "{ending:?}");
    eventually("the shell has refused it", || directory(work.step).join("exit").exists()).await;
    assert!(!marker.exists());
    proxy.set(Fault::Pass);
    forget(&executor, &target, &work).await;
}

async fn forgotten() {
    let server = Sshd::start();
    let (target, executor) = (Arc::new(server.target()), patient());
    let work = Work { interpreter: Interpreter::Python3, ..detached(&target, "print('hi')") };
    let (output, ending) = go(&executor, work.clone()).finish().await;
    assert!(matches!(ending, Ending::Exited { code: 0 }), "{ending:?}");
    assert_eq!(text(&output, Stream::Stdout), "hi\n");
    assert!(directory(work.step).join("exit").exists(), "kept until the end is journalled");
    eventually("the script's own file is gone", || !Path::new("/tmp").join(format!("birun-{}", work.step)).exists())
        .await;
    forget(&executor, &target, &work).await;
    let kept_by = format!("keep\0{}", work.step);
    eventually("the keeper has gone", || !any_process(|line| line.contains(&kept_by))).await;
}

async fn exit_codes() {
    let server = Sshd::start();
    let (target, executor) = (Arc::new(server.target()), patient());
    for code in [0, 1, 3, 125, 126, 127, 128, 130, 137, 143, 254, 255] {
        let work = detached(&target, &format!("exit {code}"));
        let (_, ending) = go(&executor, work.clone()).finish().await;
        assert!(matches!(ending, Ending::Exited { code: told } if told == code), "{code} {ending:?}");
        forget(&executor, &target, &work).await;
    }
}

/// Runs a body as a server's login shell would, every shell replaced by a certain one, with a directory
/// of its own for what is kept.
fn run_text(body: &str, shell: &Path, tmp: &Path, path: Option<&Path>) -> (Output, StepId) {
    let target = Target::Local;
    let work = Work { target, mode: RunMode::Detached, ..work(&Arc::new(placeholder()), body) };
    let (line, input) = detached_text(&work, "the-sign").unwrap();
    let line = line.replace("/bin/sh", shell.to_str().unwrap());
    let mut command = Command::new(shell);
    command.arg("-c").arg(line).env("TMPDIR", tmp).env_remove("XDG_RUNTIME_DIR");
    if let Some(path) = path {
        command.env("PATH", path);
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&input).unwrap();
    (child.wait_with_output().unwrap(), work.step)
}

fn placeholder() -> ServerTarget {
    let key = birun_core::inventory::OpenCredential::Password(birun_core::vault::Secret::new("x"));
    birun_exec::testing::server_target(22, "nobody", key, Vec::new())
}

/// A program that is this shell, whatever it is called.
fn shell_program(name: &str, dir: &Path) -> PathBuf {
    let program = ["/bin", "/usr/bin"].map(|dir| Path::new(dir).join(name)).into_iter().find(|path| path.exists());
    let program = program.unwrap();
    let link = dir.join("sh");
    symlink(program, &link).unwrap();
    link
}

fn words(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

fn in_shell(name: &str) {
    let dir = TempDir::new().unwrap();
    let shell = shell_program(name, dir.path());
    for (body, out, err, exit) in [
        ("echo hi; echo oh >&2; exit 3", "hi\n", "oh\n", "exit 3 - 3 3"),
        ("cd /; printf 'no newline'; (exit 137)", "no newline", "", "exit 137 - 10 0"),
        ("kill -KILL $$", "", "", "exit 137 KILL 0 0"),
        ("kill -KILL 0", "", "", "exit 137 KILL 0 0"),
        ("trap 'echo heard; exit 9' INT; kill -INT $$; sleep 1", "heard\n", "", "exit 9 - 6 0"),
        ("(sleep 0.3; echo late) & echo early", "early\nlate\n", "", "exit 0 - 11 0"),
        ("sleep 600 & echo early", "early\n", "", "lingers 0 -"),
    ] {
        let (output, step) = run_text(body, &shell, dir.path(), None);
        let (stdout, stderr) = words(&output);
        assert_eq!(stdout, format!("birun:the-sign:begin\n{out}"), "{body}");
        let told = format!("birun:the-sign:begin\nbirun:{step}:started\n{err}birun:the-sign:{exit}\n");
        assert_eq!(stderr, told, "{body}");
        let found = format!("kill -KILL $(grep -lsz BIRUN_STEP_ID={step} /proc/[0-9]*/environ | cut -d/ -f3)");
        Command::new("sh").args(["-c", &found]).stderr(Stdio::null()).status().unwrap();
    }
}

fn no_setsid() {
    let dir = TempDir::new().unwrap();
    let shell = shell_program("busybox", dir.path());
    let tools = dir.path().join("bin");
    fs::create_dir(&tools).unwrap();
    for tool in ["cat", "chmod", "dd", "env", "id", "mkdir", "mv", "rm", "sleep", "touch", "wc"] {
        symlink(fs::read_link(&shell).unwrap(), tools.join(tool)).unwrap();
    }
    let (output, step) = run_text("echo hi; exit 6", &shell, dir.path(), Some(&tools));
    let (stdout, stderr) = words(&output);
    assert!(stdout.starts_with("[birun: this server has no setsid: "), "{stdout}");
    assert!(stdout.ends_with("birun:the-sign:begin\nhi\n"), "{stdout}");
    assert_eq!(stderr, format!("birun:the-sign:begin\nbirun:{step}:started\nbirun:the-sign:exit 6 - 3 0\n"));
}

/// In a directory where anyone may write, another user may have been there first.
fn foreign_directory() {
    let (dir, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let name = format!("birun-{}", own_uid());
    symlink(elsewhere.path(), dir.path().join(&name)).unwrap();
    let (output, step) = run_text("echo hi", Path::new("/bin/sh"), dir.path(), None);
    let (stdout, stderr) = words(&output);
    assert_eq!(stdout, "birun:the-sign:begin\nhi\n", "{stderr}");
    assert!(!elsewhere.path().join(step.to_string()).exists());
    fs::remove_dir_all(directory(step)).unwrap();
}

/// With a `sleep` that does not sleep, 7 days are over soon.
async fn remove_itself() {
    let dir = TempDir::new().unwrap();
    let tools = dir.path().join("bin");
    fs::create_dir(&tools).unwrap();
    symlink("/bin/true", tools.join("sleep")).unwrap();
    let path = format!("{}:/usr/bin:/bin", tools.display());
    let (output, step) = run_text("echo hi", Path::new("/bin/sh"), dir.path(), Some(Path::new(&path)));
    assert!(words(&output).1.ends_with("exit 0 - 3 0\n"), "{output:?}");
    let kept = dir.path().join(format!("birun-{}", own_uid())).join(step.to_string());
    assert!(kept.join("exit").exists());
    let begun = Instant::now();
    while kept.exists() {
        assert!(begun.elapsed() < Duration::from_secs(120), "it does not remove itself");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
