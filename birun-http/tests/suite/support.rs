//! An application over an engine in memory, requests to it, and the watch over what it answers.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use birun_core::engine::{Engine, EngineBuilder, Roles};
use birun_core::execution::{JobContext, Running};
use birun_core::id::ProjectId;
use birun_core::identity::{Actor, ActorKind, Principal, Role};
use birun_core::testing::FakeExecutor;
use birun_core::vault::MasterKey;
use birun_http::{App, Mount, authenticate_with, mount};
use birun_store::SqlStore;
use bytes::Bytes;
use poem::http::{HeaderMap, Method, StatusCode};
use poem::{Body, Endpoint, Request};
use serde_json::Value;

use crate::schema;

/// The token of the owner.
pub(crate) const OWNER: &str = "owner";
/// The token of someone who only looks.
pub(crate) const VIEWER: &str = "viewer";
/// The token of the owner of another project.
pub(crate) const STRANGER: &str = "stranger";

/// Longest time that anything in a test takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// An application, its engine, and what it answered so far.
pub(crate) struct Api {
    pub(crate) app: App,
    pub(crate) engine: Engine,
    pub(crate) store: Arc<SqlStore>,
    pub(crate) local: FakeExecutor,
    document: Value,
    seen: Mutex<BTreeSet<(String, String)>>,
    running: Option<Running>,
}

/// A request in the making.
#[derive(Clone)]
pub(crate) struct Call {
    method: Method,
    path: String,
    token: Option<&'static str>,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
}

/// A whole answer.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Api {
    /// An application over a fresh store in memory, with a running worker.
    pub(crate) async fn start() -> Self {
        Self::start_with(|builder| builder, |mount| mount).await
    }

    /// The same, with something added to the engine or to the application.
    pub(crate) async fn start_with(
        build: impl FnOnce(EngineBuilder) -> EngineBuilder,
        with: impl FnOnce(Mount) -> Mount,
    ) -> Self {
        let mut api = Self::stopped(Arc::new(SqlStore::memory().await.unwrap()), build, with).await;
        api.running = Some(api.engine.start(Roles::all()).await.unwrap());
        api
    }

    /// An application over an engine without a worker: what is submitted stays queued.
    pub(crate) async fn stopped(
        store: Arc<SqlStore>,
        build: impl FnOnce(EngineBuilder) -> EngineBuilder,
        with: impl FnOnce(Mount) -> Mount,
    ) -> Self {
        store.migrate().await.unwrap();
        let local = FakeExecutor::named("local");
        let builder = Engine::builder_over(Arc::clone(&store) as Arc<dyn birun_core::Store>)
            .executor(local.clone())
            .executor(FakeExecutor::named("ssh"))
            .master_key(MasterKey::generate().unwrap());
        let engine = build(builder).build().await.unwrap();
        let app = with(mount(&engine).auth(authenticate_with(|request| Ok(principal(request))))).build().unwrap();
        let document = serde_json::from_str(&birun_http::openapi_document("")).unwrap();
        Self { app, engine, store, local, document, seen: Mutex::default(), running: None }
    }

    /// Sends a request and reads the whole answer. Whatever is answered is held against the document.
    pub(crate) async fn send(&self, call: impl Into<Call>) -> Answer {
        let call = call.into();
        let answer = tokio::time::timeout(PATIENCE, self.read(&call)).await;
        let answer = answer.unwrap_or_else(|_| panic!("{} {} took too long", call.method, call.path));
        self.watch(&call, &answer);
        answer
    }

    async fn read(&self, call: &Call) -> Answer {
        let response = self.app.get_response(call.request()).await;
        let (parts, body) = response.into_parts();
        Answer { status: parts.status, headers: parts.headers, body: body.into_bytes().await.unwrap() }
    }

    /// Sends a request, and panics if the status is another one.
    pub(crate) async fn expect(&self, status: u16, call: impl Into<Call>) -> Answer {
        let call = call.into();
        let answer = self.send(call.clone()).await;
        assert_eq!(answer.status.as_u16(), status, "{} {}: {}", call.method, call.path, answer.text());
        answer
    }

    /// Begins to read a stream.
    pub(crate) async fn open(&self, call: impl Into<Call>) -> Pulled {
        let response = self.app.get_response(call.into().request()).await;
        assert_eq!(response.status(), StatusCode::OK);
        Pulled { stream: Box::pin(response.into_body().into_bytes_stream()), rest: Vec::new() }
    }

    /// Makes a resource and answers it.
    pub(crate) async fn make(&self, path: &str, body: Value) -> Value {
        self.expect(201, post(path).json(&body)).await.json()
    }

    /// Waits until an execution has ended, and answers it.
    pub(crate) async fn ended(&self, execution: &Value) -> Value {
        let id = execution["id"].as_str().unwrap();
        let call = get(&format!("/api/v1/executions/{id}/events"));
        self.expect(200, call).await;
        self.expect(200, get(&format!("/api/v1/executions/{id}"))).await.json()
    }

    /// Every operation of the document.
    pub(crate) fn operations(&self) -> Vec<Operation<'_>> {
        operations(&self.document)
    }

    /// What was answered so far: operations and statuses, as the document names them.
    pub(crate) fn seen(&self) -> BTreeSet<(String, String)> {
        self.seen.lock().unwrap().clone()
    }

    /// Takes over what another application answered.
    pub(crate) fn saw(&self, other: &Self) {
        self.seen.lock().unwrap().extend(other.seen());
    }

    fn watch(&self, call: &Call, answer: &Answer) {
        let place = format!("{} {} -> {}", call.method, call.path, answer.status);
        check_every_answer(&place, answer);
        let path = call.path.split('?').next().unwrap();
        let operations = self.operations();
        let operation = operations.iter().find(|operation| operation.method == call.method && operation.is_at(path));
        let Some(operation) = operation else { return };
        let status = answer.status.as_u16();
        // Every route can answer these; the description of the API says so.
        if status == 405 || status == 408 {
            return;
        }
        let key = if status >= 500 && !operation.documents("503") { "5XX" } else { answer.status.as_str() };
        let documented = operation.responses.get(key);
        let documented = documented.unwrap_or_else(|| panic!("{place}: not documented: {}", answer.text()));
        check_body(&self.document, documented, answer, &place);
        self.seen.lock().unwrap().insert((operation.id.to_owned(), key.to_owned()));
    }

    /// Stops the worker.
    pub(crate) async fn shutdown(self) {
        if let Some(running) = self.running {
            running.shutdown(PATIENCE).await.unwrap();
        }
    }
}

