//! What is counted while executions are driven; `docs/reference/metrics.md` lists it for operators.

use std::sync::Once;
use std::time::Duration;

use ::metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::execution::{ExecutionStatus, Reaped, StepEnd, StepStatus};

const EXECUTIONS: &str = "birun_executions_total";
const DRIVEN: &str = "birun_executions_driven";
const QUEUED: &str = "birun_executions_queued";
const WAITING: &str = "birun_executions_waiting";
const RUNNING: &str = "birun_executions_running";
const STEPS: &str = "birun_steps_total";
const STEP_SECONDS: &str = "birun_step_seconds";
const OUTPUT: &str = "birun_output_bytes_total";
const LEASES_LOST: &str = "birun_leases_lost_total";

static DESCRIBED: Once = Once::new();

/// Says once what each metric means.
fn describe() {
    DESCRIBED.call_once(|| {
        describe_counter!(EXECUTIONS, "Executions that this process ended, by status");
        describe_gauge!(DRIVEN, "Executions that this process drives now");
        describe_gauge!(QUEUED, "Executions that wait for a worker, when the queue was last looked at");
        describe_gauge!(WAITING, "Executions that wait for their time, when the queue was last looked at");
        describe_gauge!(RUNNING, "Executions that any worker drives, when the queue was last looked at");
        describe_counter!(STEPS, "Steps that this process ended, by status");
        describe_histogram!(STEP_SECONDS, Unit::Seconds, "How long attempts ran, by status");
        describe_counter!(OUTPUT, Unit::Bytes, "Bytes that steps wrote");
        describe_counter!(LEASES_LOST, "Executions that another worker took over from this process");
    });
}

/// An execution has ended.
pub(super) fn execution_ended(status: ExecutionStatus) {
    describe();
    counter!(EXECUTIONS, "status" => status.as_str()).increment(1);
}

/// Steps have ended, and that is written down.
pub(super) fn steps_ended(ends: &[StepEnd]) {
    describe();
    for end in ends {
        counter!(STEPS, "status" => end.status.as_str()).increment(1);
        counter!(OUTPUT).increment(end.output_bytes);
    }
}

/// Executions were taken back from dead workers; some of them ended.
pub(super) fn reaped(reaped: &Reaped) {
    describe();
    if reaped.lost > 0 {
        counter!(EXECUTIONS, "status" => ExecutionStatus::Lost.as_str()).increment(reaped.lost);
        counter!(STEPS, "status" => StepStatus::Lost.as_str()).increment(reaped.lost_steps);
    }
}

/// An attempt ran for so long.
pub(super) fn attempt_ran(status: StepStatus, took: Duration) {
    describe();
    histogram!(STEP_SECONDS, "status" => status.as_str()).record(took.as_secs_f64());
}

/// Another worker took an execution over.
pub(super) fn lease_lost() {
    describe();
    counter!(LEASES_LOST).increment(1);
}

/// The queue was looked at.
pub(super) fn queue_seen(queued: u64, waiting: u64, running: u64) {
    describe();
    for (name, count) in [(QUEUED, queued), (WAITING, waiting), (RUNNING, running)] {
        // Exact up to 2^32, and near enough beyond.
        gauge!(name).set(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
    }
}

/// Counts an execution as driven until it is dropped.
pub(super) struct Driven(());

impl Driven {
    pub(super) fn begin() -> Self {
        describe();
        gauge!(DRIVEN).increment(1.0);
        Self(())
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        gauge!(DRIVEN).decrement(1.0);
    }
}
