//! Signing in with one credential.

use std::sync::Arc;
use std::time::Duration;

use birun_core::{Clock as _, Error, ErrorCode, Result, SystemClock};
use russh::client::{AuthResult, Handle};
use russh::keys::agent::AgentIdentity;
use russh::keys::signature::Signer as _;
use russh::keys::ssh_encoding::Encode as _;
use russh::keys::ssh_key::{self, Signature, private::KeypairData};
use russh::keys::{Algorithm, Certificate, HashAlg, PrivateKey, PrivateKeyWithHashAlg};
use russh::{AgentAuthError, MethodKind, MethodSet, Signer};

use crate::ssh::approach::{Admitted, Approach};
use crate::ssh::certificate;
use crate::ssh::connection::Connection;
use crate::ssh::keys::{Identity, SigningKey};
use crate::ssh::peer::{Ended, Peer};
use crate::ssh::phase::{Phase, limited};

/// A server that names its signature algorithms does so together with its new keys.
const SIGNATURE_ALGORITHMS: Duration = Duration::from_millis(250);

impl Admitted {
    /// Signs in as the target's user.
    ///
    /// # Errors
    /// `auth_failed` if the server refuses or there is nothing to sign in with; `certificate_refused`
    /// if it refuses a certificate that is at fault itself; `connect_failed` if it hangs up;
    /// `phase_timeout`.
    pub(super) async fn sign_in(mut self, approach: &Approach, identity: Option<&Identity>) -> Result<Connection> {
        let identity = identity.ok_or_else(|| nothing_to_sign_in_with(approach))?;
        let mut desk = Desk {
            handle: &mut self.handle,
            approach,
            ended: &self.ended,
            tried: Vec::new(),
            accepts: MethodSet::empty(),
            partial: false,
        };
        let limit = approach.settings.limits.authentication;
        limited(&approach.endpoint, Phase::Authentication, limit, desk.sign_in(identity)).await?;
        Ok(Connection::new(self, approach))
    }
}

/// A sign-in under way.
struct Desk<'a> {
    handle: &'a mut Handle<Peer>,
    approach: &'a Approach,
    ended: &'a Ended,
    /// What was tried so far, in words.
    tried: Vec<String>,
    /// What the server says it accepts, since it refused something.
    accepts: MethodSet,
    /// Whether what was tried last is right, but not enough.
    partial: bool,
}

