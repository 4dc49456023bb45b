//! Scripts, their versions, and bodies kept once for each hash.

use async_trait::async_trait;
use birun_core::audit::AuditEntry;
use birun_core::gate::Scope;
use birun_core::id::{ProjectId, ScriptId, Selector};
use birun_core::page::{Page, PageRequest};
use birun_core::script::{
    Content, ContentHash, Script, ScriptFilter, ScriptSpec, ScriptStore, ScriptSummary, ScriptVersion,
};
use birun_core::store::{StoreError, StoreResult};

use crate::SqlStore;
use crate::json::json;
use crate::sql::{Columns, Dialect, Kind, List, Row, Table, Tx, binds, read_all, short};

const SCRIPTS: Table = Table {
    name: "birun_scripts",
    kind: "script",
    columns: "id, project_id, name, description, latest, version, created_at, updated_at",
    named: true,
};

/// Scripts with their newest versions, without the bodies.
const LISTED: Table = Table {
    name: "(SELECT script.id, script.project_id, script.name, script.description, script.latest, script.version,
        script.created_at, script.updated_at, newest.interpreter, newest.parameters, newest.targets,
        newest.timeout_ms, newest.settings
    FROM birun_scripts AS script JOIN birun_script_versions AS newest ON newest.project_id = script.project_id
        AND newest.script_id = script.id AND newest.number = script.latest) AS listed",
    kind: "script",
    columns: "id, project_id, name, description, latest, version, created_at, updated_at, interpreter, parameters, \
              targets, timeout_ms, settings",
    named: true,
};

const INSERT: &str = "INSERT INTO birun_scripts (project_id, id, short, name, description, latest, version, created_at,
    updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
const UPDATE: &str = "UPDATE birun_scripts SET name = $3, description = $4, latest = $5, version = $6, updated_at = $7
    WHERE project_id = $1 AND id = $2 AND version = $6 - 1";
const DELETE: &str = "DELETE FROM birun_scripts WHERE project_id = $1 AND id = $2 AND version = $3";

const INSERT_VERSION: &str = "INSERT INTO birun_script_versions (project_id, script_id, number, content, interpreter,
    parameters, targets, timeout_ms, settings, created_at, created_by)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
const VERSIONS: &str = "SELECT script_id, number, body, interpreter, parameters, targets, timeout_ms, settings,
    created_at, created_by FROM birun_script_versions AS version
    JOIN birun_contents AS content ON content.project_id = version.project_id AND content.hash = version.content
    WHERE version.project_id = $1 AND script_id = $2";
const VERSION_CONTENTS: &str = "SELECT content FROM birun_script_versions WHERE project_id = $1 AND script_id = $2";

const KEEP_CONTENT: &str = "INSERT INTO birun_contents (project_id, hash, body) VALUES ($1, $2, $3)
    ON CONFLICT (project_id, hash) DO NOTHING";
/// Keeps others from deleting the body until this transaction has ended, and hinders nobody else.
const HOLD_CONTENT: &str = "SELECT 1 FROM birun_contents WHERE project_id = $1 AND hash = $2 FOR KEY SHARE";
const LOCK_CONTENT: &str = "SELECT 1 FROM birun_contents WHERE project_id = $1 AND hash = $2 FOR UPDATE";
const CONTENT: &str = "SELECT body FROM birun_contents WHERE project_id = $1 AND hash = $2";
const DROP_CONTENT: &str = "DELETE FROM birun_contents WHERE project_id = $1 AND hash = $2
    AND NOT EXISTS (SELECT 1 FROM birun_script_versions WHERE project_id = $1 AND content = $2)
    AND NOT EXISTS (SELECT 1 FROM birun_executions WHERE project_id = $1 AND content = $2)";

/// Stores a body, unless it is stored already; either way it stays at least until the transaction ends.
pub(crate) async fn keep_content(tx: &mut Tx<'_>, project: ProjectId, content: &Content) -> StoreResult<()> {
    let hash = content.hash();
    loop {
        let stored = tx.exec(KEEP_CONTENT, binds![project, &hash.as_bytes()[..], content.as_str()]).await? > 0;
        // SQLite has one writer at a time. On PostgreSQL a deletion may be under way: then this waits
        // for it, and stores the body anew if it is gone.
        let kept = stored
            || tx.dialect() == Dialect::Sqlite
            || tx.one(HOLD_CONTENT, binds![project, &hash.as_bytes()[..]]).await?.is_some();
        if kept {
            return Ok(());
        }
    }
}

/// Deletes those of the bodies that nothing refers to any more.
pub(crate) async fn drop_contents(tx: &mut Tx<'_>, project: ProjectId, mut hashes: Vec<Vec<u8>>) -> StoreResult<()> {
    hashes.sort_unstable();
    hashes.dedup();
    for hash in hashes {
        // Whoever uses the body in a transaction of theirs is waited for, and seen by the next statement.
        if tx.dialect() == Dialect::Postgres {
            tx.one(LOCK_CONTENT, binds![project, hash.clone()]).await?;
        }
        tx.exec(DROP_CONTENT, binds![project, hash]).await?;
    }
    Ok(())
}

