//! Promises about host keys.

use super::make::{at, audit, elsewhere, here};
use super::server::{create as create_server, host_key, server};
use crate::audit::AuditFilter;
use crate::id::ServerId;
use crate::inventory::{HostKey, HostKeyStatus, Server};
use crate::page::PageRequest;
use crate::store::{Store, StoreError};

async fn create(store: &dyn Store, key: &HostKey) -> Result<(), StoreError> {
    store.create_host_key(&here(), key, &audit("host_key.create")).await
}

async fn two_servers(store: &dyn Store) -> (Server, Server) {
    let (one, two) = (server("web-1"), server("web-2"));
    create_server(store, &one).await;
    create_server(store, &two).await;
    (one, two)
}

pub(super) async fn a_created_host_key_reads_back_as_it_was(store: &dyn Store) {
    let (one, _) = two_servers(store).await;
    // As long as keys get.
    let key = host_key(one.id, &"AAAAB3NzaC1yc2E".repeat(200));
    create(store, &key).await.unwrap();
    assert_eq!(store.host_key(&here(), &key.id.into()).await.unwrap(), key);
}

pub(super) async fn a_host_key_is_recorded_once_for_a_server(store: &dyn Store) {
    let (one, two) = two_servers(store).await;
    create(store, &host_key(one.id, "AAAA")).await.unwrap();
    let again = create(store, &host_key(one.id, "AAAA")).await;
    assert!(matches!(again, Err(StoreError::Conflict { .. })), "{again:?}");
    create(store, &host_key(two.id, "AAAA")).await.unwrap();
    create(store, &host_key(one.id, "BBBB")).await.unwrap();
}

pub(super) async fn only_the_first_key_of_a_server_is_trusted_unseen(store: &dyn Store) {
    let (one, two) = two_servers(store).await;
    let trust = |key: HostKey| async move { store.trust_host_key(&here(), &key, &audit("host_key.approved")).await };
    let pending = HostKey { status: HostKeyStatus::Pending, ..host_key(one.id, "AAAA") };
    create(store, &pending).await.unwrap();
    let approved = HostKey { status: HostKeyStatus::Approved, version: 2, ..pending };
    trust(approved.clone()).await.unwrap();
    assert_eq!(store.host_key(&here(), &approved.id.into()).await.unwrap(), approved);
    for late in [host_key(one.id, "BBBB"), HostKey { version: 3, ..approved }] {
        let refused = trust(late).await;
        assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
    }
    let at_once = (0..8).map(|number| trust(host_key(two.id, &format!("KEY{number}"))));
    let trusted = futures::future::join_all(at_once).await;
    assert_eq!(trusted.iter().filter(|trusted| trusted.is_ok()).count(), 1, "{trusted:?}");
    let unknown = trust(host_key(ServerId::new(), "AAAA")).await;
    assert!(matches!(unknown, Err(StoreError::NotFound { .. })), "{unknown:?}");
}

pub(super) async fn an_approved_host_key_takes_the_place_of_another(store: &dyn Store) {
    let (one, two) = two_servers(store).await;
    let approved = |key: &HostKey| HostKey { status: HostKeyStatus::Approved, version: key.version + 1, ..key.clone() };
    let revoked = |key: &HostKey| HostKey { status: HostKeyStatus::Revoked, version: key.version + 1, ..key.clone() };
    let (old, pending) =
        (host_key(one.id, "AAAA"), HostKey { status: HostKeyStatus::Pending, ..host_key(one.id, "BBBB") });
    let other_algorithm = HostKey { algorithm: "ssh-rsa".into(), ..host_key(one.id, "CCCC") };
    for key in [&old, &pending, &other_algorithm, &host_key(two.id, "AAAA")] {
        create(store, key).await.unwrap();
    }
    let entries = [audit("host_key.approve"), audit("host_key.revoke")];
    let approve = |key: HostKey, retired: Vec<HostKey>| {
        let entries = &entries;
        async move { store.approve_host_key(&here(), &key, &retired, entries).await }
    };
    let stale = HostKey { version: 7, ..revoked(&old) };
    for forgotten in [vec![], vec![stale]] {
        let refused = approve(approved(&pending), forgotten).await;
        assert!(matches!(refused, Err(StoreError::Stale { .. })), "{refused:?}");
        assert_eq!(store.host_key(&here(), &pending.id.into()).await.unwrap(), pending);
    }
    approve(approved(&pending), vec![revoked(&old)]).await.unwrap();
    let expected = [revoked(&old), approved(&pending), other_algorithm];
    for key in expected {
        assert_eq!(store.host_key(&here(), &key.id.into()).await.unwrap(), key);
    }
    let told = store.audit_entries(&here(), &AuditFilter::default(), PageRequest::default()).await.unwrap().items;
    assert_eq!(told.iter().filter(|entry| entries.contains(entry)).count(), 2, "{told:#?}");
    let again = approve(approved(&pending), vec![]).await;
    assert!(matches!(again, Err(StoreError::Stale { .. })), "{again:?}");

    let mut at_once = Vec::new();
    for number in 0..8 {
        let key = HostKey {
            status: HostKeyStatus::Pending,
            algorithm: "x".into(),
            ..host_key(two.id, &format!("K{number}"))
        };
        create(store, &key).await.unwrap();
        let entry = audit("host_key.approve");
        at_once.push(async move { store.approve_host_key(&here(), &approved(&key), &[], &[entry]).await });
    }
    let done = futures::future::join_all(at_once).await;
    assert_eq!(done.iter().filter(|done| done.is_ok()).count(), 1, "{done:?}");
}

