//! Host keys.

use std::collections::HashMap;

use birun_core::id::ServerId;
use birun_core::name::Name;
use birun_core::{Gate, Result, inventory};
use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::{Path, Query};

use crate::answer::errors::{BODY, CONFLICT, FORBIDDEN, INVALID, MALFORMED, SELECTED};
use crate::answer::{ApiError, Created, Deleted, Links, Listed, Versioned, page_request};
use crate::auth::Caller;
use crate::body::Body;
use crate::document::Tag;
use crate::dto::host_key::{HostKey, NewHostKey};
use crate::dto::parsed;

/// The list's name in paths.
const LIST: &str = "host-keys";

/// Operations on host keys.
pub(crate) struct HostKeys;

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::HostKeys")]
impl HostKeys {
    /// List host keys
    #[oai(path = "/host-keys", method = "get", operation_id = "list_host_keys")]
    async fn list(
        &self,
        Caller(gate): Caller,
        /// Items on the page: 1 to 200, default 50.
        limit: Query<Option<u32>>,
        /// The `next` of the page before.
        cursor: Query<Option<String>>,
        /// Only keys of this server, by name or id.
        server: Query<Option<String>>,
    ) -> Result<Listed<HostKey>, ApiError<{ MALFORMED | CONFLICT | INVALID }>> {
        let server = server.0.map(|text| parsed("server", &text)).transpose()?;
        let page = gate.host_keys(server.as_ref(), page_request(LIST, limit.0, cursor.0.as_deref())?).await?;
        let names = server_names(&gate, &page.items).await?;
        Ok(Listed::of(LIST, page, |key| HostKey::of(key, &names)))
    }

    /// Record a host key
    ///
    /// Someone knows it to be right: it is approved at once. One that is pending is approved as `approve` does it; any
    /// other is trusted beside those that are approved already.
    #[oai(path = "/host-keys", method = "post", operation_id = "create_host_key")]
    async fn create(
        &self,
        Caller(gate): Caller,
        Data(links): Data<&Links>,
        body: Body<NewHostKey>,
    ) -> Result<Created<HostKey>, ApiError<{ BODY | FORBIDDEN | CONFLICT }>> {
        let key = gate.create_host_key(body.0.into_core()?).await?;
        let (id, version) = (key.id, key.version);
        Ok(Created::at(links.to("host-keys", id), shown(&gate, key).await?, version))
    }

    /// Get a host key
    #[oai(path = "/host-keys/:id", method = "get", operation_id = "get_host_key")]
    async fn get(
        &self,
        Caller(gate): Caller,
        /// Id, or part of an id.
        id: Path<String>,
    ) -> Result<Versioned<HostKey>, ApiError<SELECTED>> {
        let key = gate.host_key(&id.parse()?).await?;
        versioned(&gate, key).await
    }

    /// Approve a host key
    ///
    /// It is trusted from now on, and takes the place of the server's approved keys of the same algorithm, which are
    /// revoked. A revoked key is refused (409).
    #[oai(path = "/host-keys/:id/approve", method = "post", operation_id = "approve_host_key")]
    async fn approve(
        &self,
        Caller(gate): Caller,
        /// Id, or part of an id.
        id: Path<String>,
    ) -> Result<Versioned<HostKey>, ApiError<{ SELECTED | FORBIDDEN }>> {
        let key = gate.approve_host_key(&id.parse()?).await?;
        versioned(&gate, key).await
    }

    /// Revoke a host key
    ///
    /// It is never trusted again.
    #[oai(path = "/host-keys/:id/revoke", method = "post", operation_id = "revoke_host_key")]
    async fn revoke(
        &self,
        Caller(gate): Caller,
        /// Id, or part of an id.
        id: Path<String>,
    ) -> Result<Versioned<HostKey>, ApiError<{ SELECTED | FORBIDDEN }>> {
        let key = gate.revoke_host_key(&id.parse()?).await?;
        versioned(&gate, key).await
    }

    /// Forget a host key
    #[oai(path = "/host-keys/:id", method = "delete", operation_id = "delete_host_key")]
    async fn delete(
        &self,
        Caller(gate): Caller,
        /// Id, or part of an id.
        id: Path<String>,
    ) -> Result<Deleted, ApiError<{ SELECTED | FORBIDDEN }>> {
        gate.delete_host_key(&id.parse()?).await?;
        Ok(Deleted::Deleted)
    }
}

async fn versioned<const E: u16>(gate: &Gate, key: inventory::HostKey) -> Result<Versioned<HostKey>, ApiError<E>> {
    let version = key.version;
    Ok(Versioned::of(shown(gate, key).await?, version))
}

async fn shown(gate: &Gate, key: inventory::HostKey) -> Result<HostKey> {
    let names = server_names(gate, std::slice::from_ref(&key)).await?;
    Ok(HostKey::of(key, &names))
}

async fn server_names(gate: &Gate, keys: &[inventory::HostKey]) -> Result<HashMap<ServerId, Name>> {
    let mut ids: Vec<ServerId> = keys.iter().map(|key| key.server_id).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() { Ok(HashMap::new()) } else { gate.server_names(&ids).await }
}
