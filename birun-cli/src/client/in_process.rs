//! Requests to an engine in this process, without a socket.

use async_trait::async_trait;
use birun_core::engine::Engine;
use birun_core::identity::Principal;
use bytes::Bytes;
use http::Method;

use super::{Body, Transport};
use crate::error::CommandResult;

/// The API of an embedded engine.
#[derive(Debug)]
pub(crate) struct InProcess {
    api: birun_http::InProcess,
    engine: Engine,
}

impl InProcess {
    /// The API of an engine, as seen by this caller.
    ///
    /// # Errors
    /// When the API cannot be put together.
    pub(crate) fn new(engine: &Engine, principal: Principal) -> CommandResult<Self> {
        let app = birun_http::mount(engine).build()?;
        Ok(Self { api: birun_http::InProcess::new(app, principal), engine: engine.clone() })
    }
}

#[async_trait]
impl Transport for InProcess {
    fn base(&self) -> &str {
        ""
    }

    async fn call(&self, request: http::Request<Bytes>) -> CommandResult<http::Response<Body>> {
        let changes = request.method() != Method::GET;
        let answer = self.api.send(request).await;
        // No server seals after this process has ended.
        if changes && let Err(error) = self.engine.seal_audit_log().await {
            tracing::warn!(%error, "the audit log could not be sealed");
        }
        Ok(answer)
    }
}
