//! Every status that the document lists for an operation is answered here, and no other one anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use birun_core::engine::Limits;
use birun_core::testing::harness::Suite;
use birun_store::SqlStore;
use poem::http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Api, Call, Operation, VIEWER, delete, get, patch, post};

/// A host key line that nobody has recorded yet.
pub(crate) const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
const OTHER_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJqf0xbYzBOwbBhaFjrXrqTcTqyO6Bqn4gxRpzvRXUFx";

pub(crate) fn cases(suite: &mut Suite) {
    suite.test("every_documented_status_of_every_operation_is_answered", &[], everything);
}

async fn everything() {
    let api = Api::start_with(|builder| builder, |mount| mount.metrics(|| "up 1\n".to_owned())).await;
    inventory(&api).await;
    scripts(&api).await;
    executions(&api).await;
    system(&api).await;
    let twins = twins(&api).await;
    let operations = api.operations();
    for operation in &operations {
        refusals(&api, operation, &twins).await;
    }
    particular(&api, &twins).await;
    api.saw(&without_metrics().await);
    api.saw(&crowded().await);
    api.saw(&broken().await);
    let documented: BTreeSet<(String, String)> = operations
        .iter()
        .flat_map(|operation| operation.responses.keys().map(|status| (operation.id.to_owned(), status.clone())))
        .collect();
    let seen = api.seen();
    let missing: Vec<_> = documented.difference(&seen).collect();
    assert!(missing.is_empty(), "documented and never answered: {missing:?}");
}

/// A body that the operation accepts.
pub(crate) fn sample(operation: &str) -> Value {
    match operation {
        "create_server" => json!({"name": "sample", "host": "10.0.0.1", "user": "deploy"}),
        "import_servers" => json!({"servers": [sample("create_server")], "dry_run": true}),
        "create_server_group" => json!({"name": "sample"}),
        "create_script" => json!({"name": "sample", "content": "print hi"}),
        "create_credential" => json!({"name": "sample", "password": "hunter2"}),
        "create_host_key" => json!({"server": "sample", "public_key": KEY}),
        "create_execution" => json!({"kind": "command", "command": "print hi"}),
        "preview_execution" => json!({"kind": "script", "script_id": "sample"}),
        "retry_execution" => json!({"failed_only": false}),
        _ => json!({}),
    }
}

/// A body that can be read and that a rule refuses.
fn refused(operation: &str) -> Value {
    match operation {
        "create_host_key" => json!({"server": "sample", "public_key": "no key"}),
        "create_execution" | "preview_execution" => json!({"kind": "script"}),
        "import_servers" => json!({"servers": [refused("create_server")]}),
        "prune" => json!({"status": ["queued"]}),
        _ => {
            let mut body = sample(operation);
            body["name"] = json!("a b");
            body
        }
    }
}

async fn inventory(api: &Api) {
    api.make("/api/v1/server-groups", json!({"name": "db", "host_key_policy": "strict"})).await;
    let credential = json!({"name": "key", "password": "hunter2", "description": "for tests"});
    api.make("/api/v1/credentials", credential).await;
    let server = json!({
        "name": "web-1", "host": "10.0.0.9", "port": 2222, "user": "deploy", "credential": "key", "executor": "ssh",
        "tags": ["prod", "web", "prod"], "groups": ["db"], "description": "the first",
    });
    let made = api.make("/api/v1/servers", server).await;
    assert_eq!((&made["tags"], &made["groups"]), (&json!(["prod", "web"]), &json!(["db"])));
    let key = api.make("/api/v1/host-keys", json!({"server": "web-1", "public_key": KEY})).await;
    assert_eq!((&key["server"], &key["status"]), (&json!("web-1"), &json!("approved")));
    let key_path = format!("/api/v1/host-keys/{}", key["id"].as_str().unwrap());
    for path in ["servers", "server-groups", "credentials", "host-keys", "servers?on=tag:prod", "servers?tag=web"] {
        let page = api.expect(200, get(&format!("/api/v1/{path}"))).await.json();
        assert_eq!(page["items"].as_array().unwrap().len(), 1, "{path}");
    }
    for path in ["/api/v1/servers/web-1", "/api/v1/server-groups/db", "/api/v1/credentials/key", &key_path] {
        assert_eq!(api.expect(200, get(path)).await.header("etag"), Some("\"1\""), "{path}");
    }
    imports(api).await;
    let changed = patch("/api/v1/servers/web-1").json(&json!({"credential": null, "groups": []}));
    let changed = api.expect(200, changed.header("If-Match", "\"1\"")).await.json();
    assert_eq!(
        (&changed["credential_id"], &changed["groups"], &changed["version"]),
        (&json!(null), &json!([]), &json!(2))
    );
    let policy = patch("/api/v1/server-groups/db").json(&json!({"host_key_policy": null, "description": "databases"}));
    assert_eq!(api.expect(200, policy).await.json()["host_key_policy"], json!(null));
    let rotated = api.expect(200, patch("/api/v1/credentials/key").json(&json!({"password": "hunter3"}))).await.json();
    assert_eq!(rotated["version"], 2);
    assert_eq!(api.expect(200, post("/api/v1/servers/web-1/test")).await.json()["ok"], true);
    api.expect(200, post(&format!("{key_path}/approve"))).await;
    assert_eq!(api.expect(200, post(&format!("{key_path}/revoke"))).await.json()["status"], "revoked");
    api.expect(409, post(&format!("{key_path}/approve"))).await;
    for path in [&key_path, "/api/v1/servers/web-1", "/api/v1/server-groups/db", "/api/v1/credentials/key"] {
        api.expect(204, delete(path)).await;
    }
}

