//! The conformance suite of log stores: every promise in the documentation of [`LogStore`],
//! [`LogWriter`] and [`LogReader`].
//!
//! Each case is a function named after its promise. It is given a log store and panics where the
//! promise is not kept.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a case fails by panicking")]

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta};
use futures::FutureExt;

use crate::execution::log::{LogCursor, LogReader, LogStore, LogWriter, MAX_PAYLOAD, Record, Stream};
use crate::id::ExecutionId;
use crate::store::StoreError;
use crate::testing::harness::Case;

type Logs = Arc<dyn LogStore>;

macro_rules! cases {
    ($($name:ident,)+) => {
        vec![$(Case { name: stringify!($name), run: |logs| Box::pin($name(logs)) },)+]
    };
}

/// Every case.
#[must_use]
pub fn cases() -> Vec<Case<Logs>> {
    cases! {
        an_execution_without_output_has_an_empty_log,
        records_read_back_as_they_were,
        bytes_are_bytes,
        the_largest_payload_reads_back,
        records_are_visible_without_a_sync,
        executions_are_kept_apart,
        a_reader_begins_after_its_cursor,
        a_reader_begins_after_its_cursor_in_a_later_epoch,
        a_reader_gives_about_as_many_bytes_as_asked_for,
        a_reader_that_came_to_the_end_goes_on_when_there_is_more,
        a_reader_that_came_before_the_first_record_sees_it,
        a_dropped_call_of_a_reader_loses_nothing,
        a_new_epoch_goes_on_where_the_earlier_one_ended,
        an_open_reader_goes_on_into_a_new_epoch,
        epochs_without_records_leave_no_gap,
        what_a_stale_worker_appends_is_never_read,
        what_a_stale_worker_appends_before_any_record_of_the_new_one_is_never_read,
        an_open_reader_does_not_see_what_a_stale_worker_appends,
        an_epoch_older_than_the_newest_is_refused,
        an_epoch_is_opened_once,
        records_that_leave_a_gap_are_refused_and_none_is_kept,
        a_record_that_is_too_large_is_refused,
        an_append_of_nothing_changes_nothing,
        what_was_deleted_is_gone_in_all_epochs,
        deleting_nothing_is_no_error,
        a_deletion_leaves_other_executions_alone,
    }
}

/// A record of step `seq % 3`, on each stream in turn.
fn record(seq: u64, payload: impl Into<Bytes>) -> Record {
    let micros = TimeDelta::microseconds(1_700_000_000_123_456 + i64::try_from(seq).unwrap());
    Record {
        seq,
        at: DateTime::UNIX_EPOCH + micros,
        step: u32::try_from(seq % 3).unwrap(),
        stream: Stream::ALL[usize::try_from(seq % 3).unwrap()],
        raw_end: seq * 1000,
        payload: payload.into(),
    }
}

/// Records `from..=to`, each of which says its number and, where it differs, who wrote it.
fn records(from: u64, to: u64, writer: &str) -> Vec<Record> {
    (from..=to).map(|seq| record(seq, format!("{writer}{seq}"))).collect()
}

async fn open(logs: &Logs, execution: ExecutionId, epoch: u64) -> Box<dyn LogWriter> {
    logs.open(execution, epoch).await.unwrap()
}

async fn reader(logs: &Logs, execution: ExecutionId, after: u64) -> Box<dyn LogReader> {
    logs.reader(execution, LogCursor(after)).await.unwrap()
}

/// All that there is now.
async fn rest(reader: &mut Box<dyn LogReader>) -> Vec<Record> {
    let mut all = Vec::new();
    loop {
        let more = reader.next(MAX_PAYLOAD).await.unwrap();
        if more.is_empty() {
            return all;
        }
        all.extend(more);
    }
}

async fn read(logs: &Logs, execution: ExecutionId, after: u64) -> Vec<Record> {
    rest(&mut reader(logs, execution, after).await).await
}

/// An execution with these records in its first epoch.
async fn filled(logs: &Logs, records: &[Record]) -> (ExecutionId, Box<dyn LogWriter>) {
    let execution = ExecutionId::new();
    let mut writer = open(logs, execution, 1).await;
    writer.append(records.to_vec()).await.unwrap();
    (execution, writer)
}

