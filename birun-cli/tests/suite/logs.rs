//! What `logs` says besides the output.

use std::fs::File;
use std::process::Stdio;

use birun_core::testing::harness::Suite;

use crate::birun::{Home, content_of, lives, normal, until};

pub(crate) fn add(suite: &mut Suite) {
    suite.plain("orphan_of_a_killed_run_is_told_with_what_takes_it_over", &[], orphan);
    suite.plain("logs_of_a_target_that_there_is_not_are_an_error", &[], unknown_target);
    suite.plain("logs_that_follow_tell_how_it_ended", &[], end);
}

fn unknown_target() {
    let home = Home::new();
    let id = home.ok(&["run", "-o", "name", &home.file("ok.sh", "echo hi")]);
    home.run(&["logs", id.trim(), "--on", "NOPE"]).fails(
        &home,
        6,
        "error: execution <id> has no target `NOPE`\n\nhint: it runs on local\n",
    );
    assert_eq!(home.ok(&["logs", id.trim(), "--on", "local"]), "hi\n");
}

/// The text that stands for nobody driving an execution.
/// What can be done after an end without success.
const RETRY: &str = "hint: retry it with  birun execution retry <id>\n";
const GONE: &str = "its worker is gone; the next  birun run,  birun worker  or  birun serve  takes it over";

fn orphan() {
    let home = Home::new();
    let script = home.file("long.sh", "echo $$ > pid; echo hello; while [ ! -e go ]; do sleep 0.05; done");
    let run = home.start(&["run", &script]);
    let pid = content_of(&home.work().join("pid"));
    let id = home.ok(&["execution", "list", "-o", "name"]);
    let execution = || home.json(&["execution", "get", id.trim()]);
    assert!(execution()["why"].is_null(), "it goes on");
    run.signal("KILL");
    run.end();
    let left = execution();
    assert_eq!((&left["status"], &left["why"]), (&"running".into(), &GONE.into()));
    let card = home.ok(&["execution", "get", id.trim()]);
    assert!(card.contains(GONE), "{card}");

    let told = home.work().join("told");
    let mut logs = home.command(&["logs", id.trim(), "-f"]);
    logs.stdout(Stdio::null()).stderr(File::create(&told).expect("a file"));
    let mut logs = logs.spawn().expect("birun starts");
    assert_eq!(content_of(&told), format!("running: {GONE}\n"));
    home.ok(&["worker", "--until-idle"]);
    assert_eq!(logs.wait().expect("it ends").code(), Some(0));
    let told = std::fs::read_to_string(&told).expect("a file");
    // Between two workers it may be seen in the queue.
    let told: String = told.split_inclusive('\n').filter(|line| !line.starts_with("queued: ")).collect();
    assert_eq!(
        normal(&told, &home),
        format!(
            "running: {GONE}\nlost: its worker died while it ran (<time>)\nhint: look first whether it was done on \
             local, or still runs there; again with  birun execution retry <id>\n"
        ),
        "whoever follows sees the end too"
    );
    until("the end of the script", || (!lives(&pid)).then_some(()));
}

fn end() {
    let home = Home::new();
    let ended = home.run(&["run", "-o", "json", &home.file("bad.sh", "echo one; exit 7")]);
    let id = serde_json::from_slice::<serde_json::Value>(&ended.out).expect("JSON")["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    for raw in [&[][..], &["--raw"]] {
        let ended = home.run(&[&["logs", &id, "-f"], raw].concat());
        assert_eq!((ended.code, ended.text().as_str()), (Some(0), "one\n"), "{ended:#?}");
        assert_eq!(normal(&ended.err, &home), format!("failed: exit code 7 (<time>)\n{RETRY}"));
    }
    for silent in [&["logs", &id][..], &["logs", &id, "-f", "-q"], &["logs", &id, "-f", "-o", "jsonl"]] {
        assert_eq!(home.run(silent).err, "", "{silent:?}");
    }
}
