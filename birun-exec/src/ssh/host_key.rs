//! From the key that a server offers to a decision, noted before anything else happens.

use std::sync::Arc;

use birun_core::execution::ServerTarget;
use birun_core::execution::executor::HostTrust;
use birun_core::inventory::{HostKeyPolicy, HostKeyStatus, OfferedKey, Refusal, Verdict, judge};
use birun_core::{Error, ErrorCode, Result};
use russh::keys::{HashAlg, PublicKey, PublicKeyBase64};

use crate::ssh::phase::Endpoint;

/// RSA keys below this are within reach of an attacker.
pub(super) const MIN_RSA_BITS: u32 = 2048;

/// A host key as the records know it. The type of an RSA key is `ssh-rsa`, whatever hash signs.
pub(crate) fn offered(key: &PublicKey) -> OfferedKey {
    OfferedKey {
        algorithm: key.algorithm().to_string(),
        key: key.public_key_base64(),
        fingerprint: key.fingerprint(HashAlg::Sha256).to_string(),
    }
}

/// Whether the key is an RSA key that is too short to prove anything.
pub(super) fn is_too_short(key: &PublicKey) -> bool {
    key.key_data().rsa().is_some_and(|rsa| rsa.key_size() < MIN_RSA_BITS)
}

/// How host keys of one server are met: its own policy, else the executor's.
#[derive(Clone, Debug)]
pub(super) struct Judge {
    pub(super) target: Arc<ServerTarget>,
    pub(super) policy: HostKeyPolicy,
}

impl Judge {
    /// The verdict about a key, without telling anyone.
    pub(super) fn verdict(&self, key: &OfferedKey) -> Verdict {
        judge(self.policy, &self.target.host_keys, key)
    }

    /// Decides and has the decision noted.
    ///
    /// # Errors
    /// `host_key_unknown`, `host_key_mismatch`, `host_key_revoked` if the key is refused; the note's
    /// own error if it failed. In both cases nothing may follow.
    pub(super) async fn decide(&self, endpoint: &Endpoint, key: &OfferedKey, trust: &dyn HostTrust) -> Result<()> {
        let verdict = self.verdict(key);
        let noted = trust.note(&self.target, key, &verdict).await;
        match verdict {
            // A refusal stands whether or not it could be noted, and says more than the note's error.
            Verdict::Refuse(refusal) => Err(refused(endpoint, &self.target, key, &refusal)),
            Verdict::Trust | Verdict::TrustAndRecord => noted,
        }
    }
}

fn refused(endpoint: &Endpoint, target: &ServerTarget, key: &OfferedKey, refusal: &Refusal) -> Error {
    let OfferedKey { algorithm, fingerprint, .. } = key;
    let name = &target.name;
    let approve = format!("birun server host-key approve {name} {fingerprint}");
    match refusal {
        Refusal::Unknown => Error::new(
            ErrorCode::HostKeyUnknown,
            format!(
                "{endpoint}: no host key is approved for {name}{}; it offers {algorithm} {fingerprint}",
                revoked(target)
            ),
        )
        .with_hint(format!("compare the fingerprint with the server's own, then run  {approve}")),
        Refusal::Changed { expected } => Error::new(
            ErrorCode::HostKeyMismatch,
            format!(
                "{endpoint}: the host key of {name} changed: expected {}, it offers {algorithm} {fingerprint}",
                expected.join(" or ")
            ),
        )
        .with_hint(format!(
            "someone may be answering in the server's place; only if you know why the key changed, run  {approve}"
        )),
        Refusal::Revoked => Error::new(
            ErrorCode::HostKeyRevoked,
            format!("{endpoint}: the host key of {name} was revoked: {algorithm} {fingerprint}"),
        )
        .with_hint("give the server a new host key; if the revocation was a mistake, forget it with  birun server host-key delete"),
    }
}

/// Names the revoked keys of a server, which is why even `accept_new` does not take another one.
fn revoked(target: &ServerTarget) -> String {
    let keys = target.host_keys.iter().filter(|key| key.status == HostKeyStatus::Revoked);
    let keys: Vec<&str> = keys.map(|key| key.fingerprint.as_str()).collect();
    if keys.is_empty() { String::new() } else { format!(", whose {} was revoked", keys.join(" and ")) }
}
