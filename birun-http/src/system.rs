//! birun itself: health, readiness, metrics, status, retention.

use std::time::Duration;

use birun_core::engine::{self, Engine};
use birun_core::{Error, ErrorCode, Gate, Result};
use poem::Request;
use poem::web::Data;
use poem_openapi::payload::{Json, PlainText};
use poem_openapi::{ApiResponse, OpenApi};

use crate::answer::errors::{BODY, FORBIDDEN};
use crate::answer::{ApiError, Found};
use crate::app::Draining;
use crate::auth::Caller;
use crate::body::Body;
use crate::document::Tag;
use crate::dto::system::{Check, Health, Prune, Pruned, Readiness, Rekeyed, Status};
use crate::metrics::MetricsSource;

/// How long a part may take to show that it works.
const PATIENCE: Duration = Duration::from_secs(3);

/// Operations on birun itself.
pub(crate) struct System;

/// Whether birun lives.
#[derive(ApiResponse)]
enum Alive {
    /// It does.
    #[oai(status = 200)]
    Yes(Json<Health>),
}

/// Whether birun can do its work.
#[derive(ApiResponse)]
enum Ready {
    /// It can.
    #[oai(status = 200)]
    Yes(Json<Readiness>),
    /// It cannot now.
    #[oai(status = 503)]
    No(Json<Readiness>),
}

/// What the metrics are answered as.
#[derive(ApiResponse)]
enum Metrics {
    /// In the text format of Prometheus.
    #[oai(status = 200, content_type = "text/plain; version=0.0.4; charset=utf-8")]
    Text(PlainText<String>),
}

#[OpenApi(tag = "Tag::System")]
impl System {
    /// Whether birun lives
    #[oai(path = "/healthz", method = "get", operation_id = "get_health")]
    async fn health(&self) -> Alive {
        Alive::Yes(Json(Health { status: "ok".to_owned() }))
    }

    /// Whether birun can do its work
    ///
    /// Without a credential it answers the status alone.
    #[oai(path = "/readyz", method = "get", operation_id = "get_readiness")]
    async fn ready(&self, request: &Request, Data(engine): Data<&Engine>, Data(draining): Data<&Draining>) -> Ready {
        let mut checks = look(engine).await;
        if draining.0.is_cancelled() {
            checks.push(stopping());
        }
        let ready = checks.iter().all(|check| check.ok);
        let told = if request.data::<Gate>().is_some() { checks } else { Vec::new() };
        let status = if ready { "ok" } else { "unavailable" };
        let readiness = Json(Readiness { status: status.to_owned(), checks: told });
        if ready { Ready::Yes(readiness) } else { Ready::No(readiness) }
    }

    /// Read metrics
    #[oai(path = "/metrics", method = "get", operation_id = "get_metrics")]
    async fn metrics(&self, _caller: Caller, Data(source): Data<&MetricsSource>) -> Result<Metrics, ApiError<0>> {
        let text = source.render().ok_or_else(|| Error::new(ErrorCode::NotFound, "no metrics are collected here"))?;
        Ok(Metrics::Text(PlainText(text)))
    }

    /// How the queue and its workers stand
    #[oai(path = "/api/v1/status", method = "get", operation_id = "get_status")]
    async fn status(&self, Caller(gate): Caller) -> Result<Found<Status>, ApiError<0>> {
        Ok(Found::Found(Json(gate.queue().await?.into())))
    }

    /// Delete old executions and audit entries
    ///
    /// In many small transactions; what was deleted stays deleted if it is interrupted.
    #[oai(path = "/api/v1/admin/prune", method = "post", operation_id = "prune")]
    async fn prune(
        &self,
        Caller(gate): Caller,
        body: Body<Prune>,
    ) -> Result<Found<Pruned>, ApiError<{ BODY | FORBIDDEN }>> {
        let pruned = gate.prune(&body.0.into_core()?).await?;
        Ok(Found::Found(Json(pruned.into())))
    }

    /// Seal every secret anew under the newest master key
    ///
    /// In many small transactions, while everything else goes on; asking again goes on where it was interrupted.
    #[oai(path = "/api/v1/admin/rekey", method = "post", operation_id = "rekey")]
    async fn rekey(&self, Caller(gate): Caller) -> Result<Found<Rekeyed>, ApiError<FORBIDDEN>> {
        Ok(Found::Found(Json(gate.rekey().await?.into())))
    }
}

/// Looks at every part; one that hangs is not ready either.
async fn look(engine: &Engine) -> Vec<Check> {
    match tokio::time::timeout(PATIENCE, engine.checks()).await {
        Ok(checks) => checks.into_iter().map(shown).collect(),
        Err(_) => {
            let message = format!("no answer within {} s", PATIENCE.as_secs());
            vec![Check { name: "database".to_owned(), ok: false, message: Some(message) }]
        }
    }
}

/// What keeps a process that is about to stop from being ready.
fn stopping() -> Check {
    Check { name: "shutdown".to_owned(), ok: false, message: Some("the process is about to stop".to_owned()) }
}

fn shown(check: engine::Check) -> Check {
    let message = check.result.as_ref().err().map(ToString::to_string);
    Check { name: check.name.to_owned(), ok: check.result.is_ok(), message }
}
