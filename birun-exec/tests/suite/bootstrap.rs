//! The bootstrap under every shell that targets are likely to have.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use std::os::unix::process::ExitStatusExt;

use birun_core::ErrorCode;
use birun_core::execution::{Target, Work};
use birun_core::id::{ExecutionId, StepId};
use birun_core::script::{Content, Interpreter, RunMode};
use birun_core::testing::harness::{Need, Suite};
use birun_core::vault::Secret;
use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

#[path = "../../src/bootstrap/mod.rs"]
#[expect(unused, reason = "its unit tests run in the library, which uses the rest of it")]
mod code;

use code::{Bootstrap, DIRECTORY, Opening, Start, cleanup_line};

/// A shell that stands in for `/bin/sh`.
type Shell = &'static [&'static str];

const SHELLS: [(&str, Shell); 3] =
    [("dash", &["dash"]), ("bash", &["bash", "--norc"]), ("busybox", &["busybox", "sh"])];

const LOGIN_SHELLS: [&str; 5] = ["sh", "bash", "tcsh", "fish", "zsh"];

type Check = fn(Shell);

const CHECKS: [(&str, Check); 13] = [
    ("every_value_arrives_as_it_is", every_value_arrives_as_it_is),
    ("every_body_is_run_as_it_is", every_body_is_run_as_it_is),
    ("a_large_body_is_run_whole", a_large_body_is_run_whole),
    ("a_large_value_arrives_whole", a_large_value_arrives_whole),
    ("the_ending_of_the_body_is_kept", the_ending_of_the_body_is_kept),
    ("set_e_works", set_e_works),
    ("the_body_sees_no_names_of_the_bootstrap", the_body_sees_no_names_of_the_bootstrap),
    ("stdin_is_empty", stdin_is_empty),
    ("what_is_cut_short_is_never_run", what_is_cut_short_is_never_run),
    ("a_missing_interpreter_is_told", a_missing_interpreter_is_told),
    ("a_file_is_private_and_where_it_should_be", a_file_is_private_and_where_it_should_be),
    ("without_room_for_a_file_nothing_is_started", without_room_for_a_file_nothing_is_started),
    ("an_occupied_directory_is_not_used", an_occupied_directory_is_not_used),
];

pub(crate) fn add_to(suite: &mut Suite) {
    for (shell, argv) in SHELLS {
        for (name, check) in CHECKS {
            suite.plain(format!("bootstrap::{shell}::{name}"), &[Need::program(shell)], move || check(argv));
        }
    }
    for shell in LOGIN_SHELLS {
        let name = format!("bootstrap::login_shell::{shell}_runs_the_command_line");
        suite.plain(name, &[Need::program(shell)], move || a_login_shell_runs_the_command_line(shell));
        let name = format!("bootstrap::login_shell::{shell}_removes_the_file");
        suite.plain(name, &[Need::program(shell)], move || a_login_shell_removes_the_file(shell));
    }
    suite.plain("bootstrap::bash_evaluates_what_is_written_for_bash", &[Need::program("bash")], bash_is_bash);
    suite.plain("bootstrap::python_is_given_a_file", &[Need::program("python3")], python_is_given_a_file);
    suite.plain("bootstrap::awk_runs_by_its_shebang", &[Need::program("awk")], awk_runs_by_its_shebang);
    suite.plain("bootstrap::a_read_only_variable_is_told", &[Need::program("bash")], a_read_only_variable_is_told);
    suite.plain("bootstrap::a_body_that_looks_for_its_file_has_one", &[Need::program("bash")], its_own_file);
}

/// What came of a run.
struct Run {
    status: ExitStatus,
    start: Start,
    stdout: String,
    stderr: String,
}

fn work(body: &str) -> Work {
    Work {
        execution: ExecutionId::new(),
        step: StepId::new(),
        target: Target::Local,
        content: Content::new(body).unwrap(),
        interpreter: Interpreter::Shebang,
        env: Vec::new(),
        grace: Duration::from_secs(10),
        mode: RunMode::Attached,
    }
}

