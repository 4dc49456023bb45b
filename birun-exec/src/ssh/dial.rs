//! From a host name to a TCP connection.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use birun_core::{Error, ErrorCode, Result};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::ssh::blocking::block;
use crate::ssh::phase::Endpoint;

/// A name with more addresses than this is not a server.
const MAX_ADDRESSES: usize = 16;
/// How long one address may stay silent before the next is tried beside it (RFC 8305).
const STAGGER: Duration = Duration::from_millis(250);

/// Finds the addresses of the far end, as one of a few at once.
///
/// # Errors
/// `resolve_failed`.
pub(super) async fn resolve(endpoint: &Endpoint, lookups: &Arc<Semaphore>) -> Result<Vec<SocketAddr>> {
    let Endpoint { host, port } = endpoint;
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, *port)]);
    }
    let name = (host.clone(), *port);
    let found: Vec<SocketAddr> = match block(lookups, move || name.to_socket_addrs()).await? {
        Ok(found) => found.take(MAX_ADDRESSES).collect(),
        Err(error) => return Err(unresolved(host, &error.to_string())),
    };
    if found.is_empty() { Err(unresolved(host, "the name has no address")) } else { Ok(found) }
}

fn unresolved(host: &str, why: &str) -> Error {
    Error::new(ErrorCode::ResolveFailed, format!("cannot resolve `{host}`: {why}"))
        .with_hint("check the host name and the name servers of this machine")
}

/// Connects to the first address that answers.
///
/// # Errors
/// `connect_failed` once every address refused.
pub(super) async fn dial(endpoint: &Endpoint, addresses: &[SocketAddr]) -> Result<TcpStream> {
    let tcp = race(addresses).await.map_err(|error| unreachable(endpoint, &error))?;
    // Small packets must not wait for the acknowledgement of earlier ones.
    tcp.set_nodelay(true).map_err(|error| unreachable(endpoint, &error))?;
    Ok(tcp)
}

async fn race(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut waiting = addresses.iter().copied();
    let mut dialling = FuturesUnordered::new();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        if let Some(address) = waiting.next() {
            dialling.push(TcpStream::connect(address));
        } else if dialling.is_empty() {
            return Err(last);
        }
        let more = waiting.len() > 0;
        tokio::select! {
            Some(dialled) = dialling.next() => match dialled {
                Ok(tcp) => return Ok(tcp),
                Err(error) => last = error,
            },
            () = tokio::time::sleep(STAGGER), if more => {}
        }
    }
}

fn unreachable(endpoint: &Endpoint, error: &io::Error) -> Error {
    let hint = match error.kind() {
        io::ErrorKind::ConnectionRefused => "nothing listens there; check the port, and whether the SSH server runs",
        _ => "check address, route and firewall",
    };
    Error::new(ErrorCode::ConnectFailed, format!("connect {endpoint}: {}", error.kind())).with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(host: &str, port: u16) -> Endpoint {
        Endpoint { host: host.to_owned(), port }
    }

    fn lookups(places: usize) -> Arc<Semaphore> {
        Arc::new(Semaphore::new(places))
    }

    #[tokio::test]
    async fn an_address_needs_no_name_server() {
        assert_eq!(resolve(&endpoint("::1", 22), &lookups(0)).await.unwrap(), ["[::1]:22".parse().unwrap()]);
    }

    #[tokio::test]
    async fn an_unknown_name_is_named() {
        let error = resolve(&endpoint("no-such-host.invalid", 22), &lookups(1)).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::ResolveFailed);
        assert!(error.to_string().contains("no-such-host.invalid"));
    }

    #[tokio::test]
    async fn the_first_address_that_answers_wins() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let live = listener.local_addr().unwrap();
        let dead = SocketAddr::new([127, 0, 0, 1].into(), 1);
        let tcp = dial(&endpoint("a", live.port()), &[dead, live]).await.unwrap();
        assert_eq!(tcp.peer_addr().unwrap(), live);
        let error = dial(&endpoint("a", 1), &[dead]).await.unwrap_err();
        assert_eq!(
            (error.code(), error.to_string().as_str()),
            (ErrorCode::ConnectFailed, "connect a:1: connection refused")
        );
    }
}