async fn imports(api: &Api) {
    let server =
        |name: &str, host: &str| json!({"name": name, "host": host, "port": 2222, "user": "deploy", "executor": "ssh"});
    let servers = [
        server("web-1", "10.0.0.9"),
        server("web-1", "10.0.0.1"),
        server("new", "10.0.0.2"),
        server("bad", "-oProxyCommand=x"),
    ];
    let import = |dry_run: bool| post("/api/v1/servers/import").json(&json!({"servers": servers, "dry_run": dry_run}));
    for (dry_run, status) in [(true, "would_create"), (false, "created"), (false, "exists")] {
        let report = api.expect(200, import(dry_run)).await.json();
        let items = report["items"].as_array().unwrap();
        let statuses: Vec<&str> = items.iter().map(|item| item["status"].as_str().unwrap()).collect();
        assert_eq!(statuses, ["exists", "skipped", status, "skipped"], "{report}");
        assert_eq!(items[1]["reason"], "a server of this name is at deploy@10.0.0.9, port 2222");
        assert!(items[3]["reason"].as_str().unwrap().contains("is not a host name"), "{report}");
    }
    api.expect(204, delete("/api/v1/servers/new")).await;
    let wrong = post("/api/v1/servers/import").json(&json!({"servers": [server("fine", "h"), server("a b", "h")]}));
    let problem = api.expect(422, wrong).await.json();
    assert!(problem["detail"].as_str().unwrap().contains("name"), "{problem}");
    api.expect(404, get("/api/v1/servers/fine")).await;
}

async fn scripts(api: &Api) {
    let script = json!({
        "name": "report", "content": "print one", "interpreter": "sh", "description": "what there is",
        "parameters": [
            {"name": "LIMIT", "type": "number", "default": 80},
            {"name": "TOKEN", "type": "secret", "required": true},
            {"name": "KIND", "type": "choice", "choices": ["a", "b"]},
        ],
        "targets": "local", "timeout": "5m", "settings": {"retry": {"max_attempts": 2}, "grace": "1s"},
    });
    let made = api.expect(201, post("/api/v1/scripts").json(&script)).await;
    assert_eq!(made.header("location").unwrap(), format!("/api/v1/scripts/{}", made.json()["id"].as_str().unwrap()));
    assert_eq!(made.json()["timeout"], "5m");
    let change = json!({"content": "print two", "timeout": null, "targets": null});
    let changed = api.expect(200, patch("/api/v1/scripts/report").json(&change)).await.json();
    assert_eq!((&changed["latest"], &changed["timeout"]), (&json!(2), &json!(null)));
    let listed = api.expect(200, get("/api/v1/scripts").query("name=rep")).await.json();
    assert!(listed["items"][0].get("content").is_none() && listed["items"][0]["latest"] == 2, "{listed}");
    assert_eq!(api.expect(200, get("/api/v1/scripts/report")).await.json()["content"], "print two");
    let versions = api.expect(200, get("/api/v1/scripts/report/versions").query("limit=1")).await.json();
    assert_eq!((&versions["items"][0]["number"], &versions["next"]), (&json!(2), &json!(2)));
    let older = api.expect(200, get("/api/v1/scripts/report/versions").query("before=2")).await.json();
    assert_eq!((&older["items"][0]["number"], &older["next"]), (&json!(1), &json!(null)));
    let first = api.expect(200, get("/api/v1/scripts/report/versions/1")).await.json();
    assert_eq!((&first["content"], &first["created_by"]), (&json!("print one"), &json!("owner")));
    let restored = api.expect(200, post("/api/v1/scripts/report/versions/1/restore")).await.json();
    assert_eq!((&restored["latest"], &restored["content"]), (&json!(3), &json!("print one")));
    api.expect(204, delete("/api/v1/scripts/report")).await;
}

