//! The audit log.

use birun_core::Result;
use birun_core::audit::AuditFilter;
use poem_openapi::OpenApi;
use poem_openapi::param::Query;
use poem_openapi::payload::Json;
use uuid::Uuid;

use crate::answer::errors::{FORBIDDEN, INVALID, MALFORMED};
use crate::answer::{ApiError, Found, Listed, page_request};
use crate::auth::Caller;
use crate::document::Tag;
use crate::dto::audit::{AuditCheck, AuditEntry};
use crate::schema::Timestamp;

/// The list's name in paths.
const LIST: &str = "audit-logs";

/// Operations on the audit log.
pub(crate) struct AuditLogs;

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::AuditLogs")]
impl AuditLogs {
    /// Read the audit log
    #[oai(path = "/audit-logs", method = "get", operation_id = "list_audit_logs")]
    #[expect(clippy::too_many_arguments, reason = "each is a query parameter of its own")]
    async fn list(
        &self,
        Caller(gate): Caller,
        /// Items on the page: 1 to 200, default 50.
        limit: Query<Option<u32>>,
        /// The `next` of the page before.
        cursor: Query<Option<String>>,
        /// Only entries with this action: `server.create`.
        action: Query<Option<String>>,
        /// Only entries about this resource, by its full id.
        resource_id: Query<Option<Uuid>>,
        /// Only entries by the actor with this name.
        actor: Query<Option<String>>,
        /// Only entries at or after this instant.
        since: Query<Option<Timestamp>>,
        /// Only entries before this instant.
        until: Query<Option<Timestamp>>,
    ) -> Result<Listed<AuditEntry>, ApiError<{ MALFORMED | FORBIDDEN | INVALID }>> {
        let filter = AuditFilter {
            action: action.0,
            resource_id: resource_id.0,
            actor: actor.0,
            since: since.0.map(|instant| instant.0),
            until: until.0.map(|instant| instant.0),
        };
        let page = gate.audit_log(&filter, page_request(LIST, limit.0, cursor.0.as_deref())?).await?;
        Ok(Listed::of(LIST, page, AuditEntry::from))
    }

    /// Check that nobody changed the audit log
    ///
    /// Every entry is sealed into a chain within a second, under a key that the master key seals. The
    /// answer is 200 also when the log was tampered with: then `fault` names the first entry that is
    /// not right.
    #[oai(path = "/audit-logs/verify", method = "get", operation_id = "verify_audit_log")]
    async fn verify(&self, Caller(gate): Caller) -> Result<Found<AuditCheck>, ApiError<FORBIDDEN>> {
        Ok(Found::Found(Json(gate.verify_audit_log().await?.into())))
    }
}
