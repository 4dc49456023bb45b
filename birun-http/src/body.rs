//! Request bodies: JSON within a size and a time, read into a transport type, every fault with its place.

use std::time::Duration;

use birun_core::{Error, ErrorCode};
use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use poem::http::StatusCode;
use poem::{Request, RequestBody};
use poem_openapi::payload::{Json, Payload};
use poem_openapi::registry::{MetaMediaType, MetaRequest, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use crate::problem::{failed, refusal};

/// Largest body of most operations, in bytes.
pub(crate) const SMALL: usize = 256 * 1024;
/// Largest body of operations that take a script: 1 MiB of it, and room for escapes.
pub(crate) const LARGE: usize = 2 * 1024 * 1024;

/// How long a client may take to send a body.
const TIME: Duration = Duration::from_secs(30);

/// A JSON body of at most `LIMIT` bytes.
pub(crate) struct Body<T, const LIMIT: usize = SMALL>(pub(crate) T);

impl<'a, T: Type + DeserializeOwned, const LIMIT: usize> ApiExtractor<'a> for Body<T, LIMIT> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let content = vec![MetaMediaType { content_type: "application/json", schema: T::schema_ref() }];
        Some(MetaRequest { description: None, content, required: true })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        check_media_type(request.content_type()).map_err(refusal)?;
        let read = tokio::time::timeout(TIME, read(body.take()?, LIMIT));
        let bytes = read.await.map_err(|_| failed(StatusCode::REQUEST_TIMEOUT, too_slow()))?;
        parse(&bytes.map_err(refusal)?).map(Self).map_err(refusal)
    }
}

fn too_slow() -> Error {
    Error::new(ErrorCode::Malformed, format!("the body did not arrive within {} s", TIME.as_secs()))
}

fn check_media_type(content_type: Option<&str>) -> Result<(), Error> {
    if content_type.is_some_and(<Json<serde_json::Value> as Payload>::check_content_type) {
        return Ok(());
    }
    let shown = content_type.unwrap_or("nothing");
    Err(Error::new(ErrorCode::UnsupportedMedia, format!("the body is said to be {}", shown.escape_default()))
        .with_hint("send JSON, with  Content-Type: application/json"))
}

/// Reads a whole body, and no more than the limit of it.
async fn read(body: poem::Body, limit: usize) -> Result<Bytes, Error> {
    let mut chunks = std::pin::pin!(body.into_bytes_stream());
    let mut whole = BytesMut::new();
    while let Some(chunk) = chunks.try_next().await.map_err(broken)? {
        if whole.len() + chunk.len() > limit {
            return Err(Error::new(ErrorCode::TooLarge, format!("the body is larger than {limit} bytes")));
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

fn broken(error: std::io::Error) -> Error {
    Error::new(ErrorCode::Malformed, "the body could not be read to its end").with_source(error)
}

/// Reads JSON. The error names the field, and never repeats a value: it may be a secret.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let parsed = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        fault(&path, error.inner())
    })?;
    json.end().map_err(|error| fault(".", &error))?;
    Ok(parsed)
}

fn fault(path: &str, error: &serde_json::Error) -> Error {
    let place = format!(" at line {} column {}", error.line(), error.column());
    if error.classify() != Category::Data {
        return Error::new(ErrorCode::Malformed, format!("the body is not JSON: {error}"));
    }
    let text = error.to_string();
    let text = text.strip_suffix(&place).unwrap_or(&text);
    let field = field_of(path, text);
    let why = reason(text);
    let message = if field.is_empty() { format!("the body: {why}") } else { format!("{field}: {why}") };
    Error::new(ErrorCode::Malformed, message).with_field(field, why)
}

