//! What really ran, as the scripts themselves wrote it down; and what must hold whatever happened.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::api::Api;
use crate::birun::{Home, step_processes, until};

/// How a script of these tests behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It may not be run a second time.
    Once,
    /// It may, after a crash.
    Again,
    /// It fails at first and is tried again.
    Flaky,
    /// It has a child in a session of its own that does not want to end.
    Family,
}

/// Lines that every script writes to its output before it says that it comes to its end.
const LINES: u32 = 5;

/// Writes down that it begins, that it is still there, and that it ends.
const BODY: &str = r#"
say() { echo "$1 $BIRUN_EXECUTION_ID $BIRUN_STEP_ID $$" >> witness; }
say begin
i=1; while [ $i -le 5 ]; do echo "line $i of $BIRUN_STEP_ID"; say alive; sleep 0.01; i=$((i+1)); done
"#;
/// The child is a process of the step until it is killed; it holds none of the step's output.
const CHILD: &str = "setsid sh -c 'trap \"\" TERM; while :; do sleep 0.1; done' >/dev/null 2>&1 &\n";
const END: &str = "say end; echo \"end of $BIRUN_STEP_ID\"";

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Once, Self::Again, Self::Flaky, Self::Family];

    /// The request that has it run.
    pub(crate) fn request(self) -> Value {
        let retry = json!({"max_attempts": if self == Self::Flaky { 2 } else { 1 }, "backoff": {"initial": "50ms"}});
        let content = match self {
            Self::Once | Self::Again => format!("{BODY}{END}"),
            Self::Flaky => format!("{BODY}[ $BIRUN_ATTEMPT = 1 ] && exit 75\n{END}"),
            Self::Family => format!("{CHILD}{BODY}kill -s KILL $!; {END}"),
        };
        json!({
            "kind": "script",
            "title": format!("{self:?}"),
            "content": content,
            "interpreter": "sh",
            "settings": {"on_lost": if self == Self::Again { "retry" } else { "lost" }, "grace": "100ms", "retry": retry},
        })
    }
}

/// A line of the witness.
#[derive(Debug)]
struct Line {
    word: String,
    execution: String,
    step: String,
}

/// Checks that what is told agrees with what happened. Nothing is left to do when it is called.
#[track_caller]
pub(crate) fn check(home: &Home, api: &Api, accepted: &[String]) {
    until("the end of every process of a step", || step_processes(home).is_empty().then_some(()));
    let executions = api.list("/executions");
    let known: BTreeMap<&str, &Value> = executions.iter().map(|e| (e["id"].as_str().expect("an id"), e)).collect();
    for id in accepted {
        assert!(known.contains_key(id.as_str()), "{id} was accepted, and is gone");
    }
    audited(api, &known);
    let lines = witness(home);
    for line in &lines {
        assert!(known.contains_key(line.execution.as_str()), "{line:?} ran, and nobody knows it");
    }
    for (id, execution) in known {
        let ran: Vec<&Line> = lines.iter().filter(|line| line.execution == id).collect();
        agrees(api, id, execution, &ran);
    }
}

/// Each execution was accepted by an entry in the audit log, and each such entry stands for one.
fn audited(api: &Api, known: &BTreeMap<&str, &Value>) {
    let entries = api.list("/audit-logs");
    let runs = entries.iter().filter(|entry| entry["action"] == "execution.run");
    let ids: Vec<&str> = runs.map(|entry| entry["resource_id"].as_str().expect("an id")).collect();
    let unique: BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), unique.len(), "an execution was audited twice");
    assert_eq!(unique, known.keys().copied().collect::<BTreeSet<_>>());
}

/// One execution against what it wrote down itself.
fn agrees(api: &Api, id: &str, execution: &Value, ran: &[&Line]) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let status = text(&execution["status"]);
    assert!(["succeeded", "failed", "lost"].contains(&status.as_str()), "{execution:#}");
    let steps = api.get(&format!("/executions/{id}/steps"));
    let steps = steps["items"].as_array().expect("items");
    let begun: Vec<&str> = ran.iter().filter(|line| line.word == "begin").map(|line| line.step.as_str()).collect();
    let unique: BTreeSet<&str> = begun.iter().copied().collect();
    assert_eq!(begun.len(), unique.len(), "{id}: a step began twice: {ran:#?}");
    assert!(begun.len() <= steps.len(), "{id}: more began than was journalled: {ran:#?} {steps:#?}");
    no_overlap(id, ran);
    let lost = steps.iter().filter(|step| step["status"] == "lost").count();
    if execution["title"] != "Again" {
        // What was lost is the last: it was not tried again.
        assert!(lost == 0 || steps.last().is_some_and(|step| step["status"] == "lost"), "{id}: {steps:#?}");
    }
    let output = String::from_utf8(api.output(id)).expect("text");
    for step in steps.iter().filter(|step| step["status"] == "succeeded") {
        let step_id = text(&step["id"]);
        assert!(ran.iter().any(|line| line.word == "end" && line.step == step_id), "{id}: no end: {ran:#?}");
        assert_eq!((&step["exit_code"], whole(&output, &step_id)), (&json!(0), true), "{id}: {output}");
    }
    let succeeded = steps.last().is_some_and(|step| step["status"] == "succeeded");
    assert_eq!(status == "succeeded", succeeded, "{id}: {execution:#} {steps:#?}");
}

/// Nothing of an attempt is heard once the next one has begun.
fn no_overlap(id: &str, ran: &[&Line]) {
    let mut current = "";
    let mut over = BTreeSet::new();
    for line in ran {
        if line.step != current {
            over.insert(std::mem::replace(&mut current, &line.step));
        }
        assert!(!over.contains(line.step.as_str()), "{id}: two attempts at once: {ran:#?}");
    }
}

/// Whether every line of a step is there, once and in order.
fn whole(output: &str, step: &str) -> bool {
    let found: Vec<&str> = output.lines().filter(|line| line.ends_with(step)).collect();
    let lines = (1..=LINES).map(|i| format!("line {i} of {step}"));
    found == lines.chain([format!("end of {step}")]).collect::<Vec<_>>()
}

fn witness(home: &Home) -> Vec<Line> {
    let text = std::fs::read_to_string(home.work().join("witness")).unwrap_or_default();
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let line = |line: &str| match words(line).as_slice() {
        [word, execution, step, _pid] => Line { word: word.clone(), execution: execution.clone(), step: step.clone() },
        _ => panic!("a torn line: {line}"),
    };
    text.lines().map(line).collect()
}
