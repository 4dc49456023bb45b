//! One connection: its handshake, its requests, its end.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use poem::http::uri::Scheme;
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Addr, Endpoint};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::serve::Tls;
use crate::serve::rooted::Rooted;
use crate::stream::Stopping;

/// How long a client may take for a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a client may take to send the head of a request, the first one or the next one.
const HEAD: Duration = Duration::from_secs(30);
/// How long a silent peer is given before it is asked whether it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// How long an HTTP/2 peer may take to answer that.
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(20);
/// Largest head of a request, and what is buffered for a connection, in bytes.
const BUFFER: usize = 128 * 1024;
/// Requests at once on one HTTP/2 connection.
const STREAMS: u32 = 128;
/// Largest head of an HTTP/2 request, in bytes.
const HEADERS: u32 = 32 * 1024;

/// What connections are served with.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) app: Rooted,
    pub(super) tls: Option<Tls>,
    pub(super) stopping: CancellationToken,
}

impl Service {
    /// Serves a connection to its end. A connection that breaks is nobody's error.
    pub(super) async fn serve(self, socket: TcpStream, peer: SocketAddr) {
        if let Err(error) = self.try_serve(socket, peer).await {
            tracing::debug!(%peer, %error, "a connection broke");
        }
    }

    async fn try_serve(self, socket: TcpStream, peer: SocketAddr) -> Result<(), BoxError> {
        prepare(&socket)?;
        let local = socket.local_addr()?;
        match self.tls.clone() {
            None => self.speak(socket, Ends { local, peer, scheme: Scheme::HTTP }).await,
            Some(tls) => {
                let secure = tokio::time::timeout(HANDSHAKE, tls.acceptor().accept(socket)).await??;
                self.speak(secure, Ends { local, peer, scheme: Scheme::HTTPS }).await
            }
        }
    }

    async fn speak<S>(self, socket: S, ends: Ends) -> Result<(), BoxError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stopping = self.stopping.clone();
        let begun = CancellationToken::new();
        let asked = begun.clone();
        let service = service_fn(move |request| {
            asked.cancel();
            self.clone().answer(request, ends.clone())
        });
        let builder = builder();
        let connection = builder.serve_connection(TokioIo::new(socket), service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = silence(&begun) => return Err("no request came".into()),
            () = stopping.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    }

    async fn answer(
        self,
        mut request: poem::http::Request<Incoming>,
        ends: Ends,
    ) -> Result<hyper::Response<BoxBody<Bytes, io::Error>>, Infallible> {
        request.extensions_mut().insert(Stopping(self.stopping.clone()));
        let local = LocalAddr(Addr::SocketAddr(ends.local));
        let peer = RemoteAddr(Addr::SocketAddr(ends.peer));
        let request = poem::Request::from((request, local, peer, ends.scheme));
        Ok(self.app.get_response(request).await.into())
    }
}

/// Resolves when a client has taken too long for its first request. From then on hyper watches the
/// time; before it knows which HTTP the client speaks, it does not.
async fn silence(begun: &CancellationToken) {
    if tokio::time::timeout(HEAD, begun.cancelled()).await.is_ok() {
        std::future::pending::<()>().await;
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The two ends of a connection.
#[derive(Clone)]
struct Ends {
    local: SocketAddr,
    peer: SocketAddr,
    scheme: Scheme,
}

/// Answers are sent at once, and a dead peer is noticed even if nothing is to be sent.
fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    SockRef::from(socket).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE_ANSWER))
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_ANSWER)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADERS);
    builder
}
