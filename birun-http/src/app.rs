//! The application: one endpoint that takes every request, whatever carried it here.

use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use birun_core::engine::Engine;
use birun_core::{Error, Result};
use futures::FutureExt;
use poem::endpoint::BoxEndpoint;
use poem::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use poem::{Endpoint, IntoEndpoint, PathPattern, Request, Response};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::answer::Links;
use crate::auth::{Authenticate, InProcessPrincipal, nobody};
use crate::metrics::MetricsSource;
use crate::problem::{render, response_of};
use crate::refusals::{Refusals, address_of};
use crate::request_id::{X_REQUEST_ID, take_or_make};
use crate::{document, headers, project, request_id};

/// What answers without a credential: whether birun lives, and what its API looks like. None of it
/// tells anything about this installation.
const PUBLIC: [&str; 5] = ["/healthz", "/readyz", "/api/docs", "/api/docs/rapidoc.js", "/api/v1/openapi.json"];

/// Headers of every answer that does not bring its own.
const HEADERS: [(HeaderName, &str); 5] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
];

/// Begins to mount an engine's API. Without [`auth`](Mount::auth), only public routes answer.
#[must_use]
pub fn mount(engine: &Engine) -> Mount {
    Mount {
        engine: engine.clone(),
        auth: None,
        base_path: String::new(),
        metrics: MetricsSource::default(),
        draining: Draining::default(),
    }
}

/// Puts the API of an engine together.
#[derive(Debug)]
pub struct Mount {
    engine: Engine,
    auth: Option<Arc<dyn Authenticate>>,
    base_path: String,
    metrics: MetricsSource,
    draining: Draining,
}

/// Says whether the process is about to stop.
#[derive(Clone, Debug, Default)]
pub(crate) struct Draining(pub(crate) CancellationToken);

impl Mount {
    /// Says how callers are recognised.
    #[must_use]
    pub fn auth(mut self, auth: impl Authenticate) -> Self {
        self.auth = Some(Arc::new(auth));
        self
    }

    /// Says under which path the application will be nested (`/ops`), so that the links in answers
    /// fit. Nesting itself is the embedding program's: `Route::new().nest("/ops", app)`.
    #[must_use]
    pub fn base_path(mut self, path: impl Into<String>) -> Self {
        self.base_path = path.into();
        self
    }

    /// Gives the text that `/metrics` answers, in the format of Prometheus.
    #[must_use]
    pub fn metrics(mut self, render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.metrics = MetricsSource::new(render);
        self
    }

    /// Gives the token that is cancelled when the process is about to stop: from then on it is not
    /// ready (`/readyz` answers 503), so that balancers send callers elsewhere. What comes all the
    /// same is answered.
    #[must_use]
    pub fn draining(mut self, draining: CancellationToken) -> Self {
        self.draining = Draining(draining);
        self
    }

    /// Builds the endpoint. Nothing runs in the background, but for a minute after a caller was
    /// refused: what it goes on asking is counted then, and written into the audit log.
    ///
    /// # Errors
    /// `invalid` for a base path that is none.
    pub fn build(self) -> Result<App> {
        let base_path = check_base_path(&self.base_path)?;
        let inner = Inner {
            refusals: Refusals::new(self.engine.clone()),
            engine: self.engine,
            auth: self.auth,
            allowed: document::routes().into_iter().map(|(path, methods)| (path, methods.join(", "))).collect(),
            routes: document::service(&base_path).into_endpoint(),
            links: Links::under(&base_path),
            base_path,
            metrics: self.metrics,
            draining: self.draining,
        };
        Ok(App(Arc::new(inner)))
    }
}

/// The API of one engine as a poem endpoint. Cheap to clone; every clone is the same application.
///
/// It answers every request by itself, errors included: its `call` never fails.
#[derive(Clone)]
pub struct App(Arc<Inner>);

struct Inner {
    refusals: Refusals,
    engine: Engine,
    auth: Option<Arc<dyn Authenticate>>,
    routes: BoxEndpoint<'static>,
    /// The methods that each route takes, as an `Allow` header lists them.
    allowed: HashMap<String, String>,
    base_path: String,
    links: Links,
    metrics: MetricsSource,
    draining: Draining,
}

impl App {
    /// The path under which the application says that it is mounted; empty at the root.
    #[must_use]
    pub fn base_path(&self) -> &str {
        &self.0.base_path
    }

    /// Writes down what was only counted so far, callers that were refused: before the process ends.
    pub async fn finish(&self) {
        self.0.refusals.write_all().await;
    }
}

impl Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("base_path", &self.0.base_path).finish_non_exhaustive()
    }
}

impl Endpoint for App {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let request_id = take_or_make(request.headers());
        let span = tracing::info_span!(
            "http_request",
            request_id,
            method = %request.method(),
            path = request.uri().path(),
        );
        Ok(self.0.respond(request, &request_id).instrument(span).await)
    }
}

