//! What operations answer: a few shapes for success, one for failure.

use std::sync::Arc;

use birun_core::page::PageRequest;
use birun_core::{Error, ErrorCode, Result, page};
use poem::{IntoResponse, Response};
use poem_openapi::payload::{Json, Payload};
use poem_openapi::registry::{MetaHeader, MetaMediaType, MetaResponse, MetaResponses, Registry};
use poem_openapi::types::{ParseFromJSON, ToJSON, Type};
use poem_openapi::{ApiResponse, Object};

use crate::cursor;
use crate::problem::{PROBLEM_JSON, Problem, refusal, response_of};

/// One page of a list.
#[derive(Debug, Object)]
pub(crate) struct Page<T: Type + ParseFromJSON + ToJSON> {
    /// The items, newest first.
    pub(crate) items: Vec<T>,
    /// What to send as `cursor` for the next page; `null` on the last one.
    #[oai(nullable)]
    pub(crate) next: Option<String>,
}

/// A page of a list.
#[derive(Debug, ApiResponse)]
pub(crate) enum Listed<T: Type + ParseFromJSON + ToJSON> {
    /// A page of the list.
    #[oai(status = 200)]
    Page(Json<Page<T>>),
}

/// A resource.
#[derive(Debug, ApiResponse)]
pub(crate) enum Found<T: Type + ToJSON> {
    /// The resource as it is now.
    #[oai(status = 200)]
    Found(Json<T>),
}

/// A resource with a version.
#[derive(Debug, ApiResponse)]
pub(crate) enum Versioned<T: Type + ToJSON> {
    /// The resource as it is now.
    #[oai(status = 200)]
    Found(
        Json<T>,
        /// The version, to be sent back as `If-Match`.
        #[oai(header = "ETag")]
        String,
    ),
}

/// A resource that was made.
#[derive(Debug, ApiResponse)]
pub(crate) enum Created<T: Type + ToJSON> {
    /// The new resource.
    #[oai(status = 201)]
    Created(
        Json<T>,
        /// Where it is.
        #[oai(header = "Location")]
        String,
        /// Its version, to be sent back as `If-Match`.
        #[oai(header = "ETag")]
        String,
    ),
}

/// Work that was accepted and goes on after the answer.
#[derive(Debug, ApiResponse)]
pub(crate) enum Accepted<T: Type + ToJSON> {
    /// It is accepted and survives any crash from now on; it goes on after this answer.
    #[oai(status = 202)]
    Accepted(
        Json<T>,
        /// Where it is.
        #[oai(header = "Location")]
        String,
    ),
}

/// Work that was started, now or by an earlier request under the same key.
#[derive(Debug, ApiResponse)]
pub(crate) enum Started<T: Type + ToJSON> {
    /// It is accepted and survives any crash from now on; it goes on after this answer.
    #[oai(status = 202)]
    Started(
        Json<T>,
        /// Where it is.
        #[oai(header = "Location")]
        String,
        /// `true` where nothing new was started: the `Idempotency-Key` was used before, for the same
        /// request, and this is what that one started, as it stands now.
        #[oai(header = "Idempotency-Replayed")]
        Option<bool>,
    ),
}

/// Something that is gone.
#[derive(Debug, ApiResponse)]
pub(crate) enum Deleted {
    /// It is gone.
    #[oai(status = 204)]
    Deleted,
}

impl<T: Type + ParseFromJSON + ToJSON> Listed<T> {
    /// A page of the core's of this list, its items converted.
    pub(crate) fn of<U>(list: &str, page: page::Page<U>, convert: impl FnMut(U) -> T) -> Self {
        let page = page.map(convert);
        Self::Page(Json(Page { items: page.items, next: page.next.map(|place| cursor::written(list, place)) }))
    }
}

impl<T: Type + ToJSON> Versioned<T> {
    pub(crate) fn of(resource: T, version: u64) -> Self {
        Self::Found(Json(resource), etag(version))
    }
}

impl<T: Type + ToJSON> Created<T> {
    pub(crate) fn at(location: String, resource: T, version: u64) -> Self {
        Self::Created(Json(resource), location, etag(version))
    }
}

/// The entity tag of a version.
fn etag(version: u64) -> String {
    format!("\"{version}\"")
}

/// The version that an `If-Match` names; `*` fits every version.
///
/// # Errors
/// `malformed` if it is no entity tag that birun answered.
pub(crate) fn if_match(header: Option<&str>) -> Result<Option<u64>> {
    let Some(text) = header.map(str::trim).filter(|text| *text != "*") else { return Ok(None) };
    let version = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).and_then(|text| text.parse().ok());
    match version {
        Some(version) => Ok(Some(version)),
        None => Err(Error::new(ErrorCode::Malformed, "If-Match: not an entity tag that birun answered")
            .with_field("If-Match", "not an entity tag that birun answered")
            .with_hint("send the ETag of the resource as you read it, for example  If-Match: \"3\"")),
    }
}

/// The page of a list that `limit` and `cursor` ask for.
///
/// # Errors
/// `invalid` for the limit, `malformed` for the cursor.
pub(crate) fn page_request(list: &str, limit: Option<u32>, cursor: Option<&str>) -> Result<PageRequest> {
    let after = cursor.map(|text| cursor::read(list, text)).transpose()?;
    PageRequest::new(limit.unwrap_or(page::DEFAULT_LIMIT), after)
}

