//! Values that go in and never come out, whichever way is tried.

use birun_core::testing::harness::Suite;
use serde_json::{Value, json};

use crate::support::{Answer, Api, Call, Operation, get, patch, post};

/// Secrets that are looked for everywhere. No one is a part of another.
const PASSWORD: &str = "canary-password-5d1f";
const NEWER: &str = "canary-newer-77ac";
const PASSPHRASE: &str = "canary-passphrase-90be";
const SCRIPT_PARAM: &str = "canary-script-param-c3d4";
const AD_HOC_PARAM: &str = "canary-ad-hoc-param-e5f6";

pub(crate) fn cases(suite: &mut Suite) {
    suite.test("no_route_answers_a_secret_that_was_stored", &[], nothing_comes_out);
    suite.test("no_refusal_repeats_a_secret", &[], refusals_repeat_nothing);
    suite.test("an_empty_password_is_refused_and_changes_nothing", &[], empty_password);
    suite.plain("the_document_says_which_fields_are_write_only_and_holds_no_value", &[], document);
}

/// Panics if an answer holds a secret, in its body or in a header, plain or encoded.
fn clean(answer: &Answer, place: &str) {
    use std::fmt::Write;
    let mut text = answer.text();
    for (name, value) in &answer.headers {
        writeln!(text, "{name}: {}", String::from_utf8_lossy(value.as_bytes())).unwrap();
    }
    assert!(!text.contains("canary"), "{place}: {text}");
    assert!(!text.contains(&base64(PASSWORD)) && !text.contains(&hex(PASSWORD)), "{place}: {text}");
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD_NO_PAD.encode(text)
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

async fn send(api: &Api, call: Call) -> Answer {
    let answer = api.send(call).await;
    clean(&answer, "an answer");
    answer
}

async fn nothing_comes_out() {
    let api = Api::start().await;
    store_secrets(&api).await;
    let executions = run_with_secrets(&api).await;
    let mut asked = 0;
    for operation in api.operations().iter().filter(|operation| operation.method == poem::http::Method::GET) {
        for id in ids(&api, operation, &executions).await {
            for query in ["", "follow=false&raw=true", "after=0&limit=200"] {
                let answer = api.send(operation.call(&id).query(query)).await;
                clean(&answer, operation.id);
                asked += usize::from(answer.status.is_success());
            }
        }
    }
    assert!(asked > 60, "only {asked} answers were looked at");
    let audit = send(&api, get("/api/v1/audit-logs").query("limit=200")).await.json();
    let actions: Vec<&str> =
        audit["items"].as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    for action in ["credential.create", "credential.rotate", "script.create", "execution.run", "execution.retry"] {
        assert!(actions.contains(&action), "{action} is not among {actions:?}");
    }
    // The secrets did arrive where they are to be used, or nothing was shown here.
    let output = send(&api, get(&format!("/api/v1/executions/{}/logs", executions[0])).query("raw=true")).await;
    assert_eq!(output.text(), "before\n***\n");
}

async fn empty_password() {
    let api = Api::start().await;
    let empty = json!({"name": "n", "password": ""});
    let refused = api.expect(422, post("/api/v1/credentials").json(&empty)).await.json();
    assert_eq!(refused["errors"], json!([{"field": "password", "message": "is empty"}]));
    api.expect(404, get("/api/v1/credentials/n")).await;
    let made = json!({"name": "n", "password": PASSWORD});
    api.expect(201, post("/api/v1/credentials").json(&made)).await;
    api.expect(422, patch("/api/v1/credentials/n").json(&json!({"password": ""}))).await;
    assert_eq!(api.expect(200, get("/api/v1/credentials/n")).await.json()["version"], 1);
}

async fn store_secrets(api: &Api) {
    let credential = json!({"name": "key", "password": PASSWORD, "description": "d"});
    let made = send(api, post("/api/v1/credentials").json(&credential)).await;
    assert_eq!(made.status.as_u16(), 201, "{}", made.text());
    let changed = send(api, patch("/api/v1/credentials/key").json(&json!({"password": NEWER}))).await;
    assert_eq!(changed.status.as_u16(), 200, "{}", changed.text());
    let server = json!({"name": "web", "host": "h", "user": "u", "credential": "key", "executor": "ssh"});
    assert_eq!(send(api, post("/api/v1/servers").json(&server)).await.status.as_u16(), 201);
    let script = json!({
        "name": "report", "content": "print before\nshow TOKEN", "targets": "local",
        "parameters": [{"name": "TOKEN", "type": "secret", "required": true}],
    });
    assert_eq!(send(api, post("/api/v1/scripts").json(&script)).await.status.as_u16(), 201);
}

/// Runs what takes secrets, and answers the ids of the ended executions.
async fn run_with_secrets(api: &Api) -> Vec<String> {
    let mut ids = Vec::new();
    for body in [
        json!({"kind": "script", "script_id": "report", "params": {"TOKEN": SCRIPT_PARAM}}),
        json!({"kind": "script", "script_id": "report", "params": {"TOKEN": {"secret": SCRIPT_PARAM}}}),
        json!({"kind": "command", "command": "show WORD\nexit 1", "params": {"WORD": {"secret": AD_HOC_PARAM}}}),
        json!({"kind": "command", "command": "show WORD", "targets": "web", "params": {"WORD": {"secret": AD_HOC_PARAM}}}),
    ] {
        let run =
            send(api, post("/api/v1/executions").json(&body).header("Idempotency-Key", format!("k{}", ids.len())))
                .await;
        assert_eq!(run.status.as_u16(), 202, "{}", run.text());
        api.ended(&run.json()).await;
        ids.push(run.json()["id"].as_str().unwrap().to_owned());
    }
    let again = send(api, post(&format!("/api/v1/executions/{}/retry", ids[2])).json(&json!({}))).await;
    assert_eq!(again.status.as_u16(), 202, "{}", again.text());
    api.ended(&again.json()).await;
    ids.push(again.json()["id"].as_str().unwrap().to_owned());
    ids
}

/// What an operation is asked about.
async fn ids(api: &Api, operation: &Operation<'_>, executions: &[String]) -> Vec<String> {
    if !operation.path.contains("{id}") {
        return vec![String::new()];
    }
    let collection = operation.path.split('/').nth(3).unwrap();
    if collection == "executions" {
        return executions.to_vec();
    }
    let page = send(api, get(&format!("/api/v1/{collection}"))).await.json();
    page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

/// Bad requests of every kind, each with a secret where one may stand.
async fn refusals_repeat_nothing() {
    let api = Api::start().await;
    store_secrets(&api).await;
    let strict = json!({
        "name": "strict", "content": "print x", "targets": "local",
        "parameters": [
            {"name": "TOKEN", "type": "secret", "required": true, "pattern": "^[0-9]+$"},
            {"name": "COUNT", "type": "number"},
        ],
    });
    let made = send(&api, post("/api/v1/scripts").json(&strict)).await;
    assert!(made.status.is_success(), "{}", made.text());
    let key = format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{PASSWORD}\n-----END OPENSSH PRIVATE KEY-----\n");
    let credentials = [
        json!({"name": "a b", "password": PASSWORD}),
        json!({"name": "n", "password": [PASSWORD]}),
        json!({"name": "n", "password": {"value": PASSWORD}}),
        json!({"name": "n", "private_key": PASSWORD}),
        json!({"name": "n", "private_key": key, "passphrase": PASSPHRASE}),
        json!({"name": "n", "private_key": key, "password": PASSWORD}),
        json!({"name": "n", "passphrase": PASSPHRASE}),
        json!({"name": "n", "password": PASSWORD, "more": PASSWORD}),
        json!({"name": "n", "answers": [{"prompt": "", "answer": PASSWORD}]}),
        json!({"name": "n", "answers": [{"prompt": "*", "answer": PASSWORD, "more": PASSWORD}]}),
        json!({"name": "n", "answers": [{"prompt": "*", "answer": [PASSWORD]}]}),
        json!({"name": "n", "answers": [{"answer": PASSWORD}]}),
        json!({"name": "n", "answers": PASSWORD}),
        json!({"name": [PASSWORD]}),
        json!({"name": "key", "password": PASSWORD}),
        json!({"name": "n", "password": format!("{PASSWORD}\u{0}")}),
        json!({"name": "n", "password": PASSWORD.repeat(20_000)}),
        json!([PASSWORD]),
        json!(PASSWORD),
    ];
    let runs = [
        json!({"kind": "script", "script_id": "strict", "params": {"TOKEN": SCRIPT_PARAM}}),
        json!({"kind": "script", "script_id": "strict", "params": {"TOKEN": {"secret": SCRIPT_PARAM}}}),
        json!({"kind": "script", "script_id": "strict", "params": {"TOKEN": [SCRIPT_PARAM]}}),
        json!({"kind": "script", "script_id": "strict", "params": {"TOKEN": {"secret": [SCRIPT_PARAM]}}}),
        json!({"kind": "script", "script_id": "strict", "params": {"TOKEN": {"secret": SCRIPT_PARAM, "x": 1}}}),
        json!({"kind": "script", "script_id": "strict", "params": {"TOKEN": "1", "OTHER": {"secret": SCRIPT_PARAM}}}),
        json!({"kind": "script", "script_id": "strict", "params": {"TOKEN": "1", "COUNT": {"secret": SCRIPT_PARAM}}}),
        json!({"kind": "script", "script_id": "strict", "params": {"TOKEN": "1", "a b": {"secret": SCRIPT_PARAM}}}),
        json!({"kind": "script", "script_id": "strict", "params": [SCRIPT_PARAM]}),
        json!({"kind": "command", "command": "x", "params": {"W": {"secret": AD_HOC_PARAM}}, "targets": "nobody"}),
        json!({"kind": "command", "params": {"W": {"secret": AD_HOC_PARAM}}}),
        json!({"kind": "command", "command": "x", "params": {"W": {"secret": format!("{AD_HOC_PARAM}\u{0}")}}}),
        json!({"kind": "command", "command": "x", "params": {"W": {"secret": AD_HOC_PARAM.repeat(20_000)}}}),
        json!({"kind": AD_HOC_PARAM, "command": "x"}),
        json!({"kind": "command", "command": {"secret": AD_HOC_PARAM}}),
    ];
    let mut calls: Vec<Call> = Vec::new();
    for body in &credentials {
        calls.push(post("/api/v1/credentials").json(body));
        if body["name"] != "key" && body["password"] != PASSWORD {
            calls.push(patch("/api/v1/credentials/key").json(body));
        }
        calls.push(patch("/api/v1/credentials/nobody").json(body));
        calls.push(patch("/api/v1/credentials/key").json(body).header("If-Match", "\"99\""));
    }
    calls.extend(runs.iter().map(|body| post("/api/v1/executions").json(body)));
    calls.extend(
        torn()
            .into_iter()
            .map(|body| post("/api/v1/credentials").header("Content-Type", "application/json").body(body)),
    );
    for call in calls {
        let answer = send(&api, call).await;
        // Whether a text is a private key is for an SSH executor to say, and there is none here.
        let accepted =
            answer.status.is_success() && ["private_key", "several"].contains(&answer.json()["kind"].as_str().unwrap());
        assert!(answer.status.is_client_error() || accepted, "{} {}", answer.status, answer.text());
    }
    clean(&api.send(get("/api/v1/audit-logs").query("limit=200")).await, "the audit log");
}

/// JSON that breaks off, or off the rails, right at a secret.
fn torn() -> Vec<String> {
    let whole = json!({"name": "n", "password": PASSWORD}).to_string();
    let at = whole.find(PASSWORD).unwrap();
    vec![
        whole[..at + PASSWORD.len()].to_owned(),
        whole[..whole.len() - 1].to_owned(),
        whole.replace(':', "="),
        whole.replace(PASSWORD, &format!("\\x{PASSWORD}")),
        whole.replace(PASSWORD, &format!("{PASSWORD}\n")),
        format!("{whole} {PASSWORD}"),
        format!("{{\"name\":\"n\",\"password\":{PASSWORD}}}"),
        PASSWORD.to_owned(),
    ]
}

fn document() {
    let document: Value = serde_json::from_str(&birun_http::openapi_document("")).unwrap();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for name in ["NewCredential", "CredentialPatch"] {
        for field in ["private_key", "passphrase", "password"] {
            assert_eq!(schemas[name]["properties"][field]["writeOnly"], true, "{name}.{field}");
        }
    }
    for (name, schema) in schemas {
        // What is answered has no field for a value, so there is none to be filled by mistake.
        if !name.starts_with("New") && !name.ends_with("Patch") {
            for field in ["private_key", "passphrase", "password", "secret", "value", "sealed"] {
                assert!(schema["properties"].get(field).is_none(), "{name}.{field}");
            }
        }
    }
    let mut examples = Vec::new();
    collect_examples(&document, &mut examples);
    for example in examples {
        let text = example.to_string().to_lowercase();
        assert!(!["password", "begin openssh", "bearer "].iter().any(|word| text.contains(word)), "{text}");
    }
}

/// Everything that the document gives as an example or a default.
fn collect_examples<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if matches!(name.as_str(), "example" | "examples" | "default") {
                    found.push(field);
                }
                collect_examples(field, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_examples(item, found)),
        _ => {}
    }
}