async fn an_execution_without_output_has_an_empty_log(logs: Logs) {
    assert_eq!(read(&logs, ExecutionId::new(), 0).await, []);
    assert_eq!(open(&logs, ExecutionId::new(), 1).await.last_seq(), 0);
}

async fn records_read_back_as_they_were(logs: Logs) {
    let records = records(1, 10, "a");
    let execution = ExecutionId::new();
    let mut writer = open(&logs, execution, 1).await;
    writer.append(records[..4].to_vec()).await.unwrap();
    assert_eq!(writer.last_seq(), 4);
    writer.append(records[4..].to_vec()).await.unwrap();
    assert_eq!(writer.last_seq(), 10);
    writer.sync().await.unwrap();
    assert_eq!(read(&logs, execution, 0).await, records);
}

async fn bytes_are_bytes(logs: Logs) {
    let all: Vec<u8> = (0..=255).collect();
    let payloads = [&b"\xff\xfe\x00\r\n\x1b[2J"[..], &all, b"\0", b"\n"];
    let records: Vec<Record> = (1..).zip(payloads).map(|(seq, bytes)| record(seq, bytes.to_vec())).collect();
    let (execution, _writer) = filled(&logs, &records).await;
    assert_eq!(read(&logs, execution, 0).await, records);
}

async fn the_largest_payload_reads_back(logs: Logs) {
    let records: Vec<Record> = (1..40).map(|seq| record(seq, vec![u8::try_from(seq).unwrap(); MAX_PAYLOAD])).collect();
    let (execution, _writer) = filled(&logs, &records).await;
    assert!(read(&logs, execution, 0).await == records);
}

async fn records_are_visible_without_a_sync(logs: Logs) {
    let (execution, _writer) = filled(&logs, &records(1, 1, "a")).await;
    assert_eq!(read(&logs, execution, 0).await, records(1, 1, "a"));
}

async fn executions_are_kept_apart(logs: Logs) {
    let (one, _) = filled(&logs, &records(1, 3, "one")).await;
    let (two, _) = filled(&logs, &records(1, 2, "two")).await;
    assert_eq!(read(&logs, one, 0).await, records(1, 3, "one"));
    assert_eq!(read(&logs, two, 0).await, records(1, 2, "two"));
}

async fn a_reader_begins_after_its_cursor(logs: Logs) {
    let (execution, _writer) = filled(&logs, &records(1, 100, "a")).await;
    for after in [1, 50, 99, 100] {
        assert_eq!(read(&logs, execution, after).await, records(after + 1, 100, "a"));
    }
}

async fn a_reader_begins_after_its_cursor_in_a_later_epoch(logs: Logs) {
    let (execution, _writer) = filled(&logs, &records(1, 10, "a")).await;
    for (epoch, from) in [(2, 11), (3, 21)] {
        open(&logs, execution, epoch).await.append(records(from, from + 9, "a")).await.unwrap();
    }
    for after in [5, 9, 10, 11, 20, 25, 30] {
        assert_eq!(read(&logs, execution, after).await, records(after + 1, 30, "a"));
    }
}

async fn a_reader_gives_about_as_many_bytes_as_asked_for(logs: Logs) {
    let records: Vec<Record> = (1..=100).map(|seq| record(seq, vec![b'x'; 1000])).collect();
    let (execution, _writer) = filled(&logs, &records).await;
    let mut reader = reader(&logs, execution, 0).await;
    assert_eq!(reader.next(10_000).await.unwrap().len(), 10);
    assert_eq!(reader.next(1).await.unwrap().len(), 1);
    assert_eq!(reader.next(usize::MAX).await.unwrap().len(), 89);
    assert_eq!(reader.next(1).await.unwrap(), []);
}

async fn a_reader_that_came_to_the_end_goes_on_when_there_is_more(logs: Logs) {
    let (execution, mut writer) = filled(&logs, &records(1, 1, "a")).await;
    let mut reader = reader(&logs, execution, 0).await;
    assert_eq!(rest(&mut reader).await, records(1, 1, "a"));
    for seq in 2..50 {
        assert_eq!(reader.next(1000).await.unwrap(), []);
        writer.append(records(seq, seq, "a")).await.unwrap();
        assert_eq!(reader.next(1000).await.unwrap(), records(seq, seq, "a"));
    }
}

