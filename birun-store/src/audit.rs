//! The audit log.

use async_trait::async_trait;
use birun_core::audit::{AuditEntry, AuditFilter, ChainLink, SealedEntry};
use birun_core::gate::Scope;
use birun_core::id::{AuditId, ProjectId};
use birun_core::identity::Actor;
use birun_core::page::{Page, PageRequest};
use birun_core::store::{AuditStore, StoreError, StoreResult};

use crate::SqlStore;
use crate::json::opt_json;
use crate::sql::{Bind, Columns, List, Row, Statement, Table, Tx, binds, chunks, read_all, values};

const AUDIT: Table = Table {
    name: "birun_audit_logs",
    kind: "audit entry",
    columns: "id, at, project_id, actor_kind, actor_name, action, outcome, resource_kind, resource_id, resource_name, \
              state_before, state_after, request_id",
    named: false,
};

const APPEND: &str = "INSERT INTO birun_audit_logs (id, at, project_id, actor_kind, actor_name, action, outcome,
    resource_kind, resource_id, resource_name, state_before, state_after, request_id)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";

const COUNT_UNSEALED: &str = "SELECT COUNT(*) FROM birun_audit_logs WHERE seal_number IS NULL";
const HEAD: &str = "SELECT value FROM birun_settings WHERE key = 'audit.head'";
const FIRST_HEAD: &str =
    "INSERT INTO birun_settings (key, value) VALUES ('audit.head', $1) ON CONFLICT (key) DO NOTHING";
const MOVE_HEAD: &str = "UPDATE birun_settings SET value = $1 WHERE key = 'audit.head' AND value = $2";

const CUT: &str = "DELETE FROM birun_audit_logs WHERE seal_number IS NOT NULL AND seal_number <= $1";

/// Writes an entry down, in the transaction of the action that it tells of.
pub(crate) async fn append(tx: &mut Tx<'_>, project: ProjectId, entry: &AuditEntry) -> StoreResult<()> {
    tx.exec(APPEND, entry_values(project, entry)?).await?;
    Ok(())
}

/// Writes an entry down, once, however often it is asked for.
pub(crate) fn append_once(project: ProjectId, entry: &AuditEntry) -> StoreResult<Statement> {
    Ok(Statement::new(format!("{APPEND} ON CONFLICT DO NOTHING"), entry_values(project, entry)?))
}

fn entry_values(project: ProjectId, entry: &AuditEntry) -> StoreResult<Vec<Bind>> {
    Ok(binds![
        entry.id,
        entry.at,
        project,
        entry.actor.kind.as_str(),
        &entry.actor.name,
        &entry.action,
        entry.outcome.as_str(),
        &entry.resource_kind,
        entry.resource_id,
        entry.resource_name.as_ref(),
        opt_json(entry.before.as_ref())?,
        opt_json(entry.after.as_ref())?,
        entry.request_id.as_ref(),
    ])
}

fn read(row: &Row) -> StoreResult<AuditEntry> {
    read_entry(&mut row.columns(AUDIT.name))
}

fn read_entry(columns: &mut Columns<'_>) -> StoreResult<AuditEntry> {
    Ok(AuditEntry {
        id: AuditId::from_uuid(columns.uuid()?),
        at: columns.at()?,
        project: ProjectId::from_uuid(columns.uuid()?),
        actor: read_actor(columns)?,
        action: columns.text()?,
        outcome: columns.parsed()?,
        resource_kind: columns.text()?,
        resource_id: columns.opt_uuid()?,
        resource_name: columns.opt_text()?,
        before: columns.opt_json()?,
        after: columns.opt_json()?,
        request_id: columns.opt_text()?,
    })
}

/// Reads two columns: the actor's kind and name.
pub(crate) fn read_actor(columns: &mut Columns<'_>) -> StoreResult<Actor> {
    Ok(Actor { kind: columns.parsed()?, name: columns.text()? })
}

async fn list(
    tx: &mut Tx<'_>,
    project: ProjectId,
    filter: &AuditFilter,
    page: PageRequest,
) -> StoreResult<Page<AuditEntry>> {
    let list = List::of(&AUDIT, project)
        .and_if("action = ?", filter.action.as_ref())
        .and_if("resource_id = ?", filter.resource_id)
        .and_if("actor_name = ?", filter.actor.as_ref())
        .and_if("at >= ?", filter.since)
        // The plus keeps the index on time for `since`: everything older is no help in finding the newest.
        .and_if("+at < ?", filter.until);
    let (sql, values) = list.page(page);
    let entries = read_all(&tx.all(sql, values).await?, read)?;
    Ok(Page::from_rows(entries, page, |entry| entry.id.as_uuid()))
}

async fn unsealed(tx: &mut Tx<'_>, limit: u32) -> StoreResult<Vec<AuditEntry>> {
    let sql = format!("SELECT {} FROM birun_audit_logs WHERE seal_number IS NULL ORDER BY id LIMIT $1", AUDIT.columns);
    read_all(&tx.all(sql, binds![limit]).await?, read)
}

