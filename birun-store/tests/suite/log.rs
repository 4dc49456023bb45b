//! Log stores: the conformance suite, and what only files can suffer.

use std::sync::Arc;

use birun_core::execution::LogStore;
use birun_core::testing::harness::Suite;
use birun_core::testing::log::cases;
use birun_store::log::{FileLogs, MemoryLogs};

/// Adds the cases.
pub(super) fn add_to(suite: &mut Suite) {
    for case in cases() {
        suite.test(format!("log::memory::{}", case.name), &[], move || (case.run)(Arc::new(MemoryLogs::default())));
    }
    for case in cases() {
        suite.test(format!("log::files::{}", case.name), &[], move || async move {
            let dir = tempfile::tempdir().unwrap();
            let logs: Arc<dyn LogStore> = Arc::new(FileLogs::new(dir.path().join("logs")).unwrap());
            (case.run)(logs).await;
        });
    }
}