fn with_env(mut work: Work, env: &[(&str, &str)]) -> Work {
    work.env = env.iter().map(|(name, value)| (name.parse().unwrap(), Secret::new(*value))).collect();
    work
}

fn run_in(shell: Shell, work: &Work) -> Run {
    run_input(shell, work, Bootstrap::new(work).unwrap().input(), &[])
}

/// Runs input under a shell that stands in for the bootstrap's own.
fn run_input(shell: Shell, work: &Work, input: &[u8], env: &[(&str, &Path)]) -> Run {
    let mut command = Command::new(shell[0]);
    command.args(&shell[1..]).args(words(work));
    command.envs(env.iter().copied());
    finish(command, work, input)
}

/// What the shell is given, whichever it is.
fn words(work: &Work) -> Vec<String> {
    let argv = Bootstrap::new(work).unwrap().argv();
    argv.into_iter().skip_while(|word| word != "-c").collect()
}

/// Runs work as its bootstrap says.
fn run(work: &Work) -> Run {
    let bootstrap = Bootstrap::new(work).unwrap();
    let argv = bootstrap.argv();
    let mut command = Command::new(&argv[0]);
    command.args(&argv[1..]);
    let run = finish(command, work, bootstrap.input());
    if bootstrap.leaves_file() {
        std::fs::remove_dir_all(directory(work)).unwrap();
    }
    run
}

fn finish(mut command: Command, work: &Work, input: &[u8]) -> Run {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env_remove("XDG_RUNTIME_DIR");
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        // A shell that refuses does not read to the end.
        scope.spawn(move || drop(stdin.write_all(input)));
        scope.spawn(|| stdout.read_to_end(&mut out).unwrap());
        scope.spawn(|| stderr.read_to_end(&mut err).unwrap());
    });
    let mut opening = Opening::new(work.step);
    let shown = opening.push(Bytes::from(err));
    let (start, rest) = opening.end();
    Run {
        status: child.wait().unwrap(),
        start,
        stdout: String::from_utf8_lossy(&out).into_owned(),
        stderr: String::from_utf8_lossy(&[shown, rest].concat()).into_owned(),
    }
}

fn directory(work: &Work) -> std::path::PathBuf {
    std::env::temp_dir().join(format!("{DIRECTORY}{}", work.step))
}

impl Run {
    /// Asserts that the program was started, and gives its exit code.
    fn code(&self) -> Option<i32> {
        assert!(matches!(self.start, Start::Started), "{:?}, {:?}: {}", self.start, self.status, self.stderr);
        self.status.code()
    }

    fn refusal(&self) -> ErrorCode {
        let Start::Refused(error) = &self.start else { panic!("{:?}: {}", self.start, self.stderr) };
        assert_eq!((self.status.code(), self.stdout.as_str()), (Some(126), ""), "{error}");
        error.code()
    }
}

/// Text made of what shells trip over.
fn awkward() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\n"),
        Just("'"),
        Just("\""),
        Just("\\"),
        Just("`id`"),
        Just("$(id)"),
        Just("${x}"),
        Just("$"),
        Just("!"),
        Just("-"),
        Just("+"),
        Just("."),
        Just("@"),
        Just("="),
        Just("#"),
        Just("*"),
        Just("?"),
        Just("["),
        Just("~"),
        Just(" "),
        Just("\t"),
        Just("\r"),
        Just("\r\n"),
        Just("%s"),
        Just("&"),
        Just(";"),
        Just("|"),
        Just("<"),
        Just("\u{1}"),
        Just("\u{7f}"),
        Just("\u{81}"),
        Just("\u{88}"),
        Just("ā"),
        Just("ž"),
        Just("é"),
        Just("漢"),
        Just("\u{1f600}"),
        Just("a"),
        Just("BIRUN__V"),
    ];
    prop_oneof![
        proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat()),
        any::<String>().prop_map(|text| text.replace('\0', "")),
    ]
}

fn property(check: impl Fn(String)) {
    // Nothing is kept: the input that fails is printed, and is all that is needed to repeat it.
    let config = Config { cases: 60, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&awkward(), |text| {
            check(text);
            Ok(())
        })
        .unwrap();
}

