//! Signing in with one credential, by one method or by several.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use birun_core::inventory::{AgentKey, OpenCredential};
use birun_core::vault::{Secret, SecretSet};
use birun_core::{Clock as _, Error, ErrorCode, Result, SystemClock};
use russh::client::{AuthResult, Handle, KeyboardInteractiveAuthResponse as Reply};
use russh::keys::agent::AgentIdentity;
use russh::keys::signature::Signer as _;
use russh::keys::ssh_encoding::Encode as _;
use russh::keys::ssh_key::{self, Signature, private::KeypairData};
use russh::keys::{Algorithm, Certificate, HashAlg, PrivateKey, PrivateKeyWithHashAlg};
use russh::{AgentAuthError, MethodKind, MethodSet, Signer};

use crate::ssh::agent::{Agent, MAX_KEYS, Unsigned, fingerprint};
use crate::ssh::approach::{Admitted, Approach};
use crate::ssh::certificate;
use crate::ssh::connection::Connection;
use crate::ssh::interactive::{Answers, Interview, MAX_ROUNDS, Unanswered};
use crate::ssh::keys::{Identity, SigningKey};
use crate::ssh::peer::{Ended, Peer};
use crate::ssh::phase::{Phase, limited};

/// A server that names its signature algorithms does so together with its new keys.
const SIGNATURE_ALGORITHMS: Duration = Duration::from_millis(250);
/// More turns than any server needs to be satisfied.
const MAX_ATTEMPTS: usize = 8;

impl Admitted {
    /// Signs in as the target's user.
    ///
    /// # Errors
    /// `auth_failed` if the server refuses or there is nothing to sign in with; `certificate_refused`
    /// if it refuses a certificate that is at fault itself; `agent_failed`; `connect_failed` if it hangs
    /// up; `phase_timeout`.
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
        let signed_in = limited(&approach.endpoint, Phase::Authentication, limit, desk.sign_in(identity)).await;
        signed_in.map_err(|error| hidden(error, approach.judge.target.credential.as_ref()))?;
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
        let methods = identity.methods();
        let mut left: Vec<&Identity> = methods.iter().collect();
        let mut last = identity;
        for _ in 0..MAX_ATTEMPTS {
            let Some((at, method)) = left.iter().copied().enumerate().find(|(_, method)| self.takes(method)) else {
                break;
            };
            if self.attempt(method).await? {
                return Ok(());
            }
            last = method;
            // What the server does not want yet it may want later.
            if self.partial || self.takes(method) {
                left.remove(at);
            }
        }
        Err(self.refused(methods, last))
    }

    /// Whether the server takes such a method now, as far as it has said.
    fn takes(&self, method: &Identity) -> bool {
        self.tried.is_empty() || method.kinds().iter().any(|kind| self.accepts.contains(kind))
    }

    async fn attempt(&mut self, method: &Identity) -> Result<bool> {
        match method {
            Identity::Several(_) => Ok(false),
            Identity::Key(key) => self.key(key).await,
            Identity::Password(password) => self.password(password).await,
            Identity::Agent(choice) => self.agent(choice).await,
            Identity::Answers(answers) => self.interview(Answers::Patterns(answers)).await,
        }
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

    /// Tries the keys that an agent holds.
    async fn agent(&mut self, choice: &AgentKey) -> Result<bool> {
        let settings = &self.approach.settings;
        let socket = choice.socket.as_ref().map(PathBuf::from).or_else(|| settings.agent.clone());
        let socket = socket.ok_or_else(|| no_agent(self.approach))?;
        let mut agent = Agent::open(&socket, settings.limits.agent).await?;
        if let Some(session) = self.handle.agent_session_binding() {
            agent.bind(session).await?;
        }
        let held = agent.identities(choice.fingerprint.as_deref()).await?;
        let mut refusal = None;
        for identity in held.iter().take(MAX_KEYS) {
            match self.agent_key(&mut agent, identity).await? {
                Ok(true) => return Ok(true),
                Ok(false) if self.partial || !self.accepts.contains(&MethodKind::PublicKey) => return Ok(false),
                Ok(false) => {}
                Err(error) => refusal = Some(error),
            }
        }
        if held.len() > MAX_KEYS {
            self.tried.push(format!("no more of the {} keys that the agent holds", held.len()));
        }
        refusal.map_or(Ok(false), Err)
    }

    /// Tries one key of an agent. The inner error is the agent's refusal to sign with it.
    async fn agent_key(&mut self, agent: &mut Agent, identity: &AgentIdentity) -> Result<Result<bool>> {
        let hash = self.hash_for(&identity.public_key().algorithm()).await?;
        let user = self.user();
        let (kind, answer) = match identity {
            AgentIdentity::PublicKey { key, .. } => {
                let answer = self.handle.authenticate_publickey_with(user, key.clone(), hash, agent).await;
                (key.algorithm().to_string(), answer)
            }
            AgentIdentity::Certificate { certificate, .. } => {
                let certificate = certificate.clone();
                let kind = certificate.algorithm().to_certificate_type();
                (kind, self.handle.authenticate_certificate_with(user, certificate, hash, agent).await)
            }
        };
        self.tried.push(format!("publickey of the agent ({kind} {})", fingerprint(identity)));
        match answer {
            Ok(answer) => self.heard(Ok(answer)).map(Ok),
            Err(Unsigned::Refused(error)) => Ok(Err(error)),
            Err(Unsigned::Broken(error)) => Err(error),
            Err(Unsigned::SessionEnded) => Err(self.broke(None)),
        }
    }

    /// Tries a password; where the server takes none as such, as the answer to its one question.
    async fn password(&mut self, password: &Secret) -> Result<bool> {
        if !self.tried.is_empty() && !self.accepts.contains(&MethodKind::Password) {
            return self.interview(Answers::Password(password)).await;
        }
        self.tried.push("password".to_owned());
        let user = self.user();
        let answer = self.handle.authenticate_password(user, password.expose()).await;
        let signed_in = self.heard(answer)?;
        let taken = signed_in || self.partial || self.accepts.contains(&MethodKind::Password);
        if taken || !self.accepts.contains(&MethodKind::KeyboardInteractive) {
            return Ok(signed_in);
        }
        self.interview(Answers::Password(password)).await
    }

    async fn interview(&mut self, answers: Answers<'_>) -> Result<bool> {
        self.tried.push("keyboard-interactive".to_owned());
        let mut interview = Interview::new(answers);
        let user = self.user();
        let mut reply = self.handle.authenticate_keyboard_interactive_start(user, None).await;
        for _ in 0..MAX_ROUNDS {
            let prompts = match reply.map_err(|error| self.broke(Some(&error)))? {
                Reply::Success => return Ok(true),
                Reply::Failure { remaining_methods, partial_success } => {
                    return self.heard(Ok(AuthResult::Failure { remaining_methods, partial_success }));
                }
                Reply::InfoRequest { prompts, .. } => prompts,
            };
            let answers = interview.round(&prompts).map_err(|why| self.unanswered(&why))?;
            reply = self.handle.authenticate_keyboard_interactive_respond(answers).await;
        }
        Err(self.endless("does not stop asking"))
    }

    fn unanswered(&self, why: &Unanswered) -> Error {
        let (user, endpoint) = (self.user(), &self.approach.endpoint);
        let (prompt, fault) = match why {
            Unanswered::TooMany(prompts) => return self.endless(&format!("asks {prompts} questions at once")),
            Unanswered::Unknown(prompt) => (prompt, "no answer is stored for that"),
            Unanswered::Again(prompt) => (prompt, "it was given the stored answer before"),
        };
        Error::new(ErrorCode::AuthFailed, format!("{user}@{endpoint}: the server asks `{prompt}`, and {fault}"))
            .with_hint("store what it asks for with  birun credential create NAME --answer 'PROMPT=@FILE'")
    }

    fn endless(&self, what: &str) -> Error {
        let phase = Phase::Authentication.name();
        Error::new(ErrorCode::ProtocolError, format!("{}: the server {what} (in {phase})", self.approach.endpoint))
            .with_hint("sign in by hand with  ssh -v  to see what it wants to know")
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

    fn refused(&self, methods: &[Identity], last: &Identity) -> Error {
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
                .with_hint("give the credential all that the server wants:  birun credential edit CREDENTIAL --key FILE --password-file FILE");
        }
        let tried = self.tried.join(", ");
        let message = format!("{user}@{endpoint}: authentication failed: tried {tried}, the server accepts {accepts}");
        let certificate = methods.iter().find_map(Identity::certificate);
        match certificate.and_then(|known| certificate::fault(known, &user, SystemClock::new().now())) {
            Some(fault) => Error::new(ErrorCode::CertificateRefused, format!("{message}; {fault}")).with_hint(
                "have the key signed anew, then store that with  birun credential edit CREDENTIAL --certificate FILE",
            ),
            None => Error::new(ErrorCode::AuthFailed, message).with_hint(hint(&user, last, &accepted)),
        }
    }
}