impl Desk<'_> {
    async fn sign_in(&mut self, identity: &Identity) -> Result<()> {
        let signed_in = match identity {
            Identity::Password(password) => {
                self.tried.push("password".to_owned());
                let user = self.user();
                let answer = self.handle.authenticate_password(user, password.expose()).await;
                self.heard(answer)?
            }
            Identity::Key(key) => self.key(key).await?,
        };
        if signed_in { Ok(()) } else { Err(self.refused(identity)) }
    }

    /// Tries a key: with its certificate, then by itself.
    async fn key(&mut self, key: &SigningKey) -> Result<bool> {
        let SigningKey { key, certificate } = key;
        let hash = self.hash_for(&key.algorithm()).await?;
        if let Some(certificate) = certificate {
            let signed_in = self.certificate(certificate, key, hash).await?;
            if signed_in || self.partial || !self.accepts.contains(&MethodKind::PublicKey) {
                return Ok(signed_in);
            }
        }
        self.tried.push(format!("publickey ({} {})", key.algorithm(), key.fingerprint(HashAlg::Sha256)));
        let (user, key) = (self.user(), PrivateKeyWithHashAlg::new(Arc::clone(key), hash));
        let answer = self.handle.authenticate_publickey(user, key).await;
        self.heard(answer)
    }

    async fn certificate(
        &mut self,
        certificate: &Certificate,
        key: &PrivateKey,
        hash: Option<HashAlg>,
    ) -> Result<bool> {
        let kind = certificate.algorithm().to_certificate_type();
        self.tried.push(format!("publickey ({kind} {})", key.fingerprint(HashAlg::Sha256)));
        let (user, certificate) = (self.user(), certificate.clone());
        let answer = self.handle.authenticate_certificate_with(user, certificate, hash, &mut Pen(key)).await;
        self.heard(answer.map_err(|error| match error {
            AgentAuthError::Key(russh::keys::Error::SshKey(error)) => russh::Error::SshKey(error),
            _ => russh::Error::SendError,
        }))
    }

    /// The hash that an RSA key signs with.
    async fn hash_for(&self, algorithm: &Algorithm) -> Result<Option<HashAlg>> {
        if !matches!(algorithm, Algorithm::Rsa { .. }) {
            return Ok(None);
        }
        match tokio::time::timeout(SIGNATURE_ALGORITHMS, self.handle.best_supported_rsa_hash()).await {
            Ok(Ok(Some(None))) => Err(only_sha1(self.approach)),
            Ok(Ok(Some(hash))) => Ok(hash),
            Ok(Err(error)) => Err(self.broke(Some(&error))),
            Ok(Ok(None)) | Err(_) => Ok(Some(HashAlg::Sha512)),
        }
    }

    fn user(&self) -> String {
        self.approach.judge.target.user.clone()
    }

    /// Notes the server's answer; whether it let us in.
    fn heard(&mut self, answer: Result<AuthResult, russh::Error>) -> Result<bool> {
        match answer.map_err(|error| self.broke(Some(&error)))? {
            AuthResult::Success => Ok(true),
            AuthResult::Failure { remaining_methods, partial_success } => {
                self.accepts = remaining_methods;
                self.partial = partial_success;
                Ok(false)
            }
        }
    }

    fn broke(&self, error: Option<&russh::Error>) -> Error {
        let why = self.ended.why().map(str::to_owned).or_else(|| error.map(ToString::to_string)).unwrap_or_default();
        let endpoint = &self.approach.endpoint;
        Error::new(ErrorCode::ConnectFailed, format!("{endpoint}: the connection ended in authentication: {why}"))
    }

    fn refused(&self, identity: &Identity) -> Error {
        let no_method = russh::Error::NoAuthMethod.to_string();
        match self.ended.why() {
            Some(why) if self.accepts.is_empty() && why != no_method => return self.broke(None),
            _ => {}
        }
        let accepted: Vec<&str> = self.accepts.iter().map(<&str>::from).collect();
        let accepts = if accepted.is_empty() { "nothing else".to_owned() } else { accepted.join(", ") };
        let (user, endpoint) = (self.user(), &self.approach.endpoint);
        if self.partial {
            let taken = self.tried.last().map(String::as_str).unwrap_or_default();
            let message = format!("{user}@{endpoint}: {taken} was taken, but the server also wants {accepts}");
            return Error::new(ErrorCode::AuthFailed, message)
                .with_hint("birun signs in with one credential; let the server ask this user for one");
        }
        let tried = self.tried.join(", ");
        let message = format!("{user}@{endpoint}: authentication failed: tried {tried}, the server accepts {accepts}");
        match identity.certificate().and_then(|known| certificate::fault(known, &user, SystemClock::new().now())) {
            Some(fault) => Error::new(ErrorCode::CertificateRefused, format!("{message}; {fault}")).with_hint(
                "have the key signed anew, then store that with  birun credential edit CREDENTIAL --certificate FILE",
            ),
            None => Error::new(ErrorCode::AuthFailed, message).with_hint(hint(&user, identity, &accepted)),
        }
    }
}

/// Signs with a key that is here.
struct Pen<'a>(&'a PrivateKey);

impl Signer for Pen<'_> {
    type Error = AgentAuthError;

    async fn auth_sign(
        &mut self,
        _: &AgentIdentity,
        hash: Option<HashAlg>,
        mut data: Vec<u8>,
    ) -> Result<Vec<u8>, AgentAuthError> {
        let signature = sign(self.0, hash, &data).map_err(russh::keys::Error::SshKey)?;
        signature.encode(&mut data).map_err(|error| russh::keys::Error::SshKey(error.into()))?;
        Ok(data)
    }
}

fn sign(key: &PrivateKey, hash: Option<HashAlg>, data: &[u8]) -> ssh_key::Result<Vec<u8>> {
    let signature: Signature = match key.key_data() {
        KeypairData::Rsa(pair) => (pair, hash).try_sign(data)?,
        pair => pair.try_sign(data)?,
    };
    Ok(signature.encode_vec()?)
}

fn nothing_to_sign_in_with(approach: &Approach) -> Error {
    let name = &approach.judge.target.name;
    Error::new(ErrorCode::AuthFailed, format!("{}: {name} has no credential to sign in with", approach.endpoint))
        .with_hint(format!("give it one with  birun credential create {name} --key FILE,  then  birun server edit {name} --credential {name}"))
}

fn only_sha1(approach: &Approach) -> Error {
    Error::new(
        ErrorCode::AuthFailed,
        format!("{}: the server takes RSA keys with SHA-1 signatures only", approach.endpoint),
    )
    .with_hint("use an ed25519 key, or update the SSH server")
}

fn hint(user: &str, identity: &Identity, accepted: &[&str]) -> String {
    match identity {
        Identity::Key(SigningKey { certificate: Some(certificate), .. }) => {
            let authority = certificate.signature_key().fingerprint(HashAlg::Sha256);
            format!("let the server trust the certificate's authority {authority} (TrustedUserCAKeys)")
        }
        Identity::Key(_) => format!("add the public key to ~{user}/.ssh/authorized_keys on the server"),
        Identity::Password(_) if accepted.contains(&"password") => format!("check the password of {user}"),
        Identity::Password(_) => "the server takes no passwords; use a key".to_owned(),
    }
}
