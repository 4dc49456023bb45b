//! Errors on the wire: every error answer is a problem (RFC 9457), whoever found the error.

use std::sync::Arc;

use birun_core::{Error, ErrorCode};
use poem::Response;
use poem::http::{HeaderValue, StatusCode, header};
use poem_openapi::Object;

use crate::schema::Word;

/// The media type of every error answer.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// Seconds after which a client that was told to wait may try again.
const RETRY_AFTER: &str = "5";

/// Most bytes that are taken over from an error text of the web framework.
const MAX_TEXT: usize = 2048;

/// Why a request was refused or failed.
#[derive(Clone, Debug, Object)]
pub(crate) struct Problem {
    /// `https://birun.dev/problems/<code>`
    #[oai(rename = "type")]
    kind: String,
    /// The code in words.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What is wrong, as a fragment that names the thing concerned.
    detail: String,
    /// What is wrong, for programs.
    code: Word<ErrorCode>,
    /// What can be done about it.
    #[oai(nullable)]
    hint: Option<String>,
    /// The request, as the log and the audit log name it; also in the header `X-Request-Id`.
    request_id: String,
    /// The refused fields, where the problem is about fields.
    errors: Vec<RefusedField>,
}

/// One field of a request that is refused.
#[derive(Clone, Debug, Object)]
pub(crate) struct RefusedField {
    /// Where: the field's name, with dots for nesting (`strategy.parallel`).
    field: String,
    /// Why.
    message: String,
}

/// The error behind a response, until [`render`] writes it out under the request's id.
#[derive(Clone)]
struct Failure(Arc<Error>);

