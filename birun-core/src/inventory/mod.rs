//! Servers, groups, credentials, host keys, and the language that names several servers at once.

mod advice;
mod credential;
mod group;
mod host_key;
mod prompt;
mod server;
mod service;
mod store;
mod target;
mod trust;

pub use advice::advice;
pub use credential::{
    AgentKey, CertificateFacts, Credential, CredentialFacts, CredentialInspector, CredentialKind, NewCredential,
    OpenCredential, RotateCredential,
};
pub use group::{Group, GroupPatch, NewGroup};
pub use host_key::{
    HostKey, HostKeyOrigin, HostKeyPolicy, HostKeyStatus, NewHostKey, OfferedKey, Refusal, Verdict, judge,
};
pub use prompt::{PromptAnswer, PromptPattern};
pub use server::{ImportStatus, Imported, NewServer, Server, ServerFilter, ServerPatch};
pub use service::Resolved;
pub(crate) use service::{open_targets, resolve};
pub use store::{CredentialStore, GroupStore, HostKeyStore, ServerStore};
pub(crate) use target::one_by_one;
pub use target::{Candidate, TargetExpr, TargetName};
pub(crate) use trust::EngineTrust;
