//! What the engine does about host keys that executors meet.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;

use crate::audit::{AuditEntry, AuditOutcome};
use crate::engine::Shared;
use crate::error::{Error, ErrorCode, Result};
use crate::execution::ServerTarget;
use crate::execution::executor::HostTrust;
use crate::gate::{Scope, system_actor};
use crate::id::{AuditId, HostKeyId, ProjectId};
use crate::inventory::{HostKey, HostKeyOrigin, HostKeyPolicy, HostKeyStatus, OfferedKey, Refusal, Verdict, judge};
use crate::store::{StoreError, StoreResult};

/// Judges keys once more before they are trusted, records newly trusted ones, keeps unknown ones for a decision, and writes down every refusal.
#[derive(Debug)]
pub(crate) struct EngineTrust {
    shared: Arc<Shared>,
    project: ProjectId,
}

impl EngineTrust {
    pub(crate) fn shared(shared: Arc<Shared>, project: ProjectId) -> Arc<dyn HostTrust> {
        Arc::new(Self { shared, project })
    }

    /// Judges the key once more by what is recorded now: since the snapshot that the executor judged
    /// by, a key may have been approved or revoked.
    async fn trust(&self, server: &ServerTarget, offered: &OfferedKey, policy: HostKeyPolicy) -> Result<()> {
        let refusal = match judge(policy, &self.recorded(server).await?, offered) {
            Verdict::Trust => return Ok(()),
            Verdict::TrustAndRecord => match self.record(server, offered, HostKeyStatus::Approved).await {
                // Someone else recorded a key at the same time: it decides.
                Err(StoreError::Conflict { .. } | StoreError::Stale { .. }) => {
                    match judge(HostKeyPolicy::Strict, &self.recorded(server).await?, offered) {
                        Verdict::Trust | Verdict::TrustAndRecord => return Ok(()),
                        Verdict::Refuse(refusal) => refusal,
                    }
                }
                recorded => return Ok(recorded?),
            },
            Verdict::Refuse(refusal) => refusal,
        };
        self.note_refusal(server, offered, &refusal).await?;
        Err(refused(server, offered, &refusal))
    }

    async fn recorded(&self, server: &ServerTarget) -> Result<Vec<HostKey>> {
        Ok(self.shared.store.host_keys_of(&Scope::of(self.project), &[server.id]).await?)
    }

    async fn note_refusal(&self, server: &ServerTarget, offered: &OfferedKey, refusal: &Refusal) -> Result<()> {
        match refusal {
            Refusal::Unknown => self.keep_pending(server, offered).await,
            Refusal::Changed { expected } => {
                self.keep_pending(server, offered).await?;
                self.refuse(server, offered, expected, "changed").await
            }
            Refusal::Revoked => self.refuse(server, offered, &[], "revoked").await,
        }
    }

    async fn keep_pending(&self, server: &ServerTarget, offered: &OfferedKey) -> Result<()> {
        match self.record(server, offered, HostKeyStatus::Pending).await {
            // Two connections met the same key at the same time: it is recorded, which is all we want.
            Err(StoreError::Conflict { .. } | StoreError::Stale { .. }) => Ok(()),
            recorded => Ok(recorded?),
        }
    }

    async fn record(&self, server: &ServerTarget, offered: &OfferedKey, status: HostKeyStatus) -> StoreResult<()> {
        let scope = Scope::of(self.project);
        let now = self.shared.clock.now();
        let known = self.shared.store.host_keys_of(&scope, &[server.id]).await?;
        let known = known.into_iter().find(|key| key.key == offered.key);
        match &known {
            Some(_) if status == HostKeyStatus::Pending => return Ok(()),
            Some(key) if key.status != HostKeyStatus::Pending => {
                return Err(StoreError::Conflict { why: format!("the host key is {} by now", key.status) });
            }
            _ => {}
        }
        let mut key = known.unwrap_or_else(|| HostKey {
            id: HostKeyId::new(),
            project_id: self.project,
            server_id: server.id,
            algorithm: offered.algorithm.clone(),
            key: offered.key.clone(),
            fingerprint: offered.fingerprint.clone(),
            status,
            origin: HostKeyOrigin::Offered,
            version: 0,
            created_at: now,
            updated_at: now,
        });
        key.status = status;
        key.version += 1;
        key.updated_at = now;
        let entry = self.entry(&format!("host_key.{status}"), AuditOutcome::Done, server).after(json!(key));
        match status {
            HostKeyStatus::Approved => self.shared.store.trust_host_key(&scope, &key, &entry).await,
            _ => self.shared.store.create_host_key(&scope, &key, &entry).await,
        }
    }

    async fn refuse(&self, server: &ServerTarget, offered: &OfferedKey, expected: &[String], why: &str) -> Result<()> {
        let entry = self
            .entry("host_key.refuse", AuditOutcome::Refused, server)
            .after(json!({"why": why, "offered": offered.fingerprint, "expected": expected}));
        Ok(self.shared.store.append_audit(&Scope::of(self.project), &entry).await?)
    }

    fn entry(&self, action: &str, outcome: AuditOutcome, server: &ServerTarget) -> AuditEntry {
        AuditEntry {
            id: AuditId::new(),
            at: self.shared.clock.now(),
            project: self.project,
            actor: system_actor("worker"),
            action: action.to_owned(),
            outcome,
            resource_kind: "server".to_owned(),
            resource_id: Some(server.id.as_uuid()),
            resource_name: Some(server.name.to_string()),
            before: None,
            after: None,
            request_id: None,
        }
    }
}

#[async_trait]
impl HostTrust for EngineTrust {
    async fn note(&self, server: &ServerTarget, offered: &OfferedKey, verdict: &Verdict) -> Result<()> {
        match verdict {
            Verdict::Trust => self.trust(server, offered, HostKeyPolicy::Strict).await,
            Verdict::TrustAndRecord => self.trust(server, offered, HostKeyPolicy::AcceptNew).await,
            Verdict::Refuse(refusal) => self.note_refusal(server, offered, refusal).await,
        }
    }
}

/// A key that was to be trusted and is not, by what is recorded now.
fn refused(server: &ServerTarget, offered: &OfferedKey, refusal: &Refusal) -> Error {
    let OfferedKey { algorithm, fingerprint, .. } = offered;
    let name = &server.name;
    let (code, why) = match refusal {
        Refusal::Unknown => (ErrorCode::HostKeyUnknown, "no host key is approved for it any more".to_owned()),
        Refusal::Changed { expected } => {
            (ErrorCode::HostKeyMismatch, format!("another one was approved: {}", expected.join(" or ")))
        }
        Refusal::Revoked => (ErrorCode::HostKeyRevoked, "this key was revoked".to_owned()),
    };
    Error::new(code, format!("{name} offers the host key {algorithm} {fingerprint}, and {why}"))
        .with_hint(format!("see what is recorded with  birun server host-key list {name}"))
}
