//! The audit log on the wire.

use birun_core::audit::{self, AuditOutcome};
use poem_openapi::Object;
use serde_json::Value;
use uuid::Uuid;

use crate::dto::actor::Actor;
use crate::schema::{Timestamp, Word};

/// One entry of the audit log.
#[derive(Debug, Object)]
pub(crate) struct AuditEntry {
    id: Uuid,
    at: Timestamp,
    /// Who asked.
    actor: Actor,
    /// What was done: `<resource>.<verb>`, for example `server.create`.
    action: String,
    outcome: Word<AuditOutcome>,
    /// The kind of the resource concerned.
    resource_kind: String,
    /// The resource, where one is concerned.
    #[oai(nullable)]
    resource_id: Option<Uuid>,
    /// The resource's name at that time.
    #[oai(nullable)]
    resource_name: Option<String>,
    /// The resource before the change, without secrets.
    #[oai(nullable)]
    before: Option<Value>,
    /// The resource after the change, without secrets.
    #[oai(nullable)]
    after: Option<Value>,
    /// The request that asked.
    #[oai(nullable)]
    request_id: Option<String>,
}

/// What was found when the audit log was checked against its chain of seals.
#[derive(Debug, Object)]
pub(crate) struct AuditCheck {
    /// Whether everything that is sealed is as it was sealed.
    intact: bool,
    /// Sealed entries that were found right.
    checked: u64,
    /// Entries that are not sealed yet.
    unsealed: u64,
    /// The number of the last sealed entry.
    last: u64,
    /// The first thing that is not right.
    #[oai(nullable)]
    fault: Option<AuditFault>,
}

/// Where the audit log was tampered with.
#[derive(Debug, Object)]
pub(crate) struct AuditFault {
    /// The number of the entry in the chain.
    number: u64,
    /// The entry that stands there, if one does.
    #[oai(nullable)]
    entry: Option<Uuid>,
    /// What is wrong, in words.
    message: String,
}

impl From<audit::AuditCheck> for AuditCheck {
    fn from(check: audit::AuditCheck) -> Self {
        let fault = check.fault.map(|fault| AuditFault {
            number: fault.number,
            entry: fault.entry.map(Into::into),
            message: fault.what.to_owned(),
        });
        Self { intact: fault.is_none(), checked: check.checked, unsealed: check.unsealed, last: check.last, fault }
    }
}

impl From<audit::AuditEntry> for AuditEntry {
    fn from(entry: audit::AuditEntry) -> Self {
        Self {
            id: entry.id.as_uuid(),
            at: entry.at.into(),
            actor: entry.actor.into(),
            action: entry.action,
            outcome: Word(entry.outcome),
            resource_kind: entry.resource_kind,
            resource_id: entry.resource_id,
            resource_name: entry.resource_name,
            before: entry.before,
            after: entry.after,
            request_id: entry.request_id,
        }
    }
}
