//! Signing in, with one credential and one attempt.

use std::time::Duration;

use birun_core::{Error, ErrorCode, Result};
use russh::MethodSet;
use russh::client::{AuthResult, Handle};
use russh::keys::{HashAlg, PrivateKeyWithHashAlg};

use crate::ssh::approach::{Admitted, Approach};
use crate::ssh::connection::Connection;
use crate::ssh::keys::Identity;
use crate::ssh::peer::{Ended, Peer};
use crate::ssh::phase::{Phase, limited};

/// A server that names its signature algorithms does so together with its new keys.
const SIGNATURE_ALGORITHMS: Duration = Duration::from_millis(250);

impl Admitted {
    /// Signs in as the target's user.
    ///
    /// # Errors
    /// `auth_failed` if the server refuses or there is nothing to sign in with; `connect_failed` if
    /// it hangs up; `phase_timeout`.
    pub(super) async fn sign_in(mut self, approach: &Approach, identity: Option<&Identity>) -> Result<Connection> {
        let Approach { endpoint, judge, settings } = approach;
        let identity = identity.ok_or_else(|| nothing_to_sign_in_with(approach))?;
        let attempt = attempt(&mut self.handle, &judge.target.user, identity);
        let attempt = async { attempt.await.map_err(|error| broke(approach, self.ended.why(), Some(&error))) };
        let answer = limited(endpoint, Phase::Authentication, settings.limits.authentication, attempt).await?;
        match answer {
            Answer::Ssh(AuthResult::Success) => Ok(Connection::new(self, approach)),
            Answer::Ssh(AuthResult::Failure { remaining_methods, partial_success }) => {
                Err(refused(approach, identity, &remaining_methods, partial_success, &self.ended))
            }
            Answer::OnlySha1 => Err(only_sha1(approach)),
        }
    }
}

enum Answer {
    Ssh(AuthResult),
    /// The server takes RSA keys with SHA-1 signatures only.
    OnlySha1,
}

async fn attempt(handle: &mut Handle<Peer>, user: &str, identity: &Identity) -> Result<Answer, russh::Error> {
    let key = match identity {
        Identity::Password(password) => {
            return handle.authenticate_password(user, password.expose()).await.map(Answer::Ssh);
        }
        Identity::Key(key) => key,
    };
    let hash = if key.algorithm().is_rsa() {
        match tokio::time::timeout(SIGNATURE_ALGORITHMS, handle.best_supported_rsa_hash()).await {
            Ok(Ok(Some(None))) => return Ok(Answer::OnlySha1),
            Ok(Ok(Some(hash))) => hash,
            Ok(Err(error)) => return Err(error),
            Ok(Ok(None)) | Err(_) => Some(HashAlg::Sha512),
        }
    } else {
        None
    };
    let key = PrivateKeyWithHashAlg::new(std::sync::Arc::clone(key), hash);
    handle.authenticate_publickey(user, key).await.map(Answer::Ssh)
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

fn broke(approach: &Approach, why: Option<&str>, error: Option<&russh::Error>) -> Error {
    let why = why.map(str::to_owned).or_else(|| error.map(ToString::to_string)).unwrap_or_default();
    Error::new(
        ErrorCode::ConnectFailed,
        format!("{}: the connection ended in authentication: {why}", approach.endpoint),
    )
}

fn refused(approach: &Approach, identity: &Identity, accepts: &MethodSet, partial: bool, ended: &Ended) -> Error {
    let no_method = russh::Error::NoAuthMethod.to_string();
    match ended.why() {
        Some(why) if accepts.is_empty() && why != no_method => return broke(approach, Some(why), None),
        _ => {}
    }
    let tried = tried(identity);
    let accepted: Vec<&str> = accepts.iter().map(<&str>::from).collect();
    let accepts = if accepted.is_empty() { "nothing else".to_owned() } else { accepted.join(", ") };
    let user = &approach.judge.target.user;
    let endpoint = &approach.endpoint;
    let message = if partial {
        format!("{user}@{endpoint}: {tried} was taken, but the server also wants {accepts}")
    } else {
        format!("{user}@{endpoint}: authentication failed: tried {tried}, the server accepts {accepts}")
    };
    Error::new(ErrorCode::AuthFailed, message).with_hint(hint(approach, identity, &accepted, partial))
}

fn tried(identity: &Identity) -> String {
    match identity {
        Identity::Password(_) => "password".to_owned(),
        Identity::Key(key) => format!("publickey ({} {})", key.algorithm(), key.fingerprint(HashAlg::Sha256)),
    }
}

fn hint(approach: &Approach, identity: &Identity, accepted: &[&str], partial: bool) -> String {
    let user = &approach.judge.target.user;
    match identity {
        _ if partial => "birun signs in with one credential; let the server ask this user for one".to_owned(),
        Identity::Key(_) => format!("add the public key to ~{user}/.ssh/authorized_keys on the server"),
        Identity::Password(_) if accepted.contains(&"password") => format!("check the password of {user}"),
        Identity::Password(_) => "the server takes no passwords; use a key".to_owned(),
    }
}
