//! The engine: the parts put together, started and stopped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::error::{Error, ErrorCode, Result};
use crate::execution::follow::Hub;
use crate::execution::gauge::QueueGauge;
use crate::execution::intake::Intake;
use crate::execution::worker::{Active, Running, start_worker};
use crate::execution::{ExecutionStatus, Executor, Job, JobContext, job::JobError};
use crate::gate::{Gate, Scope};
use crate::id::{ProjectId, WorkerId};
use crate::identity::Principal;
use crate::inventory::CredentialInspector;
use crate::store::Store;
use crate::vault::{MasterKey, Vault, check_key};

pub use crate::vault::is_sealed;

/// The name of the executor that runs work on the engine's own machine.
pub const LOCAL_EXECUTOR: &str = "local";

/// An automation engine. Cheap to clone; every clone is the same engine.
///
/// Built by [`Engine::builder`]; nothing runs before [`start`](Engine::start). An engine that was
/// not started can submit and read: the work is done by another process on the same store.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) shared: Arc<Shared>,
}

/// What every part of a built engine shares.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) executors: BTreeMap<String, Arc<dyn Executor>>,
    pub(crate) jobs: BTreeMap<String, Job>,
    pub(crate) vault: Option<Vault>,
    pub(crate) inspector: Option<Arc<dyn CredentialInspector>>,
    pub(crate) limits: Limits,
    pub(crate) worker: WorkerIdentity,
    /// What this engine's worker drives now.
    pub(crate) active: Active,
    /// Wakes followers.
    pub(crate) hub: Hub,
    pub(crate) queue_gauge: QueueGauge,
    /// The way from what is submitted here to this engine's own worker.
    pub(crate) intake: Intake,
}

/// How this engine's worker appears.
#[derive(Clone, Debug)]
pub(crate) struct WorkerIdentity {
    pub(crate) id: WorkerId,
    pub(crate) name: String,
    pub(crate) home_only: bool,
}

/// What an engine takes on at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Executions that its worker drives at once.
    pub slots: u32,
    /// Queued executions in a project.
    pub queued: u64,
    /// Targets of one execution.
    pub targets: usize,
    /// Limit of an execution when nobody says otherwise.
    pub timeout: Duration,
    /// How often an execution is claimed in its life: beyond that it ends `lost`.
    pub claims: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { slots: 64, queued: 100_000, targets: 10_000, timeout: Duration::from_secs(24 * 3600), claims: 5 }
    }
}

/// One part that the engine needs.
#[derive(Debug)]
pub struct Check {
    /// Which.
    pub name: &'static str,
    /// Whether it does its work now, or why not.
    pub result: Result<()>,
}

/// Which parts of an engine are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    /// Claims executions and drives them.
    pub worker: bool,
}

impl Roles {
    /// Every part.
    #[must_use]
    pub const fn all() -> Self {
        Self { worker: true }
    }
}

/// Puts an engine together. Duplicates are reported by [`build`](EngineBuilder::build), all at once.
#[derive(Debug)]
pub struct EngineBuilder {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    executors: BTreeMap<String, Arc<dyn Executor>>,
    jobs: BTreeMap<String, Job>,
    key: Option<MasterKey>,
    former_keys: Vec<MasterKey>,
    inspector: Option<Arc<dyn CredentialInspector>>,
    limits: Limits,
    worker: WorkerIdentity,
    faults: Vec<String>,
}

impl Engine {
    /// Begins an engine over a store.
    #[must_use]
    pub fn builder(store: impl Store) -> EngineBuilder {
        Self::builder_over(Arc::new(store))
    }

    /// Begins an engine over a store that is shared already.
    #[must_use]
    pub fn builder_over(store: Arc<dyn Store>) -> EngineBuilder {
        EngineBuilder {
            store,
            clock: Arc::new(SystemClock::new()),
            executors: BTreeMap::new(),
            jobs: BTreeMap::new(),
            key: None,
            former_keys: Vec::new(),
            inspector: None,
            limits: Limits::default(),
            worker: WorkerIdentity { id: WorkerId::new(), name: "worker".to_owned(), home_only: false },
            faults: Vec::new(),
        }
    }

    /// Everything that a caller can do, as that caller.
    #[must_use]
    pub fn gate(&self, principal: Principal) -> Gate {
        Gate::new(Arc::clone(&self.shared), principal)
    }

    /// Everything that the embedding program can do.
    #[must_use]
    pub fn system(&self) -> Gate {
        self.gate(Principal::system())
    }

    /// Starts the parts that `roles` names; they run until [`Running::shutdown`].
    ///
    /// What a dead worker left on this store is queued again and taken up at once; an engine that
    /// [keeps to itself](EngineBuilder::keep_to_itself) leaves it queued.
    ///
    /// # Errors
    /// What storage answers; nothing runs then.
    pub async fn start(&self, roles: Roles) -> Result<Running> {
        start_worker(Arc::clone(&self.shared), roles).await
    }