/// An error without what must not be seen: a server that was given a secret may repeat it.
fn hidden(error: Error, credential: Option<&OpenCredential>) -> Error {
    let secrets = SecretSet::new(credential.into_iter().flat_map(OpenCredential::secrets));
    let hidden = Error::new(error.code(), secrets.mask_text(&error.to_string()));
    match error.hint() {
        Some(hint) => hidden.with_hint(hint),
        None => hidden,
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

fn no_agent(approach: &Approach) -> Error {
    Error::new(ErrorCode::AgentFailed, format!("{}: no ssh-agent is known here", approach.endpoint))
        .with_hint("start birun with SSH_AUTH_SOCK set, or name the socket in the credential")
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
        Identity::Password(_)
            if accepted.iter().any(|method| ["password", "keyboard-interactive"].contains(method)) =>
        {
            format!("check the password of {user}")
        }
        Identity::Password(_) => "the server takes no passwords; use a key".to_owned(),
        Identity::Agent(AgentKey { fingerprint: None, .. }) => {
            format!("add a public key to ~{user}/.ssh/authorized_keys on the server, or name the agent's key to use")
        }
        Identity::Agent(_) | Identity::Several(_) => {
            format!("add the public key to ~{user}/.ssh/authorized_keys on the server")
        }
        Identity::Answers(_) if accepted.contains(&"keyboard-interactive") => {
            format!("check the stored answers for {user}")
        }
        Identity::Answers(_) => "the server asks no questions; use a key or a password".to_owned(),
    }
}
