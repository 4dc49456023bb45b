use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;

use super::*;
use crate::clock::SystemClock;
use crate::execution::{LogCursor, LogReader, Record, Stream};
use crate::id::{ExecutionId, WorkerId};
use crate::script::OutputPolicy;
use crate::vault::Secret;

/// A log that lets tests decide when an append goes on, and when it fails.
#[derive(Debug)]
struct FakeLogs {
    kept: Mutex<Kept>,
    /// One permit for each append that may go on.
    gate: Semaphore,
}

#[derive(Debug, Default)]
struct Kept {
    opened: u32,
    batches: Vec<Vec<Record>>,
    syncs: Vec<u64>,
    full_after: Option<usize>,
    panics: bool,
}

#[derive(Debug)]
struct FakeWriter(Arc<FakeLogs>, u64);

#[derive(Clone, Debug)]
struct Handle(Arc<FakeLogs>);

impl FakeLogs {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap()
    }

    fn records(&self) -> Vec<Record> {
        self.kept().batches.concat()
    }

    /// The payload of one stream of one step.
    fn text(&self, step: u32, stream: Stream) -> String {
        let records = self.records();
        let payloads = records.iter().filter(|record| (record.step, record.stream) == (step, stream));
        String::from_utf8(payloads.flat_map(|record| record.payload.to_vec()).collect()).unwrap()
    }
}

#[async_trait]
impl LogStore for Handle {
    async fn open(&self, _: ExecutionId, _: u64) -> StoreResult<Box<dyn LogWriter>> {
        self.0.kept().opened += 1;
        Ok(Box::new(FakeWriter(Arc::clone(&self.0), 0)))
    }

    async fn reader(&self, _: ExecutionId, _: LogCursor) -> StoreResult<Box<dyn LogReader>> {
        unreachable!("the pipe does not read")
    }

    async fn delete(&self, _: ExecutionId) -> StoreResult<()> {
        unreachable!("the pipe does not delete")
    }
}

#[async_trait]
impl LogWriter for FakeWriter {
    fn last_seq(&self) -> u64 {
        self.1
    }

    async fn append(&mut self, records: Vec<Record>) -> StoreResult<()> {
        self.0.gate.acquire().await.unwrap().forget();
        assert!(!std::mem::take(&mut self.0.kept().panics), "a fault of the store");
        let mut kept = self.0.kept();
        if kept.full_after.is_some_and(|batches| kept.batches.len() >= batches) {
            return Err(StoreError::Full { source: "no space left".into() });
        }
        for record in &records {
            assert!(
                record.seq == self.1 + 1 && (1..=crate::execution::log::MAX_PAYLOAD).contains(&record.payload.len())
            );
            self.1 = record.seq;
        }
        kept.batches.push(records);
        Ok(())
    }

    async fn sync(&mut self) -> StoreResult<()> {
        self.0.kept().syncs.push(self.1);
        Ok(())
    }
}

const NO_LIMIT: OutputLimit = OutputLimit { bytes: u64::MAX, policy: OutputPolicy::Truncate };

struct Fixture {
    logs: Arc<FakeLogs>,
    moved: Arc<AtomicU64>,
    pipe: OutputPipe,
}

/// A pipe into a log; `appends` may go on at once.
fn fixture(appends: usize, secrets: &[&str]) -> Fixture {
    let logs = Arc::new(FakeLogs { kept: Mutex::default(), gate: Semaphore::new(appends) });
    let moved = Arc::new(AtomicU64::new(0));
    let secrets: Vec<Secret> = secrets.iter().copied().map(Secret::new).collect();
    let lease = Lease { execution: ExecutionId::new(), worker: WorkerId::new(), epoch: 1 };
    let hook = Arc::clone(&moved);
    let pipe = OutputPipe::new(
        Arc::new(Handle(Arc::clone(&logs))),
        lease,
        Arc::new(SystemClock::new()),
        SecretSet::new(&secrets),
        Arc::new(move |seq| hook.store(seq, Ordering::Relaxed)),
    );
    Fixture { logs, moved, pipe }
}

const OPEN: usize = Semaphore::MAX_PERMITS;

async fn send(sender: &OutputSender, text: &'static str) {
    sender.send(Stream::Stdout, Bytes::from_static(text.as_bytes())).await.unwrap();
}

