//! Servers, with their tags and groups.

use std::collections::HashMap;

use async_trait::async_trait;
use birun_core::audit::AuditEntry;
use birun_core::gate::Scope;
use birun_core::id::{CredentialId, GroupId, ProjectId, Selector, ServerId};
use birun_core::inventory::{Server, ServerFilter, ServerStore};
use birun_core::name::Tag;
use birun_core::page::{Page, PageRequest};
use birun_core::store::{StoreError, StoreResult};

use crate::SqlStore;
use crate::sql::{Bind, DbError, Kind, List, Row, Table, Tx, binds, padded, placeholders, read_all, short, values};

const SERVERS: Table = Table {
    name: "birun_servers",
    kind: "server",
    columns: "id, project_id, name, host, port, username, credential_id, executor, maintenance, description, version, \
              created_at, updated_at",
    named: true,
};

const INSERT: &str = "INSERT INTO birun_servers (project_id, id, short, name, host, port, username, credential_id,
    executor, maintenance, description, version, created_at, updated_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
const UPDATE: &str = "UPDATE birun_servers SET name = $3, host = $4, port = $5, username = $6, credential_id = $7,
    executor = $8, maintenance = $9, description = $10, version = $11, updated_at = $12
    WHERE project_id = $1 AND id = $2 AND version = $11 - 1";
const DELETE: &str = "DELETE FROM birun_servers WHERE project_id = $1 AND id = $2 AND version = $3";
const DELETE_TAGS: &str = "DELETE FROM birun_server_tags WHERE project_id = $1 AND server_id = $2";
const DELETE_GROUPS: &str = "DELETE FROM birun_server_group_members WHERE project_id = $1 AND server_id = $2";
const TAGGED: &str = "id IN (SELECT server_id FROM birun_server_tags WHERE project_id = $1 AND tag = ?)";
const TAGS: &str = "SELECT server_id, tag FROM birun_server_tags WHERE project_id = $1";
const GROUPS: &str = "SELECT server_id, group_id FROM birun_server_group_members WHERE project_id = $1";

/// More servers than this are read as the whole project, not one by one.
const ONE_BY_ONE: usize = 500;

async fn create(tx: &mut Tx<'_>, project: ProjectId, server: &Server) -> StoreResult<()> {
    let values = binds![
        project,
        server.id,
        short(server.id.as_uuid()),
        server.name.as_str(),
        &server.host,
        server.port,
        &server.user,
        server.credential_id,
        &server.executor,
        server.maintenance,
        &server.description,
        server.version,
        server.created_at,
        server.updated_at,
    ];
    tx.exec(INSERT, values).await.map_err(|error| explain(error, server))?;
    write_tags(tx, project, server).await?;
    write_groups(tx, project, server).await
}

async fn update(tx: &mut Tx<'_>, project: ProjectId, server: &Server) -> StoreResult<()> {
    let values = binds![
        project,
        server.id,
        server.name.as_str(),
        &server.host,
        server.port,
        &server.user,
        server.credential_id,
        &server.executor,
        server.maintenance,
        &server.description,
        server.version,
        server.updated_at,
    ];
    if tx.exec(UPDATE, values).await.map_err(|error| explain(error, server))? == 0 {
        return Err(SERVERS.stale(tx, project, server.id.as_uuid()).await?);
    }
    tx.exec(DELETE_TAGS, binds![project, server.id]).await?;
    tx.exec(DELETE_GROUPS, binds![project, server.id]).await?;
    write_tags(tx, project, server).await?;
    write_groups(tx, project, server).await
}

async fn delete(tx: &mut Tx<'_>, project: ProjectId, server: &Server) -> StoreResult<()> {
    if tx.exec(DELETE, binds![project, server.id, server.version]).await? == 0 {
        return Err(SERVERS.stale(tx, project, server.id.as_uuid()).await?);
    }
    Ok(())
}

