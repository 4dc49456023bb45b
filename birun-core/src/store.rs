//! What the engine needs from storage as a whole, and how storage fails.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

use crate::audit::{AuditEntry, AuditFilter, ChainLink, SealedEntry};
use crate::error::{Error, ErrorCode};
use crate::execution::{Dispatcher, ExecutionStore, JournalStore, LogStore, QueueStore};
use crate::gate::Scope;
use crate::inventory::{CredentialStore, GroupStore, HostKeyStore, ServerStore};
use crate::page::{Page, PageRequest};
use crate::script::ScriptStore;
use crate::vault::VaultStore;

/// The result of every store method.
pub type StoreResult<T> = std::result::Result<T, StoreError>;

/// How storage fails. Nothing was changed when a method answers one of these.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Nothing answers to the selector, in this project.
    #[error("no {kind} `{selector}`")]
    NotFound {
        /// The kind of resource, for example `server`.
        kind: &'static str,
        /// What was asked for.
        selector: String,
    },
    /// A part of an id fits several resources.
    #[error("`{selector}` fits more than one {kind}")]
    Ambiguous {
        /// The kind of resource.
        kind: &'static str,
        /// What was asked for.
        selector: String,
    },
    /// The state of the resource, or a neighbour's, forbids it.
    #[error("{why}")]
    Conflict {
        /// Why, as a lowercase fragment.
        why: String,
    },
    /// The resource changed since it was read.
    #[error("the {kind} was changed by someone else")]
    Stale {
        /// The kind of resource.
        kind: &'static str,
    },
    /// Another worker holds the execution: this one must stop and write nothing.
    #[error("another worker took the execution over")]
    LeaseLost,
    /// Another process holds the storage, now.
    #[error("another process holds the storage")]
    Locked {
        /// What the storage said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The storage cannot be reached, now.
    #[error("the storage is not available")]
    Unavailable {
        /// What the storage said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is no room left.
    #[error("the storage is full")]
    Full {
        /// What the storage said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Stored data is damaged.
    #[error("stored data is damaged: {what}")]
    Corrupt {
        /// What is damaged, and where.
        what: String,
    },
    /// The schema is not the one that this birun works with.
    #[error("{why}")]
    Schema {
        /// `schema_newer` or `schema_outdated`.
        code: ErrorCode,
        /// Why, with both versions.
        why: String,
    },
    /// A fault that is none of the above.
    #[error("the {backend} storage failed")]
    Backend {
        /// Which backend.
        backend: &'static str,
        /// What it said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StoreError {
    /// Whether the same call may succeed when it is made again.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Locked { .. } | Self::Unavailable { .. } | Self::Full { .. })
    }

    const fn code(&self) -> ErrorCode {
        match self {
            Self::NotFound { .. } => ErrorCode::NotFound,
            Self::Ambiguous { .. } | Self::Conflict { .. } => ErrorCode::Conflict,
            Self::Stale { .. } => ErrorCode::StaleVersion,
            Self::LeaseLost => ErrorCode::LeaseLost,
            Self::Locked { .. } => ErrorCode::Locked,
            Self::Unavailable { .. } => ErrorCode::Unavailable,
            Self::Full { .. } => ErrorCode::StorageFull,
            Self::Corrupt { .. } => ErrorCode::StorageCorrupt,
            Self::Schema { code, .. } => *code,
            Self::Backend { .. } => ErrorCode::Internal,
        }
    }

    const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Ambiguous { .. } => Some("give more digits of the id, or the full id"),
            Self::Stale { .. } => Some("read it again, apply your change to what you see now, and send that"),
            Self::Locked { .. } => Some("wait until the other process is done, or end it; then try again"),
            Self::Unavailable { .. } => Some("see that the database runs and can be reached; nothing needs a restart"),
            Self::Corrupt { .. } => {
                Some("stop all work on the database, keep a copy, and restore the last good backup")
            }
            Self::Full { .. } => Some("make room on the disk that holds the data directory; nothing needs a restart"),
            Self::Schema { code: ErrorCode::SchemaNewer, .. } => Some("use a newer birun, or another database"),
            Self::Schema { .. } => Some("run  birun admin migrate"),
            _ => None,
        }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let mut out = Self::new(error.code(), error.to_string());
        if let Some(hint) = error.hint() {
            out = out.with_hint(hint);
        }
        match error {
            StoreError::Locked { source }
            | StoreError::Unavailable { source }
            | StoreError::Full { source }
            | StoreError::Backend { source, .. } => out.with_source(source),
            _ => out,
        }
    }
}

