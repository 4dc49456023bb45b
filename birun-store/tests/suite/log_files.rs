//! What only a log in files can suffer: crashes, damage, a full disk.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use birun_core::execution::log::{LogWriter, MAX_PAYLOAD};
use birun_core::execution::{LogCursor, LogStore, Record, Stream};
use birun_core::id::ExecutionId;
use birun_core::store::StoreError;
use birun_core::testing::harness::{Need, Suite};
use birun_store::log::FileLogs;
use chrono::DateTime;
use tempfile::TempDir;

/// Adds the cases.
pub(super) fn add_to(suite: &mut Suite) {
    macro_rules! add {
        ($($name:ident),+ $(,)?) => { $(suite.test(concat!("log::files::", stringify!($name)), &[], $name);)+ };
    }
    add!(
        an_execution_without_output_has_no_file,
        only_the_owner_can_read_and_write,
        a_tail_torn_at_any_byte_is_not_read,
        a_tail_torn_at_any_byte_is_cut_by_the_next_epoch,
        a_batch_that_is_not_whole_is_not_read,
        a_batch_that_replaces_half_of_another_is_read_as_it_is,
        zeros_at_the_end_are_not_read,
        zeros_in_the_midst_are_damage,
        any_flipped_bit_is_never_taken_for_output,
        damage_in_the_midst_names_file_and_place,
        damage_in_an_earlier_epoch_is_told_after_what_is_good,
        a_missing_earlier_file_is_damage,
        a_file_without_a_note_does_not_count,
        a_crash_between_opening_and_the_first_record_loses_nothing,
        what_a_stale_worker_wrote_during_the_take_over_counts_if_it_could_be_read,
        damage_is_left_behind_by_the_next_epoch,
        a_deletion_frees_the_disk,
    );
    let tmpfs = Tmpfs::mount();
    let needs = [Need::new("tmpfs", tmpfs.is_some())];
    suite.test("log::files::a_full_disk_fails_the_append_and_keeps_what_was_there", &needs, move || async move {
        a_full_disk_fails_the_append_and_keeps_what_was_there(tmpfs.unwrap().path()).await;
    });
}

/// Longest wait for something that is to happen.
const LIMIT: Duration = Duration::from_secs(20);

struct Fixture {
    dir: TempDir,
    logs: FileLogs,
    execution: ExecutionId,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let logs = FileLogs::new(dir.path().join("logs")).unwrap();
        Self { dir, logs, execution: ExecutionId::new() }
    }

    fn file(&self, epoch: u64) -> PathBuf {
        self.dir.path().join("logs").join(self.execution.to_string()).join(format!("{epoch}.log"))
    }

    async fn open(&self, epoch: u64) -> Box<dyn LogWriter> {
        self.logs.open(self.execution, epoch).await.unwrap()
    }

    /// Writes epochs with so many records each, one append a record; tells where each one ends.
    async fn fill(&self, epochs: &[u64]) -> Vec<u64> {
        let (mut seq, mut ends) = (0, Vec::new());
        for (epoch, count) in (1..).zip(epochs) {
            let mut writer = self.open(epoch).await;
            for _ in 0..*count {
                seq += 1;
                writer.append(vec![record(seq)]).await.unwrap();
                ends.push(self.file(epoch).metadata().unwrap().len());
            }
        }
        ends
    }

    /// What can be read, up to the end or an error.
    async fn read(&self) -> (Vec<Record>, Option<StoreError>) {
        let mut reader = self.logs.reader(self.execution, LogCursor(0)).await.unwrap();
        let mut all = Vec::new();
        loop {
            match reader.next(MAX_PAYLOAD).await {
                Ok(records) if records.is_empty() => return (all, None),
                Ok(records) => all.extend(records),
                Err(error) => return (all, Some(error)),
            }
        }
    }

    async fn check(&self, last_seq: u64) {
        let (read, error) = self.read().await;
        assert!(error.is_none(), "{error:?}");
        assert_eq!(read, records(1, last_seq));
    }
}

