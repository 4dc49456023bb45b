//! Output in files: `<directory>/<execution>/<epoch>.log`.
//!
//! `frame` is the format, `scanner` walks through one file, `epochs` tells which parts of which
//! files count; `writer` and `reader` stand on these.

mod epochs;
mod frame;
mod reader;
mod scanner;
mod writer;

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use birun_core::execution::log::LogWriter;
use birun_core::execution::{LogCursor, LogReader, LogStore, Record};
use birun_core::id::ExecutionId;
use birun_core::store::{StoreError, StoreResult};

use self::reader::Reader;
use self::writer::Writer;
use super::failed;

/// Keeps output in a directory: one file for each execution and epoch, none for an execution
/// without output. Files are readable and writable by their owner only.
#[derive(Clone, Debug)]
pub struct FileLogs {
    dir: PathBuf,
}

/// `None` while a thread works with it, and for ever if that was not awaited.
#[derive(Debug)]
struct FileWriter(Option<Writer>);

/// Makes another reader at its place if a call was not awaited.
#[derive(Debug)]
struct FileReader {
    dir: PathBuf,
    after: u64,
    reader: Option<Reader>,
}

impl FileLogs {
    /// Keeps output in this directory, which is made if there is none.
    ///
    /// # Errors
    /// `Backend` or `Full` if it cannot be made.
    pub fn new(dir: impl Into<PathBuf>) -> StoreResult<Self> {
        let dir = dir.into();
        make_private_dir(&dir)?;
        Ok(Self { dir })
    }

    fn dir_of(&self, execution: ExecutionId) -> PathBuf {
        self.dir.join(execution.to_string())
    }
}

#[async_trait]
impl LogStore for FileLogs {
    async fn open(&self, execution: ExecutionId, epoch: u64) -> StoreResult<Box<dyn LogWriter>> {
        let dir = self.dir_of(execution);
        let writer = blocking(move || Writer::begin(&dir, epoch)).await?;
        Ok(Box::new(FileWriter(Some(writer))))
    }

    async fn reader(&self, execution: ExecutionId, after: LogCursor) -> StoreResult<Box<dyn LogReader>> {
        Ok(Box::new(FileReader { dir: self.dir_of(execution), after: after.0, reader: None }))
    }

    async fn delete(&self, execution: ExecutionId) -> StoreResult<()> {
        let dir = self.dir_of(execution);
        blocking(move || match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(&dir, error)),
            _ => Ok(()),
        })
        .await
    }
}

#[async_trait]
impl LogWriter for FileWriter {
    fn last_seq(&self) -> u64 {
        self.0.as_ref().map_or(0, Writer::last_seq)
    }

    async fn append(&mut self, records: Vec<Record>) -> StoreResult<()> {
        on_thread(&mut self.0, move |writer| writer.append(&records)).await
    }

    async fn sync(&mut self) -> StoreResult<()> {
        on_thread(&mut self.0, Writer::sync).await
    }
}

#[async_trait]
impl LogReader for FileReader {
    async fn next(&mut self, bytes: usize) -> StoreResult<Vec<Record>> {
        self.reader.get_or_insert_with(|| Reader::new(self.dir.clone(), self.after));
        let records = on_thread(&mut self.reader, move |reader| reader.next(bytes)).await?;
        self.after = records.last().map_or(self.after, |record| record.seq);
        Ok(records)
    }
}

/// Lends a part to a thread that may block.
async fn on_thread<P, T, F>(part: &mut Option<P>, work: F) -> StoreResult<T>
where
    P: Send + 'static,
    T: Send + 'static,
    F: FnOnce(&mut P) -> StoreResult<T> + Send + 'static,
{
    let mut lent = part.take().ok_or_else(|| failed("an earlier call was not awaited"))?;
    let (back, result) = blocking(move || {
        let result = work(&mut lent);
        Ok((lent, result))
    })
    .await?;
    *part = Some(back);
    result
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> StoreResult<T> + Send + 'static) -> StoreResult<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(failed(error)))
}

fn make_private_dir(dir: &Path) -> StoreResult<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| io_error(dir, error))
}

fn io_error(path: &Path, error: io::Error) -> StoreError {
    let source = format!("{}: {error}", path.display()).into();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full { source },
        _ => StoreError::Backend { backend: "log", source },
    }
}
