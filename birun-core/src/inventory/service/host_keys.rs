//! Host keys: what people decide about them.

use chrono::{DateTime, Utc};
use serde_json::json;

use crate::audit::AuditEntry;
use crate::error::{Error, ErrorCode, Result};
use crate::gate::{Gate, Scope};
use crate::id::{HostKeyId, Selector};
use crate::identity::Permission;
use crate::inventory::{HostKey, HostKeyOrigin, HostKeyStatus, NewHostKey, OfferedKey};
use crate::page::{Page, PageRequest};
use crate::store::StoreError;

impl Gate {
    /// Records a key that someone knows to be right: it is approved at once. One that the server has
    /// offered, and that waits for a decision, is approved as [`approve_host_key`](Gate::approve_host_key)
    /// does it; any other is trusted beside those that are approved already.
    ///
    /// # Errors
    /// `invalid` for a line that is no key; `not_found` for the server; `conflict` if it is approved
    /// already, or revoked.
    pub async fn create_host_key(&self, new: NewHostKey) -> Result<HostKey> {
        let scope = self.authorize(Permission::HostKeyApprove).await?;
        let offered = OfferedKey::parse(&new.public_key)?;
        let server = self.shared.store.server(&scope, &new.server).await?;
        let known = self.shared.store.host_keys_of(&scope, &[server.id]).await?;
        let decided = |key: &HostKey| key.key == offered.key && key.status != HostKeyStatus::Approved;
        if let Some(known) = known.into_iter().find(decided) {
            return self.approve(&scope, known).await;
        }
        let now = self.shared.clock.now();
        let key = HostKey {
            id: HostKeyId::new(),
            project_id: scope.project(),
            server_id: server.id,
            algorithm: offered.algorithm,
            key: offered.key,
            fingerprint: offered.fingerprint,
            status: HostKeyStatus::Approved,
            origin: HostKeyOrigin::Manual,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        let audit = self.audit("host_key.create").on(key.id, server.name.as_str()).after(json!(key));
        self.shared.store.create_host_key(&scope, &key, &audit).await?;
        Ok(key)
    }

    /// Trusts a recorded key from now on. It takes the place of the server's approved keys of the same
    /// algorithm, which are revoked with it: a key that was replaced is nobody's any more.
    ///
    /// # Errors
    /// `not_found`; `conflict` for a revoked key, and if someone decides about the server's keys at the same time.
    pub async fn approve_host_key(&self, selector: &Selector) -> Result<HostKey> {
        let scope = self.authorize(Permission::HostKeyApprove).await?;
        let key = self.shared.store.host_key(&scope, selector).await?;
        self.approve(&scope, key).await
    }

    /// Never trusts a recorded key again.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn revoke_host_key(&self, selector: &Selector) -> Result<HostKey> {
        let scope = self.authorize(Permission::HostKeyApprove).await?;
        let old = self.shared.store.host_key(&scope, selector).await?;
        if old.status == HostKeyStatus::Revoked {
            return Ok(old);
        }
        let (key, audit) = self.decide(&old, HostKeyStatus::Revoked, self.shared.clock.now());
        self.shared.store.update_host_key(&scope, &key, &audit).await?;
        Ok(key)
    }

    async fn approve(&self, scope: &Scope, old: HostKey) -> Result<HostKey> {
        match old.status {
            HostKeyStatus::Approved => return Ok(old),
            HostKeyStatus::Pending => {}
            HostKeyStatus::Revoked => return Err(revoked(&old)),
        }
        let now = self.shared.clock.now();
        let (key, audit) = self.decide(&old, HostKeyStatus::Approved, now);
        let mut audit = vec![audit];
        let mut retired = Vec::new();
        for former in self.shared.store.host_keys_of(scope, &[old.server_id]).await? {
            if former.status == HostKeyStatus::Approved && former.algorithm == old.algorithm {
                let (former, entry) = self.decide(&former, HostKeyStatus::Revoked, now);
                retired.push(former);
                audit.push(entry);
            }
        }
        match self.shared.store.approve_host_key(scope, &key, &retired, &audit).await {
            Ok(()) => Ok(key),
            Err(StoreError::Stale { .. }) => Err(at_once(&key)),
            Err(error) => Err(error.into()),
        }
    }

    /// A key after a decision about it, and the entry that tells of it.
    fn decide(&self, old: &HostKey, status: HostKeyStatus, now: DateTime<Utc>) -> (HostKey, AuditEntry) {
        let mut key = old.clone();
        key.status = status;
        key.version += 1;
        key.updated_at = now;
        let verb = if status == HostKeyStatus::Approved { "host_key.approve" } else { "host_key.revoke" };
        let audit = self.audit(verb).on(key.id, key.fingerprint.as_str()).before(json!(old)).after(json!(key));
        (key, audit)
    }

    /// Forgets a recorded key, whatever was decided about it.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn delete_host_key(&self, selector: &Selector) -> Result<()> {
        let scope = self.authorize(Permission::HostKeyApprove).await?;
        let key = self.shared.store.host_key(&scope, selector).await?;
        let audit = self.audit("host_key.delete").on(key.id, key.fingerprint.as_str()).before(json!(key));
        Ok(self.shared.store.delete_host_key(&scope, &key, &audit).await?)
    }

    /// One recorded key.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn host_key(&self, selector: &Selector) -> Result<HostKey> {
        let scope = self.authorize(Permission::HostKeyRead).await?;
        Ok(self.shared.store.host_key(&scope, selector).await?)
    }

    /// Recorded keys, newest first; of one server if given.
    ///
    /// # Errors
    /// `not_found` for the server.
    pub async fn host_keys(&self, server: Option<&Selector>, page: PageRequest) -> Result<Page<HostKey>> {
        let scope = self.authorize(Permission::HostKeyRead).await?;
        let server = match server {
            Some(selector) => Some(self.shared.store.server(&scope, selector).await?.id),
            None => None,
        };
        Ok(self.shared.store.host_keys(&scope, server, page).await?)
    }
}

fn at_once(key: &HostKey) -> Error {
    let why = format!("someone decided about the server's host keys while {} was to be approved", key.fingerprint);
    Error::new(ErrorCode::Conflict, why).with_hint("look at them with  birun server host-key list,  then decide again")
}

fn revoked(key: &HostKey) -> Error {
    Error::new(ErrorCode::Conflict, format!("the key {} was revoked", key.fingerprint)).with_hint(
        "delete the record if the revocation was a mistake; the key can be approved when it is offered again",
    )
}
