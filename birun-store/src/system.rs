//! Facts about the installation as a whole.

use async_trait::async_trait;
use birun_core::store::{StoreError, StoreResult, SystemStore};

use crate::sql::{Tx, binds};
use crate::{SqlStore, migrate};

const GET: &str = "SELECT value FROM birun_settings WHERE key = $1";
const INIT: &str = "INSERT INTO birun_settings (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING";

async fn get(tx: &mut Tx<'_>, key: &String) -> StoreResult<Option<Vec<u8>>> {
    let row = tx.one(GET, binds![key]).await?;
    row.map(|row| row.columns("birun_settings").bytes()).transpose()
}

async fn init(tx: &mut Tx<'_>, key: &String, value: &[u8]) -> StoreResult<Vec<u8>> {
    tx.exec(INIT, binds![key, value]).await?;
    get(tx, key).await?.ok_or_else(|| StoreError::Conflict { why: format!("the setting `{key}` vanished") })
}

#[async_trait]
impl SystemStore for SqlStore {
    async fn check(&self) -> StoreResult<()> {
        self.db.read((), |tx, ()| Box::pin(migrate::check(tx))).await?;
        self.db.is_migrated();
        Ok(())
    }

    async fn setting(&self, key: &str) -> StoreResult<Option<Vec<u8>>> {
        self.db.read(key.to_owned(), |tx, key| Box::pin(get(tx, key))).await
    }

    async fn init_setting(&self, key: &str, value: &[u8]) -> StoreResult<Vec<u8>> {
        let args = (key.to_owned(), value.to_vec());
        self.db.write(args, |tx, (key, value)| Box::pin(init(tx, key, value))).await
    }
}
