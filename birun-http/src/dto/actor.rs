//! Who did something, on the wire.

use birun_core::identity::{self, ActorKind};
use poem_openapi::Object;

use crate::schema::Word;

/// Who did something.
#[derive(Debug, Object)]
pub(crate) struct Actor {
    kind: Word<ActorKind>,
    /// The user's or the part's name.
    name: String,
}

impl From<identity::Actor> for Actor {
    fn from(actor: identity::Actor) -> Self {
        Self { kind: Word(actor.kind), name: actor.name }
    }
}
