//! Lists: their bounds, their cursors, their filters.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};

use birun_core::testing::harness::Suite;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::auth::is_problem;
use crate::coverage::sample;
use crate::support::{Api, STRANGER, delete, get, post};

/// The collections that answer pages with a cursor.
const LISTS: [&str; 7] =
    ["servers", "server-groups", "credentials", "scripts", "host-keys", "executions", "audit-logs"];

pub(crate) fn cases(suite: &mut Suite) {
    suite.test("a_page_holds_one_to_two_hundred_items", &[], limits);
    suite.test("a_cursor_walks_every_item_once_while_items_come_and_go", &[], walk);
    suite.test("a_damaged_or_foreign_cursor_is_refused", &[], bad_cursors);
    suite.test("filters_choose_and_bad_ones_are_refused", &[], filters);
    suite.test("an_unknown_project_is_not_found_anywhere", &[], projects);
    suite.test("steps_and_versions_are_paged_by_number", &[], numbered);
}

/// Random numbers for one test (xorshift); the seed is printed, so a failure can be repeated.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(test: &str) -> Self {
        let seed = given_seed();
        let seed = seed.unwrap_or_else(|| RandomState::new().build_hasher().finish() | 1);
        println!("{test}: BIRUN_TEST_SEED={seed}");
        Self(seed)
    }

    /// A number below `below`.
    pub(crate) fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(below).unwrap()).unwrap()
    }
}

/// The seed that a failure printed, to have the same numbers again.
#[expect(clippy::disallowed_methods, reason = "a variable that repeats a test")]
fn given_seed() -> Option<u64> {
    std::env::var("BIRUN_TEST_SEED").ok()?.parse().ok()
}

async fn limits() {
    let api = Api::start().await;
    for list in LISTS {
        let path = format!("/api/v1/{list}");
        for good in ["limit=1", "limit=200"] {
            api.expect(200, get(&path).query(good)).await;
        }
        for refused in ["limit=0", "limit=201", "limit=4294967295"] {
            let answer = api.send(get(&path).query(refused)).await;
            is_problem(&answer, 422, "invalid");
            assert_eq!(answer.fields(), ["limit"], "{list}");
        }
        for unreadable in ["limit=-1", "limit=many", "limit=1.5", "limit=", "limit=4294967296"] {
            let answer = api.send(get(&path).query(unreadable)).await;
            is_problem(&answer, 400, "malformed");
            assert_eq!(answer.fields(), ["limit"], "{list}?{unreadable}");
        }
    }
    for number in 0..51 {
        make_group(&api, &format!("group-{number}")).await;
    }
    let page = api.expect(200, get("/api/v1/server-groups")).await.json();
    assert_eq!(page["items"].as_array().unwrap().len(), 50);
    assert!(page["next"].is_string());
    let page = api.expect(200, get("/api/v1/server-groups").query("limit=51")).await.json();
    assert_eq!((page["items"].as_array().unwrap().len(), &page["next"]), (51, &json!(null)));
}

async fn make_group(api: &Api, name: &str) -> String {
    api.make("/api/v1/server-groups", json!({"name": name})).await["id"].as_str().unwrap().to_owned()
}