async fn a_reader_that_came_before_the_first_record_sees_it(logs: Logs) {
    let execution = ExecutionId::new();
    let mut reader = reader(&logs, execution, 0).await;
    assert_eq!(reader.next(1000).await.unwrap(), []);
    open(&logs, execution, 1).await.append(records(1, 2, "a")).await.unwrap();
    assert_eq!(rest(&mut reader).await, records(1, 2, "a"));
}

async fn a_dropped_call_of_a_reader_loses_nothing(logs: Logs) {
    let (execution, _writer) = filled(&logs, &records(1, 20, "a")).await;
    let (mut reader, mut seen) = (reader(&logs, execution, 0).await, Vec::new());
    while seen.len() < 20 {
        if let Some(records) = reader.next(4).now_or_never() {
            seen.extend(records.unwrap());
        }
        seen.extend(reader.next(4).await.unwrap());
    }
    assert_eq!(seen, records(1, 20, "a"));
}

async fn a_new_epoch_goes_on_where_the_earlier_one_ended(logs: Logs) {
    let (execution, _first) = filled(&logs, &records(1, 3, "a")).await;
    let mut second = open(&logs, execution, 2).await;
    assert_eq!(second.last_seq(), 3);
    second.append(records(4, 5, "b")).await.unwrap();
    assert_eq!(open(&logs, execution, 7).await.last_seq(), 5);
    assert_eq!(read(&logs, execution, 0).await, [records(1, 3, "a"), records(4, 5, "b")].concat());
}

async fn an_open_reader_goes_on_into_a_new_epoch(logs: Logs) {
    let (execution, _first) = filled(&logs, &records(1, 3, "a")).await;
    let mut reader = reader(&logs, execution, 1).await;
    assert_eq!(rest(&mut reader).await, records(2, 3, "a"));
    let mut second = open(&logs, execution, 2).await;
    assert_eq!(rest(&mut reader).await, []);
    second.append(records(4, 5, "b")).await.unwrap();
    assert_eq!(rest(&mut reader).await, records(4, 5, "b"));
    open(&logs, execution, 3).await.append(records(6, 6, "c")).await.unwrap();
    assert_eq!(rest(&mut reader).await, records(6, 6, "c"));
}

async fn epochs_without_records_leave_no_gap(logs: Logs) {
    let execution = ExecutionId::new();
    open(&logs, execution, 1).await;
    open(&logs, execution, 2).await.append(records(1, 2, "a")).await.unwrap();
    open(&logs, execution, 3).await;
    let mut reader = reader(&logs, execution, 0).await;
    assert_eq!(rest(&mut reader).await, records(1, 2, "a"));
    assert_eq!(open(&logs, execution, 4).await.last_seq(), 2);
    let mut fifth = open(&logs, execution, 5).await;
    fifth.append(records(3, 4, "a")).await.unwrap();
    assert_eq!(rest(&mut reader).await, records(3, 4, "a"));
    assert_eq!(read(&logs, execution, 0).await, records(1, 4, "a"));
}

async fn what_a_stale_worker_appends_is_never_read(logs: Logs) {
    let (execution, mut stale) = filled(&logs, &records(1, 3, "a")).await;
    let mut second = open(&logs, execution, 2).await;
    second.append(records(4, 5, "b")).await.unwrap();
    // It may be refused or go nowhere.
    let _refused = stale.append(records(4, 8, "stale")).await;
    second.append(records(6, 6, "b")).await.unwrap();
    let expected = [records(1, 3, "a"), records(4, 6, "b")].concat();
    assert_eq!(read(&logs, execution, 0).await, expected);
    assert_eq!(open(&logs, execution, 3).await.last_seq(), 6);
    let _refused = stale.append(records(9, 9, "stale")).await;
    assert_eq!(read(&logs, execution, 0).await, expected);
}

async fn what_a_stale_worker_appends_before_any_record_of_the_new_one_is_never_read(logs: Logs) {
    let (execution, mut stale) = filled(&logs, &records(1, 3, "a")).await;
    let second = open(&logs, execution, 2).await;
    let _refused = stale.append(records(4, 4, "stale")).await;
    assert_eq!(read(&logs, execution, 0).await, records(1, 3, "a"));
    drop(second);
    let mut third = open(&logs, execution, 3).await;
    assert_eq!(third.last_seq(), 3);
    third.append(records(4, 4, "c")).await.unwrap();
    assert_eq!(read(&logs, execution, 0).await, [records(1, 3, "a"), records(4, 4, "c")].concat());
}

