//! Which algorithms are offered, and which combinations are refused.

use std::borrow::Cow;

use birun_core::inventory::{HostKey, HostKeyStatus};
use russh::keys::{Algorithm, EcdsaCurve, HashAlg};
use russh::{Names, Preferred, cipher, compression, kex, mac};

/// curve25519 first: a hybrid post-quantum exchange costs seven times the processor time.
/// SHA-1, group 1 and group 14 with SHA-1 are not offered.
const KEX: &[kex::Name] = &[
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::MLKEM768X25519_SHA256,
    kex::ECDH_SHA2_NISTP256,
    kex::ECDH_SHA2_NISTP384,
    kex::ECDH_SHA2_NISTP521,
    kex::DH_GEX_SHA256,
    kex::DH_G16_SHA512,
    kex::DH_G18_SHA512,
    kex::DH_G14_SHA256,
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
];

/// GCM is safe against prefix truncation without strict key exchange, so it comes first.
const CIPHERS: &[cipher::Name] = &[
    cipher::AES_256_GCM,
    cipher::AES_128_GCM,
    cipher::AES_256_CTR,
    cipher::AES_192_CTR,
    cipher::AES_128_CTR,
    cipher::CHACHA20_POLY1305,
];

const MACS: &[mac::Name] = &[mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM, mac::HMAC_SHA256, mac::HMAC_SHA512];

/// Host key algorithms, best first. `ssh-rsa` with SHA-1 is not among them.
const HOST_KEYS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];

/// Which host key types to ask a server for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyTypes {
    /// The types of the approved keys, so that a server with several keys shows one that matches.
    Recorded,
    /// All, to see what a server has that lost the recorded types.
    All,
}

/// The algorithms to offer to a server with these recorded keys.
pub(super) fn preferred(types: KeyTypes, recorded: &[HostKey]) -> Preferred {
    Preferred {
        kex: Cow::Borrowed(KEX),
        key: host_key_algorithms(types, recorded),
        host_key_certificates: Cow::Borrowed(&[]),
        cipher: Cow::Borrowed(CIPHERS),
        mac: Cow::Borrowed(MACS),
        compression: Cow::Borrowed(&[compression::NONE]),
    }
}

fn host_key_algorithms(types: KeyTypes, recorded: &[HostKey]) -> Cow<'static, [Algorithm]> {
    let approved: Vec<&str> =
        recorded.iter().filter(|key| key.status == HostKeyStatus::Approved).map(|key| key.algorithm.as_str()).collect();
    let wanted: Vec<Algorithm> =
        HOST_KEYS.iter().filter(|algorithm| approved.contains(&key_type(algorithm).as_str())).cloned().collect();
    if types == KeyTypes::All || wanted.is_empty() {
        return Cow::Borrowed(HOST_KEYS);
    }
    Cow::Owned(wanted)
}

/// The type of key behind an algorithm: RSA keys are `ssh-rsa` whatever hash signs.
fn key_type(algorithm: &Algorithm) -> String {
    match algorithm {
        Algorithm::Rsa { .. } => "ssh-rsa".to_owned(),
        other => other.to_string(),
    }
}

/// Whether an attacker on the path could cut packets out unnoticed (Terrapin, CVE-2023-48795).
pub(super) fn is_open_to_truncation(names: &Names) -> bool {
    let gcm = [cipher::AES_256_GCM, cipher::AES_128_GCM].contains(&names.cipher);
    let encrypt_then_mac = [names.client_mac, names.server_mac]
        .iter()
        .any(|name| [mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM].contains(name));
    let chained = names.cipher == cipher::CHACHA20_POLY1305 || encrypt_then_mac;
    !names.strict_kex() && !gcm && chained
}

#[cfg(test)]
mod tests {
    use super::*;
    use birun_core::id::{HostKeyId, ProjectId, ServerId};
    use birun_core::inventory::HostKeyOrigin;

    fn recorded(algorithm: &str, status: HostKeyStatus) -> HostKey {
        HostKey {
            id: HostKeyId::new(),
            project_id: ProjectId::DEFAULT,
            server_id: ServerId::new(),
            algorithm: algorithm.to_owned(),
            key: String::new(),
            fingerprint: String::new(),
            status,
            origin: HostKeyOrigin::Offered,
            version: 1,
            created_at: chrono::DateTime::UNIX_EPOCH,
            updated_at: chrono::DateTime::UNIX_EPOCH,
        }
    }

    fn offered(types: KeyTypes, recorded: &[HostKey]) -> Vec<String> {
        preferred(types, recorded).key.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn only_types_of_approved_keys_are_asked_for() {
        let approved = |algorithm| recorded(algorithm, HostKeyStatus::Approved);
        let rsa = [approved("ssh-rsa")];
        assert_eq!(offered(KeyTypes::Recorded, &rsa), ["rsa-sha2-512", "rsa-sha2-256"]);
        let two = [approved("ecdsa-sha2-nistp256"), approved("ssh-ed25519")];
        assert_eq!(offered(KeyTypes::Recorded, &two), ["ssh-ed25519", "ecdsa-sha2-nistp256"]);
        assert_eq!(offered(KeyTypes::All, &rsa).len(), HOST_KEYS.len());
    }

    #[test]
    fn keys_without_trust_narrow_nothing() {
        for status in [HostKeyStatus::Pending, HostKeyStatus::Revoked] {
            assert_eq!(offered(KeyTypes::Recorded, &[recorded("ssh-rsa", status)]).len(), HOST_KEYS.len());
        }
    }

    #[test]
    fn nothing_broken_is_offered() {
        let offer = preferred(KeyTypes::All, &[]);
        let mut names: Vec<String> = offer.key.iter().map(ToString::to_string).collect();
        names.extend(offer.kex.iter().map(|name| name.as_ref().to_owned()));
        names.extend(offer.cipher.iter().map(|name| name.as_ref().to_owned()));
        names.extend(offer.mac.iter().map(|name| name.as_ref().to_owned()));
        for broken in ["ssh-rsa", "ssh-dss", "sha1", "group1-", "cbc", "3des", "none", "clear", "cert"] {
            assert!(!names.iter().any(|name| name.contains(broken)), "{broken} in {names:?}");
        }
        assert_eq!(offer.compression.len(), 1);
    }
}