fn every_value_arrives_as_it_is(shell: Shell) {
    property(|value| {
        let work = with_env(
            work("printf '%s|' \"$FIRST\" \"$second\"; printenv second"),
            &[("FIRST", &value), ("second", &value)],
        );
        let run = run_in(shell, &work);
        assert_eq!(run.code(), Some(0), "{}", run.stderr);
        assert_eq!(run.stdout, format!("{value}|{value}|{value}\n"));
    });
}

/// The text as a here-document, so that every byte of the body counts. What the same shell makes of a
/// file is what is wanted: dash 0.5.12 loses a byte above 0x7f that follows the delimiter's first letters.
fn every_body_is_run_as_it_is(shell: Shell) {
    let file = tempfile::NamedTempFile::new().unwrap();
    property(|text| {
        for filler in ["", &"# filler\n".repeat(400)] {
            let text = text.trim_end_matches('\r');
            let body = format!("{filler}cat <<'End of text'\n{text}\nEnd of text");
            let run = run_in(shell, &work(&body));
            assert_eq!(run.code(), Some(0), "{}", run.stderr);
            std::fs::write(file.path(), &body).unwrap();
            let bare = Command::new(shell[0]).args(&shell[1..]).arg(file.path()).output().unwrap();
            assert_eq!(run.stdout, String::from_utf8_lossy(&bare.stdout));
            if !text.lines().any(|line| line.starts_with('E')) {
                assert_eq!(run.stdout, format!("{text}\n"));
            }
        }
    });
}

fn a_large_body_is_run_whole(shell: Shell) {
    let body = format!("cat >/dev/null <<'X'\n{}X\necho end", "ä line of filler\n".repeat(57_500));
    assert!(body.len() > 1024 * 1024 - 20_000);
    let run = run_in(shell, &work(&body));
    assert_eq!((run.code(), run.stdout.as_str()), (Some(0), "end\n"), "{}", run.stderr);
}

fn a_large_value_arrives_whole(shell: Shell) {
    let value = "0123456789 line\n".repeat(8000);
    let run = run_in(shell, &with_env(work("printenv VALUE"), &[("VALUE", &value)]));
    assert_eq!(run.code(), Some(0), "{}", run.stderr);
    assert!(run.stdout == format!("{value}\n"), "{} bytes", run.stdout.len());
}

fn the_ending_of_the_body_is_kept(shell: Shell) {
    for (body, code) in [
        ("true", 0),
        ("false\n", 1),
        ("exit 3", 3),
        ("exit 255\n\n\n", 255),
        ("(exit 126)", 126),
        ("sh -c 'exit 127' # the end", 127),
        ("no-such-program-here", 127),
        ("true\r\n#!/bin/sh", 127),
        ("trap 'exit 9' EXIT; exit 4", 9),
        ("f() { return 7; }\nf", 7),
        ("exec sh -c 'exit 5'", 5),
    ] {
        assert_eq!(run_in(shell, &work(body)).code(), Some(code), "{body:?}");
    }
    for (body, signal) in [("kill -TERM $$", 15), ("kill -9 $$\nsleep 1", 9), ("exec sh -c 'kill -SEGV $$'", 11)] {
        let run = run_in(shell, &work(body));
        assert_eq!((run.code(), run.status.signal()), (None, Some(signal)), "{body:?}");
    }
    for body in ["if", "echo $((", "echo 'open"] {
        let run = run_in(shell, &work(body));
        assert_ne!(run.code(), Some(0), "{body:?}: {}", run.stderr);
        assert!(!run.stderr.is_empty());
    }
}

fn set_e_works(shell: Shell) {
    let run = run_in(shell, &work("set -eu\necho one\nfalse\necho two"));
    assert_eq!((run.code(), run.stdout.as_str()), (Some(1), "one\n"));
    let run = run_in(shell, &work("set -u\necho \"$#\"\necho \"$UNKNOWN\"\necho two"));
    assert_ne!(run.code(), Some(0));
    assert_eq!(run.stdout, "0\n");
}

