//! The way to a server, one step after the other: resolve, connect, handshake, host key, sign-in.
//!
//! Each step takes what the one before it yields, so that no credential can be sent to a server
//! whose host key was not judged.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use birun_core::execution::ServerTarget;
use birun_core::execution::executor::HostTrust;
use birun_core::inventory::OfferedKey;
use birun_core::{Error, ErrorCode, Result};
use russh::SshId;
use russh::client::{self, Config, Handle};
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::ssh::algorithms::{KeyTypes, preferred};
use crate::ssh::dial::{dial, resolve};
use crate::ssh::executor::Settings;
use crate::ssh::host_key::Judge;
use crate::ssh::peer::{Doorkeeper, Ended, Fault, Peer, in_words};
use crate::ssh::phase::{Endpoint, Phase, limited, timed_out};
use crate::ssh::wire::Wire;

/// The largest packet of output that servers may send: about a record of the log, and all that russh allows.
const PACKET: u32 = 65_535;
/// russh reads each packet in two pieces; the buffer makes one system call of many.
const READ_BUFFER: usize = 32 * 1024;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// One server to be reached, and how.
#[derive(Clone, Debug)]
pub(super) struct Approach {
    pub(super) endpoint: Endpoint,
    pub(super) judge: Judge,
    pub(super) settings: Arc<Settings>,
}

impl Approach {
    pub(super) fn new(target: Arc<ServerTarget>, settings: Arc<Settings>) -> Self {
        let endpoint = Endpoint { host: target.host.clone(), port: target.port };
        let policy = target.host_key_policy.unwrap_or(settings.policy);
        Self { endpoint, judge: Judge { target, policy }, settings }
    }

    /// Finds the server's addresses.
    pub(super) async fn resolve(&self) -> Result<Vec<SocketAddr>> {
        let Settings { limits, blocking, .. } = &*self.settings;
        limited(&self.endpoint, Phase::Resolve, limits.resolve, resolve(&self.endpoint, &blocking.lookups)).await
    }

    /// Opens a TCP connection.
    pub(super) async fn dial(&self, addresses: &[SocketAddr]) -> Result<TcpStream> {
        limited(&self.endpoint, Phase::Connect, self.settings.limits.connect, dial(&self.endpoint, addresses)).await
    }

    /// Agrees on keys, up to the host key that the server offers.
    ///
    /// A connection that the server drops before it says anything (sshd's `MaxStartups`) is tried
    /// again, later and later, within the connect limit. A server without the recorded types of
    /// host key is asked a second time for any, so that the refusal can name what it has.
    pub(super) async fn meet(&self, mut tcp: TcpStream, addresses: &[SocketAddr]) -> Result<Met> {
        let begin = Instant::now();
        let mut types = KeyTypes::Recorded;
        let mut pause = FIRST_PAUSE;
        loop {
            match self.greet(tcp, types).await {
                Ok(met) => return Ok(met),
                Err(Failed::Otherwise(error)) => return Err(error),
                Err(Failed::KeyTypes(error)) if types == KeyTypes::All => return Err(error),
                Err(Failed::KeyTypes(_)) => types = KeyTypes::All,
                Err(Failed::Dropped(error)) if begin.elapsed() + pause > self.settings.limits.connect => {
                    return Err(error);
                }
                Err(Failed::Dropped(_)) => {
                    tokio::time::sleep(jittered(pause)).await;
                    pause = LONGEST_PAUSE.min(pause * 2);
                }
            }
            tcp = self.dial(addresses).await?;
        }
    }

    async fn greet(&self, tcp: TcpStream, types: KeyTypes) -> Result<Met, Failed> {
        let cut = CancellationToken::new();
        let wire = Wire::new(tcp, &cut);
        let awaited = wire.awaited();
        let guard = cut.drop_guard();
        let (peer, Doorkeeper { mut shown, answer, ended }) = Peer::new();
        let config = Arc::new(self.config(types));
        let stream = BufReader::with_capacity(READ_BUFFER, wire);
        let mut connecting: Connecting = Box::pin(client::connect_stream(config, stream, peer));
        let limit = self.settings.limits.handshake;
        let met = async {
            tokio::select! {
                biased;
                Ok(key) = &mut shown => Ok(key),
                ended = &mut connecting => Err(ended.err().unwrap_or(Fault::Ssh(russh::Error::Disconnect))),
            }
        };
        match tokio::time::timeout(limit, met).await {
            Ok(Ok(key)) => Ok(Met { connecting, answer, key, ended, cut: guard }),
            Ok(Err(fault)) => Err(self.failed(&fault, awaited.phase())),
            Err(_) => Err(Failed::Otherwise(timed_out(&self.endpoint, awaited.phase(), limit))),
        }
    }

