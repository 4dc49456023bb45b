//! How an execution goes through its targets, on the wire.

use birun_core::Result;
use birun_core::execution::{self, Order};
use poem_openapi::Object;
use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use serde::{Deserialize, Serialize};

use crate::dto::each;
use crate::schema::{Word, described};

/// A number of targets (`2`) or a share of them (`"20%"`).
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(transparent)]
pub(crate) struct Amount(execution::Amount);

described!(
    Amount,
    "amount",
    MetaSchema {
        any_of: vec![
            MetaSchemaRef::Inline(Box::new(MetaSchema { minimum: Some(1.0), ..MetaSchema::new("integer") })),
            MetaSchemaRef::Inline(Box::new(MetaSchema {
                pattern: Some("^([1-9][0-9]*|[1-9][0-9]?%|100%)$".to_owned()),
                ..MetaSchema::new("string")
            })),
        ],
        ..MetaSchema::ANY
    }
);

/// How an execution goes through its targets. What is left out has its default.
#[derive(Clone, Debug, Deserialize, Object)]
#[serde(default, deny_unknown_fields)]
#[oai(default)]
pub(crate) struct Strategy {
    /// Most targets at once: 1 to 10000; with `failover` it is one.
    parallel: u32,
    /// Rolling batches: the next one begins when every target of the one before has ended.
    #[oai(nullable)]
    batch: Option<Amount>,
    /// After so many targets without success no further one is started; the rest is skipped.
    #[oai(nullable)]
    max_failures: Option<Amount>,
    order: Word<Order>,
    /// Servers with the first of these tags come first, then those with the second, and so on, and last those with
    /// none of them. Within each rank the order counts. At most 16.
    ranks: Vec<String>,
    /// One success is enough: targets are tried one after the other until one succeeds, and the rest is skipped. A
    /// target that is lost ends the search, unless its work may be repeated (`on_lost: retry`).
    failover: bool,
    /// A target that is down (no address, no connection, no answer) is no failure of the execution, as long as another
    /// one succeeds. One whose host key or sign-in is refused still is.
    skip_unreachable: bool,
}

impl Default for Strategy {
    fn default() -> Self {
        execution::Strategy::default().into()
    }
}

impl From<execution::Strategy> for Strategy {
    fn from(strategy: execution::Strategy) -> Self {
        Self {
            parallel: strategy.parallel,
            batch: strategy.batch.map(Amount),
            max_failures: strategy.max_failures.map(Amount),
            order: Word(strategy.order),
            ranks: strategy.ranks.iter().map(ToString::to_string).collect(),
            failover: strategy.failover,
            skip_unreachable: strategy.skip_unreachable,
        }
    }
}

impl Strategy {
    pub(crate) fn into_core(self) -> Result<execution::Strategy> {
        Ok(execution::Strategy {
            parallel: self.parallel,
            batch: self.batch.map(|amount| amount.0),
            max_failures: self.max_failures.map(|amount| amount.0),
            order: self.order.0,
            ranks: each("strategy.ranks", &self.ranks)?,
            failover: self.failover,
            skip_unreachable: self.skip_unreachable,
        })
    }
}
