//! What callers can do with scripts.

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::gate::Gate;
use crate::id::{ScriptId, Selector};
use crate::identity::Permission;
use crate::page::{Page, PageRequest};
use crate::script::parameter::check_specs;
use crate::script::{NewScript, Script, ScriptFilter, ScriptPatch, ScriptSpec, ScriptSummary, ScriptVersion};

impl Gate {
    /// Adds a script with its first version.
    ///
    /// # Errors
    /// `invalid` for parameters, settings or a `#!` line that make no sense; `conflict` if the name is taken.
    pub async fn create_script(&self, new: NewScript) -> Result<(Script, ScriptVersion)> {
        let scope = self.authorize(Permission::ScriptWrite).await?;
        check_spec(&new.spec)?;
        let now = self.shared.clock.now();
        let script = Script {
            id: ScriptId::new(),
            project_id: scope.project(),
            name: new.name,
            description: new.description,
            latest: 1,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        let first = self.script_version_of(&script, new.spec);
        let audit = self.audit("script.create").on(script.id, script.name.as_str()).after(public(&script, &first));
        self.shared.store.create_script(&scope, &script, &first, &audit).await?;
        Ok((script, first))
    }

    /// Changes a script; `version`, if given, must be the one that is stored. Running executions
    /// keep the version that they were started with.
    ///
    /// # Errors
    /// Those of [`create_script`](Gate::create_script); `not_found`, `stale_version`.
    pub async fn update_script(
        &self,
        selector: &Selector,
        patch: ScriptPatch,
        version: Option<u64>,
    ) -> Result<(Script, ScriptVersion)> {
        let scope = self.authorize(Permission::ScriptWrite).await?;
        let old = self.shared.store.script(&scope, selector).await?;
        if version.is_some_and(|version| version != old.version) {
            return Err(crate::StoreError::Stale { kind: "script" }.into());
        }
        let latest = self.shared.store.script_version(&scope, old.id, old.latest).await?;
        let spec = patched(&latest.spec, &patch);
        check_spec(&spec)?;
        let mut script = old.clone();
        script.name = patch.name.unwrap_or(script.name);
        script.description = patch.description.unwrap_or(script.description);
        let changed = spec != latest.spec;
        if !changed && script == old {
            return Ok((old, latest));
        }
        script.latest += u32::from(changed);
        script.version += 1;
        script.updated_at = self.shared.clock.now();
        let added = changed.then(|| self.script_version_of(&script, spec));
        let now = added.as_ref().unwrap_or(&latest);
        let audit = self
            .audit("script.update")
            .on(script.id, script.name.as_str())
            .before(public(&old, &latest))
            .after(public(&script, now));
        self.shared.store.update_script(&scope, &script, added.as_ref(), &audit).await?;
        Ok((script, added.unwrap_or(latest)))
    }

    /// Makes an earlier version the newest one, under a new number.
    ///
    /// # Errors
    /// `not_found` for the script or the version.
    pub async fn restore_script(&self, selector: &Selector, number: u32) -> Result<(Script, ScriptVersion)> {
        self.authorize(Permission::ScriptWrite).await?;
        let earlier = self.script_version(selector, Some(number)).await?.spec;
        let patch = ScriptPatch {
            content: Some(earlier.content),
            interpreter: Some(earlier.interpreter),
            parameters: Some(earlier.parameters),
            targets: Some(earlier.targets),
            timeout_ms: Some(earlier.timeout_ms),
            settings: Some(earlier.settings),
            ..ScriptPatch::default()
        };
        self.update_script(selector, patch, None).await
    }

    /// Deletes a script with its versions; executions keep what they ran.
    ///
    /// # Errors
    /// `not_found`, `stale_version`.
    pub async fn delete_script(&self, selector: &Selector, version: Option<u64>) -> Result<()> {
        let scope = self.authorize(Permission::ScriptWrite).await?;
        let script = self.shared.store.script(&scope, selector).await?;
        if version.is_some_and(|version| version != script.version) {
            return Err(crate::StoreError::Stale { kind: "script" }.into());
        }
        let audit = self.audit("script.delete").on(script.id, script.name.as_str());
        Ok(self.shared.store.delete_script(&scope, &script, &audit).await?)
    }

    /// One script.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn script(&self, selector: &Selector) -> Result<Script> {
        let scope = self.authorize(Permission::ScriptRead).await?;
        Ok(self.shared.store.script(&scope, selector).await?)
    }

