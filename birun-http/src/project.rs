//! Which project a request is about: the caller's own, which a request may name.

use birun_core::id::ProjectId;
use birun_core::identity::Principal;
use birun_core::{Error, ErrorCode, Result};
use poem::Request;

/// The name of the project that every fresh installation has.
const DEFAULT: &str = "default";

/// Checks that a request that names a project names the caller's.
///
/// # Errors
/// `not_found`: what is asked of one project must not be done in another.
pub(crate) fn check(request: &Request, caller: &Principal) -> Result<()> {
    let query: Vec<(String, String)> = request.params().unwrap_or_default();
    let mut named = query.into_iter().filter(|(name, _)| name == "project").map(|(_, project)| project);
    match named.find(|project| !is(project, caller.project)) {
        None => Ok(()),
        Some(project) => {
            Err(Error::new(ErrorCode::NotFound, format!("there is no project `{}`", project.escape_default()))
                .with_hint("leave `project` out for your own"))
        }
    }
}

fn is(named: &str, project: ProjectId) -> bool {
    named.parse().is_ok_and(|id: ProjectId| id == project) || (named == DEFAULT && project == ProjectId::DEFAULT)
}