fn explain(error: DbError, server: &Server) -> StoreError {
    match error.kind {
        Kind::Unique => SERVERS.taken(&server.name),
        Kind::Reference => StoreError::NotFound {
            kind: "credential",
            selector: server.credential_id.map(|id| id.to_string()).unwrap_or_default(),
        },
        _ => error.into(),
    }
}

async fn write_tags(tx: &mut Tx<'_>, project: ProjectId, server: &Server) -> StoreResult<()> {
    if server.tags.is_empty() {
        return Ok(());
    }
    let rows = server.tags.iter().flat_map(|tag| binds![project, server.id, tag.as_str()]).collect();
    let list = values(1, 3, server.tags.len());
    tx.exec(format!("INSERT INTO birun_server_tags (project_id, server_id, tag) VALUES {list}"), rows).await?;
    Ok(())
}

async fn write_groups(tx: &mut Tx<'_>, project: ProjectId, server: &Server) -> StoreResult<()> {
    if server.group_ids.is_empty() {
        return Ok(());
    }
    let rows = server.group_ids.iter().flat_map(|group| binds![project, server.id, *group]).collect();
    let list = values(1, 3, server.group_ids.len());
    let sql = format!("INSERT INTO birun_server_group_members (project_id, server_id, group_id) VALUES {list}");
    let unknown = || {
        let ids: Vec<String> = server.group_ids.iter().map(ToString::to_string).collect();
        StoreError::NotFound { kind: "group", selector: ids.join(", ") }
    };
    tx.exec(sql, rows).await.map_err(|error| error.explain(Kind::Reference, unknown))?;
    Ok(())
}

fn read(row: &Row) -> StoreResult<Server> {
    let mut columns = row.columns(SERVERS.name);
    Ok(Server {
        id: ServerId::from_uuid(columns.uuid()?),
        project_id: ProjectId::from_uuid(columns.uuid()?),
        name: columns.parsed()?,
        host: columns.text()?,
        port: columns.num()?,
        user: columns.text()?,
        credential_id: columns.opt_uuid()?.map(CredentialId::from_uuid),
        executor: columns.text()?,
        tags: Vec::new(),
        group_ids: Vec::new(),
        maintenance: columns.flag()?,
        description: columns.text()?,
        version: columns.num()?,
        created_at: columns.at()?,
        updated_at: columns.at()?,
    })
}

/// Reads servers, and their tags and groups with one statement each.
async fn read_whole(tx: &mut Tx<'_>, project: ProjectId, rows: &[Row]) -> StoreResult<Vec<Server>> {
    let mut servers = read_all(rows, read)?;
    if servers.is_empty() {
        return Ok(servers);
    }
    let mut tags: HashMap<ServerId, Vec<Tag>> = HashMap::new();
    for row in related(tx, TAGS, "tag", project, &servers).await? {
        let mut columns = row.columns("birun_server_tags");
        tags.entry(ServerId::from_uuid(columns.uuid()?)).or_default().push(columns.parsed()?);
    }
    let mut groups: HashMap<ServerId, Vec<GroupId>> = HashMap::new();
    for row in related(tx, GROUPS, "group_id", project, &servers).await? {
        let mut columns = row.columns("birun_server_group_members");
        groups.entry(ServerId::from_uuid(columns.uuid()?)).or_default().push(GroupId::from_uuid(columns.uuid()?));
    }
    for server in &mut servers {
        server.tags = tags.remove(&server.id).unwrap_or_default();
        server.group_ids = groups.remove(&server.id).unwrap_or_default();
    }
    Ok(servers)
}

async fn related(
    tx: &mut Tx<'_>,
    select: &str,
    order: &str,
    project: ProjectId,
    servers: &[Server],
) -> StoreResult<Vec<Row>> {
    let mut values = binds![project];
    let mut of_these = String::new();
    if servers.len() <= ONE_BY_ONE {
        let ids = padded(servers.iter().map(|server| server.id).collect());
        of_these = format!(" AND server_id IN ({})", placeholders(2, ids.len()));
        values.extend(ids.into_iter().map(Bind::from));
    }
    Ok(tx.all(format!("{select}{of_these} ORDER BY {order}"), values).await?)
}

