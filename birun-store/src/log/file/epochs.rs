//! The files of one execution: which there are, and which parts of them count.
//!
//! Each epoch has a file of its own, and each file says in its note where the log goes on from: so
//! the newest file leads to all others that count. A file without a note, as a crash can leave it,
//! does not count, and neither does one that no note leads to.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use birun_core::store::{StoreError, StoreResult};

use super::frame::Note;
use super::io_error;
use super::scanner::Scanner;

/// The part of a file that counts.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) epoch: u64,
    /// Stands behind the notes at first.
    pub(super) scanner: Scanner,
    /// What is told at the beginning of the file.
    pub(super) note: Note,
    /// So many bytes count; `None`: all, since no newer epoch has begun.
    pub(super) until: Option<u64>,
}

impl Segment {
    /// Opens an epoch's file; `None` if there is none that counts.
    pub(super) fn open(dir: &Path, epoch: u64) -> StoreResult<Option<Self>> {
        let Some(mut scanner) = Scanner::open(&path(dir, epoch))? else { return Ok(None) };
        let note = scanner.notes()?;
        Ok(note.map(|note| Self { epoch, scanner, note, until: None }))
    }

    /// So many bytes count now.
    pub(super) fn size(&self) -> StoreResult<u64> {
        self.until.map_or_else(|| self.scanner.size(), Ok)
    }
}

/// The file of an epoch.
pub(super) fn path(dir: &Path, epoch: u64) -> PathBuf {
    dir.join(format!("{epoch}.log"))
}

/// The epochs that have files, newest first.
pub(super) fn list(dir: &Path) -> StoreResult<Vec<u64>> {
    let names = match fs::read_dir(dir) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    let names = names.map_err(|error| io_error(dir, error))?;
    let number = |name: &OsString| name.to_str()?.strip_suffix(".log")?.parse().ok();
    let mut epochs: Vec<u64> = names.iter().filter_map(number).collect();
    epochs.sort_unstable_by(|a, b| b.cmp(a));
    Ok(epochs)
}

/// The newest of some epochs whose file counts; they are given newest first.
pub(super) fn newest_of(dir: &Path, epochs: impl IntoIterator<Item = u64>) -> StoreResult<Option<Segment>> {
    for epoch in epochs {
        if let Some(segment) = Segment::open(dir, epoch)? {
            return Ok(Some(segment));
        }
    }
    Ok(None)
}

/// Whether this epoch, whose file counts, is still the newest of those.
pub(super) fn is_newest(dir: &Path, epoch: u64) -> StoreResult<bool> {
    let epochs = list(dir)?;
    let newer = epochs.iter().copied().take_while(|other| *other > epoch);
    Ok(epochs.contains(&epoch) && newest_of(dir, newer)?.is_none())
}

/// All that counts, oldest first; empty if there is no output.
pub(super) fn segments(dir: &Path) -> StoreResult<VecDeque<Segment>> {
    let mut segments = VecDeque::new();
    let Some(newest) = newest_of(dir, list(dir)?)? else { return Ok(segments) };
    let mut note = newest.note;
    segments.push_front(newest);
    while note.epoch > 0 {
        let missing = || StoreError::Corrupt { what: format!("{} is missing", path(dir, note.epoch).display()) };
        let mut earlier = Segment::open(dir, note.epoch)?.ok_or_else(missing)?;
        earlier.until = Some(note.len);
        note = earlier.note;
        segments.push_front(earlier);
    }
    Ok(segments)
}
