//! From a request to an accepted execution.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Display;
use std::sync::Arc;

use serde_json::json;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::engine::LOCAL_EXECUTOR;
use crate::error::{Error, ErrorCode, Result};
use crate::execution::fingerprint::request_text;
use crate::execution::follow::RunHandle;
use crate::execution::intake::Held;
use crate::execution::request::{RetryOptions, Run, What, command_body, one_line, script_selector};
use crate::execution::{
    Counts, Execution, ExecutionKind, ExecutionStatus, Order, Plan, Preview, Program, Reason, Step, StepFilter,
    StepStatus, Strategy, Subject, Submission, Submitted, Trigger,
};
use crate::gate::{Gate, Scope};
use crate::id::{ExecutionId, Selector, ServerId, StepId};
use crate::identity::Permission;
use crate::inventory::{Resolved, TargetExpr, TargetName, one_by_one, resolve};
use crate::milestone;
use crate::script::{BoundParams, Content, EnvName, RunMode, RunSettings, bind};
use crate::vault::{Place, Sealed, Secret};

/// Most steps that are read at once.
const STEP_PAGE: u32 = 10_000;

/// Everything about a run that does not depend on where it runs.
struct Prepared {
    kind: ExecutionKind,
    subject: Subject,
    program: Program,
    content: Option<Content>,
    default_targets: Option<TargetExpr>,
    default_timeout_ms: Option<u64>,
    settings: RunSettings,
    params: BoundParams,
}

/// One place where an execution will run, or that it leaves out.
struct Destination {
    name: TargetName,
    server: Option<ServerId>,
    left_out: Option<Reason>,
}

impl Gate {
    /// Accepts something to be run and answers at once; the handle follows it.
    ///
    /// When this answers, the execution survives any crash: rows, parameters and audit entry are
    /// committed. A dropped future may have submitted or not; with an idempotency key, ask again.
    ///
    /// # Errors
    /// `not_found` for the script; `no_target_matched`; `unknown_parameter`, `missing_parameter`,
    /// `invalid`, `too_large`; `not_registered`; `rate_limited` when too much is queued;
    /// `conflict` for an idempotency key that was used for something else, or if every target is in maintenance.
    pub async fn run(&self, run: Run) -> Result<RunHandle> {
        let scope = self.authorize(run.permission()).await?;
        let idempotency = run.idempotency_key.clone().map(|key| (key, self.shared.fingerprint(&request_text(&run))));
        if let Some(accepted) = self.accepted_before(&scope, idempotency.as_ref()).await? {
            return Ok(accepted);
        }
        let (prepared, on, targets) = self.resolved(&scope, &run).await?;
        let execution = self.new_execution(&scope, prepared, &run, on.as_str().to_owned())?;
        let places = arranged(targets, &run.strategy, execution.0.id);
        check_left_out(&on, &places)?;
        self.submit(&scope, execution, places, idempotency).await
    }

    /// What [`run`](Gate::run) would do: its targets, in the same order unless that is random, after the same
    /// checks. Nothing is started or written.
    ///
    /// # Errors
    /// Those of [`run`](Gate::run), but for the ones about the queue and idempotency keys.
    pub async fn preview(&self, run: &Run) -> Result<Preview> {
        let scope = self.authorize(run.permission()).await?;
        let (_, on, targets) = self.resolved(&scope, run).await?;
        let places = arranged(targets, &run.strategy, ExecutionId::new());
        check_left_out(&on, &places)?;
        Ok(Preview::of(places.into_iter().map(|place| (place.name, place.left_out)), &run.strategy))
    }

    /// What is to be run, the expression that says where, and what that names.
    async fn resolved(&self, scope: &Scope, run: &Run) -> Result<(Prepared, TargetExpr, Vec<Resolved>)> {
        run.strategy.check()?;
        if run.timeout.is_some_and(|timeout| timeout.as_millis() == 0) {
            return Err(Error::invalid_field("timeout", "must be more than 0"));
        }
        let mut prepared = self.prepare(scope, run).await?;
        prepared.settings.mode = run.mode.unwrap_or(prepared.settings.mode);
        if !prepared.params.secret.is_empty() {
            self.shared.vault()?;
        }
        let on = match run.target_expr()?.or_else(|| prepared.default_targets.clone()) {
            Some(on) => on,
            None if matches!(run.what, What::Script { .. }) => {
                return Err(Error::invalid_field(
                    "targets",
                    format!("`{}` has no default targets", prepared.subject.title),
                )
                .with_hint("say where to run it, for example with  --on local"));
            }
            None => TargetExpr::local(),
        };
        let targets = resolve(&self.shared, scope, &on).await?;
        self.check_targets(&prepared, &targets)?;
        Ok((prepared, on, targets))
    }