async fn find(tx: &mut Tx<'_>, project: ProjectId, selector: &Selector) -> StoreResult<Server> {
    let row = SERVERS.find(tx, project, selector).await?;
    let found = read_whole(tx, project, &[row]).await?;
    found.into_iter().next().ok_or_else(|| SERVERS.not_found(selector))
}

async fn list(tx: &mut Tx<'_>, project: ProjectId, tag: Option<&Tag>, page: PageRequest) -> StoreResult<Page<Server>> {
    let (sql, values) = List::of(&SERVERS, project).and_if(TAGGED, tag.map(Tag::as_str)).page(page);
    let rows = tx.all(sql, values).await?;
    let servers = read_whole(tx, project, &rows).await?;
    Ok(Page::from_rows(servers, page, |server| server.id.as_uuid()))
}

async fn all(tx: &mut Tx<'_>, project: ProjectId) -> StoreResult<Vec<Server>> {
    let rows = tx.all(format!("{} WHERE project_id = $1 ORDER BY name", SERVERS.select()), binds![project]).await?;
    read_whole(tx, project, &rows).await
}

async fn by_id(tx: &mut Tx<'_>, project: ProjectId, ids: &[ServerId]) -> StoreResult<Vec<Server>> {
    let mut servers = Vec::with_capacity(ids.len());
    for ids in ids.chunks(ONE_BY_ONE) {
        let ids = padded(ids.to_vec());
        let list = placeholders(2, ids.len());
        let values = std::iter::once(Bind::from(project)).chain(ids.into_iter().map(Bind::from)).collect();
        let rows = tx.all(format!("{} WHERE project_id = $1 AND id IN ({list})", SERVERS.select()), values).await?;
        servers.extend(read_whole(tx, project, &rows).await?);
    }
    Ok(servers)
}

#[async_trait]
impl ServerStore for SqlStore {
    async fn create_server(&self, scope: &Scope, server: &Server, audit: &AuditEntry) -> StoreResult<()> {
        self.audited(scope, server.clone(), audit, |tx, project, server| Box::pin(create(tx, project, server))).await
    }

    async fn update_server(&self, scope: &Scope, server: &Server, audit: &AuditEntry) -> StoreResult<()> {
        self.audited(scope, server.clone(), audit, |tx, project, server| Box::pin(update(tx, project, server))).await
    }

    async fn delete_server(&self, scope: &Scope, server: &Server, audit: &AuditEntry) -> StoreResult<()> {
        self.audited(scope, server.clone(), audit, |tx, project, server| Box::pin(delete(tx, project, server))).await
    }

    async fn server(&self, scope: &Scope, selector: &Selector) -> StoreResult<Server> {
        let args = (scope.project(), selector.clone());
        self.db.read(args, |tx, (project, selector)| Box::pin(find(tx, *project, selector))).await
    }

    async fn servers(&self, scope: &Scope, filter: &ServerFilter, page: PageRequest) -> StoreResult<Page<Server>> {
        let args = (scope.project(), filter.tag.clone(), page);
        self.db.read(args, |tx, (project, tag, page)| Box::pin(list(tx, *project, tag.as_ref(), *page))).await
    }

    async fn all_servers(&self, scope: &Scope) -> StoreResult<Vec<Server>> {
        self.db.read(scope.project(), |tx, project| Box::pin(all(tx, *project))).await
    }

    async fn servers_by_id(&self, scope: &Scope, ids: &[ServerId]) -> StoreResult<Vec<Server>> {
        let args = (scope.project(), ids.to_vec());
        self.db.read(args, |tx, (project, ids)| Box::pin(by_id(tx, *project, ids))).await
    }
}
