//! Servers on the wire.

use std::collections::HashMap;

use birun_core::Result;
use birun_core::id::GroupId;
use birun_core::inventory;
use birun_core::name::Name;
use poem_openapi::Object;
use poem_openapi::types::MaybeUndefined;
use serde::Deserialize;
use uuid::Uuid;

use crate::dto::{each, new_value, parsed};
use crate::schema::{Timestamp, Word, in_field};

/// A machine that work can be run on.
#[derive(Debug, Object)]
pub(crate) struct Server {
    id: Uuid,
    /// The last eight hex digits of the id.
    short_id: String,
    project_id: Uuid,
    /// Unique in the project.
    name: String,
    /// Host name or address.
    host: String,
    /// TCP port.
    port: u16,
    /// The user to sign in as.
    user: String,
    /// The credential to sign in with.
    #[oai(nullable)]
    credential_id: Option<Uuid>,
    /// The name of the executor that reaches it.
    executor: String,
    /// Sorted.
    tags: Vec<String>,
    /// The names of the groups it is in, sorted.
    groups: Vec<String>,
    /// In maintenance: executions that are accepted meanwhile leave it out, whatever names it.
    maintenance: bool,
    /// For people.
    description: String,
    /// Rises by one with each change; the `ETag` says it too.
    version: u64,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl Server {
    /// A server of the core's. A group that was deleted meanwhile is left out.
    pub(crate) fn of(server: inventory::Server, names: &HashMap<GroupId, Name>) -> Self {
        let mut groups: Vec<String> =
            server.group_ids.iter().filter_map(|id| names.get(id)).map(Name::to_string).collect();
        groups.sort_unstable();
        Self {
            id: server.id.as_uuid(),
            short_id: server.id.short(),
            project_id: server.project_id.as_uuid(),
            name: server.name.to_string(),
            host: server.host,
            port: server.port,
            user: server.user,
            credential_id: server.credential_id.map(Uuid::from),
            executor: server.executor,
            tags: server.tags.iter().map(ToString::to_string).collect(),
            groups,
            maintenance: server.maintenance,
            description: server.description,
            version: server.version,
            created_at: server.created_at.into(),
            updated_at: server.updated_at.into(),
        }
    }
}

/// A server to be created.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewServer {
    /// Unique in the project.
    name: String,
    /// Host name or address, without brackets.
    host: String,
    /// TCP port; 22 if not given.
    port: Option<u16>,
    /// The user to sign in as.
    user: String,
    /// The credential to sign in with: its name or id.
    credential: Option<String>,
    /// The executor that reaches it; `ssh` if not given.
    executor: Option<String>,
    /// At most 64.
    #[serde(default)]
    #[oai(default)]
    tags: Vec<String>,
    /// The groups to be in: their names or ids.
    #[serde(default)]
    #[oai(default)]
    groups: Vec<String>,
    /// In maintenance: executions that are accepted meanwhile leave it out, whatever names it.
    #[serde(default)]
    #[oai(default)]
    maintenance: bool,
    /// For people.
    #[serde(default)]
    #[oai(default)]
    description: String,
}

impl NewServer {
    pub(crate) fn into_core(self) -> Result<inventory::NewServer> {
        Ok(inventory::NewServer {
            name: parsed("name", &self.name)?,
            host: self.host,
            port: self.port,
            user: self.user,
            credential: self.credential.map(|text| parsed("credential", &text)).transpose()?,
            executor: self.executor,
            tags: each("tags", &self.tags)?,
            groups: each("groups", &self.groups)?,
            maintenance: self.maintenance,
            description: self.description,
        })
    }
}

/// Servers that another tool knows.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
pub(crate) struct Import {
    /// At most 1000.
    servers: Vec<NewServer>,
    /// Add nothing, and say what would become of them.
    #[serde(default)]
    #[oai(default)]
    dry_run: bool,
}

impl Import {
    pub(crate) fn into_core(self) -> Result<(Vec<inventory::NewServer>, bool)> {
        let servers = self.servers.into_iter().zip(0..);
        let servers = servers.map(|(server, at)| in_field(&format!("servers.{at}"), server.into_core()));
        Ok((servers.collect::<Result<_>>()?, self.dry_run))
    }
}

