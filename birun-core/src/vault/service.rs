//! The rotation of the master key: everything sealed is sealed anew, while everything else goes on.

use futures::future::try_join_all;
use serde_json::json;

use crate::error::Result;
use crate::gate::{Gate, Scope};
use crate::identity::Permission;
use crate::store::StoreError;
use crate::vault::{KEY_CHECK, KEY_NEXT, SealedValue, Vault, check_key};

/// Values that are sealed anew at once. A store may let them share a transaction.
const BATCH: u32 = 64;
/// How often the store is gone through for what others wrote meanwhile.
const PASSES: u32 = 16;

/// What was sealed anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Rekeyed {
    /// Values that are under the newest key now, and were under another one.
    pub resealed: u64,
    /// Values that stay under another key: none of the keys opens them, or others keep writing them.
    pub left: u64,
}

/// What became of one value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Resealed,
    /// Someone changed or deleted it meanwhile.
    Overtaken,
    /// No key opens it.
    Stuck,
}

/// What became of the values that one look through the store found.
#[derive(Clone, Copy, Default)]
struct Pass {
    resealed: u64,
    overtaken: u64,
    stuck: u64,
}

impl Pass {
    fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Resealed => self.resealed += 1,
            Outcome::Overtaken => self.overtaken += 1,
            Outcome::Stuck => self.stuck += 1,
        }
    }
}

impl Gate {
    /// Seals every value anew that is under another master key than the newest, in small transactions.
    /// Who writes a value meanwhile wins. When none is left, the newest key becomes the one that the
    /// store is known by, and a process without it cannot open the store any more; nor can it
    /// between the beginning and the end.
    ///
    /// A crash in the middle leaves values under both keys; asking again goes on with the rest.
    ///
    /// # Errors
    /// `forbidden`, `key_missing`, `key_mismatch`; `stale_version` if another rotation began meanwhile;
    /// what storage answers. What was sealed anew before stays so.
    pub async fn rekey(&self) -> Result<Rekeyed> {
        let scope = self.authorize_everywhere(Permission::VaultRekey).await?;
        let vault = self.shared.vault()?;
        check_key(self.shared.store.as_ref(), Some(vault)).await?;
        if self.is_settled(vault).await? {
            return Ok(Rekeyed::default());
        }
        let proof = self.begin_rekey(&scope, vault).await?;
        let rekeyed = self.reseal_all(vault).await?;
        self.finish_rekey(&scope, vault, &proof, rekeyed).await?;
        Ok(rekeyed)
    }

    /// Whether everything is under the newest key, the store's check too.
    async fn is_settled(&self, vault: &Vault) -> Result<bool> {
        let (store, mark) = (&self.shared.store, vault.mark());
        let checked = store.setting(KEY_CHECK).await?.is_some_and(|proof| proof.starts_with(&mark));
        if !checked || store.setting(KEY_NEXT).await?.is_some() {
            return Ok(false);
        }
        Ok(store.sealed_values(&mark, None, 1).await?.is_empty())
    }

    /// Leaves the proof of the newest key, from which others see that they need it; one that an
    /// interrupted rotation left is used again.
    async fn begin_rekey(&self, scope: &Scope, vault: &Vault) -> Result<Vec<u8>> {
        let store = &self.shared.store;
        let proof = match store.setting(KEY_NEXT).await? {
            Some(proof) if proof.starts_with(&vault.mark()) => proof,
            _ => vault.prove()?.as_bytes().to_vec(),
        };
        let audit = self.audit(Permission::VaultRekey.as_str()).after(json!({"state": "begun"}));
        store.begin_rekey(scope, &proof, &audit).await?;
        Ok(proof)
    }

    /// Makes the newest key the one that the store is known by, unless something is left under another.
    async fn finish_rekey(&self, scope: &Scope, vault: &Vault, proof: &[u8], rekeyed: Rekeyed) -> Result<()> {
        let store = &self.shared.store;
        let audit = self.audit(Permission::VaultRekey.as_str()).after(json!(rekeyed));
        if rekeyed.left > 0 {
            return Ok(store.append_audit(scope, &audit).await?);
        }
        match store.finish_rekey(scope, proof, &audit).await {
            // Another process came to the same end first.
            Err(StoreError::Stale { .. }) if self.is_settled(vault).await? => Ok(()),
            finished => Ok(finished?),
        }
    }

    /// Goes through the store until it finds nothing more that it can seal anew.
    async fn reseal_all(&self, vault: &Vault) -> Result<Rekeyed> {
        let mut rekeyed = Rekeyed::default();
        for _ in 0..PASSES {
            let pass = self.reseal_once(vault).await?;
            rekeyed.resealed += pass.resealed;
            rekeyed.left = pass.overtaken + pass.stuck;
            if pass.resealed == 0 && pass.overtaken == 0 {
                break;
            }
        }
        Ok(rekeyed)
    }

    async fn reseal_once(&self, vault: &Vault) -> Result<Pass> {
        let (mut pass, mut after, mark) = (Pass::default(), None, vault.mark());
        loop {
            let values = self.shared.store.sealed_values(&mark, after, BATCH).await?;
            let Some(last) = values.last() else { return Ok(pass) };
            after = Some(last.place);
            let outcomes = try_join_all(values.iter().map(|value| self.reseal(vault, value))).await?;
            outcomes.into_iter().for_each(|outcome| pass.count(outcome));
        }
    }

    async fn reseal(&self, vault: &Vault, value: &SealedValue) -> Result<Outcome> {
        let plain = match vault.open(&value.place, &value.sealed) {
            Ok(plain) => plain,
            Err(error) => {
                tracing::warn!(table = value.place.table, row = %value.place.row, code = %error.code(), "cannot be sealed anew");
                return Ok(Outcome::Stuck);
            }
        };
        let sealed = vault.seal(&value.place, &plain)?;
        let resealed = self.shared.store.reseal(value.place, &value.sealed, &sealed).await?;
        Ok(if resealed { Outcome::Resealed } else { Outcome::Overtaken })
    }
}
