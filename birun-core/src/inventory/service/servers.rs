//! Servers.

use std::collections::HashMap;

use serde_json::json;

use crate::error::{Error, ErrorCode, Result};
use crate::execution::Probe;
use crate::gate::{Gate, Scope};
use crate::id::{CredentialId, GroupId, Selector, ServerId};
use crate::identity::Permission;
use crate::inventory::server::{DEFAULT_EXECUTOR, DEFAULT_PORT, check_host, check_user};
use crate::inventory::service::targets::{open_targets, resolve};
use crate::inventory::trust::EngineTrust;
use crate::inventory::{NewServer, Server, ServerFilter, ServerPatch};
use crate::name::{Name, Tag};
use crate::page::{Page, PageRequest};

const MAX_TAGS: usize = 64;

impl Gate {
    /// Adds a server.
    ///
    /// # Errors
    /// `invalid` for a host or user that is none; `not_found` for a group or credential;
    /// `not_registered` for an executor; `conflict` if the name is taken.
    pub async fn create_server(&self, new: NewServer) -> Result<Server> {
        let scope = self.authorize(Permission::ServerWrite).await?;
        let server = self.new_server(&scope, new).await?;
        let audit = self.audit("server.create").on(server.id, server.name.as_str()).after(json!(server));
        self.shared.store.create_server(&scope, &server, &audit).await?;
        Ok(server)
    }

    /// A server that can be added.
    pub(super) async fn new_server(&self, scope: &Scope, new: NewServer) -> Result<Server> {
        let now = self.shared.clock.now();
        let server = Server {
            id: ServerId::new(),
            project_id: scope.project(),
            name: new.name,
            host: new.host,
            port: new.port.unwrap_or(DEFAULT_PORT),
            user: new.user,
            credential_id: self.credential_id(scope, new.credential.as_ref()).await?,
            executor: new.executor.unwrap_or_else(|| DEFAULT_EXECUTOR.to_owned()),
            tags: normal_tags(new.tags)?,
            group_ids: self.group_ids(scope, &new.groups).await?,
            maintenance: new.maintenance,
            description: new.description,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        self.check_server(&server)?;
        Ok(server)
    }

    /// Changes a server; `version`, if given, must be the one that is stored.
    ///
    /// # Errors
    /// Those of [`create_server`](Gate::create_server); `stale_version`.
    pub async fn update_server(&self, selector: &Selector, patch: ServerPatch, version: Option<u64>) -> Result<Server> {
        let scope = self.authorize(Permission::ServerWrite).await?;
        let old = self.shared.store.server(&scope, selector).await?;
        check_version("server", version, old.version)?;
        let mut server = old.clone();
        if let Some(credential) = patch.credential {
            server.credential_id = self.credential_id(&scope, credential.as_ref()).await?;
        }
        if let Some(groups) = patch.groups {
            server.group_ids = self.group_ids(&scope, &groups).await?;
        }
        if let Some(tags) = patch.tags {
            server.tags = normal_tags(tags)?;
        }
        set(&mut server.name, patch.name);
        set(&mut server.host, patch.host);
        set(&mut server.port, patch.port);
        set(&mut server.user, patch.user);
        set(&mut server.executor, patch.executor);
        set(&mut server.maintenance, patch.maintenance);
        set(&mut server.description, patch.description);
        if server == old {
            return Ok(old);
        }
        self.check_server(&server)?;
        server.version += 1;
        server.updated_at = self.shared.clock.now();
        let audit =
            self.audit("server.update").on(server.id, server.name.as_str()).before(json!(old)).after(json!(server));
        self.shared.store.update_server(&scope, &server, &audit).await?;
        Ok(server)
    }

    /// Deletes a server with its host keys; executions keep its name.
    ///
    /// # Errors
    /// `not_found`, `stale_version`.
    pub async fn delete_server(&self, selector: &Selector, version: Option<u64>) -> Result<()> {
        let scope = self.authorize(Permission::ServerWrite).await?;
        let server = self.shared.store.server(&scope, selector).await?;
        check_version("server", version, server.version)?;
        let audit = self.audit("server.delete").on(server.id, server.name.as_str()).before(json!(server));
        Ok(self.shared.store.delete_server(&scope, &server, &audit).await?)
    }

    /// One server.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn server(&self, selector: &Selector) -> Result<Server> {
        let scope = self.authorize(Permission::ServerRead).await?;
        Ok(self.shared.store.server(&scope, selector).await?)
    }

