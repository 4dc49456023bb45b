//! How an execution goes through its targets.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::text_enum::text_enum;

/// Targets at once when the caller does not say.
pub(crate) const DEFAULT_PARALLEL: u32 = 10;

/// A number of targets, or a share of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// So many, at least one.
    Count(u32),
    /// So many of a hundred (1 to 100).
    Percent(u8),
}

impl Amount {
    /// The number of targets out of `total`: a share is rounded up and is at least one.
    #[must_use]
    pub fn of(self, total: usize) -> usize {
        match self {
            Self::Count(count) => count as usize,
            Self::Percent(percent) => (total * usize::from(percent)).div_ceil(100).max(1),
        }
    }
}

impl FromStr for Amount {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parsed = match text.strip_suffix('%') {
            Some(share) => share.parse().ok().filter(|share| (1..=100).contains(share)).map(Self::Percent),
            None => text.parse().ok().filter(|count| *count > 0).map(Self::Count),
        };
        parsed.ok_or_else(|| {
            Error::invalid(format!("`{text}` is neither a number of targets (2) nor a share of them (20%)"))
        })
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl serde::Serialize for Amount {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Self::Count(count) => serializer.serialize_u32(*count),
            Self::Percent(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> serde::Deserialize<'de> for Amount {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Number(u32),
            Text(String),
        }
        let text = match Raw::deserialize(deserializer)? {
            Raw::Number(number) => number.to_string(),
            Raw::Text(text) => text,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

text_enum! {
    /// In which order targets are taken.
    pub enum Order {
        /// By name, numbers in names as text.
        Name = "name",
        /// Shuffled, differently for each execution.
        Random = "random",
    }
}

/// How an execution goes through its targets.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Strategy {
    /// Most targets at once.
    pub parallel: u32,
    /// Rolling batches: the next one begins when every target of the one before has ended.
    pub batch: Option<Amount>,
    /// After so many targets without success no further one is started; the rest is skipped.
    pub max_failures: Option<Amount>,
    /// In which order.
    pub order: Order,
}

impl Default for Strategy {
    fn default() -> Self {
        Self { parallel: DEFAULT_PARALLEL, batch: None, max_failures: None, order: Order::Name }
    }
}

impl Strategy {
    /// Checks what the types leave open.
    ///
    /// # Errors
    /// `invalid`, naming the field.
    pub fn check(&self) -> Result<()> {
        if (1..=10_000).contains(&self.parallel) {
            return Ok(());
        }
        Err(Error::invalid_field("strategy.parallel", "must be between 1 and 10000"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_rounded_up_and_at_least_one() {
        for (amount, total, expected) in
            [("20%", 10, 2), ("20%", 11, 3), ("1%", 3, 1), ("100%", 7, 7), ("3", 2, 3), ("50%", 0, 1)]
        {
            assert_eq!(amount.parse::<Amount>().unwrap().of(total), expected, "{amount} of {total}");
        }
    }

    #[test]
    fn nonsense_is_no_amount() {
        for bad in ["", "0", "0%", "101%", "-1", "x", "1.5"] {
            assert!(bad.parse::<Amount>().is_err(), "{bad}");
        }
    }
}
