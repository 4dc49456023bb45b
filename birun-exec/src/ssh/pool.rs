//! Connections, kept for the next execution.
//!
//! One execution at a time uses a connection, so that a slow reader blocks no neighbour. A server
//! gets a few connections at most; whoever finds none free waits in line. Killing has a line of its
//! own, so that it never waits behind the work that it is to kill.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use birun_core::Result;
use birun_core::execution::executor::HostTrust;
use birun_core::execution::{ServerTarget, Waits};
use birun_core::id::ServerId;
use birun_core::inventory::Verdict;
use birun_core::{Error, ErrorCode};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::ssh::approach::Approach;
use crate::ssh::connection::Connection;
use crate::ssh::executor::Settings;
use crate::ssh::keys::{Digest, Identity};

/// What a connection is wanted for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lane<'a> {
    /// An execution, which says so while it waits for its place.
    Work(&'a Waits),
    /// Ending another execution's processes.
    Kill,
}

/// Whether a connection that was used before will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freshness {
    /// Yes.
    Any,
    /// No: an old one just failed, so its contemporaries are not trusted either.
    New,
}

/// The connections of one executor.
#[derive(Clone, Debug)]
pub(super) struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: Arc<Settings>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The lines of each server, as long as anyone stands in them: whatever its revision.
    gates: HashMap<ServerId, Weak<Gate>>,
    /// Kept connections, most recently used last.
    idle: HashMap<Key, Vec<Idle>>,
    /// Opened credentials, as long as a connection that they serve is in use or kept.
    identities: HashMap<Digest, Weak<Opened>>,
    sweeping: bool,
}

/// Filled by whoever needs it first; the others wait.
type Opened = OnceCell<Identity>;

/// Connections are interchangeable within one revision of a server only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    server: ServerId,
    revision: u64,
    host: String,
    port: u16,
    user: String,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
    /// Kept open for the next connection.
    _identity: Option<Arc<Opened>>,
}

#[derive(Debug)]
struct Gate {
    work: Arc<Semaphore>,
    kill: Arc<Semaphore>,
}

/// A connection in use. Dropped without [`give_back`](Lease::give_back) it is cut, and its place is
/// free again either way.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) connection: Connection,
    /// Whether it was used before.
    pub(super) reused: bool,
    pool: Pool,
    key: Key,
    identity: Option<Arc<Opened>>,
    /// Keeps the lines in which this lease stands from being forgotten.
    _gate: Arc<Gate>,
    _place: OwnedSemaphorePermit,
}

impl Pool {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        Self(Arc::new(Shared { settings, state: Mutex::default() }))
    }

    /// Waits for a place, then takes a kept connection or makes a new one.
    ///
    /// Dropping the future gives up the place in line and leaves nothing behind.
    ///
    /// # Errors
    /// Whatever prevents the connection; nothing was started then.
    pub(super) async fn lease(
        &self,
        target: &Arc<ServerTarget>,
        trust: &dyn HostTrust,
        lane: Lane<'_>,
        freshness: Freshness,
    ) -> Result<Lease> {
        let key = Key::of(target);
        let gate = self.gate(key.server);
        let place = self.place(&gate, target, lane).await?;
        let approach = Approach::new(Arc::clone(target), Arc::clone(&self.0.settings));
        let identity = target.credential.as_ref().map(|credential| self.identity(Digest::of(credential)));
        let kept = self.take_kept(&key, &approach, freshness);
        let reused = kept.is_some();
        let connection = match kept {
            Some(connection) => connection,
            None => connect(&approach, trust, identity.as_deref()).await?,
        };
        Ok(Lease { connection, reused, pool: self.clone(), key, identity, _gate: gate, _place: place })
    }

    /// Waits for a place in the line of its lane.
    async fn place(&self, gate: &Gate, target: &ServerTarget, lane: Lane<'_>) -> Result<OwnedSemaphorePermit> {
        let (line, waits) = match lane {
            Lane::Work(waits) => (&gate.work, Some(waits)),
            Lane::Kill => (&gate.kill, None),
        };
        if let Ok(place) = Arc::clone(line).try_acquire_owned() {
            return Ok(place);
        }
        let most = self.0.settings.connections;
        let _waiting =
            waits.map(|waits| waits.begin(format!("limit of server {} reached ({most} at once)", target.name)));
        Arc::clone(line).acquire_owned().await.map_err(|_| closed())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gate(&self, server: ServerId) -> Arc<Gate> {
        shared(&mut self.state().gates, server, || Gate::new(self.0.settings.connections))
    }

    fn identity(&self, digest: Digest) -> Arc<Opened> {
        shared(&mut self.state().identities, digest, OnceCell::new)
    }

    /// The most recently used connection that still lives and whose host key is still trusted.
    fn take_kept(&self, key: &Key, approach: &Approach, freshness: Freshness) -> Option<Connection> {
        let mut state = self.state();
        let idle = state.idle.get_mut(key)?;
        if freshness == Freshness::New {
            idle.clear();
        }
        idle.retain(|kept| !kept.connection.is_dead() && is_trusted(approach, &kept.connection));
        idle.pop().map(|kept| kept.connection)
    }

    fn keep(&self, key: Key, idle: Idle) {
        let most = self.0.settings.connections;
        let mut state = self.state();
        let kept = state.idle.entry(key).or_default();
        if kept.len() >= most || idle.connection.is_dead() {
            return;
        }
        kept.push(idle);
        if !state.sweeping {
            state.sweeping = true;
            tokio::spawn(sweep(Arc::downgrade(&self.0)));
        }
    }
}

