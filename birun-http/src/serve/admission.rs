//! How many connections are taken, so that nobody can use up the server by holding some.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Connections in all.
const MOST: usize = 1024;
/// Connections from one address; loopback, where proxies live, is not counted.
const MOST_EACH: usize = 128;

/// Counts connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Admission(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    each: HashMap<IpAddr, usize>,
}

/// A connection that was taken; it counts until it is dropped.
#[derive(Debug)]
pub(super) struct Admitted {
    admission: Admission,
    from: IpAddr,
}

impl Admission {
    /// Takes a connection from an address, if there is room.
    pub(super) fn admit(&self, from: IpAddr) -> Option<Admitted> {
        let from = from.to_canonical();
        let mut counts = self.lock();
        let own = counts.each.get(&from).copied().unwrap_or_default();
        if counts.all >= MOST || (own >= MOST_EACH && !from.is_loopback()) {
            return None;
        }
        counts.all += 1;
        counts.each.insert(from, own + 1);
        drop(counts);
        Some(Admitted { admission: self.clone(), from })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut counts = self.admission.lock();
        counts.all = counts.all.saturating_sub(1);
        let own = counts.each.get(&self.from).copied().unwrap_or_default();
        if own > 1 {
            counts.each.insert(self.from, own - 1);
        } else {
            counts.each.remove(&self.from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: &str, count: usize, admission: &Admission) -> Vec<Admitted> {
        (0..count).map_while(|_| admission.admit(address.parse().unwrap())).collect()
    }

    #[test]
    fn one_address_cannot_take_every_place() {
        let admission = Admission::default();
        let greedy = from("10.0.0.1", MOST, &admission);
        assert_eq!(greedy.len(), MOST_EACH);
        assert_eq!(from("::ffff:10.0.0.1", 1, &admission).len(), 0);
        assert_eq!(from("10.0.0.2", 1, &admission).len(), 1);
    }

    #[test]
    fn there_is_a_limit_for_all_and_places_come_back() {
        let admission = Admission::default();
        let mut all = from("127.0.0.1", 2 * MOST, &admission);
        assert_eq!(all.len(), MOST);
        assert!(admission.admit("10.0.0.1".parse().unwrap()).is_none());
        all.pop();
        assert!(admission.admit("10.0.0.1".parse().unwrap()).is_some());
        drop(all);
        assert!(admission.lock().each.is_empty());
    }
}
