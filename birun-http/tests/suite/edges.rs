//! The edges of requests: bodies, keys, versions, names of requests, paths, methods.

use std::sync::Arc;
use std::time::Duration;

use birun_core::engine::Limits;
use birun_core::testing::harness::Suite;
use birun_http::mount;
use birun_store::SqlStore;
use bytes::Bytes;
use futures::{StreamExt, future, stream};
use poem::http::{Method, StatusCode};
use poem::{Body, Endpoint, IntoEndpoint, Route};
use serde_json::{Value, json};

use crate::auth::is_problem;
use crate::coverage::sample;
use crate::support::{Api, Call, OWNER, delete, get, patch, post};

/// The largest bodies of most operations, and of those that take a script.
const SMALL: usize = 256 * 1024;
const LARGE: usize = 2 * 1024 * 1024;

pub(crate) fn cases(suite: &mut Suite) {
    suite.test("what_cannot_be_read_is_refused_with_its_place", &[], unreadable);
    suite.test("a_header_that_cannot_be_read_is_not_overlooked", &[], unreadable_headers);
    suite.test("a_body_is_taken_up_to_its_limit_and_not_beyond", &[], sizes);
    suite.test("a_body_without_an_end_is_cut", &[], endless);
    suite.test("only_json_is_taken", &[], media);
    suite.test("what_a_rule_refuses_names_its_fields", &[], rules);
    suite.test("one_key_and_body_are_accepted_once_also_at_the_same_time", &[], idempotent);
    suite.test("every_difference_under_one_key_is_refused", &[], other_requests);
    suite.test("a_key_is_answered_when_nothing_new_would_be_accepted", &[], answered_when_full);
    suite.test("a_retry_with_a_key_is_accepted_once", &[], idempotent_retry);
    suite.test("a_change_to_another_version_is_refused_and_changes_nothing", &[], versions);
    suite.test("of_many_changes_to_one_version_one_wins", &[], one_change_wins);
    suite.test("the_name_of_a_request_is_answered_and_audited", &[], request_ids);
    suite.test("links_follow_the_base_path", &[], base_path);
    suite.test("a_base_path_that_is_none_is_refused", &[], bad_base_path);
    suite.test("head_is_get_without_a_body_and_options_is_refused", &[], head_and_options);
}

