//! Credentials on the wire: values go in and never come out.

use birun_core::inventory::{self, CredentialKind, OpenCredential};
use birun_core::vault::Secret;
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
    /// What a private key's user certificate says.
    #[oai(nullable)]
    certificate: Option<Certificate>,
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
            certificate: credential.certificate.map(Certificate::from),
            description: credential.description,
            version: credential.version,
            created_at: credential.created_at.into(),
            updated_at: credential.updated_at.into(),
        }
    }
}

/// What an OpenSSH user certificate says.
#[derive(Debug, Object)]
pub(crate) struct Certificate {
    /// What its authority calls it in logs.
    key_id: String,
    /// The key of the authority that signed it: `SHA256:…`
    authority: String,
    /// The users that it was made for.
    principals: Vec<String>,
    /// From when on it is valid; null = always was.
    #[oai(nullable)]
    valid_after: Option<Timestamp>,
    /// Until when it is valid; null = for ever.
    #[oai(nullable)]
    valid_before: Option<Timestamp>,
}

impl From<inventory::CertificateFacts> for Certificate {
    fn from(facts: inventory::CertificateFacts) -> Self {
        Self {
            key_id: facts.key_id,
            authority: facts.authority,
            principals: facts.principals,
            valid_after: facts.valid_after.map(Timestamp::from),
            valid_before: facts.valid_before.map(Timestamp::from),
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
    /// The text of an OpenSSH user certificate for the private key.
    #[oai(write_only)]
    certificate: Option<String>,
    /// A password.
    #[oai(write_only)]
    password: Option<SecretText>,
}

impl NewCredential {
    pub(crate) fn into_core(self) -> Result<inventory::NewCredential> {
        let (value, certificate) = open(self.private_key, self.passphrase, self.certificate, self.password)?;
        if certificate.is_some() {
            return Err(certificate_alone());
        }
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
    /// The text of an OpenSSH user certificate: for the new private key, or for the one that is stored.
    #[oai(write_only)]
    certificate: Option<String>,
    /// The new password.
    #[oai(write_only)]
    password: Option<SecretText>,
}

impl CredentialPatch {
    pub(crate) fn into_core(self) -> Result<inventory::RotateCredential> {
        let (value, certificate) = open(self.private_key, self.passphrase, self.certificate, self.password)?;
        Ok(inventory::RotateCredential {
            name: self.name.map(|text| parsed("name", &text)).transpose()?,
            value,
            certificate,
            description: self.description,
        })
    }
}

/// The value that the fields give, if they give one; else the certificate that they give by itself.
fn open(
    private_key: Option<SecretText>,
    passphrase: Option<SecretText>,
    certificate: Option<String>,
    password: Option<SecretText>,
) -> Result<(Option<OpenCredential>, Option<String>)> {
    let given = |text: Option<SecretText>| text.map(|text| text.0).filter(|text| *text != Secret::default());
    let certificate = certificate.filter(|text| !text.is_empty());
    match (given(private_key), given(passphrase), certificate, given(password)) {
        (Some(key), passphrase, certificate, None) => {
            Ok((Some(OpenCredential::PrivateKey { key, passphrase, certificate }), None))
        }
        (None, None, None, Some(password)) => Ok((Some(OpenCredential::Password(password)), None)),
        (None, None, certificate, None) => Ok((None, certificate)),
        (None, Some(_), ..) => Err(Error::invalid_field("passphrase", "is only for a private key")),
        (None, None, Some(_), Some(_)) => Err(certificate_alone()),
        (Some(_), .., Some(_)) => Err(neither()),
    }
}

fn certificate_alone() -> Error {
    Error::invalid_field("certificate", "is only for a private key")
}

fn neither() -> Error {
    Error::invalid("give either private_key or password")
        .with_field("private_key", "give either this or a password")
        .with_field("password", "give either this or a private key")
}