    /// Runs an ended execution again, with the same program, parameters and targets.
    ///
    /// With [`RetryOptions::failed_only`], only on targets where it did not succeed: failed, lost,
    /// unreachable, timed out, cancelled, skipped or never started. Its `targets` then name these one by
    /// one, in at most 4096 bytes: beyond that the rest is counted.
    ///
    /// A target is the very server of the first run, not whichever has its name now: one that was deleted
    /// is `unreachable`, with the error `server_deleted`.
    ///
    /// # Errors
    /// `not_found`; `conflict` if it has not ended, if there is nothing to run again, if every target is in
    /// maintenance, or for an idempotency key that was used for something else.
    pub async fn retry(&self, selector: &Selector, options: RetryOptions) -> Result<RunHandle> {
        let scope = self.authorize(Permission::ExecutionRun).await?;
        let old = self.shared.store.execution(&scope, selector).await?;
        if matches!(old.kind, ExecutionKind::Command)
            || (old.kind == ExecutionKind::Script && old.subject.script.is_none())
        {
            self.authorize(Permission::ExecutionRunAdHoc).await?;
        }
        let request = json!({"retry": old.id, "failed_only": options.failed_only}).to_string();
        let idempotency = options.idempotency_key.map(|key| (key, self.shared.fingerprint(&request)));
        if let Some(accepted) = self.accepted_before(&scope, idempotency.as_ref()).await? {
            return Ok(accepted);
        }
        if !old.status.is_terminal() {
            return Err(Error::new(ErrorCode::Conflict, format!("execution {} has not ended", old.id.short()))
                .with_hint(format!("cancel it first with  birun execution cancel {}", old.id.short())));
        }
        let newest = StepFilter { newest_attempt: true, ..StepFilter::default() };
        let mut steps = self.shared.store.steps(&scope, old.id, &newest, 0, STEP_PAGE).await?;
        steps.sort_by_key(|step| step.position);
        steps.retain(|step| !options.failed_only || step.status != StepStatus::Succeeded);
        if steps.is_empty() {
            return Err(Error::new(
                ErrorCode::Conflict,
                format!("every target of execution {} succeeded", old.id.short()),
            )
            .with_hint("leave out --failed-only to run all of them again"));
        }
        let named = || one_by_one(steps.iter().map(|step| &step.target));
        let targets = if options.failed_only { named() } else { old.targets.clone() };
        let places = self.places_again(&scope, steps).await?;
        check_left_out(&targets, &places)?;
        let execution = Execution { targets, ..self.repeated(&old)? };
        self.submit(&scope, (execution, None), places, idempotency).await
    }

    /// The places of earlier steps, in the same order. Maintenance may have begun since.
    async fn places_again(&self, scope: &Scope, steps: Vec<Step>) -> Result<Vec<Destination>> {
        let ids: Vec<ServerId> = steps.iter().filter_map(|step| step.server_id).collect();
        let servers = self.shared.store.servers_by_id(scope, &ids).await?;
        let out: HashSet<ServerId> =
            servers.into_iter().filter(|server| server.maintenance).map(|server| server.id).collect();
        let places = steps.into_iter().map(|step| Destination {
            left_out: step.server_id.filter(|id| out.contains(id)).map(|_| Reason::Maintenance),
            name: step.target,
            server: step.server_id,
        });
        Ok(left_out_last(places.collect()))
    }

