//! Keys that an ssh-agent holds. The agent is asked to sign; it is never forwarded to a server.

use std::path::Path;
use std::time::Duration;

use birun_core::{Error, ErrorCode, Result, duration};
use russh::keys::agent::client::AgentClient;
use russh::keys::agent::{AgentIdentity, AgentSessionBinding};
use russh::keys::{Algorithm, HashAlg, PublicKey};
use russh::{SendError, Signer};
use tokio::net::UnixStream;

use crate::ssh::host_key::is_too_short;

/// Servers take six attempts by default (`MaxAuthTries`); one is left for another method.
pub(super) const MAX_KEYS: usize = 5;

/// A connection to an agent. After an error it is of no use any more, unless the agent only refused.
pub(super) struct Agent {
    client: AgentClient<UnixStream>,
    name: String,
    limit: Duration,
}

/// Why there is no signature.
#[derive(Debug)]
pub(super) enum Unsigned {
    /// The agent did not want to; it may still sign with another key.
    Refused(Error),
    /// The agent is of no use any more.
    Broken(Error),
    /// The session with the server has ended.
    SessionEnded,
}

impl From<SendError> for Unsigned {
    fn from(_: SendError) -> Self {
        Self::SessionEnded
    }
}

impl Agent {
    /// Connects to an agent. Each of its answers may take as long as `limit`.
    ///
    /// # Errors
    /// `agent_failed`.
    pub(super) async fn open(socket: &Path, limit: Duration) -> Result<Self> {
        let name = format!("the ssh-agent at {}", socket.display());
        match tokio::time::timeout(limit, UnixStream::connect(socket)).await {
            Ok(Ok(stream)) => Ok(Self { client: AgentClient::connect(stream), name, limit }),
            Ok(Err(error)) => Err(failed(format!("{name} cannot be reached: {}", error.kind()))
                .with_hint("start it, and see with  ssh-add -l  that it answers")),
            Err(_) => Err(silent(&name, limit)),
        }
    }

    /// Tells the agent for which server it signs, so that it can keep to what its keys are restricted
    /// to. Agents that know nothing of that refuse, which does not matter.
    ///
    /// # Errors
    /// `agent_failed`.
    pub(super) async fn bind(&mut self, session: &AgentSessionBinding) -> Result<()> {
        match ask(&self.name, self.limit, self.client.bind_session(session, false)).await {
            Ok(()) | Err(Unsigned::Refused(_)) => Ok(()),
            Err(why) => Err(why.into_error()),
        }
    }

    /// The keys to try, in the agent's order: only the wanted one, if one is.
    ///
    /// # Errors
    /// `agent_failed`, also if there is none.
    pub(super) async fn identities(&mut self, wanted: Option<&str>) -> Result<Vec<AgentIdentity>> {
        let held = ask(&self.name, self.limit, self.client.request_identities()).await;
        let mut held = held.map_err(Unsigned::into_error)?;
        held.retain(|identity| is_usable(&identity.public_key()));
        if let Some(wanted) = wanted {
            held.retain(|identity| fingerprint(identity) == wanted);
        }
        let name = &self.name;
        match (held.is_empty(), wanted) {
            (false, _) => Ok(held),
            (true, Some(wanted)) => Err(failed(format!("{name} does not hold the key {wanted}"))
                .with_hint("add it with  ssh-add FILE;  ssh-add -l  lists what the agent holds")),
            (true, None) => Err(failed(format!("{name} holds no key that can be used, or is locked"))
                .with_hint("add one with  ssh-add FILE;  ssh-add -l  lists what the agent holds")),
        }
    }
}

impl Signer for Agent {
    type Error = Unsigned;

    async fn auth_sign(
        &mut self,
        identity: &AgentIdentity,
        hash: Option<HashAlg>,
        data: Vec<u8>,
    ) -> Result<Vec<u8>, Unsigned> {
        ask(&self.name, self.limit, self.client.sign_request(identity, hash, data)).await
    }
}

impl Unsigned {
    /// What to say of it.
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Refused(error) | Self::Broken(error) => error,
            Self::SessionEnded => Error::new(ErrorCode::ConnectFailed, "the session has ended"),
        }
    }
}

/// A key by its public side.
pub(super) fn fingerprint(identity: &AgentIdentity) -> String {
    identity.public_key().fingerprint(HashAlg::Sha256).to_string()
}

async fn ask<T>(
    name: &str,
    limit: Duration,
    question: impl Future<Output = Result<T, russh::keys::Error>>,
) -> Result<T, Unsigned> {
    use russh::keys::Error as E;
    match tokio::time::timeout(limit, question).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(E::AgentFailure)) => Err(Unsigned::Refused(failed(format!("{name} refuses to sign")).with_hint(
            "the key may want to be confirmed (ssh-add -c), or the agent is locked; nobody is there to ask",
        ))),
        Ok(Err(E::IO(error))) => Err(Unsigned::Broken(
            failed(format!("{name} hung up: {}", error.kind())).with_hint("see with  ssh-add -l  that it answers"),
        )),
        Ok(Err(_)) => Err(Unsigned::Broken(
            failed(format!("{name} does not speak the agents' protocol")).with_hint("name the socket of an ssh-agent"),
        )),
        Err(_) => Err(Unsigned::Broken(silent(name, limit))),
    }
}

/// The kinds of keys that credentials may hold; those on tokens want to be touched.
fn is_usable(key: &PublicKey) -> bool {
    match key.algorithm() {
        Algorithm::Ed25519 | Algorithm::Ecdsa { .. } => true,
        Algorithm::Rsa { .. } => !is_too_short(key),
        _ => false,
    }
}

fn silent(name: &str, limit: Duration) -> Error {
    failed(format!("{name} did not answer within {}", duration::format(limit)))
        .with_hint("it may be waiting for somebody to confirm; see with  ssh-add -l  that it answers")
}

fn failed(message: String) -> Error {
    Error::new(ErrorCode::AgentFailed, message)
}
