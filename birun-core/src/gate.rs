//! The one door: who acts, may they, do it, and write it down.

use std::sync::Arc;

use crate::audit::{AuditEntry, AuditFilter, AuditOutcome};
use crate::engine::Shared;
use crate::error::{Error, ErrorCode, Result};
use crate::id::{AuditId, ProjectId};
use crate::identity::{Actor, ActorKind, Permission, Principal, allows};
use crate::page::{Page, PageRequest};

/// The right to touch storage, for one caller in one project. Only the gate makes it.
#[derive(Clone, Debug)]
pub struct Scope {
    project: ProjectId,
}

impl Scope {
    /// The project that the caller acts in.
    #[must_use]
    pub const fn project(&self) -> ProjectId {
        self.project
    }

    pub(crate) const fn of(project: ProjectId) -> Self {
        Self { project }
    }
}

/// Everything that a caller can do, as that caller. Cheap to clone.
///
/// Each room adds its methods in its `service.rs`. Every one of them names a
/// [`Permission`]; a refusal is written into the audit log.
#[derive(Clone, Debug)]
pub struct Gate {
    pub(crate) shared: Arc<Shared>,
    principal: Principal,
    request_id: Option<String>,
}

impl Gate {
    pub(crate) const fn new(shared: Arc<Shared>, principal: Principal) -> Self {
        Self { shared, principal, request_id: None }
    }

    /// The same caller within a named request; the name goes into audit entries.
    #[must_use]
    pub fn with_request_id(mut self, request_id: impl Into<String>) -> Self {
        self.request_id = Some(request_id.into());
        self
    }

    /// Who acts.
    #[must_use]
    pub const fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Lets the caller through, or refuses and writes the refusal down.
    pub(crate) async fn authorize(&self, permission: Permission) -> Result<Scope> {
        let scope = Scope::of(self.principal.project);
        if allows(self.principal.role, permission) {
            return Ok(scope);
        }
        self.refuse(&scope, permission).await
    }

    /// Lets the caller through to what concerns the whole installation: that is for those who own its first project.
    pub(crate) async fn authorize_everywhere(&self, permission: Permission) -> Result<Scope> {
        let scope = self.authorize(permission).await?;
        if scope.project() == ProjectId::DEFAULT {
            return Ok(scope);
        }
        self.refuse(&scope, permission).await
    }

    async fn refuse(&self, scope: &Scope, permission: Permission) -> Result<Scope> {
        let entry = AuditEntry { outcome: AuditOutcome::Refused, ..self.audit(permission.as_str()) };
        self.shared.store.append_audit(scope, &entry).await?;
        Err(Error::new(
            ErrorCode::Forbidden,
            format!("{} may not do this: it needs {permission}", self.principal.actor.name),
        )
        .with_hint("ask an owner of the project for a role that includes it"))
    }

    /// An audit entry for what this caller does now.
    pub(crate) fn audit(&self, action: &str) -> AuditEntry {
        AuditEntry {
            id: AuditId::new(),
            at: self.shared.clock.now(),
            project: self.principal.project,
            actor: self.principal.actor.clone(),
            action: action.to_owned(),
            outcome: AuditOutcome::Done,
            resource_kind: action.split('.').next().unwrap_or_default().to_owned(),
            resource_id: None,
            resource_name: None,
            before: None,
            after: None,
            request_id: self.request_id.clone(),
        }
    }

    /// Lists the audit log, newest first.
    ///
    /// # Errors
    /// `forbidden`, and what storage answers.
    pub async fn audit_log(&self, filter: &AuditFilter, page: PageRequest) -> Result<Page<AuditEntry>> {
        let scope = self.authorize(Permission::AuditRead).await?;
        Ok(self.shared.store.audit_entries(&scope, filter, page).await?)
    }
}

/// The actor that birun itself appears as.
pub(crate) fn system_actor(name: &str) -> Actor {
    Actor { kind: ActorKind::System, name: name.to_owned() }
}
