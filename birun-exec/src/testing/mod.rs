//! Servers to try the SSH executor on: a real sshd, a hostile one, and a faulty line between.
//!
//! For the tests and benches of birun's own crates; everything here panics where it cannot go on.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a helper of tests fails by panicking")]

mod agent;
mod proxy;
mod script;
mod server;
mod sshd;

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use birun_core::execution::executor::HostTrust;
use birun_core::execution::{ServerTarget, Work};
use birun_core::id::{HostKeyId, ProjectId, ServerId};
use birun_core::inventory::{HostKey, HostKeyOrigin, HostKeyStatus, OfferedKey, OpenCredential, Verdict};
use birun_core::{Error, Result};
use chrono::DateTime;
use russh::keys::key::safe_rng;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::{Algorithm, PrivateKey, PublicKey};

use crate::bootstrap::Bootstrap;
use crate::ssh::offered;

pub use agent::SshAgent;
pub use proxy::{Cut, Direction, Fault, Proxy, Stage};
pub use script::{Act, Admission, Opening, Script};
pub use server::{ScriptedServer, Witness};
pub use sshd::{Sshd, SshdOptions};

/// A fresh private key.
#[must_use]
pub fn private_key(algorithm: Algorithm) -> PrivateKey {
    PrivateKey::random(&mut safe_rng(), algorithm).expect("a private key")
}

/// A private key in OpenSSH's form.
#[must_use]
pub fn key_text(key: &PrivateKey) -> String {
    key.to_openssh(LineEnding::LF).expect("the text of a key").to_string()
}

/// A certificate for a key, as one line of text, valid from the first to the second (seconds since 1970).
#[must_use]
pub fn certificate(
    key: &PrivateKey,
    authority: &PrivateKey,
    kind: CertType,
    principals: &[&str],
    (after, before): (u64, u64),
) -> String {
    let mut builder =
        Builder::new_with_random_nonce(&mut safe_rng(), key.public_key().clone(), after, before).expect("a window");
    builder.cert_type(kind).expect("a kind");
    builder.key_id("a test").expect("an id");
    for principal in principals {
        builder.valid_principal(*principal).expect("a principal");
    }
    if kind == CertType::User {
        builder.extension("permit-pty", "").expect("an extension");
    }
    builder.sign(authority).expect("a signature").to_openssh().expect("the text of a certificate")
}

/// A record of a host key.
#[must_use]
pub fn recorded(key: &PublicKey, status: HostKeyStatus) -> HostKey {
    let OfferedKey { algorithm, key, fingerprint } = offered(key);
    HostKey {
        id: HostKeyId::new(),
        project_id: ProjectId::DEFAULT,
        server_id: ServerId::new(),
        algorithm,
        key,
        fingerprint,
        status,
        origin: HostKeyOrigin::Manual,
        version: 1,
        created_at: DateTime::UNIX_EPOCH,
        updated_at: DateTime::UNIX_EPOCH,
    }
}

/// A server of the inventory on this machine.
#[must_use]
pub fn server_target(port: u16, user: &str, credential: OpenCredential, host_keys: Vec<HostKey>) -> ServerTarget {
    ServerTarget {
        id: ServerId::new(),
        name: "web-1".parse().expect("a name"),
        executor: "ssh".to_owned(),
        host: "127.0.0.1".to_owned(),
        port,
        user: user.to_owned(),
        credential: Some(credential),
        revision: 1,
        host_keys,
        host_key_policy: None,
    }
}

/// What the SSH executor sends for a piece of work: the text of the command, and its stdin.
///
/// # Errors
/// Those of work that cannot be started.
pub fn exec_text(work: &Work) -> Result<(String, Vec<u8>)> {
    let bootstrap = Bootstrap::new(work)?;
    Ok((bootstrap.command_line(), bootstrap.input().to_vec()))
}

/// What the SSH executor sends to begin a detached run, under the sign `sign` and with a patience of one
/// second: the text of the command, and its stdin.
///
/// # Errors
/// Those of work that cannot be started.
pub fn detached_text(work: &Work, sign: &str) -> Result<(String, Vec<u8>)> {
    let bootstrap = Bootstrap::new(work)?;
    Ok((crate::ssh::detached_text(&bootstrap, work.step, sign), bootstrap.input().to_vec()))
}

/// Remembers what an executor noted about host keys, or refuses to.
#[derive(Debug, Default)]
pub struct Notes {
    verdicts: Mutex<Vec<Verdict>>,
    broken: bool,
}

impl Notes {
    /// Takes every note.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Fails to take any note, like a store that is away.
    #[must_use]
    pub fn broken() -> Arc<Self> {
        Arc::new(Self { broken: true, ..Self::default() })
    }

    /// What was noted.
    #[must_use]
    pub fn verdicts(&self) -> Vec<Verdict> {
        self.verdicts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl HostTrust for Notes {
    async fn note(&self, _: &ServerTarget, _: &OfferedKey, verdict: &Verdict) -> Result<()> {
        self.verdicts.lock().unwrap_or_else(PoisonError::into_inner).push(verdict.clone());
        if self.broken { Err(Error::internal("the notes are closed")) } else { Ok(()) }
    }
}
