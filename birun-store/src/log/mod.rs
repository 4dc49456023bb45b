//! Where output is kept: files beside the database, or memory.

mod file;
mod memory;

pub use file::FileLogs;
pub use memory::MemoryLogs;

use birun_core::execution::Record;
use birun_core::execution::log::MAX_PAYLOAD;
use birun_core::store::{StoreError, StoreResult};

/// Refuses an epoch that is not newer than the newest one that was opened; 0 = none was.
fn check_epoch(epoch: u64, newest: u64) -> StoreResult<()> {
    match epoch.cmp(&newest) {
        std::cmp::Ordering::Greater => Ok(()),
        std::cmp::Ordering::Equal => {
            Err(StoreError::Conflict { why: format!("the log of epoch {epoch} was opened before") })
        }
        std::cmp::Ordering::Less => Err(StoreError::LeaseLost),
    }
}

/// Refuses records that do not go on after `last_seq` or are too large; tells the new last `seq`.
fn check_records(last_seq: u64, records: &[Record]) -> StoreResult<u64> {
    for (seq, record) in (last_seq + 1..).zip(records) {
        if record.seq != seq {
            return Err(failed(format!("record {} was appended where {seq} belongs", record.seq)));
        }
        if record.payload.len() > MAX_PAYLOAD {
            return Err(failed(format!("record {seq} has more than {MAX_PAYLOAD} bytes")));
        }
    }
    Ok(last_seq + records.len() as u64)
}

fn failed(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::Backend { backend: "log", source: source.into() }
}
