//! What scripts need from a store.

use async_trait::async_trait;

use crate::audit::AuditEntry;
use crate::gate::Scope;
use crate::id::{ScriptId, Selector};
use crate::page::{Page, PageRequest};
use crate::script::{Content, ContentHash, Script, ScriptFilter, ScriptSummary, ScriptVersion};
use crate::store::StoreResult;

/// Keeps scripts, their versions and their bodies (once for each hash).
///
/// The rules of [`ServerStore`](crate::inventory::ServerStore) hold: unique names, audit in the
/// same transaction, other projects do not exist.
#[async_trait]
pub trait ScriptStore {
    /// Adds a script with its first version.
    async fn create_script(
        &self,
        scope: &Scope,
        script: &Script,
        first: &ScriptVersion,
        audit: &AuditEntry,
    ) -> StoreResult<()>;

    /// Replaces a script whose stored version is `script.version - 1` (else `Stale`), and adds a
    /// version to it if one is given.
    async fn update_script(
        &self,
        scope: &Scope,
        script: &Script,
        added: Option<&ScriptVersion>,
        audit: &AuditEntry,
    ) -> StoreResult<()>;

    /// Deletes a script of exactly this version (else `Stale`), with its versions. Executions keep
    /// its name, and the bodies that they ran.
    async fn delete_script(&self, scope: &Scope, script: &Script, audit: &AuditEntry) -> StoreResult<()>;

    /// The script that the selector names.
    async fn script(&self, scope: &Scope, selector: &Selector) -> StoreResult<Script>;

    /// Scripts, newest first, each with its newest version as lists show it.
    async fn scripts(
        &self,
        scope: &Scope,
        filter: &ScriptFilter,
        page: PageRequest,
    ) -> StoreResult<Page<ScriptSummary>>;

    /// One version of a script. One that does not exist is `NotFound`, which names the script.
    async fn script_version(&self, scope: &Scope, script: ScriptId, number: u32) -> StoreResult<ScriptVersion>;

    /// Versions of a script with a number below `before` (all, if none is given), newest first, at most `limit`.
    async fn script_versions(
        &self,
        scope: &Scope,
        script: ScriptId,
        before: Option<u32>,
        limit: u32,
    ) -> StoreResult<Vec<ScriptVersion>>;

    /// A body by its hash.
    async fn content(&self, scope: &Scope, hash: &ContentHash) -> StoreResult<Content>;
}
