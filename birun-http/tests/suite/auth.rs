//! Who may ask what: tokens, public routes, the in-process caller, an embedding program's own sign-in.

use birun_core::identity::{Actor, ActorKind, Principal, Role};
use birun_core::testing::harness::Suite;
use birun_core::vault::Secret;
use birun_core::{Error, ErrorCode, id::ProjectId};
use birun_http::{BearerToken, InProcess, authenticate_with, mount};
use bytes::Bytes;
use futures::TryStreamExt;
use poem::http::{Method, StatusCode};
use poem::{Endpoint, EndpointExt, IntoEndpoint};
use serde_json::{Value, json};

use crate::coverage::sample;
use crate::support::{Answer, Api, Call, STRANGER, VIEWER, get, patch, post};

pub(crate) fn cases(suite: &mut Suite) {
    suite.test("no_secured_route_answers_without_the_token_in_its_header", &[], token_only_in_its_header);
    suite.test("public_routes_answer_without_a_token_and_with_a_wrong_one", &[], public_routes_are_open);
    suite.test("public_routes_answer_while_nobody_can_be_recognised", &[], public_routes_need_no_sign_in);
    suite.test("no_header_makes_its_sender_the_in_process_caller", &[], no_header_is_a_principal);
    suite.test("the_in_process_caller_is_who_the_program_says", &[], in_process_caller);
    suite.test("a_program_brings_its_own_sign_in", &[], own_sign_in);
    suite.test("a_sign_in_that_fails_refuses_and_tells_nothing", &[], broken_sign_in);
    suite.test("refused_callers_are_audited_with_how_often_they_asked", &[], refused_callers_are_audited);
    suite.test("unknown_routes_and_wrong_methods_are_problems", &[], unknown_routes_and_methods);
    suite.test("another_project_is_as_if_it_did_not_exist", &[], projects_do_not_see_each_other);
    suite.test("who_may_look_may_not_change", &[], viewers_change_nothing);
}

/// An application that knows one token.
async fn with_token() -> Api {
    let auth = || BearerToken::new(&Secret::new("right"), Principal::local("ana"));
    Api::start_with(|builder| builder, |mount| mount.auth(auth())).await
}

/// Holds an answer against what every problem has.
pub(crate) fn is_problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status.as_u16(), status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let problem = answer.json();
    assert_eq!((problem["code"].as_str(), problem["status"].as_u64()), (Some(code), Some(u64::from(status))));
    assert_eq!(problem["request_id"].as_str(), answer.header("x-request-id"));
    let title = problem["title"].as_str().unwrap();
    assert_eq!(title.to_lowercase(), code.replace('_', " "));
    assert!(title.starts_with(char::is_uppercase), "{title}");
}

async fn token_only_in_its_header() {
    let api = with_token().await;
    let secured: Vec<_> = api.operations().into_iter().filter(|operation| operation.secured).collect();
    assert!(secured.len() > 30, "{} operations need a token", secured.len());
    for operation in &secured {
        let bare = || {
            let call = operation.call("sample").token(None);
            if operation.takes_body { call.json(&sample(operation.id)) } else { call }
        };
        let mut calls = vec![
            bare(),
            bare().query("token=right&access_token=right&authorization=Bearer%20right"),
            bare().header("Cookie", "token=right; Authorization=Bearer right"),
            bare().header("X-Authorization", "Bearer right"),
            bare().header("Proxy-Authorization", "Bearer right"),
        ];
        for wrong in ["Bearer wrong", "Bearer", "Bearer ", "right", "Basic right", "Bearer right right", "Bearerright"]
        {
            calls.push(bare().header("Authorization", wrong));
        }
        // Two headers are two claims: the right one behind a wrong one counts for nothing.
        calls.push(bare().header("Authorization", "Bearer wrong").header("Authorization", "Bearer right"));
        for call in calls {
            let answer = api.send(call).await;
            is_problem(&answer, 401, "unauthenticated");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
            assert!(!answer.text().contains("right"), "{}", answer.text());
        }
    }
    for right in ["Bearer right", "bearer right", "BEARER right"] {
        api.expect(200, get("/api/v1/servers").token(None).header("Authorization", right)).await;
    }
}

async fn public_routes_are_open() {
    let api = with_token().await;
    let operations = api.operations();
    let public: Vec<_> = operations.iter().filter(|operation| !operation.secured).collect();
    let mut paths: Vec<_> = public.iter().map(|operation| operation.path).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["/api/docs", "/api/v1/openapi.json", "/healthz", "/readyz"]);
    for operation in public {
        api.expect(200, operation.call("").token(None)).await;
        api.expect(200, operation.call("").token(Some("wrong"))).await;
    }
    // What a stranger is told of readiness names no part of the installation.
    let told = api.expect(200, get("/readyz").token(Some("wrong"))).await.json();
    assert_eq!(told, json!({"status": "ok", "checks": []}));
    for nearly in
        ["/healthz/", "//healthz", "/api/docs/../v1/servers", "/api/v1/openapi.json/", "/healthz%2f..%2fmetrics"]
    {
        is_problem(&api.send(get(nearly).token(None)).await, 401, "unauthenticated");
    }
}

