//! Output in memory, for tests and for engines that keep nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use birun_core::execution::log::LogWriter;
use birun_core::execution::{LogCursor, LogReader, LogStore, Record};
use birun_core::id::ExecutionId;
use birun_core::store::StoreResult;

/// Keeps output in memory; clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryLogs(Arc<Mutex<HashMap<ExecutionId, Log>>>);

/// The output of one execution. Record `seq` stands at index `seq - 1`.
#[derive(Debug, Default)]
struct Log {
    epoch: u64,
    records: Vec<Record>,
}

#[derive(Debug)]
struct MemoryWriter {
    logs: MemoryLogs,
    execution: ExecutionId,
    epoch: u64,
    last_seq: u64,
}

#[derive(Debug)]
struct MemoryReader {
    logs: MemoryLogs,
    execution: ExecutionId,
    after: LogCursor,
}

impl MemoryLogs {
    fn lock(&self) -> MutexGuard<'_, HashMap<ExecutionId, Log>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl LogStore for MemoryLogs {
    async fn open(&self, execution: ExecutionId, epoch: u64) -> StoreResult<Box<dyn LogWriter>> {
        let mut logs = self.lock();
        let log = logs.entry(execution).or_default();
        super::check_epoch(epoch, log.epoch)?;
        log.epoch = epoch;
        let last_seq = log.records.len() as u64;
        Ok(Box::new(MemoryWriter { logs: self.clone(), execution, epoch, last_seq }))
    }

    async fn reader(&self, execution: ExecutionId, after: LogCursor) -> StoreResult<Box<dyn LogReader>> {
        Ok(Box::new(MemoryReader { logs: self.clone(), execution, after }))
    }

    async fn delete(&self, execution: ExecutionId) -> StoreResult<()> {
        self.lock().remove(&execution);
        Ok(())
    }
}

#[async_trait]
impl LogWriter for MemoryWriter {
    fn last_seq(&self) -> u64 {
        self.last_seq
    }

    async fn append(&mut self, records: Vec<Record>) -> StoreResult<()> {
        let last_seq = super::check_records(self.last_seq, &records)?;
        let mut logs = self.logs.lock();
        // What a stale worker appends is kept by nobody.
        if let Some(log) = logs.get_mut(&self.execution).filter(|log| log.epoch == self.epoch) {
            log.records.extend(records);
        }
        self.last_seq = last_seq;
        Ok(())
    }

    async fn sync(&mut self) -> StoreResult<()> {
        Ok(())
    }
}

#[async_trait]
impl LogReader for MemoryReader {
    async fn next(&mut self, bytes: usize) -> StoreResult<Vec<Record>> {
        let logs = self.logs.lock();
        let records = logs.get(&self.execution).map_or(&[][..], |log| &log.records);
        let seen = usize::try_from(self.after.0).unwrap_or(usize::MAX);
        let mut room = bytes.max(1);
        let next = records.iter().skip(seen).take_while(|record| {
            let fits = room > 0;
            room = room.saturating_sub(record.payload.len());
            fits
        });
        let next: Vec<Record> = next.cloned().collect();
        self.after.0 += next.len() as u64;
        Ok(next)
    }
}