fn record(seq: u64) -> Record {
    let payload = format!("this is record {seq}").into();
    Record { seq, at: DateTime::UNIX_EPOCH, step: 1, stream: Stream::Stdout, raw_end: 30 * seq, payload }
}

fn records(from: u64, to: u64) -> Vec<Record> {
    (from..=to).map(record).collect()
}

fn set_len(file: &Path, len: u64) {
    File::options().write(true).open(file).unwrap().set_len(len).unwrap();
}

async fn an_execution_without_output_has_no_file() {
    let it = Fixture::new();
    assert!(it.read().await.0.is_empty());
    assert_eq!(fs::read_dir(it.dir.path().join("logs")).unwrap().count(), 0);
}

async fn only_the_owner_can_read_and_write() {
    let it = Fixture::new();
    it.fill(&[1]).await;
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let file = it.file(1);
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(file.parent().unwrap()), 0o700);
    assert_eq!(mode(&it.dir.path().join("logs")), 0o700);
}

async fn a_tail_torn_at_any_byte_is_not_read() {
    let it = Fixture::new();
    let ends = it.fill(&[3]).await;
    for len in (ends[1]..ends[2]).rev() {
        set_len(&it.file(1), len);
        it.check(2).await;
    }
}

async fn a_tail_torn_at_any_byte_is_cut_by_the_next_epoch() {
    let ends = Fixture::new().fill(&[3]).await;
    for len in ends[1]..ends[2] {
        let it = Fixture::new();
        it.fill(&[3]).await;
        set_len(&it.file(1), len);
        let mut second = it.open(2).await;
        assert_eq!(second.last_seq(), 2);
        second.append(records(3, 4)).await.unwrap();
        it.check(4).await;
    }
}

async fn a_batch_that_is_not_whole_is_not_read() {
    let it = Fixture::new();
    let mut writer = it.open(1).await;
    writer.append(records(1, 2)).await.unwrap();
    let end = it.file(1).metadata().unwrap().len();
    writer.append(records(3, 9)).await.unwrap();
    let whole = it.file(1).metadata().unwrap().len();
    it.check(9).await;
    for len in [whole - 1, (end + whole) / 2, end + 1] {
        set_len(&it.file(1), len);
        it.check(2).await;
    }
}

/// After a failed append the next one is written in its place, of which a reader may have seen a part.
async fn a_batch_that_replaces_half_of_another_is_read_as_it_is() {
    let (it, other) = (Fixture::new(), Fixture::new());
    it.fill(&[1]).await;
    let mut failed = other.open(1).await;
    let another = |seq| Record { payload: format!("THIS IS RECORD {seq}").into(), ..record(seq) };
    failed.append(vec![record(1)]).await.unwrap();
    failed.append(vec![another(2), another(3)]).await.unwrap();
    let half = fs::read(other.file(1)).unwrap();
    fs::write(it.file(1), &half[..half.len() - 1]).unwrap();

    let mut reader = it.logs.reader(it.execution, LogCursor(0)).await.unwrap();
    assert_eq!(reader.next(MAX_PAYLOAD).await.unwrap(), records(1, 1));
    assert_eq!(reader.next(MAX_PAYLOAD).await.unwrap(), []);

    let whole = Fixture::new();
    let mut writer = whole.open(1).await;
    writer.append(records(1, 1)).await.unwrap();
    writer.append(records(2, 3)).await.unwrap();
    fs::copy(whole.file(1), it.file(1)).unwrap();
    assert_eq!(reader.next(MAX_PAYLOAD).await.unwrap(), records(2, 3));
}

async fn zeros_at_the_end_are_not_read() {
    let it = Fixture::new();
    let ends = it.fill(&[2]).await;
    set_len(&it.file(1), ends[1] + 3 * 1024 * 1024);
    it.check(2).await;
    let mut second = it.open(2).await;
    second.append(records(3, 3)).await.unwrap();
    it.check(3).await;
}