/// One operation of the document.
pub(crate) struct Operation<'a> {
    pub(crate) id: &'a str,
    pub(crate) method: Method,
    pub(crate) path: &'a str,
    pub(crate) responses: BTreeMap<String, &'a Value>,
    /// Whether it needs a credential.
    pub(crate) secured: bool,
    /// Whether it takes a body.
    pub(crate) takes_body: bool,
}

impl Operation<'_> {
    /// A request to it, about the resource with this selector.
    pub(crate) fn call(&self, id: &str) -> Call {
        Call::new(self.method.clone(), &self.path.replace("{id}", id).replace("{number}", "1"))
    }

    /// Whether the document lists the status.
    pub(crate) fn documents(&self, status: &str) -> bool {
        self.responses.contains_key(status)
    }

    fn is_at(&self, path: &str) -> bool {
        let (pattern, path): (Vec<_>, Vec<_>) = (self.path.split('/').collect(), path.split('/').collect());
        pattern.len() == path.len()
            && pattern.iter().zip(path).all(|(part, given)| part.starts_with('{') || *part == given)
    }
}

/// Every operation of a document.
pub(crate) fn operations(document: &Value) -> Vec<Operation<'_>> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().iter().map(move |(method, operation)| (path, method, operation))
        })
        .map(|(path, method, operation)| Operation {
            id: operation["operationId"].as_str().unwrap(),
            method: method.to_uppercase().parse().unwrap(),
            path,
            responses: operation["responses"]
                .as_object()
                .unwrap()
                .iter()
                .map(|(key, value)| (key.clone(), value))
                .collect(),
            secured: operation.get("security").is_some(),
            takes_body: operation.get("requestBody").is_some(),
        })
        .collect()
}

/// What holds for every answer, whatever it is about.
fn check_every_answer(place: &str, answer: &Answer) {
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{place}: {name}");
    }
    assert!(answer.header("content-security-policy").unwrap().contains("frame-ancestors 'none'"), "{place}");
    let request_id = answer.header("x-request-id").unwrap_or_else(|| panic!("{place}: no request id"));
    if answer.status.is_client_error() || answer.header("content-type") == Some("application/problem+json") {
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{place}");
        let problem = answer.json();
        assert_eq!(problem["status"], answer.status.as_u16(), "{place}");
        assert_eq!(problem["request_id"], request_id, "{place}");
        assert_eq!(
            problem["type"],
            format!("https://birun.dev/problems/{}", problem["code"].as_str().unwrap()),
            "{place}"
        );
        assert!(!problem["detail"].as_str().unwrap().is_empty(), "{place}");
    }
}

