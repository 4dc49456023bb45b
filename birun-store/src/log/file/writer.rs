//! Appending to the log of one execution, under one epoch.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use birun_core::execution::Record;
use birun_core::store::{StoreError, StoreResult};

use super::epochs::{self, Segment};
use super::frame::{Batch, Note, encode_note};
use super::scanner::{Item, View};
use super::{io_error, make_private_dir};
use crate::log::{check_records, failed};

/// The end of an epoch's file.
#[derive(Debug)]
pub(super) struct Writer {
    file: File,
    path: PathBuf,
    /// Where the next batch is written; the file stands there.
    end: u64,
    last_seq: u64,
    /// Whether the file's name may not survive a crash of the machine yet.
    is_new: bool,
    /// Whether nobody knows any more what the file holds.
    is_broken: bool,
}

/// What earlier epochs left.
#[derive(Debug, Default)]
struct Earlier {
    /// What of it counts.
    note: Note,
    /// The newest epoch and the length of its file, by which a change would show.
    seen: Option<(u64, u64)>,
}

impl Writer {
    /// Begins the file of an epoch.
    ///
    /// The file's note says what of the earlier epochs' files counts, and survives a crash before
    /// the first record is written. Earlier files are not touched: a stale worker that still appends
    /// to one does no harm. It may do so between the look at its file and the note, and readers may
    /// have seen that; so it is looked at once more, and a second note written if there was more.
    ///
    /// A crash in between leaves a file without a note, which does not count, or one without
    /// records: then the next epoch goes on where that one would have.
    pub(super) fn begin(dir: &Path, epoch: u64) -> StoreResult<Self> {
        if Segment::open(dir, epoch)?.is_some() {
            return Err(StoreError::Conflict { why: format!("the log of epoch {epoch} was opened before") });
        }
        let earlier = Earlier::look(dir, epoch)?;
        make_private_dir(dir)?;
        let mut writer = Self::create(epochs::path(dir, epoch))?;
        writer.note(&earlier.note)?;
        if newest_other(dir, epoch)?.map(|segment| seen(&segment)).transpose()? != earlier.seen {
            writer.note(&Earlier::look(dir, epoch)?.note)?;
        }
        if writer.last_seq > 0 {
            writer.sync()?;
        }
        Ok(writer)
    }

    /// The last `seq` that is kept.
    pub(super) const fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Appends records as one batch.
    pub(super) fn append(&mut self, records: &[Record]) -> StoreResult<()> {
        let last_seq = check_records(self.last_seq, records)?;
        let batch = Batch::encode(records).ok_or_else(|| failed("more than 4 GiB were appended at once"))?;
        self.write(&mut batch.pieces())?;
        self.last_seq = last_seq;
        Ok(())
    }

    /// Makes everything so far survive a crash of the machine.
    pub(super) fn sync(&mut self) -> StoreResult<()> {
        self.check()?;
        self.sync_all().map_err(|error| {
            // What the kernel could not write it may have forgotten: asking again proves nothing.
            self.is_broken = true;
            io_error(&self.path, error)
        })
    }

    fn create(path: PathBuf) -> StoreResult<Self> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        let file = file.map_err(|error| io_error(&path, error))?;
        Ok(Self { file, path, end: 0, last_seq: 0, is_new: true, is_broken: false })
    }

    fn note(&mut self, note: &Note) -> StoreResult<()> {
        self.write(&mut [IoSlice::new(&encode_note(note))])?;
        self.last_seq = note.last_seq;
        Ok(())
    }

    /// Writes all of some pieces or nothing.
    fn write(&mut self, pieces: &mut [IoSlice<'_>]) -> StoreResult<()> {
        self.check()?;
        let len: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        if let Err(error) = write_all(&self.file, pieces) {
            // A batch that is not whole does not count; what is left of it must not run into the next one.
            self.is_broken = self.cut().is_err();
            return Err(io_error(&self.path, error));
        }
        self.end += len;
        Ok(())
    }

    /// Drops what stands behind the last whole batch.
    fn cut(&mut self) -> io::Result<()> {
        self.file.set_len(self.end)?;
        self.file.seek(SeekFrom::Start(self.end))?;
        Ok(())
    }

    fn check(&self) -> StoreResult<()> {
        if self.is_broken { Err(failed(format!("{} failed before", self.path.display()))) } else { Ok(()) }
    }

    /// Writes the file through, and the first time the two directories that its name hangs on. All
    /// at once, since the disk does three things that wait together nearly as fast as one.
    fn sync_all(&mut self) -> io::Result<()> {
        if !self.is_new {
            return self.file.sync_data();
        }
        std::thread::scope(|threads| {
            let dirs = self.path.ancestors().skip(1).take(2);
            let dirs: Vec<_> = dirs.map(|dir| threads.spawn(move || File::open(dir)?.sync_all())).collect();
            let file = self.file.sync_data();
            let dirs = dirs.into_iter().map(|dir| dir.join().unwrap_or_else(|_| Err(io::Error::other("panicked"))));
            dirs.fold(file, io::Result::and)
        })?;
        self.is_new = false;
        Ok(())
    }
}

/// Writes pieces where the file stands.
fn write_all(mut file: &File, mut pieces: &mut [IoSlice<'_>]) -> io::Result<()> {
    while !pieces.is_empty() {
        match file.write_vectored(pieces) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut pieces, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Earlier {
    /// Looks at what is there before an epoch, and makes it survive a crash.
    fn look(dir: &Path, epoch: u64) -> StoreResult<Self> {
        let Some(mut newest) = newest_other(dir, epoch)? else { return Ok(Self::default()) };
        if newest.epoch > epoch {
            return Err(StoreError::LeaseLost);
        }
        let seen = Some(seen(&newest)?);
        pass_records(&mut newest)?;
        let scanner = &newest.scanner;
        if !scanner.has_records() {
            return Ok(Self { note: newest.note, seen });
        }
        scanner.sync()?;
        let note = Note { epoch: newest.epoch, len: scanner.offset(), last_seq: scanner.last_seq() };
        Ok(Self { note, seen })
    }
}

/// Goes to the end of what is whole in a file.
fn pass_records(segment: &mut Segment) -> StoreResult<()> {
    let view = View { size: segment.size()?, after: 0, wanted: usize::MAX };
    loop {
        match segment.scanner.next(view)? {
            Item::Record(_) | Item::Skipped | Item::Note(_) => {}
            Item::End | Item::Torn => return Ok(()),
            Item::Damaged => {
                tracing::warn!("{}; what follows there is given up", segment.scanner.corrupt());
                return Ok(());
            }
        }
    }
}

fn seen(segment: &Segment) -> StoreResult<(u64, u64)> {
    Ok((segment.epoch, segment.size()?))
}

/// The newest file that counts, besides that of `epoch`.
fn newest_other(dir: &Path, epoch: u64) -> StoreResult<Option<Segment>> {
    let others = epochs::list(dir)?.into_iter().filter(|other| *other != epoch);
    epochs::newest_of(dir, others)
}
