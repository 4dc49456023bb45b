//! The process is killed: at every milestone, and at any time. What was accepted is never lost, never
//! told to have succeeded when it did not, and never run more often than it may be.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use birun_core::testing::harness::Suite;

use crate::api::Api;
use crate::birun::{Ended, Home, Served, Started, step_processes, until};
use crate::random::Random;
use crate::witness::{Kind, check};

/// Where a worker can die. Each is reached by the executions of [`Kind`].
const WORKER: [&str; 15] = [
    "claim.before",
    "claim.after",
    "start.before",
    "start.after",
    "spawn.after",
    "append.before",
    "append.after",
    "exit.after",
    "sync.after",
    "end.before",
    "end.after",
    "finish.before",
    "finish.after",
    "commit.before",
    "commit.after",
];
/// A worker does not commit more often for one execution of each kind.
const MOST_COMMITS: usize = 60;
/// How often the server is killed at random, unless `BIRUN_TEST_KILL_ROUNDS` says otherwise.
const ROUNDS: usize = 60;
/// Callers that submit all the while.
const SUBMITTERS: usize = 4;
const TOKEN: &str = "0123456789abcdef";

pub(crate) fn add(suite: &mut Suite) {
    for at in WORKER {
        suite.plain(format!("worker_killed_at_{}", at.replace('.', "_")), &[], move || worker_killed(at));
    }
    // A client claims what it submits as it submits it.
    for at in WORKER.into_iter().filter(|at| *at != "claim.after").chain(["submit.before", "submit.after"]) {
        suite.plain(format!("client_killed_at_{}", at.replace('.', "_")), &[], move || client_killed(at));
    }
    for at in ["submit.before", "submit.after"] {
        suite.plain(format!("server_killed_at_{}", at.replace('.', "_")), &[], move || server_killed(at));
    }
    suite.plain("worker_killed_before_each_of_its_commits", &[], || each_commit("commit.before"));
    suite.plain("worker_killed_after_each_of_its_commits", &[], || each_commit("commit.after"));
    suite.plain("failpoint_that_is_none_is_refused", &[], no_failpoint);
    suite.plain("server_killed_at_any_time_under_load", &[], any_time);
}

/// A worker dies at a milestone; the next one takes up what it left.
fn worker_killed(at: &str) {
    let home = Home::new();
    let serve = home.serve(&["--roles", "api"]);
    let api = Api::of(&serve);
    let accepted: Vec<String> = Kind::ALL.iter().map(|kind| api.run(&kind.request())).collect();
    dies(home.start_with(&["worker", "--until-idle"], &[("BIRUN_FAILPOINT", at)]));
    recover(&home);
    check(&home, &api, &accepted);
}

/// `birun run`, which needs no server, dies at a milestone; the next birun takes up what it left.
fn client_killed(at: &str) {
    let home = Home::new();
    let retry = if at.starts_with("end.") { Kind::Flaky } else { Kind::Once };
    let body = retry.request();
    let script = home.file("script.sh", body["content"].as_str().expect("a body"));
    let mut create = vec!["script", "create", body["title"].as_str().expect("a title"), "--file", &script];
    create.extend(["--on", "local", "--interpreter", "sh", "--grace", "100ms"]);
    if retry == Kind::Flaky {
        create.extend(["--attempts", "2"]);
    }
    home.ok(&create);
    dies(home.start_with(&["run", body["title"].as_str().expect("a title")], &[("BIRUN_FAILPOINT", at)]));
    recover(&home);
    let serve = home.serve(&["--roles", "api"]);
    check(&home, &Api::of(&serve), &[]);
}

/// The server dies while it accepts: the caller hears nothing, and asks again with the same key.
fn server_killed(at: &str) {
    let home = Home::new();
    let serve = home.serve_with(&[], &[("BIRUN_FAILPOINT", at)]);
    let body = Kind::Once.request().to_string();
    let unanswered = Api::of(&serve).post("/executions", Some("key-1"), &body);
    assert!(unanswered.is_err(), "{unanswered:?}");
    dies(serve.process);
    let serve = home.serve(&["--roles", "api"]);
    let api = Api::of(&serve);
    let there = api.list("/executions").len();
    assert_eq!(there, usize::from(at == "submit.after"), "what is accepted is durable, and what is not is nothing");
    let answer = api.post("/executions", Some("key-1"), &body).expect("an answer");
    assert_eq!(answer.status, 202);
    recover(&home);
    assert_eq!(api.list("/executions").len(), 1);
    check(&home, &api, &[answer.json()["id"].as_str().expect("an id").to_owned()]);
}

