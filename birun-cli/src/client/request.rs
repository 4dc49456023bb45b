//! Requests to the API, before they go anywhere.

use bytes::Bytes;
use http::Method;
use reqwest::Url;
use serde_json::{Value, json};

use super::Collection;
use crate::error::{CommandError, CommandResult};

/// The path under which the API is.
const API: &str = "/api/v1";
/// Fields whose values are never shown.
const HIDDEN: [&str; 4] = ["private_key", "passphrase", "password", "secret"];

/// A request to the API.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(super) method: Method,
    prefix: &'static str,
    path: Vec<String>,
    query: Vec<(&'static str, String)>,
    pub(super) headers: Vec<(&'static str, String)>,
    body: Option<Value>,
    /// Names that the user gave: where nothing answers to one, a similar one may be meant.
    pub(super) names: Vec<(Collection, String)>,
    /// The answer takes as long as it takes.
    pub(super) patient: bool,
}

impl Request {
    fn new<'a>(method: Method, path: impl IntoIterator<Item = &'a str>) -> Self {
        let path = path.into_iter().map(str::to_owned).collect();
        Self {
            method,
            prefix: API,
            path,
            query: Vec::new(),
            headers: Vec::new(),
            body: None,
            names: Vec::new(),
            patient: false,
        }
    }

    /// Reads a path.
    pub(crate) fn get<'a>(path: impl IntoIterator<Item = &'a str>) -> Self {
        Self::new(Method::GET, path)
    }

    /// Asks whether birun can do its work.
    pub(crate) fn ready() -> Self {
        Self { prefix: "", ..Self::new(Method::GET, ["readyz"]) }
    }

    /// Creates or starts something.
    pub(crate) fn post<'a>(path: impl IntoIterator<Item = &'a str>, body: Value) -> Self {
        Self { body: Some(body), ..Self::new(Method::POST, path) }
    }

    /// The same request to another path.
    pub(crate) fn at<'a>(self, path: impl IntoIterator<Item = &'a str>) -> Self {
        Self { path: path.into_iter().map(str::to_owned).collect(), ..self }
    }

    /// Does something that needs no further words.
    pub(crate) fn act<'a>(path: impl IntoIterator<Item = &'a str>) -> Self {
        Self::new(Method::POST, path)
    }

    /// Changes something.
    pub(crate) fn patch<'a>(path: impl IntoIterator<Item = &'a str>, body: Value) -> Self {
        Self { body: Some(body), ..Self::new(Method::PATCH, path) }
    }

    /// Deletes something.
    pub(crate) fn delete<'a>(path: impl IntoIterator<Item = &'a str>) -> Self {
        Self::new(Method::DELETE, path)
    }

    /// Adds a query parameter.
    pub(crate) fn query(mut self, name: &'static str, value: impl ToString) -> Self {
        self.query.push((name, value.to_string()));
        self
    }

    /// Adds a query parameter, if there is a value.
    pub(crate) fn query_opt(self, name: &'static str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Waits for the answer without a limit: the work is long, and ends by itself.
    pub(crate) fn patient(self) -> Self {
        Self { patient: true, ..self }
    }

    /// Lets the change happen only if the resource still is as this one was read.
    pub(crate) fn if_unchanged(self, resource: &Value) -> Self {
        match resource.get("version").and_then(Value::as_u64) {
            Some(version) => self.header("if-match", format!("\"{version}\"")),
            None => self,
        }
    }

    /// Notes that the user named something: if it does not exist, similar names are told.
    pub(crate) fn naming(mut self, collection: Collection, name: &str) -> Self {
        self.names.push((collection, name.to_owned()));
        self
    }

    /// Path and query, percent-encoded: no name can step out of its segment.
    pub(super) fn path_and_query(&self) -> CommandResult<String> {
        let mut url = Url::parse("http://birun").map_err(|error| CommandError::failed("a path").because(&error))?;
        if self.path.iter().any(|segment| matches!(segment.as_str(), "" | "." | "..")) {
            return Err(CommandError::usage("an empty name, `.` or `..` names nothing"));
        }
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.clear().extend(&self.path);
        }
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        Ok(format!("{}{}{query}", self.prefix, url.path()))
    }

    /// The request as HTTP, for a base that ends without a slash.
    pub(super) fn to_http(&self, base: &str) -> CommandResult<http::Request<Bytes>> {
        let mut request =
            http::Request::builder().method(&self.method).uri(format!("{base}{}", self.path_and_query()?));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let body = match &self.body {
            Some(body) => {
                request = request.header("content-type", "application/json");
                Bytes::from(body.to_string())
            }
            None => Bytes::new(),
        };
        request.body(body).map_err(|error| CommandError::usage("this cannot be asked over HTTP").because(&error))
    }

    /// What would be sent, without any secret.
    pub(crate) fn preview(&self) -> CommandResult<Value> {
        let headers: serde_json::Map<String, Value> =
            self.headers.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        Ok(json!({
            "method": self.method.as_str(),
            "path": self.path_and_query()?,
            "headers": headers,
            "body": self.body.clone().map(without_secrets),
        }))
    }
}

fn without_secrets(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .map(|(name, value)| {
                    let hidden = HIDDEN.contains(&name.as_str()) && value.is_string();
                    let value = if hidden { json!("***") } else { without_secrets(value) };
                    (name, value)
                })
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(without_secrets).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_steps_out_of_its_segment() {
        let path = |name: &str| Request::get(["servers", name]).path_and_query();
        assert_eq!(path("web-1").unwrap(), "/api/v1/servers/web-1");
        assert_eq!(path("a/../b?c#d").unwrap(), "/api/v1/servers/a%2F..%2Fb%3Fc%23d");
        assert!(path("..").is_err() && path("").is_err());
    }

    #[test]
    fn query_values_are_encoded() {
        let request = Request::get(["servers"]).query("on", "tag:prod&tag:web,!web-3").query_opt("tag", None::<&str>);
        assert_eq!(request.path_and_query().unwrap(), "/api/v1/servers?on=tag%3Aprod%26tag%3Aweb%2C%21web-3");
    }

    #[test]
    fn a_preview_shows_no_secret() {
        let body = json!({
            "name": "x", "private_key": "KEY", "passphrase": "PASS", "password": "WORD",
            "params": {"TOKEN": {"secret": "HUNTER2"}, "LIMIT": "80"},
        });
        let preview = Request::post(["executions"], body).preview().unwrap().to_string();
        for secret in ["KEY", "PASS", "WORD", "HUNTER2"] {
            assert!(!preview.contains(secret), "{preview}");
        }
        assert!(preview.contains("\"LIMIT\":\"80\""));
    }
}
