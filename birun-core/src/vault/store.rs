//! What the rotation of keys needs from a store.

use async_trait::async_trait;

use crate::audit::AuditEntry;
use crate::gate::Scope;
use crate::store::StoreResult;
use crate::vault::{Place, Sealed};

/// The setting that proves which master key a store was filled with.
pub const KEY_CHECK: &str = "vault.key_check";

/// The setting that is there while values are sealed anew: it proves the key that they are sealed with.
pub const KEY_NEXT: &str = "vault.key_next";

/// A sealed value, and where it rests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedValue {
    /// Where it rests.
    pub place: Place<'static>,
    /// The value.
    pub sealed: Sealed,
}

/// Keeps everything that is sealed, whatever it belongs to and in whichever project.
#[async_trait]
pub trait VaultStore {
    /// Sealed values that do not begin with `mark`, in an order of places that stays the same: those
    /// after `after`, at most `limit`.
    async fn sealed_values(
        &self,
        mark: &[u8],
        after: Option<Place<'static>>,
        limit: u32,
    ) -> StoreResult<Vec<SealedValue>>;

    /// Puts `new` into a place where `old` rests, and answers whether it did. Where anything else
    /// rests, or nothing any more, nothing changes. Whoever wrote meanwhile wins, and nobody's version
    /// turns stale by it.
    async fn reseal(&self, place: Place<'static>, old: &Sealed, new: &Sealed) -> StoreResult<bool>;

    /// Sets [`KEY_NEXT`], in the place of an earlier one if there is one.
    async fn begin_rekey(&self, scope: &Scope, proof: &[u8], audit: &AuditEntry) -> StoreResult<()>;

    /// Makes the value of [`KEY_NEXT`] that of [`KEY_CHECK`] and removes [`KEY_NEXT`], if it is
    /// `proof`; otherwise `Stale`, and nothing changes. What rested in the store's files before is given
    /// up meanwhile. A crash in between leaves both settings with the same value; asking again ends it.
    async fn finish_rekey(&self, scope: &Scope, proof: &[u8], audit: &AuditEntry) -> StoreResult<()>;
}
