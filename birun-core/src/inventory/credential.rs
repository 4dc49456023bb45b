//! Credentials: what servers are signed in to with. Values go in and never come out.

use std::fmt::Debug;

use chrono::{DateTime, Utc};

use crate::error::Result;
use crate::id::{CredentialId, ProjectId};
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
    /// A private key's public side as a fingerprint, `SHA256:…`.
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
    /// A password.
    Password(Secret),
}

impl OpenCredential {
    /// What this value is made of.
    #[must_use]
    pub const fn kind(&self) -> CredentialKind {
        match self {
            Self::PrivateKey { .. } => CredentialKind::PrivateKey,
            Self::Password(_) => CredentialKind::Password,
        }
    }

    /// Every text in it that must not be seen.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let (value, passphrase) = match self {
            Self::PrivateKey { key, passphrase, .. } => (key, passphrase.as_ref()),
            Self::Password(password) => (password, None),
        };
        std::iter::once(value).chain(passphrase)
    }
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
