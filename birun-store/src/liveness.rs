//! How the death of a worker shows.
//!
//! On a SQLite file each worker holds an operating system's lock on a file of its own, which the
//! kernel releases with the process, whatever the clock says. On PostgreSQL a lease runs out.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use birun_core::execution::WorkerRegistration;
use birun_core::id::WorkerId;
use birun_core::store::{StoreError, StoreResult};
use tokio::time::Instant;

/// How the death of a worker shows.
#[derive(Debug)]
pub(crate) enum Liveness {
    /// It does not: all workers live in this process, and say goodbye.
    Goodbye,
    /// Its lock file can be locked.
    Locks(Locks),
    /// It has not renewed its lease in time, by the database's clock.
    Leases(Leases),
}

/// The leases of this process's workers.
#[derive(Debug)]
pub(crate) struct Leases {
    length: Duration,
    registered: Mutex<HashMap<WorkerId, (WorkerRegistration, Instant)>>,
}

impl Leases {
    pub(crate) fn new(length: Duration) -> Self {
        Self { length, registered: Mutex::default() }
    }

    pub(crate) const fn length(&self) -> Duration {
        self.length
    }

    pub(crate) fn micros(&self) -> i64 {
        i64::try_from(self.length.as_micros()).unwrap_or(i64::MAX)
    }

    /// Notes that a worker's lease begins now.
    pub(crate) fn begin(&self, worker: &WorkerRegistration) {
        self.registered().insert(worker.id, (worker.clone(), Instant::now()));
    }

    /// Notes that a worker has said goodbye.
    pub(crate) fn end(&self, worker: WorkerId) {
        self.registered().remove(&worker);
    }

    /// The registration to write again, unless the lease is fresh: asking for news costs no write.
    pub(crate) fn to_renew(&self, worker: WorkerId) -> Option<WorkerRegistration> {
        let registered = self.registered();
        let (registration, since) = registered.get(&worker)?;
        (since.elapsed() >= self.length / FRESH).then(|| registration.clone())
    }

    fn registered(&self) -> MutexGuard<'_, HashMap<WorkerId, (WorkerRegistration, Instant)>> {
        self.registered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lease is fresh for this part of its length.
const FRESH: u32 = 6;

/// The lock files of workers on one machine.
#[derive(Clone, Debug)]
pub(crate) struct Locks {
    directory: Arc<Path>,
    held: Arc<Mutex<HashMap<WorkerId, (WorkerRegistration, File)>>>,
}

/// A worker found dead. While this exists nobody else can take its lock.
#[derive(Debug)]
pub(crate) struct Dead {
    pub(crate) worker: WorkerId,
    _lock: Option<File>,
}

impl Dead {
    pub(crate) const fn without_lock(worker: WorkerId) -> Self {
        Self { worker, _lock: None }
    }
}

impl Locks {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory: directory.into(), held: Arc::default() }
    }

    /// Takes a worker's lock and keeps it until [`release`](Locks::release) or the process's end.
    pub(crate) async fn hold(&self, worker: &WorkerRegistration) -> StoreResult<()> {
        let path = self.path(worker.id);
        let file = blocking(move || {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            let file = open(&path, true)?;
            file.try_lock()?;
            Ok(file)
        });
        let file = file.await?;
        self.held().insert(worker.id, (worker.clone(), file));
        Ok(())
    }

    /// Takes a worker's lock again if somebody removed the file: others take the worker for dead then,
    /// so it must be registered anew. Answers what to register.
    pub(crate) async fn restore(&self, worker: WorkerId) -> StoreResult<Option<WorkerRegistration>> {
        let Some(registration) = self.held().get(&worker).map(|(registration, _)| registration.clone()) else {
            return Ok(None);
        };
        let path = self.path(worker);
        if blocking(move || path.try_exists()).await? {
            return Ok(None);
        }
        self.hold(&registration).await?;
        Ok(Some(registration))
    }

    fn held(&self) -> MutexGuard<'_, HashMap<WorkerId, (WorkerRegistration, File)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a worker's lock back, and removes the file first: what is gone counts as dead.
    pub(crate) async fn release(&self, worker: WorkerId) -> StoreResult<()> {
        let file = self.held().remove(&worker).map(|(_, file)| file);
        self.forget(vec![Dead { worker, _lock: file }]).await
    }

    /// Those of the workers whose locks can be taken. What cannot be judged counts as alive.
    pub(crate) async fn dead(&self, mut workers: Vec<WorkerId>) -> StoreResult<Vec<Dead>> {
        {
            let held = self.held();
            workers.retain(|worker| !held.contains_key(worker));
        }
        let locks = self.clone();
        blocking(move || Ok(workers.into_iter().filter_map(|worker| locks.probe(worker)).collect())).await
    }

    /// Removes the files of dead workers.
    pub(crate) async fn forget(&self, dead: Vec<Dead>) -> StoreResult<()> {
        let locks = self.clone();
        let removing = blocking(move || {
            for dead in &dead {
                match fs::remove_file(locks.path(dead.worker)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            Ok(())
        });
        removing.await
    }

    fn probe(&self, worker: WorkerId) -> Option<Dead> {
        match open(&self.path(worker), false).and_then(|file| Ok(file.try_lock().map(|()| file)?)) {
            Ok(file) => Some(Dead { worker, _lock: Some(file) }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Dead { worker, _lock: None }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => {
                tracing::warn!(%worker, %error, "whether this worker lives cannot be told from its lock file");
                None
            }
        }
    }

    fn path(&self, worker: WorkerId) -> PathBuf {
        self.directory.join(format!("{worker}.lock"))
    }
}

fn open(path: &Path, create: bool) -> io::Result<File> {
    OpenOptions::new().write(true).create(create).truncate(false).open(path)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> StoreResult<T> {
    let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other).flatten();
    done.map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => StoreError::Locked { source: error.into() },
        _ => StoreError::Unavailable { source: error.into() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker() -> WorkerRegistration {
        let started_at = chrono::DateTime::UNIX_EPOCH;
        WorkerRegistration { id: WorkerId::new(), name: "host".to_owned(), slots: 1, home_only: false, started_at }
    }

    #[tokio::test]
    async fn a_worker_is_dead_exactly_when_its_lock_can_be_taken() {
        let directory = tempfile::tempdir().unwrap();
        let (ours, theirs) = (Locks::new(directory.path().into()), Locks::new(directory.path().into()));
        let (alive, gone, unknown) = (worker(), worker(), WorkerId::new());
        theirs.hold(&alive).await.unwrap();
        theirs.hold(&gone).await.unwrap();
        let (alive, gone) = (alive.id, gone.id);
        drop(theirs.held.lock().unwrap().remove(&gone));

        let dead = ours.dead(vec![alive, gone, unknown]).await.unwrap();
        assert_eq!(dead.iter().map(|dead| dead.worker).collect::<Vec<_>>(), [gone, unknown]);
        ours.forget(dead).await.unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);

        theirs.release(alive).await.unwrap();
        assert_eq!(ours.dead(vec![alive]).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn two_workers_cannot_hold_one_lock() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (Locks::new(directory.path().into()), Locks::new(directory.path().into()));
        let worker = worker();
        one.hold(&worker).await.unwrap();
        assert!(matches!(two.hold(&worker).await, Err(StoreError::Locked { .. })));
    }
}
