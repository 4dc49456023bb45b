//! An application that is served alone, under its base path.

use poem::http::Uri;
use poem::http::uri::PathAndQuery;
use poem::{Endpoint, Request, Response};

use crate::app::App;

/// Answers under the application's base path what the application answers at its root.
#[derive(Clone)]
pub(super) struct Rooted(pub(super) App);

impl Endpoint for Rooted {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let inside = inside(request.uri(), self.0.base_path());
        // What is outside is at no route of the application, which says so in its own words.
        *request.uri_mut() = inside.unwrap_or_default();
        self.0.call(request).await
    }
}

/// The address below the base path; `None` if it is outside.
fn inside(uri: &Uri, base_path: &str) -> Option<Uri> {
    let rest = uri.path_and_query()?.as_str().strip_prefix(base_path)?;
    let rest = if rest.is_empty() { "/" } else { rest };
    let path: PathAndQuery = rest.starts_with('/').then(|| rest.parse().ok())??;
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_path_is_taken_off_at_a_boundary() {
        for (uri, base, expected) in [
            ("/healthz", "", Some("/healthz")),
            ("/ops/healthz", "/ops", Some("/healthz")),
            ("/ops/api/v1/servers?limit=1", "/ops", Some("/api/v1/servers?limit=1")),
            ("/ops", "/ops", Some("/")),
            ("/opsx/healthz", "/ops", None),
            ("/healthz", "/ops", None),
        ] {
            let found = inside(&uri.parse().unwrap(), base).map(|uri| uri.to_string());
            assert_eq!(found.as_deref(), expected, "{uri} under {base}");
        }
    }
}
