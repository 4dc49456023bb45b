//! A worker: claims executions, keeps its leases, drives what it claimed, and stops in order.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::audit::keep_sealed;
use crate::engine::{Roles, Shared};
use crate::error::Result;
use crate::execution::intake::Door;
use crate::execution::{Claimed, Drive, Lease, Renewal, WorkerRegistration};
use crate::execution::{metrics, runner};
use crate::gate::Scope;
use crate::id::{ExecutionId, ProjectId};
use crate::milestone;
use crate::store::{StoreError, StoreResult};

/// How often the queue is looked at when nobody says that there is something in it.
const POLL: Duration = Duration::from_millis(250);
/// How often leases are renewed and requests to cancel are heard while something runs.
const RENEW: Duration = Duration::from_secs(1);
/// How often an idle worker shows that it lives, in renewals.
const IDLE_RENEWALS: u64 = 5;
/// How often dead workers are looked for, in renewals.
const REAP_RENEWALS: u64 = 5;
/// Longest wait between two tries when storage does not answer.
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// Most executions that are claimed at once.
const CLAIM_BATCH: usize = 64;
/// How long an execution whose driving panicked is kept from being taken up again.
const AFTER_PANIC: Duration = Duration::from_secs(1);
/// How long before the end of a lease that could not be renewed what may be run again is ended here.
const FENCE_MARGIN: Duration = Duration::from_secs(5);
/// How long stopped steps may take beyond their own grace before shutdown gives up on them.
const STOP_MARGIN: Duration = Duration::from_secs(10);

/// The executions that this worker has claimed and not let go of, and how to reach their runners.
#[derive(Debug, Default)]
pub(crate) struct Active {
    drives: Mutex<HashMap<ExecutionId, (Lease, Signals)>>,
}

/// What a runner is told from outside.
#[derive(Clone, Debug, Default)]
pub(crate) struct Signals {
    /// Someone wants the execution cancelled.
    pub(crate) cancel: CancellationToken,
    /// The lease is gone: kill, and write nothing.
    pub(crate) lost: CancellationToken,
    /// Another worker may take over soon: end what it would run again.
    pub(crate) fence: CancellationToken,
    /// The worker stops: stop the steps, and give the execution back.
    pub(crate) hand_back: CancellationToken,
    /// Kill what runs, without grace.
    pub(crate) kill: CancellationToken,
}

impl Active {
    /// Tells the runner of an execution to cancel it, if it is driven here.
    pub(crate) fn cancel(&self, id: ExecutionId) {
        if let Some((_, signals)) = self.lock().get(&id) {
            signals.cancel.cancel();
        }
    }

    /// Notes that a lease is this worker's, or finds what was noted. A lease of an earlier claim is over,
    /// in whichever order the answers to both came.
    pub(super) fn add(&self, lease: Lease) -> Signals {
        let mut drives = self.lock();
        let (held, signals) = drives.entry(lease.execution).or_insert_with(|| (lease, Signals::default()));
        if held.epoch > lease.epoch {
            let late = Signals::default();
            late.lost.cancel();
            return late;
        }
        if *held != lease {
            signals.lost.cancel();
            (*held, *signals) = (lease, Signals::default());
        }
        signals.clone()
    }

    fn holds(&self, lease: &Lease) -> bool {
        self.lock().get(&lease.execution).is_some_and(|(held, _)| held == lease)
    }

    pub(super) fn remove(&self, lease: Lease) {
        let mut drives = self.lock();
        if drives.get(&lease.execution).is_some_and(|(held, _)| *held == lease) {
            drives.remove(&lease.execution);
        }
    }

