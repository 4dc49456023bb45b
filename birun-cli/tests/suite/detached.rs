//! Detached runs: birun is killed and started again, and the run comes to its own end, once.

use std::path::Path;
use std::time::Duration;

use birun_core::testing::harness::{Need, Suite};
use birun_exec::testing::Sshd;
use serde_json::{Value, json};

use crate::api::Api;
use crate::birun::{Home, content_of, step_processes, until};
use crate::random::Random;
use crate::ssh::Fleet;

/// Where a worker can die that drives one detached step.
const WORKER: [&str; 8] = [
    "start.before",
    "start.after",
    "append.before",
    "append.after",
    "exit.after",
    "sync.after",
    "finish.before",
    "finish.after",
];
/// How often a worker is killed at random: an execution that outlives more of them ends lost.
const KILLS: usize = 3;
const LINES: usize = 60;

pub(crate) fn add(suite: &mut Suite) {
    let sshd = [Need::new("sshd", Sshd::program().is_some())];
    for at in WORKER {
        suite.plain(format!("detached_worker_killed_at_{}", at.replace('.', "_")), &sshd, move || killed_at(at));
    }
    suite.plain("detached_run_outlives_workers_that_are_killed_at_any_time", &sshd, killed_at_any_time);
    suite.plain("detached_run_is_left_by_a_server_that_stops_and_taken_up_by_the_next", &sshd, left_by_a_server);
    suite.plain("detached_run_is_for_servers", &[], not_on_this_machine);
}

/// A script that says that it ran, and then a secret and many lines on both streams, slowly.
fn body(witness: &Path, pause: &str) -> String {
    format!(
        "echo ran >>{}; n=0; while [ $n -lt {LINES} ]; do n=$((n + 1)); echo \"$n $TOKEN\"; echo \"e$n\" >&2; {pause}; \
         done; exit 7",
        witness.display()
    )
}

fn lines(of: fn(usize) -> String) -> String {
    (1..=LINES).map(of).collect()
}

/// Submits the run without a worker; tells its id.
fn submit(home: &Home, witness: &Path, pause: &str) -> String {
    let serve = home.serve(&["--roles", "api"]);
    Api::of(&serve).run(&json!({
        "kind": "script", "content": body(witness, pause), "targets": "web-1", "mode": "detached",
        "params": {"TOKEN": {"secret": "correct-horse-battery"}},
    }))
}

/// The run has come to its own end, once, and nothing of its output is lost, doubled or in clear.
fn check_whole(home: &Home, id: &str, witness: &Path) {
    let execution = home.json(&["execution", "get", id]);
    assert_eq!(execution["status"], "failed", "{execution:#}");
    let steps = home.json(&["execution", "steps", id]);
    let steps = steps.get("items").unwrap_or(&steps);
    assert_eq!((steps.as_array().map(Vec::len), &steps[0]["exit_code"]), (Some(1), &Value::from(7)), "{steps:#}");
    let output = |stream| home.ok(&["logs", id, "--raw", "--stream", stream]);
    assert_eq!(output("stdout"), lines(|n| format!("{n} ***\n")));
    assert_eq!(output("stderr"), lines(|n| format!("e{n}\n")));
    assert_eq!(content_of(witness), "ran\n");
}

fn recover(home: &Home) {
    let ended = home.run(&["worker", "--until-idle"]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    until("the end of what the dead left", || step_processes(home).is_empty().then_some(()));
}

fn killed_at(at: &str) {
    let fleet = Fleet::new();
    fleet.add("web-1", "prod");
    let home = &fleet.home;
    let witness = home.work().join("witness");
    let id = submit(home, &witness, ":");
    let ended = home.start_with(&["worker", "--until-idle"], &[("BIRUN_FAILPOINT", at)]).end();
    assert_eq!((ended.code, ended.signal), (None, Some(9)), "{ended:#?}");
    recover(home);
    if at == "start.after" {
        // It was about to be started, and never was.
        let execution = home.json(&["execution", "get", &id]);
        assert_eq!(execution["status"], "lost", "{execution:#}");
        assert!(!witness.exists());
    } else {
        check_whole(home, &id, &witness);
    }
}

fn killed_at_any_time() {
    let mut random = Random::new("detached");
    let fleet = Fleet::new();
    fleet.add("web-1", "prod");
    let home = &fleet.home;
    let witness = home.work().join("witness");
    let id = submit(home, &witness, "sleep 0.1");
    for _ in 0..KILLS {
        let worker = home.start(&["worker"]);
        std::thread::sleep(Duration::from_millis(500 + random.below(1_500)));
        worker.signal("KILL");
        let ended = worker.end();
        assert_eq!(ended.signal, Some(9), "{ended:#?}");
    }
    recover(home);
    check_whole(home, &id, &witness);
}

fn left_by_a_server() {
    let fleet = Fleet::new();
    fleet.add("web-1", "prod");
    let home = &fleet.home;
    let witness = home.work().join("witness");
    let id = submit(home, &witness, "sleep 0.1");
    let serve = home.serve(&["--drain-timeout", "0s"]);
    until("the program runs", || witness.exists().then_some(()));
    serve.process.signal("TERM");
    let ended = serve.process.end();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert_eq!(home.json(&["execution", "get", &id])["status"], "queued", "it goes on without a worker");
    recover(home);
    check_whole(home, &id, &witness);
}

fn not_on_this_machine() {
    let home = Home::new();
    let refused = home.run(&["exec", "--on", "local", "--mode", "detached", "--", "true"]);
    let told = "error: mode: detached runs are for servers over SSH: the executor `local` of target `local` cannot do \
                it\n\nhint: run it attached (--mode attached), or leave that target out\n";
    refused.fails(&home, 2, told);
}
