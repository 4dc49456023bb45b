//! Credentials: what is stored becomes something to sign in with, or an error that helps.

use std::sync::Arc;

use birun_core::inventory::{AgentKey, CredentialFacts, CredentialInspector, OpenCredential, PromptAnswer};
use birun_core::vault::Secret;
use birun_core::{Error, ErrorCode, Result};
use russh::MethodKind;
use russh::keys::ssh_key::{self, Kdf};
use russh::keys::{Algorithm, Certificate, HashAlg, PrivateKey, decode_secret_key};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use crate::ssh::blocking::block;
use crate::ssh::certificate;
use crate::ssh::host_key::MIN_RSA_BITS;

/// More bcrypt rounds than anyone needs: about ten seconds.
const MAX_ROUNDS: u32 = 1024;

/// Reads private keys and passwords for SSH before they are stored.
#[derive(Clone, Copy, Debug, Default)]
pub struct SshKeys;

impl CredentialInspector for SshKeys {
    /// Opens the key as a sign-in would. An encrypted key takes a fraction of a second by design:
    /// call it where blocking is allowed.
    fn inspect(&self, value: &OpenCredential) -> Result<CredentialFacts> {
        match value {
            OpenCredential::Password(password) if password.expose().is_empty() => {
                Err(unreadable("the password is empty"))
            }
            OpenCredential::Password(_) | OpenCredential::Answers(_) => Ok(CredentialFacts::default()),
            OpenCredential::Several(methods) => {
                let facts = methods.iter().map(|method| self.inspect(method)).collect::<Result<Vec<_>>>()?;
                // A private key's before an agent's, which tells less.
                let public = |facts: &CredentialFacts| (facts.algorithm.is_some(), facts.fingerprint.is_some());
                Ok(facts.into_iter().rev().max_by_key(public).unwrap_or_default())
            }
            OpenCredential::Agent(AgentKey { fingerprint, .. }) => {
                Ok(CredentialFacts { fingerprint: fingerprint.clone(), ..CredentialFacts::default() })
            }
            OpenCredential::PrivateKey { key, passphrase, certificate } => {
                let key = open_key(key, passphrase.as_ref())?;
                let certificate = certificate.as_deref().map(|text| certificate::read(text, &key)).transpose()?;
                Ok(CredentialFacts {
                    algorithm: Some(key.algorithm().to_string()),
                    fingerprint: Some(key.fingerprint(HashAlg::Sha256).to_string()),
                    certificate: certificate.as_ref().map(certificate::facts),
                })
            }
        }
    }
}

/// What a sign-in uses. Lives in memory only.
#[derive(Clone)]
pub(super) enum Identity {
    Key(SigningKey),
    Password(Secret),
    Answers(Vec<PromptAnswer>),
    Agent(AgentKey),
    Several(Vec<Self>),
}

/// A private key, and the user certificate for it, if there is one.
#[derive(Clone)]
pub(super) struct SigningKey {
    pub(super) key: Arc<PrivateKey>,
    pub(super) certificate: Option<Box<Certificate>>,
}

impl SigningKey {
    fn open(text: &Secret, passphrase: Option<&Secret>, certificate: Option<&str>) -> Result<Self> {
        let key = open_key(text, passphrase)?;
        let certificate = certificate.map(|text| certificate::read(text, &key)).transpose()?.map(Box::new);
        Ok(Self { key: Arc::new(key), certificate })
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity(***)")
    }
}

impl Identity {
    /// The methods to sign in with, in their order.
    pub(super) const fn methods(&self) -> &[Self] {
        match self {
            Self::Several(methods) => methods.as_slice(),
            one => std::slice::from_ref(one),
        }
    }

