//! Promises about credentials.

use chrono::{DateTime, Utc};

use super::make::{at, audit, elsewhere, here, name};
use super::server::{create as create_server, server};
use crate::id::{CredentialId, ProjectId};
use crate::inventory::{CertificateFacts, Credential, CredentialKind, Server};
use crate::page::PageRequest;
use crate::store::{Store, StoreError};
use crate::vault::Sealed;

pub(super) fn credential(text: &str) -> Credential {
    Credential {
        id: CredentialId::new(),
        project_id: ProjectId::DEFAULT,
        name: name(text),
        kind: CredentialKind::PrivateKey,
        algorithm: Some("ssh-ed25519".to_owned()),
        fingerprint: Some("SHA256:abc".to_owned()),
        certificate: None,
        description: "a key".to_owned(),
        sealed: Sealed::from_bytes((0..=255).collect()),
        version: 1,
        created_at: at(0),
        updated_at: at(0),
    }
}

pub(super) async fn create(store: &dyn Store, credential: &Credential) {
    store.create_credential(&here(), credential, &audit("credential.create")).await.unwrap();
}

pub(super) async fn find(store: &dyn Store, credential: &Credential) -> Result<Credential, StoreError> {
    store.credential(&here(), &credential.id.into()).await
}

pub(super) async fn a_created_credential_reads_back_as_it_was(store: &dyn Store) {
    let key = credential("key");
    let password = Credential {
        kind: CredentialKind::Password,
        algorithm: None,
        fingerprint: None,
        sealed: Sealed::from_bytes(vec![0]),
        ..credential("password")
    };
    let certified = Credential { certificate: Some(certificate(Some(at(7)))), ..credential("certified") };
    for credential in [key, password, certified] {
        create(store, &credential).await;
        assert_eq!(find(store, &credential).await.unwrap(), credential);
    }
}

/// A certificate that says as much as one can, text that no database likes included.
fn certificate(valid_before: Option<DateTime<Utc>>) -> CertificateFacts {
    CertificateFacts {
        key_id: "ana's \"laptop\"\u{0}\n".to_owned(),
        authority: "SHA256:ca".to_owned(),
        principals: vec!["deploy".to_owned(), "root".to_owned()],
        valid_after: None,
        valid_before,
    }
}

pub(super) async fn a_certificate_is_replaced_and_taken_away(store: &dyn Store) {
    let first = Credential { certificate: Some(certificate(None)), ..credential("key") };
    create(store, &first).await;
    let second = Credential { certificate: Some(certificate(Some(at(9)))), version: 2, ..first };
    store.update_credential(&here(), &second, &audit("credential.rotate")).await.unwrap();
    assert_eq!(find(store, &second).await.unwrap(), second);
    let third = Credential { certificate: None, version: 3, ..second };
    store.update_credential(&here(), &third, &audit("credential.rotate")).await.unwrap();
    assert_eq!(find(store, &third).await.unwrap(), third);
}

pub(super) async fn a_credential_name_is_taken_once_in_a_project(store: &dyn Store) {
    create(store, &credential("key")).await;
    let second = store.create_credential(&here(), &credential("key"), &audit("credential.create")).await;
    assert!(matches!(second, Err(StoreError::Conflict { .. })), "{second:?}");
    store.create_credential(&elsewhere(), &credential("key"), &audit("credential.create")).await.unwrap();
}

pub(super) async fn a_stale_credential_is_neither_updated_nor_deleted(store: &dyn Store) {
    let first = credential("key");
    create(store, &first).await;
    let stale = Credential { sealed: Sealed::from_bytes(vec![1]), version: 3, ..first.clone() };
    let updated = store.update_credential(&here(), &stale, &audit("credential.edit")).await;
    assert!(matches!(updated, Err(StoreError::Stale { .. })), "{updated:?}");
    let deleted = store.delete_credential(&here(), &stale, &audit("credential.delete")).await;
    assert!(matches!(deleted, Err(StoreError::Stale { .. })), "{deleted:?}");
    assert_eq!(find(store, &first).await.unwrap(), first);
    let next = Credential { sealed: Sealed::from_bytes(vec![2]), version: 2, updated_at: at(5), ..first };
    store.update_credential(&here(), &next, &audit("credential.edit")).await.unwrap();
    assert_eq!(find(store, &next).await.unwrap(), next);
    store.delete_credential(&here(), &next, &audit("credential.delete")).await.unwrap();
    assert!(matches!(find(store, &next).await, Err(StoreError::NotFound { .. })));
}

pub(super) async fn a_credential_that_a_server_uses_is_not_deleted(store: &dyn Store) {
    let credential = credential("key");
    create(store, &credential).await;
    let server = Server { credential_id: Some(credential.id), ..server("web-1") };
    create_server(store, &server).await;
    let deleted = store.delete_credential(&here(), &credential, &audit("credential.delete")).await;
    assert!(matches!(deleted, Err(StoreError::Conflict { .. })), "{deleted:?}");
    store.delete_server(&here(), &server, &audit("server.delete")).await.unwrap();
    store.delete_credential(&here(), &credential, &audit("credential.delete")).await.unwrap();
}

pub(super) async fn credentials_are_listed_newest_first(store: &dyn Store) {
    let mut all: Vec<Credential> = ["a", "b", "c"].map(credential).into();
    for credential in &all {
        create(store, credential).await;
    }
    all.sort_by_key(|credential| std::cmp::Reverse(credential.id));
    let first = store.credentials(&here(), PageRequest::new(2, None).unwrap()).await.unwrap();
    let rest = store.credentials(&here(), PageRequest::new(2, first.next).unwrap()).await.unwrap();
    assert_eq!([first.items, rest.items].concat(), all);
    assert_eq!(rest.next, None);
}

pub(super) async fn a_credential_of_another_project_does_not_exist(store: &dyn Store) {
    let credential = credential("key");
    create(store, &credential).await;
    let scope = elsewhere();
    assert!(matches!(store.credential(&scope, &credential.id.into()).await, Err(StoreError::NotFound { .. })));
    let deleted = store.delete_credential(&scope, &credential, &audit("credential.delete")).await;
    assert!(matches!(deleted, Err(StoreError::NotFound { .. })), "{deleted:?}");
    assert!(store.credentials(&scope, PageRequest::default()).await.unwrap().items.is_empty());
    let foreign = Server { credential_id: Some(credential.id), ..server("web-1") };
    let created = store.create_server(&scope, &foreign, &audit("server.create")).await;
    assert!(matches!(created, Err(StoreError::NotFound { .. })), "{created:?}");
}
