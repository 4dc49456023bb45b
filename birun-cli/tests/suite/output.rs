//! What `run`, `exec`, `logs` and lists write.

use birun_core::testing::harness::Suite;
use serde_json::Value;

use crate::birun::{Home, content_of, normal, until};

pub(crate) fn add(suite: &mut Suite) {
    suite.plain("run_writes_stdout_and_stderr_byte_for_byte", &[], byte_for_byte);
    suite.plain("run_needs_nothing_on_a_fresh_home", &[], fresh_home);
    suite.plain("quiet_run_writes_output_only", &[], quiet);
    suite.plain("run_as_json_prints_the_final_execution", &[], as_json);
    suite.plain("run_as_jsonl_prints_the_records", &[], as_jsonl);
    suite.plain("run_as_name_prints_the_id", &[], as_name);
    suite.plain("parameters_reach_the_script_as_they_were_given", &[], parameters);
    suite.plain("a_script_comes_from_stdin", &[], from_stdin);
    suite.plain("exec_quotes_each_of_several_words", &[], exec_words);
    suite.plain("logs_show_what_run_showed", &[], logs);
    suite.plain("logs_show_lines_that_match_with_their_instants", &[], logs_grep);
    suite.plain("output_that_nobody_reads_cancels_a_run_that_lives_here", &[], unread);
    suite.plain("output_that_nobody_reads_ends_the_following_of_a_server", &[], unread_over_server);
    suite.plain("output_that_cannot_be_written_is_told_and_cancels", &[], unwritable);
    suite.plain("a_list_that_nobody_reads_ends_like_any_program", &[], unread_list);
    suite.plain("remarks_of_birun_are_marked_and_not_for_the_quiet", &[], remarks);
    suite.plain("a_key_that_was_used_before_is_told", &[], repeated);
    suite.plain("watching_once_more_under_a_key_ends_nothing", &[], repeated_elsewhere);
    suite.plain("lists_have_every_form", &[], lists);
    suite.plain("a_dry_run_prints_the_request_and_sends_nothing", &[], dry_run);
    suite.plain("a_failed_run_says_how_it_failed", &[], failed_run);
    suite.plain("script_versions_can_be_read_and_restored", &[], versions);
    suite.plain("what_the_program_says_of_itself_is_complete", &[], about_itself);
}

fn byte_for_byte() {
    let home = Home::new();
    // Every byte there is but NUL, without a newline at the end, on both streams.
    let bytes: Vec<u8> = (1..=255).collect();
    std::fs::write(home.work().join("bytes"), &bytes).expect("a file");
    let script = home.file("bytes.sh", "cat bytes; cat bytes >&2");
    let ended = home.run_raw(&["run", "-q", &script]);
    assert_eq!(ended.status.code(), Some(0));
    assert_eq!(ended.stdout, bytes);
    assert_eq!(ended.stderr, bytes);
}

fn fresh_home() {
    let home = Home::new();
    let script = home.file("hello.sh", "echo hello; echo talk >&2");
    let ended = home.run(&["run", &script]);
    assert_eq!((ended.code, ended.text().as_str()), (Some(0), "hello\n"));
    let err = normal(&ended.err, &home);
    assert_eq!(err, "execution <id> · hello.sh · local\ntalk\nsucceeded (<time>)\n");
}

fn quiet() {
    let home = Home::new();
    let ended = home.run(&["run", "-q", &home.file("hello.sh", "echo hello")]);
    assert_eq!((ended.text().as_str(), ended.err.as_str()), ("hello\n", ""));
}

fn as_json() {
    let home = Home::new();
    let execution = home.json(&["run", &home.file("hello.sh", "echo hello")]);
    assert_eq!(execution["status"], "succeeded");
    assert_eq!(execution["counts"]["succeeded"], 1);
    assert_eq!(execution["title"], "hello.sh");
    let again = home.json(&["execution", "get", execution["short_id"].as_str().expect("a short id")]);
    assert_eq!(again, execution);
}

fn as_jsonl() {
    let home = Home::new();
    let text = home.ok(&["run", &home.file("hello.sh", "echo one; sleep 0.3; echo two >&2"), "-o", "jsonl"]);
    let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let shown: Vec<_> = records.iter().map(|record| (&record["seq"], &record["stream"], &record["data"])).collect();
    assert_eq!(
        format!("{shown:?}"),
        r#"[(Number(1), String("stdout"), String("one\n")), (Number(2), String("stderr"), String("two\n"))]"#
    );
}

