//! Reading what a program writes.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use birun_core::execution::{OutputSender, Stream};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::sleep;

use crate::bootstrap::{Opening, Start};

/// As much is read at once as a pipe holds.
const CHUNK: usize = 64 * 1024;
/// A chunk is filled up to here before a new one is begun.
const NEARLY_FULL: usize = CHUNK - 4096;
const GLANCE: Duration = Duration::from_millis(50);

/// Sends on what a program writes, as it writes it.
#[derive(Debug)]
pub(super) struct Pump<'a> {
    output: &'a OutputSender,
    gauge: &'a Gauge,
}

/// Tells whether it is the receiver that is waited for.
#[derive(Debug, Default)]
pub(super) struct Gauge(AtomicUsize);

impl<'a> Pump<'a> {
    pub(super) fn new(output: &'a OutputSender, gauge: &'a Gauge) -> Self {
        Self { output, gauge }
    }

    /// Reads stdout to its end.
    pub(super) async fn stdout(&self, mut pipe: impl AsyncRead + Unpin) -> io::Result<()> {
        let mut chunk = BytesMut::new();
        while read(&mut pipe, &mut chunk).await? {
            self.send(Stream::Stdout, chunk.split().freeze()).await;
        }
        Ok(())
    }

    /// Reads stderr to its end, without the shell's own word, and tells how starting went.
    pub(super) async fn stderr(&self, mut pipe: impl AsyncRead + Unpin, mut opening: Opening) -> io::Result<Start> {
        let mut chunk = BytesMut::new();
        while read(&mut pipe, &mut chunk).await? {
            self.send(Stream::Stderr, opening.push(chunk.split().freeze())).await;
        }
        let (start, rest) = opening.end();
        self.send(Stream::Stderr, rest).await;
        Ok(start)
    }

    /// Sends a chunk on. When nobody takes it, it is dropped: the program is stopped then, and what
    /// it writes until its end must not block it.
    async fn send(&self, stream: Stream, chunk: Bytes) {
        if chunk.is_empty() {
            return;
        }
        self.gauge.0.fetch_add(1, Ordering::Relaxed);
        let sent = self.output.send(stream, chunk).await;
        self.gauge.0.fetch_sub(1, Ordering::Relaxed);
        if sent.is_err() {
            tracing::trace!("output is not taken any more");
        }
    }
}

impl Gauge {
    /// Resolves after `limit`, whatever is read meanwhile; time in which the receiver was behind does
    /// not count, since the program can do nothing about it.
    pub(super) async fn elapsed(&self, limit: Duration) {
        let mut left = limit;
        while !left.is_zero() {
            let pause = left.min(GLANCE);
            sleep(pause).await;
            if self.0.load(Ordering::Relaxed) == 0 {
                left -= pause;
            }
        }
    }
}

/// Reads what there is, but waits for the first byte. False at the end.
async fn read(pipe: &mut (impl AsyncRead + Unpin), chunk: &mut BytesMut) -> io::Result<bool> {
    // Small pieces share an allocation, so that many of them in a queue do not hold one each.
    if chunk.capacity() < CHUNK - NEARLY_FULL {
        chunk.reserve(CHUNK);
    }
    Ok(pipe.read_buf(chunk).await? > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Instant, timeout};

    #[tokio::test(start_paused = true)]
    async fn a_receiver_that_is_behind_is_not_silence_of_the_program() {
        let (output, mut receiver) = OutputSender::channel(1);
        let gauge = Gauge::default();
        let pump = Pump::new(&output, &gauge);
        pump.send(Stream::Stdout, Bytes::from("first")).await;
        let second = pump.send(Stream::Stdout, Bytes::from("second"));
        tokio::pin!(second);
        assert!(timeout(Duration::ZERO, &mut second).await.is_err());
        assert!(timeout(Duration::from_secs(60), gauge.elapsed(Duration::from_secs(1))).await.is_err());
        receiver.recv().await.unwrap();
        second.await;
        let begun = Instant::now();
        gauge.elapsed(Duration::from_secs(1)).await;
        assert!(begun.elapsed() < Duration::from_secs(2));
    }

    #[tokio::test]
    async fn output_that_nobody_takes_does_not_block_the_program() {
        let (output, receiver) = OutputSender::channel(1);
        drop(receiver);
        let gauge = Gauge::default();
        let endless = vec![0; 10 * CHUNK];
        Pump::new(&output, &gauge).stdout(endless.as_slice()).await.unwrap();
        assert_eq!(gauge.0.load(Ordering::Relaxed), 0);
    }
}
