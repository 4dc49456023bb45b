//! Scripts and their versions.

use birun_core::page::DEFAULT_LIMIT;
use birun_core::script::{self, ScriptFilter};
use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::Json;

use crate::answer::errors::{BODY, CONFLICT, FORBIDDEN, INVALID, MALFORMED, SELECTED, STALE};
use crate::answer::{ApiError, Created, Deleted, Found, Links, Listed, Versioned, if_match, page_request};
use crate::auth::Caller;
use crate::body::{Body, LARGE};
use crate::document::Tag;
use crate::dto::script::{NewScript, Script, ScriptPatch, ScriptVersion, ScriptVersions};

/// The list's name in paths.
const LIST: &str = "scripts";

/// Operations on scripts.
pub(crate) struct Scripts;

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Scripts")]
impl Scripts {
    /// List scripts, without their bodies
    #[oai(path = "/scripts", method = "get", operation_id = "list_scripts")]
    async fn list(
        &self,
        Caller(gate): Caller,
        /// Items on the page: 1 to 200, default 50.
        limit: Query<Option<u32>>,
        /// The `next` of the page before.
        cursor: Query<Option<String>>,
        /// Only scripts whose name holds this text.
        name: Query<Option<String>>,
    ) -> Result<Listed<Script>, ApiError<{ MALFORMED | INVALID }>> {
        let filter = ScriptFilter { name_contains: name.0 };
        let page = gate.scripts(&filter, page_request(LIST, limit.0, cursor.0.as_deref())?).await?;
        Ok(Listed::of(LIST, page, Script::from))
    }

    /// Create a script with its first version
    #[oai(path = "/scripts", method = "post", operation_id = "create_script")]
    async fn create(
        &self,
        Caller(gate): Caller,
        Data(links): Data<&Links>,
        body: Body<NewScript, LARGE>,
    ) -> Result<Created<Script>, ApiError<{ BODY | FORBIDDEN | CONFLICT }>> {
        let (script, first) = gate.create_script(body.0.into_core()?).await?;
        let (id, version) = (script.id, script.version);
        Ok(Created::at(links.to("scripts", id), Script::of(script, first.spec), version))
    }

    /// Get a script with the body of its newest version
    #[oai(path = "/scripts/:id", method = "get", operation_id = "get_script")]
    async fn get(
        &self,
        Caller(gate): Caller,
        /// Id, part of an id, or name.
        id: Path<String>,
    ) -> Result<Versioned<Script>, ApiError<SELECTED>> {
        let script = gate.script(&id.parse()?).await?;
        let newest = gate.script_version(&script.id.into(), Some(script.latest)).await?;
        Ok(versioned((script, newest)))
    }

    /// Change a script
    ///
    /// Running executions keep the version that they were started with.
    #[oai(path = "/scripts/:id", method = "patch", operation_id = "update_script")]
    async fn update(
        &self,
        Caller(gate): Caller,
        /// Id, part of an id, or name.
        id: Path<String>,
        /// The `ETag` of the script as it was read.
        #[oai(name = "If-Match")]
        version: Header<Option<String>>,
        body: Body<ScriptPatch, LARGE>,
    ) -> Result<Versioned<Script>, ApiError<{ SELECTED | BODY | FORBIDDEN | STALE }>> {
        let version = if_match(version.as_deref())?;
        Ok(versioned(gate.update_script(&id.parse()?, body.0.into_core()?, version).await?))
    }

    /// Delete a script with its versions
    ///
    /// Executions keep what they ran.
    #[oai(path = "/scripts/:id", method = "delete", operation_id = "delete_script")]
    async fn delete(
        &self,
        Caller(gate): Caller,
        /// Id, part of an id, or name.
        id: Path<String>,
        /// The `ETag` of the script as it was read.
        #[oai(name = "If-Match")]
        version: Header<Option<String>>,
    ) -> Result<Deleted, ApiError<{ SELECTED | FORBIDDEN | STALE }>> {
        gate.delete_script(&id.parse()?, if_match(version.as_deref())?).await?;
        Ok(Deleted::Deleted)
    }

    /// List versions of a script, newest first
    #[oai(path = "/scripts/:id/versions", method = "get", operation_id = "list_script_versions")]
    async fn versions(
        &self,
        Caller(gate): Caller,
        /// Id, part of an id, or name.
        id: Path<String>,
        /// Only versions below this number: the `next` of the page before.
        before: Query<Option<u32>>,
        /// Items on the page: 1 to 200, default 50.
        limit: Query<Option<u32>>,
    ) -> Result<Found<ScriptVersions>, ApiError<SELECTED>> {
        let limit = limit.0.unwrap_or(DEFAULT_LIMIT);
        let versions = gate.script_versions(&id.parse()?, before.0, limit).await?;
        // Versions count from 1 without gaps: below the last one there are more unless it is the first.
        let next = versions.last().map(|version| version.number).filter(|number| *number > 1);
        let items = versions.into_iter().map(ScriptVersion::from).collect();
        Ok(Found::Found(Json(ScriptVersions { items, next })))
    }

    /// Get a version of a script
    #[oai(path = "/scripts/:id/versions/:number", method = "get", operation_id = "get_script_version")]
    async fn version(
        &self,
        Caller(gate): Caller,
        /// Id, part of an id, or name.
        id: Path<String>,
        /// The version's number.
        number: Path<u32>,
    ) -> Result<Found<ScriptVersion>, ApiError<SELECTED>> {
        let version = gate.script_version(&id.parse()?, Some(number.0)).await?;
        Ok(Found::Found(Json(version.into())))
    }

    /// Restore a version of a script
    ///
    /// It becomes the newest one, under a new number.
    #[oai(path = "/scripts/:id/versions/:number/restore", method = "post", operation_id = "restore_script_version")]
    async fn restore(
        &self,
        Caller(gate): Caller,
        /// Id, part of an id, or name.
        id: Path<String>,
        /// The version's number.
        number: Path<u32>,
    ) -> Result<Versioned<Script>, ApiError<{ SELECTED | FORBIDDEN }>> {
        Ok(versioned(gate.restore_script(&id.parse()?, number.0).await?))
    }
}

fn versioned((script, newest): (script::Script, script::ScriptVersion)) -> Versioned<Script> {
    let version = script.version;
    Versioned::of(Script::of(script, newest.spec), version)
}