    fn config(&self, types: KeyTypes) -> Config {
        let (interval, missed) = self.settings.keepalive;
        Config {
            client_id: SshId::Standard(Cow::Borrowed(concat!("SSH-2.0-birun_", env!("CARGO_PKG_VERSION")))),
            preferred: preferred(types, &self.judge.target.host_keys),
            keepalive_interval: Some(interval),
            keepalive_max: missed,
            maximum_packet_size: PACKET,
            ..Config::default()
        }
    }

    fn failed(&self, fault: &Fault, phase: Phase) -> Failed {
        let endpoint = &self.endpoint;
        let words = in_words(fault);
        if is_drop(fault) && matches!(phase, Phase::Banner | Phase::KexInit) {
            let error = Error::new(ErrorCode::ConnectFailed, format!("{endpoint}: {words} before the key exchange"));
            return Failed::Dropped(
                error.with_hint("the server takes no more connections just now (MaxStartups, penalties, load)"),
            );
        }
        let error = match fault {
            fault if is_drop(fault) => {
                Error::new(ErrorCode::ConnectFailed, format!("{endpoint}: {words} in {}", phase.name()))
            }
            _ => Error::new(ErrorCode::ProtocolError, format!("{endpoint}: {words} (in {})", phase.name()))
                .with_hint("update the SSH server, or check that the port is one"),
        };
        match fault {
            Fault::Ssh(russh::Error::NoCommonAlgo { kind: russh::AlgorithmKind::Key, .. }) => Failed::KeyTypes(error),
            _ => Failed::Otherwise(error),
        }
    }
}

/// Why a handshake failed, as far as it matters for what follows.
enum Failed {
    /// The server hung up before the key exchange began.
    Dropped(Error),
    /// The server has no host key of the types that it was asked for.
    KeyTypes(Error),
    /// Anything else.
    Otherwise(Error),
}

fn is_drop(fault: &Fault) -> bool {
    use io::ErrorKind as K;
    match fault {
        Fault::Ssh(russh::Error::Disconnect | russh::Error::HUP) => true,
        Fault::Ssh(russh::Error::IO(error)) => matches!(
            error.kind(),
            K::UnexpectedEof | K::ConnectionReset | K::BrokenPipe | K::ConnectionAborted | K::NotConnected
        ),
        _ => false,
    }
}

/// Between one half and three halves of `pause`, so that many clients do not come back together.
fn jittered(pause: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    pause.mul_f64(0.5 + f64::from(random) / f64::from(u32::MAX))
}

type Connecting = Pin<Box<dyn Future<Output = Result<Handle<Peer>, Fault>> + Send>>;

/// A server that showed its host key and waits to hear whether we go on.
pub(super) struct Met {
    connecting: Connecting,
    answer: oneshot::Sender<bool>,
    key: OfferedKey,
    ended: Ended,
    cut: DropGuard,
}

impl Met {
    /// The host key that the server offered, and proved to hold.
    pub(super) const fn key(&self) -> &OfferedKey {
        &self.key
    }

    /// Judges the host key, has the verdict noted, and goes on only if the key is trusted.
    ///
    /// # Errors
    /// The refusal, or the note's error; the connection is cut then, before any authentication.
    pub(super) async fn admit(self, approach: &Approach, trust: &dyn HostTrust) -> Result<Admitted> {
        let Approach { endpoint, judge, settings } = approach;
        let decision = judge.decide(endpoint, &self.key, trust);
        limited(endpoint, Phase::HostKey, settings.limits.host_key, decision).await?;
        // A closed door shows as an error of the connection itself.
        let _sent = self.answer.send(true);
        let finish = async { self.connecting.await.map_err(|fault| finished_badly(endpoint, &fault)) };
        let handle = limited(endpoint, Phase::NewKeys, settings.limits.handshake, finish).await?;
        Ok(Admitted { handle, key: self.key, ended: self.ended, cut: self.cut })
    }
}

fn finished_badly(endpoint: &Endpoint, fault: &Fault) -> Error {
    let code = if is_drop(fault) { ErrorCode::ConnectFailed } else { ErrorCode::ProtocolError };
    Error::new(code, format!("{endpoint}: {}", in_words(fault))).with_hint("update the SSH server")
}

/// A server whose host key is trusted, before sign-in.
pub(super) struct Admitted {
    pub(super) handle: Handle<Peer>,
    pub(super) key: OfferedKey,
    pub(super) ended: Ended,
    pub(super) cut: DropGuard,
}
