//! Callers that could not be recognised, written into the audit log: each address at most once a
//! minute, with how often it asked, so that nobody fills the log by asking.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use birun_core::audit::RefusedSignIns;
use birun_core::engine::Engine;
use poem::Request;
use tokio::time::{Instant, sleep_until};

/// An address is written down at most once in this time.
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are told apart; what comes from others meanwhile is counted together.
const MOST_ADDRESSES: usize = 32;
/// What those others are called.
const OTHERS: &str = "other addresses";
/// The bits of an IPv6 address that its network gives; the rest is the caller's to choose.
const NETWORK: u32 = 64;

/// Writes refused callers down.
#[derive(Clone, Debug)]
pub(crate) struct Refusals(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    engine: Engine,
    windows: Mutex<Windows>,
}

impl Refusals {
    pub(crate) fn new(engine: Engine) -> Self {
        Self(Arc::new(Shared { engine, windows: Mutex::default() }))
    }

    /// Notes that a caller was refused. The first one from an address is written down at once; those
    /// that follow within a minute are counted, and written down when it is over.
    pub(crate) async fn note(&self, address: String, request_id: &str) {
        let (first, begins) = {
            let mut windows = self.0.windows();
            let begins = windows.0.is_empty();
            (windows.note(address, request_id, Instant::now()), begins)
        };
        if begins {
            tokio::spawn(keep_written(Arc::downgrade(&self.0)));
        }
        if let Some(first) = first {
            self.0.write(&first).await;
        }
    }

    /// Writes down what was only counted so far.
    pub(crate) async fn write_all(&self) {
        let counted = self.0.windows().take();
        for refused in counted {
            self.0.write(&refused).await;
        }
    }
}

impl Shared {
    fn windows(&self) -> MutexGuard<'_, Windows> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever is refused is refused, whether or not it can be written down.
    async fn write(&self, refused: &RefusedSignIns) {
        if let Err(error) = self.engine.note_refused_sign_ins(refused).await {
            let RefusedSignIns { address, attempts, .. } = refused;
            tracing::error!(%error, address, attempts, "refused callers could not be written into the audit log");
        }
    }
}

/// Writes down what was counted whenever a minute is over, until there is nothing to wait for.
async fn keep_written(shared: Weak<Shared>) {
    loop {
        let Some(due) = shared.upgrade().and_then(|shared| shared.windows().next_end()) else { return };
        sleep_until(due).await;
        let Some(shared) = shared.upgrade() else { return };
        let counted = shared.windows().end(Instant::now());
        for refused in counted {
            shared.write(&refused).await;
        }
    }
}

/// The minutes that run, by address.
#[derive(Debug, Default)]
struct Windows(HashMap<String, Window>);

#[derive(Debug)]
struct Window {
    end: Instant,
    /// Attempts that were not written down.
    counted: u64,
}

impl Windows {
    /// Counts an attempt, and answers what is to be written down at once.
    fn note(&mut self, address: String, request_id: &str, now: Instant) -> Option<RefusedSignIns> {
        let full = self.0.len() >= MOST_ADDRESSES && !self.0.contains_key(&address);
        let address = if full { OTHERS.to_owned() } else { address };
        if let Some(window) = self.0.get_mut(&address) {
            window.counted += 1;
            return None;
        }
        self.0.insert(address.clone(), Window { end: now + WINDOW, counted: 0 });
        Some(RefusedSignIns { address, attempts: 1, request_id: Some(request_id.to_owned()) })
    }

    fn next_end(&self) -> Option<Instant> {
        self.0.values().map(|window| window.end).min()
    }

    /// Ends the minutes that are over. For an address that went on asking another one begins.
    fn end(&mut self, now: Instant) -> Vec<RefusedSignIns> {
        let mut counted = Vec::new();
        self.0.retain(|address, window| {
            if window.end > now {
                return true;
            }
            let attempts = std::mem::take(&mut window.counted);
            window.end = now + WINDOW;
            if attempts > 0 {
                counted.push(RefusedSignIns { address: address.clone(), attempts, request_id: None });
            }
            attempts > 0
        });
        counted
    }

    /// Takes all that was counted; the minutes go on.
    fn take(&mut self) -> Vec<RefusedSignIns> {
        let counted = self.0.iter_mut().filter(|(_, window)| window.counted > 0);
        counted
            .map(|(address, window)| RefusedSignIns {
                address: address.clone(),
                attempts: std::mem::take(&mut window.counted),
                request_id: None,
            })
            .collect()
    }
}

/// Where a request comes from: an address, or a network where callers choose their addresses.
pub(crate) fn address_of(request: &Request) -> String {
    request.remote_addr().as_socket_addr().map_or_else(|| "unknown".to_owned(), |peer| network_of(peer.ip()))
}

fn network_of(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) if address.is_loopback() => address.to_string(),
        IpAddr::V6(address) => {
            let network = Ipv6Addr::from_bits(address.to_bits() >> (128 - NETWORK) << (128 - NETWORK));
            format!("{network}/{NETWORK}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempts(refused: &[RefusedSignIns]) -> Vec<(&str, u64)> {
        refused.iter().map(|refused| (refused.address.as_str(), refused.attempts)).collect()
    }

    #[tokio::test]
    async fn an_address_is_written_down_once_a_minute_with_how_often_it_asked() {
        let (mut windows, begin) = (Windows::default(), Instant::now());
        let asked = |windows: &mut Windows, after: u64| {
            let now = begin + Duration::from_secs(after);
            windows.note("10.0.0.5".to_owned(), "r-1", now).map(|refused| refused.attempts)
        };
        assert_eq!(asked(&mut windows, 0), Some(1));
        for _ in 0..1000 {
            assert_eq!(asked(&mut windows, 59), None);
        }
        assert!(windows.end(begin + Duration::from_secs(59)).is_empty());
        assert_eq!(attempts(&windows.end(begin + WINDOW)), [("10.0.0.5", 1000)]);
        assert_eq!(asked(&mut windows, 61), None, "another minute has begun");
        assert_eq!(attempts(&windows.end(begin + 2 * WINDOW)), [("10.0.0.5", 1)]);
        assert!(windows.end(begin + 3 * WINDOW).is_empty());
        assert_eq!(windows.next_end(), None, "what is silent is forgotten");
        assert_eq!(asked(&mut windows, 600), Some(1));
    }

    #[tokio::test]
    async fn many_addresses_are_counted_together() {
        let (mut windows, now) = (Windows::default(), Instant::now());
        let written = (0..10_000).filter_map(|at| windows.note(format!("{at}"), "r-1", now)).count();
        assert_eq!(written, MOST_ADDRESSES + 1);
        let mut counted = windows.take();
        counted.retain(|refused| refused.address == OTHERS);
        assert_eq!(attempts(&counted), [(OTHERS, 10_000 - MOST_ADDRESSES as u64 - 1)]);
        assert!(windows.take().is_empty());
    }

    #[test]
    fn callers_who_choose_their_address_are_known_by_their_network() {
        for (address, network) in [
            ("10.0.0.5", "10.0.0.5"),
            ("::ffff:10.0.0.5", "10.0.0.5"),
            ("::1", "::1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ] {
            assert_eq!(network_of(address.parse().unwrap()), network);
        }
    }
}