/// Lets other tasks run until a condition holds.
async fn until(condition: impl Fn() -> bool + Send + Sync) {
    let wait = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.expect("the condition came true");
}

/// The totals, or why the output could not be stored.
async fn finished(tap: StepTap) -> StoreResult<StepOutput> {
    let (output, stored) = tap.finish().await;
    stored.map(|()| output)
}

#[tokio::test]
async fn a_step_without_output_opens_and_syncs_nothing() {
    let Fixture { logs, pipe, .. } = fixture(OPEN, &[]);
    let (sender, tap) = pipe.step(0, NO_LIMIT);
    sender.send(Stream::Stdout, Bytes::new()).await.unwrap();
    assert_eq!(finished(tap).await.unwrap(), StepOutput::default());
    assert_eq!(logs.kept().opened, 0);
}

#[tokio::test]
async fn what_a_step_wrote_is_synced_before_it_finishes() {
    let Fixture { logs, moved, pipe } = fixture(OPEN, &[]);
    let (sender, tap) = pipe.step(3, NO_LIMIT);
    send(&sender, "hello").await;
    sender.send(Stream::Stderr, Bytes::from_static(b"oh")).await.unwrap();
    let output = finished(tap).await.unwrap();
    assert_eq!(output, StepOutput { bytes: 7, dropped: 0, limit_hit: false });
    assert_eq!((logs.text(3, Stream::Stdout), logs.text(3, Stream::Stderr)), ("hello".into(), "oh".into()));
    assert_eq!(moved.load(Ordering::Relaxed), 2);
    let kept = logs.kept();
    assert_eq!((kept.opened, kept.syncs.as_slice()), (1, [2].as_slice()));
}

#[tokio::test]
async fn a_lone_chunk_is_written_without_delay() {
    let Fixture { logs, moved, pipe } = fixture(OPEN, &[]);
    let (sender, _tap) = pipe.step(0, NO_LIMIT);
    for (index, text) in (1..).zip(["Password: ", "again: "]) {
        send(&sender, text).await;
        until(|| moved.load(Ordering::Relaxed) == index).await;
    }
    assert_eq!(logs.records().len(), 2);
}

#[tokio::test]
async fn small_chunks_that_wait_are_joined_and_keep_their_order() {
    let Fixture { logs, pipe, .. } = fixture(0, &[]);
    let (one, one_tap) = pipe.step(1, NO_LIMIT);
    let (two, two_tap) = pipe.step(2, NO_LIMIT);
    send(&one, "first").await;
    until(|| logs.kept().opened == 1).await;
    for _ in 0..100 {
        send(&one, "a").await;
        send(&two, "b").await;
    }
    one.send(Stream::Stderr, Bytes::from_static(b"!")).await.unwrap();
    send(&one, "c").await;
    logs.gate.add_permits(OPEN);
    finished(one_tap).await.unwrap();
    finished(two_tap).await.unwrap();
    let shape: Vec<_> = logs.records().iter().map(|r| (r.step, r.stream, r.payload.len(), r.raw_end)).collect();
    let (out, err) = (Stream::Stdout, Stream::Stderr);
    assert_eq!(shape, [(1, out, 5, 5), (1, out, 100, 105), (2, out, 100, 100), (1, err, 1, 1), (1, out, 1, 106)]);
}

#[tokio::test]
async fn large_chunks_become_records_of_the_largest_size() {
    let Fixture { logs, pipe, .. } = fixture(OPEN, &[]);
    let (sender, tap) = pipe.step(0, NO_LIMIT);
    sender.send(Stream::Stdout, Bytes::from(vec![b'x'; 10_000_000])).await.unwrap();
    assert_eq!(finished(tap).await.unwrap().bytes, 10_000_000);
    let records = logs.records();
    assert_eq!(records.iter().map(|record| record.payload.len()).sum::<usize>(), 10_000_000);
    assert_eq!(records.len(), 10_000_000_usize.div_ceil(64 * 1024));
}

