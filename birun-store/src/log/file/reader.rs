//! Reading the log of one execution, through the files of all its epochs.

use std::collections::VecDeque;
use std::path::PathBuf;

use birun_core::execution::Record;
use birun_core::store::StoreResult;

use super::epochs::{Segment, is_newest, segments};
use super::scanner::{Item, View};

/// A place in the log of an execution.
#[derive(Debug)]
pub(super) struct Reader {
    dir: PathBuf,
    after: u64,
    /// The files from this place on, oldest first; empty before the first look and without output.
    segments: VecDeque<Segment>,
}

/// What was found from a place on.
enum Found {
    /// Records, or none where there are no more now.
    Records(Vec<Record>),
    /// Another part of an earlier epoch's file counts than it seemed.
    AnotherNote,
}

impl Reader {
    pub(super) const fn new(dir: PathBuf, after: u64) -> Self {
        Self { dir, after, segments: VecDeque::new() }
    }

    /// The next records, up to about `bytes` of payload.
    pub(super) fn next(&mut self, bytes: usize) -> StoreResult<Vec<Record>> {
        loop {
            if self.segments.is_empty() {
                self.find_place()?;
            }
            let found = self.read(bytes.max(1));
            // What was read from the end of the newest file counts if no newer one had begun by
            // then: whoever begins one looks at the end of this one once more afterwards.
            if self.is_outdated()? {
                self.segments.clear();
                continue;
            }
            match found? {
                Found::Records(records) => {
                    self.after = records.last().map_or(self.after, |record| record.seq);
                    return Ok(records);
                }
                Found::AnotherNote => self.segments.clear(),
            }
        }
    }

    /// Finds the files that hold what comes next.
    fn find_place(&mut self) -> StoreResult<()> {
        self.segments = segments(&self.dir)?;
        while self.segments.get(1).is_some_and(|later| later.note.last_seq <= self.after) {
            self.segments.pop_front();
        }
        Ok(())
    }

    /// Whether this place is in the newest file that was known, and that is not the newest any more.
    fn is_outdated(&self) -> StoreResult<bool> {
        match self.segments.front() {
            Some(Segment { until: None, epoch, .. }) => Ok(!is_newest(&self.dir, *epoch)?),
            _ => Ok(false),
        }
    }

    fn read(&mut self, bytes: usize) -> StoreResult<Found> {
        let (mut records, mut payload) = (Vec::new(), 0);
        while let Some(segment) = self.segments.front_mut() {
            let is_newest = segment.until.is_none();
            if is_newest {
                segment.scanner.forget_ahead();
            }
            let size = segment.size()?;
            while payload < bytes {
                let view = View { size, after: self.after, wanted: bytes - payload };
                match segment.scanner.next(view)? {
                    Item::Record(record) => {
                        payload += record.payload.len();
                        records.push(record);
                    }
                    Item::Skipped => {}
                    Item::Note(_) => return Ok(Found::AnotherNote),
                    Item::End => break,
                    Item::Torn if is_newest => break,
                    // What was read before is good; the damage is told next time.
                    Item::Torn | Item::Damaged if !records.is_empty() => return Ok(Found::Records(records)),
                    Item::Torn | Item::Damaged => return Err(segment.scanner.corrupt()),
                }
            }
            if is_newest || payload >= bytes {
                break;
            }
            self.segments.pop_front();
        }
        Ok(Found::Records(records))
    }
}
