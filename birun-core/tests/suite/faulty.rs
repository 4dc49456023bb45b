//! A store that fails when a case says so.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use birun_core::audit::{AuditEntry, AuditFilter, ChainLink, SealedEntry};
use birun_core::execution::*;
use birun_core::gate::Scope;
use birun_core::id::*;
use birun_core::inventory::*;
use birun_core::page::{Page, PageRequest};
use birun_core::script::*;
use birun_core::store::*;
use birun_core::vault::{Place, Sealed, SealedValue, VaultStore};
use chrono::{DateTime, Utc};

/// Asked with the name of each method that is called; what it answers happens instead.
pub(crate) type Fault = Arc<dyn Fn(&'static str) -> Option<StoreError> + Send + Sync>;

/// A store in front of another one.
#[derive(Clone)]
pub(crate) struct Faulty {
    pub(crate) inner: Arc<dyn Store>,
    pub(crate) fault: Fault,
    lease: Option<std::time::Duration>,
}

impl Faulty {
    pub(crate) fn new(
        inner: Arc<dyn Store>,
        fault: impl Fn(&'static str) -> Option<StoreError> + Send + Sync + 'static,
    ) -> Self {
        Self { inner, fault: Arc::new(fault), lease: None }
    }

    /// Says that leases run out; they do not.
    pub(crate) fn with_leases_of(self, length: std::time::Duration) -> Self {
        Self { lease: Some(length), ..self }
    }

    fn meet(&self, method: &'static str) -> StoreResult<()> {
        (self.fault)(method).map_or(Ok(()), Err)
    }
}

/// The answer of a store that cannot be reached.
pub(crate) fn unavailable() -> Option<StoreError> {
    Some(StoreError::Unavailable { source: "gone for a while".into() })
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faulty({:?})", self.inner)
    }
}

impl Store for Faulty {
    fn logs(&self) -> Arc<dyn LogStore> {
        self.inner.logs()
    }

    fn dispatcher(&self) -> Arc<dyn Dispatcher> {
        self.inner.dispatcher()
    }
}

#[async_trait]
impl ExecutionStore for Faulty {
    async fn submit(&self, scope: &Scope, submission: Submission) -> StoreResult<Submitted> {
        self.meet("submit")?;
        self.inner.submit(scope, submission).await
    }
    async fn execution(&self, scope: &Scope, selector: &Selector) -> StoreResult<Execution> {
        self.meet("execution")?;
        self.inner.execution(scope, selector).await
    }
    async fn executions(
        &self,
        scope: &Scope,
        filter: &ExecutionFilter,
        page: PageRequest,
    ) -> StoreResult<Page<Execution>> {
        self.meet("executions")?;
        self.inner.executions(scope, filter, page).await
    }
    async fn steps(
        &self,
        scope: &Scope,
        execution: ExecutionId,
        filter: &StepFilter,
        from: u32,
        limit: u32,
    ) -> StoreResult<Vec<Step>> {
        self.meet("steps")?;
        self.inner.steps(scope, execution, filter, from, limit).await
    }
    async fn changes(&self, scope: &Scope, execution: ExecutionId, rev: u64) -> StoreResult<Option<ExecutionChange>> {
        self.meet("changes")?;
        self.inner.changes(scope, execution, rev).await
    }
    async fn cancel(
        &self,
        scope: &Scope,
        execution: ExecutionId,
        at: DateTime<Utc>,
        audit: &AuditEntry,
    ) -> StoreResult<Cancelled> {
        self.meet("cancel")?;
        self.inner.cancel(scope, execution, at, audit).await
    }
    async fn delete_execution(&self, scope: &Scope, execution: ExecutionId, audit: &AuditEntry) -> StoreResult<()> {
        self.meet("delete_execution")?;
        self.inner.delete_execution(scope, execution, audit).await
    }
    async fn submitted(&self, scope: &Scope, key: &str, request: &[u8; 32]) -> StoreResult<Option<Submitted>> {
        self.meet("submitted")?;
        self.inner.submitted(scope, key, request).await
    }
    async fn given_up(&self, scope: &Scope, policy: &PrunePolicy, limit: u32) -> StoreResult<Vec<ExecutionId>> {
        self.meet("given_up")?;
        self.inner.given_up(scope, policy, limit).await
    }
    async fn prune(
        &self,
        scope: &Scope,
        executions: &[ExecutionId],
        policy: &PrunePolicy,
        limit: u32,
        audit: &AuditEntry,
    ) -> StoreResult<PruneReport> {
        self.meet("prune")?;
        self.inner.prune(scope, executions, policy, limit, audit).await
    }
    async fn queued_before(&self, scope: &Scope, execution: &Execution) -> StoreResult<u64> {
        self.meet("queued_before")?;
        self.inner.queued_before(scope, execution).await
    }
    async fn count_by_status(&self, scope: &Scope, status: ExecutionStatus) -> StoreResult<u64> {
        self.meet("count_by_status")?;
        self.inner.count_by_status(scope, status).await
    }
}

#[async_trait]
impl QueueStore for Faulty {
    fn lease_length(&self) -> Option<std::time::Duration> {
        self.lease.or_else(|| self.inner.lease_length())
    }
    async fn register(&self, scope: &Scope, worker: &WorkerRegistration) -> StoreResult<()> {
        self.meet("register")?;
        self.inner.register(scope, worker).await
    }
    async fn retire(&self, scope: &Scope, worker: WorkerId) -> StoreResult<()> {
        self.meet("retire")?;
        self.inner.retire(scope, worker).await
    }
    async fn workers(&self, scope: &Scope) -> StoreResult<Vec<Worker>> {
        self.meet("workers")?;
        self.inner.workers(scope).await
    }
    async fn claim(
        &self,
        scope: &Scope,
        worker: WorkerId,
        limit: u32,
        now: DateTime<Utc>,
    ) -> StoreResult<Vec<Claimed>> {
        self.meet("claim")?;
        self.inner.claim(scope, worker, limit, now).await
    }
    async fn next_wake(&self, scope: &Scope, worker: WorkerId) -> StoreResult<Option<DateTime<Utc>>> {
        self.meet("next_wake")?;
        self.inner.next_wake(scope, worker).await
    }

    async fn orphans_wait(&self, scope: &Scope) -> StoreResult<bool> {
        self.meet("orphans_wait")?;
        self.inner.orphans_wait(scope).await
    }
    async fn renew(&self, scope: &Scope, worker: WorkerId, leases: &[Lease]) -> StoreResult<Renewals> {
        self.meet("renew")?;
        self.inner.renew(scope, worker, leases).await
    }
    async fn reap(&self, scope: &Scope, max_claims: u64, now: DateTime<Utc>) -> StoreResult<Reaped> {
        self.meet("reap")?;
        self.inner.reap(scope, max_claims, now).await
    }
}

#[async_trait]
impl JournalStore for Faulty {
    async fn start_steps(&self, scope: &Scope, lease: &Lease, starts: &[StepStart]) -> StoreResult<()> {
        self.meet("start_steps")?;
        self.inner.start_steps(scope, lease, starts).await
    }
    async fn note_steps(&self, scope: &Scope, lease: &Lease, notes: &[StepNote]) -> StoreResult<()> {
        self.meet("note_steps")?;
        self.inner.note_steps(scope, lease, notes).await
    }
    async fn end_steps(
        &self,
        scope: &Scope,
        lease: &Lease,
        ends: &[StepEnd],
        next: &[Step],
        finish: Option<&Finish>,
    ) -> StoreResult<Option<Ended>> {
        self.meet("end_steps")?;
        self.inner.end_steps(scope, lease, ends, next, finish).await
    }
    async fn park(&self, scope: &Scope, lease: &Lease, wake_at: DateTime<Utc>, reason: Reason) -> StoreResult<()> {
        self.meet("park")?;
        self.inner.park(scope, lease, wake_at, reason).await
    }
    async fn hand_back(&self, scope: &Scope, lease: &Lease, now: DateTime<Utc>) -> StoreResult<()> {
        self.meet("hand_back")?;
        self.inner.hand_back(scope, lease, now).await
    }
}

#[async_trait]
impl ServerStore for Faulty {
    async fn create_server(&self, scope: &Scope, server: &Server, audit: &AuditEntry) -> StoreResult<()> {
        self.meet("create_server")?;
        self.inner.create_server(scope, server, audit).await
    }
    async fn update_server(&self, scope: &Scope, server: &Server, audit: &AuditEntry) -> StoreResult<()> {
        self.meet("update_server")?;
        self.inner.update_server(scope, server, audit).await
    }
    async fn delete_server(&self, scope: &Scope, server: &Server, audit: &AuditEntry) -> StoreResult<()> {
        self.meet("delete_server")?;
        self.inner.delete_server(scope, server, audit).await
    }
    async fn server(&self, scope: &Scope, selector: &Selector) -> StoreResult<Server> {
        self.meet("server")?;
        self.inner.server(scope, selector).await
    }
    async fn servers(&self, scope: &Scope, filter: &ServerFilter, page: PageRequest) -> StoreResult<Page<Server>> {
        self.meet("servers")?;
        self.inner.servers(scope, filter, page).await
    }
    async fn all_servers(&self, scope: &Scope) -> StoreResult<Vec<Server>> {
        self.meet("all_servers")?;
        self.inner.all_servers(scope).await
    }
    async fn servers_by_id(&self, scope: &Scope, ids: &[ServerId]) -> StoreResult<Vec<Server>> {
        self.meet("servers_by_id")?;
        self.inner.servers_by_id(scope, ids).await
    }
}

#[async_trait]
impl GroupStore for Faulty {
    async fn create_group(&self, scope: &Scope, group: &Group, audit: &AuditEntry) -> StoreResult<()> {
        self.meet("create_group")?;
        self.inner.create_group(scope, group, audit).await
    }
    async fn update_group(&self, scope: &Scope, group: &Group, audit: &AuditEntry) -> StoreResult<()> {
        self.meet("update_group")?;
        self.inner.update_group(scope, group, audit).await
    }
    async fn delete_group(&self, scope: &Scope, group: &Group, audit: &AuditEntry) -> StoreResult<()> {
        self.meet("delete_group")?;
        self.inner.delete_group(scope, group, audit).await
    }
    async fn group(&self, scope: &Scope, selector: &Selector) -> StoreResult<Group> {
        self.meet("group")?;
        self.inner.group(scope, selector).await
    }
    async fn groups(&self, scope: &Scope, page: PageRequest) -> StoreResult<Page<Group>> {
        self.meet("groups")?;
        self.inner.groups(scope, page).await
    }
    async fn all_groups(&self, scope: &Scope) -> StoreResult<Vec<Group>> {
        self.meet("all_groups")?;
        self.inner.all_groups(scope).await
    }
}

#[async_trait]
impl CredentialStore for Faulty {
    async fn create_credential(&self, scope: &Scope, credential: &Credential, audit: &AuditEntry) -> StoreResult<()> {
        self.meet("create_credential")?;
        self.inner.create_credential(scope, credential, audit).await
    }
    async fn update_credential(&self, scope: &Scope, credential: &Credential, audit: &AuditEntry) -> StoreResult<()> {
        self.meet("update_credential")?;
        self.inner.update_credential(scope, credential, audit).await
    }
    async fn delete_credential(&self, scope: &Scope, credential: &Credential, audit: &AuditEntry) -> StoreResult<()> {
        self.meet("delete_credential")?;
        self.inner.delete_credential(scope, credential, audit).await
    }
    async fn credential(&self, scope: &Scope, selector: &Selector) -> StoreResult<Credential> {
        self.meet("credential")?;
        self.inner.credential(scope, selector).await
    }
    async fn credentials(&self, scope: &Scope, page: PageRequest) -> StoreResult<Page<Credential>> {
        self.meet("credentials")?;
        self.inner.credentials(scope, page).await
    }
}

#[async_trait]
impl HostKeyStore for Faulty {
    async fn create_host_key(&self, scope: &Scope, key: &HostKey, audit: &AuditEntry) -> StoreResult<()> {
        self.meet("create_host_key")?;
        self.inner.create_host_key(scope, key, audit).await
    }
    async fn trust_host_key(&self, scope: &Scope, key: &HostKey, audit: &AuditEntry) -> StoreResult<()> {
        self.meet("trust_host_key")?;
        self.inner.trust_host_key(scope, key, audit).await
    }
    async fn approve_host_key(
        &self,
        scope: &Scope,
        key: &HostKey,
        retired: &[HostKey],
        audit: &[AuditEntry],
    ) -> StoreResult<()> {
        self.meet("approve_host_key")?;
        self.inner.approve_host_key(scope, key, retired, audit).await
    }
    async fn update_host_key(&self, scope: &Scope, key: &HostKey, audit: &AuditEntry) -> StoreResult<()> {
        self.meet("update_host_key")?;
        self.inner.update_host_key(scope, key, audit).await
    }
    async fn delete_host_key(&self, scope: &Scope, key: &HostKey, audit: &AuditEntry) -> StoreResult<()> {
        self.meet("delete_host_key")?;
        self.inner.delete_host_key(scope, key, audit).await
    }
    async fn host_key(&self, scope: &Scope, selector: &Selector) -> StoreResult<HostKey> {
        self.meet("host_key")?;
        self.inner.host_key(scope, selector).await
    }
    async fn host_keys(
        &self,
        scope: &Scope,
        server: Option<ServerId>,
        page: PageRequest,
    ) -> StoreResult<Page<HostKey>> {
        self.meet("host_keys")?;
        self.inner.host_keys(scope, server, page).await
    }
    async fn host_keys_of(&self, scope: &Scope, servers: &[ServerId]) -> StoreResult<Vec<HostKey>> {
        self.meet("host_keys_of")?;
        self.inner.host_keys_of(scope, servers).await
    }
}

#[async_trait]
impl ScriptStore for Faulty {
    async fn create_script(
        &self,
        scope: &Scope,
        script: &Script,
        first: &ScriptVersion,
        audit: &AuditEntry,
    ) -> StoreResult<()> {
        self.meet("create_script")?;
        self.inner.create_script(scope, script, first, audit).await
    }
    async fn update_script(
        &self,
        scope: &Scope,
        script: &Script,
        added: Option<&ScriptVersion>,
        audit: &AuditEntry,
    ) -> StoreResult<()> {
        self.meet("update_script")?;
        self.inner.update_script(scope, script, added, audit).await
    }
    async fn delete_script(&self, scope: &Scope, script: &Script, audit: &AuditEntry) -> StoreResult<()> {
        self.meet("delete_script")?;
        self.inner.delete_script(scope, script, audit).await
    }
    async fn script(&self, scope: &Scope, selector: &Selector) -> StoreResult<Script> {
        self.meet("script")?;
        self.inner.script(scope, selector).await
    }
    async fn scripts(
        &self,
        scope: &Scope,
        filter: &ScriptFilter,
        page: PageRequest,
    ) -> StoreResult<Page<ScriptSummary>> {
        self.meet("scripts")?;
        self.inner.scripts(scope, filter, page).await
    }
    async fn script_version(&self, scope: &Scope, script: ScriptId, number: u32) -> StoreResult<ScriptVersion> {
        self.meet("script_version")?;
        self.inner.script_version(scope, script, number).await
    }
    async fn script_versions(
        &self,
        scope: &Scope,
        script: ScriptId,
        before: Option<u32>,
        limit: u32,
    ) -> StoreResult<Vec<ScriptVersion>> {
        self.meet("script_versions")?;
        self.inner.script_versions(scope, script, before, limit).await
    }
    async fn content(&self, scope: &Scope, hash: &ContentHash) -> StoreResult<Content> {
        self.meet("content")?;
        self.inner.content(scope, hash).await
    }
}

#[async_trait]
impl VaultStore for Faulty {
    async fn sealed_values(
        &self,
        mark: &[u8],
        after: Option<Place<'static>>,
        limit: u32,
    ) -> StoreResult<Vec<SealedValue>> {
        self.meet("sealed_values")?;
        self.inner.sealed_values(mark, after, limit).await
    }
    async fn reseal(&self, place: Place<'static>, old: &Sealed, new: &Sealed) -> StoreResult<bool> {
        self.meet("reseal")?;
        self.inner.reseal(place, old, new).await
    }
    async fn begin_rekey(&self, scope: &Scope, proof: &[u8], audit: &AuditEntry) -> StoreResult<()> {
        self.meet("begin_rekey")?;
        self.inner.begin_rekey(scope, proof, audit).await
    }
    async fn finish_rekey(&self, scope: &Scope, proof: &[u8], audit: &AuditEntry) -> StoreResult<()> {
        self.meet("finish_rekey")?;
        self.inner.finish_rekey(scope, proof, audit).await
    }
}

#[async_trait]
impl AuditStore for Faulty {
    async fn append_audit(&self, scope: &Scope, entry: &AuditEntry) -> StoreResult<()> {
        self.meet("append_audit")?;
        self.inner.append_audit(scope, entry).await
    }
    async fn audit_entries(
        &self,
        scope: &Scope,
        filter: &AuditFilter,
        page: PageRequest,
    ) -> StoreResult<Page<AuditEntry>> {
        self.meet("audit_entries")?;
        self.inner.audit_entries(scope, filter, page).await
    }
    async fn unsealed_audit(&self, limit: u32) -> StoreResult<Vec<AuditEntry>> {
        self.meet("unsealed_audit")?;
        self.inner.unsealed_audit(limit).await
    }
    async fn count_unsealed_audit(&self) -> StoreResult<u64> {
        self.meet("count_unsealed_audit")?;
        self.inner.count_unsealed_audit().await
    }
    async fn audit_head(&self) -> StoreResult<Option<Vec<u8>>> {
        self.meet("audit_head")?;
        self.inner.audit_head().await
    }
    async fn seal_audit(&self, links: &[ChainLink], old: Option<&[u8]>, head: &[u8]) -> StoreResult<bool> {
        self.meet("seal_audit")?;
        self.inner.seal_audit(links, old, head).await
    }
    async fn cut_audit(&self, up_to: u64, old: &[u8], head: &[u8], audit: &AuditEntry) -> StoreResult<bool> {
        self.meet("cut_audit")?;
        self.inner.cut_audit(up_to, old, head, audit).await
    }
    async fn sealed_audit(&self, after: u64, last: u64, limit: u32) -> StoreResult<Vec<SealedEntry>> {
        self.meet("sealed_audit")?;
        self.inner.sealed_audit(after, last, limit).await
    }
}

#[async_trait]
impl SystemStore for Faulty {
    async fn check(&self) -> StoreResult<()> {
        self.meet("check")?;
        self.inner.check().await
    }
    async fn setting(&self, key: &str) -> StoreResult<Option<Vec<u8>>> {
        self.meet("setting")?;
        self.inner.setting(key).await
    }
    async fn init_setting(&self, key: &str, value: &[u8]) -> StoreResult<Vec<u8>> {
        self.meet("init_setting")?;
        self.inner.init_setting(key, value).await
    }
}