    async fn prepare(&self, scope: &Scope, run: &Run) -> Result<Prepared> {
        let given = run.named_params()?;
        let settings = run.settings.clone().unwrap_or_default();
        settings.check()?;
        match &run.what {
            What::Script { selector, version } => {
                let script = self.shared.store.script(scope, &script_selector(selector)?).await.map_err(hint_script)?;
                let number = version.unwrap_or(script.latest);
                let spec = self.shared.store.script_version(scope, script.id, number).await?.spec;
                Ok(Prepared {
                    kind: ExecutionKind::Script,
                    subject: Subject { title: script.name.to_string(), script: Some((script.id, number)) },
                    program: Program::Script { content: spec.content.hash(), interpreter: spec.interpreter },
                    content: None,
                    default_targets: spec.targets,
                    default_timeout_ms: spec.timeout_ms,
                    settings: run.settings.clone().unwrap_or(spec.settings),
                    params: bind(Some(&spec.parameters), given)?,
                })
            }
            What::Content { title, content, interpreter } => {
                let content = Content::new(content.as_str())?;
                interpreter.invocation(&content)?;
                let program = Program::Script { content: content.hash(), interpreter: interpreter.clone() };
                Prepared::ad_hoc(ExecutionKind::Script, one_line(title), program, Some(content), settings, given)
            }
            What::Command { words } => {
                let (title, content) = command_body(words)?;
                let program = Program::Script { content: content.hash(), interpreter: crate::script::Interpreter::Sh };
                Prepared::ad_hoc(ExecutionKind::Command, title, program, Some(content), settings, given)
            }
            What::Job { name } => {
                if !self.shared.jobs.contains_key(name) {
                    return Err(Error::new(ErrorCode::NotRegistered, format!("no job is named `{name}`"))
                        .with_hint("jobs are registered when the engine is built"));
                }
                let program = Program::Job { name: name.clone() };
                Prepared::ad_hoc(ExecutionKind::Job, name.clone(), program, None, settings, given)
            }
        }
    }

    fn check_targets(&self, prepared: &Prepared, targets: &[Resolved]) -> Result<()> {
        if targets.len() > self.shared.limits.targets {
            let why = format!("{} targets, at most {} are allowed", targets.len(), self.shared.limits.targets);
            return Err(Error::new(ErrorCode::TooLarge, format!("targets: {why}")).with_field("targets", why));
        }
        let detached = prepared.settings.mode == RunMode::Detached;
        if prepared.kind == ExecutionKind::Job {
            return if detached { Err(cannot_detach("a job runs in the worker itself")) } else { Ok(()) };
        }
        for target in targets {
            let name = target.server.as_ref().map_or(LOCAL_EXECUTOR, |server| server.executor.as_str());
            let executor = self.shared.executor(name)?;
            if detached && !executor.detaches() {
                return Err(cannot_detach(&format!("the executor `{name}` of target `{}` cannot do it", target.name)));
            }
        }
        Ok(())
    }

    fn new_execution(
        &self,
        scope: &Scope,
        prepared: Prepared,
        run: &Run,
        targets: String,
    ) -> Result<(Execution, Option<Content>)> {
        let asked = run.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        let default = u64::try_from(self.shared.limits.timeout.as_millis()).unwrap_or(u64::MAX);
        let now = self.shared.clock.now();
        let mut execution = Execution {
            id: ExecutionId::new(),
            project_id: scope.project(),
            kind: prepared.kind,
            subject: prepared.subject,
            params: prepared.params.public(),
            secrets: None,
            targets,
            strategy: run.strategy.clone(),
            plan: Plan {
                program: prepared.program,
                settings: prepared.settings,
                timeout_ms: asked.or(prepared.default_timeout_ms).unwrap_or(default),
            },
            trigger: Trigger::Manual,
            actor: self.principal().actor.clone(),
            retry_of: None,
            status: ExecutionStatus::Queued,
            reason: None,
            detail: None,
            counts: Counts::default(),
            created_at: now,
            started_at: None,
            finished_at: None,
            cancel_requested_at: None,
            wake_at: now,
            home: self.home(),
            worker: None,
            epoch: 0,
            rev: 1,
        };
        execution.secrets = self.seal_params(&execution, &prepared.params.secret)?;
        Ok((execution, prepared.content))
    }

    /// The same execution once more, under a new id: secrets are sealed anew, since they are bound to the row.
    fn repeated(&self, old: &Execution) -> Result<Execution> {
        let now = self.shared.clock.now();
        let mut execution = Execution {
            id: ExecutionId::new(),
            trigger: Trigger::Retry,
            actor: self.principal().actor.clone(),
            retry_of: Some(old.id),
            status: ExecutionStatus::Queued,
            reason: None,
            detail: None,
            counts: Counts::default(),
            created_at: now,
            started_at: None,
            finished_at: None,
            cancel_requested_at: None,
            wake_at: now,
            home: self.home(),
            worker: None,
            epoch: 0,
            rev: 1,
            ..old.clone()
        };
        let secrets = self.shared.open_params(old)?;
        execution.secrets = self.seal_params(&execution, &secrets)?;
        Ok(execution)
    }

    fn home(&self) -> Option<crate::id::WorkerId> {
        self.shared.worker.home_only.then_some(self.shared.worker.id)
    }

