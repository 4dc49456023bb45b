//! What the inventory needs from a store.

use async_trait::async_trait;

use crate::audit::AuditEntry;
use crate::gate::Scope;
use crate::id::{Selector, ServerId};
use crate::inventory::{Credential, Group, HostKey, Server, ServerFilter};
use crate::page::{Page, PageRequest};
use crate::store::StoreResult;

/// Keeps servers. Every mutation commits its audit entry in the same transaction.
///
/// Names are unique in a project: taking a taken one is [`StoreError::Conflict`](crate::StoreError::Conflict).
/// What belongs to another project than the scope's does not exist.
#[async_trait]
pub trait ServerStore {
    /// Adds a server. A group or credential that does not exist is `NotFound`; nothing is added then.
    async fn create_server(&self, scope: &Scope, server: &Server, audit: &AuditEntry) -> StoreResult<()>;

    /// Replaces a server whose stored version is `server.version - 1`; otherwise `Stale`, and nothing changes.
    async fn update_server(&self, scope: &Scope, server: &Server, audit: &AuditEntry) -> StoreResult<()>;

    /// Deletes a server of exactly this version (else `Stale`), with its host keys. Executions keep its name.
    async fn delete_server(&self, scope: &Scope, server: &Server, audit: &AuditEntry) -> StoreResult<()>;

    /// The server that the selector names. A part that fits several is `Ambiguous`.
    async fn server(&self, scope: &Scope, selector: &Selector) -> StoreResult<Server>;

    /// Servers, newest first. Only [`ServerFilter::tag`] is the store's business.
    async fn servers(&self, scope: &Scope, filter: &ServerFilter, page: PageRequest) -> StoreResult<Page<Server>>;

    /// All servers of the project, by name: what target expressions are matched against.
    async fn all_servers(&self, scope: &Scope) -> StoreResult<Vec<Server>>;

    /// The servers with these ids, in no particular order; unknown ids are left out.
    async fn servers_by_id(&self, scope: &Scope, ids: &[ServerId]) -> StoreResult<Vec<Server>>;
}

/// Keeps server groups; the rules of [`ServerStore`] hold.
#[async_trait]
pub trait GroupStore {
    /// Adds a group.
    async fn create_group(&self, scope: &Scope, group: &Group, audit: &AuditEntry) -> StoreResult<()>;

    /// Replaces a group whose stored version is `group.version - 1`; otherwise `Stale`.
    async fn update_group(&self, scope: &Scope, group: &Group, audit: &AuditEntry) -> StoreResult<()>;

    /// Deletes a group of exactly this version (else `Stale`); its servers stay.
    async fn delete_group(&self, scope: &Scope, group: &Group, audit: &AuditEntry) -> StoreResult<()>;

    /// The group that the selector names.
    async fn group(&self, scope: &Scope, selector: &Selector) -> StoreResult<Group>;

    /// Groups, newest first.
    async fn groups(&self, scope: &Scope, page: PageRequest) -> StoreResult<Page<Group>>;

    /// All groups of the project, by name.
    async fn all_groups(&self, scope: &Scope) -> StoreResult<Vec<Group>>;
}

/// Keeps credentials; the rules of [`ServerStore`] hold. Values arrive sealed.
#[async_trait]
pub trait CredentialStore {
    /// Adds a credential.
    async fn create_credential(&self, scope: &Scope, credential: &Credential, audit: &AuditEntry) -> StoreResult<()>;

    /// Replaces a credential whose stored version is `credential.version - 1`; otherwise `Stale`.
    async fn update_credential(&self, scope: &Scope, credential: &Credential, audit: &AuditEntry) -> StoreResult<()>;

    /// Deletes a credential of exactly this version (else `Stale`). One that a server uses is `Conflict`.
    async fn delete_credential(&self, scope: &Scope, credential: &Credential, audit: &AuditEntry) -> StoreResult<()>;

    /// The credential that the selector names.
    async fn credential(&self, scope: &Scope, selector: &Selector) -> StoreResult<Credential>;

    /// Credentials, newest first.
    async fn credentials(&self, scope: &Scope, page: PageRequest) -> StoreResult<Page<Credential>>;
}

/// Keeps host keys; the rules of [`ServerStore`] hold.
#[async_trait]
pub trait HostKeyStore {
    /// Records a key. The same blob recorded for the same server already is `Conflict`.
    async fn create_host_key(&self, scope: &Scope, key: &HostKey, audit: &AuditEntry) -> StoreResult<()>;

    /// Records a key as the first approved one of its server, or replaces its pending record: a key of
    /// version 1 is new, one of a higher version follows the rules of
    /// [`update_host_key`](HostKeyStore::update_host_key). If any key is approved for the server it is
    /// `Conflict`, also where two are recorded at the same time.
    async fn trust_host_key(&self, scope: &Scope, key: &HostKey, audit: &AuditEntry) -> StoreResult<()>;

    /// Replaces a pending key's record by its approved one, as
    /// [`update_host_key`](HostKeyStore::update_host_key) does, and those of the keys that it takes the
    /// place of by their revoked ones, all or nothing. `Stale` as well if another key of its algorithm
    /// is approved for the server that is not among them, also where two are approved at the same time.
    async fn approve_host_key(
        &self,
        scope: &Scope,
        key: &HostKey,
        retired: &[HostKey],
        audit: &[AuditEntry],
    ) -> StoreResult<()>;

    /// Replaces a key whose stored version is `key.version - 1`; otherwise `Stale`.
    async fn update_host_key(&self, scope: &Scope, key: &HostKey, audit: &AuditEntry) -> StoreResult<()>;

    /// Forgets a key of exactly this version (else `Stale`).
    async fn delete_host_key(&self, scope: &Scope, key: &HostKey, audit: &AuditEntry) -> StoreResult<()>;

    /// The key that the selector names, by id.
    async fn host_key(&self, scope: &Scope, selector: &Selector) -> StoreResult<HostKey>;

    /// Keys, newest first; of one server if given.
    async fn host_keys(&self, scope: &Scope, server: Option<ServerId>, page: PageRequest)
    -> StoreResult<Page<HostKey>>;

    /// Every key recorded for these servers.
    async fn host_keys_of(&self, scope: &Scope, servers: &[ServerId]) -> StoreResult<Vec<HostKey>>;
}
