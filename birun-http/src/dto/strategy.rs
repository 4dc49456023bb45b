//! How an execution goes through its targets, on the wire.

use birun_core::execution::{self, Order};
use poem_openapi::Object;
use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use serde::{Deserialize, Serialize};

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
    /// Most targets at once: 1 to 10000.
    parallel: u32,
    /// Rolling batches: the next one begins when every target of the one before has ended.
    #[oai(nullable)]
    batch: Option<Amount>,
    /// After so many targets without success no further one is started; the rest is skipped.
    #[oai(nullable)]
    max_failures: Option<Amount>,
    order: Word<Order>,
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
        }
    }
}

impl From<Strategy> for execution::Strategy {
    fn from(strategy: Strategy) -> Self {
        Self {
            parallel: strategy.parallel,
            batch: strategy.batch.map(|amount| amount.0),
            max_failures: strategy.max_failures.map(|amount| amount.0),
            order: strategy.order.0,
        }
    }
}
