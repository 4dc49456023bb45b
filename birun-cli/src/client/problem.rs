//! Answers that say that something went wrong.

use serde_json::Value;

/// What a server says about a request that it did not carry out (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) status: u16,
    /// The stable code, where the answer is one of birun's.
    pub(crate) code: Option<String>,
    pub(crate) detail: String,
    pub(crate) hint: Option<String>,
    pub(crate) request_id: Option<String>,
}

impl Problem {
    /// Reads a problem; what is none is told by its status.
    pub(super) fn read(status: http::StatusCode, body: &[u8]) -> Self {
        let value: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        let said = text("detail").or_else(|| text("title"));
        Self {
            status: status.as_u16(),
            code: text("code"),
            detail: said.unwrap_or_else(|| format!("the server answered {status}")),
            hint: text("hint"),
            request_id: text("request_id"),
        }
    }

    /// Whether something that was named does not exist.
    pub(super) fn is_not_found(&self) -> bool {
        self.code.as_deref() == Some("not_found")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_no_problem_is_told_by_its_status() {
        let problem = Problem::read(http::StatusCode::BAD_GATEWAY, b"<html>");
        assert_eq!(problem.detail, "the server answered 502 Bad Gateway");
        assert_eq!(problem.code, None);
    }
}
