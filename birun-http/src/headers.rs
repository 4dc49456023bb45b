//! Headers that change what a request means.

use birun_core::{Error, ErrorCode, Result};
use poem::http::HeaderMap;

/// The framework takes one that it cannot read for absent, and the first of several. Overlooking a
/// key would start the work twice, overlooking a version would lose someone's change.
const MEANINGFUL: [&str; 3] = ["Idempotency-Key", "If-Match", "Last-Event-ID"];

/// Checks that each of them is there once, as a text, or not at all.
///
/// # Errors
/// `malformed`, naming the header.
pub(crate) fn check(headers: &HeaderMap) -> Result<()> {
    let Some(name) = MEANINGFUL.into_iter().find(|name| !is_plain(headers, name)) else { return Ok(()) };
    let why = "must be there once, in visible ASCII characters";
    Err(Error::new(ErrorCode::Malformed, format!("{name}: {why}")).with_field(name, why))
}

fn is_plain(headers: &HeaderMap, name: &str) -> bool {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => true,
        (Some(value), None) => value.to_str().is_ok_and(|text| !text.trim().is_empty()),
        (Some(_), Some(_)) => false,
    }
}
