//! Host keys: which key a server may answer with.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::id::{HostKeyId, ProjectId, Selector, ServerId};
use crate::text_enum::text_enum;

text_enum! {
    /// How an *unknown* key is met. A *changed* or revoked key is refused under every policy.
    pub enum HostKeyPolicy {
        /// Refused, and noted as pending, so that someone can approve it.
        Strict = "strict",
        /// Recorded and trusted, if no key of the server was approved or revoked yet.
        AcceptNew = "accept_new",
    }
}

text_enum! {
    /// Whether a recorded key is trusted.
    pub enum HostKeyStatus {
        /// Trusted.
        Approved = "approved",
        /// Seen, and waiting for a decision.
        Pending = "pending",
        /// Never to be trusted again.
        Revoked = "revoked",
    }
}

text_enum! {
    /// How a key came to be recorded.
    pub enum HostKeyOrigin {
        /// The server offered it.
        Offered = "offered",
        /// Someone wrote it down.
        Manual = "manual",
    }
}

/// A key that a server offered or that someone recorded for it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct HostKey {
    /// Identifies the record.
    pub id: HostKeyId,
    /// The project it belongs to.
    pub project_id: ProjectId,
    /// The server it belongs to.
    pub server_id: ServerId,
    /// For example `ssh-ed25519`.
    pub algorithm: String,
    /// The public key blob in base64, as in a `known_hosts` line.
    pub key: String,
    /// `SHA256:…`
    pub fingerprint: String,
    /// Whether it is trusted.
    pub status: HostKeyStatus,
    /// How it came to be recorded.
    pub origin: HostKeyOrigin,
    /// Rises by one with each change.
    pub version: u64,
    /// When it was recorded.
    pub created_at: DateTime<Utc>,
    /// When its status was last changed.
    pub updated_at: DateTime<Utc>,
}

/// A key to be recorded as approved.
#[derive(Clone, Debug)]
pub struct NewHostKey {
    /// The server it belongs to.
    pub server: Selector,
    /// A public key line: `ssh-ed25519 AAAA… [comment]`.
    pub public_key: String,
    /// Whether it is trusted from now on, or never.
    pub status: HostKeyStatus,
}

/// A key as a server offered it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferedKey {
    /// For example `ssh-ed25519`.
    pub algorithm: String,
    /// The public key blob in base64.
    pub key: String,
    /// `SHA256:…`
    pub fingerprint: String,
}

impl OfferedKey {
    /// Reads a public key line: `ssh-ed25519 AAAA… [comment]`.
    ///
    /// # Errors
    /// `invalid` if it is none, or if the blob is of another algorithm than the line says.
    pub fn parse(line: &str) -> Result<Self> {
        let refuse = |why: &str| {
            Err(Error::invalid_field("public_key", why)
                .with_hint("give a line such as  ssh-ed25519 AAAA…,  as /etc/ssh/ssh_host_ed25519_key.pub holds it"))
        };
        let mut words = line.split_whitespace();
        let (Some(algorithm), Some(key)) = (words.next(), words.next()) else {
            return refuse("is not a public key line");
        };
        let Ok(blob) = STANDARD.decode(key) else { return refuse("the key is not base64") };
        if inner_algorithm(&blob) != Some(algorithm.as_bytes()) {
            return refuse("the key is not of the algorithm that the line names");
        }
        let fingerprint = format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(&blob)));
        Ok(Self { algorithm: algorithm.to_owned(), key: key.to_owned(), fingerprint })
    }
}

/// The algorithm that a public key blob names itself (RFC 4253, section 6.6).
fn inner_algorithm(blob: &[u8]) -> Option<&[u8]> {
    let (length, rest) = blob.split_first_chunk::<4>()?;
    rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

/// What to do with an offered key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on: the key is recorded and approved.
    Trust,
    /// Record the key as approved, then go on.
    TrustAndRecord,
    /// Stop before any authentication.
    Refuse(Refusal),
}

/// Why an offered key is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No key is approved for this server.
    Unknown,
    /// Other keys are approved for this server, with these fingerprints.
    Changed {
        /// The approved ones.
        expected: Vec<String>,
    },
    /// This very key was revoked.
    Revoked,
}

