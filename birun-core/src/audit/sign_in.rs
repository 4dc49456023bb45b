//! Callers that nobody knows.

use serde_json::json;

use super::{AuditEntry, AuditOutcome};
use crate::engine::Engine;
use crate::error::Result;
use crate::gate::{Scope, system_actor};
use crate::id::{AuditId, ProjectId};

/// Callers at one address who could not be recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedSignIns {
    /// Where they call from, as the transport knows it.
    pub address: String,
    /// How often they asked.
    pub attempts: u64,
    /// The request, where it was only one.
    pub request_id: Option<String>,
}

impl Engine {
    /// Writes down that callers could not be recognised. Nobody acts, so it is the installation's
    /// first project that hears of it. To keep the log bounded is the transport's business.
    ///
    /// # Errors
    /// What storage answers.
    pub async fn note_refused_sign_ins(&self, refused: &RefusedSignIns) -> Result<()> {
        let scope = Scope::of(ProjectId::DEFAULT);
        let entry = AuditEntry {
            id: AuditId::new(),
            at: self.shared.clock.now(),
            project: scope.project(),
            actor: system_actor("api"),
            action: "sign_in.refuse".to_owned(),
            outcome: AuditOutcome::Refused,
            resource_kind: "sign_in".to_owned(),
            resource_id: None,
            resource_name: Some(refused.address.clone()),
            before: None,
            after: Some(json!({"address": refused.address, "attempts": refused.attempts})),
            request_id: refused.request_id.clone(),
        };
        Ok(self.shared.store.append_audit(&scope, &entry).await?)
    }
}