/// A worker dies at its first commit, the next at its second, and so on, until one lives.
fn each_commit(at: &str) {
    let home = Home::new();
    let serve = home.serve(&["--roles", "api"]);
    let api = Api::of(&serve);
    let mut accepted = Vec::new();
    for n in 1..MOST_COMMITS {
        accepted.extend([Kind::Once, Kind::Again, Kind::Flaky].map(|kind| api.run(&kind.request())));
        let failpoint = format!("{at}:{n}");
        let ended = home.start_with(&["worker", "--until-idle"], &[("BIRUN_FAILPOINT", &failpoint)]).end();
        if ended.code == Some(0) {
            check(&home, &api, &accepted);
            assert!(n > 5, "a worker that lived after {n} commits has done nothing");
            return;
        }
        was_killed(&ended);
        recover(&home);
    }
    panic!("no worker came to its end");
}

fn no_failpoint() {
    let home = Home::new();
    home.run_with(&["status"], &[("BIRUN_FAILPOINT", "claim.after:0")], "").fails(
        &home,
        2,
        "error: BIRUN_FAILPOINT: `0` is not a number from 1 on\n",
    );
}

#[track_caller]
fn dies(process: Started) {
    was_killed(&process.end());
}

#[track_caller]
fn was_killed(ended: &Ended) {
    assert_eq!((ended.code, ended.signal), (None, Some(9)), "{ended:#?}");
}

/// The next worker, which has nothing more to do in the end.
#[track_caller]
fn recover(home: &Home) {
    let ended = home.run(&["worker", "--until-idle"]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    until("the end of what the dead left", || step_processes(home).is_empty().then_some(()));
}

/// The server is killed again and again while it works, and what it left is looked at in the end.
fn any_time() {
    let rounds = number("BIRUN_TEST_KILL_ROUNDS").unwrap_or(ROUNDS);
    let mut random = Random::new("kill");
    let home = Home::new();
    home.file("token", TOKEN);
    let address: Where = Arc::default();
    let over = Arc::new(AtomicBool::new(false));
    let submitters: Vec<JoinHandle<Vec<String>>> =
        (0..SUBMITTERS).map(|number| submitter(number, random.fork(), &address, &over)).collect();
    for _ in 0..rounds {
        let Served { process, address: now, .. } = home.serve(&["--token-file", "token"]);
        *address.lock().expect("the address") = Some(now);
        std::thread::sleep(Duration::from_millis(random.below(400)));
        process.signal("KILL");
        dies(process);
    }
    over.store(true, Ordering::SeqCst);
    let serve = home.serve(&["--token-file", "token"]);
    *address.lock().expect("the address") = Some(serve.address.clone());
    let accepted: Vec<String> =
        submitters.into_iter().flat_map(|submitter| submitter.join().expect("a submitter")).collect();
    let api = Api::of(&serve);
    until("the end of everything", || {
        let open = api.get("/executions?status=queued,running,waiting&limit=1");
        open["items"].as_array().is_some_and(Vec::is_empty).then_some(())
    });
    assert_eq!(api.list("/executions").len(), accepted.len(), "what was asked for twice under one key ran twice");
    check(&home, &api, &accepted);
    assert!(accepted.len() > rounds, "{} executions are no load", accepted.len());
}

/// Where the server is now.
type Where = Arc<Mutex<Option<String>>>;

/// Submits one execution after the other, each under a key of its own, and asks again until it is accepted.
fn submitter(number: usize, mut random: Random, address: &Where, over: &Arc<AtomicBool>) -> JoinHandle<Vec<String>> {
    let (address, over) = (Arc::clone(address), Arc::clone(over));
    std::thread::spawn(move || {
        let mut accepted = Vec::new();
        while !over.load(Ordering::SeqCst) {
            let kind = Kind::ALL[usize::try_from(random.below(4)).expect("a small number")];
            let (key, body) = (format!("{number}-{}", accepted.len()), kind.request().to_string());
            let id = until("an answer", || {
                let address = address.lock().expect("the address").clone()?;
                let answer = Api::at(&address, TOKEN).post("/executions", Some(&key), &body).ok()?;
                (answer.status == 202).then(|| answer.json()["id"].as_str().expect("an id").to_owned())
            });
            accepted.push(id);
            std::thread::sleep(Duration::from_millis(30 + random.below(60)));
        }
        accepted
    })
}

#[expect(clippy::disallowed_methods, reason = "more rounds than in every run of the tests")]
fn number(variable: &str) -> Option<usize> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}