/// Keeps the audit log.
#[async_trait]
pub trait AuditStore {
    /// Adds an entry by itself: for refusals, where there is no action to commit it with.
    async fn append_audit(&self, scope: &Scope, entry: &AuditEntry) -> StoreResult<()>;

    /// Entries, newest first.
    async fn audit_entries(
        &self,
        scope: &Scope,
        filter: &AuditFilter,
        page: PageRequest,
    ) -> StoreResult<Page<AuditEntry>>;

    /// Entries of every project that no link of the chain covers yet, oldest first, at most `limit`.
    async fn unsealed_audit(&self, limit: u32) -> StoreResult<Vec<AuditEntry>>;

    /// How many entries no link of the chain covers yet.
    async fn count_unsealed_audit(&self) -> StoreResult<u64>;

    /// The head of the chain, as it was stored; `None` before the first link.
    async fn audit_head(&self) -> StoreResult<Option<Vec<u8>>>;

    /// Adds links and replaces the head, if it still is `old`; answers whether it was. Of two
    /// callers at once, one succeeds. If an entry is sealed already or gone, it is `Stale`, and
    /// nothing changes.
    async fn seal_audit(&self, links: &[ChainLink], old: Option<&[u8]>, head: &[u8]) -> StoreResult<bool>;

    /// Deletes the sealed entries with numbers up to this one and replaces the head, if it still is
    /// `old`; adds the entry that tells of it. Answers whether it was.
    async fn cut_audit(&self, up_to: u64, old: &[u8], head: &[u8], audit: &AuditEntry) -> StoreResult<bool>;

    /// Sealed entries of every project with numbers above `after` and up to `last`, in the order of
    /// their numbers, at most `limit`.
    async fn sealed_audit(&self, after: u64, last: u64, limit: u32) -> StoreResult<Vec<SealedEntry>>;
}

/// Keeps facts about the installation as a whole.
#[async_trait]
pub trait SystemStore {
    /// Checks that the storage can be used by this birun: reachable, and of its schema version.
    ///
    /// # Errors
    /// [`StoreError::Schema`] if it was never migrated, is older or newer; `Unavailable`, `Corrupt`.
    async fn check(&self) -> StoreResult<()>;

    /// The value stored under a key, if there is one.
    async fn setting(&self, key: &str) -> StoreResult<Option<Vec<u8>>>;

    /// Stores a value under a key that has none; answers the stored value, old or new.
    async fn init_setting(&self, key: &str, value: &[u8]) -> StoreResult<Vec<u8>>;
}

/// Everything that the engine needs from storage: one small trait for each room, and three parts.
pub trait Store:
    ServerStore
    + GroupStore
    + CredentialStore
    + HostKeyStore
    + ScriptStore
    + ExecutionStore
    + QueueStore
    + JournalStore
    + AuditStore
    + SystemStore
    + VaultStore
    + Debug
    + Send
    + Sync
    + 'static
{
    /// Where output is kept.
    fn logs(&self) -> Arc<dyn LogStore>;

    /// What drives dispatch: asks for claimed executions and hands them on.
    fn dispatcher(&self) -> Arc<dyn Dispatcher>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_cannot_use_the_storage_is_told_what_to_do() {
        let source = || "as the driver says".into();
        for (error, code) in [
            (StoreError::Locked { source: source() }, ErrorCode::Locked),
            (StoreError::Unavailable { source: source() }, ErrorCode::Unavailable),
            (StoreError::Full { source: source() }, ErrorCode::StorageFull),
            (StoreError::Corrupt { what: "page 7".to_owned() }, ErrorCode::StorageCorrupt),
        ] {
            let error = Error::from(error);
            assert_eq!(error.code(), code);
            assert!(error.hint().is_some_and(|hint| !hint.is_empty()), "{code:?} has no hint");
        }
    }
}
