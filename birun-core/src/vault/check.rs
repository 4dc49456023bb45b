//! The key check: a store opens only with the keys that its values are sealed under.

use crate::error::{Error, ErrorCode, Result};
use crate::store::Store;
use crate::vault::{KEY_CHECK, KEY_NEXT, Vault};

/// Whether a store was filled under a master key: then that key is needed, and no other must be made for it.
///
/// # Errors
/// What storage answers, for example that it was never migrated.
pub async fn is_sealed(store: &dyn Store) -> Result<bool> {
    Ok(store.setting(KEY_CHECK).await?.is_some())
}

/// Proves that the keys are those that this store is filled with; the first key ever leaves its proof.
pub(crate) async fn check_key(store: &dyn Store, vault: Option<&Vault>) -> Result<()> {
    // In this order: a rotation that ends between the two looks has written the check anew.
    let next = store.setting(KEY_NEXT).await?;
    let stored = store.setting(KEY_CHECK).await?;
    let Some(vault) = vault else {
        return match stored {
            None => Ok(()),
            Some(_) => Err(Error::new(ErrorCode::KeyMissing, "the store holds sealed values, and no master key was given")
                .with_hint("give the key that this database was filled with: BIRUN_MASTER_KEY, BIRUN_MASTER_KEY_FILE, or birun.key in the data directory")),
        };
    };
    if let Some(next) = next {
        vault.check(&next).map_err(being_rotated)?;
    }
    let proof = match stored {
        Some(proof) => proof,
        None => store.init_setting(KEY_CHECK, vault.prove()?.as_bytes()).await?,
    };
    vault.check(&proof)
}

/// Says that a key is missing because values are sealed anew just now.
fn being_rotated(error: Error) -> Error {
    if error.code() != ErrorCode::KeyMismatch {
        return error;
    }
    Error::new(ErrorCode::KeyMismatch, "the master key is being rotated, and the new key was not given")
        .with_hint("add the new key as the first line, above the old one")
}
