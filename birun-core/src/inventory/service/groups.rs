//! Server groups.

use std::collections::HashMap;

use serde_json::json;

use super::servers::{check_version, set};
use crate::error::Result;
use crate::gate::Gate;
use crate::id::{GroupId, Selector};
use crate::identity::Permission;
use crate::inventory::{Group, GroupPatch, NewGroup};
use crate::name::Name;
use crate::page::{Page, PageRequest};

impl Gate {
    /// Adds a group.
    ///
    /// # Errors
    /// `conflict` if the name is taken.
    pub async fn create_group(&self, new: NewGroup) -> Result<Group> {
        let scope = self.authorize(Permission::ServerWrite).await?;
        let now = self.shared.clock.now();
        let group = Group {
            id: GroupId::new(),
            project_id: scope.project(),
            name: new.name,
            description: new.description,
            host_key_policy: new.host_key_policy,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        let audit = self.audit("group.create").on(group.id, group.name.as_str()).after(json!(group));
        self.shared.store.create_group(&scope, &group, &audit).await?;
        Ok(group)
    }

    /// Changes a group; `version`, if given, must be the one that is stored.
    ///
    /// # Errors
    /// `not_found`, `conflict`, `stale_version`.
    pub async fn update_group(&self, selector: &Selector, patch: GroupPatch, version: Option<u64>) -> Result<Group> {
        let scope = self.authorize(Permission::ServerWrite).await?;
        let old = self.shared.store.group(&scope, selector).await?;
        check_version("group", version, old.version)?;
        let mut group = old.clone();
        set(&mut group.name, patch.name);
        set(&mut group.description, patch.description);
        set(&mut group.host_key_policy, patch.host_key_policy);
        if group == old {
            return Ok(old);
        }
        group.version += 1;
        group.updated_at = self.shared.clock.now();
        let audit = self.audit("group.update").on(group.id, group.name.as_str()).before(json!(old)).after(json!(group));
        self.shared.store.update_group(&scope, &group, &audit).await?;
        Ok(group)
    }

    /// Deletes a group; its servers stay.
    ///
    /// # Errors
    /// `not_found`, `stale_version`.
    pub async fn delete_group(&self, selector: &Selector, version: Option<u64>) -> Result<()> {
        let scope = self.authorize(Permission::ServerWrite).await?;
        let group = self.shared.store.group(&scope, selector).await?;
        check_version("group", version, group.version)?;
        let audit = self.audit("group.delete").on(group.id, group.name.as_str()).before(json!(group));
        Ok(self.shared.store.delete_group(&scope, &group, &audit).await?)
    }

    /// One group.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn group(&self, selector: &Selector) -> Result<Group> {
        let scope = self.authorize(Permission::ServerRead).await?;
        Ok(self.shared.store.group(&scope, selector).await?)
    }

    /// Groups, newest first.
    ///
    /// # Errors
    /// What storage answers.
    pub async fn groups(&self, page: PageRequest) -> Result<Page<Group>> {
        let scope = self.authorize(Permission::ServerRead).await?;
        Ok(self.shared.store.groups(&scope, page).await?)
    }

    /// The name of every group, to show what servers are in.
    ///
    /// # Errors
    /// What storage answers.
    pub async fn group_names(&self) -> Result<HashMap<GroupId, Name>> {
        let scope = self.authorize(Permission::ServerRead).await?;
        let groups = self.shared.store.all_groups(&scope).await?;
        Ok(groups.into_iter().map(|group| (group.id, group.name)).collect())
    }
}