/// The field that is at fault: the path, and what serde names itself where a field is unknown or missing.
fn field_of(path: &str, text: &str) -> String {
    let path = if path == "." { "" } else { path };
    let named = ["unknown field `", "missing field `", "duplicate field `"]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix))
        .and_then(|rest| rest.split_once('`'))
        .map(|(name, _)| name);
    match named {
        // The path ends with the unknown field already.
        Some(name) if path == name || path.ends_with(&format!(".{name}")) => path.to_owned(),
        Some(name) if path.is_empty() => name.to_owned(),
        Some(name) => format!("{path}.{name}"),
        None => path.to_owned(),
    }
}

/// What serde says, without the value that it was given.
fn reason(text: &str) -> String {
    if text.starts_with("missing field") {
        return "is required".to_owned();
    }
    if text.starts_with("duplicate field") {
        return "is given twice".to_owned();
    }
    if let Some(rest) = text.strip_prefix("unknown field `") {
        let known = rest.split_once("`, ").map_or("", |(_, known)| known);
        return format!("is not a field here; {known}").trim_end_matches("; ").to_owned();
    }
    match text.rsplit_once(", expected ") {
        Some((_, expected)) => format!("must be {}", in_words(expected)),
        None => text.to_owned(),
    }
}

fn in_words(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" | "i32" | "i64" => "a whole number in range",
        "f64" => "a number",
        "a sequence" => "a list",
        "a map" => "an object",
        "a boolean" => "true or false",
        "a string" | "a borrowed string" => "a text",
        other if other.starts_with("struct ") => "an object",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only reading is tested")]
    struct Outer {
        name: String,
        inner: Option<Inner>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only reading is tested")]
    struct Inner {
        port: u16,
        list: Vec<String>,
    }

    fn refusal(json: &str) -> (String, String) {
        let error = parse::<Outer>(json.as_bytes()).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Malformed);
        (error.to_string(), error.fields().first().map(|field| field.field.clone()).unwrap_or_default())
    }

    #[test]
    fn every_fault_has_its_place() {
        for (json, message, field) in [
            (r#"{"name":5}"#, "name: must be a text", "name"),
            (r#"{"nam":"x"}"#, "nam: is not a field here; expected `name` or `inner`", "nam"),
            ("{}", "name: is required", "name"),
            (r#"{"name":"a","name":"b"}"#, "name: is given twice", "name"),
            (r#"{"name":"a","inner":{"port":70000}}"#, "inner.port: must be a whole number in range", "inner.port"),
            (r#"{"name":"a","inner":{"port":1}}"#, "inner.list: is required", "inner.list"),
            (
                r#"{"name":"a","inner":{"prt":1}}"#,
                "inner.prt: is not a field here; expected `port` or `list`",
                "inner.prt",
            ),
            (r#"{"name":"a","inner":{"port":1,"list":["a",2]}}"#, "inner.list[1]: must be a text", "inner.list[1]"),
            (r#"{"name":"a","inner":7}"#, "inner: must be an object", "inner"),
            ("[]", "the body: must be an object", ""),
            ("5", "the body: must be an object", ""),
        ] {
            let (said, at) = refusal(json);
            assert!(said.starts_with(message), "{json}: {said}");
            assert_eq!(at, field, "{json}");
        }
    }

    #[test]
    fn broken_json_is_placed_by_line_and_column() {
        assert_eq!(refusal("{\"name\":").0, "the body is not JSON: EOF while parsing a value at line 1 column 8");
        assert!(refusal(r#"{"name":"a"} x"#).0.starts_with("the body is not JSON"));
        assert!(refusal("").0.starts_with("the body is not JSON"));
    }

    #[test]
    fn deep_nesting_is_refused() {
        let deep = format!(r#"{{"name":"a","inner":{}"#, r#"{"x":"#.repeat(100_000));
        assert!(parse::<Outer>(deep.as_bytes()).is_err());
        assert!(parse::<serde_json::Value>(deep.as_bytes()).is_err());
    }

    #[test]
    fn a_refused_value_is_not_repeated() {
        let (said, _) = refusal(r#"{"name":"a","inner":{"port":"hunter2"}}"#);
        assert!(!said.contains("hunter2"), "{said}");
    }
}
