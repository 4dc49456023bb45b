//! The writer: tasks that own the connections on which transactions are made.
//!
//! An operation is a function that can be run again, or a batch of statements. Whatever is queued shares
//! one commit, because a commit waits for the disk; if one of them fails, all are rolled back and each is
//! run alone. A batch that is alone goes as one text, with its transaction, since each text is a way to
//! the database and back.
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
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connect::{Link, Source};
use crate::contact::Contact;
use crate::sql::{
    BEGIN_SQLITE, Batch, DbError, Dialect, Done, Kind, Operation, POSTGRES_LIMIT, Statement, Tx, backend,
};

/// Most operations that share a commit.
const MOST: usize = 256;
/// Operations that may wait in the queue before callers wait to get into it.
const QUEUE: usize = 4096;
/// Connections on which PostgreSQL commits side by side.
const POSTGRES_LANES: usize = 4;
/// How often an operation that collides with another transaction is run.
const TRIES: u32 = 5;
/// A connection to PostgreSQL that has not answered for longer may be dead, which a `BEGIN` finds out.
const POSTGRES_FRESH: Duration = Duration::from_secs(1);

/// What the outcome of a batch means to its caller.
pub(crate) type Judge<T> = fn(Result<Vec<Done>, DbError>) -> StoreResult<T>;

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
            let lane = Lane {
                source: Arc::clone(source),
                link: first.take(),
                answered: Instant::now(),
                contact: Arc::clone(contact),
            };
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
        self.settled(Box::new(Queued { args, operation, outcome: None, reply }), outcome).await
    }

    /// Runs a batch in a transaction, and answers when it is committed. It must be one that comes to the
    /// same when it is run again, as after an answer that was lost.
    pub(crate) async fn run_batch<T: Send + 'static>(&self, batch: Batch, judge: Judge<T>) -> StoreResult<T> {
        let (reply, outcome) = oneshot::channel();
        self.settled(Box::new(Written { batch, judge, outcome: None, reply }), outcome).await
    }

    async fn settled<T>(&self, job: Box<dyn Job>, outcome: oneshot::Receiver<StoreResult<T>>) -> StoreResult<T> {
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

    /// The batch that is all of it, if it is one.
    fn batch(&self) -> Option<&Batch> {
        None
    }

    /// Keeps what its batch came to.
    fn judge(&mut self, _done: Result<Vec<Done>, DbError>) {}

    /// Answers the caller: the outcome that was kept, or the error that befell the transaction.
    fn answer(self: Box<Self>, error: Option<DbError>);
}

/// Tells the caller. It may be gone; the operation counts all the same.
fn tell<T>(reply: oneshot::Sender<StoreResult<T>>, outcome: Option<StoreResult<T>>, error: Option<DbError>) {
    let outcome = match error {
        Some(error) => Err(error.into()),
        None => outcome.unwrap_or_else(|| Err(closed())),
    };
    drop(reply.send(outcome));
}

/// Whether the transaction can go on to a commit: a refusal that changed nothing leaves it as it was.
fn is_sound<T>(outcome: &StoreResult<T>, tx: &Tx<'_>) -> bool {
    outcome.is_ok() || (tx.fault().is_none() && !tx.changed())
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
            let sound = is_sound(&outcome, tx);
            self.outcome = Some(outcome);
            sound
        })
    }

    fn answer(self: Box<Self>, error: Option<DbError>) {
        tell(self.reply, self.outcome, error);
    }
}

struct Written<T> {
    batch: Batch,
    judge: Judge<T>,
    outcome: Option<StoreResult<T>>,
    reply: oneshot::Sender<StoreResult<T>>,
}

