//! Host keys.

use async_trait::async_trait;
use birun_core::audit::AuditEntry;
use birun_core::gate::Scope;
use birun_core::id::{HostKeyId, ProjectId, Selector, ServerId};
use birun_core::inventory::{HostKey, HostKeyStore};
use birun_core::page::{Page, PageRequest};
use birun_core::store::{StoreError, StoreResult};

use crate::SqlStore;
use crate::sql::{Bind, Kind, List, Row, Table, Tx, binds, padded, placeholders, read_all, short};

const HOST_KEYS: Table = Table {
    name: "birun_host_keys",
    kind: "host key",
    columns: "id, project_id, server_id, algorithm, public_key, fingerprint, status, origin, version, created_at, \
              updated_at",
    named: false,
};

const INSERT: &str =
    "INSERT INTO birun_host_keys (project_id, id, short, server_id, algorithm, public_key, fingerprint,
    status, origin, version, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
const UPDATE: &str = "UPDATE birun_host_keys SET algorithm = $3, public_key = $4, fingerprint = $5, status = $6,
    origin = $7, version = $8, updated_at = $9 WHERE project_id = $1 AND id = $2 AND version = $8 - 1";
const DELETE: &str = "DELETE FROM birun_host_keys WHERE project_id = $1 AND id = $2 AND version = $3";

const OTHER_APPROVED: &str = "SELECT id FROM birun_host_keys WHERE project_id = $1 AND server_id = $2
    AND algorithm = $3 AND status = 'approved' AND id <> $4 LIMIT 1";

/// Changes nothing, and makes whoever else trusts a key of this server wait for the end of the transaction.
const HOLD_SERVER: &str = "UPDATE birun_servers SET version = version WHERE project_id = $1 AND id = $2";
const APPROVED: &str =
    "SELECT id FROM birun_host_keys WHERE project_id = $1 AND server_id = $2 AND status = 'approved' LIMIT 1";

/// Servers asked about in one statement.
const SERVERS_AT_ONCE: usize = 500;

fn explain(error: crate::sql::DbError, key: &HostKey) -> StoreError {
    match error.kind {
        Kind::Unique => StoreError::Conflict { why: format!("the host key {} is recorded already", key.fingerprint) },
        Kind::Reference => StoreError::NotFound { kind: "server", selector: key.server_id.to_string() },
        _ => error.into(),
    }
}

async fn create(tx: &mut Tx<'_>, project: ProjectId, key: &HostKey) -> StoreResult<()> {
    let values = binds![
        project,
        key.id,
        short(key.id.as_uuid()),
        key.server_id,
        &key.algorithm,
        &key.key,
        &key.fingerprint,
        key.status.as_str(),
        key.origin.as_str(),
        key.version,
        key.created_at,
        key.updated_at,
    ];
    tx.exec(INSERT, values).await.map_err(|error| explain(error, key))?;
    Ok(())
}

/// Keeps everybody else from trusting a key of the same server until the transaction has ended.
async fn hold_server(tx: &mut Tx<'_>, project: ProjectId, key: &HostKey) -> StoreResult<()> {
    match tx.exec(HOLD_SERVER, binds![project, key.server_id]).await? {
        0 => Err(StoreError::NotFound { kind: "server", selector: key.server_id.to_string() }),
        _ => Ok(()),
    }
}

async fn approve(tx: &mut Tx<'_>, project: ProjectId, key: &HostKey, retired: &[HostKey]) -> StoreResult<()> {
    hold_server(tx, project, key).await?;
    for old in retired {
        update(tx, project, old).await?;
    }
    let others = binds![project, key.server_id, &key.algorithm, key.id];
    if tx.one(OTHER_APPROVED, others).await?.is_some() {
        return Err(StoreError::Stale { kind: HOST_KEYS.kind });
    }
    update(tx, project, key).await
}

async fn trust(tx: &mut Tx<'_>, project: ProjectId, key: &HostKey) -> StoreResult<()> {
    hold_server(tx, project, key).await?;
    if tx.one(APPROVED, binds![project, key.server_id]).await?.is_some() {
        return Err(StoreError::Conflict { why: "another host key is approved for the server".to_owned() });
    }
    if key.version == 1 { create(tx, project, key).await } else { update(tx, project, key).await }
}

async fn update(tx: &mut Tx<'_>, project: ProjectId, key: &HostKey) -> StoreResult<()> {
    let values = binds![
        project,
        key.id,
        &key.algorithm,
        &key.key,
        &key.fingerprint,
        key.status.as_str(),
        key.origin.as_str(),
        key.version,
        key.updated_at,
    ];
    if tx.exec(UPDATE, values).await.map_err(|error| explain(error, key))? == 0 {
        return Err(HOST_KEYS.stale(tx, project, key.id.as_uuid()).await?);
    }
    Ok(())
}

