//! The name of a request: taken from the caller, or made.

use poem::http::{HeaderMap, HeaderName};
use uuid::Uuid;

/// The header that carries it, both ways.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const MAX_LEN: usize = 64;

/// The id that the caller sent, if it can stand in a log line as it is; else a new one.
pub(crate) fn take_or_make(headers: &HeaderMap) -> String {
    let sent = headers.get(X_REQUEST_ID).and_then(|value| value.to_str().ok());
    match sent.filter(|id| is_plain(id)) {
        Some(id) => id.to_owned(),
        None => Uuid::now_v7().simple().to_string(),
    }
}

fn is_plain(id: &str) -> bool {
    (1..=MAX_LEN).contains(&id.len()) && id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(sent: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(X_REQUEST_ID, sent.parse().unwrap());
        take_or_make(&headers) == sent
    }

    #[test]
    fn a_plain_id_is_taken() {
        assert!(taken("req-7.a_B"));
        assert!(taken(&"x".repeat(MAX_LEN)));
    }

    #[test]
    fn what_could_forge_a_log_line_is_replaced() {
        for bad in ["", "a b", "a\tb", "é", "<script>", &"x".repeat(MAX_LEN + 1)] {
            assert!(!taken(bad), "{bad:?}");
        }
    }
}
