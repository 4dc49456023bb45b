//! Credentials. Their values arrive sealed and leave sealed.

use async_trait::async_trait;
use birun_core::audit::AuditEntry;
use birun_core::gate::Scope;
use birun_core::id::{CredentialId, ProjectId, Selector};
use birun_core::inventory::{Credential, CredentialStore};
use birun_core::page::{Page, PageRequest};
use birun_core::store::{StoreError, StoreResult};
use birun_core::vault::Sealed;

use crate::SqlStore;
use crate::json::opt_json;
use crate::sql::{Kind, List, Row, Table, Tx, binds, read_all, short};

const CREDENTIALS: Table = Table {
    name: "birun_credentials",
    kind: "credential",
    columns:
        "id, project_id, name, kind, algorithm, fingerprint, certificate, description, sealed, version, created_at,
        updated_at",
    named: true,
};

const INSERT: &str = "INSERT INTO birun_credentials (project_id, id, short, name, kind, algorithm, fingerprint,
    description, sealed, version, created_at, updated_at, certificate)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
const UPDATE: &str = "UPDATE birun_credentials SET name = $3, kind = $4, algorithm = $5, fingerprint = $6,
    description = $7, sealed = $8, version = $9, updated_at = $10, certificate = $11
    WHERE project_id = $1 AND id = $2 AND version = $9 - 1";
const DELETE: &str = "DELETE FROM birun_credentials WHERE project_id = $1 AND id = $2 AND version = $3";

async fn create(tx: &mut Tx<'_>, project: ProjectId, credential: &Credential) -> StoreResult<()> {
    let values = binds![
        project,
        credential.id,
        short(credential.id.as_uuid()),
        credential.name.as_str(),
        credential.kind.as_str(),
        credential.algorithm.as_ref(),
        credential.fingerprint.as_ref(),
        &credential.description,
        credential.sealed.as_bytes(),
        credential.version,
        credential.created_at,
        credential.updated_at,
        opt_json(credential.certificate.as_ref())?,
    ];
    let taken = || CREDENTIALS.taken(&credential.name);
    tx.exec(INSERT, values).await.map_err(|error| error.explain(Kind::Unique, taken))?;
    Ok(())
}

async fn update(tx: &mut Tx<'_>, project: ProjectId, credential: &Credential) -> StoreResult<()> {
    let values = binds![
        project,
        credential.id,
        credential.name.as_str(),
        credential.kind.as_str(),
        credential.algorithm.as_ref(),
        credential.fingerprint.as_ref(),
        &credential.description,
        credential.sealed.as_bytes(),
        credential.version,
        credential.updated_at,
        opt_json(credential.certificate.as_ref())?,
    ];
    let taken = || CREDENTIALS.taken(&credential.name);
    if tx.exec(UPDATE, values).await.map_err(|error| error.explain(Kind::Unique, taken))? == 0 {
        return Err(CREDENTIALS.stale(tx, project, credential.id.as_uuid()).await?);
    }
    Ok(())
}

async fn delete(tx: &mut Tx<'_>, project: ProjectId, credential: &Credential) -> StoreResult<()> {
    let used = || StoreError::Conflict { why: format!("a server uses the credential `{}`", credential.name) };
    let deleted = tx.exec(DELETE, binds![project, credential.id, credential.version]).await;
    if deleted.map_err(|error| error.explain(Kind::Reference, used))? == 0 {
        return Err(CREDENTIALS.stale(tx, project, credential.id.as_uuid()).await?);
    }
    Ok(())
}

fn read(row: &Row) -> StoreResult<Credential> {
    let mut columns = row.columns(CREDENTIALS.name);
    Ok(Credential {
        id: CredentialId::from_uuid(columns.uuid()?),
        project_id: ProjectId::from_uuid(columns.uuid()?),
        name: columns.parsed()?,
        kind: columns.parsed()?,
        algorithm: columns.opt_text()?,
        fingerprint: columns.opt_text()?,
        certificate: columns.opt_json()?,
        description: columns.text()?,
        sealed: Sealed::from_bytes(columns.bytes()?),
        version: columns.num()?,
        created_at: columns.at()?,
        updated_at: columns.at()?,
    })
}

async fn list(tx: &mut Tx<'_>, project: ProjectId, page: PageRequest) -> StoreResult<Page<Credential>> {
    let (sql, values) = List::of(&CREDENTIALS, project).page(page);
    let credentials = read_all(&tx.all(sql, values).await?, read)?;
    Ok(Page::from_rows(credentials, page, |credential| credential.id.as_uuid()))
}

#[async_trait]
impl CredentialStore for SqlStore {
    async fn create_credential(&self, scope: &Scope, credential: &Credential, audit: &AuditEntry) -> StoreResult<()> {
        self.audited(scope, credential.clone(), audit, |tx, project, new| Box::pin(create(tx, project, new))).await
    }

    async fn update_credential(&self, scope: &Scope, credential: &Credential, audit: &AuditEntry) -> StoreResult<()> {
        self.audited(scope, credential.clone(), audit, |tx, project, new| Box::pin(update(tx, project, new))).await
    }

    async fn delete_credential(&self, scope: &Scope, credential: &Credential, audit: &AuditEntry) -> StoreResult<()> {
        self.audited(scope, credential.clone(), audit, |tx, project, old| Box::pin(delete(tx, project, old))).await
    }

    async fn credential(&self, scope: &Scope, selector: &Selector) -> StoreResult<Credential> {
        let args = (scope.project(), selector.clone());
        let row = self.db.read(args, |tx, (project, selector)| Box::pin(CREDENTIALS.find(tx, *project, selector)));
        read(&row.await?)
    }

    async fn credentials(&self, scope: &Scope, page: PageRequest) -> StoreResult<Page<Credential>> {
        let args = (scope.project(), page);
        self.db.read(args, |tx, (project, page)| Box::pin(list(tx, *project, *page))).await
    }
}
