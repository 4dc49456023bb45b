//! Changes of state on their way out, as server-sent events.

use birun_core::execution::{ExecutionStatus, RunEvent};
use poem_openapi::types::ToJSON;

use crate::dto::execution::Execution;
use crate::dto::output::{EndOfChanges, ExecutionChange};
use crate::dto::step::Step;
use crate::stream::output::{REMARK, write_event};
use crate::stream::{Chunks, Encode};

/// Changes of an execution and its steps.
#[derive(Debug)]
pub(crate) struct Changes {
    status: ExecutionStatus,
    rev: u64,
}

impl Changes {
    /// Begins after `rev`, with the execution in this status.
    pub(crate) const fn new(status: ExecutionStatus, rev: u64) -> Self {
        Self { status, rev }
    }
}

impl Encode for Changes {
    fn event(&mut self, event: RunEvent, chunks: &mut Chunks) {
        let RunEvent::Changed(change) = event else { return };
        self.status = change.execution.status;
        self.rev = change.execution.rev;
        let change = ExecutionChange {
            execution: Execution::from(change.execution),
            steps: change.steps.into_iter().map(Step::from).collect(),
        };
        chunks.write(|out| write_event(out, "change", self.rev, &change.to_json()));
    }

    fn end(&mut self, chunks: &mut Chunks) {
        let end = EndOfChanges { end: true, status: self.status, rev: self.rev };
        chunks.write(|out| write_event(out, "end", self.rev, &end));
    }

    fn has_last_word(&self) -> bool {
        true
    }

    fn idle(&self) -> Option<&'static str> {
        Some(REMARK)
    }
}