#[tokio::test]
async fn a_slow_store_slows_the_sender_down() {
    let Fixture { logs, pipe, .. } = fixture(0, &[]);
    let (sender, tap) = pipe.step(0, NO_LIMIT);
    let sent = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&sent);
    let task = tokio::spawn(async move {
        for _ in 0..100 {
            sender.send(Stream::Stdout, Bytes::from(vec![0; 64 * 1024])).await.unwrap();
            counter.fetch_add(64 * 1024, Ordering::Relaxed);
        }
    });
    until(|| sent.load(Ordering::Relaxed) == BUDGET as u64).await;
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(sent.load(Ordering::Relaxed), BUDGET as u64);
    logs.gate.add_permits(OPEN);
    task.await.unwrap();
    assert_eq!(finished(tap).await.unwrap().bytes, 100 * 64 * 1024);
}

#[tokio::test]
async fn tiny_chunks_are_bounded_too() {
    let Fixture { logs, pipe, .. } = fixture(0, &[]);
    let (sender, _tap) = pipe.step(0, NO_LIMIT);
    let (mut sent, mut stuck) = (0, false);
    while !stuck {
        let one = sender.send(Stream::Stdout, Bytes::from_static(b"x"));
        stuck = tokio::time::timeout(Duration::from_millis(50), one).await.is_err();
        sent += usize::from(!stuck);
    }
    assert_eq!(sent, BUDGET / MIN_CHARGE);
    assert_eq!(logs.records().len(), 0);
}

#[tokio::test]
async fn secrets_are_masked_byte_by_byte_on_both_streams() {
    let Fixture { logs, pipe, .. } = fixture(OPEN, &["hunter2-canary"]);
    let (sender, tap) = pipe.step(0, NO_LIMIT);
    for byte in b"<hunter2-canary><hunter2-can" {
        for stream in [Stream::Stdout, Stream::Stderr] {
            sender.send(stream, Bytes::copy_from_slice(&[*byte])).await.unwrap();
        }
    }
    assert_eq!(finished(tap).await.unwrap().bytes, 56);
    for stream in [Stream::Stdout, Stream::Stderr] {
        assert_eq!(logs.text(0, stream), "<***><hunter2-can");
        assert_eq!(logs.records().iter().rfind(|record| record.stream == stream).unwrap().raw_end, 28);
    }
}

#[tokio::test]
async fn beyond_the_limit_the_middle_is_cut_and_counted() {
    let Fixture { logs, pipe, .. } = fixture(OPEN, &[]);
    let (sender, tap) = pipe.step(0, OutputLimit { bytes: 1000, policy: OutputPolicy::Truncate });
    let text: Vec<u8> = (0..200_000_u32).flat_map(|n| format!("{n}\n").into_bytes()).collect();
    for chunk in text.chunks(3000) {
        sender.send(Stream::Stdout, Bytes::copy_from_slice(chunk)).await.unwrap();
    }
    let output = finished(tap).await.unwrap();
    let dropped = text.len() as u64 - 1000 - 64 * 1024;
    assert_eq!(output, StepOutput { bytes: text.len() as u64, dropped, limit_hit: false });
    let kept = logs.text(0, Stream::Stdout).into_bytes();
    assert_eq!((&kept[..1000], &kept[1000..]), (&text[..1000], &text[text.len() - 64 * 1024..]));
    assert_eq!(logs.text(0, Stream::System), format!("[birun: {dropped} bytes cut here]\n"));
    let order: Vec<Stream> =
        logs.records().iter().map(|record| record.stream).skip_while(|s| *s == Stream::Stdout).collect();
    assert_eq!(order[0], Stream::System);
    assert!(order[1..].iter().all(|stream| *stream == Stream::Stdout));
}

#[tokio::test]
async fn a_policy_to_fail_tells_the_owner_at_the_limit() {
    let Fixture { pipe, .. } = fixture(OPEN, &[]);
    let (sender, tap) = pipe.step(0, OutputLimit { bytes: 5, policy: OutputPolicy::Fail });
    send(&sender, "12345").await;
    assert!(tap.limit_hit().now_or_never().is_none());
    send(&sender, "6").await;
    tap.limit_hit().await;
    assert_eq!(finished(tap).await.unwrap(), StepOutput { bytes: 6, dropped: 0, limit_hit: true });
}

