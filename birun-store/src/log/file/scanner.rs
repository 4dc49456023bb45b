//! Walking through a log file, frame by frame.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use birun_core::execution::Record;
use birun_core::store::{StoreError, StoreResult};
use bytes::Bytes;

use super::frame::{Content, HEADER, Header, MAX_FRAME, Note};
use super::io_error;

/// Most bytes that are read at once.
const CHUNK: usize = 1024 * 1024;
/// Bytes that are read at once while records are skipped by their headers.
const SKIP_CHUNK: usize = 4 * 1024;

/// A place in a log file, and what was read ahead of it.
#[derive(Debug)]
pub(super) struct Scanner {
    file: File,
    path: PathBuf,
    place: Place,
    ahead: Bytes,
    /// Where `ahead` begins.
    ahead_at: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// Where the next frame begins.
    offset: u64,
    /// The `seq` of the next record; `None` before the first note.
    next_seq: Option<u64>,
    /// Whether a record was passed: then no note comes any more.
    in_records: bool,
}

/// Which part of a file is looked at, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    /// So many bytes of the file count.
    pub(super) size: u64,
    /// Records up to this `seq` are skipped.
    pub(super) after: u64,
    /// About so many bytes of payload are wanted.
    pub(super) wanted: usize,
}

/// What stands at a place.
#[derive(Debug)]
pub(super) enum Item {
    Note(Note),
    Record(Record),
    /// A record that was not asked for.
    Skipped,
    /// Nothing: the file ends here.
    End,
    /// The beginning of something that is still being written, or never was written to its end.
    Torn,
    /// Something damaged, with more behind it.
    Damaged,
}

impl Scanner {
    /// The beginning of a file; `None` if there is no such file.
    pub(super) fn open(path: &Path) -> StoreResult<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error(path, error)),
        };
        Ok(Some(Self { file, path: path.to_owned(), place: Place::default(), ahead: Bytes::new(), ahead_at: 0 }))
    }

    /// Where the next frame begins.
    pub(super) const fn offset(&self) -> u64 {
        self.place.offset
    }

    /// The last `seq` that was passed.
    pub(super) fn last_seq(&self) -> u64 {
        self.place.next_seq.unwrap_or(1) - 1
    }

    /// Whether a record was passed.
    pub(super) const fn has_records(&self) -> bool {
        self.place.in_records
    }

    /// Length of the file now.
    pub(super) fn size(&self) -> StoreResult<u64> {
        self.file.metadata().map(|metadata| metadata.len()).map_err(|error| io_error(&self.path, error))
    }

    /// Makes the file survive a crash of the machine as it is.
    pub(super) fn sync(&self) -> StoreResult<()> {
        self.file.sync_data().map_err(|error| io_error(&self.path, error))
    }

    /// Forgets what was read ahead: the end of a file may be written anew after a failed append.
    pub(super) fn forget_ahead(&mut self) {
        self.ahead = Bytes::new();
    }

    /// The damage at this place, as an error.
    pub(super) fn corrupt(&self) -> StoreError {
        StoreError::Corrupt { what: format!("{} at byte {}", self.path.display(), self.place.offset) }
    }

    /// Passes the notes at the beginning of the file, and tells the last one; `None` if there is
    /// none: then nothing in the file counts.
    pub(super) fn notes(&mut self) -> StoreResult<Option<Note>> {
        let view = View { size: self.size()?, after: u64::MAX, wanted: 0 };
        let mut last = None;
        loop {
            let place = self.place;
            let Item::Note(note) = self.next(view)? else {
                self.place = place;
                return Ok(last);
            };
            last = Some(note);
        }
    }

    /// The next frame. What is not whole is not passed.
    pub(super) fn next(&mut self, view: View) -> StoreResult<Item> {
        let left = view.size.saturating_sub(self.place.offset);
        if left == 0 {
            return Ok(Item::End);
        }
        let skipping = self.place.next_seq.is_none_or(|seq| seq <= view.after);
        let chunk = if skipping { SKIP_CHUNK } else { CHUNK.min(view.wanted.saturating_add(MAX_FRAME)) };
        let Some(header) = self.peek(HEADER, left, chunk)?.and_then(|bytes| Header::parse(&bytes)) else {
            return Ok(Item::Torn);
        };
        let is_record = self.place.next_seq.is_some_and(|seq| header.is_record(seq));
        let is_note = header.is_note() && !self.place.in_records;
        if !is_record && !is_note {
            return Ok(if self.is_blank(view.size)? { Item::Torn } else { Item::Damaged });
        }
        if header.batch_len() > left {
            return Ok(Item::Torn);
        }
        if is_record && skipping {
            self.pass(&header);
            return Ok(Item::Skipped);
        }
        self.content(&header, left, chunk)
    }

    fn content(&mut self, header: &Header, left: u64, chunk: usize) -> StoreResult<Item> {
        let len = usize::try_from(header.frame_len()).unwrap_or(usize::MAX);
        let Some(content) = self.peek(len, left, chunk)?.and_then(|frame| header.content(frame)) else {
            return Ok(if header.frame_len() == left { Item::Torn } else { Item::Damaged });
        };
        self.pass(header);
        Ok(match content {
            Content::Note(note) => Item::Note(note),
            Content::Record(record) => Item::Record(record),
        })
    }

    fn pass(&mut self, header: &Header) {
        self.place.offset += header.frame_len();
        self.place.next_seq = Some(header.seq.saturating_add(1));
        self.place.in_records |= !header.is_note();
    }

    /// Whether nothing but zeros follows: a crash of the machine can leave what was never written so.
    fn is_blank(&mut self, size: u64) -> StoreResult<bool> {
        let mut at = self.place.offset;
        while at < size {
            let bytes = self.read(at, (size - at).min(CHUNK as u64))?;
            if bytes.is_empty() || bytes.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at += bytes.len() as u64;
        }
        Ok(true)
    }

    /// The next `len` bytes, of which `left` are there; `None` if those are fewer.
    fn peek(&mut self, len: usize, left: u64, chunk: usize) -> StoreResult<Option<Bytes>> {
        if len as u64 > left {
            return Ok(None);
        }
        if let Some(bytes) = self.read_ahead(len) {
            return Ok(Some(bytes));
        }
        self.ahead_at = self.place.offset;
        self.ahead = self.read(self.ahead_at, (chunk.max(len) as u64).min(left))?;
        Ok(self.read_ahead(len))
    }

    /// The next bytes, if they were read ahead.
    fn read_ahead(&self, len: usize) -> Option<Bytes> {
        let start = usize::try_from(self.place.offset.checked_sub(self.ahead_at)?).ok()?;
        let end = start.checked_add(len)?;
        (end <= self.ahead.len()).then(|| self.ahead.slice(start..end))
    }

    fn read(&mut self, at: u64, len: u64) -> StoreResult<Bytes> {
        let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or_default());
        let seek = self.file.seek(SeekFrom::Start(at));
        seek.and_then(|_| (&self.file).take(len).read_to_end(&mut bytes))
            .map_err(|error| io_error(&self.path, error))?;
        Ok(bytes.into())
    }
}
