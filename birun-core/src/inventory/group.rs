//! Server groups: named sets of servers, with what they have in common.

use chrono::{DateTime, Utc};

use crate::id::{GroupId, ProjectId};
use crate::inventory::HostKeyPolicy;
use crate::name::Name;

/// A named set of servers.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Group {
    /// Identifies the group.
    pub id: GroupId,
    /// The project it belongs to.
    pub project_id: ProjectId,
    /// Unique in the project.
    pub name: Name,
    /// For people.
    pub description: String,
    /// How unknown host keys of its servers are met; `None` leaves it to the executor's default.
    /// Where a server's groups differ, the stricter policy holds.
    pub host_key_policy: Option<HostKeyPolicy>,
    /// Rises by one with each change.
    pub version: u64,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

/// A group to be created.
#[derive(Clone, Debug)]
pub struct NewGroup {
    /// See [`Group::name`].
    pub name: Name,
    /// See [`Group::description`].
    pub description: String,
    /// See [`Group::host_key_policy`].
    pub host_key_policy: Option<HostKeyPolicy>,
}

/// A change of a group: what is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct GroupPatch {
    /// The new name.
    pub name: Option<Name>,
    /// The new description.
    pub description: Option<String>,
    /// The new policy; `Some(None)` takes it away.
    pub host_key_policy: Option<Option<HostKeyPolicy>>,
}