async fn delete(tx: &mut Tx<'_>, project: ProjectId, key: &HostKey) -> StoreResult<()> {
    if tx.exec(DELETE, binds![project, key.id, key.version]).await? == 0 {
        return Err(HOST_KEYS.stale(tx, project, key.id.as_uuid()).await?);
    }
    Ok(())
}

fn read(row: &Row) -> StoreResult<HostKey> {
    let mut columns = row.columns(HOST_KEYS.name);
    Ok(HostKey {
        id: HostKeyId::from_uuid(columns.uuid()?),
        project_id: ProjectId::from_uuid(columns.uuid()?),
        server_id: ServerId::from_uuid(columns.uuid()?),
        algorithm: columns.text()?,
        key: columns.text()?,
        fingerprint: columns.text()?,
        status: columns.parsed()?,
        origin: columns.parsed()?,
        version: columns.num()?,
        created_at: columns.at()?,
        updated_at: columns.at()?,
    })
}

async fn list(
    tx: &mut Tx<'_>,
    project: ProjectId,
    server: Option<ServerId>,
    page: PageRequest,
) -> StoreResult<Page<HostKey>> {
    let (sql, values) = List::of(&HOST_KEYS, project).and_if("server_id = ?", server).page(page);
    let keys = read_all(&tx.all(sql, values).await?, read)?;
    Ok(Page::from_rows(keys, page, |key| key.id.as_uuid()))
}

async fn of_servers(tx: &mut Tx<'_>, project: ProjectId, servers: &[ServerId]) -> StoreResult<Vec<HostKey>> {
    let mut keys = Vec::new();
    for servers in servers.chunks(SERVERS_AT_ONCE) {
        let servers = padded(servers.to_vec());
        let list = placeholders(2, servers.len());
        let sql = format!("{} WHERE project_id = $1 AND server_id IN ({list}) ORDER BY id", HOST_KEYS.select());
        let values = std::iter::once(Bind::from(project)).chain(servers.into_iter().map(Bind::from)).collect();
        keys.extend(read_all(&tx.all(sql, values).await?, read)?);
    }
    Ok(keys)
}

#[async_trait]
impl HostKeyStore for SqlStore {
    async fn create_host_key(&self, scope: &Scope, key: &HostKey, audit: &AuditEntry) -> StoreResult<()> {
        self.audited(scope, key.clone(), audit, |tx, project, key| Box::pin(create(tx, project, key))).await
    }

    async fn trust_host_key(&self, scope: &Scope, key: &HostKey, audit: &AuditEntry) -> StoreResult<()> {
        self.audited(scope, key.clone(), audit, |tx, project, key| Box::pin(trust(tx, project, key))).await
    }

    async fn approve_host_key(
        &self,
        scope: &Scope,
        key: &HostKey,
        retired: &[HostKey],
        audit: &[AuditEntry],
    ) -> StoreResult<()> {
        let args = (key.clone(), retired.to_vec());
        let approve = self
            .audited_by(scope, args, audit, |tx, project, (key, retired)| Box::pin(approve(tx, project, key, retired)));
        approve.await
    }

    async fn update_host_key(&self, scope: &Scope, key: &HostKey, audit: &AuditEntry) -> StoreResult<()> {
        self.audited(scope, key.clone(), audit, |tx, project, key| Box::pin(update(tx, project, key))).await
    }

    async fn delete_host_key(&self, scope: &Scope, key: &HostKey, audit: &AuditEntry) -> StoreResult<()> {
        self.audited(scope, key.clone(), audit, |tx, project, key| Box::pin(delete(tx, project, key))).await
    }

    async fn host_key(&self, scope: &Scope, selector: &Selector) -> StoreResult<HostKey> {
        let args = (scope.project(), selector.clone());
        let row = self.db.read(args, |tx, (project, selector)| Box::pin(HOST_KEYS.find(tx, *project, selector)));
        read(&row.await?)
    }

    async fn host_keys(
        &self,
        scope: &Scope,
        server: Option<ServerId>,
        page: PageRequest,
    ) -> StoreResult<Page<HostKey>> {
        let args = (scope.project(), server, page);
        self.db.read(args, |tx, (project, server, page)| Box::pin(list(tx, *project, *server, *page))).await
    }

    async fn host_keys_of(&self, scope: &Scope, servers: &[ServerId]) -> StoreResult<Vec<HostKey>> {
        let args = (scope.project(), servers.to_vec());
        self.db.read(args, |tx, (project, servers)| Box::pin(of_servers(tx, *project, servers))).await
    }
}