fn as_name() {
    let home = Home::new();
    let id = home.ok(&["run", &home.file("hello.sh", "echo hello"), "-o", "name"]);
    assert_eq!(home.json(&["execution", "get", id.trim()])["status"], "succeeded");
    assert_eq!(home.ok(&["execution", "list", "-o", "name"]), id);
}

fn parameters() {
    let home = Home::new();
    let script = home.file("args.sh", r#"printf '%s|' "$A" "$B" "$C" "$D""#);
    home.file("params.json", r#"{"B": 7, "C": true, "D": "overridden"}"#);
    let args = ["run", "-q", &script, "-p", "A=it's \"$(id)\" `x`\n\\", "-p", "D=last", "--params-file", "params.json"];
    assert_eq!(home.ok(&args), "it's \"$(id)\" `x`\n\\|7|true|last|");
}

fn from_stdin() {
    let home = Home::new();
    let ended = home.run_with(&["run", "-q", "-"], &[], "#!/bin/sh\necho from stdin");
    assert_eq!((ended.code, ended.text().as_str()), (Some(0), "from stdin\n"));
}

fn exec_words() {
    let home = Home::new();
    assert_eq!(
        home.ok(&["exec", "-q", "--on", "local", "--", "printf", "%s|", "a b", "$HOME", "it's"]),
        "a b|$HOME|it's|"
    );
    assert_eq!(home.ok(&["exec", "-q", "--on", "local", "--", "echo a | tr a b"]), "b\n");
}

fn logs() {
    let home = Home::new();
    let execution =
        home.json(&["run", &home.file("two.sh", "echo one; sleep 0.3; echo two >&2; sleep 0.3; printf three")]);
    let id = execution["short_id"].as_str().expect("a short id");
    assert_eq!(home.ok(&["logs", id]), "one\ntwo\nthree");
    assert_eq!(home.ok(&["logs", id, "-f"]), "one\ntwo\nthree");
    assert_eq!(home.ok(&["logs", id, "--raw"]), "one\ntwo\nthree");
    assert_eq!(home.ok(&["logs", id, "--stream", "stderr"]), "two\n");
}

fn logs_grep() {
    let home = Home::new();
    let execution = home.json(&["run", &home.file("lines.sh", "printf 'one\\ntwo\\nth\\033[31mree\\n'")]);
    let id = execution["id"].as_str().expect("an id");
    let text = home.ok(&["logs", id, "--grep", "^t", "--timestamps"]);
    let lines: Vec<&str> = text.lines().map(|line| line.split_at("2026-11-02 10:00:00 ".len()).1).collect();
    assert_eq!(lines, ["two", "th\\u{1b}[31mree"]);
}

/// Runs birun with its stdout in a place of the shell's, and gives its exit code and its stderr.
fn piped(home: &Home, args: &str, place: &str) -> (String, String) {
    let birun = crate::birun::binary();
    let line = format!("{{ {} {args}; echo $? > code; }} {place}", birun.display());
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &line]).current_dir(home.work()).env_clear().env("PATH", "/usr/bin:/bin");
    shell.env("HOME", home.work().parent().expect("a home")).env("USER", "ana");
    let output = shell.output().expect("sh runs");
    (content_of(&home.work().join("code")), normal(&String::from_utf8_lossy(&output.stderr), home))
}

fn unread() {
    let home = Home::new();
    let (code, err) = piped(&home, "exec --on local -- yes", "| head -n 1");
    assert_eq!(code, "141\n", "{err}");
    assert_eq!(err, "execution <id> · yes · local\ncancelling; Ctrl-C again to kill at once\ncancelled (<time>)\n");
    assert_eq!(home.json(&["execution", "list"])["items"][0]["status"], "cancelled");
    assert_eq!(piped(&home, "exec -q --on local -- yes", "| head -n 1"), ("141\n".to_owned(), String::new()));
}

