//! Requests over a socket.

use std::time::Duration;

use async_trait::async_trait;
use birun_core::vault::Secret;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use reqwest::Url;

use super::unreachable::{no_client, unreachable};
use super::{Body, Transport};
use crate::error::{CommandError, CommandResult};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(10);

/// A birun server, reached over HTTP.
#[derive(Debug)]
pub(crate) struct Remote {
    client: reqwest::Client,
    base: String,
    token: Option<Secret>,
}

impl Remote {
    /// A server at this address (`http://` or `https://`, a path where it is mounted under one).
    ///
    /// # Errors
    /// When the address is none.
    pub(crate) fn new(address: &str, token: Option<Secret>) -> CommandResult<Self> {
        let url = Url::parse(address).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let url = url.ok_or_else(|| {
            CommandError::usage(format!("`{address}` is not the address of a server"))
                .hint("an address looks like  https://birun.example.com  or  http://127.0.0.1:7878")
        })?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(CommandError::usage("the address of a server holds no user or password")
                .hint("give the token in BIRUN_TOKEN, or in the token_file of a context"));
        }
        // No proxy from the environment: whoever runs birun says where it connects to.
        let builder = reqwest::Client::builder();
        // Without TLS no certificate is looked at, and none need be installed.
        let builder = if url.scheme() == "http" { builder.tls_certs_only([]) } else { builder };
        let client = builder
            .no_proxy()
            .connect_timeout(CONNECT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("birun/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| no_client(&error))?;
        Ok(Self { client, base: url.as_str().trim_end_matches('/').to_owned(), token })
    }
}

#[async_trait]
impl Transport for Remote {
    fn base(&self) -> &str {
        &self.base
    }

    async fn call(&self, request: http::Request<Bytes>) -> CommandResult<http::Response<Body>> {
        let mut request = reqwest::Request::try_from(request)
            .map_err(|error| CommandError::failed("this cannot be asked over HTTP").because(&error))?;
        if let Some(token) = &self.token {
            let value = http::HeaderValue::try_from(format!("Bearer {}", token.expose()));
            let mut value = value.map_err(|_| CommandError::usage("the token holds characters that no token has"))?;
            value.set_sensitive(true);
            request.headers_mut().insert(http::header::AUTHORIZATION, value);
        }
        let answer = self.client.execute(request).await.map_err(|error| unreachable(&self.base, error))?;
        let mut head = http::Response::new(());
        *head.status_mut() = answer.status();
        *head.headers_mut() = answer.headers().clone();
        let body = answer.bytes_stream().map_err(std::io::Error::other).boxed();
        Ok(head.map(|()| body))
    }
}