    fn all(&self) -> Vec<(Lease, Signals)> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ExecutionId, (Lease, Signals)>> {
        self.drives.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A started engine. Dropping it stops nothing in order: call [`shutdown`](Running::shutdown).
#[derive(Debug)]
pub struct Running {
    worker: Option<Arc<WorkerLoop>>,
    tasks: TaskTracker,
    /// Ends what goes on until the very end; fires last.
    retired: CancellationToken,
}

#[derive(Debug)]
struct WorkerLoop {
    shared: Arc<Shared>,
    scope: Scope,
    slots: Arc<Semaphore>,
    stop: CancellationToken,
    /// Stops renewing; fires last.
    retired: CancellationToken,
    claimed: tokio::sync::Mutex<mpsc::UnboundedReceiver<Vec<Claimed>>>,
    /// What claims and hands on.
    feeders: TaskTracker,
    drives: TaskTracker,
}

/// The worker as dispatch knows it.
#[derive(Debug)]
struct Driver(Arc<WorkerLoop>);

/// Registers the worker, takes up what dead ones left, and starts its loops.
pub(crate) async fn start_worker(shared: Arc<Shared>, roles: Roles) -> Result<Running> {
    let tasks = TaskTracker::new();
    let retired = CancellationToken::new();
    if !roles.worker {
        tasks.spawn(keep_sealed(shared, retired.clone()));
        return Ok(Running { worker: None, tasks, retired });
    }
    let scope = Scope::of(ProjectId::DEFAULT);
    let registration = WorkerRegistration {
        id: shared.worker.id,
        name: shared.worker.name.clone(),
        slots: shared.limits.slots,
        home_only: shared.worker.home_only,
        started_at: shared.clock.now(),
    };
    shared.store.register(&scope, &registration).await?;
    let reaped = shared.store.reap(&scope, shared.limits.claims, shared.clock.now()).await?;
    metrics::reaped(&reaped);
    // What is sent holds a slot: there is never more of it than slots.
    let (sender, receiver) = mpsc::unbounded_channel();
    let slots = Arc::new(Semaphore::new(shared.limits.slots as usize));
    shared.intake.open(Door {
        slots: Arc::clone(&slots),
        claims: sender.clone(),
        heard: shared.clock.monotonic(),
        certain: shared.store.lease_length().map(|length| length / 2),
        queued: 0,
        caught_up: false,
    });
    let worker = Arc::new(WorkerLoop {
        slots,
        shared,
        scope,
        stop: CancellationToken::new(),
        retired: retired.clone(),
        claimed: tokio::sync::Mutex::new(receiver),
        feeders: TaskTracker::new(),
        drives: TaskTracker::new(),
    });
    tasks.spawn(keep_sealed(Arc::clone(&worker.shared), retired.clone()));
    worker.feeders.spawn(Arc::clone(&worker).pump(sender));
    worker.feeders.spawn(Arc::clone(&worker).dispatch());
    tasks.spawn(Arc::clone(&worker).keep());
    Ok(Running { worker: Some(worker), tasks, retired })
}

impl Running {
    /// Stops in order: claims nothing more, waits up to `drain` for what runs, then stops the rest
    /// (TERM, grace, KILL) and gives those executions back to other workers. Leases are kept all the while.
    ///
    /// # Errors
    /// What storage answers when the worker takes its leave; everything has stopped by then.
    pub async fn shutdown(self, drain: Duration) -> Result<()> {
        let Some(worker) = &self.worker else { return self.shutdown_after(std::future::ready(())).await };
        let clock = Arc::clone(&worker.shared.clock);
        self.shutdown_after(async move { clock.sleep(drain).await }).await
    }

    /// Stops in order like [`shutdown`](Running::shutdown), with as much time for what runs as
    /// `patience` takes to resolve: a time, or someone who insists.
    ///
    /// # Errors
    /// Those of [`shutdown`](Running::shutdown).
    pub async fn shutdown_after(self, patience: impl Future<Output = ()> + Send) -> Result<()> {
        let Some(worker) = self.worker else {
            self.retired.cancel();
            self.tasks.close();
            self.tasks.wait().await;
            return Ok(());
        };
        worker.stop.cancel();
        let clock = &worker.shared.clock;
        tokio::select! {
            () = worker.drained() => {}
            () = patience => {
                for (_, signals) in worker.shared.active.all() {
                    signals.hand_back.cancel();
                }
                tokio::select! {
                    () = worker.drained() => {}
                    () = clock.sleep(runner::longest_grace() + STOP_MARGIN) => {}
                }
            }
        }
        worker.retired.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        worker.shared.store.retire(&worker.scope, worker.shared.worker.id).await?;
        Ok(())
    }

    /// The executions that are driven here now.
    #[must_use]
    pub fn driving(&self) -> Vec<ExecutionId> {
        let drives = self.worker.iter().flat_map(|worker| worker.shared.active.all());
        drives.map(|(lease, _)| lease.execution).collect()
    }

    /// Kills what runs in an execution that is driven here, without waiting for its grace: for the
    /// impatient, after [`Gate::cancel`](crate::Gate::cancel). Does nothing for one that is not.
    pub fn kill_now(&self, id: ExecutionId) {
        let drives = self.worker.iter().flat_map(|worker| worker.shared.active.all());
        drives.filter(|(lease, _)| lease.execution == id).for_each(|(_, signals)| signals.kill.cancel());
    }

    /// Whether something waits that a dead worker left, and no worker that would take it over lives.
    ///
    /// # Errors
    /// What storage answers.
    pub async fn leaves_orphans(&self) -> Result<bool> {
        let Some(WorkerLoop { shared, scope, .. }) = self.worker.as_deref() else { return Ok(false) };
        if !shared.store.orphans_wait(scope).await? {
            return Ok(false);
        }
        let workers = shared.store.workers(scope).await?;
        Ok(!workers.iter().any(|worker| worker.alive && !worker.registration.home_only))
    }

    /// Resolves when nothing is driven here and nothing is queued that this worker may take.
    pub async fn idle(&self) {
        let Some(worker) = &self.worker else { return };
        loop {
            let next = worker.shared.store.next_wake(&worker.scope, worker.shared.worker.id).await;
            // In this order: what was claimed before the question holds a slot until it is let go of.
            if matches!(next, Ok(None)) && worker.all_slots_are_free() {
                return;
            }
            worker.shared.clock.sleep(POLL).await;
        }
    }
}

impl WorkerLoop {
    /// Resolves when nothing is claimed any more, and what was has been driven to its end or given back.
    async fn drained(&self) {
        self.feeders.close();
        self.feeders.wait().await;
        self.drives.close();
        self.drives.wait().await;
    }

    fn all_slots_are_free(&self) -> bool {
        self.slots.available_permits() >= self.shared.limits.slots as usize
    }

    async fn dispatch(self: Arc<Self>) {
        let dispatcher = self.shared.store.dispatcher();
        let drive: Arc<dyn Drive> = Arc::new(Driver(Arc::clone(&self)));
        dispatcher.run(&self.shared.worker.name, drive, self.stop.clone()).await;
        // What was claimed and not handed on goes back at once.
        while let Some(batch) = self.claimed.lock().await.recv().await {
            for claimed in batch {
                self.give_back(claimed.lease).await;
                self.let_go(claimed.lease);
            }
        }
    }

    /// Drives an execution until it is this worker's no longer. A worker that is told to stop begins
    /// with nothing more.
    async fn drive(self: Arc<Self>, claimed: Claimed) {
        let lease = claimed.lease;
        if self.stop.is_cancelled() {
            self.give_back(lease).await;
        } else {
            let signals = self.shared.active.add(lease);
            self.shared.hub.driven(lease.execution, true);
            let driving = AssertUnwindSafe(runner::drive(Arc::clone(&self.shared), claimed, signals));
            let panicked = driving.catch_unwind().await.is_err();
            self.shared.hub.driven(lease.execution, false);
            if panicked {
                tracing::error!(execution = %lease.execution, "driving an execution panicked; giving it back");
                self.pause_after_panic().await;
                self.give_back(lease).await;
            }
        }
        self.let_go(lease);
    }

    /// What made one worker panic may do so again: it must not go round in a circle at full speed.
    async fn pause_after_panic(&self) {
        tokio::select! {
            () = self.shared.clock.sleep(AFTER_PANIC) => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Forgets a lease that is not this worker's any more, and frees its slot.
    fn let_go(&self, lease: Lease) {
        self.shared.active.remove(lease);
        self.slots.add_permits(1);
    }

    /// Gives an execution back to the queue. Where that fails, it is found again when leases are renewed.
    async fn give_back(&self, lease: Lease) {
        match self.shared.store.hand_back(&self.scope, &lease, self.shared.clock.now()).await {
            Ok(()) => self.shared.intake.queued(),
            Err(StoreError::LeaseLost) => {}
            Err(error) => {
                tracing::warn!(execution = %lease.execution, %error, "a claimed execution could not be given back");
            }
        }
    }

    /// Claims as many executions as there are free slots, whenever some are due.
    async fn pump(self: Arc<Self>, claims: mpsc::UnboundedSender<Vec<Claimed>>) {
        let mut trouble = Duration::ZERO;
        let mut look = true;
        while !self.stop.is_cancelled() {
            if !look {
                look = self.something_due(&mut trouble).await;
                continue;
            }
            let seen = self.shared.intake.look();
            match self.claim().await {
                Ok(batch) if batch.is_empty() => {
                    self.shared.intake.nothing_due(seen);
                    look = false;
                }
                Ok(batch) => {
                    trouble = Duration::ZERO;
                    // The receiver lives as long as this worker.
                    if claims.send(batch).is_err() {
                        break;
                    }
                }
                Err(error) => self.wait_out(&mut trouble, &error).await,
            }
        }
        self.shared.intake.close();
    }

    /// Waits for a free slot and takes what is due; a slot stays taken for each execution answered.
    async fn claim(&self) -> StoreResult<Vec<Claimed>> {
        let first = tokio::select! {
            permit = self.slots.acquire() => permit,
            () = self.stop.cancelled() => return Ok(Vec::new()),
        };
        let Ok(mut permits) = first else { return Ok(Vec::new()) };
        let more = self.slots.available_permits().min(CLAIM_BATCH - 1);
        if let Ok(extra) = self.slots.try_acquire_many(u32::try_from(more).unwrap_or(0)) {
            permits.merge(extra);
        }
        let limit = u32::try_from(permits.num_permits()).unwrap_or(1);
        let now = self.shared.clock.now();
        milestone::reach("claim.before");
        let batch = self.shared.store.claim(&self.scope, self.shared.worker.id, limit, now).await?;
        if !batch.is_empty() {
            milestone::reach("claim.after");
        }
        if let Some(taken) = permits.split(batch.len()) {
            taken.forget();
        }
        for claimed in &batch {
            self.shared.active.add(claimed.lease);
        }
        Ok(batch)
    }

    /// Waits until something was submitted here or it is time to look, and looks.
    async fn something_due(&self, trouble: &mut Duration) -> bool {
        let clock = &self.shared.clock;
        tokio::select! {
            () = self.shared.intake.something_queued() => return true,
            () = self.stop.cancelled() => return false,
            () = clock.sleep(POLL) => {}
        }
        match self.shared.store.next_wake(&self.scope, self.shared.worker.id).await {
            Ok(next) => {
                *trouble = Duration::ZERO;
                next.is_some_and(|at| at <= clock.now())
            }
            Err(error) => {
                self.wait_out(trouble, &error).await;
                false
            }
        }
    }

    async fn wait_out(&self, trouble: &mut Duration, error: &crate::StoreError) {
        if trouble.is_zero() {
            tracing::warn!(%error, "the queue cannot be read; trying again until it can");
        }
        *trouble = (*trouble * 2).clamp(Duration::from_millis(50), MAX_BACKOFF);
        tokio::select! {
            () = self.shared.clock.sleep(*trouble) => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Renews leases, hears requests to cancel, and takes back what dead workers hold.
    async fn keep(self: Arc<Self>) {
        let mut round: u64 = 0;
        let mut failing = false;
        let mut strays = Vec::new();
        let mut contact = self.shared.clock.monotonic();
        loop {
            tokio::select! {
                () = self.shared.clock.sleep(RENEW) => {}
                () = self.retired.cancelled() => return,
            }
            round += 1;
            let begun = self.shared.clock.monotonic();
            let done = self.keep_once(round, &mut strays).await;
            if let (Err(error), false) = (&done, failing) {
                tracing::warn!(%error, "leases cannot be renewed; trying again until they can");
            }
            failing = done.is_err();
            if done.is_ok() {
                contact = begun;
            } else if self.shared.clock.monotonic().saturating_sub(contact) + FENCE_MARGIN > self.lease_length() {
                self.fence();
            }
        }
    }

    fn lease_length(&self) -> Duration {
        self.shared.store.lease_length().unwrap_or(Duration::MAX)
    }

    /// Storage has not answered for so long that other workers may soon take over what is driven here.
    fn fence(&self) {
        self.shared.active.all().iter().for_each(|(_, signals)| signals.fence.cancel());
    }

    /// `strays` are the leases that were held and not known here when this was last asked.
    async fn keep_once(&self, round: u64, strays: &mut Vec<Lease>) -> StoreResult<()> {
        let drives = self.shared.active.all();
        if !drives.is_empty() || !strays.is_empty() || round.is_multiple_of(IDLE_RENEWALS) {
            let leases: Vec<Lease> = drives.iter().map(|(lease, _)| *lease).collect();
            let begun = self.shared.clock.monotonic();
            let renewals = self.shared.store.renew(&self.scope, self.shared.worker.id, &leases).await?;
            self.shared.intake.renewed(begun);
            for ((_, signals), renewal) in drives.iter().zip(renewals.named) {
                match renewal {
                    Renewal::Held => {}
                    Renewal::CancelRequested => signals.cancel.cancel(),
                    Renewal::Lost => signals.lost.cancel(),
                }
            }
            self.return_strays(strays, renewals.others).await;
        }
        if round.is_multiple_of(REAP_RENEWALS) {
            let reaped =
                self.shared.store.reap(&self.scope, self.shared.limits.claims, self.shared.clock.now()).await?;
            metrics::reaped(&reaped);
            if reaped.executions() > 0 {
                tracing::warn!(executions = reaped.executions(), "took back what dead workers held");
                self.shared.intake.queued();
            }
        }
        Ok(())
    }

    /// Gives back what this worker holds and nobody here knows of. The first time it may be a claim
    /// whose answer is on its way; the second time that answer was lost.
    async fn return_strays(&self, strays: &mut Vec<Lease>, others: Vec<Lease>) {
        let unknown = others.into_iter().filter(|lease| !self.shared.active.holds(lease));
        let (lost, new): (Vec<Lease>, Vec<Lease>) = unknown.partition(|lease| strays.contains(lease));
        *strays = new;
        for lease in lost {
            tracing::warn!(execution = %lease.execution, "the answer to a claim was lost; giving the execution back");
            self.give_back(lease).await;
        }
    }
}

#[async_trait]
impl Drive for Driver {
    async fn next(&self) -> Vec<Claimed> {
        self.0.claimed.lock().await.recv().await.unwrap_or_default()
    }

    fn start(&self, claimed: Claimed) {
        self.0.drives.spawn(Arc::clone(&self.0).drive(claimed));
    }
}
