//! Promises about the audit log.

use serde_json::json;
use uuid::Uuid;

use super::make::{actor, at, audit, elsewhere, here};
use crate::audit::{AuditEntry, AuditFilter, AuditOutcome, ChainLink};
use crate::id::AuditId;
use crate::page::PageRequest;
use crate::store::{Store, StoreError};

async fn list(store: &dyn Store, filter: &AuditFilter) -> Vec<AuditEntry> {
    store.audit_entries(&here(), filter, PageRequest::default()).await.unwrap().items
}

pub(super) async fn an_appended_entry_reads_back_as_it_was(store: &dyn Store) {
    let whole = AuditEntry {
        outcome: AuditOutcome::Refused,
        resource_id: Some(Uuid::from_u128(7)),
        resource_name: Some("web-1\nforged".to_owned()),
        before: Some(json!({"port": 22, "tags": ["a"], "nothing": null})),
        after: Some(json!([1.5, "ü"])),
        request_id: Some("req-1".to_owned()),
        ..audit("server.edit")
    };
    let bare = audit("login");
    for entry in [&whole, &bare] {
        store.append_audit(&here(), entry).await.unwrap();
    }
    let mut expected = vec![whole, bare];
    expected.sort_by_key(|entry| std::cmp::Reverse(entry.id));
    assert_eq!(list(store, &AuditFilter::default()).await, expected);
}

pub(super) async fn entries_are_listed_newest_first_page_by_page(store: &dyn Store) {
    let mut ids = Vec::new();
    for _ in 0..5 {
        let entry = audit("server.edit");
        store.append_audit(&here(), &entry).await.unwrap();
        ids.push(entry.id);
    }
    ids.sort_unstable_by(|a, b| b.cmp(a));
    let (mut seen, mut after): (Vec<AuditId>, _) = (Vec::new(), None);
    loop {
        let request = PageRequest::new(2, after).unwrap();
        let page = store.audit_entries(&here(), &AuditFilter::default(), request).await.unwrap();
        seen.extend(page.items.iter().map(|entry| entry.id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, ids);
}

pub(super) async fn entries_are_found_by_what_they_tell(store: &dyn Store) {
    let resource = Uuid::from_u128(7);
    for (index, action) in ["server.create", "server.edit", "server.edit"].into_iter().enumerate() {
        let entry = AuditEntry {
            at: at(i64::try_from(index).unwrap()),
            actor: actor(if index == 0 { "ana" } else { "bob" }),
            resource_id: (index < 2).then_some(resource),
            ..audit(action)
        };
        store.append_audit(&here(), &entry).await.unwrap();
    }
    let filters = [
        (AuditFilter { action: Some("server.edit".to_owned()), ..AuditFilter::default() }, 2),
        (AuditFilter { resource_id: Some(resource), ..AuditFilter::default() }, 2),
        (AuditFilter { actor: Some("ana".to_owned()), ..AuditFilter::default() }, 1),
        (AuditFilter { since: Some(at(1)), ..AuditFilter::default() }, 2),
        (AuditFilter { until: Some(at(1)), ..AuditFilter::default() }, 1),
        (AuditFilter { since: Some(at(1)), until: Some(at(2)), ..AuditFilter::default() }, 1),
        (AuditFilter { actor: Some("carl".to_owned()), ..AuditFilter::default() }, 0),
        (
            AuditFilter {
                action: Some("server.edit".to_owned()),
                resource_id: Some(resource),
                ..AuditFilter::default()
            },
            1,
        ),
    ];
    for (filter, expected) in filters {
        assert_eq!(list(store, &filter).await.len(), expected, "{filter:?}");
    }
}

pub(super) async fn entries_of_another_project_do_not_exist(store: &dyn Store) {
    store.append_audit(&here(), &audit("server.edit")).await.unwrap();
    let page = store.audit_entries(&elsewhere(), &AuditFilter::default(), PageRequest::default()).await.unwrap();
    assert!(page.items.is_empty());
}

/// Links of the entries that are not sealed, with these numbers; the seals are made up.
async fn links(store: &dyn Store, first: u64) -> Vec<ChainLink> {
    let entries = store.unsealed_audit(100).await.unwrap();
    let link = |(entry, number): (&AuditEntry, u64)| ChainLink {
        entry: entry.id,
        number,
        seal: [u8::try_from(number).unwrap(); 32],
    };
    entries.iter().zip(first..).map(link).collect()
}

pub(super) async fn entries_are_sealed_once_under_the_head_that_was_known(store: &dyn Store) {
    let entries = [audit("a"), audit("b"), audit("c")];
    for entry in &entries[..2] {
        store.append_audit(&here(), entry).await.unwrap();
    }
    assert_eq!((store.count_unsealed_audit().await.unwrap(), store.audit_head().await.unwrap()), (2, None));
    let first = links(store, 1).await;
    assert!(store.seal_audit(&first, None, b"one").await.unwrap());
    // Whoever knows another head is too late, and changes nothing.
    store
        .append_audit(&elsewhere(), &AuditEntry { project: elsewhere().project(), ..entries[2].clone() })
        .await
        .unwrap();
    let second = links(store, 3).await;
    assert_eq!(second.len(), 1);
    for late in [None, Some(&b"zero"[..])] {
        assert!(!store.seal_audit(&second, late, b"two").await.unwrap());
    }
    assert_eq!(
        (store.count_unsealed_audit().await.unwrap(), store.audit_head().await.unwrap()),
        (1, Some(b"one".into()))
    );
    // What is sealed already is not sealed again, and leaves the head as it is.
    let again = store.seal_audit(&first, Some(b"one"), b"two").await;
    assert!(matches!(again, Err(StoreError::Stale { .. })), "{again:?}");
    assert!(store.seal_audit(&second, Some(b"one"), b"two").await.unwrap());
    let sealed = store.sealed_audit(0, u64::MAX, 100).await.unwrap();
    assert_eq!(sealed.iter().map(|link| link.number).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(sealed[0].seal, [1; 32]);
    assert_eq!(sealed[2].entry.action, "c");
    let some = store.sealed_audit(1, 2, 100).await.unwrap();
    assert_eq!(some.iter().map(|link| link.number).collect::<Vec<_>>(), [2]);
    assert_eq!(store.sealed_audit(0, u64::MAX, 1).await.unwrap().len(), 1);
}

pub(super) async fn the_chain_is_cut_at_its_beginning(store: &dyn Store) {
    for action in ["a", "b", "c"] {
        store.append_audit(&here(), &audit(action)).await.unwrap();
    }
    let all = links(store, 1).await;
    assert!(store.seal_audit(&all, None, b"one").await.unwrap());
    store.append_audit(&here(), &audit("unsealed")).await.unwrap();
    let entry = audit("audit.prune");
    assert!(!store.cut_audit(2, b"zero", b"two", &entry).await.unwrap());
    assert_eq!(list(store, &AuditFilter::default()).await.len(), 4);
    assert!(store.cut_audit(2, b"one", b"two", &entry).await.unwrap());
    assert_eq!(store.audit_head().await.unwrap(), Some(b"two".into()));
    let left = store.sealed_audit(0, u64::MAX, 100).await.unwrap();
    assert_eq!(left.iter().map(|link| link.number).collect::<Vec<_>>(), [3]);
    assert_eq!(store.count_unsealed_audit().await.unwrap(), 2);
}
