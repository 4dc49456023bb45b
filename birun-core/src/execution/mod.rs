//! Executions: everything that runs, and how it is driven.
//!
//! `state` holds the pure rules, `store` and [`log`] what is needed from storage, [`executor`]
//! what is needed from the world; `runner` sequences them.

mod environment;
pub mod executor;
mod fingerprint;
pub mod follow;
pub(crate) mod gauge;
mod halt;
pub(crate) mod intake;
pub mod job;
mod journal;
mod leftover;
pub mod log;
mod metrics;
mod model;
mod pipe;
mod place;
mod preview;
mod request;
mod runner;
mod service;
pub mod state;
mod step;
mod store;
mod strategy;
mod submit;
pub(crate) mod worker;

pub use executor::{
    Ending, Executor, Handle, Kill, LinkFault, OutputClosed, OutputSender, Probe, ProbeStage, Resume, ServerTarget,
    Stage, StageStatus, Stop, Target, Work, WorkIo,
};
pub use follow::{FollowFrom, RunEvent, RunHandle, RunOutcome};
pub use job::{Job, JobContext};
pub use log::{LogCursor, LogReader, LogStore, Record, Stream};
pub use model::{
    Counts, Execution, ExecutionChange, ExecutionFilter, ExecutionKind, ExecutionStatus, Lease, Plan, Program, Reason,
    Step, StepFilter, StepStatus, Subject, Trigger,
};
pub use place::{Waiting, Waits};
pub use preview::{PlannedTarget, Preview};
pub use request::{RetryOptions, Run};
pub use service::{Pruned, QueueState, Retention};
pub use store::{
    Cancelled, Claimed, Dispatcher, Drive, Ended, ExecutionStore, Finish, JournalStore, PrunePolicy, PruneReport,
    QueueStore, Reaped, Renewal, Renewals, StepEnd, StepNote, StepStart, Submission, Submitted, Worker,
    WorkerRegistration,
};
pub use strategy::{Amount, Order, Strategy};
pub use worker::Running;
