//! Promises about servers.

use uuid::Uuid;

use super::make::{at, audit, audited, elsewhere, here, name};
use crate::id::{CredentialId, GroupId, HostKeyId, ProjectId, Selector, ServerId};
use crate::inventory::{Group, HostKey, HostKeyOrigin, HostKeyStatus, Server, ServerFilter};
use crate::page::PageRequest;
use crate::store::{Store, StoreError};

/// A server without groups and credential.
pub(super) fn server(text: &str) -> Server {
    Server {
        id: ServerId::new(),
        project_id: ProjectId::DEFAULT,
        name: name(text),
        host: format!("{text}.example.com"),
        port: 2222,
        user: "deploy".to_owned(),
        credential_id: None,
        executor: "ssh".to_owned(),
        tags: vec!["prod".parse().unwrap(), "web".parse().unwrap()],
        group_ids: Vec::new(),
        maintenance: false,
        description: "a server".to_owned(),
        version: 1,
        created_at: at(0),
        updated_at: at(0),
    }
}

pub(super) async fn create(store: &dyn Store, server: &Server) {
    store.create_server(&here(), server, &audit("server.create")).await.unwrap();
}

async fn find(store: &dyn Store, selector: impl Into<Selector>) -> Result<Server, StoreError> {
    store.server(&here(), &selector.into()).await
}

pub(super) fn group(text: &str) -> Group {
    Group {
        id: GroupId::new(),
        project_id: ProjectId::DEFAULT,
        name: name(text),
        description: String::new(),
        host_key_policy: None,
        version: 1,
        created_at: at(0),
        updated_at: at(0),
    }
}

/// A key recorded for a server.
pub(super) fn host_key(server: ServerId, key: &str) -> HostKey {
    HostKey {
        id: HostKeyId::new(),
        project_id: ProjectId::DEFAULT,
        server_id: server,
        algorithm: "ssh-ed25519".to_owned(),
        key: key.to_owned(),
        fingerprint: format!("SHA256:{key}"),
        status: HostKeyStatus::Approved,
        origin: HostKeyOrigin::Offered,
        version: 1,
        created_at: at(0),
        updated_at: at(0),
    }
}

pub(super) async fn a_created_server_reads_back_as_it_was(store: &dyn Store) {
    let mut groups = vec![group("eu"), group("db")];
    groups.sort_by_key(|group| group.id);
    for group in &groups {
        store.create_group(&here(), group, &audit("group.create")).await.unwrap();
    }
    let credential = super::credential::credential("key");
    store.create_credential(&here(), &credential, &audit("credential.create")).await.unwrap();
    let server = Server {
        group_ids: groups.iter().map(|group| group.id).collect(),
        credential_id: Some(credential.id),
        ..server("web-1")
    };
    create(store, &server).await;
    assert_eq!(find(store, server.id).await.unwrap(), server);
}

pub(super) async fn a_server_name_is_taken_once_in_a_project(store: &dyn Store) {
    create(store, &server("web-1")).await;
    let second = store.create_server(&here(), &server("web-1"), &audit("server.create")).await;
    assert!(matches!(second, Err(StoreError::Conflict { .. })), "{second:?}");
    let other = server("web-2");
    create(store, &other).await;
    let renamed = Server { name: name("web-1"), version: 2, ..other };
    let renamed = store.update_server(&here(), &renamed, &audit("server.edit")).await;
    assert!(matches!(renamed, Err(StoreError::Conflict { .. })), "{renamed:?}");
    let scope = elsewhere();
    let namesake = Server { project_id: scope.project(), ..server("web-1") };
    store.create_server(&scope, &namesake, &audit("server.create")).await.unwrap();
    // Names are compared byte by byte.
    create(store, &server("WEB-1")).await;
}

pub(super) async fn a_server_with_an_unknown_group_or_credential_is_not_added(store: &dyn Store) {
    let no_group = Server { group_ids: vec![GroupId::new()], ..server("web-1") };
    let no_credential = Server { credential_id: Some(CredentialId::new()), ..server("web-1") };
    for (server, missing) in [(no_group, "group"), (no_credential, "credential")] {
        let created = store.create_server(&here(), &server, &audit("server.create")).await;
        assert!(matches!(created, Err(StoreError::NotFound { kind, .. }) if kind == missing), "{created:?}");
        assert!(matches!(find(store, server.id).await, Err(StoreError::NotFound { .. })));
    }
    assert_eq!(audited(store).await, 0);
}

