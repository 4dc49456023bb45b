//! Server groups on the wire.

use birun_core::Result;
use birun_core::inventory::{self, HostKeyPolicy};
use poem_openapi::Object;
use poem_openapi::types::MaybeUndefined;
use serde::Deserialize;
use uuid::Uuid;

use crate::dto::{new_value, parsed};
use crate::schema::{Timestamp, Word};

/// A named set of servers.
#[derive(Debug, Object)]
#[oai(rename = "ServerGroup")]
pub(crate) struct Group {
    id: Uuid,
    /// The last eight hex digits of the id.
    short_id: String,
    project_id: Uuid,
    /// Unique in the project.
    name: String,
    /// For people.
    description: String,
    /// How unknown host keys of its servers are met; `null` leaves it to the executor. Where a server's groups
    /// differ, the stricter policy holds.
    #[oai(nullable)]
    host_key_policy: Option<Word<HostKeyPolicy>>,
    /// Rises by one with each change; the `ETag` says it too.
    version: u64,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<inventory::Group> for Group {
    fn from(group: inventory::Group) -> Self {
        Self {
            id: group.id.as_uuid(),
            short_id: group.id.short(),
            project_id: group.project_id.as_uuid(),
            name: group.name.to_string(),
            description: group.description,
            host_key_policy: group.host_key_policy.map(Word),
            version: group.version,
            created_at: group.created_at.into(),
            updated_at: group.updated_at.into(),
        }
    }
}

/// A server group to be created.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(rename = "NewServerGroup")]
pub(crate) struct NewGroup {
    /// Unique in the project.
    name: String,
    /// For people.
    #[serde(default)]
    #[oai(default)]
    description: String,
    /// How unknown host keys of its servers are met.
    #[oai(nullable)]
    host_key_policy: Option<Word<HostKeyPolicy>>,
}

impl NewGroup {
    pub(crate) fn into_core(self) -> Result<inventory::NewGroup> {
        Ok(inventory::NewGroup {
            name: parsed("name", &self.name)?,
            description: self.description,
            host_key_policy: self.host_key_policy.map(|word| word.0),
        })
    }
}

/// A change of a server group: what is left out stays.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(rename = "ServerGroupPatch")]
pub(crate) struct GroupPatch {
    /// The new name.
    name: Option<String>,
    /// The new description.
    description: Option<String>,
    /// The new policy; `null` takes it away.
    #[serde(default)]
    #[oai(nullable)]
    host_key_policy: MaybeUndefined<Word<HostKeyPolicy>>,
}

impl GroupPatch {
    pub(crate) fn into_core(self) -> Result<inventory::GroupPatch> {
        Ok(inventory::GroupPatch {
            name: self.name.map(|text| parsed("name", &text)).transpose()?,
            description: self.description,
            host_key_policy: new_value(self.host_key_policy, |word| Ok(word.0))?,
        })
    }
}