    /// What servers call this method.
    pub(super) const fn kinds(&self) -> &'static [MethodKind] {
        match self {
            Self::Key(_) | Self::Agent(_) => &[MethodKind::PublicKey],
            Self::Password(_) => &[MethodKind::Password, MethodKind::KeyboardInteractive],
            Self::Answers(_) => &[MethodKind::KeyboardInteractive],
            Self::Several(_) => &[],
        }
    }

    /// The certificate that it signs in with, if it has one.
    pub(super) fn certificate(&self) -> Option<&Certificate> {
        match self {
            Self::Key(key) => key.certificate.as_deref(),
            Self::Password(_) | Self::Answers(_) | Self::Agent(_) | Self::Several(_) => None,
        }
    }

    /// Opens a credential; the slow part runs on a thread for blocking work, as one of a few at once.
    ///
    /// # Errors
    /// `credential_unreadable`, without any part of the value.
    pub(super) async fn open(credential: &OpenCredential, places: &Arc<Semaphore>) -> Result<Self> {
        let OpenCredential::Several(methods) = credential else { return Self::open_one(credential, places).await };
        let mut opened = Vec::with_capacity(methods.len());
        for method in methods {
            opened.push(Self::open_one(method, places).await?);
        }
        Ok(Self::Several(opened))
    }

    async fn open_one(credential: &OpenCredential, places: &Arc<Semaphore>) -> Result<Self> {
        match credential.clone() {
            OpenCredential::Password(password) => Ok(Self::Password(password)),
            OpenCredential::Answers(answers) => Ok(Self::Answers(answers)),
            OpenCredential::Agent(agent) => Ok(Self::Agent(agent)),
            OpenCredential::Several(_) => Err(unreadable("several methods stand in one of several")),
            OpenCredential::PrivateKey { key, passphrase, certificate } => {
                let open = move || SigningKey::open(&key, passphrase.as_ref(), certificate.as_deref());
                Ok(Self::Key(block(places, open).await??))
            }
        }
    }
}

/// What two credentials have in common only if they are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Digest([u8; 32]);

impl Digest {
    pub(super) fn of(credential: &OpenCredential) -> Self {
        let mut hash = Sha256::new();
        absorb(&mut hash, credential);
        Self(hash.finalize().into())
    }
}

fn absorb(hash: &mut Sha256, credential: &OpenCredential) {
    let mut add = |text: Option<&str>| {
        // The length keeps apart what would be the same in a row; no text is as long as this.
        hash.update(text.map_or(usize::MAX, str::len).to_le_bytes());
        hash.update(text.unwrap_or_default());
    };
    add(Some(credential.kind().as_str()));
    match credential {
        OpenCredential::Password(password) => add(Some(password.expose())),
        OpenCredential::PrivateKey { key, passphrase, certificate } => {
            add(Some(key.expose()));
            add(passphrase.as_ref().map(Secret::expose));
            add(certificate.as_deref());
        }
        OpenCredential::Answers(answers) => {
            for known in answers {
                add(Some(known.prompt.as_str()));
                add(Some(known.answer.expose()));
            }
            add(None);
        }
        OpenCredential::Agent(AgentKey { socket, fingerprint }) => {
            add(socket.as_deref());
            add(fingerprint.as_deref());
        }
        OpenCredential::Several(methods) => methods.iter().for_each(|method| absorb(hash, method)),
    }
}

fn open_key(text: &Secret, passphrase: Option<&Secret>) -> Result<PrivateKey> {
    let passphrase = passphrase.map(Secret::expose).filter(|passphrase| !passphrase.is_empty());
    check_form(text.expose())?;
    check_passphrase(text.expose(), passphrase)?;
    let key = decode(text.expose(), passphrase)?;
    check_algorithm(&key)?;
    Ok(key)
}

fn check_form(text: &str) -> Result<()> {
    let first = text.trim_start().lines().next().unwrap_or_default();
    if first.contains("PRIVATE KEY-----") || first.starts_with("PuTTY-User-Key-File-") {
        return Ok(());
    }
    let hint = if first.starts_with("ssh-") || first.starts_with("ecdsa-") {
        "this is the public half; give the file without .pub"
    } else {
        "give a private key file, which begins with -----BEGIN … PRIVATE KEY-----"
    };
    Err(unreadable("this is not a private key").with_hint(hint))
}

/// Forms whose header says that they are encrypted; those of OpenSSH say it inside.
fn check_passphrase(text: &str, passphrase: Option<&str>) -> Result<()> {
    let encrypted = text.lines().take(3).any(|line| line.contains("ENCRYPTED"));
    if encrypted && passphrase.is_none() { Err(needs_passphrase()) } else { Ok(()) }
}

