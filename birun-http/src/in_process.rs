//! The same application without a socket: for a program that is its own client.

use std::fmt::{self, Debug};
use std::io;

use birun_core::identity::Principal;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use poem::http::{Request, Response};
use poem::{Body, Endpoint};

use crate::app::App;
use crate::auth::InProcessPrincipal;
use crate::problem::error_behind;

/// A body that is read piece by piece. As long as nobody reads, nothing is produced; dropping it
/// ends what produces it.
pub type BodyStream = BoxStream<'static, io::Result<Bytes>>;

/// Calls an [`App`] in process: same routes, same answers, same streams, no socket.
///
/// The caller's identity is given beside the request and never read from a header, so nothing that
/// comes over a network can pass for it.
#[derive(Clone)]
pub struct InProcess {
    app: App,
    principal: Principal,
}

impl InProcess {
    /// Calls the application as this principal.
    #[must_use]
    pub const fn new(app: App, principal: Principal) -> Self {
        Self { app, principal }
    }

    /// Makes a request. The path begins with `/api/v1`, without the application's base path.
    ///
    /// Every refusal is a response, as over a network. The error behind it is among the response's
    /// extensions, as an `Arc<birun_core::Error>`: what failed inside is told to nobody else, nor logged.
    /// Dropping the future abandons the request.
    pub async fn send(&self, request: Request<Bytes>) -> Response<BodyStream> {
        let (parts, body) = request.into_parts();
        let mut request = poem::Request::builder().method(parts.method).uri(parts.uri).version(parts.version);
        for (name, value) in &parts.headers {
            request = request.header(name, value);
        }
        let mut request = request.body(Body::from_bytes(body));
        request.extensions_mut().insert(InProcessPrincipal(self.principal.clone()));
        let response = self.app.get_response(request).await;
        let error = error_behind(&response);
        let (parts, body) = response.into_parts();
        let mut response = Response::new(body.into_bytes_stream().boxed());
        *response.status_mut() = parts.status;
        *response.headers_mut() = parts.headers;
        if let Some(error) = error {
            response.extensions_mut().insert(error);
        }
        response
    }
}

impl Debug for InProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InProcess").field("principal", &self.principal).finish_non_exhaustive()
    }
}