impl Key {
    fn of(target: &ServerTarget) -> Self {
        let ServerTarget { id, revision, host, port, user, .. } = target;
        Self { server: *id, revision: *revision, host: host.clone(), port: *port, user: user.clone() }
    }
}

impl Gate {
    fn new(connections: usize) -> Self {
        let line = || Arc::new(Semaphore::new(connections));
        Self { work: line(), kill: line() }
    }
}

impl Lease {
    /// Keeps the connection for the next execution.
    pub(super) fn give_back(self) {
        let Self { connection, pool, key, identity, _gate, _place, .. } = self;
        pool.keep(key, Idle { connection, since: Instant::now(), _identity: identity });
    }
}

fn is_trusted(approach: &Approach, connection: &Connection) -> bool {
    !matches!(approach.judge.verdict(connection.key()), Verdict::Refuse(_))
}

/// What everyone shares who needs it now; what nobody needs any more is forgotten.
fn shared<K: Copy + Eq + Hash, V>(known: &mut HashMap<K, Weak<V>>, key: K, new: impl FnOnce() -> V) -> Arc<V> {
    if let Some(found) = known.get(&key).and_then(Weak::upgrade) {
        return found;
    }
    known.retain(|_, value| value.strong_count() > 0);
    let value = Arc::new(new());
    known.insert(key, Arc::downgrade(&value));
    value
}

/// Reaches the server, and opens the credential meanwhile.
async fn connect(approach: &Approach, trust: &dyn HostTrust, identity: Option<&Opened>) -> Result<Connection> {
    let reach = async {
        let addresses = approach.resolve().await?;
        let tcp = approach.dial(&addresses).await?;
        approach.meet(tcp, &addresses).await
    };
    let (met, identity) = tokio::try_join!(reach, open(approach, identity))?;
    met.admit(approach, trust).await?.sign_in(approach, identity).await
}

async fn open<'a>(approach: &Approach, identity: Option<&'a Opened>) -> Result<Option<&'a Identity>> {
    let (Some(credential), Some(identity)) = (&approach.judge.target.credential, identity) else { return Ok(None) };
    let places = &approach.settings.blocking.keys;
    identity.get_or_try_init(|| Identity::open(credential, places)).await.map(Some)
}

/// Closes connections that nobody used for long enough. Ends when none is left, or the pool is gone.
async fn sweep(shared: Weak<Shared>) {
    while let Some(pool) = shared.upgrade().map(Pool) {
        let (expired, next) = pool.expire();
        futures::future::join_all(expired.into_iter().map(Connection::leave)).await;
        drop(pool);
        match next {
            Some(next) => tokio::time::sleep_until(next).await,
            None => return,
        }
    }
}

impl Pool {
    /// Takes out what has been idle for too long; tells when to look again, if anything is left.
    fn expire(&self) -> (Vec<Connection>, Option<Instant>) {
        let keep = self.0.settings.keep_idle;
        let now = Instant::now();
        let mut state = self.state();
        let mut expired = Vec::new();
        for idle in state.idle.values_mut() {
            let old = |kept: &mut Idle| kept.since + keep <= now || kept.connection.is_dead();
            expired.extend(idle.extract_if(.., old).map(|kept| kept.connection));
        }
        state.idle.retain(|_, idle| !idle.is_empty());
        let next = state.idle.values().flatten().map(|kept| kept.since + keep).min();
        state.sweeping = next.is_some();
        (expired, next)
    }
}

fn closed() -> Error {
    Error::new(ErrorCode::Unavailable, "the executor is closed")
}
