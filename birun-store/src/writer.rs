//! The writer: tasks that own the connections on which transactions are made.
//!
//! An operation is a function that can be run again. Whatever is queued shares one commit, because
//! a commit waits for the disk; if one of them fails, all are rolled back and each is run alone.
//! Nothing outside these tasks begins a transaction, and they are never dropped in the middle of
//! one while the runtime lives. A caller that goes away does not take its operation with it.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use birun_core::milestone;
use birun_core::store::{StoreError, StoreResult};
use futures::FutureExt as _;
use futures::executor::block_on;
use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connect::{Link, Source};
use crate::contact::Contact;
use crate::sql::{DbError, Dialect, Kind, Operation, Tx, backend};

/// Most operations that share a commit.
const MOST: usize = 256;
/// Operations that may wait in the queue before callers wait to get into it.
const QUEUE: usize = 4096;
/// Connections on which PostgreSQL commits side by side.
const POSTGRES_LANES: usize = 4;
/// How often an operation that collides with another transaction is run.
const TRIES: u32 = 5;
/// Whoever waits longer for PostgreSQL, with one operation, has lost it: a connection that was cut
/// without notice never answers.
const POSTGRES_LIMIT: Duration = Duration::from_secs(4);

/// The sending side of the queue.
#[derive(Debug)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Box<dyn Job>>,
    stop: CancellationToken,
    lanes: TaskTracker,
}

impl Writer {
    /// Starts the tasks over a first connection, so that trouble with the database shows at once.
    pub(crate) fn start(source: &Arc<Source>, first: Link, contact: &Arc<Contact>) -> io::Result<Self> {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let jobs = Arc::new(Mutex::new(jobs));
        let (stop, lanes) = (CancellationToken::new(), TaskTracker::new());
        let mut first = Some(first);
        for _ in 0..source.dialect().pick(1, POSTGRES_LANES) {
            let lane = Lane { source: Arc::clone(source), link: first.take(), contact: Arc::clone(contact) };
            let running = lanes.track_future(lane.run(Arc::clone(&jobs), stop.clone()));
            match source.dialect() {
                Dialect::Sqlite => on_thread(running)?,
                Dialect::Postgres => drop(tokio::spawn(running)),
            }
        }
        Ok(Self { queue, stop, lanes })
    }

    /// Runs an operation in a transaction, and answers when it is committed.
    pub(crate) async fn run<A, T>(&self, args: A, operation: Operation<A, StoreResult<T>>) -> StoreResult<T>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
    {
        let (reply, outcome) = oneshot::channel();
        let job = Box::new(Queued { args, operation, outcome: None, reply });
        self.queue.send(job).await.map_err(|_| closed())?;
        outcome.await.map_err(|_| closed())?
    }

    /// Takes nothing more, runs what is queued, and closes the connections.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        self.lanes.close();
        self.lanes.wait().await;
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable { source: "the store was closed".into() }
}

/// An operation in the queue, its types forgotten.
trait Job: Send {
    /// Runs it and keeps its outcome. Answers whether the transaction can go on to a commit.
    fn run<'t>(&'t mut self, tx: &'t mut Tx<'_>) -> BoxFuture<'t, bool>;

    /// Answers the caller: the outcome that was kept, or the error that befell the transaction.
    fn answer(self: Box<Self>, error: Option<DbError>);
}

struct Queued<A, T> {
    args: A,
    operation: Operation<A, StoreResult<T>>,
    outcome: Option<StoreResult<T>>,
    reply: oneshot::Sender<StoreResult<T>>,
}

impl<A, T> Job for Queued<A, T>
where
    A: Send + Sync,
    T: Send,
{
    fn run<'t>(&'t mut self, tx: &'t mut Tx<'_>) -> BoxFuture<'t, bool> {
        Box::pin(async move {
            let running = AssertUnwindSafe((self.operation)(tx, &self.args)).catch_unwind();
            let outcome = running.await.unwrap_or_else(|_| Err(backend(tx.dialect(), "an operation panicked")));
            // A refusal that changed nothing leaves the transaction as it was.
            let sound = outcome.is_ok() || (tx.fault().is_none() && !tx.changed());
            self.outcome = Some(outcome);
            sound
        })
    }

    fn answer(self: Box<Self>, error: Option<DbError>) {
        let outcome = match error {
            Some(error) => Err(error.into()),
            None => self.outcome.unwrap_or_else(|| Err(closed())),
        };
        // The caller may be gone; the operation counts all the same.
        drop(self.reply.send(outcome));
    }
}

/// Why a transaction came to nothing.
enum Failure {
    /// One of the operations failed, and keeps its error.
    Operation(Option<Kind>),
    /// The transaction as a whole failed.
    Transaction(DbError),
}

/// One connection and the task that works on it.
struct Lane {
    source: Arc<Source>,
    link: Option<Link>,
    contact: Arc<Contact>,
}

impl Lane {
    async fn run(mut self, queue: Arc<Mutex<mpsc::Receiver<Box<dyn Job>>>>, stop: CancellationToken) {
        loop {
            let jobs = next_jobs(&mut *queue.lock().await, &stop).await;
            if jobs.is_empty() {
                break;
            }
            self.settle(jobs).await;
        }
        if let Some(link) = self.link.take() {
            link.close().await;
        }
    }

