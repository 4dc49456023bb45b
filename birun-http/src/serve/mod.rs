//! A server for an application that nobody else serves.

mod admission;
mod connection;
mod listen;
mod rooted;
mod tls;

use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use admission::Admission;
use connection::Service;
pub use listen::may_listen;
use rooted::Rooted;
pub use tls::Tls;

/// How long requests may go on after a stop.
const DRAIN: Duration = Duration::from_secs(10);
/// How long to wait when the system has no socket left.
const BREATH: Duration = Duration::from_millis(100);

/// Serves an application until `shutdown` resolves, under its base path if it has one.
///
/// The caller binds the listener and has asked [`may_listen`] before. At most 1024 connections are
/// taken, 128 from one address (loopback excepted); a client has 10 seconds for a TLS handshake and
/// 30 seconds for the head of a request, which is also how long an idle connection lives.
///
/// After `shutdown`, nothing new is taken, streams end without their last word, or break off where
/// they have none (their readers come back and go on elsewhere), and what is being answered has ten seconds. Dropping the future
/// breaks off every connection.
pub async fn serve(listener: TcpListener, app: App, tls: Option<Tls>, shutdown: impl Future<Output = ()> + Send) {
    let stopping = CancellationToken::new();
    let service = Service { app: Rooted(app), tls, stopping: stopping.clone() };
    let admission = Admission::default();
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        tokio::select! {
            () = shutdown.as_mut() => break,
            Some(_) = connections.join_next() => {}
            (socket, peer) = accept(&listener) => match admission.admit(peer.ip()) {
                Some(admitted) => {
                    let served = service.clone().serve(socket, peer);
                    connections.spawn(async move {
                        served.await;
                        drop(admitted);
                    });
                }
                None => tracing::warn!(%peer, "too many connections: one was refused"),
            },
        }
    }
    drop(listener);
    stopping.cancel();
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::warn!("requests that had not ended after {} s were broken off", DRAIN.as_secs());
    }
}

/// The next connection. A fault of one connection, or of the system for a moment, is waited out.
async fn accept(listener: &TcpListener) -> (TcpStream, std::net::SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
}