pub(super) async fn an_update_replaces_the_whole_server(store: &dyn Store) {
    let (old_group, new_group) = (group("old"), group("new"));
    for group in [&old_group, &new_group] {
        store.create_group(&here(), group, &audit("group.create")).await.unwrap();
    }
    let first = Server { group_ids: vec![old_group.id], ..server("web-1") };
    create(store, &first).await;
    let second = Server {
        name: name("app-1"),
        host: "10.0.0.9".to_owned(),
        port: 22,
        user: "root".to_owned(),
        executor: "other".to_owned(),
        tags: vec!["lab".parse().unwrap()],
        group_ids: vec![new_group.id],
        maintenance: true,
        description: String::new(),
        version: 2,
        updated_at: at(9),
        ..first.clone()
    };
    store.update_server(&here(), &second, &audit("server.edit")).await.unwrap();
    assert_eq!(find(store, first.id).await.unwrap(), second);
}

pub(super) async fn an_update_of_a_stale_server_changes_nothing(store: &dyn Store) {
    let first = server("web-1");
    create(store, &first).await;
    for version in [1, 3] {
        let stale = Server { host: "elsewhere".to_owned(), tags: Vec::new(), version, ..first.clone() };
        let updated = store.update_server(&here(), &stale, &audit("server.edit")).await;
        assert!(matches!(updated, Err(StoreError::Stale { .. })), "{updated:?}");
    }
    assert_eq!(find(store, first.id).await.unwrap(), first);
}

pub(super) async fn an_update_of_an_unknown_server_is_not_found(store: &dyn Store) {
    let unknown = Server { version: 2, ..server("web-1") };
    let updated = store.update_server(&here(), &unknown, &audit("server.edit")).await;
    assert!(matches!(updated, Err(StoreError::NotFound { .. })), "{updated:?}");
}

pub(super) async fn a_deletion_of_a_stale_server_changes_nothing(store: &dyn Store) {
    let first = server("web-1");
    create(store, &first).await;
    let stale = Server { version: 2, ..first.clone() };
    let deleted = store.delete_server(&here(), &stale, &audit("server.delete")).await;
    assert!(matches!(deleted, Err(StoreError::Stale { .. })), "{deleted:?}");
    store.delete_server(&here(), &first, &audit("server.delete")).await.unwrap();
    let again = store.delete_server(&here(), &first, &audit("server.delete")).await;
    assert!(matches!(again, Err(StoreError::NotFound { .. })), "{again:?}");
}

pub(super) async fn a_deleted_server_takes_its_host_keys_along(store: &dyn Store) {
    let server = server("web-1");
    create(store, &server).await;
    let key = host_key(server.id, "AAAA");
    store.create_host_key(&here(), &key, &audit("host_key.create")).await.unwrap();
    store.delete_server(&here(), &server, &audit("server.delete")).await.unwrap();
    assert!(matches!(store.host_key(&here(), &key.id.into()).await, Err(StoreError::NotFound { .. })));
}

pub(super) async fn a_selector_finds_a_server_by_id_part_and_name(store: &dyn Store) {
    let server = server("web-1");
    create(store, &server).await;
    let id = server.id.as_uuid().simple().to_string();
    for text in [id.as_str(), &id[..31], &id[..12], server.id.short().as_str(), "web-1"] {
        let selector: Selector = text.parse().unwrap();
        assert_eq!(find(store, selector).await.unwrap().id, server.id, "{text}");
    }
    for text in ["00000000", "0000000000", "web-2", "WEB-1"] {
        let selector: Selector = text.parse().unwrap();
        assert!(matches!(find(store, selector).await, Err(StoreError::NotFound { .. })), "{text}");
    }
}

pub(super) async fn a_part_that_fits_several_servers_is_ambiguous(store: &dyn Store) {
    let with_id = |id: u128, text: &str| Server { id: ServerId::from_uuid(Uuid::from_u128(id)), ..server(text) };
    let one = with_id(0x0198_aaaa_0000_7000_8000_0000_1111_1111, "web-1");
    let two = with_id(0x0198_aaaa_0001_7000_8000_0000_2222_2222, "web-2");
    create(store, &one).await;
    create(store, &two).await;
    let found = find(store, "0198aaaa".parse::<Selector>().unwrap()).await;
    assert!(matches!(found, Err(StoreError::Ambiguous { .. })), "{found:?}");
    assert_eq!(find(store, "0198aaaa0001".parse::<Selector>().unwrap()).await.unwrap().id, two.id);
    // The end of one id is the beginning of another.
    let three = with_id(0x1111_1111_0001_7000_8000_0000_3333_3333, "web-3");
    create(store, &three).await;
    let found = find(store, "11111111".parse::<Selector>().unwrap()).await;
    assert!(matches!(found, Err(StoreError::Ambiguous { .. })), "{found:?}");
}

