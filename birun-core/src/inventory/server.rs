//! Servers: machines that work can be run on.

use chrono::{DateTime, Utc};

use crate::error::{Error, Result};
use crate::id::{CredentialId, GroupId, ProjectId, Selector, ServerId};
use crate::inventory::TargetExpr;
use crate::name::{Name, Tag};
use crate::text_enum::text_enum;

/// The port that SSH servers listen on by default.
pub(crate) const DEFAULT_PORT: u16 = 22;
/// The executor that reaches a server unless it says otherwise.
pub(crate) const DEFAULT_EXECUTOR: &str = "ssh";

/// A machine that work can be run on.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Server {
    /// Identifies the server.
    pub id: ServerId,
    /// The project it belongs to.
    pub project_id: ProjectId,
    /// Unique in the project.
    pub name: Name,
    /// Host name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The user to sign in as.
    pub user: String,
    /// What it is signed in with.
    pub credential_id: Option<CredentialId>,
    /// The name of the executor that reaches it.
    pub executor: String,
    /// Sorted, without repetition.
    pub tags: Vec<Tag>,
    /// The groups it is in, sorted.
    pub group_ids: Vec<GroupId>,
    /// In maintenance: executions that are accepted meanwhile leave it out, whatever names it.
    pub maintenance: bool,
    /// For people.
    pub description: String,
    /// Rises by one with each change.
    pub version: u64,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

/// A server to be created.
#[derive(Clone, Debug)]
pub struct NewServer {
    /// See [`Server::name`].
    pub name: Name,
    /// See [`Server::host`].
    pub host: String,
    /// See [`Server::port`]; 22 if not given.
    pub port: Option<u16>,
    /// See [`Server::user`].
    pub user: String,
    /// See [`Server::credential_id`].
    pub credential: Option<Selector>,
    /// See [`Server::executor`]; `ssh` if not given.
    pub executor: Option<String>,
    /// See [`Server::tags`].
    pub tags: Vec<Tag>,
    /// See [`Server::group_ids`].
    pub groups: Vec<Selector>,
    /// See [`Server::maintenance`].
    pub maintenance: bool,
    /// See [`Server::description`].
    pub description: String,
}

/// A change of a server: what is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct ServerPatch {
    /// The new name.
    pub name: Option<Name>,
    /// The new host.
    pub host: Option<String>,
    /// The new port.
    pub port: Option<u16>,
    /// The new user.
    pub user: Option<String>,
    /// The new credential; `Some(None)` takes it away.
    pub credential: Option<Option<Selector>>,
    /// The new executor.
    pub executor: Option<String>,
    /// The new tags, replacing the old ones.
    pub tags: Option<Vec<Tag>>,
    /// The new groups, replacing the old ones.
    pub groups: Option<Vec<Selector>>,
    /// Whether it is in maintenance from now on.
    pub maintenance: Option<bool>,
    /// The new description.
    pub description: Option<String>,
}

text_enum! {
    /// What became of a server that was to be imported.
    pub enum ImportStatus {
        /// It was added.
        Created = "created",
        /// It would be added.
        WouldCreate = "would_create",
        /// It is there already, at the same place.
        Exists = "exists",
        /// It was not added.
        Skipped = "skipped",
    }
}

/// A server that was to be imported, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Its name.
    pub name: Name,
    /// What became of it.
    pub status: ImportStatus,
    /// The server, if it is there now.
    pub server_id: Option<ServerId>,
    /// Why it was skipped.
    pub reason: Option<String>,
}

/// Which servers of a list.
#[derive(Clone, Debug, Default)]
pub struct ServerFilter {
    /// Only servers that the expression matches.
    pub on: Option<TargetExpr>,
    /// Only servers with this tag.
    pub tag: Option<Tag>,
}

/// Checks a host name or address: what could be read as an option, a user, a path or a header is refused.
///
/// # Errors
/// [`ErrorCode::Invalid`](crate::ErrorCode::Invalid), naming the field `host`.
pub(crate) fn check_host(host: &str) -> Result<()> {
    let address = host.parse::<std::net::IpAddr>().is_ok();
    let name = !host.starts_with(['-', '.'])
        && (1..=253).contains(&host.len())
        && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    if address || name {
        return Ok(());
    }
    Err(Error::invalid_field("host", format!("`{}` is not a host name or address", host.escape_default()))
        .with_hint("give a name like db1.example.com, an IPv4 address, or an IPv6 address without brackets"))
}

/// Checks a user name for sign-in.
///
/// # Errors
/// [`ErrorCode::Invalid`](crate::ErrorCode::Invalid), naming the field `user`.
pub(crate) fn check_user(user: &str) -> Result<()> {
    let good = !user.starts_with('-')
        && (1..=64).contains(&user.len())
        && user.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '@' | '\\' | '$'));
    if good {
        return Ok(());
    }
    Err(Error::invalid_field("user", format!("`{}` is not a user name", user.escape_default())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_hide_something_are_refused() {
        for bad in ["", "-oProxyCommand=sh", "a b", "a\nb", "user@host", "[::1]", "a/b", ".x", "ü"] {
            assert!(check_host(bad).is_err(), "{bad:?}");
        }
        for good in ["web-1", "db_1.example.com", "10.0.0.9", "::1", "fe80::1"] {
            assert!(check_host(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn users_that_hide_something_are_refused() {
        for bad in ["", "-l root", "a b", "root\n", "a;b"] {
            assert!(check_user(bad).is_err(), "{bad:?}");
        }
        assert!(check_user("deploy").is_ok());
        assert!(check_user("ACME\\ana").is_ok());
    }
}