async fn unreadable() {
    let api = Api::start().await;
    api.make("/api/v1/servers", sample("create_server")).await;
    for (path, body, field) in [
        ("servers", r#"{"name":5,"host":"h","user":"u"}"#, "name"),
        ("servers", r#"{"name":null,"host":"h","user":"u"}"#, "name"),
        ("servers", r#"{"host":"h","user":"u"}"#, "name"),
        ("servers", r#"{"name":"a","host":"h","user":"u","prot":1}"#, "prot"),
        ("servers", r#"{"name":"a","host":"h","user":"u","port":"22"}"#, "port"),
        ("servers", r#"{"name":"a","host":"h","user":"u","port":70000}"#, "port"),
        ("servers", r#"{"name":"a","host":"h","user":"u","port":-1}"#, "port"),
        ("servers", r#"{"name":"a","host":"h","user":"u","port":2.5}"#, "port"),
        ("servers", r#"{"name":"a","host":"h","user":"u","tags":"x"}"#, "tags"),
        ("servers", r#"{"name":"a","host":"h","user":"u","tags":[1]}"#, "tags[0]"),
        ("servers", r#"{"name":"a","name":"b","host":"h","user":"u"}"#, "name"),
        ("server-groups", r#"{"name":"a","host_key_policy":"loose"}"#, "host_key_policy"),
        ("scripts", r#"{"name":"a","content":["x"]}"#, "content"),
        ("scripts", r#"{"name":"a","content":"x","parameters":[{"name":"A","type":"t"}]}"#, "parameters[0].type"),
        ("scripts", r#"{"name":"a","content":"x","settings":{"retry":{"max":1}}}"#, "settings.retry.max"),
        ("executions", r#"{"kind":"nonsense"}"#, "kind"),
        ("executions", r#"{"kind":"command","command":7}"#, "command"),
        ("executions", r#"{"kind":"command","command":"x","params":{"A":[]}}"#, "params.A"),
        ("executions", r#"{"kind":"command","command":"x","strategy":{"parallel":"x"}}"#, "strategy.parallel"),
        ("executions", r#"{"kind":"command","command":"x","strategy":{"width":1}}"#, "strategy.width"),
        ("executions", r#"{"kind":"command","command":"x","timeout":5}"#, "timeout"),
        ("host-keys", r#"{"server":"a"}"#, "public_key"),
        ("admin/prune", r#"{"executions":7}"#, "executions"),
    ] {
        let call = post(&format!("/api/v1/{path}")).header("Content-Type", "application/json").body(body);
        let answer = api.send(call).await;
        is_problem(&answer, 400, "malformed");
        assert_eq!(answer.fields(), [field], "{path} {body}: {}", answer.text());
        let message = answer.json()["errors"][0]["message"].as_str().unwrap().to_owned();
        assert!(!message.is_empty() && !message.contains("line 1"), "{message}");
    }
    let deep = "[".repeat(100_000);
    let broken: [&[u8]; 9] =
        [b"", b"{", b"{]", b"nonsense", b"{\"name\":}", b"\xff\xfe", b"{} {}", b"{\"name\":\"\xff\"}", deep.as_bytes()];
    for body in broken {
        for call in [post("/api/v1/servers"), patch("/api/v1/servers/sample"), post("/api/v1/executions")] {
            let call = call.header("Content-Type", "application/json").body(body.to_vec());
            is_problem(&api.send(call).await, 400, "malformed");
        }
    }
    for path in ["/api/v1/servers/%ff", "/api/v1/scripts/x/versions/many", "/api/v1/scripts/x/versions/-1"] {
        is_problem(&api.send(get(path)).await, 400, "malformed");
    }
    let key = post("/api/v1/executions").json(&sample("create_execution"));
    for bad in ["a b", &"x".repeat(256)] {
        let answer = api.send(key.clone().header("Idempotency-Key", bad)).await;
        is_problem(&answer, 400, "malformed");
        assert_eq!(answer.fields(), ["Idempotency-Key"], "{bad}");
    }
    let listed = api.expect(200, get("/api/v1/executions")).await.json();
    assert_eq!(listed["items"], json!([]), "what was refused did nothing");
}

/// A key that was overlooked would start the work twice, a version that was overlooked would lose a change.
async fn unreadable_headers() {
    let api = Api::start().await;
    api.make("/api/v1/servers", sample("create_server")).await;
    let run = post("/api/v1/executions").json(&sample("create_execution"));
    let change = patch("/api/v1/servers/sample").json(&json!({"description": "x"}));
    let follow = get(&format!("/api/v1/executions/{}/logs", uuid::Uuid::now_v7()));
    for (call, name) in [(run, "Idempotency-Key"), (change, "If-Match"), (follow, "Last-Event-ID")] {
        for bad in ["", "é", "\u{1f4a5}"] {
            let answer = api.send(call.clone().header(name, bad)).await;
            is_problem(&answer, 400, "malformed");
            assert_eq!(answer.fields(), [name], "{bad:?}");
        }
        let twice = call.clone().header(name, "1").header(name, "2");
        let answer = api.send(twice).await;
        is_problem(&answer, 400, "malformed");
        assert_eq!(answer.fields(), [name]);
    }
    assert_eq!(api.expect(200, get("/api/v1/executions")).await.json()["items"], json!([]));
    assert_eq!(api.expect(200, get("/api/v1/servers/sample")).await.json()["version"], 1);
}

/// A body that is padded to a size.
fn padded(body: &Value, size: usize) -> String {
    let text = body.to_string();
    " ".repeat(size - text.len()) + &text
}

async fn sizes() {
    let api = Api::start().await;
    for (path, body, limit, ok) in [
        ("server-groups", json!({"name": "a"}), SMALL, 201),
        ("scripts", json!({"name": "a", "content": "print x"}), LARGE, 201),
        ("executions", sample("create_execution"), LARGE, 202),
    ] {
        let call = post(&format!("/api/v1/{path}")).header("Content-Type", "application/json");
        is_problem(&api.send(call.clone().body(padded(&body, limit + 1))).await, 413, "too_large");
        api.expect(ok, call.body(padded(&body, limit))).await;
    }
    // The script has its own limit inside the body's, and says which field it is about.
    let whole = json!({"name": "whole", "content": "x".repeat(1 << 20)});
    api.expect(201, post("/api/v1/scripts").json(&whole)).await;
    let large = json!({"name": "large", "content": "x".repeat((1 << 20) + 1)});
    let answer = api.send(post("/api/v1/scripts").json(&large)).await;
    is_problem(&answer, 413, "too_large");
    assert_eq!(answer.fields(), ["content"]);
}

async fn endless() {
    let api = Api::start().await;
    let (sender, mut pulled) = tokio::sync::mpsc::unbounded_channel();
    let spaces = stream::repeat_with(move || {
        let _gone = sender.send(());
        Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 4096]))
    });
    let call = post("/api/v1/servers").header("Content-Type", "application/json");
    let response = api.app.get_response(call.request_with(Body::from_bytes_stream(spaces))).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let mut chunks = 0;
    while pulled.try_recv().is_ok() {
        chunks += 1;
    }
    assert!(chunks <= SMALL / 4096 + 2, "{chunks} chunks were read");
    // A body that breaks off is not taken for a whole one.
    let torn = stream::iter([Ok(Bytes::from_static(b"{\"name\":\"x\"}")), Err(std::io::Error::other("gone"))]);
    let call = post("/api/v1/server-groups").header("Content-Type", "application/json");
    let response = api.app.get_response(call.request_with(Body::from_bytes_stream(torn))).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let groups = api.expect(200, get("/api/v1/server-groups")).await.json();
    assert_eq!(groups["items"], json!([]));
    // A request whose client is gone before its body was read leaves nothing behind.
    let never = Body::from_bytes_stream(stream::pending::<std::io::Result<Bytes>>().boxed());
    let abandoned = api.app.get_response(call.request_with(never));
    assert!(tokio::time::timeout(Duration::from_millis(10), abandoned).await.is_err());
}

async fn media() {
    let api = Api::start().await;
    let mut made = 0;
    for (media, accepted) in [
        ("application/json", true),
        ("application/json; charset=utf-8", true),
        ("APPLICATION/JSON", true),
        ("text/plain", false),
        ("text/json", false),
        ("application/x-www-form-urlencoded", false),
        ("multipart/form-data; boundary=x", false),
        ("application/jsonx", false),
        ("json", false),
        ("", false),
        ("text/plain; application/json", false),
    ] {
        made += 1;
        let body = json!({"name": format!("g-{made}")}).to_string();
        let answer = api.send(post("/api/v1/server-groups").header("Content-Type", media).body(body)).await;
        if accepted {
            assert_eq!(answer.status.as_u16(), 201, "{media}: {}", answer.text());
        } else {
            is_problem(&answer, 415, "unsupported_media");
            assert!(answer.json()["hint"].as_str().unwrap().contains("application/json"), "{media}");
        }
    }
}

async fn rules() {
    let api = Api::start().await;
    api.make(
        "/api/v1/scripts",
        json!({
            "name": "strict", "content": "print x", "targets": "local",
            "parameters": [
                {"name": "LIMIT", "type": "number", "required": true},
                {"name": "KIND", "type": "choice", "choices": ["a", "b"]},
                {"name": "WORD", "type": "text", "pattern": "^[a-z]+$"},
            ],
        }),
    )
    .await;
    api.make("/api/v1/scripts", json!({"name": "homeless", "content": "print x"})).await;
    let strict = |params: Value| json!({"kind": "script", "script_id": "strict", "params": params});
    for (path, body, code, field) in [
        ("servers", json!({"name": "a b", "host": "h", "user": "u"}), "invalid", "name"),
        ("servers", json!({"name": "local", "host": "h", "user": "u"}), "invalid", "name"),
        ("servers", json!({"name": "0123456789", "host": "h", "user": "u"}), "invalid", "name"),
        ("servers", json!({"name": "a", "host": "", "user": "u"}), "invalid", "host"),
        ("servers", json!({"name": "a", "host": "h", "user": ""}), "invalid", "user"),
        ("servers", json!({"name": "a", "host": "h", "user": "u", "port": 0}), "invalid", "port"),
        ("servers", json!({"name": "a", "host": "h", "user": "u", "tags": ["x", "a b"]}), "invalid", "tags.1"),
        ("host-keys", json!({"server": "web-1", "public_key": "x", "status": "pending"}), "invalid", "status"),
        ("credentials", json!({"name": "a"}), "invalid", "private_key"),
        ("credentials", json!({"name": "a", "agent": {"socket": "agent"}}), "invalid", "agent.socket"),
        ("credentials", json!({"name": "a", "agent": {"fingerprint": "MD5:x"}}), "invalid", "agent.fingerprint"),
        ("credentials", json!({"name": "a", "agent": {}, "password": "p", "order": ["agent"]}), "invalid", "order"),
        ("credentials", json!({"name": "a", "password": "p", "order": ["password", "password"]}), "invalid", "order"),
        ("credentials", json!({"name": "a", "password": ""}), "invalid", "password"),
        ("credentials", json!({"name": "a", "answers": []}), "invalid", "answers"),
        (
            "credentials",
            json!({"name": "a", "answers": [{"prompt": "", "answer": "x"}]}),
            "invalid",
            "answers.0.prompt",
        ),
        (
            "credentials",
            json!({"name": "a", "answers": [{"prompt": "*", "answer": ""}]}),
            "invalid",
            "answers.0.answer",
        ),
        ("credentials", json!({"name": "a", "certificate": "c"}), "invalid", "certificate"),
        ("credentials", json!({"name": "a", "password": "p", "certificate": "c"}), "invalid", "certificate"),
        ("scripts", json!({"name": "a", "content": "x", "interpreter": "ruby"}), "invalid", "interpreter"),
        ("scripts", json!({"name": "a", "content": "x", "timeout": "soon"}), "invalid", "timeout"),
        ("scripts", json!({"name": "a", "content": "x", "targets": "tag:"}), "invalid", "targets"),
        ("executions", json!({"kind": "command"}), "invalid", "command"),
        ("executions", json!({"kind": "command", "command": "x", "content": "y"}), "invalid", "content"),
        ("executions", json!({"kind": "command", "command": "x", "timeout": "0s"}), "invalid", "timeout"),
        (
            "executions",
            json!({"kind": "command", "command": "x", "strategy": {"parallel": 0}}),
            "invalid",
            "strategy.parallel",
        ),
        ("executions", json!({"kind": "script", "script_id": "homeless"}), "invalid", "targets"),
        ("executions", strict(json!({})), "missing_parameter", "params.LIMIT"),
        ("executions", strict(json!({"LIMIT": "x"})), "invalid", "params.LIMIT"),
        ("executions", strict(json!({"LIMIT": 1, "KIND": "c"})), "invalid", "params.KIND"),
        ("executions", strict(json!({"LIMIT": 1, "WORD": "A1"})), "invalid", "params.WORD"),
        ("executions", strict(json!({"LIMIT": 1, "OTHER": 1})), "unknown_parameter", "params.OTHER"),
    ] {
        let answer = api.send(post(&format!("/api/v1/{path}")).json(&body)).await;
        is_problem(&answer, 422, code);
        assert_eq!(answer.fields().first().map(String::as_str), Some(field), "{path} {body}: {}", answer.text());
    }
    let none = json!({"kind": "command", "command": "x", "targets": "tag:none"});
    is_problem(&api.send(post("/api/v1/executions").json(&none)).await, 422, "no_target_matched");
    let job = json!({"kind": "job", "job": "nothing"});
    is_problem(&api.send(post("/api/v1/executions").json(&job)).await, 422, "not_registered");
}

fn keyed(path: &str, key: &str, body: &Value) -> Call {
    post(path).json(body).header("Idempotency-Key", key)
}

async fn idempotent() {
    let api = Api::start().await;
    let body = json!({"kind": "command", "command": "print x", "params": {"A": {"secret": "hunter2"}}});
    for round in 0..5 {
        let key = format!("key-{round}");
        let calls = (0..16).map(|_| api.expect(202, keyed("/api/v1/executions", &key, &body)));
        let answers = future::join_all(calls).await;
        let first = answers[0].json();
        for answer in &answers {
            assert_eq!(answer.json()["id"], first["id"]);
            assert_eq!(answer.header("location"), answers[0].header("location"));
        }
        api.ended(&first).await;
        // Long after, it is the same one still; how it stands is told as it is now.
        let later = api.expect(202, keyed("/api/v1/executions", &key, &body)).await.json();
        assert_eq!((&later["id"], &later["status"]), (&first["id"], &json!("succeeded")));
    }
    assert_eq!(api.local.runs().len(), 5);
    let audit = api.expect(200, get("/api/v1/audit-logs").query("action=execution.run")).await.json();
    assert_eq!(audit["items"].as_array().unwrap().len(), 5, "what was accepted once is audited once");
    // Without a key, each is one of its own.
    let post = || api.expect(202, post("/api/v1/executions").json(&body));
    assert_ne!(post().await.json()["id"], post().await.json()["id"]);
}

async fn other_requests() {
    let api = Api::start().await;
    api.make("/api/v1/servers", json!({"name": "web", "host": "h", "user": "u", "executor": "ssh"})).await;
    api.make("/api/v1/scripts", json!({"name": "one", "content": "print x", "targets": "local"})).await;
    api.make("/api/v1/scripts", json!({"name": "two", "content": "print x", "targets": "local"})).await;
    let requests = [
        json!({"kind": "command", "command": "print x"}),
        json!({"kind": "command", "command": "print y"}),
        json!({"kind": "command", "command": ["print", "x"]}),
        json!({"kind": "command", "command": "print x", "params": {"A": "1"}}),
        json!({"kind": "command", "command": "print x", "params": {"A": 1}}),
        json!({"kind": "command", "command": "print x", "params": {"A": {"secret": "1"}}}),
        json!({"kind": "command", "command": "print x", "params": {"A": {"secret": "2"}}}),
        json!({"kind": "command", "command": "print x", "targets": "web"}),
        json!({"kind": "command", "command": "print x", "timeout": "5m"}),
        json!({"kind": "command", "command": "print x", "strategy": {"parallel": 2}}),
        json!({"kind": "command", "command": "print x", "settings": {"retry": {"max_attempts": 2}}}),
        json!({"kind": "script", "content": "print x", "interpreter": "sh"}),
        json!({"kind": "script", "content": "print y", "interpreter": "sh"}),
        json!({"kind": "script", "content": "print x", "interpreter": "bash"}),
        json!({"kind": "script", "content": "print x", "interpreter": "sh", "title": "t"}),
        json!({"kind": "script", "script_id": "one"}),
        json!({"kind": "script", "script_id": "one", "script_version": 1}),
        json!({"kind": "script", "script_id": "two"}),
    ];
    for (at, first) in requests.iter().enumerate() {
        let key = format!("key-{at}");
        let made = api.expect(202, keyed("/api/v1/executions", &key, first)).await.json();
        for (other_at, other) in requests.iter().enumerate() {
            let answer = api.send(keyed("/api/v1/executions", &key, other)).await;
            if at == other_at {
                assert_eq!(answer.json()["id"], made["id"]);
            } else {
                is_problem(&answer, 409, "conflict");
                assert_eq!(answer.fields(), ["idempotency_key"], "{first} {other}");
            }
        }
    }
    // Spelled in another way, it is the same request.
    let spelled = "{ \"command\" : \"print x\",\n \"kind\":\"command\", \"params\": {} }";
    let again =
        post("/api/v1/executions").header("Content-Type", "application/json").header("Idempotency-Key", "key-0");
    api.expect(202, again.body(spelled)).await;
    // What was refused has used no key up.
    let refused = json!({"kind": "command", "command": "x", "targets": "tag:none"});
    api.expect(422, keyed("/api/v1/executions", "free", &refused)).await;
    api.expect(202, keyed("/api/v1/executions", "free", &requests[0])).await;
}

/// The same key and body have the same answer although the queue is full, or what they named is gone.
async fn answered_when_full() {
    let limits = Limits { queued: 2, ..Limits::default() };
    let store = Arc::new(SqlStore::memory().await.unwrap());
    let api = Api::stopped(store, |builder| builder.limits(limits), |mount| mount).await;
    api.make("/api/v1/scripts", json!({"name": "one", "content": "print x", "targets": "local"})).await;
    let run = json!({"kind": "script", "script_id": "one"});
    let first = api.expect(202, keyed("/api/v1/executions", "one", &run)).await.json();
    api.expect(202, post(&format!("/api/v1/executions/{}/cancel", first["id"].as_str().unwrap()))).await;
    let retry = format!("/api/v1/executions/{}/retry", first["id"].as_str().unwrap());
    let retried = api.expect(202, keyed(&retry, "two", &json!({}))).await.json();
    api.expect(202, post("/api/v1/executions").json(&run)).await;
    is_problem(&api.send(keyed("/api/v1/executions", "three", &run)).await, 429, "rate_limited");
    let again = || api.expect(202, keyed("/api/v1/executions", "one", &run));
    assert_eq!(again().await.json()["id"], first["id"], "the queue is full, and this is in it");
    assert_eq!(api.expect(202, keyed(&retry, "two", &json!({}))).await.json()["id"], retried["id"]);
    api.expect(204, delete("/api/v1/scripts/one")).await;
    assert_eq!(again().await.json()["id"], first["id"], "the script is gone, and the answer stands");
    is_problem(&api.send(keyed("/api/v1/executions", "one", &sample("create_execution"))).await, 409, "conflict");
}

async fn idempotent_retry() {
    let api = Api::start().await;
    let run =
        api.expect(202, keyed("/api/v1/executions", "run", &json!({"kind": "command", "command": "exit 1"}))).await;
    let path = format!("{}/retry", run.header("location").unwrap());
    api.ended(&run.json()).await;
    let calls = (0..8).map(|_| api.expect(202, keyed(&path, "again", &json!({"failed_only": true}))));
    let answers = future::join_all(calls).await;
    let again = answers[0].json();
    assert!(answers.iter().all(|answer| answer.json()["id"] == again["id"]));
    assert_eq!(again["retry_of"], run.json()["id"]);
    api.ended(&again).await;
    assert_eq!(api.local.runs().len(), 2);
    for call in [
        keyed(&path, "again", &json!({})),
        keyed(&path, "run", &json!({})),
        keyed(
            &format!("/api/v1/executions/{}/retry", again["id"].as_str().unwrap()),
            "again",
            &json!({"failed_only": true}),
        ),
        keyed("/api/v1/executions", "again", &json!({"kind": "command", "command": "exit 1"})),
    ] {
        let answer = api.send(call).await;
        is_problem(&answer, 409, "conflict");
        assert_eq!(answer.fields(), ["idempotency_key"]);
    }
}

async fn versions() {
    let api = Api::start().await;
    for (collection, operation) in [
        ("servers", "create_server"),
        ("server-groups", "create_server_group"),
        ("credentials", "create_credential"),
        ("scripts", "create_script"),
    ] {
        let made = api.expect(201, post(&format!("/api/v1/{collection}")).json(&sample(operation))).await;
        assert_eq!(made.header("etag"), Some("\"1\""));
        let path = format!("/api/v1/{collection}/sample");
        let change = |tag: &str, text: &str| patch(&path).json(&json!({"description": text})).header("If-Match", tag);
        let changed = api.expect(200, change("\"1\"", "second")).await;
        assert_eq!((changed.header("etag"), &changed.json()["version"]), (Some("\"2\""), &json!(2)));
        for stale in ["\"1\"", "\"3\"", "\"0\"", "\"18446744073709551615\""] {
            is_problem(&api.send(change(stale, "stale")).await, 412, "stale_version");
            is_problem(&api.send(delete(&path).header("If-Match", stale)).await, 412, "stale_version");
        }
        // Weak tags, lists, and what is no tag at all: birun answered none of these.
        for bad in ["W/\"2\"", "2", "\"2", "\"x\"", "\"2\", \"3\"", "", "\"-1\"", "\"18446744073709551616\""] {
            for call in [change(bad, "bad"), delete(&path).header("If-Match", bad)] {
                let answer = api.send(call).await;
                is_problem(&answer, 400, "malformed");
                assert_eq!(answer.fields(), ["If-Match"], "{bad}");
            }
        }
        let now = api.expect(200, get(&path)).await;
        assert_eq!((now.header("etag"), &now.json()["description"]), (Some("\"2\""), &json!("second")));
        // `*` fits every version, and so does asking for none.
        assert_eq!(api.expect(200, change("*", "third")).await.header("etag"), Some("\"3\""));
        let unasked = patch(&path).json(&json!({"description": "fourth"}));
        assert_eq!(api.expect(200, unasked).await.header("etag"), Some("\"4\""));
        api.expect(204, delete(&path).header("If-Match", "\"4\"")).await;
        is_problem(&api.send(change("*", "gone")).await, 404, "not_found");
    }
}

async fn one_change_wins() {
    let api = Api::start().await;
    api.make("/api/v1/servers", sample("create_server")).await;
    for version in 1..6 {
        let calls = (0..8).map(|number| {
            let change = patch("/api/v1/servers/sample").json(&json!({"description": format!("{version}-{number}")}));
            api.send(change.header("If-Match", format!("\"{version}\"")))
        });
        let answers = future::join_all(calls).await;
        let (won, lost): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == StatusCode::OK);
        assert_eq!(won.len(), 1);
        lost.iter().for_each(|answer| is_problem(answer, 412, "stale_version"));
        let now = api.expect(200, get("/api/v1/servers/sample")).await.json();
        assert_eq!(now, won[0].json());
    }
}

async fn request_ids() {
    let api = Api::start().await;
    let longest = "x".repeat(64);
    let make = |name: &str| post("/api/v1/server-groups").json(&json!({"name": name}));
    for (number, id) in ["req-7.a_B", "1", longest.as_str()].into_iter().enumerate() {
        let answer = api.expect(201, make(&format!("taken-{number}")).header("X-Request-Id", id)).await;
        assert_eq!(answer.header("x-request-id"), Some(id));
        let audit = api.expect(200, get("/api/v1/audit-logs").query("limit=1")).await.json();
        assert_eq!(audit["items"][0]["request_id"], id);
        let refused = api.send(make("a b").header("X-Request-Id", id)).await;
        assert_eq!(refused.json()["request_id"], id);
    }
    let long = "x".repeat(65);
    for (number, bad) in ["", "a b", "a\tb", "<script>", "é", "a;b", "../x", "${jndi}", &long].into_iter().enumerate()
    {
        let answer = api.expect(201, make(&format!("made-{number}")).header("X-Request-Id", bad)).await;
        let id = answer.header("x-request-id").unwrap();
        assert!(id != bad && id.len() == 32 && id.chars().all(|c| c.is_ascii_hexdigit()), "{id}");
        let audit = api.expect(200, get("/api/v1/audit-logs").query("limit=1")).await.json();
        assert_eq!(audit["items"][0]["request_id"], id);
    }
    let ids = future::join_all((0..20).map(|_| api.send(get("/healthz")))).await;
    let ids: std::collections::BTreeSet<_> = ids.iter().map(|answer| answer.header("x-request-id").unwrap()).collect();
    assert_eq!(ids.len(), 20, "each request has a name of its own");
}

async fn base_path() {
    let api = Api::start().await;
    let auth = birun_core::identity::Principal::local("ana");
    let token = birun_http::BearerToken::new(&birun_core::vault::Secret::new(OWNER), auth);
    let app = mount(&api.engine).auth(token).base_path("/ops").build().unwrap();
    assert_eq!(app.base_path(), "/ops");
    let route = Route::new().nest("/ops", app).at("/own", poem::endpoint::make_sync(|_| "own")).into_endpoint();
    let ask = async |call: Call| {
        let response = poem::Endpoint::get_response(&route, call.request()).await;
        let (status, location) = (response.status().as_u16(), response.header("location").map(str::to_owned));
        (status, location, response.into_body().into_string().await.unwrap())
    };
    let (status, location, made) = ask(post("/ops/api/v1/servers").json(&sample("create_server"))).await;
    let made: Value = serde_json::from_str(&made).unwrap();
    assert_eq!((status, location), (201, Some(format!("/ops/api/v1/servers/{}", made["id"].as_str().unwrap()))));
    let (status, location, _) = ask(post("/ops/api/v1/executions").json(&sample("create_execution"))).await;
    assert!(status == 202 && location.as_ref().unwrap().starts_with("/ops/api/v1/executions/"), "{location:?}");
    assert_eq!(ask(get(&location.unwrap())).await.0, 200);
    for public in
        ["/ops/healthz", "/ops/readyz", "/ops/api/docs", "/ops/api/docs/rapidoc.js", "/ops/api/v1/openapi.json"]
    {
        assert_eq!(ask(get(public).token(None)).await.0, 200, "{public}");
    }
    assert_eq!(ask(get("/ops/api/v1/servers").token(None)).await.0, 401);
    let (status, _, problem) = ask(get("/ops/nothing")).await;
    assert!(status == 404 && problem.contains("\"not_found\""), "{problem}");
    assert_eq!(ask(get("/own")).await.2, "own");
    let document: Value = serde_json::from_str(&ask(get("/ops/api/v1/openapi.json")).await.2).unwrap();
    assert_eq!(document["servers"][0]["url"], "/ops");
}

async fn bad_base_path() {
    let api = Api::start().await;
    for bad in ["ops", "//ops", "/a/../b", "/a b", "/ops?x", "https://x/ops"] {
        let error = mount(&api.engine).base_path(bad).build().unwrap_err();
        assert_eq!((error.code().as_str(), error.fields()[0].field.as_str()), ("invalid", "base_path"), "{bad}");
        assert!(error.hint().is_some());
    }
}

async fn head_and_options() {
    let api = Api::start().await;
    api.make("/api/v1/servers", sample("create_server")).await;
    let run = api.expect(202, post("/api/v1/executions").json(&json!({"kind": "command", "command": "hang"}))).await;
    let logs = format!("{}/logs", run.header("location").unwrap());
    for path in ["/healthz", "/api/v1/servers", "/api/v1/servers/sample", "/api/v1/openapi.json", &logs] {
        let with = api.expect(200, get(path)).await;
        let without = api.expect(200, Call::new(Method::HEAD, path)).await;
        assert!(without.body.is_empty() && !with.body.is_empty(), "{path}");
        for header in ["etag", "content-type"] {
            assert_eq!(without.header(header), with.header(header), "{path} {header}");
        }
        let options = api.send(Call::new(Method::OPTIONS, path)).await;
        is_problem(&options, 405, "malformed");
        assert!(options.header("allow").unwrap().split(", ").any(|method| method == "GET"), "{path}");
        assert_eq!(options.header("access-control-allow-origin"), None);
    }
    // A follower without a body follows nothing: it ends although the execution does not.
    api.expect(200, Call::new(Method::HEAD, &logs).query("follow=true")).await;
    api.expect(202, post(&format!("{}/cancel", run.header("location").unwrap()))).await;
    api.ended(&run.json()).await;
}
