//! Requests to the server that owns a data directory.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use birun_core::vault::Secret;
use bytes::Bytes;
use http::{Method, StatusCode, Uri};

use super::{Body, Remote, Transport};
use crate::error::{CommandError, CommandResult};
use crate::local::{DataDir, ServeFile, find_server};

/// The server that owns a data directory. It may have been started anew meanwhile, at another
/// address and with another token: then it is found again, so that a follower goes on.
#[derive(Debug)]
pub(crate) struct Owner {
    dir: DataDir,
    known: Mutex<Arc<Known>>,
}

/// How the server was reached last.
#[derive(Debug)]
struct Known {
    address: String,
    token: Secret,
    database: Option<String>,
    remote: Remote,
}

impl Known {
    fn of(serve: ServeFile) -> CommandResult<Self> {
        let remote = Remote::new(&serve.address, Some(serve.token.clone()))?;
        Ok(Self { address: serve.address, token: serve.token, database: serve.database, remote })
    }

    async fn call(&self, mut request: http::Request<Bytes>) -> CommandResult<http::Response<Body>> {
        let uri: Result<Uri, _> = format!("{}{}", self.remote.base(), request.uri()).parse();
        *request.uri_mut() = uri.map_err(|error| CommandError::failed("this is no address").because(&error))?;
        self.remote.call(request).await
    }
}

impl Owner {
    /// The server that was found in a data directory.
    ///
    /// # Errors
    /// When it says that it is at an address that is none.
    pub(crate) fn new(dir: DataDir, serve: ServeFile) -> CommandResult<Self> {
        Ok(Self { dir, known: Mutex::new(Arc::new(Known::of(serve)?)) })
    }

    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The server of now, if it is another one than that.
    async fn find_again(&self, old: &Known) -> Option<Arc<Known>> {
        let serve = find_server(&self.dir).await.ok().flatten()?;
        let same = serve.address == old.address && serve.token == old.token;
        // A server on another database knows nothing of what was asked for.
        if same || serve.database != old.database {
            return None;
        }
        let new = Arc::new(Known::of(serve).ok()?);
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&new);
        Some(new)
    }
}

#[async_trait]
impl Transport for Owner {
    fn base(&self) -> &str {
        ""
    }

    async fn call(&self, request: http::Request<Bytes>) -> CommandResult<http::Response<Body>> {
        let known = self.known();
        let answer = known.call(request.clone()).await;
        let may_ask_again = match &answer {
            Ok(answer) => answer.status() == StatusCode::UNAUTHORIZED,
            // What changes something may have been taken in by the server that is gone.
            Err(_) => request.method() == Method::GET,
        };
        let new = if may_ask_again { self.find_again(&known).await } else { None };
        match new {
            Some(new) => new.call(request).await,
            None => answer,
        }
    }
}