    async fn submit(
        &self,
        scope: &Scope,
        (mut execution, content): (Execution, Option<Content>),
        places: Vec<Destination>,
        idempotency: Option<(String, [u8; 32])>,
    ) -> Result<RunHandle> {
        let slot = self.shared.intake.slot(self.shared.clock.monotonic());
        if slot.is_none() {
            self.check_queue(scope).await?;
        }
        let steps: Vec<Step> =
            places.into_iter().zip(0..).map(|(place, at)| first_attempt(&execution, place, at)).collect();
        execution.counts = Counts::of(steps.iter().map(|step| step.status));
        let audit = self
            .audit(if execution.retry_of.is_some() { "execution.retry" } else { "execution.run" })
            .on(execution.id, execution.subject.title.as_str())
            .after(json!({
                "kind": execution.kind,
                "title": execution.subject.title,
                "targets": execution.targets,
                "params": execution.params,
                "retry_of": execution.retry_of,
            }));
        let held = slot.map(|slot| slot.claim(&mut execution, &steps, self.shared.worker.id));
        let accepted = execution.clone();
        let pulses = self.shared.hub.listen(accepted.id);
        let submission = Submission { execution, steps, content, idempotency, audit };
        milestone::reach("submit.before");
        let submitted = self.shared.store.submit(scope, submission).await?;
        milestone::reach("submit.after");
        match submitted {
            Submitted::Created => {
                self.hand_over(scope, held).await;
                Ok(RunHandle::new(Arc::clone(&self.shared), scope.clone(), accepted, pulses))
            }
            Submitted::Existing(id) => self.existing(scope, id).await,
            Submitted::KeyReused => Err(key_reused()),
        }
    }

    /// Gives what was accepted to the worker: the claimed execution, or the word that something is queued.
    async fn hand_over(&self, scope: &Scope, held: Option<Held>) {
        let Some(held) = held else { return self.shared.intake.queued() };
        let lease = held.lease();
        if self.shared.active.add(lease).lost.is_cancelled() || self.shared.intake.deliver(held) {
            // It is in the worker's hands, or has been taken up anew while its caller was away.
            return;
        }
        self.shared.active.remove(lease);
        // This worker is about to stop. If it cannot be given back, it is taken back when the worker is gone.
        if let Err(error) = self.shared.store.hand_back(scope, &lease, self.shared.clock.now()).await {
            tracing::debug!(execution = %lease.execution, %error, "an accepted execution could not be given back");
        }
    }

    /// The answer that this very request got before, whatever has become of targets, scripts and limits since.
    async fn accepted_before(&self, scope: &Scope, key: Option<&(String, [u8; 32])>) -> Result<Option<RunHandle>> {
        let Some((key, request)) = key else { return Ok(None) };
        match self.shared.store.submitted(scope, key, request).await? {
            Some(Submitted::Existing(id)) => self.existing(scope, id).await.map(Some),
            Some(Submitted::KeyReused) => Err(key_reused()),
            Some(Submitted::Created) | None => Ok(None),
        }
    }

    async fn existing(&self, scope: &Scope, id: ExecutionId) -> Result<RunHandle> {
        let pulses = self.shared.hub.listen(id);
        let existing = self.shared.store.execution(scope, &id.into()).await?;
        Ok(RunHandle::new(Arc::clone(&self.shared), scope.clone(), existing, pulses).of_an_earlier_request())
    }

    async fn check_queue(&self, scope: &Scope) -> Result<()> {
        let limit = self.shared.limits.queued;
        if self.shared.queue_gauge.may_be_full(limit) {
            let queued = self.shared.store.count_by_status(scope, ExecutionStatus::Queued).await?;
            self.shared.queue_gauge.counted(queued);
            if queued >= limit {
                return Err(Error::new(
                    ErrorCode::RateLimited,
                    format!("{queued} executions are queued, and {limit} are allowed"),
                )
                .with_hint("wait until workers have caught up, or start more of them"));
            }
        }
        Ok(())
    }

    fn seal_params(&self, execution: &Execution, secrets: &BTreeMap<EnvName, Secret>) -> Result<Option<Sealed>> {
        if secrets.is_empty() {
            return Ok(None);
        }
        let exposed: BTreeMap<&str, &str> =
            secrets.iter().map(|(name, secret)| (name.as_str(), secret.expose())).collect();
        let plain = serde_json::to_vec(&exposed).map(Zeroizing::new);
        let plain = plain.map_err(|error| Error::internal("parameters could not be written").with_source(error))?;
        self.shared.vault()?.seal(&place(execution), &plain).map(Some)
    }
}

