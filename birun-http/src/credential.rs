//! Credentials.

use birun_core::inventory;
use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::{Header, Path, Query};

use crate::answer::errors::{BODY, CONFLICT, FORBIDDEN, INVALID, MALFORMED, SELECTED, STALE};
use crate::answer::{ApiError, Created, Deleted, Links, Listed, Versioned, if_match, page_request};
use crate::auth::Caller;
use crate::body::Body;
use crate::document::Tag;
use crate::dto::credential::{Credential, CredentialPatch, NewCredential};

/// The list's name in paths.
const LIST: &str = "credentials";

/// Operations on credentials.
pub(crate) struct Credentials;

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Credentials")]
impl Credentials {
    /// List credentials
    #[oai(path = "/credentials", method = "get", operation_id = "list_credentials")]
    async fn list(
        &self,
        Caller(gate): Caller,
        /// Items on the page: 1 to 200, default 50.
        limit: Query<Option<u32>>,
        /// The `next` of the page before.
        cursor: Query<Option<String>>,
    ) -> Result<Listed<Credential>, ApiError<{ MALFORMED | FORBIDDEN | INVALID }>> {
        let page = gate.credentials(page_request(LIST, limit.0, cursor.0.as_deref())?).await?;
        Ok(Listed::of(LIST, page, Credential::from))
    }

    /// Store a credential
    ///
    /// The value is checked, sealed, and never seen again.
    #[oai(path = "/credentials", method = "post", operation_id = "create_credential")]
    async fn create(
        &self,
        Caller(gate): Caller,
        Data(links): Data<&Links>,
        body: Body<NewCredential>,
    ) -> Result<Created<Credential>, ApiError<{ BODY | FORBIDDEN | CONFLICT }>> {
        let credential = gate.create_credential(body.0.into_core()?).await?;
        let (id, version) = (credential.id, credential.version);
        Ok(Created::at(links.to("credentials", id), credential.into(), version))
    }

    /// Get a credential, without its value
    #[oai(path = "/credentials/:id", method = "get", operation_id = "get_credential")]
    async fn get(
        &self,
        Caller(gate): Caller,
        /// Id, part of an id, or name.
        id: Path<String>,
    ) -> Result<Versioned<Credential>, ApiError<{ SELECTED | FORBIDDEN }>> {
        Ok(versioned(gate.credential(&id.parse()?).await?))
    }

    /// Change a credential, or replace its value
    #[oai(path = "/credentials/:id", method = "patch", operation_id = "update_credential")]
    async fn update(
        &self,
        Caller(gate): Caller,
        /// Id, part of an id, or name.
        id: Path<String>,
        /// The `ETag` of the credential as it was read.
        #[oai(name = "If-Match")]
        version: Header<Option<String>>,
        body: Body<CredentialPatch>,
    ) -> Result<Versioned<Credential>, ApiError<{ SELECTED | BODY | FORBIDDEN | STALE }>> {
        let version = if_match(version.as_deref())?;
        Ok(versioned(gate.rotate_credential(&id.parse()?, body.0.into_core()?, version).await?))
    }

    /// Delete a credential
    ///
    /// One that a server uses is refused (409).
    #[oai(path = "/credentials/:id", method = "delete", operation_id = "delete_credential")]
    async fn delete(
        &self,
        Caller(gate): Caller,
        /// Id, part of an id, or name.
        id: Path<String>,
        /// The `ETag` of the credential as it was read.
        #[oai(name = "If-Match")]
        version: Header<Option<String>>,
    ) -> Result<Deleted, ApiError<{ SELECTED | FORBIDDEN | STALE }>> {
        gate.delete_credential(&id.parse()?, if_match(version.as_deref())?).await?;
        Ok(Deleted::Deleted)
    }
}

fn versioned(credential: inventory::Credential) -> Versioned<Credential> {
    let version = credential.version;
    Versioned::of(credential.into(), version)
}
