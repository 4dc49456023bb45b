//! Why an execution does not go on, for someone who waits for it.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep_until, timeout};

use crate::client::{Client, Request};

/// After this time someone wants to know why nothing happens.
const FIRST: Duration = Duration::from_millis(1500);
/// How often it is asked again: a worker may die at any time.
const AGAIN: Duration = Duration::from_secs(5);
/// An answer that takes longer is not worth holding the output up for.
const PATIENCE: Duration = Duration::from_secs(2);

/// When to ask, and what was told.
#[derive(Debug)]
pub(crate) struct Why {
    due: Instant,
    /// The status about which something was told. What is true of it is told once.
    told: Option<String>,
}

impl Why {
    /// Begins to wait.
    pub(crate) fn new() -> Self {
        Self { due: Instant::now() + FIRST, told: None }
    }

    /// Waits until it is time to ask. Dropping the future changes nothing.
    pub(crate) async fn due(&self) {
        sleep_until(self.due).await;
    }

    /// Puts the question off.
    pub(crate) fn later(&mut self) {
        self.due = Instant::now() + AGAIN;
    }

    /// Asks, and answers what is news.
    pub(crate) async fn ask(&mut self, client: &Client, id: &str) -> Option<String> {
        let asked = timeout(PATIENCE, client.send(Request::get(["executions", id]))).await;
        self.later();
        self.news(&asked.ok()?.ok()?)
    }

    /// What an execution, as it was read, says that was not told yet.
    pub(crate) fn news(&mut self, execution: &Value) -> Option<String> {
        let text = |field: &str| execution.get(field).and_then(Value::as_str);
        let Some(why) = text("why") else {
            self.told = None;
            return None;
        };
        let status = text("status").unwrap_or_default();
        if self.told.as_deref() == Some(status) {
            return None;
        }
        self.told = Some(status.to_owned());
        Some(format!("{status}: {why}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn a_reason_is_told_once_until_it_is_gone() {
        let mut why = Why::new();
        let mut news = |status: &str, text: Value| why.news(&json!({"status": status, "why": text}));
        assert_eq!(news("queued", json!("queued behind 2 executions")).unwrap(), "queued: queued behind 2 executions");
        assert_eq!(news("queued", json!("queued behind 1 execution")), None);
        assert_eq!(news("running", Value::Null), None);
        assert_eq!(news("running", json!("its worker is gone")).unwrap(), "running: its worker is gone");
        assert_eq!(news("running", json!("its worker is gone")), None);
        assert_eq!(news("queued", json!("no worker is running")).unwrap(), "queued: no worker is running");
    }
}
