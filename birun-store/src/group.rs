//! Server groups.

use async_trait::async_trait;
use birun_core::audit::AuditEntry;
use birun_core::gate::Scope;
use birun_core::id::{GroupId, ProjectId, Selector};
use birun_core::inventory::{Group, GroupStore};
use birun_core::page::{Page, PageRequest};
use birun_core::store::StoreResult;

use crate::SqlStore;
use crate::sql::{Kind, List, Row, Table, Tx, binds, read_all, short};

const GROUPS: Table = Table {
    name: "birun_server_groups",
    kind: "group",
    columns: "id, project_id, name, description, host_key_policy, version, created_at, updated_at",
    named: true,
};

const INSERT: &str = "INSERT INTO birun_server_groups (project_id, id, short, name, description, host_key_policy,
    version, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
const UPDATE: &str = "UPDATE birun_server_groups SET name = $3, description = $4, host_key_policy = $5, version = $6,
    updated_at = $7 WHERE project_id = $1 AND id = $2 AND version = $6 - 1";
const DELETE: &str = "DELETE FROM birun_server_groups WHERE project_id = $1 AND id = $2 AND version = $3";

async fn create(tx: &mut Tx<'_>, project: ProjectId, group: &Group) -> StoreResult<()> {
    let values = binds![
        project,
        group.id,
        short(group.id.as_uuid()),
        group.name.as_str(),
        &group.description,
        group.host_key_policy.map(|policy| policy.as_str()),
        group.version,
        group.created_at,
        group.updated_at,
    ];
    tx.exec(INSERT, values).await.map_err(|error| error.explain(Kind::Unique, || GROUPS.taken(&group.name)))?;
    Ok(())
}

async fn update(tx: &mut Tx<'_>, project: ProjectId, group: &Group) -> StoreResult<()> {
    let values = binds![
        project,
        group.id,
        group.name.as_str(),
        &group.description,
        group.host_key_policy.map(|policy| policy.as_str()),
        group.version,
        group.updated_at,
    ];
    let changed = tx.exec(UPDATE, values).await;
    if changed.map_err(|error| error.explain(Kind::Unique, || GROUPS.taken(&group.name)))? == 0 {
        return Err(GROUPS.stale(tx, project, group.id.as_uuid()).await?);
    }
    Ok(())
}

async fn delete(tx: &mut Tx<'_>, project: ProjectId, group: &Group) -> StoreResult<()> {
    if tx.exec(DELETE, binds![project, group.id, group.version]).await? == 0 {
        return Err(GROUPS.stale(tx, project, group.id.as_uuid()).await?);
    }
    Ok(())
}

fn read(row: &Row) -> StoreResult<Group> {
    let mut columns = row.columns(GROUPS.name);
    Ok(Group {
        id: GroupId::from_uuid(columns.uuid()?),
        project_id: ProjectId::from_uuid(columns.uuid()?),
        name: columns.parsed()?,
        description: columns.text()?,
        host_key_policy: columns.opt_parsed()?,
        version: columns.num()?,
        created_at: columns.at()?,
        updated_at: columns.at()?,
    })
}

async fn list(tx: &mut Tx<'_>, project: ProjectId, page: PageRequest) -> StoreResult<Page<Group>> {
    let (sql, values) = List::of(&GROUPS, project).page(page);
    let groups = read_all(&tx.all(sql, values).await?, read)?;
    Ok(Page::from_rows(groups, page, |group| group.id.as_uuid()))
}

async fn all(tx: &mut Tx<'_>, project: ProjectId) -> StoreResult<Vec<Group>> {
    let sql = format!("{} WHERE project_id = $1 ORDER BY name", GROUPS.select());
    read_all(&tx.all(sql, binds![project]).await?, read)
}

#[async_trait]
impl GroupStore for SqlStore {
    async fn create_group(&self, scope: &Scope, group: &Group, audit: &AuditEntry) -> StoreResult<()> {
        self.audited(scope, group.clone(), audit, |tx, project, group| Box::pin(create(tx, project, group))).await
    }

    async fn update_group(&self, scope: &Scope, group: &Group, audit: &AuditEntry) -> StoreResult<()> {
        self.audited(scope, group.clone(), audit, |tx, project, group| Box::pin(update(tx, project, group))).await
    }

    async fn delete_group(&self, scope: &Scope, group: &Group, audit: &AuditEntry) -> StoreResult<()> {
        self.audited(scope, group.clone(), audit, |tx, project, group| Box::pin(delete(tx, project, group))).await
    }

    async fn group(&self, scope: &Scope, selector: &Selector) -> StoreResult<Group> {
        let args = (scope.project(), selector.clone());
        let row = self.db.read(args, |tx, (project, selector)| Box::pin(GROUPS.find(tx, *project, selector)));
        read(&row.await?)
    }

    async fn groups(&self, scope: &Scope, page: PageRequest) -> StoreResult<Page<Group>> {
        let args = (scope.project(), page);
        self.db.read(args, |tx, (project, page)| Box::pin(list(tx, *project, *page))).await
    }

    async fn all_groups(&self, scope: &Scope) -> StoreResult<Vec<Group>> {
        self.db.read(scope.project(), |tx, project| Box::pin(all(tx, *project))).await
    }
}