    /// Servers, newest first; with [`ServerFilter::on`], all that the expression matches, by name, on one page.
    ///
    /// # Errors
    /// `no_target_matched`; `not_found` for a server or group that the expression names.
    pub async fn servers(&self, filter: &ServerFilter, page: PageRequest) -> Result<Page<Server>> {
        let scope = self.authorize(Permission::ServerRead).await?;
        let Some(on) = &filter.on else {
            return Ok(self.shared.store.servers(&scope, filter, page).await?);
        };
        let resolved = resolve(&self.shared, &scope, on).await?;
        let mut items: Vec<Server> = resolved.into_iter().filter_map(|target| target.server).collect();
        items.retain(|server| filter.tag.as_ref().is_none_or(|tag| server.tags.contains(tag)));
        Ok(Page { items, next: None })
    }

    /// The names of these servers, to show what belongs to them; unknown ids are left out.
    ///
    /// # Errors
    /// What storage answers.
    pub async fn server_names(&self, ids: &[ServerId]) -> Result<HashMap<ServerId, Name>> {
        let scope = self.authorize(Permission::ServerRead).await?;
        let servers = self.shared.store.servers_by_id(&scope, ids).await?;
        Ok(servers.into_iter().map(|server| (server.id, server.name)).collect())
    }

    /// Tries to reach a server, stage by stage. A server that cannot be reached is an answer, not an error.
    ///
    /// # Errors
    /// `not_found`; `not_registered` if nothing here can reach such servers.
    pub async fn test_server(&self, selector: &Selector) -> Result<Probe> {
        let scope = self.authorize(Permission::ServerTest).await?;
        let server = self.shared.store.server(&scope, selector).await?;
        let executor = self.shared.executor(&server.executor)?;
        let audit = self.audit("server.test").on(server.id, server.name.as_str());
        self.shared.store.append_audit(&scope, &audit).await?;
        let opened = open_targets(&self.shared, &scope, std::slice::from_ref(&server.id)).await?;
        let target = opened.into_values().next().ok_or_else(|| Error::not_found("server", &server.name))??;
        let trust = EngineTrust::shared(std::sync::Arc::clone(&self.shared), scope.project());
        Ok(executor.probe(&crate::execution::Target::Server(target), trust).await)
    }

    async fn credential_id(&self, scope: &Scope, selector: Option<&Selector>) -> Result<Option<CredentialId>> {
        match selector {
            Some(selector) => Ok(Some(self.shared.store.credential(scope, selector).await?.id)),
            None => Ok(None),
        }
    }

    async fn group_ids(&self, scope: &Scope, selectors: &[Selector]) -> Result<Vec<GroupId>> {
        let mut ids = Vec::with_capacity(selectors.len());
        for selector in selectors {
            ids.push(self.shared.store.group(scope, selector).await?.id);
        }
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    fn check_server(&self, server: &Server) -> Result<()> {
        check_host(&server.host)?;
        check_user(&server.user)?;
        if server.port == 0 {
            return Err(Error::invalid_field("port", "must be between 1 and 65535"));
        }
        self.shared.executor(&server.executor).map(drop)
    }
}

/// Refuses a change that was made on the sight of another version.
pub(super) fn check_version(kind: &'static str, expected: Option<u64>, stored: u64) -> Result<()> {
    match expected {
        Some(expected) if expected != stored => Err(crate::StoreError::Stale { kind }.into()),
        _ => Ok(()),
    }
}

/// Replaces a value if there is a new one.
pub(crate) fn set<T>(place: &mut T, new: Option<T>) {
    if let Some(new) = new {
        *place = new;
    }
}

fn normal_tags(mut tags: Vec<Tag>) -> Result<Vec<Tag>> {
    tags.sort_unstable();
    tags.dedup();
    if tags.len() > MAX_TAGS {
        return Err(Error::new(ErrorCode::TooLarge, format!("tags: at most {MAX_TAGS} are allowed"))
            .with_field("tags", format!("at most {MAX_TAGS} are allowed")));
    }
    Ok(tags)
}