async fn public_routes_need_no_sign_in() {
    let down = authenticate_with(|_| Err(Error::new(ErrorCode::Unavailable, "the directory is away")));
    let api = Api::start_with(|builder| builder, |mount| mount.auth(down)).await;
    for path in ["/healthz", "/readyz", "/api/v1/openapi.json", "/api/docs"] {
        api.expect(200, get(path)).await;
    }
    let refused = api.send(get("/api/v1/servers")).await;
    is_problem(&refused, 503, "unavailable");
    assert_eq!(refused.header("retry-after"), Some("5"));
}

async fn no_header_is_a_principal() {
    let api = Api::start().await;
    let principal = serde_json::to_string(&json!({"actor": "system", "role": "owner"})).unwrap();
    for name in [
        "X-Principal",
        "X-Birun-Principal",
        "InProcessPrincipal",
        "X-In-Process",
        "X-Actor",
        "X-User",
        "X-Remote-User",
        "Remote-User",
        "X-Forwarded-User",
        "X-Auth-Request-User",
        "X-Role",
        "X-Project",
        "X-Original-User",
        "From",
    ] {
        for value in ["system", "owner", principal.as_str()] {
            let call = get("/api/v1/audit-logs").token(None).header(name, value);
            is_problem(&api.send(call).await, 401, "unauthenticated");
            // Nor does it make more of somebody than the token says.
            let call = get("/api/v1/audit-logs").token(Some(VIEWER)).header(name, value);
            is_problem(&api.send(call).await, 403, "forbidden");
        }
    }
}

async fn in_process_caller() {
    let api = Api::start().await;
    let app = mount(&api.engine).build().unwrap();
    // Without an authenticator, nobody is anybody over a network, whatever is sent.
    let response = app.get_response(get("/api/v1/servers").request()).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let ana = InProcess::new(app.clone(), Principal::local("ana"));
    let body = json!({"name": "web", "host": "h", "user": "u"});
    assert_eq!(send(&ana, "POST", "/api/v1/servers", &body).await.0, StatusCode::CREATED);
    let (_, audit) = send(&ana, "GET", "/api/v1/audit-logs?action=server.create", &Value::Null).await;
    assert_eq!(audit["items"][0]["actor"]["name"], "ana");
    let viewer = Principal {
        actor: Actor { kind: ActorKind::User, name: "bob".to_owned() },
        project: ProjectId::DEFAULT,
        role: Role::Viewer,
    };
    let bob = InProcess::new(api.app.clone(), viewer);
    // The owner's token beside the viewer's identity does not make an owner of the viewer.
    let (status, problem) = send(&bob, "DELETE", "/api/v1/servers/web", &Value::Null).await;
    assert_eq!((status, problem["code"].as_str()), (StatusCode::FORBIDDEN, Some("forbidden")));
    assert_eq!(send(&bob, "GET", "/api/v1/servers/web", &Value::Null).await.0, StatusCode::OK);
    assert!(!format!("{bob:?}").contains("owner-token"));
}

/// A request in process, with the owner's token in its header, which must not count.
async fn send(client: &InProcess, method: &str, path: &str, body: &Value) -> (StatusCode, Value) {
    let request = poem::http::Request::builder().method(method).uri(path).header("Authorization", "Bearer owner");
    let request = request.header("Content-Type", "application/json").body(Bytes::from(body.to_string())).unwrap();
    let response = client.send(request).await;
    let status = response.status();
    let body: Vec<Bytes> = response.into_body().try_collect().await.unwrap();
    (status, serde_json::from_slice(&body.concat()).unwrap_or_default())
}

