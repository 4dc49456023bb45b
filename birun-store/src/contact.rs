//! Whether the database answers, and since when.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Since when the database has answered without a gap.
///
/// Who judges other workers' leases must have been in contact itself for as long as a lease lasts:
/// an outage that all share then costs nobody's lease.
#[derive(Debug)]
pub(crate) struct Contact {
    gap: Duration,
    spell: Mutex<Option<Spell>>,
}

#[derive(Clone, Copy, Debug)]
struct Spell {
    first: Instant,
    last: Instant,
}

impl Contact {
    /// `gap` without an answer counts as a loss of contact.
    pub(crate) fn new(gap: Duration) -> Self {
        Self { gap, spell: Mutex::new(None) }
    }

    /// Notes that the database answered.
    pub(crate) fn answered(&self) {
        self.answered_at(Instant::now());
    }

    /// Notes that it did not.
    pub(crate) fn lost(&self) {
        *self.spell.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// How long it has answered without a gap.
    pub(crate) fn unbroken(&self) -> Duration {
        let spell = self.spell.lock().unwrap_or_else(PoisonError::into_inner);
        spell.map_or(Duration::ZERO, |spell| spell.last - spell.first)
    }

    fn answered_at(&self, now: Instant) {
        let mut spell = self.spell.lock().unwrap_or_else(PoisonError::into_inner);
        *spell = Some(match *spell {
            Some(Spell { first, last }) if now - last <= self.gap => Spell { first, last: now },
            _ => Spell { first: now, last: now },
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_or_a_failure_begins_a_new_spell() {
        let contact = Contact::new(Duration::from_secs(5));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(contact.unbroken(), Duration::ZERO);
        contact.answered_at(at(0));
        contact.answered_at(at(4));
        contact.answered_at(at(8));
        assert_eq!(contact.unbroken(), Duration::from_secs(8));
        contact.answered_at(at(20));
        assert_eq!(contact.unbroken(), Duration::ZERO);
        contact.answered_at(at(24));
        contact.lost();
        assert_eq!(contact.unbroken(), Duration::ZERO);
    }
}
