//! Things to store, made with as little as a case needs to say. What is public serves the suites of
//! backends, for the cases that only they can have.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use crate::audit::{AuditEntry, AuditOutcome};
use crate::execution::{
    Claimed, Counts, Execution, ExecutionKind, ExecutionStatus, Finish, Handle, Lease, Plan, Program, Reason, Step,
    StepEnd, StepNote, StepStart, StepStatus, Strategy, Subject, Submission, Submitted, Trigger, WorkerRegistration,
};
use crate::gate::Scope;
use crate::id::{AuditId, ExecutionId, ProjectId, ScriptId, StepId, WorkerId};
use crate::identity::{Actor, ActorKind};
use crate::inventory::TargetName;
use crate::name::Name;
use crate::script::{Content, Interpreter, RunSettings};
use crate::store::Store;

/// The project that most cases happen in.
#[must_use]
pub fn here() -> Scope {
    Scope::of(ProjectId::DEFAULT)
}

/// Another project.
pub(super) fn elsewhere() -> Scope {
    Scope::of(ProjectId::new())
}

/// An instant, so many seconds into the suite's time.
#[must_use]
pub fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_780_000_000, 123_456_000).unwrap() + TimeDelta::seconds(seconds)
}

pub(super) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(super) fn actor(name: &str) -> Actor {
    Actor { kind: ActorKind::User, name: name.to_owned() }
}

/// An audit entry of something that was done.
#[must_use]
pub fn audit(action: &str) -> AuditEntry {
    AuditEntry {
        id: AuditId::new(),
        at: at(0),
        project: ProjectId::DEFAULT,
        actor: actor("ana"),
        action: action.to_owned(),
        outcome: AuditOutcome::Done,
        resource_kind: action.split('.').next().unwrap_or_default().to_owned(),
        resource_id: None,
        resource_name: None,
        before: None,
        after: None,
        request_id: None,
    }
}

/// A queued run of a job on `targets` targets, due at [`at`]`(0)`.
#[must_use]
pub fn job(title: &str, targets: u32) -> Submission {
    let program = Program::Job { name: title.to_owned() };
    submission(ExecutionKind::Job, title, None, program, targets)
}

/// A queued run of a command with a body of its own.
#[must_use]
pub fn command(text: &str) -> Submission {
    let content = Content::new(text).unwrap();
    let program = Program::Script { content: content.hash(), interpreter: Interpreter::Sh };
    let submission = submission(ExecutionKind::Command, text, None, program, 1);
    Submission { content: Some(content), ..submission }
}

/// A queued run of a script whose body is given along.
pub(super) fn script_run(script: ScriptId, title: &str) -> Submission {
    let content = Content::new(format!("echo {title}")).unwrap();
    let program = Program::Script { content: content.hash(), interpreter: Interpreter::Bash };
    let submission = submission(ExecutionKind::Script, title, Some((script, 3)), program, 1);
    Submission { content: Some(content), ..submission }
}

fn submission(
    kind: ExecutionKind,
    title: &str,
    script: Option<(ScriptId, u32)>,
    program: Program,
    targets: u32,
) -> Submission {
    let id = ExecutionId::new();
    let execution = Execution {
        id,
        project_id: ProjectId::DEFAULT,
        kind,
        subject: Subject { title: title.to_owned(), script },
        params: BTreeMap::from([("LIMIT".parse().unwrap(), json!(80))]),
        secrets: None,
        targets: "local".to_owned(),
        strategy: Strategy::default(),
        plan: Plan { program, settings: RunSettings::default(), timeout_ms: 60_000 },
        trigger: Trigger::Manual,
        actor: actor("ana"),
        retry_of: None,
        status: ExecutionStatus::Queued,
        reason: None,
        detail: None,
        counts: Counts { total: targets, pending: targets, ..Counts::default() },
        created_at: at(0),
        started_at: None,
        finished_at: None,
        cancel_requested_at: None,
        wake_at: at(0),
        home: None,
        worker: None,
        epoch: 0,
        rev: 1,
    };
    let steps = (0..targets).map(|position| step(id, position)).collect();
    Submission { execution, steps, content: None, idempotency: None, audit: audit("execution.run") }
}

/// A first attempt.
fn step(execution_id: ExecutionId, position: u32) -> Step {
    Step {
        id: StepId::new(),
        execution_id,
        ordinal: position,
        position,
        target: match position {
            0 => TargetName::Local,
            n => TargetName::Server(name(&format!("web-{n}"))),
        },
        server_id: None,
        attempt: 1,
        status: StepStatus::Pending,
        reason: None,
        detail: None,
        error: None,
        exit_code: None,
        signal: None,
        kill: None,
        handle: None,
        epoch: 0,
        not_before: None,
        started_at: None,
        finished_at: None,
        output_bytes: 0,
        output_dropped: 0,
        rev: 1,
    }
}

/// The attempt after `step`.
pub(super) fn next_attempt(step: &Step, ordinal: u32) -> Step {
    Step {
        id: StepId::new(),
        ordinal,
        position: step.position,
        target: step.target.clone(),
        attempt: step.attempt + 1,
        not_before: Some(at(30)),
        ..self::step(step.execution_id, step.position)
    }
}