/// Judges an offered key against what is recorded for the server.
///
/// Keys are compared by their blob, never by comment or type alone: an approved key of another
/// type and no match is a *changed* key. A pending record gives no trust.
#[must_use]
pub fn judge(policy: HostKeyPolicy, recorded: &[HostKey], offered: &OfferedKey) -> Verdict {
    let with = |status| recorded.iter().filter(move |key| key.status == status);
    if with(HostKeyStatus::Revoked).any(|key| key.key == offered.key) {
        return Verdict::Refuse(Refusal::Revoked);
    }
    if with(HostKeyStatus::Approved).any(|key| key.key == offered.key) {
        return Verdict::Trust;
    }
    let expected: Vec<String> = with(HostKeyStatus::Approved).map(|key| key.fingerprint.clone()).collect();
    let nothing_known = with(HostKeyStatus::Revoked).next().is_none();
    match (policy, expected.is_empty()) {
        (_, false) => Verdict::Refuse(Refusal::Changed { expected }),
        // A server whose only key was revoked is not new: whoever has the revoked key could offer any other.
        (HostKeyPolicy::AcceptNew, true) if nothing_known => Verdict::TrustAndRecord,
        (_, true) => Verdict::Refuse(Refusal::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use HostKeyPolicy::{AcceptNew, Strict};
    use HostKeyStatus::{Approved, Pending, Revoked};

    fn offered(key: &str) -> OfferedKey {
        OfferedKey { algorithm: "ssh-ed25519".into(), key: key.into(), fingerprint: format!("SHA256:{key}") }
    }

    fn recorded(key: &str, status: HostKeyStatus) -> HostKey {
        HostKey {
            id: HostKeyId::new(),
            project_id: ProjectId::DEFAULT,
            server_id: ServerId::new(),
            algorithm: "ssh-ed25519".into(),
            key: key.into(),
            fingerprint: format!("SHA256:{key}"),
            status,
            origin: HostKeyOrigin::Offered,
            version: 1,
            created_at: DateTime::UNIX_EPOCH,
            updated_at: DateTime::UNIX_EPOCH,
        }
    }

    fn changed(from: &str) -> Verdict {
        Verdict::Refuse(Refusal::Changed { expected: vec![format!("SHA256:{from}")] })
    }

    #[test]
    fn a_public_key_line_is_read_as_openssh_reads_it() {
        let line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl host";
        let key = OfferedKey::parse(line).unwrap();
        assert_eq!(key.fingerprint, "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU");
        for bad in ["", "ssh-ed25519", "ssh-ed25519 !!", &line.replacen("ssh-ed25519", "ssh-rsa", 1)] {
            assert!(OfferedKey::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn verdicts() {
        let cases: [(HostKeyPolicy, Vec<HostKey>, Verdict); 12] = [
            (Strict, vec![], Verdict::Refuse(Refusal::Unknown)),
            (AcceptNew, vec![], Verdict::TrustAndRecord),
            (Strict, vec![recorded("A", Approved)], Verdict::Trust),
            (Strict, vec![recorded("B", Approved)], changed("B")),
            (AcceptNew, vec![recorded("B", Approved)], changed("B")),
            (AcceptNew, vec![recorded("A", Revoked)], Verdict::Refuse(Refusal::Revoked)),
            (Strict, vec![recorded("A", Pending)], Verdict::Refuse(Refusal::Unknown)),
            (AcceptNew, vec![recorded("A", Pending)], Verdict::TrustAndRecord),
            (Strict, vec![recorded("A", Revoked), recorded("A", Approved)], Verdict::Refuse(Refusal::Revoked)),
            (AcceptNew, vec![recorded("B", Revoked)], Verdict::Refuse(Refusal::Unknown)),
            (AcceptNew, vec![recorded("B", Revoked), recorded("A", Pending)], Verdict::Refuse(Refusal::Unknown)),
            (AcceptNew, vec![recorded("B", Revoked), recorded("A", Approved)], Verdict::Trust),
        ];
        for (policy, known, verdict) in cases {
            assert_eq!(judge(policy, &known, &offered("A")), verdict, "{policy} {known:?}");
        }
    }
}