fn check_body(document: &Value, documented: &Value, answer: &Answer, place: &str) {
    let Some(content) = documented.get("content") else {
        assert!(answer.body.is_empty(), "{place}: a body that is not documented");
        return;
    };
    let media = answer.header("content-type").unwrap_or_default();
    let schema = content.get(media).unwrap_or_else(|| panic!("{place}: {media} is not documented"));
    if media.starts_with("application/json") && !content.to_string().contains("\"binary\"") && media.contains("charset")
        || media == "application/problem+json"
    {
        schema::check(document, &schema["schema"], &answer.json(), place);
    }
    for header in documented.get("headers").and_then(Value::as_object).into_iter().flatten() {
        let required = header.1["required"] == true;
        assert!(!required || answer.header(header.0).is_some(), "{place}: no {}", header.0);
    }
}

impl Call {
    pub(crate) fn new(method: Method, path: &str) -> Self {
        Self { method, path: path.to_owned(), token: Some(OWNER), headers: Vec::new(), body: Bytes::new() }
    }

    /// Sends another token, or none.
    pub(crate) fn token(mut self, token: Option<&'static str>) -> Self {
        self.token = token;
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn query(mut self, query: &str) -> Self {
        self.path = format!("{}?{query}", self.path);
        self
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.header("Content-Type", "application/json").body(body.to_string())
    }

    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The request, its body already there.
    pub(crate) fn request(&self) -> Request {
        self.request_with(Body::from_bytes(self.body.clone()))
    }

    /// The request, with a body that may still be on its way.
    pub(crate) fn request_with(&self, body: Body) -> Request {
        let mut request = Request::builder().method(self.method.clone()).uri(self.path.parse().unwrap());
        if let Some(token) = self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        request.body(body)
    }
}

pub(crate) fn get(path: &str) -> Call {
    Call::new(Method::GET, path)
}

pub(crate) fn post(path: &str) -> Call {
    Call::new(Method::POST, path)
}

pub(crate) fn patch(path: &str) -> Call {
    Call::new(Method::PATCH, path)
}

pub(crate) fn delete(path: &str) -> Call {
    Call::new(Method::DELETE, path)
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The code of a problem.
    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap().to_owned()
    }

    /// The fields that a problem names.
    pub(crate) fn fields(&self) -> Vec<String> {
        let errors = self.json()["errors"].as_array().unwrap().clone();
        errors.iter().map(|error| error["field"].as_str().unwrap().to_owned()).collect()
    }
}

/// A stream that is read piece by piece.
pub(crate) struct Pulled {
    stream: Pin<Box<dyn futures::Stream<Item = io::Result<Bytes>> + Send>>,
    rest: Vec<u8>,
}

impl Pulled {
    /// Reads up to and including the next occurrence of `end`; `None` at the end of the stream.
    pub(crate) async fn until(&mut self, end: &str) -> Option<String> {
        use futures::StreamExt;
        loop {
            let found = self.rest.windows(end.len()).position(|window| window == end.as_bytes());
            if let Some(at) = found {
                let piece = self.rest.drain(..at + end.len()).collect();
                return Some(String::from_utf8(piece).unwrap());
            }
            let chunk = soon(self.stream.next()).await?;
            self.rest.extend_from_slice(&chunk.unwrap());
        }
    }

    /// Reads everything up to the end of the stream.
    pub(crate) async fn whole(&mut self) -> Vec<u8> {
        use futures::StreamExt;
        while let Some(chunk) = soon(self.stream.next()).await {
            self.rest.extend_from_slice(&chunk.unwrap());
        }
        std::mem::take(&mut self.rest)
    }
}

/// Waits for something that will be there soon.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("this took too long")
}

/// How many lines of 1,000 bytes a flood is: 24 MB in all.
pub(crate) const FLOOD: usize = 24_000;

/// A job that writes more than any reader holds.
pub(crate) async fn flood(job: JobContext) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let line = "x".repeat(999);
    for _ in 0..FLOOD {
        job.print(line.as_str()).await?;
    }
    Ok(())
}

fn principal(request: &Request) -> Option<Principal> {
    let token = request.headers().get("Authorization")?.to_str().ok()?.strip_prefix("Bearer ")?;
    let (project, role) = match token {
        OWNER => (ProjectId::DEFAULT, Role::Owner),
        VIEWER => (ProjectId::DEFAULT, Role::Viewer),
        STRANGER => (ProjectId::new(), Role::Owner),
        "panic" => panic!("as the token says"),
        _ => return None,
    };
    Some(Principal { actor: Actor { kind: ActorKind::User, name: token.to_owned() }, project, role })
}