/// Submits and answers the execution's id.
pub(super) async fn submit(store: &dyn Store, submission: &Submission) -> ExecutionId {
    assert_eq!(store.submit(&here(), submission.clone()).await.unwrap(), Submitted::Created);
    submission.execution.id
}

/// The execution as it is now.
pub(super) async fn execution(store: &dyn Store, id: ExecutionId) -> Execution {
    store.execution(&here(), &id.into()).await.unwrap()
}

/// All steps of an execution as they are now.
pub(super) async fn steps(store: &dyn Store, id: ExecutionId) -> Vec<Step> {
    store.steps(&here(), id, &crate::execution::StepFilter::default(), 0, 100_000).await.unwrap()
}

/// How many audit entries there are.
pub(super) async fn audited(store: &dyn Store) -> usize {
    let page = crate::page::PageRequest::new(200, None).unwrap();
    store.audit_entries(&here(), &crate::audit::AuditFilter::default(), page).await.unwrap().items.len()
}

/// A worker that takes whatever is due.
#[must_use]
pub fn worker_named(name: &str) -> WorkerRegistration {
    WorkerRegistration { id: WorkerId::new(), name: name.to_owned(), slots: 8, home_only: false, started_at: at(0) }
}

/// Registers a worker.
pub(super) async fn worker(store: &dyn Store) -> WorkerId {
    let worker = worker_named("host-1");
    store.register(&here(), &worker).await.unwrap();
    worker.id
}

/// Claims the one execution that is due at [`at`]`(seconds)`.
pub(super) async fn claim_one(store: &dyn Store, worker: WorkerId, seconds: i64) -> Claimed {
    let mut claimed = store.claim(&here(), worker, 10, at(seconds)).await.unwrap();
    assert_eq!(claimed.len(), 1, "one execution is due");
    claimed.remove(0)
}

/// A submission that this worker has claimed as it is submitted, due at [`at`]`(0)`, and its lease.
pub(super) fn claimed_at_once(submission: Submission, worker: WorkerId) -> (Lease, Submission) {
    let execution = Execution {
        status: ExecutionStatus::Running,
        started_at: Some(at(0)),
        worker: Some(worker),
        epoch: 1,
        ..submission.execution
    };
    (Lease { execution: execution.id, worker, epoch: 1 }, Submission { execution, ..submission })
}

/// Submits a job with so many targets and has a new worker claim it.
pub(super) async fn claimed_job(store: &dyn Store, targets: u32) -> Claimed {
    submit(store, &job("ping", targets)).await;
    let worker = worker(store).await;
    claim_one(store, worker, 1).await
}

pub(super) fn start(step: &Step, seconds: i64) -> StepStart {
    StepStart { step: step.id, handle: Some(Handle(json!({"dir": step.id.to_string()}))), at: at(seconds) }
}

pub(super) fn note(step: &Step, waits_for: Option<&str>) -> StepNote {
    StepNote { step: step.id, waits_for: waits_for.map(str::to_owned) }
}

pub(super) fn end(step: &Step, status: StepStatus, seconds: i64) -> StepEnd {
    StepEnd {
        step: step.id,
        status,
        reason: None,
        detail: None,
        error: None,
        exit_code: Some(0),
        signal: None,
        kill: None,
        at: at(seconds),
        output_bytes: 10,
        output_dropped: 2,
    }
}

pub(super) fn finish(status: ExecutionStatus, counts: Counts, seconds: i64) -> Finish {
    let reason = if status == ExecutionStatus::Succeeded { None } else { Some(Reason::StepsFailed) };
    Finish { status, reason, detail: None, counts, at: at(seconds) }
}

/// Drives a claimed execution to its end in one go: every step ends as the execution does.
pub(super) async fn drive(store: &dyn Store, claimed: &Claimed, status: ExecutionStatus, seconds: i64) {
    let step_status = if status == ExecutionStatus::Succeeded { StepStatus::Succeeded } else { StepStatus::Failed };
    let starts: Vec<StepStart> = claimed.steps.iter().map(|step| start(step, seconds)).collect();
    store.start_steps(&here(), &claimed.lease, &starts).await.unwrap();
    let ends: Vec<StepEnd> = claimed.steps.iter().map(|step| end(step, step_status, seconds)).collect();
    let finish = finish(status, Counts::of(claimed.steps.iter().map(|_| step_status)), seconds);
    store.end_steps(&here(), &claimed.lease, &ends, &[], Some(&finish)).await.unwrap();
}

/// Submits an execution and drives it to its end at [`at`]`(seconds)`.
pub(super) async fn ended(
    store: &dyn Store,
    submission: &Submission,
    status: ExecutionStatus,
    seconds: i64,
) -> ExecutionId {
    submit(store, submission).await;
    let worker = worker(store).await;
    let claimed = claim_one(store, worker, seconds).await;
    drive(store, &claimed, status, seconds).await;
    store.retire(&here(), worker).await.unwrap();
    submission.execution.id
}

/// The same execution under an older claim.
pub(super) fn stale(lease: Lease) -> Lease {
    Lease { epoch: lease.epoch - 1, ..lease }
}
