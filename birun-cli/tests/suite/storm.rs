//! Five hundred executions are cancelled at once. Half of them have children and grandchildren that do
//! not want to end.

use std::time::{Duration, Instant};

use birun_core::testing::harness::Suite;
use serde_json::{Value, json};

use crate::api::Api;
use crate::birun::{Home, step_processes, until};

const ALL: usize = 500;
/// As many run at once; the rest is cancelled in the queue.
const SLOTS: usize = 250;
/// Callers that cancel side by side.
const CALLERS: usize = 10;
/// Time between TERM and KILL.
const GRACE: &str = "1s";
/// A storm, and what it leaves, take no longer.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn add(suite: &mut Suite) {
    suite.plain("storm_of_cancels_leaves_no_process_and_every_slot", &[], storm);
}

/// It ends when it is told to.
const WILLING: &str = "echo begun >> begun; exec sleep 600";
/// It does not, and its child and grandchild do not either; what they wait in inherits that.
const STUBBORN: &str = "trap '' TERM
sh -c 'trap \"\" TERM; sh -c \"echo begun >> grandchildren; while :; do sleep 600; done\" & while :; do sleep 600; done' &
echo begun >> begun; while :; do sleep 600; done";

fn request(content: &str) -> Value {
    json!({"kind": "script", "title": "storm", "content": content, "interpreter": "sh", "settings": {"grace": GRACE}})
}

fn storm() {
    let began = Instant::now();
    let home = Home::new();
    let serve = home.serve(&["--slots", &SLOTS.to_string()]);
    let api = Api::of(&serve);
    let ids: Vec<String> = (0..ALL).map(|i| api.run(&request(if i % 2 == 0 { STUBBORN } else { WILLING }))).collect();
    until("every slot is taken", || (lines(&home, "begun") == SLOTS).then_some(()));
    until("the grandchildren", || (lines(&home, "grandchildren") == SLOTS / 2).then_some(()));
    cancel_all(&home, &api, &ids);
    until("the end of all", || {
        let status = api.get("/executions?status=running,queued,waiting&limit=1");
        status["items"].as_array().is_some_and(Vec::is_empty).then_some(())
    });
    assert_eq!(step_processes(&home), [0_u32; 0], "what was cancelled is over when that is told");
    for id in &ids {
        is_cancelled(&api, id);
    }
    every_slot_is_free(&home, &api);
    assert!(began.elapsed() < LIMIT, "{:?}", began.elapsed());
}

fn cancel_all(home: &Home, api: &Api, ids: &[String]) {
    std::thread::scope(|scope| {
        for part in ids.chunks(ids.len() / CALLERS) {
            scope.spawn(move || {
                let (by_command, by_api) = part.split_at(2);
                for id in by_api {
                    let answer = api.post(&format!("/executions/{id}/cancel"), None, "").expect("an answer");
                    assert_eq!(answer.status, 202, "{}", String::from_utf8_lossy(&answer.wire));
                }
                for id in by_command {
                    home.ok(&["execution", "cancel", id]);
                }
            });
        }
    });
}

/// It is told to be cancelled, and its processes, if it had any, were seen to end.
fn is_cancelled(api: &Api, id: &str) {
    let execution = api.get(&format!("/executions/{id}"));
    assert_eq!(execution["status"], "cancelled", "{execution:#}");
    for step in api.get(&format!("/executions/{id}/steps"))["items"].as_array().expect("items") {
        assert_eq!(step["status"], "cancelled", "{step:#}");
        let kill = &step["kill"]["result"];
        // What was cancelled before its process was there, or as it ended by itself, had none left.
        let expected =
            if step["started_at"].is_null() { vec![Value::Null] } else { vec![json!("confirmed"), json!("gone")] };
        assert!(expected.contains(kill), "{step:#}");
    }
}

/// As many executions as there are slots run at once: each of them waits until all have begun.
fn every_slot_is_free(home: &Home, api: &Api) {
    let content = "echo begun >> fresh; while [ ! -e go ]; do sleep 0.5; done";
    let asked = Instant::now();
    api.run(&request(content));
    until("the start of a fresh one", || (lines(home, "fresh") == 1).then_some(()));
    assert!(asked.elapsed() < Duration::from_secs(2), "it began after {:?}", asked.elapsed());
    (1..SLOTS).for_each(|_| drop(api.run(&request(content))));
    until("as many as there are slots", || (lines(home, "fresh") == SLOTS).then_some(()));
    std::fs::write(home.work().join("go"), "").expect("a file");
}

fn lines(home: &Home, name: &str) -> usize {
    std::fs::read_to_string(home.work().join(name)).unwrap_or_default().lines().count()
}