    /// Scripts, newest first, each with its newest version, without the bodies.
    ///
    /// # Errors
    /// What storage answers.
    pub async fn scripts(&self, filter: &ScriptFilter, page: PageRequest) -> Result<Page<ScriptSummary>> {
        let scope = self.authorize(Permission::ScriptRead).await?;
        Ok(self.shared.store.scripts(&scope, filter, page).await?)
    }

    /// One version of a script: the newest, unless a number is given.
    ///
    /// # Errors
    /// `not_found` for the script or the version.
    pub async fn script_version(&self, selector: &Selector, number: Option<u32>) -> Result<ScriptVersion> {
        let scope = self.authorize(Permission::ScriptRead).await?;
        let script = self.shared.store.script(&scope, selector).await?;
        Ok(self.shared.store.script_version(&scope, script.id, number.unwrap_or(script.latest)).await?)
    }

    /// Versions of a script with a number below `before`, newest first, at most `limit` (1 to 200).
    ///
    /// # Errors
    /// `not_found`; `invalid` for the limit.
    pub async fn script_versions(
        &self,
        selector: &Selector,
        before: Option<u32>,
        limit: u32,
    ) -> Result<Vec<ScriptVersion>> {
        let scope = self.authorize(Permission::ScriptRead).await?;
        let limit = PageRequest::new(limit, None)?.limit();
        let script = self.shared.store.script(&scope, selector).await?;
        Ok(self.shared.store.script_versions(&scope, script.id, before, limit).await?)
    }

    fn script_version_of(&self, script: &Script, spec: ScriptSpec) -> ScriptVersion {
        ScriptVersion {
            script_id: script.id,
            number: script.latest,
            spec,
            created_at: script.updated_at,
            created_by: self.principal().actor.name.clone(),
        }
    }
}

fn patched(old: &ScriptSpec, patch: &ScriptPatch) -> ScriptSpec {
    ScriptSpec {
        content: patch.content.clone().unwrap_or_else(|| old.content.clone()),
        interpreter: patch.interpreter.clone().unwrap_or_else(|| old.interpreter.clone()),
        parameters: patch.parameters.clone().unwrap_or_else(|| old.parameters.clone()),
        targets: patch.targets.clone().unwrap_or_else(|| old.targets.clone()),
        timeout_ms: patch.timeout_ms.unwrap_or(old.timeout_ms),
        settings: patch.settings.clone().unwrap_or_else(|| old.settings.clone()),
    }
}

fn check_spec(spec: &ScriptSpec) -> Result<()> {
    check_specs(&spec.parameters)?;
    spec.settings.check()?;
    if spec.timeout_ms == Some(0) {
        return Err(Error::invalid_field("timeout", "must be more than 0"));
    }
    spec.interpreter.invocation(&spec.content).map(drop)
}

/// A script as the audit log shows it: the body by its hash.
fn public(script: &Script, version: &ScriptVersion) -> Value {
    json!({
        "name": script.name,
        "description": script.description,
        "version": version.number,
        "content_sha256": version.spec.content.hash(),
        "interpreter": version.spec.interpreter,
        "parameters": version.spec.parameters,
        "targets": version.spec.targets.as_ref().map(crate::inventory::TargetExpr::as_str),
        "timeout_ms": version.spec.timeout_ms,
        "settings": version.spec.settings,
    })
}