fn unread_over_server() {
    let home = Home::new();
    let _serve = home.serve(&[]);
    let (code, err) =
        piped(&home, "exec --on local -- 'while [ ! -e go ]; do echo y; sleep 0.01; done'", "| head -n 1");
    assert_eq!(code, "141\n", "{err}");
    assert!(err.contains("\nexecution <id> goes on\nhint: cancel it with "), "{err}");
    let execution = || home.json(&["execution", "list"])["items"][0].clone();
    assert_eq!(execution()["status"], "running");
    std::fs::write(home.work().join("go"), "").expect("a file");
    until("the end", || (execution()["status"] == "succeeded").then_some(()));
}

fn unwritable() {
    let home = Home::new();
    let (code, err) = piped(&home, "exec --on local -- yes", "> /dev/full");
    assert_eq!(code, "1\n", "{err}");
    assert_eq!(
        err,
        "execution <id> · yes · local\n\
         error: cannot write to stdout\n  caused by: No space left on device (os error 28)\n\
         cancelling; Ctrl-C again to kill at once\ncancelled (<time>)\n"
    );
    let id = home.ok(&["execution", "list", "-o", "name"]);
    let (code, err) = piped(&home, &format!("logs {}", id.trim()), "> /dev/full");
    assert_eq!(
        (code.as_str(), err.as_str()),
        ("1\n", "error: cannot write to stdout\n  caused by: No space left on device (os error 28)\n")
    );
}

fn unread_list() {
    let home = Home::new();
    home.ok(&["group", "create", "db"]);
    let (code, err) = piped(&home, "group list", "| { exec <&-; while [ ! -s code ]; do sleep 0.01; done; }");
    assert_eq!((code.as_str(), err.as_str()), ("141\n", ""));
}

fn remarks() {
    let home = Home::new();
    let script = home.file("leaves.sh", "sleep 600 & echo hi");
    home.ok(&["script", "create", "leaves", "--file", &script, "--on", "local", "--grace", "100ms"]);
    let ended = home.run(&["run", "leaves"]);
    assert_eq!((ended.code, ended.text().as_str()), (Some(0), "hi\n"), "{ended:#?}");
    let mark = "[birun: processes that the program left behind held its output open; they were ended]\n";
    assert!(ended.err.contains(mark), "{ended:#?}");
    let quiet = home.run(&["run", "-q", "leaves"]);
    assert_eq!((quiet.text().as_str(), quiet.err.as_str()), ("hi\n", ""));
}

fn repeated() {
    let home = Home::new();
    let run = ["run", &home.file("once.sh", "echo hi"), "--idempotency-key", "key-1"];
    let first = home.run(&run);
    assert_eq!(normal(&first.err, &home), "execution <id> · once.sh · local\nsucceeded (<time>)\n");
    let again = home.run(&run);
    assert_eq!((again.code, again.text().as_str()), (Some(0), "hi\n"), "its output is shown again");
    assert_eq!(
        normal(&again.err, &home),
        "this key was used before: nothing new is started, this is execution <id>\n\
         execution <id> · once.sh · local\nsucceeded (<time>)\n"
    );
    assert_eq!(home.json(&["execution", "list"])["items"].as_array().map(Vec::len), Some(1));
}

/// What an earlier request started lives elsewhere: who watches it once more ends it with nothing.
fn repeated_elsewhere() {
    let home = Home::new();
    let script = home.file("y.sh", "while [ ! -e go ]; do echo y; sleep 0.01; done");
    let first = home.start(&["run", "-q", &script, "--idempotency-key", "key-1"]);
    let execution = || home.json(&["execution", "list"])["items"][0].clone();
    until("the first one", || (execution()["status"] == "running").then_some(()));
    let (code, err) = piped(&home, "run ./y.sh --idempotency-key key-1", "| head -n 1");
    assert_eq!(code, "141\n", "{err}");
    assert!(err.contains("\nexecution <id> goes on\n"), "{err}");
    std::fs::write(home.work().join("go"), "").expect("a file");
    assert_eq!(first.end().code, Some(0));
    assert_eq!(execution()["status"], "succeeded");
}