/// The statuses of errors that an operation documents, besides 401, 404 and 5XX, which all of them have.
pub(crate) mod errors {
    /// 400
    pub(crate) const MALFORMED: u16 = 1;
    /// 403
    pub(crate) const FORBIDDEN: u16 = 1 << 1;
    /// 409
    pub(crate) const CONFLICT: u16 = 1 << 3;
    /// 412
    pub(crate) const STALE: u16 = 1 << 4;
    /// 413
    pub(crate) const TOO_LARGE: u16 = 1 << 5;
    /// 415
    pub(crate) const MEDIA: u16 = 1 << 6;
    /// 422
    pub(crate) const INVALID: u16 = 1 << 7;
    /// 429
    pub(crate) const RATE_LIMITED: u16 = 1 << 8;

    /// What is read by a selector in the path.
    pub(crate) const SELECTED: u16 = MALFORMED | CONFLICT | INVALID;
    /// What takes a body.
    pub(crate) const BODY: u16 = MALFORMED | TOO_LARGE | MEDIA | INVALID;

    /// Every status with its flag and its meaning.
    pub(super) const ALL: [(u16, u16, &str); 8] = [
        (MALFORMED, 400, "The request cannot be read: an unknown field, a wrong type, broken syntax."),
        (FORBIDDEN, 403, "The caller may see the resource but may not do this to it."),
        (CONFLICT, 409, "The state of a resource forbids it, the name is taken, or a part of an id fits several."),
        (STALE, 412, "The resource is not at the version that `If-Match` names."),
        (TOO_LARGE, 413, "The body, or a value in it, is larger than its limit."),
        (MEDIA, 415, "The body is not `application/json`."),
        (INVALID, 422, "The request can be read, but a rule refuses it; `code` and `errors` say which and where."),
        (RATE_LIMITED, 429, "Too much is queued."),
    ];
}

/// An operation failed. The flags of [`errors`] are what its documentation lists.
pub(crate) struct ApiError<const DOCUMENTED: u16>(Error);

impl<const DOCUMENTED: u16> From<Error> for ApiError<DOCUMENTED> {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl<const DOCUMENTED: u16> IntoResponse for ApiError<DOCUMENTED> {
    fn into_response(self) -> Response {
        response_of(self.0)
    }
}

impl<const DOCUMENTED: u16> From<ApiError<DOCUMENTED>> for poem::Error {
    fn from(error: ApiError<DOCUMENTED>) -> Self {
        refusal(error.0)
    }
}

impl<const DOCUMENTED: u16> ApiResponse for ApiError<DOCUMENTED> {
    fn meta() -> MetaResponses {
        let own = errors::ALL.into_iter().filter(|(flag, ..)| DOCUMENTED & flag != 0);
        let mut responses: Vec<MetaResponse> =
            own.map(|(_, status, meaning)| described(Some(status), meaning)).collect();
        responses.push(described(Some(401), "Nobody is signed in, or the credential is not valid any more."));
        responses.push(described(Some(404), "There is no such resource in the caller's project, or no such project."));
        responses.push(described(None, "birun failed, or a part that it needs cannot be reached now."));
        responses.sort_by_key(|response| response.status.unwrap_or(u16::MAX));
        MetaResponses { responses }
    }

    fn register(registry: &mut Registry) {
        Problem::register(registry);
    }
}

/// The documentation of one error status; `None` stands for all of 5XX.
fn described(status: Option<u16>, description: &'static str) -> MetaResponse {
    let retry_after = MetaHeader {
        name: "Retry-After".to_owned(),
        description: Some("Seconds to wait before trying again.".to_owned()),
        required: false,
        deprecated: false,
        schema: u32::schema_ref(),
    };
    MetaResponse {
        description,
        status,
        status_range: status.is_none().then(|| "5XX".to_owned()),
        content: vec![MetaMediaType { content_type: PROBLEM_JSON, schema: <Json<Problem> as Payload>::schema_ref() }],
        headers: if matches!(status, Some(429) | None) { vec![retry_after] } else { Vec::new() },
    }
}

/// Where resources are, as seen from outside.
#[derive(Clone, Debug)]
pub(crate) struct Links(Arc<str>);

impl Links {
    /// Links of an application that is mounted under a path, without a slash at its end.
    pub(crate) fn under(base_path: &str) -> Self {
        Self(base_path.into())
    }

    /// The path that they begin with.
    pub(crate) fn base_path(&self) -> &str {
        &self.0
    }

    /// Where a resource is.
    pub(crate) fn to(&self, collection: &str, id: impl Into<uuid::Uuid>) -> String {
        format!("{}/api/v1/{collection}/{}", self.0, id.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entity_tag_is_read_back() {
        assert_eq!(if_match(Some(&etag(3))).unwrap(), Some(3));
        assert_eq!(if_match(Some("*")).unwrap(), None);
        assert_eq!(if_match(None).unwrap(), None);
        for bad in ["3", "W/\"3\"", "\"x\"", "\"3\", \"4\"", ""] {
            assert_eq!(if_match(Some(bad)).unwrap_err().code(), ErrorCode::Malformed, "{bad}");
        }
    }

    #[test]
    fn a_page_has_at_least_one_item_and_at_most_two_hundred() {
        assert_eq!(page_request("servers", None, None).unwrap().limit(), 50);
        for limit in [0, 201] {
            assert_eq!(page_request("servers", Some(limit), None).unwrap_err().code(), ErrorCode::Invalid);
        }
        assert_eq!(page_request("servers", None, Some("x")).unwrap_err().code(), ErrorCode::Malformed);
    }
}