    /// Runs operations, together if that works out, and answers their callers.
    async fn settle(&mut self, mut jobs: Vec<Box<dyn Job>>) {
        if jobs.len() > 1 {
            let error = match self.attempt(&mut jobs).await {
                Ok(()) => None,
                Err(Failure::Transaction(error)) if befalls_all(error.kind) => Some(error),
                Err(_) => {
                    for job in jobs {
                        self.alone(job).await;
                    }
                    return;
                }
            };
            jobs.into_iter().for_each(|job| job.answer(error.clone()));
        } else if let Some(job) = jobs.pop() {
            self.alone(job).await;
        }
    }

    /// Runs one operation in a transaction of its own, again if it collides with another transaction.
    async fn alone(&mut self, mut job: Box<dyn Job>) {
        for attempt in 1.. {
            let (error, kind) = match self.attempt(std::slice::from_mut(&mut job)).await {
                Ok(()) => (None, None),
                Err(Failure::Operation(kind)) => (None, kind),
                Err(Failure::Transaction(error)) => {
                    let kind = error.kind;
                    (Some(error), Some(kind))
                }
            };
            if kind != Some(Kind::Collision) || attempt == TRIES {
                job.answer(error);
                return;
            }
            sleep(Duration::from_millis(u64::from(attempt) * 5)).await;
        }
    }

    /// One transaction.
    async fn attempt(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), Failure> {
        let result = self.transaction(jobs).await;
        match &result {
            Err(Failure::Operation(Some(Kind::Unavailable))) => self.lose_contact(),
            Err(Failure::Transaction(error)) if error.kind == Kind::Unavailable => self.lose_contact(),
            _ => self.contact.answered(),
        }
        result
    }

    async fn transaction(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), Failure> {
        let dialect = self.source.dialect();
        within_limit(dialect, self.begin()).await?.map_err(Failure::Transaction)?;
        let Some(link) = &mut self.link else { return Err(Failure::Operation(None)) };
        for job in jobs {
            let mut tx = link.tx();
            if !within_limit(dialect, job.run(&mut tx)).await? {
                let fault = tx.fault();
                rollback(link).await;
                return Err(Failure::Operation(fault));
            }
        }
        milestone::reach("commit.before");
        if let Err(error) = within_limit(dialect, link.tx().script("COMMIT")).await? {
            rollback(link).await;
            return Err(Failure::Transaction(error));
        }
        milestone::reach("commit.after");
        Ok(())
    }

    /// Begins a transaction; on a fresh connection if the old one turns out to be dead.
    async fn begin(&mut self) -> Result<(), DbError> {
        let begin = self.source.dialect().pick("BEGIN IMMEDIATE", "BEGIN");
        if let Some(link) = &mut self.link {
            match link.tx().script(begin).await {
                Err(error) if error.kind == Kind::Unavailable => self.lose_contact(),
                result => return result,
            }
        }
        let link = match &mut self.link {
            Some(link) => link,
            none => none.insert(self.source.link().await?),
        };
        link.tx().script(begin).await
    }

    /// Gives up a connection that may be dead. The one of a memory store is its data: it stays.
    fn lose_contact(&mut self) {
        self.contact.lost();
        if !matches!(*self.source, Source::Memory) {
            self.link = None;
        }
    }
}

/// SQLite has no server that could be lost.
async fn within_limit<T>(dialect: Dialect, work: impl Future<Output = T>) -> Result<T, Failure> {
    match dialect {
        Dialect::Sqlite => Ok(work.await),
        Dialect::Postgres => {
            timeout(POSTGRES_LIMIT, work).await.map_err(|_| Failure::Transaction(DbError::timed_out(Dialect::Postgres)))
        }
    }
}

/// Waits for operations and takes what is queued; nothing is left when the store was closed.
async fn next_jobs(queue: &mut mpsc::Receiver<Box<dyn Job>>, stop: &CancellationToken) -> Vec<Box<dyn Job>> {
    let mut jobs = Vec::new();
    tokio::select! {
        biased;
        () = stop.cancelled(), if !queue.is_closed() => queue.close(),
        _ = queue.recv_many(&mut jobs, MOST) => return jobs,
    }
    queue.recv_many(&mut jobs, MOST).await;
    jobs
}

/// Runs the writer of SQLite on a thread of its own. sqlx hands each statement to another thread and
/// back: between two threads that takes less than through the queues of a busy runtime.
fn on_thread(running: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
    let runtime = Handle::current();
    let thread = std::thread::Builder::new().name("birun-writer".to_owned()).spawn(move || {
        let _timers = runtime.enter();
        block_on(running);
    })?;
    drop(thread);
    Ok(())
}

/// Rolls back. SQLite may have done so by itself, and a dead connection cannot: neither matters.
async fn rollback(link: &mut Link) {
    if let Err(error) = link.tx().script("ROLLBACK").await {
        tracing::debug!(?error, "nothing to roll back");
    }
}

/// Whether running the operations one by one would meet the same error each time.
const fn befalls_all(kind: Kind) -> bool {
    matches!(kind, Kind::Unavailable | Kind::Locked | Kind::Full | Kind::Corrupt)
}
