//! Promises about server groups.

use super::make::{at, audit, elsewhere, here, name};
use super::server::{create as create_server, group, server};
use crate::inventory::{Group, HostKeyPolicy, Server};
use crate::page::PageRequest;
use crate::store::{Store, StoreError};

async fn create(store: &dyn Store, group: &Group) {
    store.create_group(&here(), group, &audit("group.create")).await.unwrap();
}

async fn find(store: &dyn Store, group: &Group) -> Result<Group, StoreError> {
    store.group(&here(), &group.id.into()).await
}

pub(super) async fn a_created_group_reads_back_as_it_was(store: &dyn Store) {
    let group = Group {
        description: "Frankfurt".to_owned(),
        host_key_policy: Some(HostKeyPolicy::AcceptNew),
        updated_at: at(1),
        ..group("eu")
    };
    create(store, &group).await;
    assert_eq!(find(store, &group).await.unwrap(), group);
    assert_eq!(store.group(&here(), &group.name.clone().into()).await.unwrap(), group);
}

pub(super) async fn a_group_name_is_taken_once_in_a_project(store: &dyn Store) {
    create(store, &group("eu")).await;
    let second = store.create_group(&here(), &group("eu"), &audit("group.create")).await;
    assert!(matches!(second, Err(StoreError::Conflict { .. })), "{second:?}");
    store.create_group(&elsewhere(), &group("eu"), &audit("group.create")).await.unwrap();
}

pub(super) async fn a_stale_group_is_neither_updated_nor_deleted(store: &dyn Store) {
    let first = group("eu");
    create(store, &first).await;
    let stale = Group { description: "changed".to_owned(), version: 3, ..first.clone() };
    let updated = store.update_group(&here(), &stale, &audit("group.edit")).await;
    assert!(matches!(updated, Err(StoreError::Stale { .. })), "{updated:?}");
    let deleted = store.delete_group(&here(), &stale, &audit("group.delete")).await;
    assert!(matches!(deleted, Err(StoreError::Stale { .. })), "{deleted:?}");
    assert_eq!(find(store, &first).await.unwrap(), first);
    let next = Group { name: name("us"), version: 2, updated_at: at(5), ..first };
    store.update_group(&here(), &next, &audit("group.edit")).await.unwrap();
    assert_eq!(find(store, &next).await.unwrap(), next);
    store.delete_group(&here(), &next, &audit("group.delete")).await.unwrap();
    assert!(matches!(find(store, &next).await, Err(StoreError::NotFound { .. })));
}

pub(super) async fn a_deleted_group_leaves_its_servers(store: &dyn Store) {
    let group = group("eu");
    create(store, &group).await;
    let server = Server { group_ids: vec![group.id], ..server("web-1") };
    create_server(store, &server).await;
    store.delete_group(&here(), &group, &audit("group.delete")).await.unwrap();
    let left = store.server(&here(), &server.id.into()).await.unwrap();
    assert_eq!(left, Server { group_ids: Vec::new(), ..server });
}

pub(super) async fn groups_are_listed_newest_first_and_all_by_name(store: &dyn Store) {
    let mut groups: Vec<Group> = ["eu", "us", "db"].map(group).into();
    for group in &groups {
        create(store, group).await;
    }
    let all = store.all_groups(&here()).await.unwrap();
    let names: Vec<&str> = all.iter().map(|group| group.name.as_str()).collect();
    assert_eq!(names, ["db", "eu", "us"]);
    groups.sort_by_key(|group| std::cmp::Reverse(group.id));
    let first = store.groups(&here(), PageRequest::new(2, None).unwrap()).await.unwrap();
    assert_eq!(first.items, groups[..2]);
    let rest = store.groups(&here(), PageRequest::new(2, first.next).unwrap()).await.unwrap();
    assert_eq!((rest.items.as_slice(), rest.next), (&groups[2..], None));
}

pub(super) async fn a_group_of_another_project_does_not_exist(store: &dyn Store) {
    let group = group("eu");
    create(store, &group).await;
    let scope = elsewhere();
    assert!(matches!(store.group(&scope, &group.id.into()).await, Err(StoreError::NotFound { .. })));
    let deleted = store.delete_group(&scope, &group, &audit("group.delete")).await;
    assert!(matches!(deleted, Err(StoreError::NotFound { .. })), "{deleted:?}");
    assert!(store.all_groups(&scope).await.unwrap().is_empty());
    assert!(store.groups(&scope, PageRequest::default()).await.unwrap().items.is_empty());
    // A server cannot be in a group of another project.
    let foreign = Server { group_ids: vec![group.id], ..server("web-1") };
    let created = store.create_server(&scope, &foreign, &audit("server.create")).await;
    assert!(matches!(created, Err(StoreError::NotFound { .. })), "{created:?}");
}
