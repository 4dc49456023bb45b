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

/// A key is decided about twice at most: approved, then revoked. So that often someone else can come first.
const DECISIONS: u32 = 3;

impl Gate {
    /// Records a key that someone knows to be right, or to be lost: it is approved or revoked at once. One that the server has
    /// offered, and that waits for a decision, is approved as [`approve_host_key`](Gate::approve_host_key)
    /// does it; any other is trusted beside those that are approved already.
    ///
    /// # Errors
    /// `invalid` for a line that is no key, and for a key that is neither; `not_found` for the server; `conflict` if it is approved
    /// already, or revoked.
    pub async fn create_host_key(&self, new: NewHostKey) -> Result<HostKey> {
        let scope = self.authorize(Permission::HostKeyApprove).await?;
        let status = new.status;
        if status == HostKeyStatus::Pending {
            return Err(Error::invalid_field("status", "must be approved or revoked"));
        }
        let offered = OfferedKey::parse(&new.public_key)?;
        let server = self.shared.store.server(&scope, &new.server).await?;
        let known = self.shared.store.host_keys_of(&scope, &[server.id]).await?;
        let decided = |key: &HostKey| key.key == offered.key && key.status != status;
        if let Some(known) = known.into_iter().find(decided) {
            return self.decide(&known.id.into(), status).await;
        }
        let now = self.shared.clock.now();
        let key = HostKey {
            id: HostKeyId::new(),
            project_id: scope.project(),
            server_id: server.id,
            algorithm: offered.algorithm,
            key: offered.key,
            fingerprint: offered.fingerprint,
            status,
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
    /// `not_found`; `conflict` for a revoked key, and if others keep deciding about the server's keys.
    pub async fn approve_host_key(&self, selector: &Selector) -> Result<HostKey> {
        self.decide(selector, HostKeyStatus::Approved).await
    }

    /// Never trusts a recorded key again.
    ///
    /// # Errors
    /// `not_found`; `conflict` if others keep deciding about it.
    pub async fn revoke_host_key(&self, selector: &Selector) -> Result<HostKey> {
        self.decide(selector, HostKeyStatus::Revoked).await
    }

    /// Decides about a key as it stands. When someone else decided meanwhile, that came first: then it is
    /// looked at again, so that of an approval and a revocation at once the revocation holds.
    async fn decide(&self, selector: &Selector, status: HostKeyStatus) -> Result<HostKey> {
        let scope = self.authorize(Permission::HostKeyApprove).await?;
        let mut key = self.shared.store.host_key(&scope, selector).await?;
        for _ in 1..DECISIONS {
            match self.decide_as_it_stands(&scope, key.clone(), status).await {
                Err(error) if error.code() == ErrorCode::StaleVersion => {}
                decided => return decided,
            }
            key = self.shared.store.host_key(&scope, &key.id.into()).await?;
        }
        self.decide_as_it_stands(&scope, key, status).await.map_err(at_once)
    }

    async fn decide_as_it_stands(&self, scope: &Scope, key: HostKey, status: HostKeyStatus) -> Result<HostKey> {
        if key.status == status {
            return Ok(key);
        }
        if status == HostKeyStatus::Approved {
            return self.approve(scope, key).await;
        }
        let (key, audit) = self.decided(&key, status, self.shared.clock.now());
        self.shared.store.update_host_key(scope, &key, &audit).await?;
        Ok(key)
    }

    /// Approves a key and retires those whose place it takes. `stale_version` if one of them has changed.
    async fn approve(&self, scope: &Scope, old: HostKey) -> Result<HostKey> {
        if old.status == HostKeyStatus::Revoked {
            return Err(revoked(&old));
        }
        let now = self.shared.clock.now();
        let (key, audit) = self.decided(&old, HostKeyStatus::Approved, now);
        let mut audit = vec![audit];
        let mut retired = Vec::new();
        for former in self.shared.store.host_keys_of(scope, &[old.server_id]).await? {
            if former.status == HostKeyStatus::Approved && former.algorithm == old.algorithm {
                let (former, entry) = self.decided(&former, HostKeyStatus::Revoked, now);
                retired.push(former);
                audit.push(entry);
            }
        }
        self.shared.store.approve_host_key(scope, &key, &retired, &audit).await?;
        Ok(key)
    }

    /// A key after a decision about it, and the entry that tells of it.
    fn decided(&self, old: &HostKey, status: HostKeyStatus, now: DateTime<Utc>) -> (HostKey, AuditEntry) {
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

fn at_once(error: Error) -> Error {
    if error.code() != ErrorCode::StaleVersion {
        return error;
    }
    Error::new(ErrorCode::Conflict, "others decide about the server's host keys at the same time")
        .with_hint("look at them with  birun server host-key list,  then decide again")
}

fn revoked(key: &HostKey) -> Error {
    Error::new(ErrorCode::Conflict, format!("the key {} was revoked", key.fingerprint)).with_hint(
        "delete the record if the revocation was a mistake; the key can be approved when it is offered again",
    )
}
