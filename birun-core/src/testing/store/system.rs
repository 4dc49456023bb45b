//! Promises about the installation as a whole.

use futures::future::join_all;

use crate::store::Store;

pub(super) async fn a_migrated_store_passes_its_check(store: &dyn Store) {
    store.check().await.unwrap();
}

pub(super) async fn a_setting_keeps_its_first_value(store: &dyn Store) {
    assert_eq!(store.setting("vault.key").await.unwrap(), None);
    assert_eq!(store.init_setting("vault.key", &[0, 1, 255]).await.unwrap(), [0, 1, 255]);
    assert_eq!(store.init_setting("vault.key", b"other").await.unwrap(), [0, 1, 255]);
    assert_eq!(store.setting("vault.key").await.unwrap().unwrap(), [0, 1, 255]);
    assert_eq!(store.setting("vault").await.unwrap(), None);
}

pub(super) async fn a_setting_gets_one_value_from_many_writers(store: &dyn Store) {
    let values: Vec<[u8; 1]> = (0..16).map(|value| [value]).collect();
    let answers = join_all(values.iter().map(|value| store.init_setting("one", value))).await;
    let first = store.setting("one").await.unwrap().unwrap();
    assert!(answers.into_iter().all(|answer| answer.unwrap() == first));
}