fn the_body_sees_no_names_of_the_bootstrap(shell: Shell) {
    for body in ["set; command -v birun__say; env", "#!/bin/env sh\nset; env\n"] {
        for filler in [String::new(), "# filler\n".repeat(400)] {
            let body = format!("{body}\n{filler}");
            let run = run_in(shell, &work(&body));
            // `$_` is the last word of the last command, whatever that was.
            let names = || run.stdout.lines().filter(|line| !line.starts_with("_="));
            assert!(names().count() > 1, "{}", run.stderr);
            assert!(names().all(|line| !line.to_ascii_uppercase().contains("BIRUN__")), "{}", run.stdout);
        }
    }
}

fn stdin_is_empty(shell: Shell) {
    for filler in [String::new(), "# filler\n".repeat(400)] {
        let run =
            run_in(shell, &work(&format!("read -r x || echo \"end:$x\"; cat; readlink /proc/self/fd/0\n{filler}echo")));
        assert_eq!(run.stdout, "end:\n/dev/null\n\n");
    }
}

fn what_is_cut_short_is_never_run(shell: Shell) {
    for filler in [String::new(), "# filler\n".repeat(400)] {
        let work = with_env(work(&format!("echo ran\n{filler}")), &[("A", "a\n.\nb")]);
        let bootstrap = Bootstrap::new(&work).unwrap();
        let whole = bootstrap.input();
        // Only the last newline may be missing: everything else did arrive.
        for length in (0..whole.len() - 1).step_by(1 + whole.len() / 60).chain([whole.len() - 2]) {
            assert_eq!(run_input(shell, &work, &whole[..length], &[]).refusal(), ErrorCode::ConnectFailed, "{length}");
        }
    }
}

fn a_missing_interpreter_is_told(shell: Shell) {
    for line in ["#!/no/such/interpreter", "#!/usr/bin/env no-such-interpreter", "#!/etc/passwd", "#!/tmp"] {
        let run = run_in(shell, &work(&format!("{line}\nx")));
        assert_eq!(run.refusal(), ErrorCode::SpawnFailed, "{line}");
        assert_eq!(run.stderr, "");
    }
}

fn a_file_is_private_and_where_it_should_be(shell: Shell) {
    let (runtime, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let work = with_env(work("#!/bin/sh -u\nstat -c %a \"$0\" \"${0%/*}\"; echo \"$0\""), &[("TMPDIR", "/nowhere")]);
    let bootstrap = Bootstrap::new(&work).unwrap();
    let (runtime, temporary) = (runtime.path(), temporary.path());
    let missing = Path::new("/no/such/directory");
    for (env, expected) in [
        ([("XDG_RUNTIME_DIR", runtime), ("TMPDIR", temporary)], runtime),
        ([("XDG_RUNTIME_DIR", missing), ("TMPDIR", temporary)], temporary),
        ([("XDG_RUNTIME_DIR", missing), ("TMPDIR", missing)], Path::new("/tmp")),
    ] {
        let mut command = Command::new("env");
        command.arg(format!("{}={}", env[0].0, env[0].1.display())).args(shell);
        command.args(words(&work)).env(env[1].0, env[1].1);
        let run = finish(command, &work, bootstrap.input());
        let made = expected.join(format!("{DIRECTORY}{}", work.step));
        assert_eq!(run.code(), Some(0), "{}", run.stderr);
        assert_eq!(run.stdout, format!("600\n700\n{}\n", made.join("script").display()));
        assert_eq!(std::fs::read_to_string(made.join("script")).unwrap(), work.content.as_str());
        std::fs::remove_dir_all(made).unwrap();
    }
}

fn without_room_for_a_file_nothing_is_started(shell: Shell) {
    let work = work("#!/bin/sh -u\necho ran");
    // The last resort is occupied as well.
    std::fs::create_dir(Path::new("/tmp").join(format!("{DIRECTORY}{}", work.step))).unwrap();
    let bootstrap = Bootstrap::new(&work).unwrap();
    let run = run_input(shell, &work, bootstrap.input(), &[("TMPDIR", Path::new("/proc/self"))]);
    std::fs::remove_dir(Path::new("/tmp").join(format!("{DIRECTORY}{}", work.step))).unwrap();
    assert_eq!(run.refusal(), ErrorCode::SpawnFailed);
    let Start::Refused(error) = run.start else { panic!("not refused") };
    assert!(error.to_string().contains("File exists"), "{error}");
}

fn an_occupied_directory_is_not_used(shell: Shell) {
    let place = tempfile::tempdir().unwrap();
    let work = work("#!/bin/sh -u\necho \"$0\"");
    let elsewhere = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), place.path().join(format!("{DIRECTORY}{}", work.step))).unwrap();
    let bootstrap = Bootstrap::new(&work).unwrap();
    let run = run_input(shell, &work, bootstrap.input(), &[("TMPDIR", place.path())]);
    assert_eq!(run.code(), Some(0), "{}", run.stderr);
    assert_eq!(run.stdout, format!("/tmp/{DIRECTORY}{}/script\n", work.step));
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    std::fs::remove_dir_all(Path::new("/tmp").join(format!("{DIRECTORY}{}", work.step))).unwrap();
}