async fn an_open_reader_does_not_see_what_a_stale_worker_appends(logs: Logs) {
    let (execution, mut stale) = filled(&logs, &records(1, 3, "a")).await;
    let mut reader = reader(&logs, execution, 0).await;
    assert_eq!(reader.next(1).await.unwrap(), records(1, 1, "a"));
    let mut second = open(&logs, execution, 2).await;
    let _refused = stale.append(records(4, 5, "stale")).await;
    assert_eq!(rest(&mut reader).await, records(2, 3, "a"));
    let _refused = stale.append(records(6, 6, "stale")).await;
    second.append(records(4, 4, "b")).await.unwrap();
    assert_eq!(rest(&mut reader).await, records(4, 4, "b"));
}

async fn an_epoch_older_than_the_newest_is_refused(logs: Logs) {
    let (execution, _first) = filled(&logs, &records(1, 3, "a")).await;
    open(&logs, execution, 5).await.append(records(4, 4, "b")).await.unwrap();
    assert!(matches!(logs.open(execution, 4).await, Err(StoreError::LeaseLost)));
    assert_eq!(read(&logs, execution, 0).await, [records(1, 3, "a"), records(4, 4, "b")].concat());
}

async fn an_epoch_is_opened_once(logs: Logs) {
    let (execution, mut first) = filled(&logs, &records(1, 3, "a")).await;
    assert!(matches!(logs.open(execution, 1).await, Err(StoreError::Conflict { .. })));
    first.append(records(4, 4, "a")).await.unwrap();
    assert_eq!(read(&logs, execution, 0).await, records(1, 4, "a"));
}

async fn records_that_leave_a_gap_are_refused_and_none_is_kept(logs: Logs) {
    let (execution, mut writer) = filled(&logs, &records(1, 3, "a")).await;
    for bad in [records(5, 5, "bad"), records(3, 4, "bad"), [records(4, 4, "bad"), records(6, 6, "bad")].concat()] {
        assert!(matches!(writer.append(bad).await, Err(StoreError::Backend { .. })));
        assert_eq!(writer.last_seq(), 3);
    }
    writer.append(records(4, 4, "a")).await.unwrap();
    assert_eq!(read(&logs, execution, 0).await, records(1, 4, "a"));
}

async fn a_record_that_is_too_large_is_refused(logs: Logs) {
    let (execution, mut writer) = filled(&logs, &records(1, 1, "a")).await;
    let large = record(3, vec![0; MAX_PAYLOAD + 1]);
    let refused = writer.append(vec![record(2, "bad"), large]).await;
    assert!(matches!(refused, Err(StoreError::Backend { .. })));
    assert_eq!(read(&logs, execution, 0).await, records(1, 1, "a"));
}

async fn an_append_of_nothing_changes_nothing(logs: Logs) {
    let (execution, mut writer) = filled(&logs, &[]).await;
    writer.append(Vec::new()).await.unwrap();
    writer.sync().await.unwrap();
    assert_eq!((writer.last_seq(), read(&logs, execution, 0).await), (0, Vec::new()));
}

async fn what_was_deleted_is_gone_in_all_epochs(logs: Logs) {
    let (execution, _first) = filled(&logs, &records(1, 3, "a")).await;
    open(&logs, execution, 2).await.append(records(4, 4, "b")).await.unwrap();
    let mut reader = reader(&logs, execution, 0).await;
    assert_eq!(reader.next(1).await.unwrap(), records(1, 1, "a"));
    logs.delete(execution).await.unwrap();
    assert_eq!(read(&logs, execution, 0).await, []);
    logs.delete(execution).await.unwrap();
}

async fn deleting_nothing_is_no_error(logs: Logs) {
    logs.delete(ExecutionId::new()).await.unwrap();
}

async fn a_deletion_leaves_other_executions_alone(logs: Logs) {
    let (one, _) = filled(&logs, &records(1, 3, "one")).await;
    let (two, mut writer) = filled(&logs, &records(1, 2, "two")).await;
    logs.delete(one).await.unwrap();
    writer.append(records(3, 3, "two")).await.unwrap();
    assert_eq!(read(&logs, two, 0).await, records(1, 3, "two"));
}