impl<T: Send> Job for Written<T> {
    fn run<'t>(&'t mut self, tx: &'t mut Tx<'_>) -> BoxFuture<'t, bool> {
        Box::pin(async move {
            let done = tx.batch(self.batch.clone()).await;
            let outcome = (self.judge)(done);
            let sound = is_sound(&outcome, tx);
            self.outcome = Some(outcome);
            sound
        })
    }

    fn batch(&self) -> Option<&Batch> {
        Some(&self.batch)
    }

    fn judge(&mut self, done: Result<Vec<Done>, DbError>) {
        self.outcome = Some((self.judge)(done));
    }

    fn answer(self: Box<Self>, error: Option<DbError>) {
        tell(self.reply, self.outcome, error);
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
    /// When the database last answered here.
    answered: Instant,
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
            let since = Instant::now();
            let error = match self.attempt(&mut jobs).await {
                Ok(()) => None,
                // Each of them would wait as long.
                Err(Failure::Operation(Some(Kind::Unavailable))) if self.fell_silent(since) => {
                    Some(DbError::timed_out(self.source.dialect()))
                }
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
        let result = match (self.alone_text(jobs), jobs) {
            (Some(text), [job]) => self.one_text(job, text).await,
            (_, jobs) => self.transaction(jobs).await,
        };
        match &result {
            Err(Failure::Operation(Some(Kind::Unavailable))) => self.lose_contact(),
            Err(Failure::Transaction(error)) if error.kind == Kind::Unavailable => self.lose_contact(),
            _ => {
                self.answered = Instant::now();
                self.contact.answered();
            }
        }
        result
    }

    /// The text that is all there is to do, if there is one and the connection was alive just now.
    fn alone_text(&self, jobs: &[Box<dyn Job>]) -> Option<Statement> {
        let [job] = jobs else { return None };
        let dialect = self.source.dialect();
        let fresh = dialect == Dialect::Sqlite || self.answered.elapsed() < POSTGRES_FRESH;
        job.batch().filter(|_| fresh && self.link.is_some())?.as_transaction(dialect)
    }

    /// A transaction that is one text. Where its connection turns out to be dead nobody can tell whether it
    /// was carried out, but it may be run again: that is what batches are for.
    async fn one_text(&mut self, job: &mut Box<dyn Job>, text: Statement) -> Result<(), Failure> {
        let since = Instant::now();
        match self.try_text(job, text).await {
            Err(Failure::Operation(Some(Kind::Unavailable)))
                if self.source.dialect() == Dialect::Postgres && !self.fell_silent(since) =>
            {
                self.lose_contact();
                self.transaction(std::slice::from_mut(job)).await
            }
            result => result,
        }
    }

    /// Whether what began at this moment was given up because no answer came.
    fn fell_silent(&self, since: Instant) -> bool {
        self.source.dialect() == Dialect::Postgres && since.elapsed() >= POSTGRES_LIMIT
    }

    async fn try_text(&mut self, job: &mut Box<dyn Job>, text: Statement) -> Result<(), Failure> {
        let Some(link) = &mut self.link else { return Err(Failure::Operation(None)) };
        milestone::reach("commit.before");
        let mut tx = link.tx();
        let done = tx.transaction(text).await;
        let fault = tx.fault();
        match (fault, self.source.dialect()) {
            (None, _) => milestone::reach("commit.after"),
            (Some(_), Dialect::Sqlite) => rollback(link, fault).await,
            (Some(_), Dialect::Postgres) => {}
        }
        job.judge(done);
        match fault {
            Some(_) => Err(Failure::Operation(fault)),
            None => Ok(()),
        }
    }

    async fn transaction(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), Failure> {
        self.begin().await.map_err(Failure::Transaction)?;
        let Some(link) = &mut self.link else { return Err(Failure::Operation(None)) };
        for job in jobs {
            let mut tx = link.tx();
            if !job.run(&mut tx).await {
                let fault = tx.fault();
                rollback(link, fault).await;
                return Err(Failure::Operation(fault));
            }
        }
        milestone::reach("commit.before");
        if let Err(error) = link.tx().script("COMMIT").await {
            rollback(link, Some(error.kind)).await;
            return Err(Failure::Transaction(error));
        }
        milestone::reach("commit.after");
        Ok(())
    }

    /// Begins a transaction; on a fresh connection if the old one turns out to be dead.
    async fn begin(&mut self) -> Result<(), DbError> {
        let begin = self.source.dialect().pick(BEGIN_SQLITE, "BEGIN");
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

/// Rolls back. SQLite may have done so by itself, which does not matter; a connection that did not answer
/// is given up instead.
async fn rollback(link: &mut Link, fault: Option<Kind>) {
    if fault == Some(Kind::Unavailable) && matches!(link, Link::Postgres(_)) {
        return;
    }
    if let Err(error) = link.tx().script("ROLLBACK").await {
        tracing::debug!(?error, "nothing to roll back");
    }
}

/// Whether running the operations one by one would meet the same error each time.
const fn befalls_all(kind: Kind) -> bool {
    matches!(kind, Kind::Unavailable | Kind::Locked | Kind::Full | Kind::Corrupt)
}
