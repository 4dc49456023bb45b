//! Names of resources, tags and parameters, valid by construction.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::id::looks_like_id;

/// Longest name, in characters.
pub const MAX_LEN: usize = 63;

const RESERVED: [&str; 2] = ["local", "all"];

/// The name of a resource: `[A-Za-z0-9][A-Za-z0-9._-]{0,62}`.
///
/// It is never `local` or `all` (they mean something in target expressions) and never eight or
/// more hex digits (they would read as an id). Names are compared byte by byte.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(transparent)]
pub struct Name(String);

/// A tag of a server: the same alphabet as a [`Name`], nothing reserved.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(transparent)]
pub struct Tag(String);

impl Name {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Tag {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check_alphabet(what: &str, text: &str) -> Result<()> {
    let mut chars = text.chars();
    let head = chars.next().is_some_and(|c| c.is_ascii_alphanumeric());
    let tail = chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    if head && tail && text.len() <= MAX_LEN {
        return Ok(());
    }
    let shown: String = text.chars().take(MAX_LEN + 1).flat_map(char::escape_default).collect();
    Err(Error::invalid(format!("`{shown}` is not a {what}")).with_hint(format!(
        "a {what} begins with a letter or digit and has at most {MAX_LEN} letters, digits, dots, hyphens and underscores"
    )))
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        check_alphabet("name", text)?;
        if RESERVED.contains(&text) {
            return Err(Error::invalid(format!("`{text}` is reserved and cannot be a name")));
        }
        if looks_like_id(text) {
            return Err(Error::invalid(format!("`{text}` reads as an id and cannot be a name"))
                .with_hint("use a name with a letter beyond f, or with fewer than 8 characters"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for Tag {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        check_alphabet("tag", text)?;
        Ok(Self(text.to_owned()))
    }
}

macro_rules! parse_on_read {
    ($($name:ty),+) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}
parse_on_read!(Name, Tag);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_contract() {
        let longest = "a".repeat(MAX_LEN - 1) + "z";
        for good in ["web-1", "a", "Disk.Report_2", "0x", "cafe", longest.as_str()] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        let too_long = "z".repeat(MAX_LEN + 1);
        for bad in ["", "-a", ".a", "a b", "a/b", "ü", "a\n", "local", "all", "deadbeef", "7d20c1a9", too_long.as_str()]
        {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_is_checked_when_it_is_deserialized() {
        assert!(serde_json::from_str::<Name>(r#""a b""#).is_err());
    }
}
