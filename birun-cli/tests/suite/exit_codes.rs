//! Every exit code of the contract.

use std::io::{Read, Write};
use std::net::TcpListener;

use birun_core::testing::harness::Suite;

use crate::birun::{Home, content_of, until};

pub(crate) fn add(suite: &mut Suite) {
    suite.plain("exit_0_when_all_went_well", &[], || code(&["version"], 0));
    suite.plain("exit_1_when_something_failed", &[], || code(&["--data-dir", "/proc/none", "status"], 1));
    suite.plain("exit_2_for_a_command_line_that_is_none", &[], || code(&["run"], 2));
    suite.plain("exit_2_for_a_plain_value_of_a_secret_parameter", &[], plain_secret);
    suite.plain("exit_3_when_the_user_has_not_said_yes", &[], cancelled_execution);
    suite.plain("exit_4_without_a_token", &[], without_token);
    suite.plain("exit_5_when_the_execution_did_not_succeed", &[], unsuccessful);
    suite.plain("exit_6_when_nothing_has_that_name", &[], || code(&["server", "get", "web-9"], 6));
    suite.plain("exit_7_when_the_name_is_taken", &[], taken);
    suite.plain("exit_8_when_the_wait_timed_out", &[], still_running);
    suite.plain("exit_9_when_it_may_be_seen_but_not_done", &[], forbidden);
    suite.plain("exit_130_when_interrupted", &[], interrupted);
    suite.plain("exit_141_when_nobody_reads_stdout", &[], unread);
    suite.plain("exit_as_the_script_does_when_asked_to", &[], script_code);
}

#[track_caller]
fn code(args: &[&str], expected: i32) {
    let ended = Home::new().run(args);
    assert_eq!(ended.code, Some(expected), "{ended:#?}");
}

fn plain_secret() {
    let home = Home::new();
    home.file("t.sh", "true");
    home.ok(&["script", "create", "t", "--file", "t.sh", "--param", "TOKEN:secret", "--on", "local"]);
    home.run(&["run", "t", "-p", "TOKEN=hunter2"]).fails(
        &home,
        2,
        "error: `TOKEN` is a secret, and the command line is no place for one\n\n\
         hint: give it with  -p TOKEN=@FILE,  -p TOKEN=@-  (stdin),  or  -p TOKEN  to be asked\n",
    );
    let ended = home.run_with(&["run", "-q", "t", "-p", "TOKEN=@-"], &[], "hunter2\n");
    assert_eq!(ended.code, Some(0), "{ended:#?}");
}

fn cancelled_execution() {
    let home = Home::new();
    let script = home.file("long.sh", "echo $$ > pid; sleep 60");
    let run = home.start(&["run", &script]);
    content_of(&home.work().join("pid"));
    let id = home.ok(&["execution", "list", "-o", "name"]);
    home.ok(&["execution", "cancel", id.trim()]);
    let ended = run.end();
    assert_eq!(ended.code, Some(3), "{ended:#?}");
}

fn without_token() {
    let home = Home::new();
    let serve = home.serve(&[]);
    let stranger = Home::new();
    stranger.run(&["--server", &serve.address, "status"]).fails(
        &stranger,
        4,
        "error: nobody is signed in, or the token is not valid\n\n\
         hint: give the token in BIRUN_TOKEN, or in a file that a context of your config file names as token_file; \
         the server keeps it in serve.json in its data directory, or in its --token-file\n",
    );
    let ended = stranger.run_with(&["--server", &serve.address, "status"], &[("BIRUN_TOKEN", "wrong")], "");
    assert_eq!(ended.code, Some(4), "{ended:#?}");
}

fn unsuccessful() {
    let home = Home::new();
    let script = home.file("bad.sh", "exit 7");
    assert_eq!(home.run(&["run", &script]).code, Some(5));
    let slow = home.file("slow.sh", "sleep 60");
    let ended = home.run(&["run", &slow, "--timeout", "300ms"]);
    assert_eq!(ended.code, Some(5), "{ended:#?}");
    assert!(ended.err.contains("timed out"), "{ended:#?}");
}

fn taken() {
    let home = Home::new();
    home.ok(&["group", "create", "db"]);
    home.run(&["group", "create", "db"]).fails(&home, 7, "error: a group named `db` exists already\n");
}

fn still_running() {
    let home = Home::new();
    let script = home.file("long.sh", "while [ ! -e go ]; do sleep 0.05; done; echo done > ended");
    let ended = home.run(&["run", &script, "--wait-timeout", "500ms"]);
    assert_eq!(ended.code, Some(8), "{ended:#?}");
    std::fs::write(home.work().join("go"), "").expect("a file");
    content_of(&home.work().join("ended"));
    until("the end", || (home.json(&["execution", "list"])["items"][0]["status"] == "succeeded").then_some(()));
}

/// No caller of this version is refused anything: the server of a later one is played.
fn forbidden() {
    let home = Home::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let server = std::thread::spawn(move || {
        let (mut tcp, _) = listener.accept().expect("a caller");
        let mut head = [0; 4096];
        assert!(tcp.read(&mut head).expect("a request") > 0);
        let body = r#"{"status":403,"code":"forbidden","title":"forbidden","detail":"ana may not delete groups"}"#;
        let head = "HTTP/1.1 403 Forbidden\r\nContent-Type: application/problem+json\r\nConnection: close\r\n";
        write!(tcp, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).expect("an answer");
    });
    let env = [("BIRUN_TOKEN", "0123456789abcdef")];
    home.run_with(&["--server", &address, "status"], &env, "").fails(&home, 9, "error: ana may not delete groups\n");
    server.join().expect("it has answered");
}

fn interrupted() {
    let home = Home::new();
    let _serve = home.serve(&[]);
    let run =
        home.start(&["run", "-q", &home.file("long.sh", "echo $$ > pid; while [ ! -e go ]; do sleep 0.05; done")]);
    content_of(&home.work().join("pid"));
    run.signal("INT");
    let ended = run.end();
    assert_eq!(ended.code, Some(130), "{ended:#?}");
    std::fs::write(home.work().join("go"), "").expect("a file");
}

fn unread() {
    let home = Home::new();
    let mut command = home.command(&["version"]);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let status = command.stdout(writer).status().expect("birun ends");
    assert_eq!(status.code(), Some(141));
}

fn script_code() {
    let home = Home::new();
    let script = home.file("seven.sh", "exit 7");
    assert_eq!(home.run(&["run", &script, "--exit-code", "script"]).code, Some(7));
    assert_eq!(home.run(&["exec", "--on", "local", "--exit-code", "script", "--", "true"]).code, Some(0));
}