async fn zeros_in_the_midst_are_damage() {
    let it = Fixture::new();
    let ends = it.fill(&[3]).await;
    let mut bytes = fs::read(it.file(1)).unwrap();
    bytes[usize::try_from(ends[0]).unwrap()..usize::try_from(ends[1]).unwrap()].fill(0);
    fs::write(it.file(1), bytes).unwrap();
    let (read, error) = it.read().await;
    assert_eq!(read, records(1, 1));
    assert!(matches!(error, Some(StoreError::Corrupt { .. })), "{error:?}");
}

async fn any_flipped_bit_is_never_taken_for_output() {
    let it = Fixture::new();
    it.fill(&[2, 1]).await;
    for epoch in [1, 2] {
        let good = fs::read(it.file(epoch)).unwrap();
        for index in 0..good.len() {
            let mut bytes = good.clone();
            bytes[index] ^= 1 << (index % 8);
            fs::write(it.file(epoch), bytes).unwrap();
            let (read, error) = it.read().await;
            assert_eq!(read, records(1, read.len() as u64), "byte {index} of epoch {epoch}");
            assert!(read.len() < 3, "byte {index} of epoch {epoch}");
            assert!(epoch == 2 || matches!(error, Some(StoreError::Corrupt { .. })), "byte {index}: {error:?}");
        }
        fs::write(it.file(epoch), good).unwrap();
    }
    it.check(3).await;
}

async fn damage_in_the_midst_names_file_and_place() {
    let it = Fixture::new();
    let ends = it.fill(&[3]).await;
    let mut bytes = fs::read(it.file(1)).unwrap();
    bytes[usize::try_from(ends[1]).unwrap() - 1] ^= 1;
    fs::write(it.file(1), bytes).unwrap();
    let (read, error) = it.read().await;
    assert_eq!(read, records(1, 1));
    let Some(StoreError::Corrupt { what }) = error else { panic!("{error:?}") };
    assert_eq!(what, format!("{} at byte {}", it.file(1).display(), ends[0]));
}

async fn damage_in_an_earlier_epoch_is_told_after_what_is_good() {
    let it = Fixture::new();
    let ends = it.fill(&[3, 2]).await;
    set_len(&it.file(1), ends[1] + 5);
    let (read, error) = it.read().await;
    assert_eq!(read, records(1, 2));
    assert!(matches!(error, Some(StoreError::Corrupt { .. })), "{error:?}");
}

async fn a_missing_earlier_file_is_damage() {
    let it = Fixture::new();
    it.fill(&[3, 2]).await;
    fs::remove_file(it.file(1)).unwrap();
    let (read, error) = it.read().await;
    assert_eq!(read, []);
    let Some(StoreError::Corrupt { what }) = error else { panic!("{error:?}") };
    assert_eq!(what, format!("{} is missing", it.file(1).display()));
}

async fn a_file_without_a_note_does_not_count() {
    let it = Fixture::new();
    it.fill(&[3]).await;
    let note = {
        let other = Fixture::new();
        other.open(1).await;
        fs::read(other.file(1)).unwrap()
    };
    for len in 0..note.len() {
        fs::write(it.file(2), &note[..len]).unwrap();
        it.check(3).await;
    }
    let mut third = it.open(3).await;
    assert_eq!(third.last_seq(), 3);
    third.append(records(4, 4)).await.unwrap();
    it.check(4).await;
}

async fn a_crash_between_opening_and_the_first_record_loses_nothing() {
    let it = Fixture::new();
    it.fill(&[3]).await;
    drop(it.open(2).await);
    it.check(3).await;
    drop(it.open(3).await);
    it.check(3).await;
    let mut fourth = it.open(4).await;
    assert_eq!(fourth.last_seq(), 3);
    fourth.append(records(4, 5)).await.unwrap();
    it.check(5).await;
}

