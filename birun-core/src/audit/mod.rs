//! The audit log: who did what to what, with the values before and after.
//!
//! An entry is committed in the transaction of the action that it tells of, or not at all.
//! Within a second it is sealed into a chain, so that nobody changes or removes it unseen.
//! Transitions that a worker makes are the journal's business and are not audited.

mod chain;
mod sealer;
mod sign_in;

use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use crate::id::{AuditId, ProjectId};
use crate::identity::Actor;
use crate::text_enum::text_enum;

pub use chain::{ChainFault, ChainHead, ChainLink, Seal, SealedEntry};
pub use sealer::AuditCheck;
pub(crate) use sealer::keep_sealed;
pub use sign_in::RefusedSignIns;

text_enum! {
    /// Whether the action was carried out.
    pub enum AuditOutcome {
        /// It was.
        Done = "done",
        /// The caller may not do this; nothing was changed.
        Refused = "refused",
    }
}

/// One entry of the audit log.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditEntry {
    /// Identifies the entry; rises with time.
    pub id: AuditId,
    /// When the action was asked for.
    pub at: DateTime<Utc>,
    /// In which project.
    pub project: ProjectId,
    /// Who asked.
    pub actor: Actor,
    /// What was done: `<resource>.<verb>`, for example `server.create`.
    pub action: String,
    /// Whether it was carried out.
    pub outcome: AuditOutcome,
    /// The kind of the resource concerned (`server`), the first part of `action`.
    pub resource_kind: String,
    /// The resource's id, where one is concerned.
    pub resource_id: Option<Uuid>,
    /// The resource's name or title at that time.
    pub resource_name: Option<String>,
    /// The resource before the change, without secrets.
    pub before: Option<Value>,
    /// The resource after the change, without secrets.
    pub after: Option<Value>,
    /// The request that asked, where the transport names requests.
    pub request_id: Option<String>,
}

impl AuditEntry {
    /// Names the resource concerned.
    #[must_use]
    pub fn on(mut self, id: impl Into<Uuid>, name: impl Into<String>) -> Self {
        self.resource_id = Some(id.into());
        self.resource_name = Some(name.into());
        self
    }

    /// Adds the resource as it was.
    #[must_use]
    pub fn before(mut self, value: Value) -> Self {
        self.before = Some(value);
        self
    }

    /// Adds the resource as it became.
    #[must_use]
    pub fn after(mut self, value: Value) -> Self {
        self.after = Some(value);
        self
    }
}

/// Which entries of the audit log.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Only entries with this action.
    pub action: Option<String>,
    /// Only entries about this resource.
    pub resource_id: Option<Uuid>,
    /// Only entries by the actor with this name.
    pub actor: Option<String>,
    /// Only entries at or after this instant.
    pub since: Option<DateTime<Utc>>,
    /// Only entries before this instant.
    pub until: Option<DateTime<Utc>>,
}