/// What the embedding program's own middleware found out.
#[derive(Clone)]
struct SignedIn(&'static str);

async fn own_sign_in() {
    let api = Api::start().await;
    let auth = authenticate_with(|request| {
        let user = request.data::<SignedIn>();
        Ok(user.map(|user| Principal::local(user.0)))
    });
    let app = mount(&api.engine).auth(auth).build().unwrap();
    let outside = app.clone().get_response(get("/api/v1/servers").request()).await;
    assert_eq!(outside.status(), StatusCode::UNAUTHORIZED);
    let inside = app.data(SignedIn("eve")).into_endpoint();
    let made = post("/api/v1/server-groups").token(None).json(&json!({"name": "db"}));
    assert_eq!(inside.get_response(made.request()).await.status(), StatusCode::CREATED);
    let audit = api.expect(200, get("/api/v1/audit-logs").query("actor=eve")).await.json();
    assert_eq!(audit["items"][0]["action"], "group.create", "{audit}");
}

async fn refused_callers_are_audited() {
    let api = with_token().await;
    let entries = || async {
        let path = "/api/v1/audit-logs?action=sign_in.refuse";
        let answer = api.expect(200, get(path).token(Some("right"))).await;
        answer.json()["items"].as_array().unwrap().clone()
    };
    for number in 0..50 {
        let path = if number % 2 == 0 { "/api/v1/servers" } else { "/no/such/route" };
        api.expect(401, get(path).token(None)).await;
    }
    let first = entries().await;
    assert_eq!(first.len(), 1, "{first:#?}");
    assert_eq!((&first[0]["outcome"], &first[0]["after"]["attempts"]), (&json!("refused"), &json!(1)));
    api.app.finish().await;
    api.app.finish().await;
    let all = entries().await;
    assert_eq!(all.len(), 2, "{all:#?}");
    assert_eq!(all[0]["after"], json!({"address": "unknown", "attempts": 49}));
}

async fn broken_sign_in() {
    let api = Api::start().await;
    let answer = api.send(get("/api/v1/servers").token(Some("panic"))).await;
    is_problem(&answer, 500, "internal");
    assert!(!answer.text().contains("as the token says"), "{}", answer.text());
    let failing = authenticate_with(|_| Err(Error::internal("table birun_tokens").with_source("hunter2")));
    let api = Api::start_with(|builder| builder, |mount| mount.auth(failing)).await;
    let answer = api.send(get("/api/v1/servers")).await;
    is_problem(&answer, 500, "internal");
    assert!(!answer.text().contains("birun_tokens") && !answer.text().contains("hunter2"), "{}", answer.text());
}

async fn unknown_routes_and_methods() {
    let api = Api::start().await;
    for path in
        ["/", "/api", "/api/v1", "/api/v1/", "/api/v1/nothing", "/api/v2/servers", "/api/v1/servers/a/b/c", "/%00"]
    {
        is_problem(&api.send(get(path)).await, 404, "not_found");
        is_problem(&api.send(get(path).token(None)).await, 401, "unauthenticated");
    }
    let mut allowed = std::collections::BTreeMap::<&str, Vec<String>>::new();
    let operations = api.operations();
    for operation in &operations {
        allowed.entry(operation.path).or_default().push(operation.method.to_string());
    }
    for (path, methods) in &mut allowed {
        methods.sort();
        let path = path.replace("{id}", "sample").replace("{number}", "1");
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE"] {
            if methods.iter().any(|known| known == method) {
                continue;
            }
            let answer = api.send(Call::new(Method::from_bytes(method.as_bytes()).unwrap(), &path)).await;
            is_problem(&answer, 405, "malformed");
            assert_eq!(answer.header("allow"), Some(methods.join(", ").as_str()), "{method} {path}");
        }
    }
}

async fn projects_do_not_see_each_other() {
    let api = Api::start().await;
    let mut ids = Vec::new();
    for (collection, operation) in [
        ("servers", "create_server"),
        ("server-groups", "create_server_group"),
        ("credentials", "create_credential"),
        ("scripts", "create_script"),
        ("host-keys", "create_host_key"),
        ("executions", "create_execution"),
    ] {
        let made = api.send(post(&format!("/api/v1/{collection}")).json(&sample(operation))).await;
        assert!(made.status.is_success(), "{}", made.text());
        ids.push((collection, made.json()["id"].as_str().unwrap().to_owned()));
    }
    for (collection, id) in &ids {
        let listed = api.expect(200, get(&format!("/api/v1/{collection}")).token(Some(STRANGER))).await.json();
        assert_eq!(listed["items"], json!([]), "{collection}");
        for operation in api.operations() {
            if operation.path.split('/').nth(3) != Some(collection) || !operation.path.contains("{id}") {
                continue;
            }
            let call = operation.call(id).token(Some(STRANGER));
            let call = if operation.takes_body { call.json(&json!({})) } else { call };
            is_problem(&api.send(call).await, 404, "not_found");
        }
        api.expect(200, get(&format!("/api/v1/{collection}/{id}"))).await;
    }
    let seen = api.expect(200, get("/api/v1/audit-logs").token(Some(STRANGER))).await.json();
    assert!(seen["items"].as_array().unwrap().iter().all(|entry| entry["actor"]["name"] == STRANGER), "{seen}");
}

async fn viewers_change_nothing() {
    let api = Api::start().await;
    api.make("/api/v1/servers", sample("create_server")).await;
    for operation in api.operations() {
        if operation.method == Method::GET {
            continue;
        }
        let call = operation.call("sample").token(Some(VIEWER));
        let call = if operation.takes_body { call.json(&sample(operation.id)) } else { call };
        is_problem(&api.send(call).await, 403, "forbidden");
    }
    let call = patch("/api/v1/servers/sample").token(Some(VIEWER)).json(&json!({"host": "elsewhere"}));
    api.expect(403, call).await;
    assert_eq!(api.expect(200, get("/api/v1/servers/sample")).await.json()["host"], "10.0.0.1");
    let refused = api.expect(200, get("/api/v1/audit-logs").query(&format!("actor={VIEWER}"))).await.json();
    let refused = refused["items"].as_array().unwrap();
    assert!(!refused.is_empty() && refused.iter().all(|entry| entry["outcome"] == "refused"), "{refused:?}");
}