/// A stale worker appends while another one takes over, and a follower reads all the time: nothing
/// that it read is taken back.
async fn what_a_stale_worker_wrote_during_the_take_over_counts_if_it_could_be_read() {
    for _ in 0..50 {
        let it = Fixture::new();
        let mut stale = it.open(1).await;
        stale.append(records(1, 1)).await.unwrap();
        let appending = tokio::spawn(async move {
            for seq in 2..200 {
                stale.append(vec![record(seq)]).await.unwrap();
            }
        });
        let mut reader = it.logs.reader(it.execution, LogCursor(0)).await.unwrap();
        let reading = tokio::spawn(async move {
            let mut seen = Vec::new();
            while !seen.iter().any(|record: &Record| record.raw_end == 0) {
                seen.extend(reader.next(1).await.unwrap());
                tokio::task::yield_now().await;
            }
            seen
        });
        let mut second = it.open(2).await;
        let last = Record { raw_end: 0, ..record(second.last_seq() + 1) };
        second.append(vec![last.clone()]).await.unwrap();
        appending.await.unwrap();
        let expected = [records(1, last.seq - 1), vec![last]].concat();
        let seen = tokio::time::timeout(LIMIT, reading).await.expect("the reader came to the end").unwrap();
        assert_eq!(seen, expected);
        assert_eq!(it.read().await.0, expected);
    }
}

async fn damage_is_left_behind_by_the_next_epoch() {
    let it = Fixture::new();
    let ends = it.fill(&[3]).await;
    let mut bytes = fs::read(it.file(1)).unwrap();
    bytes[usize::try_from(ends[1]).unwrap() - 1] ^= 1;
    fs::write(it.file(1), bytes).unwrap();
    let mut second = it.open(2).await;
    assert_eq!(second.last_seq(), 1);
    second.append(records(2, 2)).await.unwrap();
    it.check(2).await;
}

async fn a_deletion_frees_the_disk() {
    let it = Fixture::new();
    it.fill(&[3, 2]).await;
    let file = File::open(it.file(1)).unwrap();
    it.logs.delete(it.execution).await.unwrap();
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    assert_eq!(fs::read_dir(it.dir.path().join("logs")).unwrap().count(), 0);
}

async fn a_full_disk_fails_the_append_and_keeps_what_was_there(disk: &Path) {
    let logs = FileLogs::new(disk.join("logs")).unwrap();
    let (execution, large) =
        (ExecutionId::new(), |seq| Record { payload: vec![b'x'; MAX_PAYLOAD].into(), ..record(seq) });
    let mut writer = logs.open(execution, 1).await.unwrap();
    let full = loop {
        let from = writer.last_seq() + 1;
        if let Err(error) = writer.append((from..from + 5).map(large).collect()).await {
            break error;
        }
    };
    assert!(matches!(full, StoreError::Full { .. }), "{full:?}");
    let kept = writer.last_seq();
    let mut reader = logs.reader(execution, LogCursor(0)).await.unwrap();
    assert_eq!(reader.next(usize::MAX).await.unwrap().len() as u64, kept);

    // Room is made: the same writer goes on, without a restart.
    fs::remove_file(disk.join("ballast")).unwrap();
    writer.append(vec![large(kept + 1)]).await.unwrap();
    writer.sync().await.unwrap();
    assert_eq!(reader.next(usize::MAX).await.unwrap(), [large(kept + 1)]);
}

/// A small disk, while it is held.
pub(super) struct Tmpfs(TempDir);

impl Tmpfs {
    /// `None` where mounting is not allowed.
    pub(super) fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().ok()?;
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(dir.path()).output().ok()?;
        let disk = mount.status.success().then_some(Self(dir))?;
        fs::write(disk.path().join("ballast"), vec![0; 256 * 1024]).ok()?;
        Some(disk)
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Nothing better can be done about a failure here.
        let _ended = Command::new("umount").arg(self.0.path()).status();
    }
}