async fn create(tx: &mut Tx<'_>, project: ProjectId, script: &Script, first: &ScriptVersion) -> StoreResult<()> {
    let values = binds![
        project,
        script.id,
        short(script.id.as_uuid()),
        script.name.as_str(),
        &script.description,
        script.latest,
        script.version,
        script.created_at,
        script.updated_at,
    ];
    tx.exec(INSERT, values).await.map_err(|error| error.explain(Kind::Unique, || SCRIPTS.taken(&script.name)))?;
    add_version(tx, project, first).await
}

async fn update(
    tx: &mut Tx<'_>,
    project: ProjectId,
    script: &Script,
    added: Option<&ScriptVersion>,
) -> StoreResult<()> {
    let values = binds![
        project,
        script.id,
        script.name.as_str(),
        &script.description,
        script.latest,
        script.version,
        script.updated_at,
    ];
    let changed = tx.exec(UPDATE, values).await;
    if changed.map_err(|error| error.explain(Kind::Unique, || SCRIPTS.taken(&script.name)))? == 0 {
        return Err(SCRIPTS.stale(tx, project, script.id.as_uuid()).await?);
    }
    match added {
        Some(version) => add_version(tx, project, version).await,
        None => Ok(()),
    }
}

async fn add_version(tx: &mut Tx<'_>, project: ProjectId, version: &ScriptVersion) -> StoreResult<()> {
    let spec = &version.spec;
    keep_content(tx, project, &spec.content).await?;
    let values = binds![
        project,
        version.script_id,
        version.number,
        &spec.content.hash().as_bytes()[..],
        spec.interpreter.to_string(),
        json(&spec.parameters)?,
        spec.targets.as_ref().map(ToString::to_string),
        spec.timeout_ms,
        json(&spec.settings)?,
        version.created_at,
        &version.created_by,
    ];
    let taken = || StoreError::Conflict { why: format!("version {} of the script exists already", version.number) };
    tx.exec(INSERT_VERSION, values).await.map_err(|error| error.explain(Kind::Unique, taken))?;
    Ok(())
}

async fn delete(tx: &mut Tx<'_>, project: ProjectId, script: &Script) -> StoreResult<()> {
    let versions = tx.all(VERSION_CONTENTS, binds![project, script.id]).await?;
    let contents = read_all(&versions, |row| row.columns("birun_script_versions").bytes())?;
    if tx.exec(DELETE, binds![project, script.id, script.version]).await? == 0 {
        return Err(SCRIPTS.stale(tx, project, script.id.as_uuid()).await?);
    }
    drop_contents(tx, project, contents).await
}

fn read(row: &Row) -> StoreResult<Script> {
    read_script(&mut row.columns(SCRIPTS.name))
}

fn read_listed(row: &Row) -> StoreResult<ScriptSummary> {
    let mut columns = row.columns(SCRIPTS.name);
    Ok(ScriptSummary {
        script: read_script(&mut columns)?,
        interpreter: columns.parsed()?,
        parameters: columns.json()?,
        targets: columns.opt_parsed()?,
        timeout_ms: columns.opt_num()?,
        settings: columns.json()?,
    })
}

fn read_script(columns: &mut Columns<'_>) -> StoreResult<Script> {
    Ok(Script {
        id: ScriptId::from_uuid(columns.uuid()?),
        project_id: ProjectId::from_uuid(columns.uuid()?),
        name: columns.parsed()?,
        description: columns.text()?,
        latest: columns.num()?,
        version: columns.num()?,
        created_at: columns.at()?,
        updated_at: columns.at()?,
    })
}

fn read_version(row: &Row) -> StoreResult<ScriptVersion> {
    let mut columns = row.columns("birun_script_versions");
    let (script_id, number) = (ScriptId::from_uuid(columns.uuid()?), columns.num()?);
    let body = columns.text()?;
    let content = Content::new(body).map_err(|error| columns.corrupt(error))?;
    Ok(ScriptVersion {
        script_id,
        number,
        spec: ScriptSpec {
            content,
            interpreter: columns.parsed()?,
            parameters: columns.json()?,
            targets: columns.opt_parsed()?,
            timeout_ms: columns.opt_num()?,
            settings: columns.json()?,
        },
        created_at: columns.at()?,
        created_by: columns.text()?,
    })
}

