//! The OpenAPI document, and the page that shows it.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use bytes::Bytes;
use poem::web::Data;
use poem_openapi::payload::{Binary, PlainText};
use poem_openapi::{ApiResponse, LicenseObject, OpenApi, OpenApiService, Tags};

use crate::answer::Links;
use crate::audit::AuditLogs;
use crate::credential::Credentials;
use crate::execution::Executions;
use crate::group::Groups;
use crate::host_key::HostKeys;
use crate::log::Logs;
use crate::script::Scripts;
use crate::server::Servers;
use crate::system::System;

/// The page; it loads the script and the document from beside itself, so it works under any path.
const PAGE: &str = include_str!("docs.html");

/// The page runs its own script, which makes its own styles, and talks to this origin only.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; connect-src 'self'; \
                           img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const DESCRIPTION: &str = include_str!("description.md");

/// The rooms of the API.
#[derive(Tags)]
pub(crate) enum Tag {
    /// Machines that work can be run on.
    Servers,
    /// Named sets of servers.
    #[oai(rename = "Server groups")]
    ServerGroups,
    /// What servers are signed in to with. Values go in and never come out.
    Credentials,
    /// Which keys servers may answer with.
    #[oai(rename = "Host keys")]
    HostKeys,
    /// Programs with versions and typed parameters.
    Scripts,
    /// Everything that runs.
    Executions,
    /// Who did what.
    #[oai(rename = "Audit logs")]
    AuditLogs,
    /// How birun itself is.
    System,
}

/// Everything that the API consists of.
pub(crate) type Rooms =
    (Servers, Groups, Credentials, HostKeys, Scripts, Executions, Logs, AuditLogs, System, Document);

/// The API's document as JSON, for an application that is mounted under `base_path` (empty: the root).
#[must_use]
pub fn openapi_document(base_path: &str) -> String {
    service(base_path).spec() + "\n"
}

/// The API as poem-openapi serves and describes it.
pub(crate) fn service(base_path: &str) -> OpenApiService<Rooms, ()> {
    let service = OpenApiService::new(rooms(), "birun", "1")
        .description(DESCRIPTION)
        .license(LicenseObject::new("MIT OR Apache-2.0"));
    if base_path.is_empty() { service } else { service.server(base_path) }
}

/// Every route that the router takes, with its methods.
pub(crate) fn routes() -> BTreeMap<String, Vec<String>> {
    let mut table = HashMap::new();
    OpenApi::add_routes(rooms(), &mut table);
    let methods = |endpoints: HashMap<poem::http::Method, _>| {
        let mut methods: Vec<String> = endpoints.into_keys().map(|method| method.to_string()).collect();
        methods.sort();
        methods
    };
    table.into_iter().map(|(path, endpoints)| (path, methods(endpoints))).collect()
}

fn rooms() -> Rooms {
    (Servers, Groups, Credentials, HostKeys, Scripts, Executions, Logs, AuditLogs, System, Document)
}

/// The document and its page.
pub(crate) struct Document;

/// What the document is answered as.
#[derive(ApiResponse)]
enum Described {
    /// The document.
    #[oai(status = 200, content_type = "application/json")]
    Document(PlainText<String>),
}

/// What the page is answered as.
#[derive(ApiResponse)]
enum Page {
    /// A page for a browser.
    #[oai(status = 200, content_type = "text/html; charset=utf-8")]
    Html(PlainText<&'static str>, #[oai(header = "Content-Security-Policy")] String),
}

/// What the page's script is answered as.
#[derive(ApiResponse)]
enum Script {
    /// The script of the page.
    #[oai(status = 200, content_type = "text/javascript; charset=utf-8")]
    JavaScript(Binary<Bytes>),
}

#[OpenApi(prefix_path = "/api", tag = "Tag::System")]
impl Document {
    /// Get this document
    ///
    /// The same for every installation of a version, so it needs no credential.
    #[oai(path = "/v1/openapi.json", method = "get", operation_id = "get_document")]
    async fn document(&self, Data(links): Data<&Links>) -> Described {
        Described::Document(PlainText(openapi_document(links.base_path())))
    }

    /// Read this document in a browser
    #[oai(path = "/docs", method = "get", operation_id = "get_docs")]
    async fn page(&self) -> Page {
        Page::Html(PlainText(PAGE), PAGE_POLICY.to_owned())
    }

    #[oai(path = "/docs/rapidoc.js", method = "get", hidden)]
    async fn script(&self) -> Script {
        Script::JavaScript(Binary(SCRIPT.clone()))
    }
}

/// The script of RapiDoc, which poem-openapi carries inside a page of its own.
static SCRIPT: LazyLock<Bytes> = LazyLock::new(|| {
    let page = OpenApiService::new((), "", "").rapidoc_html();
    let script = page.split_once(r#"<script charset="UTF-8">"#).and_then(|(_, rest)| rest.split_once("</script>"));
    Bytes::from(script.map_or_else(String::new, |(script, _)| script.to_owned()))
});
