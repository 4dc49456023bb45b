//! Credentials: values are sealed on the way in, and opened for executors only.

use std::sync::Arc;

use serde_json::json;
use zeroize::Zeroizing;

use super::servers::{check_version, set};
use crate::engine::Shared;
use crate::error::{Error, ErrorCode, Result};
use crate::gate::Gate;
use crate::id::{CredentialId, Selector};
use crate::identity::Permission;
use crate::inventory::{Credential, CredentialFacts, CredentialKind, NewCredential, OpenCredential, RotateCredential};
use crate::name::Name;
use crate::page::{Page, PageRequest};
use crate::vault::{Place, Sealed, Secret};

impl Gate {
    /// Stores a credential. The value is checked, sealed, and never seen again.
    ///
    /// # Errors
    /// `credential_unreadable` for a key that cannot be used; `conflict` if the name is taken; `key_missing`.
    pub async fn create_credential(&self, new: NewCredential) -> Result<Credential> {
        let scope = self.authorize(Permission::CredentialWrite).await?;
        let now = self.shared.clock.now();
        let mut credential = Credential {
            id: CredentialId::new(),
            project_id: scope.project(),
            name: new.name,
            kind: new.value.kind(),
            algorithm: None,
            fingerprint: None,
            certificate: None,
            description: new.description,
            sealed: Sealed::from_bytes(Vec::new()),
            version: 1,
            created_at: now,
            updated_at: now,
        };
        self.put_value(&mut credential, new.value).await?;
        let audit =
            self.audit("credential.create").on(credential.id, credential.name.as_str()).after(json!(credential));
        self.shared.store.create_credential(&scope, &credential, &audit).await?;
        Ok(credential)
    }

    /// Changes a credential, its value too; `version`, if given, must be the one that is stored.
    ///
    /// # Errors
    /// Those of [`create_credential`](Gate::create_credential); `not_found`, `stale_version`.
    pub async fn rotate_credential(
        &self,
        selector: &Selector,
        rotate: RotateCredential,
        version: Option<u64>,
    ) -> Result<Credential> {
        let scope = self.authorize(Permission::CredentialWrite).await?;
        let old = self.shared.store.credential(&scope, selector).await?;
        check_version("credential", version, old.version)?;
        let mut credential = old.clone();
        set(&mut credential.name, rotate.name);
        set(&mut credential.description, rotate.description);
        credential.version += 1;
        credential.updated_at = self.shared.clock.now();
        let value = match (rotate.value, rotate.certificate) {
            (Some(value), _) => value,
            // The value is bound to the row's version, so it is sealed anew with every change.
            (None, None) => open(&self.shared, &old)?,
            (None, Some(certificate)) => certified(open(&self.shared, &old)?, certificate)?,
        };
        self.put_value(&mut credential, value).await?;
        let audit = self
            .audit("credential.rotate")
            .on(credential.id, credential.name.as_str())
            .before(json!(old))
            .after(json!(credential));
        self.shared.store.update_credential(&scope, &credential, &audit).await?;
        Ok(credential)
    }

    /// Deletes a credential that no server uses.
    ///
    /// # Errors
    /// `not_found`, `stale_version`; `conflict` naming a server that uses it.
    pub async fn delete_credential(&self, selector: &Selector, version: Option<u64>) -> Result<()> {
        let scope = self.authorize(Permission::CredentialWrite).await?;
        let credential = self.shared.store.credential(&scope, selector).await?;
        check_version("credential", version, credential.version)?;
        let audit =
            self.audit("credential.delete").on(credential.id, credential.name.as_str()).before(json!(credential));
        Ok(self.shared.store.delete_credential(&scope, &credential, &audit).await?)
    }