fn ids(page: &Value) -> Vec<String> {
    page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

/// Items that are there from the beginning to the end of a walk are met exactly once, whatever is
/// added or deleted meanwhile, the item that the cursor stands on included.
async fn walk() {
    let mut dice = Dice::new("walk");
    for round in 0..8 {
        let api = Api::start().await;
        let mut stay = BTreeSet::new();
        for number in 0..20 + dice.roll(20) {
            stay.insert(make_group(&api, &format!("first-{number}")).await);
        }
        let mut met = Vec::new();
        let mut cursor = String::new();
        let mut added = 0;
        loop {
            let limit = 1 + dice.roll(7);
            let page = get("/api/v1/server-groups").query(&format!("limit={limit}{cursor}"));
            let page = api.expect(200, page).await.json();
            let found = ids(&page);
            assert!(found.len() <= limit);
            assert!(page["next"].is_null() || found.len() == limit, "a page that is not full has no next");
            if dice.roll(3) == 0
                && let Some(last) = found.last()
            {
                // The cursor's own item goes away: the walk goes on behind it.
                api.expect(204, delete(&format!("/api/v1/server-groups/{last}"))).await;
            }
            met.extend(found);
            for _ in 0..dice.roll(3) {
                added += 1;
                make_group(&api, &format!("later-{added}")).await;
            }
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert!(met.is_sorted_by(|a, b| a > b), "round {round}: newest first, without repetition: {met:?}");
        assert_eq!(met.iter().cloned().collect::<BTreeSet<_>>(), stay, "round {round}");
    }
}

async fn bad_cursors() {
    let api = Api::start().await;
    let mut cursors = Vec::new();
    for (list, operation) in [
        ("servers", "create_server"),
        ("server-groups", "create_server_group"),
        ("credentials", "create_credential"),
        ("scripts", "create_script"),
        ("executions", "create_execution"),
    ] {
        for name in ["one", "two"] {
            let mut body = sample(operation);
            if list != "executions" {
                body["name"] = json!(name);
            }
            assert!(api.send(post(&format!("/api/v1/{list}")).json(&body)).await.status.is_success());
        }
        let page = api.expect(200, get(&format!("/api/v1/{list}")).query("limit=1")).await.json();
        cursors.push((list, page["next"].as_str().unwrap().to_owned()));
    }
    for (list, cursor) in &cursors {
        let path = format!("/api/v1/{list}");
        api.expect(200, get(&path).query(&format!("cursor={cursor}"))).await;
        let foreign = cursors.iter().filter(|(other, _)| other != list).map(|(_, cursor)| cursor.clone());
        let mut bad: Vec<String> = foreign.collect();
        bad.extend(["", "x", "0", "null", "%00", "'%20OR%201=1", "%F0%9F%92%A5"].map(str::to_owned));
        bad.extend([Uuid::now_v7().to_string(), Uuid::nil().simple().to_string(), format!("{cursor}0")]);
        bad.push(cursor[1..].to_owned());
        for at in 0..cursor.len() {
            let digit = if &cursor[at..=at] == "0" { "1" } else { "0" };
            bad.push(format!("{}{digit}{}", &cursor[..at], &cursor[at + 1..]));
        }
        for bad in bad {
            let answer = api.send(get(&path).query(&format!("cursor={bad}"))).await;
            assert_eq!(answer.status.as_u16(), 400, "{list}?cursor={bad}: {}", answer.text());
            is_problem(&answer, 400, "malformed");
            assert_eq!(answer.fields(), ["cursor"]);
        }
    }
    // Steps and versions are paged by numbers, which are not cursors.
    api.expect(400, get("/api/v1/scripts/one/versions").query("before=x")).await;
}

async fn filters() {
    let api = Api::start().await;
    for (name, tags) in [("web-1", json!(["prod", "web"])), ("web-2", json!(["web"])), ("db-1", json!(["prod"]))] {
        api.make("/api/v1/servers", json!({"name": name, "host": "h", "user": "u", "tags": tags})).await;
    }
    for name in ["disk-report", "report", "other"] {
        api.make("/api/v1/scripts", json!({"name": name, "content": "print x", "targets": "local"})).await;
    }
    let run = api.expect(202, post("/api/v1/executions").json(&json!({"kind": "script", "script_id": "report"}))).await;
    api.ended(&run.json()).await;
    let fails =
        api.expect(202, post("/api/v1/executions").json(&json!({"kind": "command", "command": "exit 1"}))).await;
    let fails = api.ended(&fails.json()).await;
    let instant = fails["created_at"].as_str().unwrap();
    for (call, expected) in [
        ("servers?tag=web", 2),
        ("servers?tag=prod&limit=1", 1),
        ("servers?on=tag:prod%26tag:web", 1),
        ("servers?on=all,!web-1", 2),
        ("scripts?name=report", 2),
        ("scripts?name=REPORT", 0),
        ("scripts?name=%25", 0),
        ("scripts?name=_", 0),
        ("executions?status=failed", 1),
        ("executions?status=succeeded,failed", 2),
        ("executions?status=queued", 0),
        ("executions?kind=command", 1),
        ("executions?script=report", 1),
        ("executions?script=other", 0),
        (&format!("executions?since={instant}"), 1),
        (&format!("executions?until={instant}"), 1),
        ("executions?since=2000-01-01T00:00:00Z&until=2000-01-02T00:00:00Z", 0),
        ("audit-logs?action=server.create", 3),
        ("audit-logs?actor=nobody", 0),
        ("audit-logs?action=server", 0),
    ] {
        let page = api.expect(200, get(&format!("/api/v1/{call}"))).await.json();
        assert_eq!(page["items"].as_array().unwrap().len(), expected, "{call}");
    }
    for (call, status, field) in [
        ("servers?on=tag:", 422, "targets"),
        ("servers?tag=a%20b", 422, "tag"),
        ("executions?status=broken", 400, "status"),
        ("executions?kind=nonsense", 400, "kind"),
        ("executions?since=yesterday", 400, "since"),
        ("executions?until=2026-13-01T00:00:00Z", 400, "until"),
        ("audit-logs?resource_id=web-1", 400, "resource_id"),
        ("audit-logs?since=now", 400, "since"),
    ] {
        let answer = api.expect(status, get(&format!("/api/v1/{call}"))).await;
        assert_eq!(answer.fields(), [field], "{call}: {}", answer.text());
    }
}

async fn projects() {
    let api = Api::start().await;
    api.make("/api/v1/servers", sample("create_server")).await;
    let own = Uuid::from_u128(1).to_string();
    for project in ["default", own.as_str()] {
        let page = api.expect(200, get("/api/v1/servers").query(&format!("project={project}"))).await.json();
        assert_eq!(page["items"].as_array().unwrap().len(), 1);
    }
    for operation in api.operations().iter().filter(|operation| operation.secured) {
        for unknown in ["nobody", "", "%20", &Uuid::now_v7().to_string(), "default&project=nobody"] {
            let call = operation.call("sample").query(&format!("project={unknown}"));
            let call = if operation.takes_body { call.json(&sample(operation.id)) } else { call };
            is_problem(&api.send(call).await, 404, "not_found");
        }
    }
    // Whose project is another one does not reach this one by its name.
    let call = get("/api/v1/servers").query("project=default").token(Some(STRANGER));
    is_problem(&api.send(call).await, 404, "not_found");
    is_problem(&api.send(get("/api/v1/servers").query("project=default").token(None)).await, 401, "unauthenticated");
    let servers = api.expect(200, get("/api/v1/servers")).await.json();
    assert_eq!(servers["items"].as_array().unwrap().len(), 1, "what named an unknown project did nothing");
}

async fn numbered() {
    let api = Api::start().await;
    for number in 0..5 {
        api.make(
            "/api/v1/servers",
            json!({"name": format!("s-{number}"), "host": "h", "user": "u", "executor": "ssh"}),
        )
        .await;
    }
    let run = json!({"kind": "command", "command": "print x", "targets": "all", "strategy": {"order": "name"}});
    let run = api.expect(202, post("/api/v1/executions").json(&run)).await;
    let path = format!("{}/steps", run.header("location").unwrap());
    api.ended(&run.json()).await;
    let mut met = Vec::new();
    let mut from = Some(0);
    while let Some(next) = from {
        let page = api.expect(200, get(&path).query(&format!("limit=2&from={next}"))).await.json();
        met.extend(page["items"].as_array().unwrap().iter().map(|step| step["target"].as_str().unwrap().to_owned()));
        from = page["next"].as_u64();
    }
    assert_eq!(met, ["s-0", "s-1", "s-2", "s-3", "s-4"]);
    for bad in ["limit=0", "limit=10001"] {
        assert_eq!(api.expect(422, get(&path).query(bad)).await.fields(), ["limit"]);
    }
    api.expect(400, get(&path).query("from=-1")).await;
}
