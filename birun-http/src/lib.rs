//! The engine as an HTTP API: JSON, streams, OpenAPI; mountable into any poem application.

mod answer;
mod app;
mod audit;
mod auth;
mod body;
mod credential;
mod cursor;
mod document;
mod dto;
mod execution;
mod group;
mod headers;
mod host_key;
mod in_process;
mod log;
mod metrics;
mod problem;
mod project;
mod refusals;
mod request_id;
mod schema;
mod script;
mod serve;
mod server;
mod stream;
mod system;

pub use app::{App, Mount, mount};
pub use auth::{Authenticate, BearerToken, authenticate_with};
pub use document::openapi_document;
pub use in_process::{BodyStream, InProcess};
pub use problem::status_of;
pub use serve::{Tls, may_listen, serve};

/// The vocabulary of requests and responses, as [`InProcess`] takes and gives them.
pub use poem::http;