pub(super) async fn a_host_key_of_an_unknown_server_is_not_recorded(store: &dyn Store) {
    let created = create(store, &host_key(ServerId::new(), "AAAA")).await;
    assert!(matches!(created, Err(StoreError::NotFound { .. })), "{created:?}");
}

pub(super) async fn a_stale_host_key_is_neither_updated_nor_deleted(store: &dyn Store) {
    let (one, _) = two_servers(store).await;
    let first = host_key(one.id, "AAAA");
    create(store, &first).await.unwrap();
    let stale = HostKey { status: HostKeyStatus::Revoked, version: 3, ..first.clone() };
    let updated = store.update_host_key(&here(), &stale, &audit("host_key.revoke")).await;
    assert!(matches!(updated, Err(StoreError::Stale { .. })), "{updated:?}");
    let deleted = store.delete_host_key(&here(), &stale, &audit("host_key.delete")).await;
    assert!(matches!(deleted, Err(StoreError::Stale { .. })), "{deleted:?}");
    let next = HostKey { status: HostKeyStatus::Revoked, version: 2, updated_at: at(3), ..first };
    store.update_host_key(&here(), &next, &audit("host_key.revoke")).await.unwrap();
    assert_eq!(store.host_key(&here(), &next.id.into()).await.unwrap(), next);
    store.delete_host_key(&here(), &next, &audit("host_key.delete")).await.unwrap();
    assert!(matches!(store.host_key(&here(), &next.id.into()).await, Err(StoreError::NotFound { .. })));
}

pub(super) async fn host_keys_are_listed_by_server(store: &dyn Store) {
    let (one, two) = two_servers(store).await;
    let mut keys: Vec<HostKey> = ["AAAA", "BBBB", "CCCC"].map(|key| host_key(one.id, key)).into();
    keys.push(host_key(two.id, "DDDD"));
    for key in &keys {
        create(store, key).await.unwrap();
    }
    keys.sort_by_key(|key| std::cmp::Reverse(key.id));
    let all = store.host_keys(&here(), None, PageRequest::default()).await.unwrap();
    assert_eq!(all.items, keys);
    keys.retain(|key| key.server_id == one.id);
    let first = store.host_keys(&here(), Some(one.id), PageRequest::new(2, None).unwrap()).await.unwrap();
    let rest = store.host_keys(&here(), Some(one.id), PageRequest::new(2, first.next).unwrap()).await.unwrap();
    assert_eq!([first.items, rest.items].concat(), keys);
}

pub(super) async fn host_keys_of_several_servers_are_found_at_once(store: &dyn Store) {
    let (one, two) = two_servers(store).await;
    for key in [host_key(one.id, "AAAA"), host_key(two.id, "BBBB"), host_key(two.id, "CCCC")] {
        create(store, &key).await.unwrap();
    }
    let found = |ids: Vec<ServerId>| async move { store.host_keys_of(&here(), &ids).await.unwrap().len() };
    assert_eq!(found(vec![one.id, two.id, ServerId::new()]).await, 3);
    assert_eq!(found(vec![one.id]).await, 1);
    assert_eq!(found(vec![]).await, 0);
}

pub(super) async fn a_host_key_of_another_project_does_not_exist(store: &dyn Store) {
    let (one, _) = two_servers(store).await;
    let key = host_key(one.id, "AAAA");
    create(store, &key).await.unwrap();
    let scope = elsewhere();
    assert!(matches!(store.host_key(&scope, &key.id.into()).await, Err(StoreError::NotFound { .. })));
    assert!(store.host_keys(&scope, Some(one.id), PageRequest::default()).await.unwrap().items.is_empty());
    assert!(store.host_keys_of(&scope, &[one.id]).await.unwrap().is_empty());
    let foreign = store.create_host_key(&scope, &host_key(one.id, "BBBB"), &audit("host_key.create")).await;
    assert!(matches!(foreign, Err(StoreError::NotFound { .. })), "{foreign:?}");
}