/// Reads a key once: the form of OpenSSH tells its cost before it is opened.
fn decode(text: &str, passphrase: Option<&str>) -> Result<PrivateKey> {
    let opened = match (PrivateKey::from_openssh(text), passphrase) {
        (Ok(key), _) if !key.is_encrypted() => Ok(key),
        (Ok(_), None) => return Err(needs_passphrase()),
        (Ok(key), Some(passphrase)) => {
            check_cost(&key)?;
            key.decrypt(passphrase).map_err(russh::keys::Error::from)
        }
        (Err(_), passphrase) => decode_secret_key(text, passphrase),
    };
    opened.map_err(|error| explain(&error, passphrase.is_some()))
}

/// Refuses a key whose opening would keep a processor busy for minutes.
fn check_cost(key: &PrivateKey) -> Result<()> {
    match key.kdf() {
        Kdf::Bcrypt { rounds, .. } if *rounds > MAX_ROUNDS => {
            Err(unreadable(format!("the key takes {rounds} bcrypt rounds to open, at most {MAX_ROUNDS} are allowed"))
                .with_hint("change its passphrase with  ssh-keygen -p -a 64 -f FILE"))
        }
        _ => Ok(()),
    }
}

fn check_algorithm(key: &PrivateKey) -> Result<()> {
    let use_other = "use an ed25519 key: ssh-keygen -t ed25519";
    match key.algorithm() {
        Algorithm::Ed25519 | Algorithm::Ecdsa { .. } => Ok(()),
        Algorithm::Rsa { .. } => match key.public_key().key_data().rsa().map(ssh_key::public::RsaPublicKey::key_size) {
            Some(bits) if bits < MIN_RSA_BITS => {
                Err(unreadable(format!("an RSA key of {bits} bits is too short")).with_hint(use_other))
            }
            _ => Ok(()),
        },
        Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256 => {
            Err(unreadable("the key lives on a security key that must be touched").with_hint(use_other))
        }
        other => Err(unreadable(format!("keys of type {other} are not supported")).with_hint(use_other)),
    }
}

/// What to say of a key that cannot be opened. Texts of other crates are not passed on: they may
/// quote what they could not read.
fn explain(error: &russh::keys::Error, had_passphrase: bool) -> Error {
    use russh::keys::Error as E;
    match error {
        E::KeyIsEncrypted | E::SshKey(ssh_key::Error::Encrypted) => needs_passphrase(),
        E::SshKey(ssh_key::Error::AlgorithmUnknown | ssh_key::Error::AlgorithmUnsupported { .. })
        | E::UnknownAlgorithm(_)
        | E::UnsupportedKeyType { .. } => unreadable("the key's algorithm or cipher is not supported")
            .with_hint("use an ed25519 key, or convert this one with  ssh-keygen -p -f FILE"),
        E::SshKey(ssh_key::Error::Crypto) | E::Pkcs8(_) | E::Pad(_) | E::Unpad(_) if had_passphrase => {
            unreadable("the passphrase is wrong, or the key is damaged").with_hint("try it with  ssh-keygen -y -f FILE")
        }
        _ => unreadable("the private key is damaged or of an unknown form")
            .with_hint("try it with  ssh-keygen -y -f FILE"),
    }
}

fn needs_passphrase() -> Error {
    unreadable("the private key is encrypted and no passphrase was given").with_hint("give its passphrase as well")
}