/// The HTTP status of a code: the one place that says it.
#[must_use]
pub fn status_of(code: ErrorCode) -> StatusCode {
    known_status(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// `None` only for a code that the core has got and this place has not heard of; a test looks for it.
const fn known_status(code: ErrorCode) -> Option<StatusCode> {
    Some(match code {
        ErrorCode::Malformed => StatusCode::BAD_REQUEST,
        ErrorCode::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorCode::Forbidden => StatusCode::FORBIDDEN,
        ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::Conflict | ErrorCode::LeaseLost => StatusCode::CONFLICT,
        ErrorCode::StaleVersion => StatusCode::PRECONDITION_FAILED,
        ErrorCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::UnsupportedMedia => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ErrorCode::Invalid
        | ErrorCode::NoTargetMatched
        | ErrorCode::UnknownParameter
        | ErrorCode::MissingParameter
        | ErrorCode::NotRegistered
        | ErrorCode::CredentialUnreadable => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorCode::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::Internal | ErrorCode::StorageCorrupt => StatusCode::INTERNAL_SERVER_ERROR,
        ErrorCode::HostKeyMismatch
        | ErrorCode::HostKeyUnknown
        | ErrorCode::HostKeyRevoked
        | ErrorCode::AuthFailed
        | ErrorCode::CertificateRefused
        | ErrorCode::AgentFailed
        | ErrorCode::ResolveFailed
        | ErrorCode::ConnectTimeout
        | ErrorCode::ConnectFailed
        | ErrorCode::PhaseTimeout
        | ErrorCode::ProtocolError
        | ErrorCode::SpawnFailed
        | ErrorCode::ServerDeleted
        | ErrorCode::LinkLost => StatusCode::BAD_GATEWAY,
        ErrorCode::Unavailable
        | ErrorCode::Locked
        | ErrorCode::SchemaNewer
        | ErrorCode::SchemaOutdated
        | ErrorCode::KeyMissing
        | ErrorCode::KeyMismatch => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
        _ => return None,
    })
}

/// A response that stands for an error; [`render`] gives it its body.
pub(crate) fn response_of(error: Error) -> Response {
    refusal(error).into_response()
}

/// An error of the web framework's type that stands for an error.
pub(crate) fn refusal(error: Error) -> poem::Error {
    failed(status_of(error.code()), error)
}

/// The same under a status that the code alone does not say (408).
pub(crate) fn failed(status: StatusCode, error: Error) -> poem::Error {
    let mut refusal = poem::Error::from_status(status);
    refusal.set_data(Failure(Arc::new(error)));
    refusal
}

/// The error that a response stands for, if it is one of birun's own.
pub(crate) fn error_behind(response: &Response) -> Option<Arc<Error>> {
    response.data::<Failure>().map(|failure| Arc::clone(&failure.0))
}

/// Writes an error response out as a problem; every other response passes as it is, and so does
/// an answer of an operation's own (a readiness report with 503 is an answer).
///
/// What the web framework refused by itself (an unknown route, a parameter that is no number)
/// arrives as a status and a text, and becomes a problem here as well: nothing gets past. What failed
/// inside is logged, unless the caller is told by other means.
pub(crate) async fn render(mut response: Response, request_id: &str, logged: bool) -> Response {
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    if !is_error || response.content_type().is_some_and(|kind| kind.starts_with("application/json")) {
        return response;
    }
    let error = match response.data::<Failure>() {
        Some(failure) => Arc::clone(&failure.0),
        None => Arc::new(from_text(status, &take_text(&mut response).await)),
    };
    if status.is_server_error() && logged {
        tracing::error!(request_id, code = %error.code(), cause = chain(&error), "the request failed");
    }
    let problem = Problem::of(status, &error, request_id);
    let body = poem_openapi::types::ToJSON::to_json_string(&problem);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
    }
    response.set_body(body);
    response
}

impl Problem {
    fn of(status: StatusCode, error: &Error, request_id: &str) -> Self {
        let code = error.code();
        let ours = status == StatusCode::INTERNAL_SERVER_ERROR;
        let (detail, hint) = if ours {
            ("birun failed".to_owned(), Some(format!("the log says why, at request {request_id}")))
        } else {
            (error.to_string(), error.hint().map(str::to_owned))
        };
        Self {
            kind: format!("https://birun.dev/problems/{code}"),
            title: title(code),
            status: status.as_u16(),
            detail,
            code: Word(code),
            hint,
            request_id: request_id.to_owned(),
            errors: error
                .fields()
                .iter()
                .map(|field| RefusedField { field: field.field.clone(), message: field.message.clone() })
                .collect(),
        }
    }
}

/// `stale_version` -> `Stale version`
fn title(code: ErrorCode) -> String {
    let words = code.as_str().replace('_', " ");
    let mut chars = words.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// The error and all that is underneath it, for the log.
fn chain(error: &Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// The text that the framework answered; nothing of a server error, whose text is nobody's business.
async fn take_text(response: &mut Response) -> String {
    if response.status().is_server_error() {
        return String::new();
    }
    let bytes = response.take_body().into_bytes_limit(MAX_TEXT).await.unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The error behind a status that the framework answered by itself.
fn from_text(status: StatusCode, text: &str) -> Error {
    match status {
        StatusCode::NOT_FOUND => {
            Error::new(ErrorCode::NotFound, "there is no such route").with_hint("the routes are listed at /api/docs")
        }
        StatusCode::METHOD_NOT_ALLOWED => Error::new(ErrorCode::Malformed, "the route does not take this method"),
        StatusCode::PAYLOAD_TOO_LARGE => Error::new(ErrorCode::TooLarge, "the body is too large"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Error::new(ErrorCode::UnsupportedMedia, text),
        StatusCode::UNAUTHORIZED => Error::new(ErrorCode::Unauthenticated, "nobody is signed in"),
        status if status.is_client_error() => unreadable(text),
        StatusCode::SERVICE_UNAVAILABLE => Error::new(ErrorCode::Unavailable, "not available now"),
        _ => Error::internal("the web framework failed"),
    }
}

/// A parameter that could not be read: the framework says so as
/// ``failed to parse parameter `limit`: reason`` or ``failed to parse path `param0`: reason``.
fn unreadable(text: &str) -> Error {
    let named = text
        .strip_prefix("failed to parse parameter `")
        .and_then(|rest| rest.split_once("`: "))
        .map(|(name, reason)| (name, without_type_names(reason)));
    match named {
        Some((name, reason)) => Error::new(ErrorCode::Malformed, format!("{name}: {reason}")).with_field(name, reason),
        None if text.starts_with("failed to parse path") => {
            Error::new(ErrorCode::Malformed, "the path holds something that cannot be read")
        }
        None => Error::new(ErrorCode::Malformed, "the request cannot be read"),
    }
}

/// Takes the framework's own type names out of a reason: `failed to parse "uint32": invalid digit found in string
/// (occurred while parsing "optional_uint32")`.
fn without_type_names(reason: &str) -> &str {
    let reason = reason.split(" (occurred while parsing").next().unwrap_or(reason);
    reason.strip_prefix("failed to parse \"").and_then(|rest| rest.split_once("\": ")).map_or(reason, |(_, why)| why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_status_of_its_own_choosing() {
        for code in ErrorCode::ALL {
            let status = known_status(*code);
            assert!(status.is_some_and(|status| status.as_u16() >= 400), "{code} has no status");
        }
    }

    #[test]
    fn codes_read_as_titles() {
        assert_eq!(title(ErrorCode::StaleVersion), "Stale version");
    }

    #[test]
    fn a_parameter_that_cannot_be_read_is_named() {
        let error = from_text(
            StatusCode::BAD_REQUEST,
            "failed to parse parameter `limit`: failed to parse \"integer(uint32)\": invalid digit found in string \
             (occurred while parsing \"optional_integer(uint32)\")",
        );
        assert_eq!(error.to_string(), "limit: invalid digit found in string");
        assert_eq!(error.fields()[0].field, "limit");
    }

    #[tokio::test]
    async fn what_failed_inside_stays_inside() {
        let error = Error::internal("row 7 of birun_secrets").with_source("hunter2");
        let response = render(response_of(error), "r-1", true).await;
        let text = response.into_body().into_string().await.unwrap();
        assert!(text.contains("r-1") && !text.contains("birun_secrets") && !text.contains("hunter2"), "{text}");
    }

    #[tokio::test]
    async fn a_text_of_the_framework_becomes_a_problem() {
        for status in [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED, StatusCode::BAD_GATEWAY] {
            let plain = Response::builder().status(status).body("not found");
            let response = render(plain, "r-1", true).await;
            assert_eq!(response.status(), status);
            assert_eq!(response.content_type(), Some(PROBLEM_JSON));
        }
    }
}