impl Inner {
    /// Answers a request, with everything that every answer has.
    async fn respond(&self, request: Request, request_id: &str) -> Response {
        let begun = Instant::now();
        let method = request.method().clone();
        let stranger = request.data::<InProcessPrincipal>().is_none().then(|| address_of(&request));
        let answered = AssertUnwindSafe(self.answer(request, request_id)).catch_unwind().await;
        let answered = answered.unwrap_or_else(|_| response_of(Error::internal("a handler panicked")));
        let mut response = render(answered, request_id, stranger.is_some()).await;
        if response.status() == StatusCode::UNAUTHORIZED
            && let Some(address) = stranger
        {
            self.refusals.note(address, request_id).await;
        }
        if response.status() == StatusCode::METHOD_NOT_ALLOWED {
            self.say_allowed(&mut response);
        }
        harden(response.headers_mut(), request_id);
        note(&method, &response, begun);
        response
    }

    async fn answer(&self, mut request: Request, request_id: &str) -> Response {
        let public = PUBLIC.contains(&request.uri().path());
        let principal = match request.data::<InProcessPrincipal>() {
            Some(local) => Ok(Some(local.0.clone())),
            None => self.authenticate(&request).await,
        };
        match principal {
            Ok(Some(principal)) => {
                if let Err(error) = project::check(&request, &principal) {
                    return response_of(error);
                }
                request.set_data(self.engine.gate(principal).with_request_id(request_id));
            }
            // Whether birun lives does not depend on whether callers can be recognised now.
            Ok(None) | Err(_) if public => {}
            Ok(None) => return response_of(nobody()),
            Err(error) => return response_of(error),
        }
        if let Err(error) = headers::check(request.headers()) {
            return response_of(error);
        }
        request.set_data(self.engine.clone());
        request.set_data(self.links.clone());
        request.set_data(self.metrics.clone());
        request.set_data(self.draining.clone());
        self.routes.get_response(request).await
    }

    async fn authenticate(&self, request: &Request) -> Result<Option<birun_core::identity::Principal>> {
        match &self.auth {
            Some(auth) => auth.authenticate(request).await,
            None => Ok(None),
        }
    }

    fn say_allowed(&self, response: &mut Response) {
        let pattern = response.data::<PathPattern>().map(|pattern| pattern.0.to_string());
        let allowed = pattern.and_then(|pattern| HeaderValue::from_str(self.allowed.get(&pattern)?).ok());
        if let Some(allowed) = allowed {
            response.headers_mut().insert(header::ALLOW, allowed);
        }
    }
}

/// Adds the headers that every answer has.
fn harden(headers: &mut HeaderMap, request_id: &str) {
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(request_id::X_REQUEST_ID, id);
    }
    debug_assert!(headers.contains_key(X_REQUEST_ID));
}

/// Counts and logs an answer. A stream is counted when it begins.
fn note(method: &Method, response: &Response, begun: Instant) {
    let route = response.data::<PathPattern>().map_or_else(|| "none".to_owned(), |pattern| pattern.0.to_string());
    let status = response.status().as_u16();
    let took = begun.elapsed();
    let labels = [("method", known(method)), ("route", route), ("status", status.to_string())];
    metrics::counter!("birun_http_requests_total", &labels).increment(1);
    metrics::histogram!("birun_http_request_seconds", &labels).record(took.as_secs_f64());
    tracing::info!(status, micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX), "answered");
}

/// The name of a method as a metric has it. What callers make up is one name: each name takes memory.
fn known(method: &Method) -> String {
    const KNOWN: [Method; 7] =
        [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];
    if KNOWN.contains(method) { method.to_string() } else { "other".to_owned() }
}

/// Checks a base path: empty, or `/name` once or several times.
fn check_base_path(path: &str) -> Result<String> {
    let path = path.trim_end_matches('/');
    let plain = |part: &str| {
        !part.is_empty()
            && !part.chars().all(|c| c == '.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~'))
    };
    if path.is_empty() || path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(plain)) {
        return Ok(path.to_owned());
    }
    Err(Error::invalid_field("base_path", format!("`{}` is not a path", path.escape_default()))
        .with_hint("give a path such as /ops, made of letters, digits, dots, hyphens and underscores"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_path_is_a_plain_path() {
        for (path, normal) in [("", ""), ("/", ""), ("/ops", "/ops"), ("/ops/", "/ops"), ("/a/b.c", "/a/b.c")] {
            assert_eq!(check_base_path(path).unwrap(), normal);
        }
        for bad in ["ops", "//ops", "/a//b", "/..", "/a/../b", "/a b", "/a?b", "/a#b", "/%41", "/<x>"] {
            assert!(check_base_path(bad).is_err(), "{bad}");
        }
    }
}