fn unreadable(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::CredentialUnreadable, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{key_text, private_key};
    use russh::keys::key::safe_rng;
    use russh::keys::{EcdsaCurve, encode_pkcs8_pem, encode_pkcs8_pem_encrypted};

    fn credential(key: &str, passphrase: Option<&str>) -> OpenCredential {
        OpenCredential::PrivateKey { key: Secret::new(key), passphrase: passphrase.map(Secret::new), certificate: None }
    }

    fn refused(key: &str, passphrase: Option<&str>) -> String {
        let error = SshKeys.inspect(&credential(key, passphrase)).unwrap_err();
        assert_eq!(error.code(), ErrorCode::CredentialUnreadable);
        assert!(error.hint().is_some(), "{error}");
        error.to_string()
    }

    #[test]
    fn a_key_is_known_by_its_public_side() {
        for algorithm in [Algorithm::Ed25519, Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 }] {
            let key = private_key(algorithm.clone());
            let mut pkcs8 = Vec::new();
            encode_pkcs8_pem(&key, &mut pkcs8).unwrap();
            for text in [key_text(&key), String::from_utf8(pkcs8).unwrap()] {
                let facts = SshKeys.inspect(&credential(&text, None)).unwrap();
                assert_eq!(facts.algorithm, Some(algorithm.to_string()));
                assert_eq!(facts.fingerprint, Some(key.fingerprint(HashAlg::Sha256).to_string()));
            }
        }
    }

    #[test]
    fn an_encrypted_key_wants_its_passphrase() {
        let key = private_key(Algorithm::Ed25519);
        let openssh = key_text(&key.encrypt(&mut safe_rng(), "correct").unwrap());
        let mut pkcs8 = Vec::new();
        encode_pkcs8_pem_encrypted(&key, b"correct", 1000, &mut pkcs8).unwrap();
        for text in [openssh, String::from_utf8(pkcs8).unwrap()] {
            assert!(SshKeys.inspect(&credential(&text, Some("correct"))).is_ok());
            assert!(refused(&text, Some("wrong")).contains("passphrase is wrong"));
            for missing in [None, Some("")] {
                assert!(refused(&text, missing).contains("no passphrase was given"));
            }
        }
    }

    #[test]
    fn what_is_no_usable_key_is_told_without_quoting_it() {
        let key = private_key(Algorithm::Ed25519);
        let public = key.public_key().to_openssh().unwrap();
        assert!(refused(&public, None).contains("not a private key"));
        let broken = key_text(&key).replacen("AAAA", "CANARY", 1);
        for text in
            ["", "CANARY", "-----BEGIN OPENSSH PRIVATE KEY-----\nCANARY\n-----END OPENSSH PRIVATE KEY-----", &broken]
        {
            assert!(!refused(text, None).contains("CANARY"));
        }
    }

    #[test]
    fn keys_that_prove_nothing_are_refused() {
        let short = ssh_key::private::RsaKeypair::random(&mut safe_rng(), 1024).unwrap();
        assert!(refused(&key_text(&PrivateKey::from(short)), None).contains("1024 bits"));
        let touched = Algorithm::SkEd25519;
        assert!(PrivateKey::random(&mut safe_rng(), touched).is_err(), "such keys cannot even be made here");
    }

    #[test]
    fn a_key_that_takes_minutes_to_open_is_refused() {
        let kdf = Kdf::Bcrypt { salt: vec![1; 16], rounds: 1 };
        let key = private_key(Algorithm::Ed25519).encrypt_with(ssh_key::Cipher::Aes256Ctr, kdf, 1, "x").unwrap();
        let body = key.to_bytes().unwrap();
        let at = body.windows(8).position(|bytes| bytes == [1, 1, 1, 1, 0, 0, 0, 1]).unwrap();
        let mut costly = body.to_vec();
        costly[at + 4..at + 8].copy_from_slice(&(MAX_ROUNDS + 1).to_be_bytes());
        let costly = PrivateKey::from_bytes(&costly).unwrap();
        assert!(refused(&key_text(&costly), Some("x")).contains("bcrypt rounds"));
    }

    #[test]
    fn only_the_same_credential_has_the_same_digest() {
        let all = [
            credential("a", None),
            credential("a", Some("")),
            credential("a", Some("b")),
            credential("ab", None),
            credential("ab", Some("")),
            OpenCredential::PrivateKey { key: Secret::new("a"), passphrase: None, certificate: Some(String::new()) },
            OpenCredential::Password(Secret::new("a")),
            OpenCredential::Password(Secret::new("ab")),
        ];
        let digests: std::collections::HashSet<Digest> = all.iter().map(Digest::of).collect();
        assert_eq!(digests.len(), all.len());
        assert_eq!(Digest::of(&all[2]), Digest::of(&all[2].clone()));
    }

    #[test]
    fn a_password_is_anything_but_nothing() {
        assert_eq!(SshKeys.inspect(&OpenCredential::Password(Secret::new("x"))).unwrap(), CredentialFacts::default());
        assert!(SshKeys.inspect(&OpenCredential::Password(Secret::new(""))).is_err());
    }
}