pub(super) async fn servers_are_listed_newest_first_page_by_page(store: &dyn Store) {
    let mut servers: Vec<Server> = (1..=5).map(|n| server(&format!("web-{n}"))).collect();
    for server in &servers {
        create(store, server).await;
    }
    servers.sort_by_key(|server| std::cmp::Reverse(server.id));
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = PageRequest::new(2, after).unwrap();
        let page = store.servers(&here(), &ServerFilter::default(), page).await.unwrap();
        assert!(page.items.len() <= 2);
        seen.extend(page.items);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, servers);
}

pub(super) async fn servers_are_listed_by_tag(store: &dyn Store) {
    let lab = Server { tags: vec!["lab".parse().unwrap()], ..server("lab") };
    create(store, &lab).await;
    create(store, &server("web-1")).await;
    let filter = ServerFilter { tag: Some("lab".parse().unwrap()), on: None };
    let page = store.servers(&here(), &filter, PageRequest::default()).await.unwrap();
    assert_eq!(page.items, [lab]);
}

pub(super) async fn all_servers_are_sorted_by_name(store: &dyn Store) {
    for text in ["web-2", "db-1", "Web-1", "web-10"] {
        create(store, &server(text)).await;
    }
    let all = store.all_servers(&here()).await.unwrap();
    let names: Vec<&str> = all.iter().map(|server| server.name.as_str()).collect();
    assert_eq!(names, ["Web-1", "db-1", "web-10", "web-2"]);
    assert!(all.iter().all(|server| server.tags.len() == 2));
}

pub(super) async fn servers_by_id_leave_out_the_unknown(store: &dyn Store) {
    let (one, two) = (server("web-1"), server("web-2"));
    create(store, &one).await;
    create(store, &two).await;
    let found = store.servers_by_id(&here(), &[two.id, ServerId::new(), one.id]).await.unwrap();
    let mut ids: Vec<ServerId> = found.iter().map(|server| server.id).collect();
    ids.sort_unstable();
    assert_eq!(ids, [one.id.min(two.id), one.id.max(two.id)]);
    assert!(store.servers_by_id(&here(), &[]).await.unwrap().is_empty());
}

pub(super) async fn a_server_of_another_project_does_not_exist(store: &dyn Store) {
    let server = server("web-1");
    create(store, &server).await;
    let scope = elsewhere();
    let next = Server { version: 2, ..server.clone() };
    for selector in [Selector::from(server.id), server.id.short().parse().unwrap(), server.name.clone().into()] {
        assert!(matches!(store.server(&scope, &selector).await, Err(StoreError::NotFound { .. })), "{selector}");
    }
    let updated = store.update_server(&scope, &next, &audit("server.edit")).await;
    assert!(matches!(updated, Err(StoreError::NotFound { .. })), "{updated:?}");
    let deleted = store.delete_server(&scope, &server, &audit("server.delete")).await;
    assert!(matches!(deleted, Err(StoreError::NotFound { .. })), "{deleted:?}");
    let page = store.servers(&scope, &ServerFilter::default(), PageRequest::default()).await.unwrap();
    assert!(page.items.is_empty());
    assert!(store.all_servers(&scope).await.unwrap().is_empty());
    assert!(store.servers_by_id(&scope, &[server.id]).await.unwrap().is_empty());
    assert_eq!(find(store, server.id).await.unwrap(), server);
}

pub(super) async fn every_change_of_a_server_is_audited(store: &dyn Store) {
    let first = server("web-1");
    let second = Server { version: 2, ..first.clone() };
    create(store, &first).await;
    store.update_server(&here(), &second, &audit("server.edit")).await.unwrap();
    store.delete_server(&here(), &second, &audit("server.delete")).await.unwrap();
    assert_eq!(audited(store).await, 3);
}

pub(super) async fn a_refused_change_of_a_server_is_not_audited(store: &dyn Store) {
    create(store, &server("web-1")).await;
    let unknown = Server { version: 2, ..server("web-2") };
    store.create_server(&here(), &server("web-1"), &audit("server.create")).await.unwrap_err();
    store.update_server(&here(), &unknown, &audit("server.edit")).await.unwrap_err();
    store.delete_server(&here(), &unknown, &audit("server.delete")).await.unwrap_err();
    assert_eq!(audited(store).await, 1);
}

pub(super) async fn nul_in_a_text_does_not_stop_a_server(store: &dyn Store) {
    let server = Server { description: "a\0b".to_owned(), ..server("web-1") };
    create(store, &server).await;
    assert_eq!(find(store, server.id).await.unwrap().description, "a\u{fffd}b");
}
