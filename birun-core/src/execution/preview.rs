//! What a run would do.

use crate::execution::{Reason, Strategy};
use crate::inventory::TargetName;

/// What a run would do: its targets, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// The targets, in the order in which they would be taken; those that would be left out come last.
    pub targets: Vec<PlannedTarget>,
    /// Most of them at once.
    pub width: usize,
    /// In so many batches, one after the other.
    pub batches: usize,
}

/// A target of a run that has not been started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedTarget {
    /// Its name.
    pub name: TargetName,
    /// The batch that it is in, from 1; `None` if it would be left out.
    pub batch: Option<usize>,
    /// Why it would be left out, if it would.
    pub left_out: Option<Reason>,
}

impl Preview {
    pub(super) fn of(targets: impl Iterator<Item = (TargetName, Option<Reason>)>, strategy: &Strategy) -> Self {
        let targets: Vec<_> = targets.collect();
        let taken = targets.iter().filter(|(_, left_out)| left_out.is_none()).count();
        let size = strategy.batch_size(taken, targets.len());
        let planned = targets.into_iter().zip(0..).map(|((name, left_out), place)| {
            let batch = left_out.is_none().then(|| place / size + 1);
            PlannedTarget { name, batch, left_out }
        });
        Self { targets: planned.collect(), width: strategy.width().min(taken), batches: taken.div_ceil(size) }
    }

    /// How many targets would be left out.
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.targets.iter().filter(|target| target.left_out.is_some()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::execution::Amount;

    #[test]
    fn targets_fall_into_batches_of_the_strategy() {
        let preview = |count: usize, batch: Option<Amount>| {
            let targets = (0..count).map(|number| (TargetName::Server(format!("web-{number}").parse().unwrap()), None));
            Preview::of(targets, &Strategy { batch, ..Strategy::default() })
        };
        for (count, batch, expected) in [
            (3, None, vec![1, 1, 1]),
            (3, Some(Amount::Count(2)), vec![1, 1, 2]),
            (5, Some(Amount::Percent(40)), vec![1, 1, 2, 2, 3]),
        ] {
            let preview = preview(count, batch);
            assert_eq!(preview.targets.iter().filter_map(|target| target.batch).collect::<Vec<_>>(), expected);
            assert_eq!(preview.batches, *expected.last().unwrap());
        }
    }
}
