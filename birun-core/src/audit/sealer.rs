//! Sealing the audit log, and checking it.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::audit::AuditEntry;
use crate::audit::chain::{ChainFault, ChainHead, ChainKey, Checker};
use crate::engine::{Engine, Shared};
use crate::error::{Error, Result};
use crate::gate::Gate;
use crate::identity::Permission;
use crate::store::StoreError;
use crate::vault::{Place, Sealed, Vault};

/// How often new entries are looked for.
const EVERY: Duration = Duration::from_millis(500);
/// Entries that are sealed, or checked, at once.
const BATCH: u32 = 500;
/// The setting that holds the sealed key of the chain.
const KEY: &str = PLACE.column;

/// Where the key of the chain rests.
const PLACE: Place<'static> = Place::audit_chain_key();

/// What was found when the audit log was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditCheck {
    /// Entries that are sealed and were found right.
    pub checked: u64,
    /// Entries that are not sealed yet: those of the last second, or all where there is no master key.
    pub unsealed: u64,
    /// The number of the last sealed entry.
    pub last: u64,
    /// The first thing that is not right.
    pub fault: Option<ChainFault>,
}

impl Gate {
    /// Checks the whole audit log against its chain of seals.
    ///
    /// Reads every entry once, a batch at a time; what is written meanwhile is counted as unsealed.
    /// It proves that nobody without the master key changed, removed or moved a sealed entry. It
    /// cannot show that the *whole* database was replaced by an older copy of itself: note the
    /// number elsewhere to see that.
    ///
    /// # Errors
    /// `forbidden`; `key_missing` without a master key; what storage answers.
    pub async fn verify_audit_log(&self) -> Result<AuditCheck> {
        self.authorize(Permission::AuditRead).await?;
        verify(&self.shared).await
    }
}

impl Gate {
    /// Deletes sealed entries from before an instant; answers how many.
    pub(crate) async fn cut_audit_log(&self, before: DateTime<Utc>) -> Result<u64> {
        cut(&self.shared, before, |up_to| self.audit("audit.prune").after(json!({"up_to": up_to}))).await
    }
}

impl Engine {
    /// Seals what stands unsealed in the audit log. A started engine does so by itself; this is for
    /// processes that write and end.
    ///
    /// Does nothing without a master key. Safe to call from several processes at once.
    ///
    /// # Errors
    /// What storage answers; what was not sealed now is sealed the next time.
    pub async fn seal_audit_log(&self) -> Result<()> {
        seal(&self.shared).await
    }
}