fn lists() {
    let home = Home::new();
    home.ok(&["server", "add", "web-1", "deploy@10.0.0.5", "--tag", "prod", "--tag", "web"]);
    home.ok(&["server", "add", "web-2", "deploy@10.0.0.6:2222", "--tag", "prod"]);
    let table = home.ok(&["server", "list"]);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "ADDRESS", "TAGS", "GROUPS", "MAINTENANCE"]);
    assert_eq!(rows[1], ["web-2", "deploy@10.0.0.6:2222", "prod"]);
    assert_eq!(rows[2], ["web-1", "deploy@10.0.0.5", "prod,web"]);
    assert_eq!(home.ok(&["server", "list", "-o", "name"]), "web-2\nweb-1\n");
    assert_eq!(home.ok(&["server", "list", "--on", "tag:prod&tag:web", "-o", "name"]), "web-1\n");
    let json = home.json(&["server", "list"]);
    assert_eq!((json["items"][0]["name"].as_str(), &json["next"]), (Some("web-2"), &Value::Null));
    assert_eq!(home.ok(&["server", "list", "-o", "jsonl"]).lines().count(), 2);
    assert!(home.ok(&["server", "get", "web-1", "-o", "yaml"]).contains("name: web-1\n"));
    assert!(home.ok(&["server", "list", "-o", "wide"]).contains("EXECUTOR"));
    let first = home.run(&["server", "list", "--limit", "1"]);
    assert_eq!(first.text().lines().count(), 2);
    assert_eq!(first.err, "there are more; see them with  --limit N  or  --all\n");
    let none = home.run(&["script", "list"]);
    assert_eq!((none.text().as_str(), none.err.as_str()), ("", "no scripts\n"));
}

fn dry_run() {
    let home = Home::new();
    let request = home.json(&["server", "add", "web-1", "deploy@10.0.0.5:2222", "--tag", "prod", "--dry-run"]);
    assert_eq!((request["method"].as_str(), request["path"].as_str()), (Some("POST"), Some("/api/v1/servers")));
    assert_eq!(request["body"]["port"], 2222);
    let run = home.json(&["run", &home.file("x.sh", "touch ran"), "--dry-run"]);
    assert_eq!(run["body"]["kind"], "script");
    assert!(!home.work().join("ran").exists());
    assert_eq!(home.json(&["server", "list"])["items"], Value::Array(Vec::new()));
    assert_eq!(home.json(&["execution", "list"])["items"], Value::Array(Vec::new()));
}

fn failed_run() {
    let home = Home::new();
    let ended = home.run(&["run", &home.file("bad.sh", "exit 7")]);
    let retry = "hint: retry it with  birun execution retry <id>\n";
    ended.fails(&home, 5, &format!("execution <id> · bad.sh · local\nfailed: exit code 7 (<time>)\n{retry}"));
    let ended = home.run(&["run", &home.file("killed.sh", "kill -s SEGV $$")]);
    let told = format!("execution <id> · killed.sh · local\nfailed: killed by signal SEGV (<time>)\n{retry}");
    ended.fails(&home, 5, &told);
}

fn versions() {
    let home = Home::new();
    home.file("one.sh", "echo one");
    home.file("two.sh", "echo two");
    home.ok(&["script", "create", "greet", "--file", "one.sh", "--on", "local"]);
    let edited = home.run(&["script", "edit", "greet", "--file", "two.sh"]);
    assert_eq!(edited.err, "changed script greet, which is at v2\n");
    assert_eq!(home.ok(&["run", "-q", "greet"]), "two\n");
    assert_eq!(home.ok(&["run", "-q", "greet", "--script-version", "1"]), "one\n");
    assert_eq!(home.ok(&["script", "get", "greet", "--content", "--version-number", "1"]), "echo one");
    let restored = home.run(&["script", "restore", "greet", "1"]);
    assert_eq!(restored.err, "restored v1 of script greet as v3\n");
    assert_eq!(home.ok(&["run", "-q", "greet"]), "one\n");
    assert_eq!(home.ok(&["script", "versions", "greet", "-o", "name"]), "3\n2\n1\n");
}

fn about_itself() {
    let home = Home::new();
    assert_eq!(home.ok(&["version"]), format!("birun {}\n", env!("CARGO_PKG_VERSION")));
    assert!(home.ok(&["completions", "bash"]).contains("_birun"));
    assert!(home.ok(&["man"]).starts_with(".ie"));
    let document: Value = serde_json::from_str(&home.ok(&["openapi"])).expect("JSON");
    assert!(document["paths"].as_object().is_some_and(|paths| !paths.is_empty()));
    let doctor = home.run(&["doctor"]);
    assert_eq!(doctor.code, Some(0), "{doctor:#?}");
    // Only what looks at data makes any.
    assert!(home.data().exists());
}
