//! Identifiers: UUID v7 newtypes, the short form that people see, and selectors.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::error::{Error, ErrorCode};
use crate::name::Name;

/// Number of hex digits of a short id.
pub const SHORT_LEN: usize = 8;

/// The last eight hex digits of an id: its random part, so that neighbours differ at once.
#[must_use]
pub fn short(id: Uuid) -> String {
    let text = id.simple().to_string();
    text.get(text.len() - SHORT_LEN..).unwrap_or_default().to_owned()
}

macro_rules! ids {
    ($($(#[$meta:meta])* $name:ident,)+) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Makes a new id; ids made later in one process sort later.
            #[must_use]
            #[expect(clippy::new_without_default, reason = "a fresh id is not a default value")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The underlying UUID.
            #[must_use]
            pub const fn as_uuid(self) -> Uuid {
                self.0
            }

            /// Takes a UUID that was an id of this kind before.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The short id that people see: the last eight hex digits.
            #[must_use]
            pub fn short(self) -> String {
                short(self.0)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                Uuid::parse_str(text)
                    .map(Self)
                    .map_err(|_| Error::new(ErrorCode::Malformed, format!("`{text}` is not a UUID")))
            }
        }
    )+};
}

ids! {
    /// Identifies a project: the unit of isolation.
    ProjectId,
    /// Identifies a server.
    ServerId,
    /// Identifies a server group.
    GroupId,
    /// Identifies a credential.
    CredentialId,
    /// Identifies a recorded host key.
    HostKeyId,
    /// Identifies a script.
    ScriptId,
    /// Identifies an execution.
    ExecutionId,
    /// Identifies a step: one attempt of one node on one target.
    StepId,
    /// Identifies a worker: one running engine that claims executions.
    WorkerId,
    /// Identifies an entry of the audit log.
    AuditId,
}

impl ProjectId {
    /// The project that every fresh installation has.
    pub const DEFAULT: Self = Self(Uuid::from_u128(1));
}

/// How a caller points at a resource: by id, by a part of it, or by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// The full id.
    Id(Uuid),
    /// Eight or more hex digits: a short id (exactly eight), or the beginning of a full id.
    Part(IdPart),
    /// A name.
    Name(Name),
}

/// A part of an id: hex digits, lower case, without hyphens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdPart(String);

impl IdPart {
    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The smallest and the largest id that begin with these digits.
    #[must_use]
    pub fn range(&self) -> (Uuid, Uuid) {
        let pad = |fill: &str| {
            let text = format!("{}{}", self.0, fill.repeat(32 - self.0.len()));
            Uuid::parse_str(&text).unwrap_or_default()
        };
        (pad("0"), pad("f"))
    }
}

/// Whether the text reads as (a part of) an id, and therefore cannot be a name.
#[must_use]
pub fn looks_like_id(text: &str) -> bool {
    let digits = text.chars().filter(|c| *c != '-').count();
    (SHORT_LEN..=32).contains(&digits)
        && !text.starts_with('-')
        && text.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
}

impl FromStr for Selector {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if looks_like_id(text) {
            let digits: String = text.chars().filter(|c| *c != '-').collect::<String>().to_ascii_lowercase();
            if digits.len() == 32 {
                return Ok(Self::Id(Uuid::parse_str(&digits).unwrap_or_default()));
            }
            return Ok(Self::Part(IdPart(digits)));
        }
        text.parse().map(Self::Name)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Part(part) => f.write_str(&part.0),
            Self::Name(name) => name.fmt(f),
        }
    }
}

macro_rules! selector_from {
    ($($id:ty),+) => {$(
        impl From<$id> for Selector {
            fn from(id: $id) -> Self {
                Self::Id(id.as_uuid())
            }
        }
    )+};
}
selector_from!(ServerId, GroupId, CredentialId, HostKeyId, ScriptId, ExecutionId, StepId);

impl From<Name> for Selector {
    fn from(name: Name) -> Self {
        Self::Name(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_hex_digits_are_a_part_of_an_id() {
        let Selector::Part(part) = "7D20c1a9".parse().unwrap() else { panic!("not a part") };
        assert_eq!(part.as_str(), "7d20c1a9");
        let (low, high) = part.range();
        assert_eq!(low.to_string(), "7d20c1a9-0000-0000-0000-000000000000");
        assert_eq!(high.to_string(), "7d20c1a9-ffff-ffff-ffff-ffffffffffff");
    }

    #[test]
    fn a_full_id_is_an_id_with_and_without_hyphens() {
        let id = ServerId::new();
        assert_eq!(id.to_string().parse::<Selector>().unwrap(), Selector::from(id));
        assert_eq!(id.as_uuid().simple().to_string().parse::<Selector>().unwrap(), Selector::from(id));
    }

    #[test]
    fn fewer_digits_are_a_name() {
        assert!(matches!("7d20c1a".parse().unwrap(), Selector::Name(_)));
        assert!(matches!("web-1".parse().unwrap(), Selector::Name(_)));
    }

    #[test]
    fn the_short_id_is_the_end_of_the_full_one() {
        let id = ExecutionId::new();
        assert!(id.as_uuid().simple().to_string().ends_with(&id.short()));
        assert_eq!(id.short().len(), SHORT_LEN);
    }
}