fn a_login_shell_runs_the_command_line(shell: &str) {
    for body in ["printf '%s' \"$V\"; exit 3", "#!/usr/bin/env bash\nx=([2]=$V); printf '%s' \"${x[2]}\"; exit 3"] {
        let work = with_env(work(body), &[("V", "it's\n!! $(id) \\\\ ünder")]);
        let bootstrap = Bootstrap::new(&work).unwrap();
        let run = login(shell, &bootstrap.command_line(), &work, bootstrap.input());
        assert_eq!((run.code(), run.stdout.as_str()), (Some(3), "it's\n!! $(id) \\\\ ünder"), "{}", run.stderr);
    }
}

fn a_login_shell_removes_the_file(shell: &str) {
    let work = work("#!/bin/sh -u\nexit 3");
    let bootstrap = Bootstrap::new(&work).unwrap();
    assert_eq!(login(shell, &bootstrap.command_line(), &work, bootstrap.input()).code(), Some(3));
    assert!(directory(&work).exists());
    assert!(login(shell, &cleanup_line(work.step), &work, b"").status.success());
    assert!(!directory(&work).exists());
}

fn login(shell: &str, line: &str, work: &Work, input: &[u8]) -> Run {
    let mut command = Command::new(shell);
    command.args(["-c", line]);
    finish(command, work, input)
}

fn bash_is_bash() {
    for line in ["#!/bin/bash", "#!/usr/bin/env bash", "#!/bin/bash -u"] {
        let run = run(&work(&format!("{line}\na=(1 2 3); echo ${{#a[@]}}; exit 4")));
        assert_eq!((run.code(), run.stdout.as_str()), (Some(4), "3\n"), "{}", run.stderr);
    }
}

fn python_is_given_a_file() {
    let mut work =
        with_env(work("import os,sys\nprint(os.environ['V'], sys.stdin.read() == '')\nsys.exit(200)"), &[("V", "x y")]);
    work.interpreter = Interpreter::Python3;
    let run = run(&work);
    assert_eq!((run.code(), run.stdout.as_str()), (Some(200), "x y True\n"), "{}", run.stderr);
    assert!(!directory(&work).exists());
}

fn awk_runs_by_its_shebang() {
    let run = run(&work("#!/usr/bin/awk -f\nBEGIN { print ENVIRON[\"BIRUN_STEP_ID\"]; exit 6 }\n"));
    assert_eq!(run.code(), Some(6), "{}", run.stderr);
    assert_eq!(run.stdout.trim().len(), 36);
}

fn a_read_only_variable_is_told() {
    let work = work("echo ran");
    let run = run_input(&["bash", "--norc"], &work, b"PPID=5\n@body=echo ran\n.\n", &[]);
    assert_eq!(run.refusal(), ErrorCode::SpawnFailed);
}

fn its_own_file() {
    let run = run(&work("#!/bin/bash\nset -u\nif [[ \"${BASH_SOURCE[0]}\" == \"$0\" ]]; then echo main; fi"));
    assert_eq!((run.code(), run.stdout.as_str()), (Some(0), "main\n"), "{}", run.stderr);
}