    /// Whether the engine can do its work now: storage answers and has the right schema.
    ///
    /// # Errors
    /// Why not.
    pub async fn ready(&self) -> Result<()> {
        Ok(self.shared.store.check().await?)
    }

    /// Looks at each part that the engine needs: `database`, `queue` and `key`.
    pub async fn checks(&self) -> Vec<Check> {
        let Shared { store, vault, .. } = self.shared.as_ref();
        let scope = Scope::of(ProjectId::DEFAULT);
        let queue = store.count_by_status(&scope, ExecutionStatus::Queued).await;
        vec![
            Check { name: "database", result: self.ready().await },
            Check { name: "queue", result: queue.map(drop).map_err(Error::from) },
            Check { name: "key", result: check_key(store.as_ref(), vault.as_ref()).await },
        ]
    }
}

impl EngineBuilder {
    /// Adds an executor under its own name.
    #[must_use]
    pub fn executor(mut self, executor: impl Executor) -> Self {
        let name = executor.name().to_owned();
        if self.executors.insert(name.clone(), Arc::new(executor)).is_some() {
            self.faults.push(format!("two executors are named `{name}`"));
        }
        self
    }

    /// Adds a closure that can be run as a job under this name.
    #[must_use]
    pub fn job<F, Fut>(mut self, name: &str, closure: F) -> Self
    where
        F: Fn(JobContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), JobError>> + Send + 'static,
    {
        if let Err(error) = name.parse::<crate::name::Name>() {
            self.faults.push(error.to_string());
        }
        if self.jobs.insert(name.to_owned(), Job::new(closure)).is_some() {
            self.faults.push(format!("two jobs are named `{name}`"));
        }
        self
    }

    /// Gives the key that seals secrets at rest. Without one, nothing secret can be stored or opened.
    #[must_use]
    pub fn master_key(mut self, key: MasterKey) -> Self {
        self.key = Some(key);
        self
    }

    /// Gives a key that sealed secrets before the one that [`master_key`](Self::master_key) gives. What
    /// it sealed can still be opened, and [`Gate::rekey`] seals it anew. May be called several times.
    #[must_use]
    pub fn former_master_key(mut self, key: MasterKey) -> Self {
        self.former_keys.push(key);
        self
    }

    /// Gives what checks credentials before they are stored.
    #[must_use]
    pub fn credential_inspector(mut self, inspector: impl CredentialInspector) -> Self {
        self.inspector = Some(Arc::new(inspector));
        self
    }

    /// Replaces the machine's clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Replaces the default limits.
    #[must_use]
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Names this engine's worker for people: host and process, for example.
    #[must_use]
    pub fn worker_name(mut self, name: impl Into<String>) -> Self {
        self.worker.name = name.into();
        self
    }

    /// Lets this engine's worker drive only what is submitted through this engine, and keeps that from
    /// other workers while this one lives. What dead workers left is for those that take anything:
    /// [`Running::leaves_orphans`] says when there is none of them.
    #[must_use]
    pub const fn keep_to_itself(mut self) -> Self {
        self.worker.home_only = true;
        self
    }

    /// Puts the engine together: checks the registries, the schema and the key. Starts nothing.
    ///
    /// # Errors
    /// `invalid` naming every duplicate; `schema_outdated`, `schema_newer`, `unavailable`;
    /// `key_missing` or `key_mismatch` if the store holds values that no given key opens.
    pub async fn build(self) -> Result<Engine> {
        let mut faults = self.faults;
        if self.key.is_none() && !self.former_keys.is_empty() {
            faults.push("a former master key was given, and none that seals".to_owned());
        }
        if !faults.is_empty() {
            return Err(Error::invalid(faults.join("; ")));
        }
        self.store.check().await?;
        let vault = self.key.map(|key| self.former_keys.into_iter().fold(Vault::new(key), Vault::with_former));
        check_key(self.store.as_ref(), vault.as_ref()).await?;
        let shared = Shared {
            store: self.store,
            clock: self.clock,
            executors: self.executors,
            jobs: self.jobs,
            vault,
            inspector: self.inspector,
            limits: self.limits,
            worker: self.worker,
            active: Active::default(),
            hub: Hub::default(),
            queue_gauge: QueueGauge::default(),
            intake: Intake::default(),
        };
        Ok(Engine { shared: Arc::new(shared) })
    }
}

impl Shared {
    /// The vault, or why there is none.
    pub(crate) fn vault(&self) -> Result<&Vault> {
        self.vault.as_ref().ok_or_else(|| {
            Error::new(ErrorCode::KeyMissing, "no master key was given, so nothing secret can be stored or opened")
                .with_hint("give a master key when the engine is built")
        })
    }
}
