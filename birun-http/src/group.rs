//! Server groups.

use birun_core::inventory;
use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::{Header, Path, Query};

use crate::answer::errors::{BODY, CONFLICT, FORBIDDEN, INVALID, MALFORMED, SELECTED, STALE};
use crate::answer::{ApiError, Created, Deleted, Links, Listed, Versioned, if_match, page_request};
use crate::auth::Caller;
use crate::body::Body;
use crate::document::Tag;
use crate::dto::group::{Group, GroupPatch, NewGroup};

/// The list's name in paths.
const LIST: &str = "server-groups";

/// Operations on server groups.
pub(crate) struct Groups;

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::ServerGroups")]
impl Groups {
    /// List server groups
    #[oai(path = "/server-groups", method = "get", operation_id = "list_server_groups")]
    async fn list(
        &self,
        Caller(gate): Caller,
        /// Items on the page: 1 to 200, default 50.
        limit: Query<Option<u32>>,
        /// The `next` of the page before.
        cursor: Query<Option<String>>,
    ) -> Result<Listed<Group>, ApiError<{ MALFORMED | INVALID }>> {
        let page = gate.groups(page_request(LIST, limit.0, cursor.0.as_deref())?).await?;
        Ok(Listed::of(LIST, page, Group::from))
    }

    /// Create a server group
    #[oai(path = "/server-groups", method = "post", operation_id = "create_server_group")]
    async fn create(
        &self,
        Caller(gate): Caller,
        Data(links): Data<&Links>,
        body: Body<NewGroup>,
    ) -> Result<Created<Group>, ApiError<{ BODY | FORBIDDEN | CONFLICT }>> {
        let group = gate.create_group(body.0.into_core()?).await?;
        let (id, version) = (group.id, group.version);
        Ok(Created::at(links.to("server-groups", id), group.into(), version))
    }

    /// Get a server group
    #[oai(path = "/server-groups/:id", method = "get", operation_id = "get_server_group")]
    async fn get(
        &self,
        Caller(gate): Caller,
        /// Id, part of an id, or name.
        id: Path<String>,
    ) -> Result<Versioned<Group>, ApiError<SELECTED>> {
        Ok(versioned(gate.group(&id.parse()?).await?))
    }

    /// Change a server group
    #[oai(path = "/server-groups/:id", method = "patch", operation_id = "update_server_group")]
    async fn update(
        &self,
        Caller(gate): Caller,
        /// Id, part of an id, or name.
        id: Path<String>,
        /// The `ETag` of the group as it was read.
        #[oai(name = "If-Match")]
        version: Header<Option<String>>,
        body: Body<GroupPatch>,
    ) -> Result<Versioned<Group>, ApiError<{ SELECTED | BODY | FORBIDDEN | STALE }>> {
        let version = if_match(version.as_deref())?;
        Ok(versioned(gate.update_group(&id.parse()?, body.0.into_core()?, version).await?))
    }

    /// Delete a server group
    ///
    /// Its servers stay.
    #[oai(path = "/server-groups/:id", method = "delete", operation_id = "delete_server_group")]
    async fn delete(
        &self,
        Caller(gate): Caller,
        /// Id, part of an id, or name.
        id: Path<String>,
        /// The `ETag` of the group as it was read.
        #[oai(name = "If-Match")]
        version: Header<Option<String>>,
    ) -> Result<Deleted, ApiError<{ SELECTED | FORBIDDEN | STALE }>> {
        gate.delete_group(&id.parse()?, if_match(version.as_deref())?).await?;
        Ok(Deleted::Deleted)
    }
}

fn versioned(group: inventory::Group) -> Versioned<Group> {
    let version = group.version;
    Versioned::of(group.into(), version)
}
