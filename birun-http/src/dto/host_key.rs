//! Host keys on the wire.

use std::collections::HashMap;

use birun_core::Result;
use birun_core::id::ServerId;
use birun_core::inventory::{self, HostKeyOrigin, HostKeyStatus};
use birun_core::name::Name;
use poem_openapi::Object;
use serde::Deserialize;
use uuid::Uuid;

use crate::dto::parsed;
use crate::schema::{Timestamp, Word};

/// A key that a server offered or that someone recorded for it.
#[derive(Debug, Object)]
pub(crate) struct HostKey {
    id: Uuid,
    /// The last eight hex digits of the id.
    short_id: String,
    project_id: Uuid,
    server_id: Uuid,
    /// The server's name.
    #[oai(nullable)]
    server: Option<String>,
    /// For example `ssh-ed25519`.
    algorithm: String,
    /// The public key in base64, as in a `known_hosts` line.
    key: String,
    /// `SHA256:…`
    fingerprint: String,
    status: Word<HostKeyStatus>,
    origin: Word<HostKeyOrigin>,
    /// Rises by one with each change.
    version: u64,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl HostKey {
    pub(crate) fn of(key: inventory::HostKey, servers: &HashMap<ServerId, Name>) -> Self {
        Self {
            id: key.id.as_uuid(),
            short_id: key.id.short(),
            project_id: key.project_id.as_uuid(),
            server_id: key.server_id.as_uuid(),
            server: servers.get(&key.server_id).map(Name::to_string),
            algorithm: key.algorithm,
            key: key.key,
            fingerprint: key.fingerprint,
            status: Word(key.status),
            origin: Word(key.origin),
            version: key.version,
            created_at: key.created_at.into(),
            updated_at: key.updated_at.into(),
        }
    }
}

/// A host key that someone knows to be right.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewHostKey {
    /// The server, by name or id.
    server: String,
    /// A public key line: `ssh-ed25519 AAAA… [comment]`.
    public_key: String,
    /// `approved`, if not given, or `revoked`.
    status: Option<Word<HostKeyStatus>>,
}

impl NewHostKey {
    pub(crate) fn into_core(self) -> Result<inventory::NewHostKey> {
        Ok(inventory::NewHostKey {
            server: parsed("server", &self.server)?,
            public_key: self.public_key,
            status: self.status.map_or(HostKeyStatus::Approved, |Word(status)| status),
        })
    }
}
