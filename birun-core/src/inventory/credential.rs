//! Credentials: what servers are signed in to with. Values go in and never come out.

use std::fmt::Debug;

use chrono::{DateTime, Utc};

use crate::error::{Error, Result};
use crate::id::{CredentialId, ProjectId};
use crate::inventory::PromptAnswer;
use crate::inventory::prompt::check_answers;
use crate::name::Name;
use crate::text_enum::text_enum;
use crate::vault::{Sealed, Secret};

text_enum! {
    /// What a credential is made of.
    pub enum CredentialKind {
        /// A private key in OpenSSH or PEM form, with or without a passphrase.
        PrivateKey = "private_key",
        /// A password.
        Password = "password",
        /// Answers to what a server asks at sign-in.
        KeyboardInteractive = "keyboard_interactive",
        /// A key that an ssh-agent holds.
        Agent = "agent",
        /// Several of these, for servers that want more than one.
        Several = "several",
    }
}

/// A stored credential, without its value.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Credential {
    /// Identifies the credential.
    pub id: CredentialId,
    /// The project it belongs to.
    pub project_id: ProjectId,
    /// Unique in the project.
    pub name: Name,
    /// What it is made of.
    pub kind: CredentialKind,
    /// A private key's algorithm, for example `ssh-ed25519`.
    pub algorithm: Option<String>,
    /// A key's public side as a fingerprint, `SHA256:…`: of a private key, or of the one that an agent is asked for.
    pub fingerprint: Option<String>,
    /// What the user certificate of a private key says, if it has one.
    pub certificate: Option<CertificateFacts>,
    /// For people.
    pub description: String,
    /// The sealed value: an [`OpenCredential`] as JSON.
    #[serde(skip)]
    pub sealed: Sealed,
    /// Rises by one with each change; part of what the value is bound to.
    pub version: u64,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

/// A credential's value.
#[derive(Clone, Debug)]
pub enum OpenCredential {
    /// A private key.
    PrivateKey {
        /// The key file's text.
        key: Secret,
        /// What it is encrypted with, if it is.
        passphrase: Option<Secret>,
        /// An OpenSSH user certificate for it, as one line of text. It is no secret.
        certificate: Option<String>,
    },
    /// A password. It also answers the one hidden prompt of a server that takes no passwords as such.
    Password(Secret),
    /// Answers to what a server asks, by the pattern of its prompts; the first that fits counts.
    Answers(Vec<PromptAnswer>),
    /// A key that an ssh-agent holds, beside the executor.
    Agent(AgentKey),
    /// Several of these, in the order in which they are tried. A server that wants more than one is
    /// given them in the order that it asks for.
    Several(Vec<Self>),
}

/// Which key of which ssh-agent. Neither is a secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AgentKey {
    /// The agent's socket; `None` = the one that the executor was built with.
    pub socket: Option<String>,
    /// The key to use, `SHA256:…`; `None` = the agent's keys in their order, at most five.
    pub fingerprint: Option<String>,
}

impl AgentKey {
    /// Checks that these can be a socket and a key.
    ///
    /// # Errors
    /// `invalid`, naming the field.
    pub(super) fn check(&self) -> Result<()> {
        if self.socket.as_ref().is_some_and(|path| !path.starts_with('/') || path.chars().any(char::is_control)) {
            return Err(Error::invalid_field("agent.socket", "must be an absolute path"));
        }
        let is_digit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/');
        let is_key = |text: &str| {
            text.strip_prefix("SHA256:").is_some_and(|digest| digest.len() == 43 && digest.chars().all(is_digit))
        };
        if self.fingerprint.as_ref().is_some_and(|text| !is_key(text)) {
            return Err(Error::invalid_field("agent.fingerprint", "is not a fingerprint of the form SHA256:…")
                .with_hint("ssh-add -l  lists the fingerprints of what the agent holds"));
        }
        Ok(())
    }
}

impl OpenCredential {
    /// One value of all that are given, in this order; `None` of nothing.
    #[must_use]
    pub fn of(mut methods: Vec<Self>) -> Option<Self> {
        if methods.len() > 1 { Some(Self::Several(methods)) } else { methods.pop() }
    }

