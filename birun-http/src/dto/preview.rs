//! What a run would do, on the wire.

use birun_core::execution;
use poem_openapi::Object;

use crate::schema::Word;

/// What a run would do. Nothing was started.
#[derive(Debug, Object)]
pub(crate) struct Preview {
    /// Its targets, in the order in which they would be taken; those that would be left out come last.
    targets: Vec<PlannedTarget>,
    /// How many targets there are.
    total: usize,
    /// How many of them would be left out.
    left_out: usize,
    /// Most targets at once.
    width: usize,
    /// In so many batches, one after the other.
    batches: usize,
}

/// A target of a run that was not started.
#[derive(Debug, Object)]
pub(crate) struct PlannedTarget {
    /// `local`, or the name of a server.
    target: String,
    /// The batch that it is in, from 1; `null` if it would be left out.
    #[oai(nullable)]
    batch: Option<usize>,
    /// Why it would be left out; `null` if it would not.
    #[oai(nullable)]
    left_out: Option<Word<execution::Reason>>,
}

impl From<execution::Preview> for Preview {
    fn from(preview: execution::Preview) -> Self {
        Self {
            total: preview.targets.len(),
            left_out: preview.left_out(),
            width: preview.width,
            batches: preview.batches,
            targets: preview.targets.into_iter().map(PlannedTarget::from).collect(),
        }
    }
}

impl From<execution::PlannedTarget> for PlannedTarget {
    fn from(planned: execution::PlannedTarget) -> Self {
        Self { target: planned.name.to_string(), batch: planned.batch, left_out: planned.left_out.map(Word) }
    }
}