/// What became of an import.
#[derive(Debug, Object)]
pub(crate) struct ImportReport {
    /// Every server, in the order of the request.
    items: Vec<Imported>,
}

/// A server that was to be imported.
#[derive(Debug, Object)]
pub(crate) struct Imported {
    name: String,
    status: Word<inventory::ImportStatus>,
    /// The server, if it is there now.
    #[oai(nullable)]
    server_id: Option<Uuid>,
    /// Why it was skipped.
    #[oai(nullable)]
    reason: Option<String>,
}

impl From<Vec<inventory::Imported>> for ImportReport {
    fn from(imported: Vec<inventory::Imported>) -> Self {
        let item = |imported: inventory::Imported| Imported {
            name: imported.name.to_string(),
            status: Word(imported.status),
            server_id: imported.server_id.map(Uuid::from),
            reason: imported.reason,
        };
        Self { items: imported.into_iter().map(item).collect() }
    }
}

/// A change of a server: what is left out stays.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServerPatch {
    /// The new name.
    name: Option<String>,
    /// The new host.
    host: Option<String>,
    /// The new port.
    port: Option<u16>,
    /// The new user.
    user: Option<String>,
    /// The new credential, by name or id; `null` takes it away.
    #[serde(default)]
    #[oai(nullable)]
    credential: MaybeUndefined<String>,
    /// The new executor.
    executor: Option<String>,
    /// The new tags, replacing the old ones.
    tags: Option<Vec<String>>,
    /// The new groups, replacing the old ones: their names or ids.
    groups: Option<Vec<String>>,
    /// Whether it is in maintenance from now on.
    maintenance: Option<bool>,
    /// The new description.
    description: Option<String>,
}

impl ServerPatch {
    pub(crate) fn into_core(self) -> Result<inventory::ServerPatch> {
        Ok(inventory::ServerPatch {
            name: self.name.map(|text| parsed("name", &text)).transpose()?,
            host: self.host,
            port: self.port,
            user: self.user,
            credential: new_value(self.credential, |text| parsed("credential", &text))?,
            executor: self.executor,
            tags: self.tags.map(|tags| each("tags", &tags)).transpose()?,
            groups: self.groups.map(|groups| each("groups", &groups)).transpose()?,
            maintenance: self.maintenance,
            description: self.description,
        })
    }
}

/// What a test of a server found.
#[derive(Debug, Object)]
pub(crate) struct Probe {
    /// Whether every stage went well.
    ok: bool,
    /// The host key that the server offered, if it came so far: algorithm and fingerprint.
    #[oai(nullable)]
    host_key: Option<String>,
    /// Every stage, in order.
    stages: Vec<ProbeStage>,
}

/// One stage of a test.
#[derive(Debug, Object)]
pub(crate) struct ProbeStage {
    stage: Word<birun_core::execution::Stage>,
    status: Word<birun_core::execution::StageStatus>,
    /// How long it took, in microseconds.
    micros: u64,
    /// The error's code, where it failed.
    #[oai(nullable)]
    code: Option<Word<birun_core::ErrorCode>>,
    /// Why it failed.
    #[oai(nullable)]
    message: Option<String>,
    /// What can be done.
    #[oai(nullable)]
    hint: Option<String>,
}

impl From<birun_core::execution::Probe> for Probe {
    fn from(probe: birun_core::execution::Probe) -> Self {
        Self {
            ok: probe.ok,
            host_key: probe.host_key,
            stages: probe.stages.into_iter().map(ProbeStage::from).collect(),
        }
    }
}

impl From<birun_core::execution::ProbeStage> for ProbeStage {
    fn from(stage: birun_core::execution::ProbeStage) -> Self {
        Self {
            stage: Word(stage.stage),
            status: Word(stage.status),
            micros: stage.micros,
            code: stage.code.map(Word),
            message: stage.message,
            hint: stage.hint,
        }
    }
}
