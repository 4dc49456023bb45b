//! Principals (who asks) and actors (who is written into records).

use crate::id::ProjectId;
use crate::identity::Role;
use crate::text_enum::text_enum;

text_enum! {
    /// What kind of being acts.
    pub enum ActorKind {
        /// A person.
        User = "user",
        /// The embedding program, or birun itself.
        System = "system",
    }
}

/// Who did something, as records keep it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// What kind of being.
    pub kind: ActorKind,
    /// The user's or the part's name.
    pub name: String,
}

/// An authenticated caller: an actor, and the role it has in one project.
///
/// The transport makes it (HTTP from a token, the command line from the local user, an embedder
/// from its own sign-in); the [`Gate`](crate::Gate) decides what it may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Who.
    pub actor: Actor,
    /// In which project.
    pub project: ProjectId,
    /// With which role there.
    pub role: Role,
}

impl Principal {
    /// The embedding program itself, as owner of the default project.
    #[must_use]
    pub fn system() -> Self {
        Self {
            actor: Actor { kind: ActorKind::System, name: "system".to_owned() },
            project: ProjectId::DEFAULT,
            role: Role::Owner,
        }
    }

    /// The local administrator: whoever may read the data directory, under the given name.
    #[must_use]
    pub fn local(name: impl Into<String>) -> Self {
        Self {
            actor: Actor { kind: ActorKind::User, name: name.into() },
            project: ProjectId::DEFAULT,
            role: Role::Owner,
        }
    }
}
