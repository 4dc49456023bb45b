//! How an execution stands, as far as it was told.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::Value;

/// The newest attempt on each target, and the execution.
#[derive(Debug, Default)]
pub(crate) struct Board {
    pub(crate) execution: Value,
    /// By the target's place in the order.
    steps: BTreeMap<u64, StepView>,
}

/// The newest attempt on a target.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub(crate) struct StepView {
    pub(crate) position: u64,
    pub(crate) target: String,
    pub(crate) attempt: u64,
    pub(crate) status: String,
    pub(crate) reason: Option<String>,
    pub(crate) detail: Option<String>,
    pub(crate) error: Option<String>,
    pub(crate) hint: Option<String>,
    pub(crate) exit_code: Option<i64>,
    pub(crate) signal: Option<String>,
    pub(crate) kill: Option<Kill>,
    pub(crate) not_before: Option<DateTime<Utc>>,
    pub(crate) started_at: Option<DateTime<Utc>>,
    pub(crate) finished_at: Option<DateTime<Utc>>,
}

impl StepView {
    /// Whether nobody knows if its work was done: to do it again may do it twice.
    pub(crate) fn may_have_done_it(&self) -> bool {
        self.status == "lost" || self.kill.as_ref().is_some_and(|kill| kill.result == "unconfirmed")
    }
}

/// What became of killed processes.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub(crate) struct Kill {
    pub(crate) result: String,
    pub(crate) detail: Option<String>,
}

impl StepView {
    /// Whether it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        !matches!(self.status.as_str(), "pending" | "running")
    }

    /// Whether it has ended well.
    pub(crate) fn succeeded(&self) -> bool {
        self.status == "succeeded"
    }
}

impl Board {
    /// A board for an execution of which nothing else is known yet.
    pub(crate) fn new(execution: Value) -> Self {
        Self { execution, steps: BTreeMap::new() }
    }

    /// Takes a change in, and answers the steps that are news.
    pub(crate) fn change(&mut self, execution: Value, steps: Vec<Value>) -> Vec<StepView> {
        self.execution = execution;
        let views = steps.into_iter().filter_map(|step| serde_json::from_value::<StepView>(step).ok());
        let mut news = Vec::new();
        for view in views {
            let known = self.steps.get(&view.position);
            if known.is_none_or(|known| view.attempt >= known.attempt && *known != view) {
                self.steps.insert(view.position, view.clone());
                news.push(view);
            }
        }
        news
    }

    /// The newest attempts, in the order of their targets.
    pub(crate) fn steps(&self) -> impl Iterator<Item = &StepView> {
        self.steps.values()
    }

    /// A text field of the execution.
    pub(crate) fn text(&self, field: &str) -> Option<&str> {
        self.execution.get(field).and_then(Value::as_str)
    }

    /// The status of the execution.
    pub(crate) fn status(&self) -> &str {
        self.text("status").unwrap_or_default()
    }

    /// Whether the execution has ended.
    pub(crate) fn has_ended(&self) -> bool {
        !matches!(self.status(), "" | "queued" | "waiting" | "running")
    }

    /// The number of targets.
    pub(crate) fn total(&self) -> u64 {
        self.count("total")
    }

    /// The number of targets that stand so.
    pub(crate) fn count(&self, status: &str) -> u64 {
        self.execution.pointer("/counts").and_then(|counts| counts.get(status)).and_then(Value::as_u64).unwrap_or(0)
    }

    /// The last digits of its id.
    pub(crate) fn short_id(&self) -> &str {
        self.text("short_id").unwrap_or_default()
    }

    /// An instant of the execution.
    pub(crate) fn instant(&self, field: &str) -> Option<DateTime<Utc>> {
        self.text(field)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn step(position: u64, attempt: u64, status: &str) -> Value {
        json!({"position": position, "target": format!("web-{position}"), "attempt": attempt, "status": status})
    }

    #[test]
    fn only_the_newest_attempt_counts() {
        let mut board = Board::new(json!({"status": "running"}));
        board.change(json!({"status": "running"}), vec![step(0, 1, "running"), step(1, 1, "running")]);
        let news = board.change(json!({"status": "running"}), vec![step(0, 1, "failed"), step(0, 2, "pending")]);
        assert_eq!(news.len(), 2);
        assert_eq!(board.change(json!({"status": "running"}), vec![step(0, 1, "failed")]), []);
        let statuses: Vec<&str> = board.steps().map(|step| step.status.as_str()).collect();
        assert_eq!(statuses, ["pending", "running"]);
    }
}
