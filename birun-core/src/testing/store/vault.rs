//! Promises about everything that is sealed.

use super::credential::{create, credential, find};
use super::make::{at, audit, audited, elsewhere, execution, here, job, submit};
use crate::inventory::Credential;
use crate::store::{Store, StoreError};
use crate::vault::{KEY_CHECK, KEY_NEXT, Place, Sealed, SealedValue};

/// What values under the new key begin with.
const NEW: &[u8] = b"new";

fn sealed(text: &str) -> Sealed {
    Sealed::from_bytes(text.as_bytes().to_vec())
}

/// Stores a credential with this value, and says where that rests.
async fn keep(store: &dyn Store, name: &str, value: &str) -> (Credential, Place<'static>) {
    let credential = Credential { sealed: sealed(value), ..credential(name) };
    create(store, &credential).await;
    let place = Place::credential(here().project(), credential.id, credential.version);
    (credential, place)
}

async fn listed(store: &dyn Store, after: Option<Place<'static>>, limit: u32) -> Vec<SealedValue> {
    store.sealed_values(NEW, after, limit).await.unwrap()
}

pub(super) async fn sealed_values_are_listed_by_place(store: &dyn Store) {
    let mut expected = Vec::new();
    for index in 0..5 {
        let (_, place) = keep(store, &format!("key-{index}"), &format!("old {index}")).await;
        expected.push(SealedValue { place, sealed: sealed(&format!("old {index}")) });
    }
    let abroad = Credential { sealed: sealed("old too"), ..credential("key") };
    store.create_credential(&elsewhere(), &abroad, &audit("credential.create")).await.unwrap();
    for index in 0..5 {
        let mut run = job("ping", 1);
        run.execution.secrets = Some(sealed(&format!("old params {index}")));
        submit(store, &run).await;
        let place = Place::secret_params(here().project(), run.execution.id);
        expected.push(SealedValue { place, sealed: sealed(&format!("old params {index}")) });
    }
    let chain_key = Place::audit_chain_key();
    store.init_setting(chain_key.column, sealed("old chain key").as_bytes()).await.unwrap();
    expected.push(SealedValue { place: chain_key, sealed: sealed("old chain key") });
    submit(store, &job("without secrets", 1)).await;
    keep(store, "done", "new value").await;
    let mut found = Vec::new();
    loop {
        let page = listed(store, found.last().map(|value: &SealedValue| value.place), 3).await;
        found.extend(page.iter().cloned());
        if page.len() < 3 {
            break;
        }
    }
    let foreign = found.iter().position(|value| value.place.row == abroad.id.as_uuid()).unwrap();
    assert_eq!(found.remove(foreign).sealed, abroad.sealed, "values of every project are listed");
    assert_eq!(found, expected);
    assert_eq!(listed(store, Some(chain_key), 3).await, []);
    assert!(store.reseal(chain_key, &sealed("old chain key"), &sealed("new chain key")).await.unwrap());
    let kept = store.setting(chain_key.column).await.unwrap();
    assert_eq!(kept.as_deref(), Some(sealed("new chain key").as_bytes()));
}

pub(super) async fn a_value_is_resealed_where_it_rests_and_nothing_else_changes(store: &dyn Store) {
    let (credential, place) = keep(store, "key", "old").await;
    assert!(store.reseal(place, &sealed("old"), &sealed("new")).await.unwrap());
    assert_eq!(find(store, &credential).await.unwrap(), Credential { sealed: sealed("new"), ..credential });
    let mut run = job("ping", 1);
    run.execution.secrets = Some(sealed("old params"));
    let id = submit(store, &run).await;
    let place = Place::secret_params(here().project(), id);
    assert!(store.reseal(place, &sealed("old params"), &sealed("new params")).await.unwrap());
    run.execution.secrets = Some(sealed("new params"));
    assert_eq!(execution(store, id).await, run.execution);
    assert!(listed(store, None, 10).await.is_empty());
}

pub(super) async fn a_value_that_changed_meanwhile_is_not_resealed(store: &dyn Store) {
    let (first, place) = keep(store, "key", "old").await;
    let next = Credential { sealed: sealed("newer"), version: 2, updated_at: at(5), ..first };
    store.update_credential(&here(), &next, &audit("credential.rotate")).await.unwrap();
    assert!(!store.reseal(place, &sealed("old"), &sealed("new")).await.unwrap());
    assert_eq!(find(store, &next).await.unwrap(), next);
    store.delete_credential(&here(), &next, &audit("credential.delete")).await.unwrap();
    assert!(!store.reseal(place, &sealed("newer"), &sealed("new")).await.unwrap());
}

pub(super) async fn an_update_is_not_stale_because_the_value_was_resealed(store: &dyn Store) {
    let (first, place) = keep(store, "key", "old").await;
    assert!(store.reseal(place, &sealed("old"), &sealed("new")).await.unwrap());
    let next = Credential { sealed: sealed("newer"), version: 2, updated_at: at(5), ..first };
    store.update_credential(&here(), &next, &audit("credential.rotate")).await.unwrap();
    assert_eq!(find(store, &next).await.unwrap(), next);
}

pub(super) async fn the_key_check_is_written_anew_when_a_rotation_ends(store: &dyn Store) {
    store.init_setting(KEY_CHECK, b"first").await.unwrap();
    for proof in [b"second".as_slice(), b"third"] {
        store.begin_rekey(&here(), proof, &audit("vault.rekey")).await.unwrap();
        assert_eq!(store.setting(KEY_NEXT).await.unwrap().unwrap(), proof);
        assert_eq!(store.setting(KEY_CHECK).await.unwrap().unwrap(), b"first");
    }
    let overtaken = store.finish_rekey(&here(), b"second", &audit("vault.rekey")).await;
    assert!(matches!(overtaken, Err(StoreError::Stale { .. })), "{overtaken:?}");
    assert_eq!(audited(store).await, 2);
    store.finish_rekey(&here(), b"third", &audit("vault.rekey")).await.unwrap();
    assert_eq!(store.setting(KEY_NEXT).await.unwrap(), None);
    assert_eq!(store.setting(KEY_CHECK).await.unwrap().unwrap(), b"third");
    let again = store.finish_rekey(&here(), b"third", &audit("vault.rekey")).await;
    assert!(matches!(again, Err(StoreError::Stale { .. })), "{again:?}");
    assert_eq!(audited(store).await, 3);
}