impl crate::engine::Shared {
    /// Opens the secret parameters of an execution.
    pub(crate) fn open_params(&self, execution: &Execution) -> Result<BTreeMap<EnvName, Secret>> {
        let Some(sealed) = &execution.secrets else { return Ok(BTreeMap::new()) };
        let plain = self.vault()?.open(&place(execution), sealed)?;
        serde_json::from_slice(&plain)
            .map_err(|_| Error::new(ErrorCode::StorageCorrupt, "the secret parameters of an execution cannot be read"))
    }
}

const fn place(execution: &Execution) -> Place<'static> {
    Place::secret_params(execution.project_id, execution.id)
}

fn cannot_detach(why: &str) -> Error {
    Error::invalid_field("mode", format!("detached runs are for servers over SSH: {why}"))
        .with_hint("run it attached (--mode attached), or leave that target out")
}

impl Prepared {
    fn ad_hoc(
        kind: ExecutionKind,
        title: String,
        program: Program,
        content: Option<Content>,
        settings: RunSettings,
        given: BTreeMap<EnvName, crate::script::ParamValue>,
    ) -> Result<Self> {
        Ok(Self {
            kind,
            subject: Subject { title, script: None },
            program,
            content,
            default_targets: None,
            default_timeout_ms: None,
            settings,
            params: bind(None, given)?,
        })
    }
}

fn first_attempt(execution: &Execution, place: Destination, position: u32) -> Step {
    Step {
        id: StepId::new(),
        execution_id: execution.id,
        ordinal: position,
        position,
        target: place.name,
        server_id: place.server,
        attempt: 1,
        status: if place.left_out.is_some() { StepStatus::Skipped } else { StepStatus::Pending },
        reason: place.left_out,
        detail: None,
        error: None,
        exit_code: None,
        signal: None,
        kill: None,
        handle: None,
        epoch: 0,
        not_before: None,
        started_at: None,
        finished_at: place.left_out.map(|_| execution.created_at),
        output_bytes: 0,
        output_dropped: 0,
        rev: 1,
    }
}

/// Brings targets into the order of the strategy. The shuffle is drawn from the execution's id, so
/// that a record can be understood later.
fn arranged(mut targets: Vec<Resolved>, strategy: &Strategy, id: ExecutionId) -> Vec<Destination> {
    match strategy.order {
        Order::Name => targets.sort_by(|a, b| a.name.cmp(&b.name)),
        Order::Random => targets.sort_by_cached_key(|target| {
            let mut hash = Sha256::new();
            hash.update(id.as_uuid().as_bytes());
            hash.update(target.name.to_string());
            <[u8; 32]>::from(hash.finalize())
        }),
    }
    // This sort keeps the order within each rank, and the one below all of it.
    targets.sort_by_key(|target| strategy.rank(target.server.as_ref().map_or(&[], |server| &server.tags)));
    let places = targets.into_iter().map(|target| Destination {
        left_out: target.server.as_ref().filter(|server| server.maintenance).map(|_| Reason::Maintenance),
        name: target.name,
        server: target.server.map(|server| server.id),
    });
    left_out_last(places.collect())
}

/// Those that are left out take no place in a batch.
fn left_out_last(mut places: Vec<Destination>) -> Vec<Destination> {
    places.sort_by_key(|place| place.left_out.is_some());
    places
}

/// An execution must have something to do.
fn check_left_out(on: impl Display, places: &[Destination]) -> Result<()> {
    if places.iter().any(|place| place.left_out.is_none()) {
        return Ok(());
    }
    let first = places.first().map(|place| place.name.to_string()).unwrap_or_default();
    Err(Error::new(ErrorCode::Conflict, format!("every server that `{on}` names is in maintenance"))
        .with_field("targets", "are all in maintenance")
        .with_hint(format!("end it with  birun server edit {first} --no-maintenance")))
}

fn key_reused() -> Error {
    Error::new(ErrorCode::Conflict, "the idempotency key was used for another request")
        .with_field("idempotency_key", "was used for another request")
        .with_hint("use a new key for a new request")
}

fn hint_script(error: crate::StoreError) -> Error {
    let missing = matches!(error, crate::StoreError::NotFound { .. });
    let error = Error::from(error);
    if missing {
        error.with_hint("see what there is with  birun script list;  a file needs a slash: ./NAME")
    } else {
        error
    }
}