async fn list(
    tx: &mut Tx<'_>,
    project: ProjectId,
    filter: &ScriptFilter,
    page: PageRequest,
) -> StoreResult<Page<ScriptSummary>> {
    // A name holds no character that `replace` could take for something else; LIKE would.
    let (sql, values) = List::of(&LISTED, project)
        .and_if("replace(name, ?, '') <> name", filter.name_contains.as_ref().filter(|text| !text.is_empty()))
        .page(page);
    let scripts = read_all(&tx.all(sql, values).await?, read_listed)?;
    Ok(Page::from_rows(scripts, page, |listed| listed.script.id.as_uuid()))
}

async fn version(tx: &mut Tx<'_>, project: ProjectId, script: ScriptId, number: u32) -> StoreResult<ScriptVersion> {
    match tx.one(format!("{VERSIONS} AND number = $3"), binds![project, script, number]).await? {
        Some(row) => read_version(&row),
        None => {
            // People know a script by its name, which is an id only if the script is gone too.
            let named = SCRIPTS.find(tx, project, &script.into()).await.and_then(|row| read(&row));
            let name = named.map_or_else(|_| script.to_string(), |script| script.name.to_string());
            Err(StoreError::NotFound { kind: "script version", selector: format!("{name} v{number}") })
        }
    }
}

async fn versions(
    tx: &mut Tx<'_>,
    project: ProjectId,
    script: ScriptId,
    before: Option<u32>,
    limit: u32,
) -> StoreResult<Vec<ScriptVersion>> {
    let sql = format!("{VERSIONS} AND number < $3 ORDER BY number DESC LIMIT $4");
    let rows = tx.all(sql, binds![project, script, before.unwrap_or(u32::MAX), limit]).await?;
    read_all(&rows, read_version)
}

async fn content(tx: &mut Tx<'_>, project: ProjectId, hash: &ContentHash) -> StoreResult<Content> {
    let row = tx.one(CONTENT, binds![project, &hash.as_bytes()[..]]).await?;
    let row = row.ok_or_else(|| StoreError::NotFound { kind: "script body", selector: hash.to_string() })?;
    let mut columns = row.columns("birun_contents");
    let body = columns.text()?;
    match Content::new(body) {
        Ok(content) if content.hash() == *hash => Ok(content),
        Ok(_) => Err(columns.corrupt(format!("is not the body with the hash {hash}"))),
        Err(error) => Err(columns.corrupt(error)),
    }
}

#[async_trait]
impl ScriptStore for SqlStore {
    async fn create_script(
        &self,
        scope: &Scope,
        script: &Script,
        first: &ScriptVersion,
        audit: &AuditEntry,
    ) -> StoreResult<()> {
        let args = (script.clone(), first.clone());
        let create = self
            .audited(scope, args, audit, |tx, project, (script, first)| Box::pin(create(tx, project, script, first)));
        create.await
    }

    async fn update_script(
        &self,
        scope: &Scope,
        script: &Script,
        added: Option<&ScriptVersion>,
        audit: &AuditEntry,
    ) -> StoreResult<()> {
        let args = (script.clone(), added.cloned());
        let update = self.audited(scope, args, audit, |tx, project, (script, added)| {
            Box::pin(update(tx, project, script, added.as_ref()))
        });
        update.await
    }

    async fn delete_script(&self, scope: &Scope, script: &Script, audit: &AuditEntry) -> StoreResult<()> {
        self.audited(scope, script.clone(), audit, |tx, project, script| Box::pin(delete(tx, project, script))).await
    }

    async fn script(&self, scope: &Scope, selector: &Selector) -> StoreResult<Script> {
        let args = (scope.project(), selector.clone());
        let row = self.db.read(args, |tx, (project, selector)| Box::pin(SCRIPTS.find(tx, *project, selector)));
        read(&row.await?)
    }

    async fn scripts(
        &self,
        scope: &Scope,
        filter: &ScriptFilter,
        page: PageRequest,
    ) -> StoreResult<Page<ScriptSummary>> {
        let args = (scope.project(), filter.clone(), page);
        self.db.read(args, |tx, (project, filter, page)| Box::pin(list(tx, *project, filter, *page))).await
    }

    async fn script_version(&self, scope: &Scope, script: ScriptId, number: u32) -> StoreResult<ScriptVersion> {
        let args = (scope.project(), script, number);
        self.db.read(args, |tx, (project, script, number)| Box::pin(version(tx, *project, *script, *number))).await
    }

    async fn script_versions(
        &self,
        scope: &Scope,
        script: ScriptId,
        before: Option<u32>,
        limit: u32,
    ) -> StoreResult<Vec<ScriptVersion>> {
        let args = (scope.project(), script, before, limit);
        let list = self.db.read(args, |tx, (project, script, before, limit)| {
            Box::pin(versions(tx, *project, *script, *before, *limit))
        });
        list.await
    }

    async fn content(&self, scope: &Scope, hash: &ContentHash) -> StoreResult<Content> {
        let args = (scope.project(), *hash);
        self.db.read(args, |tx, (project, hash)| Box::pin(content(tx, *project, hash))).await
    }
}