    /// One credential, without its value.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn credential(&self, selector: &Selector) -> Result<Credential> {
        let scope = self.authorize(Permission::CredentialRead).await?;
        Ok(self.shared.store.credential(&scope, selector).await?)
    }

    /// Credentials, newest first, without their values.
    ///
    /// # Errors
    /// What storage answers.
    pub async fn credentials(&self, page: PageRequest) -> Result<Page<Credential>> {
        let scope = self.authorize(Permission::CredentialRead).await?;
        Ok(self.shared.store.credentials(&scope, page).await?)
    }

    /// Checks a value, notes its public side, and seals it for the credential's present version.
    async fn put_value(&self, credential: &mut Credential, value: OpenCredential) -> Result<()> {
        let vault = self.shared.vault()?;
        let facts = self.inspect(value.clone()).await.map_err(|error| named(&credential.name, error))?;
        credential.kind = value.kind();
        credential.algorithm = facts.algorithm;
        credential.fingerprint = facts.fingerprint;
        credential.certificate = facts.certificate;
        credential.sealed = vault.seal(&place(credential), &to_bytes(&value)?)?;
        Ok(())
    }

    /// Reading an encrypted key takes long on purpose, so it is done off the async threads.
    async fn inspect(&self, value: OpenCredential) -> Result<CredentialFacts> {
        let Some(inspector) = self.shared.inspector.as_ref().map(Arc::clone) else {
            return Ok(CredentialFacts::default());
        };
        tokio::task::spawn_blocking(move || inspector.inspect(&value))
            .await
            .map_err(|error| Error::internal("the credential could not be inspected").with_source(error))?
    }
}

/// The value with another certificate.
fn certified(value: OpenCredential, certificate: String) -> Result<OpenCredential> {
    match value {
        OpenCredential::PrivateKey { key, passphrase, .. } => {
            Ok(OpenCredential::PrivateKey { key, passphrase, certificate: Some(certificate) })
        }
        OpenCredential::Password(_) => Err(Error::invalid_field("certificate", "is only for a private key")),
    }
}

/// Says of which credential the value cannot be used.
fn named(name: &Name, error: Error) -> Error {
    if error.code() != ErrorCode::CredentialUnreadable {
        return error;
    }
    let named = Error::new(error.code(), format!("credential `{name}`: {error}"));
    match error.hint() {
        Some(hint) => named.with_hint(hint),
        None => named,
    }
}

/// Opens a credential's value.
pub(super) fn open(shared: &Shared, credential: &Credential) -> Result<OpenCredential> {
    let plain = shared.vault()?.open(&place(credential), &credential.sealed)?;
    from_bytes(credential.kind, &plain)
        .ok_or_else(|| Error::internal(format!("the value of credential `{}` cannot be read", credential.name)))
}

const fn place(credential: &Credential) -> Place<'static> {
    Place::credential(credential.project_id, credential.id, credential.version)
}

#[derive(serde::Serialize)]
struct Written<'a> {
    value: &'a str,
    passphrase: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<&'a str>,
}

#[derive(serde::Deserialize)]
struct Read {
    value: Secret,
    passphrase: Option<Secret>,
    certificate: Option<String>,
}

fn to_bytes(value: &OpenCredential) -> Result<Zeroizing<Vec<u8>>> {
    let written = match value {
        OpenCredential::PrivateKey { key, passphrase, certificate } => Written {
            value: key.expose(),
            passphrase: passphrase.as_ref().map(Secret::expose),
            certificate: certificate.as_deref(),
        },
        OpenCredential::Password(password) => Written { value: password.expose(), passphrase: None, certificate: None },
    };
    serde_json::to_vec(&written)
        .map(Zeroizing::new)
        .map_err(|error| Error::internal("a credential could not be written").with_source(error))
}

fn from_bytes(kind: CredentialKind, bytes: &[u8]) -> Option<OpenCredential> {
    let read: Read = serde_json::from_slice(bytes).ok()?;
    Some(match kind {
        CredentialKind::PrivateKey => {
            OpenCredential::PrivateKey { key: read.value, passphrase: read.passphrase, certificate: read.certificate }
        }
        CredentialKind::Password => OpenCredential::Password(read.value),
    })
}
