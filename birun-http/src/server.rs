//! Servers.

use std::collections::HashMap;

use birun_core::id::GroupId;
use birun_core::inventory::{self, ServerFilter};
use birun_core::name::Name;
use birun_core::{Gate, Result};
use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::Json;

use crate::answer::errors::{BODY, CONFLICT, FORBIDDEN, INVALID, MALFORMED, SELECTED, STALE};
use crate::answer::{ApiError, Created, Deleted, Found, Links, Listed, Versioned, if_match, page_request};
use crate::auth::Caller;
use crate::body::Body;
use crate::document::Tag;
use crate::dto::parsed;
use crate::dto::server::{Import, ImportReport, NewServer, Probe, Server, ServerPatch};

/// The collection's name in paths.
const SERVERS: &str = "servers";

/// Operations on servers.
pub(crate) struct Servers;

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Servers")]
impl Servers {
    /// List servers
    ///
    /// With `on`, all servers that a target expression matches, by name, on one page.
    #[oai(path = "/servers", method = "get", operation_id = "list_servers")]
    async fn list(
        &self,
        Caller(gate): Caller,
        /// Items on the page: 1 to 200, default 50.
        limit: Query<Option<u32>>,
        /// The `next` of the page before.
        cursor: Query<Option<String>>,
        /// Only servers that this target expression matches: `tag:prod&tag:web,!web-3`.
        on: Query<Option<String>>,
        /// Only servers with this tag.
        tag: Query<Option<String>>,
    ) -> Result<Listed<Server>, ApiError<{ MALFORMED | INVALID }>> {
        let filter = ServerFilter {
            on: on.0.map(|text| parsed("on", &text)).transpose()?,
            tag: tag.0.map(|text| parsed("tag", &text)).transpose()?,
        };
        let page = gate.servers(&filter, page_request(SERVERS, limit.0, cursor.0.as_deref())?).await?;
        let names = group_names(&gate, &page.items).await?;
        Ok(Listed::of(SERVERS, page, |server| Server::of(server, &names)))
    }

    /// Create a server
    #[oai(path = "/servers", method = "post", operation_id = "create_server")]
    async fn create(
        &self,
        Caller(gate): Caller,
        Data(links): Data<&Links>,
        body: Body<NewServer>,
    ) -> Result<Created<Server>, ApiError<{ BODY | FORBIDDEN | CONFLICT }>> {
        let server = gate.create_server(body.0.into_core()?).await?;
        let (id, version) = (server.id, server.version);
        Ok(Created::at(links.to(SERVERS, id), shown(&gate, server).await?, version))
    }

    /// Import servers
    ///
    /// Each by itself: what is wrong with one is told of it, and the others are added. Those that are
    /// there already, at the same place, stay as they are.
    #[oai(path = "/servers/import", method = "post", operation_id = "import_servers")]
    async fn import(
        &self,
        Caller(gate): Caller,
        body: Body<Import>,
    ) -> Result<Found<ImportReport>, ApiError<{ BODY | FORBIDDEN }>> {
        let (servers, dry_run) = body.0.into_core()?;
        Ok(Found::Found(Json(gate.import_servers(servers, dry_run).await?.into())))
    }

    /// Get a server
    #[oai(path = "/servers/:id", method = "get", operation_id = "get_server")]
    async fn get(
        &self,
        Caller(gate): Caller,
        /// Id, part of an id, or name.
        id: Path<String>,
    ) -> Result<Versioned<Server>, ApiError<SELECTED>> {
        let server = gate.server(&id.parse()?).await?;
        versioned(&gate, server).await
    }

    /// Change a server
    #[oai(path = "/servers/:id", method = "patch", operation_id = "update_server")]
    async fn update(
        &self,
        Caller(gate): Caller,
        /// Id, part of an id, or name.
        id: Path<String>,
        /// The `ETag` of the server as it was read.
        #[oai(name = "If-Match")]
        version: Header<Option<String>>,
        body: Body<ServerPatch>,
    ) -> Result<Versioned<Server>, ApiError<{ SELECTED | BODY | FORBIDDEN | STALE }>> {
        let version = if_match(version.as_deref())?;
        let server = gate.update_server(&id.parse()?, body.0.into_core()?, version).await?;
        versioned(&gate, server).await
    }

    /// Delete a server
    ///
    /// Its host keys go with it; executions keep its name.
    #[oai(path = "/servers/:id", method = "delete", operation_id = "delete_server")]
    async fn delete(
        &self,
        Caller(gate): Caller,
        /// Id, part of an id, or name.
        id: Path<String>,
        /// The `ETag` of the server as it was read.
        #[oai(name = "If-Match")]
        version: Header<Option<String>>,
    ) -> Result<Deleted, ApiError<{ SELECTED | FORBIDDEN | STALE }>> {
        gate.delete_server(&id.parse()?, if_match(version.as_deref())?).await?;
        Ok(Deleted::Deleted)
    }

    /// Test a server
    ///
    /// Tries to reach it, stage by stage. A server that cannot be reached is an answer, not an error.
    #[oai(path = "/servers/:id/test", method = "post", operation_id = "test_server")]
    async fn test(
        &self,
        Caller(gate): Caller,
        /// Id, part of an id, or name.
        id: Path<String>,
    ) -> Result<Found<Probe>, ApiError<{ SELECTED | FORBIDDEN }>> {
        let probe = gate.test_server(&id.parse()?).await?;
        Ok(Found::Found(Json(probe.into())))
    }
}

async fn versioned<const E: u16>(gate: &Gate, server: inventory::Server) -> Result<Versioned<Server>, ApiError<E>> {
    let version = server.version;
    Ok(Versioned::of(shown(gate, server).await?, version))
}

async fn shown(gate: &Gate, server: inventory::Server) -> Result<Server> {
    let names = group_names(gate, std::slice::from_ref(&server)).await?;
    Ok(Server::of(server, &names))
}

/// The names of the groups that servers are in; nothing is read if they are in none.
async fn group_names(gate: &Gate, servers: &[inventory::Server]) -> Result<HashMap<GroupId, Name>> {
    if servers.iter().all(|server| server.group_ids.is_empty()) {
        return Ok(HashMap::new());
    }
    gate.group_names().await
}
