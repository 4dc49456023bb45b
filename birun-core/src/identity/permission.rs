//! The one permission table.

use crate::text_enum::text_enum;

text_enum! {
    /// A role in a project; each includes those before it.
    pub enum Role {
        /// Sees everything but secrets.
        Viewer = "viewer",
        /// Runs and cancels what others wrote.
        Operator = "operator",
        /// Writes scripts, servers and their neighbours.
        Editor = "editor",
        /// Decides about credentials, host keys and the project itself.
        Owner = "owner",
    }
}

text_enum! {
    /// One thing that can be done. Every route and every method of the gate names one.
    pub enum Permission {
        /// See servers and groups.
        ServerRead = "server.read",
        /// Create, change and delete servers and groups.
        ServerWrite = "server.write",
        /// Connect to a server to test it.
        ServerTest = "server.test",
        /// See that credentials exist (never their values).
        CredentialRead = "credential.read",
        /// Create, rotate and delete credentials.
        CredentialWrite = "credential.write",
        /// See recorded host keys.
        HostKeyRead = "host_key.read",
        /// Approve, add and revoke host keys.
        HostKeyApprove = "host_key.approve",
        /// See scripts and their versions.
        ScriptRead = "script.read",
        /// Create, change and delete scripts.
        ScriptWrite = "script.write",
        /// See executions, their steps and their output.
        ExecutionRead = "execution.read",
        /// Run stored scripts and registered jobs.
        ExecutionRun = "execution.run",
        /// Run commands and scripts that are not stored.
        ExecutionRunAdHoc = "execution.run_ad_hoc",
        /// Cancel executions.
        ExecutionCancel = "execution.cancel",
        /// Delete executions and prune history.
        ExecutionDelete = "execution.delete",
        /// Read the audit log.
        AuditRead = "audit.read",
        /// Seal every secret of the installation anew under the newest master key.
        VaultRekey = "vault.rekey",
    }
}

/// The least role that each permission needs.
pub const RULES: [(Permission, Role); 16] = [
    (Permission::ServerRead, Role::Viewer),
    (Permission::ServerWrite, Role::Editor),
    (Permission::ServerTest, Role::Operator),
    (Permission::CredentialRead, Role::Editor),
    (Permission::CredentialWrite, Role::Owner),
    (Permission::HostKeyRead, Role::Viewer),
    (Permission::HostKeyApprove, Role::Owner),
    (Permission::ScriptRead, Role::Viewer),
    (Permission::ScriptWrite, Role::Editor),
    (Permission::ExecutionRead, Role::Viewer),
    (Permission::ExecutionRun, Role::Operator),
    (Permission::ExecutionRunAdHoc, Role::Editor),
    (Permission::ExecutionCancel, Role::Operator),
    (Permission::ExecutionDelete, Role::Owner),
    (Permission::AuditRead, Role::Owner),
    (Permission::VaultRekey, Role::Owner),
];

/// Whether `role` includes `permission`. What no rule names is refused.
#[must_use]
pub fn allows(role: Role, permission: Permission) -> bool {
    RULES.iter().any(|(ruled, least)| *ruled == permission && role >= *least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_permission_has_exactly_one_rule() {
        for permission in Permission::ALL {
            assert_eq!(RULES.iter().filter(|(ruled, _)| ruled == permission).count(), 1, "{permission}");
        }
    }

    #[test]
    fn roles_include_those_before_them() {
        for pair in Role::ALL.windows(2) {
            for permission in Permission::ALL {
                assert!(!allows(pair[0], *permission) || allows(pair[1], *permission), "{permission}");
            }
        }
    }
}
