//! A worker that is stopped for longer than its lease lasts, and goes on when another one has taken over.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use birun_core::testing::harness::{Need, Suite};
use serde_json::{Value, json};

use crate::api::Api;
use crate::birun::{Home, Started, content_of, step_processes, until, until_within};

pub(crate) fn add(suite: &mut Suite) {
    let postgres = Need::new("postgres", psql(&url(), "SELECT 1"));
    suite.plain("worker_that_slept_through_its_lease_changes_nothing_any_more", &[postgres], sleeper);
}

/// Says that it begins, and ends when it may.
const BODY: &str = r#"say() { echo "$1 $BIRUN_EXECUTION_ID $BIRUN_STEP_ID" >> witness; }
say begin; echo "begun by $BIRUN_STEP_ID"
while [ ! -e go ]; do sleep 0.1; done
say end; echo "ended by $BIRUN_STEP_ID""#;

#[expect(clippy::disallowed_methods, reason = "the one variable that names the database of the suite")]
fn url() -> String {
    std::env::var("BIRUN_TEST_POSTGRES_URL")
        .unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned())
}

fn psql(url: &str, sql: &str) -> bool {
    let ran = Command::new("psql").args(["-X", "-q", "-d", url, "-c", sql]).output();
    ran.is_ok_and(|ran| ran.status.success())
}

/// How long a worker may take to be taken for dead, on a busy machine.
const TURN: Duration = Duration::from_secs(240);

/// A PostgreSQL schema, dropped at the end.
struct Schema(String);

impl Schema {
    fn create() -> Self {
        let name = format!("birun_nemesis_{}", std::process::id());
        let create = format!("DROP SCHEMA IF EXISTS {name} CASCADE; CREATE SCHEMA {name}");
        assert!(psql(&url(), &create), "no schema");
        Self(name)
    }

    fn url(&self) -> String {
        let url = url();
        let mark = if url.contains('?') { '&' } else { '?' };
        format!("{url}{mark}options[search_path]={}", self.0)
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        psql(&url(), &format!("DROP SCHEMA {} CASCADE", self.0));
    }
}

/// A worker on the database, and what it says of itself.
fn worker(home: &Home, database: &str, name: &str) -> (Started, PathBuf) {
    let said = home.work().join(name);
    let mut command = home.command(&["worker"]);
    command.env("BIRUN_DATABASE_URL", database).stdout(Stdio::null()).stderr(File::create(&said).expect("a file"));
    (Started::of(command.spawn().expect("birun starts")), said)
}

fn request(title: &str, on_lost: &str) -> Value {
    json!({
        "kind": "script", "title": title, "content": BODY, "interpreter": "sh",
        "settings": {"on_lost": on_lost, "grace": "100ms"},
    })
}

/// What scripts of an execution said, with the step that said it.
fn said(home: &Home, word: &str, execution: &str) -> Vec<String> {
    let text = std::fs::read_to_string(home.work().join("witness")).unwrap_or_default();
    let start = format!("{word} {execution} ");
    text.lines().filter_map(|line| line.strip_prefix(&start)).map(str::to_owned).collect()
}

/// All that is recorded of an execution.
fn record(api: &Api, id: &str) -> (Value, Value, Vec<u8>) {
    (api.get(&format!("/executions/{id}")), api.get(&format!("/executions/{id}/steps")), api.output(id))
}

fn sleeper() {
    let (home, schema) = (Home::new(), Schema::create());
    let database = schema.url();
    let migrated = home.run_with(&["admin", "migrate"], &[("BIRUN_DATABASE_URL", &database)], "");
    assert_eq!(migrated.code, Some(0), "{migrated:#?}");
    let serve = home.serve_with(&["--roles", "api"], &[("BIRUN_DATABASE_URL", &database)]);
    let api = Api::of(&serve);
    let (first, first_said) = worker(&home, &database, "first");
    let [once, again] = [("once", "lost"), ("again", "retry")].map(|(title, on)| api.run(&request(title, on)));
    let begun = |id: &str| said(&home, "begin", id).len();
    until("the start of both", || (begun(&once) == 1 && begun(&again) == 1).then_some(()));
    for id in [&once, &again] {
        until("its output", || api.output(id).ends_with(b"\n").then_some(()));
    }
    first.signal("STOP");
    let (_second, _) = worker(&home, &database, "second");
    // A lease lasts half a minute, and whoever judges it has looked on for as long.
    until_within(TURN, "the second worker's turn", || (begun(&again) == 2).then_some(()));
    until_within(TURN, "the end of what may run once", || (record(&api, &once).0["status"] == "lost").then_some(()));
    let before = record(&api, &once);
    first.signal("CONT");
    let taken_over = "another worker took the execution over";
    until("the first worker to notice", || (content_of(&first_said).matches(taken_over).count() == 2).then_some(()));
    assert_eq!(record(&api, &again).0["status"], "running", "the first worker ended what the second one runs");
    home.file("go", "");
    until("the end", || (record(&api, &again).0["status"] == "succeeded").then_some(()));
    assert_eq!(record(&api, &once), before, "what was lost was written to afterwards");
    let (begins, ends) = (said(&home, "begin", &again), said(&home, "end", &again));
    assert_eq!((begins.len(), &ends[..]), (2, &begins[1..]), "it ran twice, and only the second time to its end");
    assert_eq!((begun(&once), said(&home, "end", &once).len()), (1, 0), "what may run once ran once, and was killed");
    let (_, steps, output) = record(&api, &again);
    let steps: Vec<&Value> = steps["items"].as_array().expect("items").iter().map(|step| &step["status"]).collect();
    assert_eq!(steps, ["lost", "succeeded"]);
    let lines =
        [format!("begun by {}", begins[0]), format!("begun by {}", begins[1]), format!("ended by {}", begins[1])];
    assert_eq!(String::from_utf8_lossy(&output), format!("{}\n", lines.join("\n")));
    assert!(step_processes(&home).is_empty(), "something was left");
}