async fn executions(api: &Api) {
    let run = post("/api/v1/executions").json(&json!({"kind": "command", "command": "exit 3", "title": null}));
    let accepted = api.expect(202, run).await;
    let (location, execution) = (accepted.header("location").unwrap().to_owned(), accepted.json());
    let ended = api.ended(&execution).await;
    assert_eq!(
        (&ended["status"], &ended["counts"]["failed"], &ended["why"]),
        (&json!("failed"), &json!(1), &json!(null))
    );
    let listed =
        api.expect(200, get("/api/v1/executions").query("status=failed,lost&kind=command&limit=1")).await.json();
    assert_eq!(listed["items"][0]["id"], execution["id"]);
    let steps = get(&format!("{location}/steps")).query("status=failed&target=local&newest_attempt=true&limit=1");
    let steps = api.expect(200, steps).await.json();
    assert_eq!((&steps["items"][0]["exit_code"], &steps["next"]), (&json!(3), &json!(1)));
    api.expect(200, get(&format!("{location}/logs"))).await;
    api.expect(200, get(&format!("{location}/logs")).query("raw=true")).await;
    api.expect(200, get(&format!("{location}/logs")).header("Accept", "text/event-stream")).await;
    api.expect(200, get(&format!("{location}/events"))).await;
    api.expect(409, post(&format!("{location}/cancel"))).await;
    let retry = post(&format!("{location}/retry")).json(&json!({"failed_only": true}));
    let again = api.expect(202, retry).await.json();
    assert_eq!((&again["retry_of"], &again["trigger"]), (&execution["id"], &json!("retry")));
    api.ended(&again).await;
    let preview = post("/api/v1/executions/preview").json(&json!({"kind": "command", "command": "exit 3"}));
    let target = json!({"target": "local", "batch": 1, "left_out": null});
    let expected = json!({"targets": [target], "total": 1, "left_out": 0, "width": 1, "batches": 1});
    assert_eq!(api.expect(200, preview).await.json(), expected);
    let hanging =
        api.expect(202, post("/api/v1/executions").json(&json!({"kind": "command", "command": "hang"}))).await;
    let hanging_at = hanging.header("location").unwrap().to_owned();
    api.expect(202, post(&format!("{hanging_at}/cancel"))).await;
    assert_eq!(api.ended(&hanging.json()).await["status"], "cancelled");
    api.expect(204, delete(&location)).await;
}