    /// The methods in it, in their order: itself, unless it is several.
    #[must_use]
    pub fn methods(&self) -> &[Self] {
        match self {
            Self::Several(methods) => methods,
            one => std::slice::from_ref(one),
        }
    }

    /// Checks what can be seen without opening it.
    ///
    /// # Errors
    /// `invalid`, naming the field.
    pub(super) fn check(&self) -> Result<()> {
        match self {
            Self::Answers(answers) => check_answers(answers),
            Self::Agent(agent) => agent.check(),
            Self::PrivateKey { key, .. } => not_empty("private_key", key),
            Self::Password(password) => not_empty("password", password),
            Self::Several(methods) => {
                if methods.len() < 2 || methods.iter().any(|method| method.kind() == CredentialKind::Several) {
                    return Err(Error::invalid("several methods are at least two, and none of them is several"));
                }
                methods.iter().try_for_each(Self::check)
            }
        }
    }

    /// What this value is made of.
    #[must_use]
    pub const fn kind(&self) -> CredentialKind {
        match self {
            Self::PrivateKey { .. } => CredentialKind::PrivateKey,
            Self::Password(_) => CredentialKind::Password,
            Self::Answers(_) => CredentialKind::KeyboardInteractive,
            Self::Agent(_) => CredentialKind::Agent,
            Self::Several(_) => CredentialKind::Several,
        }
    }

    /// Every text in it that must not be seen.
    #[must_use]
    pub fn secrets(&self) -> Vec<&Secret> {
        match self {
            Self::PrivateKey { key, passphrase, .. } => std::iter::once(key).chain(passphrase).collect(),
            Self::Password(password) => vec![password],
            Self::Answers(answers) => answers.iter().map(|known| &known.answer).collect(),
            Self::Agent(_) => Vec::new(),
            Self::Several(methods) => methods.iter().flat_map(Self::secrets).collect(),
        }
    }
}

fn not_empty(field: &str, text: &Secret) -> Result<()> {
    if text.expose().is_empty() { Err(Error::invalid_field(field, "is empty")) } else { Ok(()) }
}

/// A credential to be created.
#[derive(Clone, Debug)]
pub struct NewCredential {
    /// See [`Credential::name`].
    pub name: Name,
    /// The value.
    pub value: OpenCredential,
    /// See [`Credential::description`].
    pub description: String,
}

/// A change of a credential: what is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct RotateCredential {
    /// The new name.
    pub name: Option<Name>,
    /// The new value.
    pub value: Option<OpenCredential>,
    /// Another certificate for the private key that is stored; not beside a new value, which brings
    /// its own.
    pub certificate: Option<String>,
    /// The new description.
    pub description: Option<String>,
}

/// What may be known of a credential in public.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialFacts {
    /// See [`Credential::algorithm`].
    pub algorithm: Option<String>,
    /// See [`Credential::fingerprint`].
    pub fingerprint: Option<String>,
    /// See [`Credential::certificate`].
    pub certificate: Option<CertificateFacts>,
}

/// What a user certificate says. The certificate itself rests with the value.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CertificateFacts {
    /// What its authority calls it in logs.
    pub key_id: String,
    /// The key of the authority that signed it, `SHA256:…`.
    pub authority: String,
    /// The users that it was made for.
    pub principals: Vec<String>,
    /// From when on it is valid; `None` = always was.
    pub valid_after: Option<DateTime<Utc>>,
    /// Until when it is valid; `None` = for ever.
    pub valid_before: Option<DateTime<Utc>>,
}

/// Reads a credential's value before it is stored, so that a broken key is refused at once.
pub trait CredentialInspector: Debug + Send + Sync + 'static {
    /// Checks that the value can be used and tells its public side.
    ///
    /// # Errors
    /// [`ErrorCode::CredentialUnreadable`](crate::ErrorCode::CredentialUnreadable) if the key cannot
    /// be parsed, its passphrase is missing or wrong, its algorithm is not supported, or its
    /// certificate is not a user's or not for this key. The message never holds any part of the value.
    fn inspect(&self, value: &OpenCredential) -> Result<CredentialFacts>;
}
