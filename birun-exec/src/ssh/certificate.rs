//! User certificates: what one must be to be stored, and what may be wrong with it when it is refused.

use birun_core::inventory::CertificateFacts;
use birun_core::{Error, ErrorCode, Result};
use chrono::{DateTime, SecondsFormat, Utc};
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::{Certificate, HashAlg, PrivateKey};

use crate::ssh::peer::printable;

/// OpenSSH allows 256 principals; this holds as many long ones.
const MAX_TEXT: usize = 64 * 1024;

/// Reads a user certificate for this key.
///
/// Its window is not looked at: an expired one may wait for the next, and the server's clock decides.
///
/// # Errors
/// `credential_unreadable` if it is none, or for something else.
pub(super) fn read(text: &str, key: &PrivateKey) -> Result<Certificate> {
    let text = text.trim();
    let kind = text.split_ascii_whitespace().next().unwrap_or_default();
    if !kind.ends_with("-cert-v01@openssh.com") {
        return Err(unfit("the certificate is not an OpenSSH certificate")
            .with_hint("give the file that ssh-keygen -s wrote, which ends in -cert.pub"));
    }
    if text.len() > MAX_TEXT || text.lines().nth(1).is_some() {
        return Err(
            unfit("the certificate is too long, or more than one").with_hint("give a file with one certificate")
        );
    }
    let certificate = Certificate::from_openssh(text).map_err(|_| {
        unfit("the certificate is damaged or of an unknown form").with_hint("try it with  ssh-keygen -L -f FILE")
    })?;
    if certificate.cert_type() != CertType::User {
        return Err(unfit("this is a host certificate").with_hint("give one for a user, signed without  ssh-keygen -h"));
    }
    if certificate.public_key() != key.public_key().key_data() {
        let theirs = certificate.public_key().fingerprint(HashAlg::Sha256);
        let ours = key.fingerprint(HashAlg::Sha256);
        return Err(unfit(format!("the certificate is for the key {theirs}, the private key is {ours}"))
            .with_hint("give the certificate that was made for this key"));
    }
    Ok(certificate)
}

fn unfit(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::CredentialUnreadable, message)
}

/// What may be known of a certificate.
pub(super) fn facts(certificate: &Certificate) -> CertificateFacts {
    CertificateFacts {
        key_id: certificate.key_id().to_owned(),
        authority: certificate.signature_key().fingerprint(HashAlg::Sha256).to_string(),
        principals: certificate.valid_principals().to_vec(),
        valid_after: Some(certificate.valid_after()).filter(|seconds| *seconds > 0).map(instant),
        valid_before: Some(certificate.valid_before()).filter(|seconds| *seconds < u64::MAX).map(instant),
    }
}

/// Seconds since 1970; what no calendar holds is its end.
fn instant(seconds: u64) -> DateTime<Utc> {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    DateTime::from_timestamp(seconds, 0).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// What is wrong with a certificate for this user at this time, as far as it tells itself. Names of
/// principals need not be names of users, so that counts only once the server has refused it.
pub(super) fn fault(certificate: &Certificate, user: &str, now: DateTime<Utc>) -> Option<String> {
    let CertificateFacts { principals, valid_after, valid_before, .. } = facts(certificate);
    if let Some(until) = valid_before.filter(|until| *until <= now) {
        return Some(format!("the certificate expired at {}", shown(until)));
    }
    if let Some(from) = valid_after.filter(|from| *from > now) {
        return Some(format!("the certificate is not valid before {}", shown(from)));
    }
    if principals.is_empty() {
        return Some("the certificate names no user".to_owned());
    }
    if principals.iter().any(|principal| principal == user) {
        return None;
    }
    Some(format!("the certificate is for {}, not for {user}", printable(&principals.join(", "))))
}

fn shown(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{certificate, private_key};
    use russh::keys::Algorithm;

    fn at(seconds: u64) -> DateTime<Utc> {
        instant(seconds)
    }

    #[test]
    fn a_certificate_must_be_a_users_and_the_keys_own() {
        let (key, other, authority) =
            (private_key(Algorithm::Ed25519), private_key(Algorithm::Ed25519), private_key(Algorithm::Ed25519));
        let text = |key: &PrivateKey, kind| certificate(key, &authority, kind, &["deploy"], (10, 20));
        assert!(read(&text(&key, CertType::User), &key).is_ok());
        assert!(read(&format!("\n{}\n", text(&key, CertType::User)), &key).is_ok());
        let public = key.public_key().to_openssh().unwrap();
        let two = format!("{0}\n{0}", text(&key, CertType::User));
        for (text, why) in [
            (text(&other, CertType::User), "the certificate is for the key SHA256:"),
            (text(&key, CertType::Host), "this is a host certificate"),
            (public, "is not an OpenSSH certificate"),
            (String::new(), "is not an OpenSSH certificate"),
            (text(&key, CertType::User).replacen("AAAA", "AAAB", 1), "is damaged"),
            (two, "more than one"),
        ] {
            let error = read(&text, &key).unwrap_err();
            assert_eq!(error.code(), ErrorCode::CredentialUnreadable);
            assert!(error.to_string().contains(why) && error.hint().is_some(), "{error}");
        }
    }

    #[test]
    fn a_certificate_tells_its_window_and_its_users() {
        let (key, authority) = (private_key(Algorithm::Ed25519), private_key(Algorithm::Ed25519));
        let facts_of = |window| {
            let text = certificate(&key, &authority, CertType::User, &["deploy", "root"], window);
            facts(&read(&text, &key).unwrap())
        };
        let bounded = facts_of((10, 20));
        assert_eq!((bounded.valid_after, bounded.valid_before), (Some(at(10)), Some(at(20))));
        assert_eq!(bounded.principals, ["deploy", "root"]);
        assert_eq!(bounded.authority, authority.fingerprint(HashAlg::Sha256).to_string());
        let endless = facts_of((0, u64::MAX));
        assert_eq!((endless.valid_after, endless.valid_before), (None, None));
    }

    #[test]
    fn a_certificate_says_itself_what_is_wrong_with_it() {
        let (key, authority) = (private_key(Algorithm::Ed25519), private_key(Algorithm::Ed25519));
        let fault_at = |seconds, user: &str| {
            let text = certificate(&key, &authority, CertType::User, &["deploy", "a\u{1b}[2J"], (10, 20));
            fault(&read(&text, &key).unwrap(), user, at(seconds))
        };
        assert_eq!(fault_at(15, "deploy"), None);
        assert_eq!(fault_at(20, "deploy").unwrap(), "the certificate expired at 1970-01-01T00:00:20Z");
        assert_eq!(fault_at(9, "deploy").unwrap(), "the certificate is not valid before 1970-01-01T00:00:10Z");
        assert_eq!(fault_at(15, "root").unwrap(), "the certificate is for deploy, a [2J, not for root");
    }
}