async fn sealed(tx: &mut Tx<'_>, after: u64, last: u64, limit: u32) -> StoreResult<Vec<SealedEntry>> {
    let sql = format!(
        "SELECT {}, seal_number, seal FROM birun_audit_logs WHERE seal_number IS NOT NULL AND seal_number > $1
        AND seal_number <= $2 ORDER BY seal_number LIMIT $3",
        AUDIT.columns
    );
    let rows = tx.all(sql, binds![after, last, limit]).await?;
    read_all(&rows, |row| {
        let mut columns = row.columns(AUDIT.name);
        Ok(SealedEntry { entry: read_entry(&mut columns)?, number: columns.num()?, seal: columns.bytes()? })
    })
}

async fn count_unsealed(tx: &mut Tx<'_>) -> StoreResult<u64> {
    let row = tx.one(COUNT_UNSEALED, binds![]).await?;
    row.map_or(Ok(0), |row| row.columns(AUDIT.name).num())
}

async fn head(tx: &mut Tx<'_>) -> StoreResult<Option<Vec<u8>>> {
    let row = tx.one(HEAD, binds![]).await?;
    row.map(|row| row.columns("birun_settings").bytes()).transpose()
}

/// The head decides who adds links: of two sealers at once, the second finds another head than it knows.
async fn seal(tx: &mut Tx<'_>, links: &[ChainLink], old: Option<&[u8]>, head: &[u8]) -> StoreResult<bool> {
    let moved = match old {
        Some(old) => tx.exec(MOVE_HEAD, binds![head, old]).await?,
        None => tx.exec(FIRST_HEAD, binds![head]).await?,
    };
    if moved == 0 {
        return Ok(false);
    }
    for chunk in chunks(links) {
        let sql = format!(
            "UPDATE birun_audit_logs SET seal_number = link.column2, seal = link.column3 FROM (VALUES {}) AS link
            WHERE id = link.column1 AND seal_number IS NULL",
            values(1, 3, chunk.len())
        );
        let links = chunk.iter().flat_map(|link| binds![link.entry, link.number, &link.seal[..]]);
        if tx.exec(sql, links.collect()).await? != chunk.len() as u64 {
            return Err(StoreError::Stale { kind: "audit entry" });
        }
    }
    Ok(true)
}

async fn cut(tx: &mut Tx<'_>, up_to: u64, old: &[u8], head: &[u8], audit: &AuditEntry) -> StoreResult<bool> {
    let moved = tx.exec(MOVE_HEAD, binds![head, old]).await? > 0;
    if moved {
        tx.exec(CUT, binds![up_to]).await?;
        append(tx, audit.project, audit).await?;
    }
    Ok(moved)
}

#[async_trait]
impl AuditStore for SqlStore {
    async fn append_audit(&self, scope: &Scope, entry: &AuditEntry) -> StoreResult<()> {
        let args = (scope.project(), entry.clone());
        self.db.write(args, |tx, (project, entry)| Box::pin(append(tx, *project, entry))).await
    }

    async fn audit_entries(
        &self,
        scope: &Scope,
        filter: &AuditFilter,
        page: PageRequest,
    ) -> StoreResult<Page<AuditEntry>> {
        let args = (scope.project(), filter.clone(), page);
        self.db.read(args, |tx, (project, filter, page)| Box::pin(list(tx, *project, filter, *page))).await
    }

    async fn unsealed_audit(&self, limit: u32) -> StoreResult<Vec<AuditEntry>> {
        self.db.read(limit, |tx, limit| Box::pin(unsealed(tx, *limit))).await
    }

    async fn count_unsealed_audit(&self) -> StoreResult<u64> {
        self.db.read((), |tx, ()| Box::pin(count_unsealed(tx))).await
    }

    async fn audit_head(&self) -> StoreResult<Option<Vec<u8>>> {
        self.db.read((), |tx, ()| Box::pin(head(tx))).await
    }

    async fn seal_audit(&self, links: &[ChainLink], old: Option<&[u8]>, head: &[u8]) -> StoreResult<bool> {
        let args = (links.to_vec(), old.map(<[u8]>::to_vec), head.to_vec());
        self.db.write(args, |tx, (links, old, head)| Box::pin(seal(tx, links, old.as_deref(), head))).await
    }

    async fn cut_audit(&self, up_to: u64, old: &[u8], head: &[u8], audit: &AuditEntry) -> StoreResult<bool> {
        let args = (up_to, old.to_vec(), head.to_vec(), audit.clone());
        self.db.write(args, |tx, (up_to, old, head, audit)| Box::pin(cut(tx, *up_to, old, head, audit))).await
    }

    async fn sealed_audit(&self, after: u64, last: u64, limit: u32) -> StoreResult<Vec<SealedEntry>> {
        let args = (after, last, limit);
        self.db.read(args, |tx, (after, last, limit)| Box::pin(sealed(tx, *after, *last, *limit))).await
    }
}