#[tokio::test]
async fn when_the_store_is_full_senders_hear_it_and_every_step_ends_with_the_error() {
    let Fixture { logs, pipe, .. } = fixture(OPEN, &[]);
    logs.kept().full_after = Some(1);
    let (one, one_tap) = pipe.step(1, NO_LIMIT);
    let (two, two_tap) = pipe.step(2, NO_LIMIT);
    let (_silent, silent_tap) = pipe.step(3, NO_LIMIT);
    send(&one, "kept").await;
    until(|| logs.kept().batches.len() == 1).await;
    send(&one, "lost").await;
    two.closed().await;
    assert_eq!(two.send(Stream::Stdout, Bytes::from_static(b"x")).await, Err(OutputClosed));
    let (output, stored) = one_tap.finish().await;
    assert!(matches!(stored, Err(StoreError::Full { .. })));
    assert_eq!(output.bytes, 8, "what the process wrote is known all the same");
    for tap in [two_tap, silent_tap] {
        assert!(matches!(finished(tap).await, Err(StoreError::Full { .. })));
    }
    assert_eq!(logs.text(1, Stream::Stdout), "kept");
}

#[tokio::test]
async fn a_sender_that_waits_is_released_when_the_store_fails() {
    let Fixture { logs, pipe, .. } = fixture(0, &[]);
    logs.kept().full_after = Some(0);
    let (sender, tap) = pipe.step(0, NO_LIMIT);
    let waits = tokio::spawn(async move { sender.send(Stream::Stdout, Bytes::from(vec![0; 2 * BUDGET])).await });
    until(|| logs.kept().opened == 1).await;
    logs.gate.add_permits(OPEN);
    assert_eq!(waits.await.unwrap(), Err(OutputClosed));
    assert!(matches!(finished(tap).await, Err(StoreError::Full { .. })));
}

#[tokio::test]
async fn a_store_that_panics_has_failed_and_keeps_nobody_waiting() {
    let Fixture { logs, pipe, .. } = fixture(OPEN, &[]);
    logs.kept().panics = true;
    let (sender, tap) = pipe.step(0, NO_LIMIT);
    let (waiting, waiting_tap) = pipe.step(1, NO_LIMIT);
    send(&sender, "lost").await;
    sender.closed().await;
    assert_eq!(waiting.send(Stream::Stdout, Bytes::from_static(b"x")).await, Err(OutputClosed));
    for tap in [tap, waiting_tap] {
        let Err(StoreError::Backend { source, .. }) = finished(tap).await else { panic!("it is no error") };
        assert_eq!(source.to_string(), "it panicked: a fault of the store");
    }
}

#[tokio::test]
async fn after_its_end_a_step_takes_nothing() {
    let Fixture { logs, pipe, .. } = fixture(OPEN, &[]);
    let (sender, tap) = pipe.step(0, NO_LIMIT);
    send(&sender, "kept").await;
    finished(tap).await.unwrap();
    assert_eq!(sender.send(Stream::Stdout, Bytes::from_static(b"late")).await, Err(OutputClosed));
    assert_eq!(logs.text(0, Stream::Stdout), "kept");
}

#[tokio::test]
async fn a_dropped_pipe_takes_nothing_more() {
    let Fixture { logs, pipe, .. } = fixture(OPEN, &[]);
    let (sender, tap) = pipe.step(0, NO_LIMIT);
    drop(pipe);
    sender.closed().await;
    assert_eq!(sender.send(Stream::Stdout, Bytes::from_static(b"late")).await, Err(OutputClosed));
    assert!(finished(tap).await.is_err());
    assert_eq!(logs.kept().opened, 0);
}

#[tokio::test]
async fn a_closed_pipe_takes_nothing() {
    let (sender, tap) = OutputPipe::closed().step(0, NO_LIMIT);
    assert_eq!(sender.send(Stream::Stdout, Bytes::from_static(b"x")).await, Err(OutputClosed));
    assert_eq!(finished(tap).await.unwrap(), StepOutput::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_steps_write_at_once_and_nothing_is_lost() {
    let Fixture { logs, pipe, .. } = fixture(OPEN, &[]);
    let mut tasks = tokio::task::JoinSet::new();
    for step in 0..50 {
        let (sender, tap) = pipe.step(step, NO_LIMIT);
        tasks.spawn(async move {
            for n in 0..200 {
                sender.send(Stream::Stdout, format!("{n} ").into()).await.unwrap();
            }
            finished(tap).await.unwrap();
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let expected: String = (0..200).map(|n| format!("{n} ")).collect();
    for step in 0..50 {
        assert_eq!(logs.text(step, Stream::Stdout), expected, "step {step}");
    }
}