/// Seals again and again until `stop`, and a last time then.
pub(crate) async fn keep_sealed(shared: Arc<Shared>, stop: CancellationToken) {
    let mut failing = false;
    loop {
        let stopped = stop.is_cancelled();
        let sealed = seal(&shared).await;
        if let (Err(error), false) = (&sealed, failing) {
            tracing::warn!(%error, "the audit log cannot be sealed; trying again until it can");
        }
        failing = sealed.is_err();
        if stopped {
            return;
        }
        tokio::select! {
            () = shared.clock.sleep(EVERY) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Seals every entry that is not sealed yet.
async fn seal(shared: &Shared) -> Result<()> {
    let Some(vault) = &shared.vault else { return Ok(()) };
    loop {
        if shared.store.unsealed_audit(1).await?.is_empty() {
            return Ok(());
        }
        let key = chain_key(shared, vault).await?;
        // The head first: whatever is sealed after this look makes it stale.
        let old = shared.store.audit_head().await?;
        let head = old.as_deref().map_or_else(|| Ok(key.genesis()), read_head)?;
        let entries = shared.store.unsealed_audit(BATCH).await?;
        let (links, head) = key.extend(&head, &entries);
        match shared.store.seal_audit(&links, old.as_deref(), &write_head(&head)?).await {
            // Another process was first, or deleted an entry: what is left is looked for again.
            Ok(_) | Err(StoreError::Stale { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Deletes sealed entries from before an instant, from the beginning of the chain on, which then
/// begins later. Entries that were tampered with are not deleted: they are evidence.
async fn cut(shared: &Shared, before: DateTime<Utc>, audit: impl Fn(u64) -> AuditEntry) -> Result<u64> {
    let Some(vault) = &shared.vault else { return Ok(0) };
    seal(shared).await?;
    let key = chain_key(shared, vault).await?;
    let mut deleted = 0;
    while let Some(old) = shared.store.audit_head().await? {
        let head = read_head(&old)?;
        let batch = shared.store.sealed_audit(head.begins_after, head.number, BATCH).await?;
        let mut checker = key.check(&head).map_err(|fault| tampered(&fault))?;
        for link in batch.iter().take_while(|link| link.entry.at < before) {
            checker.next(link).map_err(|fault| tampered(&fault))?;
        }
        let up_to = checker.number();
        if up_to == head.begins_after {
            break;
        }
        let new = write_head(&key.begin_after(&head, up_to, checker.seal()))?;
        if shared.store.cut_audit(up_to, &old, &new, &audit(up_to)).await? {
            deleted += up_to - head.begins_after;
        }
    }
    Ok(deleted)
}

fn tampered(fault: &ChainFault) -> Error {
    Error::new(
        crate::ErrorCode::StorageCorrupt,
        format!("the audit log was tampered with at number {}: {}; it is kept as it is", fault.number, fault.what),
    )
    .with_hint("see  birun audit verify")
}

/// The key of the chain: drawn once, and sealed by the master key.
async fn chain_key(shared: &Shared, vault: &Vault) -> Result<ChainKey> {
    let sealed = match shared.store.setting(KEY).await? {
        Some(sealed) => sealed,
        None => {
            let mut fresh = Zeroizing::new([0; 32]);
            getrandom::fill(&mut fresh[..]).map_err(|error| {
                Error::internal("the operating system gave no random bytes").with_source(error.to_string())
            })?;
            shared.store.init_setting(KEY, vault.seal(&PLACE, &fresh[..])?.as_bytes()).await?
        }
    };
    let opened = vault.open(&PLACE, &Sealed::from_bytes(sealed))?;
    let bytes =
        opened.as_slice().try_into().map_err(|_| Error::internal("the key of the audit log has no 32 bytes"))?;
    Ok(ChainKey::new(Zeroizing::new(bytes)))
}

async fn verify(shared: &Shared) -> Result<AuditCheck> {
    let key = chain_key(shared, shared.vault()?).await?;
    loop {
        let head = head_of(shared, &key).await?;
        let check = verify_up_to(shared, &key, &head).await?;
        // What retention deleted meanwhile is not missing.
        if check.fault.is_none() || head_of(shared, &key).await?.begins_after == head.begins_after {
            return Ok(check);
        }
    }
}

async fn verify_up_to(shared: &Shared, key: &ChainKey, head: &ChainHead) -> Result<AuditCheck> {
    let unsealed = shared.store.count_unsealed_audit().await?;
    let mut check = AuditCheck { checked: 0, unsealed, last: head.number, fault: None };
    match key.check(head) {
        Ok(mut checker) => {
            check.fault = walk(shared, &mut checker, head).await?;
            check.checked = checker.number() - head.begins_after;
        }
        Err(fault) => check.fault = Some(fault),
    }
    Ok(check)
}

async fn head_of(shared: &Shared, key: &ChainKey) -> Result<ChainHead> {
    let head = shared.store.audit_head().await?;
    head.as_deref().map_or_else(|| Ok(key.genesis()), read_head)
}

/// Checks every link up to the head, and that there is none after it.
async fn walk(shared: &Shared, checker: &mut Checker<'_>, head: &ChainHead) -> Result<Option<ChainFault>> {
    loop {
        let batch = shared.store.sealed_audit(checker.number(), head.number, BATCH).await?;
        if batch.is_empty() {
            break;
        }
        if let Some(fault) = batch.iter().find_map(|link| checker.next(link).err()) {
            return Ok(Some(fault));
        }
    }
    if let Err(fault) = checker.end() {
        return Ok(Some(fault));
    }
    let beyond = shared.store.sealed_audit(head.number, u64::MAX, 1).await?;
    // Where there are links and no head, someone deleted it.
    let now = shared.store.audit_head().await?;
    let stands = now.as_deref().map(read_head).transpose()?.is_none_or(|now| now == *head);
    Ok(beyond.first().filter(|_| stands).map(|link| ChainFault {
        number: link.number,
        entry: Some(link.entry.id),
        what: "the entry lies beyond the end of the chain",
    }))
}

fn read_head(bytes: &[u8]) -> Result<ChainHead> {
    serde_json::from_slice(bytes).map_err(|error| {
        Error::new(crate::ErrorCode::StorageCorrupt, "the head of the audit log's chain cannot be read")
            .with_source(error.to_string())
    })
}

fn write_head(head: &ChainHead) -> Result<Vec<u8>> {
    serde_json::to_vec(head).map_err(|error| Error::internal("a head cannot be written").with_source(error.to_string()))
}
