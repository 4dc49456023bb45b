//! Credentials on the wire: values go in and never come out.

use birun_core::inventory::{self, CredentialKind, OpenCredential};
use birun_core::{Error, Result};
use poem_openapi::Object;
use serde::Deserialize;
use uuid::Uuid;

use crate::dto::parsed;
use crate::dto::secret::SecretText;
use crate::schema::{Timestamp, Word};

/// What servers are signed in to with. The value is never shown.
#[derive(Debug, Object)]
pub(crate) struct Credential {
    id: Uuid,
    /// The last eight hex digits of the id.
    short_id: String,
    project_id: Uuid,
    /// Unique in the project.
    name: String,
    kind: Word<CredentialKind>,
    /// A private key's algorithm.
    #[oai(nullable)]
    algorithm: Option<String>,
    /// A private key's public side: `SHA256:…`
    #[oai(nullable)]
    fingerprint: Option<String>,
    /// For people.
    description: String,
    /// Rises by one with each change; the `ETag` says it too.
    version: u64,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<inventory::Credential> for Credential {
    fn from(credential: inventory::Credential) -> Self {
        Self {
            id: credential.id.as_uuid(),
            short_id: credential.id.short(),
            project_id: credential.project_id.as_uuid(),
            name: credential.name.to_string(),
            kind: Word(credential.kind),
            algorithm: credential.algorithm,
            fingerprint: credential.fingerprint,
            description: credential.description,
            version: credential.version,
            created_at: credential.created_at.into(),
            updated_at: credential.updated_at.into(),
        }
    }
}

/// A credential to be stored: either a private key, with its passphrase if it has one, or a password.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewCredential {
    /// Unique in the project.
    name: String,
    /// For people.
    #[serde(default)]
    #[oai(default)]
    description: String,
    /// The text of a private key file, in OpenSSH or PEM form.
    #[oai(write_only)]
    private_key: Option<SecretText>,
    /// What the private key is encrypted with.
    #[oai(write_only)]
    passphrase: Option<SecretText>,
    /// A password.
    #[oai(write_only)]
    password: Option<SecretText>,
}

impl NewCredential {
    pub(crate) fn into_core(self) -> Result<inventory::NewCredential> {
        let value = open(self.private_key, self.passphrase, self.password)?;
        Ok(inventory::NewCredential {
            name: parsed("name", &self.name)?,
            description: self.description,
            value: value.ok_or_else(neither)?,
        })
    }
}

/// A change of a credential: what is left out stays. A new value replaces the old one whole.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
pub(crate) struct CredentialPatch {
    /// The new name.
    name: Option<String>,
    /// The new description.
    description: Option<String>,
    /// The text of the new private key file.
    #[oai(write_only)]
    private_key: Option<SecretText>,
    /// What the new private key is encrypted with.
    #[oai(write_only)]
    passphrase: Option<SecretText>,
    /// The new password.
    #[oai(write_only)]
    password: Option<SecretText>,
}

impl CredentialPatch {
    pub(crate) fn into_core(self) -> Result<inventory::RotateCredential> {
        Ok(inventory::RotateCredential {
            name: self.name.map(|text| parsed("name", &text)).transpose()?,
            value: open(self.private_key, self.passphrase, self.password)?,
            description: self.description,
        })
    }
}

/// The value that three fields give, if they give one.
fn open(
    private_key: Option<SecretText>,
    passphrase: Option<SecretText>,
    password: Option<SecretText>,
) -> Result<Option<OpenCredential>> {
    let given = |text: Option<SecretText>| text.map(|text| text.0);
    let passphrase = given(passphrase).filter(|text| !text.expose().is_empty());
    match (given(private_key), passphrase, given(password)) {
        (Some(key), passphrase, None) => Ok(Some(OpenCredential::PrivateKey { key, passphrase })),
        (None, None, Some(password)) => Ok(Some(OpenCredential::Password(password))),
        (None, None, None) => Ok(None),
        (None, Some(_), _) => Err(Error::invalid_field("passphrase", "is only for a private key")),
        (Some(_), _, Some(_)) => Err(neither()),
    }
}

fn neither() -> Error {
    Error::invalid("give either private_key or password")
        .with_field("private_key", "give either this or a password")
        .with_field("password", "give either this or a private key")
}
