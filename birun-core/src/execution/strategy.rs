//! How an execution goes through its targets.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::name::Tag;
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
    /// Most targets at once; with `failover` it is one.
    pub parallel: u32,
    /// Rolling batches: the next one begins when every target of the one before has ended.
    pub batch: Option<Amount>,
    /// After so many targets without success no further one is started; the rest is skipped.
    pub max_failures: Option<Amount>,
    /// In which order.
    pub order: Order,
    /// Servers with the first of these tags come first, then those with the second, and so on, and last those
    /// with none of them. Within each rank the order counts.
    pub ranks: Vec<Tag>,
    /// One success is enough: targets are tried one after the other until one succeeds, and the rest is
    /// skipped. A target that is lost ends the search, unless its work may be repeated (`on_lost: retry`).
    pub failover: bool,
    /// A target that is down (no address, no connection, no answer) is no failure of the execution, as long as
    /// another one succeeds. One whose host key or sign-in is refused still is.
    pub skip_unreachable: bool,
}

/// Most ranks of a strategy.
const MOST_RANKS: usize = 16;

impl Default for Strategy {
    fn default() -> Self {
        Self {
            parallel: DEFAULT_PARALLEL,
            batch: None,
            max_failures: None,
            order: Order::Name,
            ranks: Vec::new(),
            failover: false,
            skip_unreachable: false,
        }
    }
}

impl Strategy {
    /// Checks what the types leave open.
    ///
    /// # Errors
    /// `invalid`, naming the field.
    pub fn check(&self) -> Result<()> {
        if !(1..=10_000).contains(&self.parallel) {
            return Err(Error::invalid_field("strategy.parallel", "must be between 1 and 10000"));
        }
        if self.ranks.len() > MOST_RANKS {
            return Err(Error::invalid_field("strategy.ranks", format!("at most {MOST_RANKS} tags are allowed")));
        }
        let (field, given) = match self {
            Self { failover: true, batch: Some(_), .. } => ("strategy.batch", "batches"),
            Self { failover: true, max_failures: Some(_), .. } => ("strategy.max_failures", "a limit of failures"),
            _ => return Ok(()),
        };
        Err(Error::invalid_field(field, format!("{given} cannot be combined with failover"))
            .with_hint("with failover, targets are tried one after the other until one succeeds"))
    }

    /// Which rank a target has, by its tags: 0 is the first.
    #[must_use]
    pub fn rank(&self, tags: &[Tag]) -> usize {
        self.ranks.iter().position(|rank| tags.contains(rank)).unwrap_or(self.ranks.len())
    }

    /// How many targets make up a batch: all of them, if there are no batches. A share is one of the targets
    /// that are taken.
    pub(super) fn batch_size(&self, taken: usize, all: usize) -> usize {
        self.batch.map_or(all, |amount| amount.of(taken)).max(1)
    }

    /// Most targets at once.
    #[must_use]
    pub const fn width(&self) -> usize {
        if self.failover { 1 } else { self.parallel as usize }
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
    fn the_first_rank_that_fits_counts() {
        let tag = |text: &str| text.parse::<Tag>().unwrap();
        let strategy = Strategy { ranks: vec![tag("primary"), tag("standby")], ..Strategy::default() };
        for (tags, expected) in [
            (vec!["primary"], 0),
            (vec!["eu", "standby"], 1),
            (vec!["standby", "primary"], 0),
            (vec!["eu"], 2),
            (vec![], 2),
        ] {
            let tags: Vec<Tag> = tags.into_iter().map(tag).collect();
            assert_eq!(strategy.rank(&tags), expected, "{tags:?}");
        }
    }

    #[test]
    fn what_contradicts_failover_is_refused() {
        let failover = || Strategy { failover: true, ..Strategy::default() };
        assert!(failover().check().is_ok());
        assert_eq!(failover().width(), 1);
        assert!(Strategy { batch: Some(Amount::Count(2)), ..failover() }.check().is_err());
        assert!(Strategy { max_failures: Some(Amount::Percent(2)), ..failover() }.check().is_err());
    }

    #[test]
    fn nonsense_is_no_amount() {
        for bad in ["", "0", "0%", "101%", "-1", "x", "1.5"] {
            assert!(bad.parse::<Amount>().is_err(), "{bad}");
        }
    }
}