async fn system(api: &Api) {
    assert_eq!(api.expect(200, get("/healthz").token(None)).await.json(), json!({"status": "ok"}));
    assert_eq!(api.expect(200, get("/readyz").token(None)).await.json(), json!({"status": "ok", "checks": []}));
    let told = api.expect(200, get("/readyz")).await.json();
    let names: Vec<&str> =
        told["checks"].as_array().unwrap().iter().map(|check| check["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["database", "queue", "key"]);
    assert_eq!(api.expect(200, get("/metrics")).await.text(), "up 1\n");
    let status = api.expect(200, get("/api/v1/status")).await.json();
    assert_eq!((&status["queue"]["queued"], status["workers"].as_array().unwrap().len()), (&json!(0), 1));
    let audit = api.expect(200, get("/api/v1/audit-logs").query("action=server.create&actor=owner")).await.json();
    assert_eq!(audit["items"].as_array().unwrap().len(), 2, "one was created, one imported");
    let checked = api.expect(200, get("/api/v1/audit-logs/verify")).await.json();
    assert_eq!((&checked["intact"], &checked["fault"]), (&json!(true), &json!(null)));
    let pruned = api.expect(200, post("/api/v1/admin/prune").json(&json!({"executions": "7d", "audit": "30d"}))).await;
    assert_eq!(pruned.json(), json!({"executions": 0, "audit_entries": 0}));
    let rekeyed = api.expect(200, post("/api/v1/admin/rekey")).await.json();
    assert_eq!(rekeyed, json!({"resealed": 0, "left": 0}));
    api.expect(200, get("/api/v1/openapi.json").token(None)).await;
    api.expect(200, get("/api/docs").token(None)).await;
}

/// Two resources of each collection whose ids begin with the same eight digits, which stand for both.
async fn twins(api: &Api) -> BTreeMap<&'static str, String> {
    let mut twins = BTreeMap::new();
    for (collection, operation) in [
        ("servers", "create_server"),
        ("server-groups", "create_server_group"),
        ("credentials", "create_credential"),
        ("scripts", "create_script"),
        ("executions", "create_execution"),
        ("host-keys", "create_host_key"),
    ] {
        twins.insert(collection, twin(api, collection, operation).await);
    }
    twins
}

async fn twin(api: &Api, collection: &str, operation: &str) -> String {
    let mut last = String::new();
    for name in ["sample", "sample-2", "sample-3"] {
        let mut body = sample(operation);
        match collection {
            "executions" => {}
            "host-keys" => body = json!({"server": name, "public_key": OTHER_KEY}),
            _ => body["name"] = json!(name),
        }
        let made = api.send(post(&format!("/api/v1/{collection}")).json(&body)).await.json();
        let begins = made["id"].as_str().unwrap()[..8].to_owned();
        if begins == last {
            return last;
        }
        last = begins;
    }
    panic!("no two {collection} were made within a minute");
}

/// What is refused in the same way everywhere.
async fn refusals(api: &Api, operation: &Operation<'_>, twins: &BTreeMap<&str, String>) {
    let selected = operation.path.contains("{id}");
    let good = |id: &str| {
        let call = operation.call(id);
        if operation.takes_body { call.json(&sample(operation.id)) } else { call }
    };
    let unknown = Uuid::now_v7().to_string();
    if operation.secured {
        api.expect(401, good(&unknown).token(None)).await;
        api.expect(401, good(&unknown).token(Some("forged"))).await;
        api.expect(404, good(&unknown).query("project=nobody")).await;
    }
    if operation.documents("403") {
        api.expect(403, good(&unknown).token(Some(VIEWER))).await;
    }
    if operation.takes_body {
        api.expect(400, operation.call(&unknown).json(&json!({"nonsense": 1}))).await;
        api.expect(413, operation.call(&unknown).json(&json!({"name": "x".repeat(3 << 20)}))).await;
        api.expect(415, operation.call(&unknown).header("Content-Type", "text/plain").body("{}")).await;
        api.expect(415, operation.call(&unknown).body("{}")).await;
    } else if operation.documents("400") {
        let unreadable = if selected { operation.call("%ff") } else { operation.call("").query("limit=many") };
        api.expect(400, unreadable).await;
    }
    if selected {
        api.expect(404, good(&unknown)).await;
        api.expect(422, good("a%20b")).await;
        let collection = operation.path.split('/').nth(3).unwrap();
        api.expect(409, good(&twins[collection])).await;
    } else if operation.documents("422") {
        let call = operation.call("");
        let refused = if operation.takes_body { call.json(&refused(operation.id)) } else { call.query("limit=0") };
        api.expect(422, refused).await;
    }
    if operation.documents("412") {
        let collection = operation.path.split('/').nth(3).unwrap();
        let call = operation.path.replace("{id}", "sample");
        let call = Call::new(operation.method.clone(), &call).json(&json!({}));
        assert!(twins.contains_key(collection));
        api.expect(412, call.clone().header("If-Match", "\"99\"")).await;
        api.expect(400, call.header("If-Match", "99")).await;
    }
}

/// What is refused by one operation in its own way.
async fn particular(api: &Api, twins: &BTreeMap<&str, String>) {
    for operation in ["create_server", "create_server_group", "create_credential", "create_script"] {
        let path = path_of(api, operation);
        assert_eq!(api.expect(409, post(&path).json(&sample(operation))).await.code(), "conflict");
    }
    api.expect(404, get("/api/v1/servers").query("on=nobody")).await;
    assert_eq!(api.expect(422, get("/api/v1/servers").query("on=tag:none")).await.code(), "no_target_matched");
    let orphan = json!({"name": "x", "host": "h", "user": "u", "credential": "nobody"});
    api.expect(404, post("/api/v1/servers").json(&orphan)).await;
    api.expect(404, get("/api/v1/host-keys").query("server=nobody")).await;
    api.expect(409, get("/api/v1/host-keys").query(&format!("server={}", twins["servers"]))).await;
    api.expect(404, post("/api/v1/host-keys").json(&json!({"server": "nobody", "public_key": KEY}))).await;
    let again = json!({"server": "sample", "public_key": OTHER_KEY});
    api.expect(409, post("/api/v1/host-keys").json(&again)).await;
    api.expect(404, get("/api/v1/executions").query("script=nobody")).await;
    api.expect(409, get("/api/v1/executions").query(&format!("script={}", twins["scripts"]))).await;
    for path in ["/api/v1/executions", "/api/v1/executions/preview"] {
        api.expect(404, post(path).json(&json!({"kind": "script", "script_id": "nobody"}))).await;
        api.expect(409, post(path).json(&json!({"kind": "script", "script_id": twins["scripts"]}))).await;
    }
    let keyed = |command: &str| {
        let body = json!({"kind": "command", "command": command});
        post("/api/v1/executions").json(&body).header("Idempotency-Key", "one")
    };
    let first = api.expect(202, keyed("print a")).await.json();
    assert_eq!(api.expect(202, keyed("print a")).await.json()["id"], first["id"]);
    api.expect(409, keyed("print b")).await;
}

fn path_of(api: &Api, id: &str) -> String {
    api.operations().iter().find(|operation| operation.id == id).unwrap().path.to_owned()
}

/// An application whose embedder collects no metrics.
async fn without_metrics() -> Api {
    let api = Api::start().await;
    api.expect(404, get("/metrics")).await;
    api
}

/// An application whose queue is full.
async fn crowded() -> Api {
    let limits = Limits { queued: 1, ..Limits::default() };
    let store = Arc::new(SqlStore::memory().await.unwrap());
    let api = Api::stopped(store, |builder| builder.limits(limits), |mount| mount).await;
    let run = || post("/api/v1/executions").json(&sample("create_execution"));
    let ended = api.expect(202, run()).await;
    let location = ended.header("location").unwrap();
    api.expect(202, post(&format!("{location}/cancel"))).await;
    let waiting = api.expect(202, run()).await.json();
    assert!(waiting["why"].as_str().unwrap().contains("no worker"), "{waiting}");
    let full = api.expect(429, run()).await;
    assert_eq!((full.code().as_str(), full.header("retry-after")), ("rate_limited", Some("5")));
    api.expect(429, post(&format!("{location}/retry")).json(&json!({}))).await;
    api
}

/// An application whose database is gone, and whose metrics cannot be rendered.
async fn broken() -> Api {
    let store = Arc::new(SqlStore::memory().await.unwrap());
    let api = Api::stopped(store, |builder| builder, |mount| mount.metrics(|| panic!("no metrics"))).await;
    api.store.close().await;
    let id = Uuid::now_v7().to_string();
    for operation in api.operations() {
        if operation.documents("5XX") && operation.id != "get_metrics" {
            let call = operation.call(&id);
            let call = if operation.method == Method::GET { call } else { call.json(&sample(operation.id)) };
            let answer = api.expect(503, call).await;
            assert_eq!((answer.code().as_str(), answer.header("retry-after")), ("unavailable", Some("5")));
        }
    }
    assert_eq!(
        api.expect(503, get("/readyz").token(None)).await.json(),
        json!({"status": "unavailable", "checks": []})
    );
    assert_eq!(api.expect(503, get("/readyz")).await.json()["checks"][0]["ok"], false);
    let failed = api.expect(500, get("/metrics")).await;
    assert!(!failed.text().contains("no metrics"), "{}", failed.text());
    api
}
