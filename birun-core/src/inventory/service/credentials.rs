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
use crate::inventory::{AgentKey, PromptAnswer};
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
        value.check()?;
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

/// The value with another certificate for its private key.
fn certified(mut value: OpenCredential, new: String) -> Result<OpenCredential> {
    let methods = match &mut value {
        OpenCredential::Several(methods) => methods.as_mut_slice(),
        one => std::slice::from_mut(one),
    };
    for method in methods {
        if let OpenCredential::PrivateKey { certificate, .. } = method {
            *certificate = Some(new);
            return Ok(value);
        }
    }
    Err(Error::invalid_field("certificate", "is only for a private key"))
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

/// A value as it is sealed. What a kind does not have is left out.
#[derive(Default, serde::Serialize)]
struct Written<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    passphrase: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    answers: Vec<(&'a str, &'a str)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<&'a AgentKey>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    several: Vec<(CredentialKind, Self)>,
}

#[derive(serde::Deserialize)]
struct Read {
    value: Option<Secret>,
    passphrase: Option<Secret>,
    certificate: Option<String>,
    #[serde(default)]
    answers: Vec<(String, Secret)>,
    agent: Option<AgentKey>,
    #[serde(default)]
    several: Vec<(CredentialKind, Self)>,
}

fn to_bytes(value: &OpenCredential) -> Result<Zeroizing<Vec<u8>>> {
    serde_json::to_vec(&write(value))
        .map(Zeroizing::new)
        .map_err(|error| Error::internal("a credential could not be written").with_source(error))
}

fn write(value: &OpenCredential) -> Written<'_> {
    match value {
        OpenCredential::PrivateKey { key, passphrase, certificate } => Written {
            value: Some(key.expose()),
            passphrase: passphrase.as_ref().map(Secret::expose),
            certificate: certificate.as_deref(),
            ..Written::default()
        },
        OpenCredential::Password(password) => Written { value: Some(password.expose()), ..Written::default() },
        OpenCredential::Answers(answers) => {
            let pairs = answers.iter().map(|known| (known.prompt.as_str(), known.answer.expose()));
            Written { answers: pairs.collect(), ..Written::default() }
        }
        OpenCredential::Agent(agent) => Written { agent: Some(agent), ..Written::default() },
        OpenCredential::Several(methods) => {
            let several = methods.iter().map(|method| (method.kind(), write(method)));
            Written { several: several.collect(), ..Written::default() }
        }
    }
}

fn from_bytes(kind: CredentialKind, bytes: &[u8]) -> Option<OpenCredential> {
    read(kind, serde_json::from_slice(bytes).ok()?)
}

fn read(kind: CredentialKind, read: Read) -> Option<OpenCredential> {
    let Read { value, passphrase, certificate, answers, agent, several } = read;
    Some(match kind {
        CredentialKind::PrivateKey => OpenCredential::PrivateKey { key: value?, passphrase, certificate },
        CredentialKind::Password => OpenCredential::Password(value?),
        CredentialKind::KeyboardInteractive => {
            let known =
                |(prompt, answer): (String, Secret)| Some(PromptAnswer { prompt: prompt.parse().ok()?, answer });
            OpenCredential::Answers(answers.into_iter().map(known).collect::<Option<_>>()?)
        }
        CredentialKind::Agent => OpenCredential::Agent(agent?),
        CredentialKind::Several => {
            let methods = several.into_iter().map(|(kind, method)| self::read(kind, method));
            OpenCredential::Several(methods.collect::<Option<_>>()?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers() -> OpenCredential {
        let answer =
            |prompt: &str, answer| PromptAnswer { prompt: prompt.parse().unwrap(), answer: Secret::new(answer) };
        OpenCredential::Answers(vec![answer("Password*", "one"), answer("Code*", "two")])
    }

    #[test]
    fn every_kind_is_read_as_it_was_written() {
        let key = OpenCredential::PrivateKey {
            key: Secret::new("k"),
            passphrase: Some(Secret::new("p")),
            certificate: Some("c".to_owned()),
        };
        let agent = AgentKey { socket: Some("/run/agent".to_owned()), fingerprint: None };
        let several =
            OpenCredential::of(vec![key.clone(), OpenCredential::Password(Secret::new("x")), answers()]).unwrap();
        let password = OpenCredential::Password(Secret::new("x"));
        for value in [key, password, answers(), OpenCredential::Agent(agent), several] {
            let bytes = to_bytes(&value).unwrap();
            let read = from_bytes(value.kind(), &bytes).unwrap();
            assert_eq!(to_bytes(&read).unwrap(), bytes);
            assert_eq!(value.secrets(), read.secrets());
        }
        assert_eq!(answers().secrets().len(), 2);
    }

    #[test]
    fn a_certificate_goes_to_the_private_key() {
        let key = OpenCredential::PrivateKey { key: Secret::new("k"), passphrase: None, certificate: None };
        let value = OpenCredential::of(vec![answers(), key]).unwrap();
        let certified_value = certified(value, "c".to_owned()).unwrap();
        let OpenCredential::PrivateKey { certificate, .. } = &certified_value.methods()[1] else { panic!("a key") };
        assert_eq!(certificate.as_deref(), Some("c"));
        assert_eq!(certified(answers(), "c".to_owned()).unwrap_err().fields()[0].field, "certificate");
    }

    #[test]
    fn several_methods_are_at_least_two() {
        let several = |methods: Vec<OpenCredential>| OpenCredential::Several(methods).check();
        assert!(several(vec![answers(), OpenCredential::Password(Secret::new("x"))]).is_ok());
        assert!(several(vec![answers()]).is_err());
        assert!(several(vec![answers(), OpenCredential::Several(vec![answers(), answers()])]).is_err());
    }

    #[test]
    fn values_that_an_earlier_birun_wrote_are_read() {
        let plain = br#"{"value":"k","passphrase":null}"#;
        let read = from_bytes(CredentialKind::PrivateKey, plain).unwrap();
        let OpenCredential::PrivateKey { key, passphrase: None, certificate: None } = read else { panic!("{read:?}") };
        assert_eq!(key.expose(), "k");
        assert!(from_bytes(CredentialKind::KeyboardInteractive, br#"{"answers":[["","x"]]}"#).is_none());
    }
}
