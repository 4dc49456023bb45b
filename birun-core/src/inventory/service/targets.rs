//! From an expression to targets, and from targets to what an executor needs.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::credentials;
use crate::engine::Shared;
use crate::error::{Error, ErrorCode, Result};
use crate::execution::{Executor, ServerTarget};
use crate::gate::Scope;
use crate::id::{GroupId, ServerId};
use crate::inventory::target::nothing_matched;
use crate::inventory::{Candidate, Credential, Group, HostKey, HostKeyPolicy, Server, TargetExpr, TargetName};
use crate::name::Name;
use crate::store::StoreError;

/// One target that an expression named.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Its name.
    pub name: TargetName,
    /// The server, if it is one.
    pub server: Option<Server>,
}

impl Shared {
    /// The executor with this name.
    pub(crate) fn executor(&self, name: &str) -> Result<&Arc<dyn Executor>> {
        self.executors.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.executors.keys().map(String::as_str).collect();
            Error::new(ErrorCode::NotRegistered, format!("no executor is named `{name}`"))
                .with_field("executor", "no such executor")
                .with_hint(format!("there is {}", known.join(", ")))
        })
    }
}

/// The targets that an expression names: `local` first, then servers by name.
pub(crate) async fn resolve(shared: &Shared, scope: &Scope, on: &TargetExpr) -> Result<Vec<Resolved>> {
    let mut targets = Vec::new();
    if on.includes_local() {
        targets.push(Resolved { name: TargetName::Local, server: None });
    }
    if *on != TargetExpr::local() {
        let servers = shared.store.all_servers(scope).await?;
        let groups = shared.store.all_groups(scope).await?;
        check_named(on, &servers, &groups)?;
        let names: HashMap<GroupId, &Name> = groups.iter().map(|group| (group.id, &group.name)).collect();
        targets.extend(
            servers
                .into_iter()
                .filter(|server| includes(on, server, &names))
                .map(|server| Resolved { name: TargetName::Server(server.name.clone()), server: Some(server) }),
        );
    }
    if targets.is_empty() { Err(nothing_matched(on)) } else { Ok(targets) }
}

fn includes(on: &TargetExpr, server: &Server, names: &HashMap<GroupId, &Name>) -> bool {
    let groups: BTreeSet<&Name> = server.group_ids.iter().filter_map(|id| names.get(id).copied()).collect();
    on.includes(Candidate { name: &server.name, tags: &server.tags, groups: &groups })
}

/// A server or group that is named outright must exist: a typing error is not an empty match.
fn check_named(on: &TargetExpr, servers: &[Server], groups: &[Group]) -> Result<()> {
    let servers: HashSet<&Name> = servers.iter().map(|server| &server.name).collect();
    if let Some(unknown) = on.named_servers().find(|name| !servers.contains(name)) {
        return Err(Error::not_found("server", unknown).with_hint("see what there is with  birun server list"));
    }
    let groups: HashSet<&Name> = groups.iter().map(|group| &group.name).collect();
    if let Some(unknown) = on.named_groups().find(|name| !groups.contains(name)) {
        return Err(Error::not_found("group", unknown).with_hint("see what there is with  birun group list"));
    }
    Ok(())
}

/// What executors need to reach these servers, secrets opened. Servers that are gone are left out;
/// a credential that cannot be opened is the trouble of its own servers alone.
pub(crate) async fn open_targets(
    shared: &Shared,
    scope: &Scope,
    ids: &[ServerId],
) -> Result<HashMap<ServerId, Result<Arc<ServerTarget>>>> {
    let store = &shared.store;
    let servers = store.servers_by_id(scope, ids).await?;
    let groups = store.all_groups(scope).await?;
    let mut keys: HashMap<ServerId, Vec<HostKey>> = HashMap::new();
    for key in store.host_keys_of(scope, ids).await? {
        keys.entry(key.server_id).or_default().push(key);
    }
    let mut credentials = HashMap::new();
    for id in servers.iter().filter_map(|server| server.credential_id).collect::<HashSet<_>>() {
        match store.credential(scope, &id.into()).await {
            Ok(credential) => drop(credentials.insert(id, credential)),
            // Gone since the server was read.
            Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut targets = HashMap::with_capacity(servers.len());
    for server in servers {
        let credential = match server.credential_id.map(|id| credentials.get(&id)) {
            None => Ok(None),
            Some(Some(credential)) => Ok(Some(credential)),
            Some(None) => Err(unusable(&server.name, &Error::new(ErrorCode::NotFound, "it was deleted"))),
        };
        let host_keys = keys.remove(&server.id).unwrap_or_default();
        let policy = strictest(&server, &groups);
        let id = server.id;
        let target = credential.and_then(|credential| open_target(shared, server, credential, host_keys, policy));
        targets.insert(id, target.map(Arc::new));
    }
    Ok(targets)
}

fn open_target(
    shared: &Shared,
    server: Server,
    credential: Option<&Credential>,
    host_keys: Vec<HostKey>,
    host_key_policy: Option<HostKeyPolicy>,
) -> Result<ServerTarget> {
    let mut revision = DefaultHasher::new();
    (server.version, credential.map(|credential| (credential.id, credential.version))).hash(&mut revision);
    let credential = credential.map(|credential| credentials::open(shared, credential)).transpose();
    let credential = credential.map_err(|error| unusable(&server.name, &error))?;
    Ok(ServerTarget {
        id: server.id,
        name: server.name,
        executor: server.executor,
        host: server.host,
        port: server.port,
        user: server.user,
        credential,
        revision: revision.finish(),
        host_keys,
        host_key_policy,
    })
}

/// A server whose credential cannot be used.
fn unusable(server: &Name, why: &Error) -> Error {
    let error = Error::new(why.code(), format!("the credential of server `{server}` cannot be used: {why}"));
    match why.hint() {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// The policy of a server's groups: the strictest one that any of them names.
fn strictest(server: &Server, groups: &[Group]) -> Option<HostKeyPolicy> {
    let of_server = groups.iter().filter(|group| server.group_ids.contains(&group.id));
    of_server.filter_map(|group| group.host_key_policy).min()
}
