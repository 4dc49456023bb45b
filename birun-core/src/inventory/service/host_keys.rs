//! Host keys: what people decide about them.

use serde_json::json;

use crate::error::{Error, ErrorCode, Result};
use crate::gate::Gate;
use crate::id::{HostKeyId, Selector};
use crate::identity::Permission;
use crate::inventory::{HostKey, HostKeyOrigin, HostKeyStatus, NewHostKey, OfferedKey};
use crate::page::{Page, PageRequest};

impl Gate {
    /// Records a key that someone knows to be right: it is approved at once.
    ///
    /// # Errors
    /// `invalid` for a line that is no key; `not_found` for the server; `conflict` if it is recorded.
    pub async fn create_host_key(&self, new: NewHostKey) -> Result<HostKey> {
        let scope = self.authorize(Permission::HostKeyApprove).await?;
        let offered = OfferedKey::parse(&new.public_key)?;
        let server = self.shared.store.server(&scope, &new.server).await?;
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

    /// Trusts a recorded key from now on.
    ///
    /// # Errors
    /// `not_found`; `conflict` for a revoked key.
    pub async fn approve_host_key(&self, selector: &Selector) -> Result<HostKey> {
        self.decide(selector, HostKeyStatus::Approved).await
    }

    /// Never trusts a recorded key again.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn revoke_host_key(&self, selector: &Selector) -> Result<HostKey> {
        self.decide(selector, HostKeyStatus::Revoked).await
    }

    async fn decide(&self, selector: &Selector, status: HostKeyStatus) -> Result<HostKey> {
        let scope = self.authorize(Permission::HostKeyApprove).await?;
        let old = self.shared.store.host_key(&scope, selector).await?;
        if old.status == status {
            return Ok(old);
        }
        if old.status == HostKeyStatus::Revoked {
            return Err(Error::new(ErrorCode::Conflict, format!("the key {} was revoked", old.fingerprint)).with_hint(
                "delete the record if the revocation was a mistake; the key can be approved when it is offered again",
            ));
        }
        let mut key = old.clone();
        key.status = status;
        key.version += 1;
        key.updated_at = self.shared.clock.now();
        let verb = if status == HostKeyStatus::Approved { "host_key.approve" } else { "host_key.revoke" };
        let audit = self.audit(verb).on(key.id, key.fingerprint.as_str()).before(json!(old)).after(json!(key));
        self.shared.store.update_host_key(&scope, &key, &audit).await?;
        Ok(key)
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
