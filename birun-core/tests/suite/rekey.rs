//! The rotation of the master key, on a real store.

use std::sync::Arc;

use birun_core::audit::AuditFilter;
use birun_core::engine::{Engine, EngineBuilder};
use birun_core::id::ProjectId;
use birun_core::identity::{Principal, Role};
use birun_core::inventory::{Credential, NewCredential, OpenCredential, RotateCredential};
use birun_core::page::PageRequest;
use birun_core::testing::scope;
use birun_core::vault::{MasterKey, Place, Rekeyed, Secret, Vault};
use birun_core::{ErrorCode, Gate, Store};
use birun_store::SqlStore;

async fn store() -> Arc<dyn Store> {
    let store = SqlStore::memory().await.expect("a memory store opens");
    store.migrate().await.expect("it migrates");
    Arc::new(store)
}

fn key() -> MasterKey {
    MasterKey::generate().expect("a key")
}

/// An engine over the store with these keys, newest first.
fn builder(store: &Arc<dyn Store>, keys: &[&MasterKey]) -> EngineBuilder {
    let (newest, former) = keys.split_first().expect("a key");
    let builder = Engine::builder_over(Arc::clone(store)).master_key((*newest).clone());
    former.iter().fold(builder, |builder, key| builder.former_master_key((*key).clone()))
}

async fn gate(store: &Arc<dyn Store>, keys: &[&MasterKey]) -> Gate {
    builder(store, keys).build().await.expect("an engine").system()
}

/// Why the store does not open with these keys.
#[track_caller]
fn refused(built: birun_core::Result<Engine>) -> (ErrorCode, String) {
    let error = built.expect_err("the store opens");
    (error.code(), error.hint().unwrap_or_default().to_owned())
}

async fn create(gate: &Gate, number: usize) -> Credential {
    let name = format!("key-{number:03}").parse().expect("a name");
    let value = OpenCredential::Password(Secret::new(format!("first-{number}")));
    gate.create_credential(NewCredential { name, value, description: String::new() }).await.expect("created")
}

async fn change(gate: &Gate, credential: &Credential, password: &str) {
    let value = Some(OpenCredential::Password(Secret::new(password)));
    let rotate = RotateCredential { value, ..RotateCredential::default() };
    gate.rotate_credential(&credential.id.into(), rotate, None).await.expect("changed, never stale");
}

/// The value of a credential as it is now, opened with this key alone.
async fn value(gate: &Gate, key: &MasterKey, credential: &Credential) -> String {
    let now = gate.credential(&credential.id.into()).await.expect("it is there");
    let place = Place::credential(now.project_id, now.id, now.version);
    let plain = Vault::new(key.clone()).open(&place, &now.sealed).expect("it is under this key");
    String::from_utf8(plain.to_vec()).expect("text")
}

