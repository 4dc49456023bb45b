//! Everything that is sealed, for the rotation of keys.

use async_trait::async_trait;
use birun_core::audit::AuditEntry;
use birun_core::gate::Scope;
use birun_core::id::{CredentialId, ExecutionId, ProjectId};
use birun_core::store::{StoreError, StoreResult};
use birun_core::vault::{KEY_CHECK, KEY_NEXT, Place, Sealed, SealedValue, VaultStore};
use uuid::Uuid;

use crate::SqlStore;
use crate::sql::{Row, Tx, binds};

/// A column that holds sealed values.
struct Column {
    table: &'static str,
    place: fn(ProjectId, Uuid, u64) -> Place<'static>,
    list: &'static str,
    reseal: &'static str,
}

/// Every such column, in the order in which places are listed.
static COLUMNS: [Column; 3] = [
    Column {
        table: "birun_credentials",
        place: |project, row, version| Place::credential(project, CredentialId::from_uuid(row), version),
        list: "SELECT id, project_id, version, sealed FROM birun_credentials WHERE (project_id, id) > ($1, $2)
            AND substr(sealed, 1, CAST($3 AS INTEGER)) <> $4 ORDER BY project_id, id LIMIT $5",
        reseal: "UPDATE birun_credentials SET sealed = $4 WHERE project_id = $1 AND id = $2 AND sealed = $3",
    },
    Column {
        table: "birun_executions",
        place: |project, row, _| Place::secret_params(project, ExecutionId::from_uuid(row)),
        list: "SELECT id, project_id, epoch, secrets FROM birun_executions WHERE (project_id, id) > ($1, $2)
            AND secrets IS NOT NULL AND substr(secrets, 1, CAST($3 AS INTEGER)) <> $4
            ORDER BY project_id, id LIMIT $5",
        reseal: "UPDATE birun_executions SET secrets = $4 WHERE project_id = $1 AND id = $2 AND secrets = $3",
    },
    // One value, which comes after nothing but the beginning of the column.
    Column {
        table: "birun_settings",
        place: |_, _, _| Place::audit_chain_key(),
        list: "SELECT $2, $1, CAST(1 AS BIGINT), value FROM birun_settings WHERE key = 'audit.chain_key' AND $1 = $2
            AND substr(value, 1, CAST($3 AS INTEGER)) <> $4 LIMIT $5",
        reseal: "UPDATE birun_settings SET value = $4 WHERE $1 = $1 AND $2 = $2 AND key = 'audit.chain_key'
            AND value = $3",
    },
];

const SET: &str = "INSERT INTO birun_settings (key, value) VALUES ($1, $2)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value";
const ACCEPT: &str = "INSERT INTO birun_settings (key, value)
    SELECT $1, value FROM birun_settings WHERE key = $2 AND value = $3
    ON CONFLICT (key) DO UPDATE SET value = excluded.value";
const UNSET: &str = "DELETE FROM birun_settings WHERE key = $1 AND value = $2";

type Listing = (Vec<u8>, Option<Place<'static>>, u32);

async fn list(tx: &mut Tx<'_>, (mark, after, limit): &Listing) -> StoreResult<Vec<SealedValue>> {
    let begin = after.map_or(0, |place| position(place).unwrap_or(COLUMNS.len()));
    let mut from = after.map_or((Uuid::nil(), Uuid::nil()), |place| (place.project.as_uuid(), place.row));
    let mut values = Vec::new();
    for column in COLUMNS.iter().skip(begin) {
        let room = u64::from(*limit) - values.len() as u64;
        let rows = tx.all(column.list, binds![from.0, from.1, mark.len() as u64, mark.as_slice(), room]).await?;
        for row in &rows {
            values.push(read(column, row)?);
        }
        if values.len() as u64 >= u64::from(*limit) {
            break;
        }
        from = (Uuid::nil(), Uuid::nil());
    }
    Ok(values)
}

fn position(place: Place<'_>) -> Option<usize> {
    COLUMNS.iter().position(|column| column.table == place.table)
}

fn read(column: &Column, row: &Row) -> StoreResult<SealedValue> {
    let mut columns = row.columns(column.table);
    let (id, project, version) = (columns.uuid()?, ProjectId::from_uuid(columns.uuid()?), columns.num()?);
    Ok(SealedValue { place: (column.place)(project, id, version), sealed: Sealed::from_bytes(columns.bytes()?) })
}

type Change = (Place<'static>, Sealed, Sealed);

/// No two sealed values are alike, so that the old value stands for the version of the row as well.
async fn reseal(tx: &mut Tx<'_>, (place, old, new): &Change) -> StoreResult<bool> {
    let column = position(*place).and_then(|index| COLUMNS.get(index));
    let column = column.ok_or_else(|| StoreError::Conflict { why: format!("nothing is sealed in {}", place.table) })?;
    let values = binds![place.project, place.row, old.as_bytes(), new.as_bytes()];
    Ok(tx.exec(column.reseal, values).await? > 0)
}

async fn begin(tx: &mut Tx<'_>, proof: &[u8]) -> StoreResult<()> {
    tx.exec(SET, binds![KEY_NEXT, proof]).await?;
    Ok(())
}

async fn accept(tx: &mut Tx<'_>, proof: &[u8]) -> StoreResult<()> {
    if tx.exec(ACCEPT, binds![KEY_CHECK, KEY_NEXT, proof]).await? == 0 {
        return Err(StoreError::Stale { kind: "master key" });
    }
    Ok(())
}

async fn end(tx: &mut Tx<'_>, proof: &[u8]) -> StoreResult<()> {
    tx.exec(UNSET, binds![KEY_NEXT, proof]).await?;
    Ok(())
}

#[async_trait]
impl VaultStore for SqlStore {
    async fn sealed_values(
        &self,
        mark: &[u8],
        after: Option<Place<'static>>,
        limit: u32,
    ) -> StoreResult<Vec<SealedValue>> {
        self.db.read((mark.to_vec(), after, limit), |tx, args| Box::pin(list(tx, args))).await
    }

    async fn reseal(&self, place: Place<'static>, old: &Sealed, new: &Sealed) -> StoreResult<bool> {
        self.db.write((place, old.clone(), new.clone()), |tx, args| Box::pin(reseal(tx, args))).await
    }

    async fn begin_rekey(&self, scope: &Scope, proof: &[u8], audit: &AuditEntry) -> StoreResult<()> {
        self.audited(scope, proof.to_vec(), audit, |tx, _, proof| Box::pin(begin(tx, proof))).await
    }

    async fn finish_rekey(&self, scope: &Scope, proof: &[u8], audit: &AuditEntry) -> StoreResult<()> {
        self.audited(scope, proof.to_vec(), audit, |tx, _, proof| Box::pin(accept(tx, proof))).await?;
        // What the old key had sealed is not to lie about in the write-ahead log. Only then is it over,
        // so that a crash in between does not leave it there.
        self.db.give_back_space().await;
        self.db.write(proof.to_vec(), |tx, proof| Box::pin(end(tx, proof))).await
    }
}