pub(crate) async fn a_rotation_leaves_nothing_under_the_old_key_and_every_value_as_it_was() {
    let (store, old, new) = (store().await, key(), key());
    let before = gate(&store, &[&old]).await;
    let credential = create(&before, 1).await;
    let during = gate(&store, &[&new, &old]).await;
    assert_eq!(during.rekey().await.expect("it goes well"), Rekeyed { resealed: 1, left: 0 });
    assert_eq!(during.rekey().await.expect("it goes well"), Rekeyed::default());
    let now = during.credential(&credential.id.into()).await.expect("it is there");
    assert_eq!(Credential { sealed: credential.sealed.clone(), ..now.clone() }, credential);
    assert_ne!(now.sealed, credential.sealed);
    let after = gate(&store, &[&new]).await;
    assert!(value(&after, &new, &credential).await.contains("first-1"));
    let (code, hint) = refused(builder(&store, &[&old]).build().await);
    assert_eq!(code, ErrorCode::KeyMismatch);
    assert!(hint.contains("add the new key as the first line"), "{hint}");
    assert_eq!(before.rekey().await.expect_err("it has the old key").code(), ErrorCode::KeyMismatch);
    let filter = AuditFilter { action: Some("vault.rekey".to_owned()), ..AuditFilter::default() };
    let log = after.audit_log(&filter, PageRequest::default()).await.expect("read");
    let told: Vec<String> = log.items.iter().map(|entry| entry.after.clone().unwrap_or_default().to_string()).collect();
    assert_eq!(told, [r#"{"left":0,"resealed":1}"#, r#"{"state":"begun"}"#]);
}

pub(crate) async fn what_others_write_during_a_rotation_is_neither_lost_nor_undone() {
    const COUNT: usize = 200;
    let (store, old, new) = (store().await, key(), key());
    let before = gate(&store, &[&old]).await;
    let mut credentials = Vec::new();
    for number in 0..COUNT {
        credentials.push(create(&before, number).await);
    }
    let during = gate(&store, &[&new, &old]).await;
    // The worst neighbour: it opens everything, and seals under the old key still.
    let neighbour = gate(&store, &[&old, &new]).await;
    let writes = async {
        for (number, credential) in credentials.iter().enumerate().rev() {
            let writer = if number % 2 == 0 { &neighbour } else { &during };
            change(writer, credential, &format!("second-{number}")).await;
        }
    };
    let (first, ()) = tokio::join!(during.rekey(), writes);
    let first = first.expect("it goes well");
    let second = during.rekey().await.expect("it goes well");
    assert!(first.resealed > 0 && second.left == 0, "{first:?} {second:?}");
    let after = gate(&store, &[&new]).await;
    for (number, credential) in credentials.iter().enumerate() {
        let value = value(&after, &new, credential).await;
        assert!(value.contains(&format!("\"second-{number}\"")), "{value}");
    }
}

pub(crate) async fn an_interrupted_rotation_needs_both_keys_and_goes_on() {
    let (store, old, new, lost) = (store().await, key(), key(), key());
    let before = gate(&store, &[&old]).await;
    let credential = create(&before, 1).await;
    // A value that no key opens keeps the rotation from its end.
    let stray = {
        let other = create(&before, 2).await;
        let place = Place::credential(other.project_id, other.id, other.version);
        let sealed = Vault::new(lost.clone()).seal(&place, br#"{"value":"stray"}"#).expect("sealed");
        assert!(store.reseal(place, &other.sealed, &sealed).await.expect("written"));
        other
    };
    let during = gate(&store, &[&new, &old]).await;
    assert_eq!(during.rekey().await.expect("it goes well"), Rekeyed { resealed: 1, left: 1 });
    let (code, hint) = refused(builder(&store, &[&old]).build().await);
    assert_eq!((code, hint.as_str()), (ErrorCode::KeyMismatch, "add the new key as the first line, above the old one"));
    assert_eq!(refused(builder(&store, &[&new]).build().await).0, ErrorCode::KeyMismatch);
    let key_check = key_check_of(&builder(&store, &[&new, &old]).build().await.expect("both keys open it")).await;
    assert_eq!(key_check, "ok");
    let again = gate(&store, &[&new, &old, &lost]).await;
    assert_eq!(again.rekey().await.expect("it goes well"), Rekeyed { resealed: 1, left: 0 });
    let after = gate(&store, &[&new]).await;
    assert!(value(&after, &new, &credential).await.contains("first-1"));
    assert!(value(&after, &new, &stray).await.contains("stray"));
}

async fn key_check_of(engine: &Engine) -> String {
    let checks = engine.checks().await;
    let key = checks.iter().find(|check| check.name == "key").expect("a check of the key");
    key.result.as_ref().map_or_else(ToString::to_string, |()| "ok".to_owned())
}

pub(crate) async fn only_owners_of_the_first_project_rotate() {
    let (store, key) = (store().await, key());
    let engine = builder(&store, &[&key]).build().await.expect("an engine");
    for principal in [
        Principal { role: Role::Editor, ..Principal::local("ana") },
        Principal { project: ProjectId::new(), ..Principal::local("ana") },
    ] {
        let project = principal.project;
        let error = engine.gate(principal).rekey().await.expect_err("refused");
        assert_eq!(error.code(), ErrorCode::Forbidden);
        let filter = AuditFilter { action: Some("vault.rekey".to_owned()), ..AuditFilter::default() };
        let log = store.audit_entries(&scope(project), &filter, PageRequest::default()).await.expect("read");
        assert_eq!(log.items[0].outcome.as_str(), "refused");
    }
    let former = Engine::builder_over(Arc::clone(&store)).former_master_key(key).build().await;
    assert_eq!(former.expect_err("none seals").code(), ErrorCode::Invalid);
}
