//! The TCP connection under an SSH session: acknowledged at once, listened to, and cut at will.
//!
//! russh owns its stream until its session ends, and during the key exchange that end may never
//! come: a silent peer would hold task and socket for ever. The cut ends both at any moment.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::ssh::phase::Phase;

/// Once so much came in without a word from us it is bulk, where delayed acknowledgements are right.
const BULK: usize = 64 * 1024;

/// A TCP connection that acknowledges small answers at once.
///
/// A server that has not switched Nagle's algorithm off (sshd during sign-in) holds back its second
/// small packet until the first is acknowledged; a delayed acknowledgement costs 40 ms each time.
pub(super) struct Wire {
    tcp: TcpStream,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    ear: Ear,
    awaited: Awaited,
    since_write: usize,
}

/// What the peer owes us before the connection is encrypted.
#[derive(Clone, Debug)]
pub(super) struct Awaited(Arc<AtomicU8>);

impl Awaited {
    /// The phase in which the peer would be found stuck now.
    pub(super) fn phase(&self) -> Phase {
        match self.0.load(Ordering::Relaxed) {
            next if next == Next::Identification as u8 => Phase::Banner,
            next if next == Next::KexInit as u8 => Phase::KexInit,
            next if next == Next::KexReply as u8 => Phase::KexReply,
            _ => Phase::NewKeys,
        }
    }
}

impl Wire {
    /// Takes the connection over; it fails as soon as `cut` is cancelled.
    pub(super) fn new(tcp: TcpStream, cut: &CancellationToken) -> Self {
        Self {
            tcp,
            cut: Box::pin(cut.clone().cancelled_owned()),
            ear: Ear::default(),
            awaited: Awaited(Arc::default()),
            since_write: 0,
        }
    }

    /// Tells, from outside, how far the peer came.
    pub(super) fn awaited(&self) -> Awaited {
        self.awaited.clone()
    }

    fn check_cut(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }

    fn heard(&mut self, bytes: &[u8]) {
        if self.ear.next() != Next::Encrypted {
            bytes.iter().for_each(|byte| self.ear.hear(*byte));
            self.awaited.0.store(self.ear.next() as u8, Ordering::Relaxed);
        }
        self.since_write = self.since_write.saturating_add(bytes.len());
        if self.since_write <= BULK {
            acknowledge(&self.tcp);
        }
    }
}

#[cfg(target_os = "linux")]
fn acknowledge(tcp: &TcpStream) {
    // A refusal costs speed only.
    let _refused = rustix::net::sockopt::set_tcp_quickack(tcp, true);
}

#[cfg(not(target_os = "linux"))]
const fn acknowledge(_: &TcpStream) {}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check_cut(cx)?;
        let before = buf.filled().len();
        let poll = Pin::new(&mut self.tcp).poll_read(cx, buf);
        if let Some(new) = buf.filled().get(before..).filter(|new| !new.is_empty()) {
            self.heard(new);
        }
        poll
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check_cut(cx)?;
        self.since_write = 0;
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// Follows the clear-text part of the protocol just far enough to know what comes next.
#[derive(Debug)]
pub(crate) enum Ear {
    /// Lines before and including the peer's identification.
    Lines(Line),
    /// Packets after that.
    Packets(Packets),
    /// Encrypted from here on.
    Deaf,
}

/// What the peer is to say next, before the connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Next {
    Identification,
    KexInit,
    KexReply,
    NewKeys,
    Encrypted,
}

/// The beginning of a line.
#[derive(Debug, Default)]
pub(crate) struct Line {
    start: [u8; 4],
    len: usize,
}

const KEXINIT: u8 = 20;
const NEWKEYS: u8 = 21;
const KEX_REPLIES: [u8; 2] = [31, 33];

/// A packet's length, padding length and message number; then `skip` bytes of no interest.
#[derive(Debug)]
pub(crate) struct Packets {
    head: [u8; 6],
    filled: usize,
    skip: u32,
    next: Next,
}

impl Default for Ear {
    fn default() -> Self {
        Self::Lines(Line::default())
    }
}

impl Ear {
    /// Takes one byte as it arrives.
    pub(crate) fn hear(&mut self, byte: u8) {
        match self {
            Self::Lines(line) => {
                if line.ends_identification(byte) {
                    *self = Self::Packets(Packets::default());
                }
            }
            Self::Packets(packets) => {
                packets.hear(byte);
                if packets.next == Next::Encrypted && packets.is_between() {
                    *self = Self::Deaf;
                }
            }
            Self::Deaf => {}
        }
    }

    /// What comes next.
    pub(crate) const fn next(&self) -> Next {
        match self {
            Self::Lines(_) => Next::Identification,
            Self::Packets(packets) => packets.next,
            Self::Deaf => Next::Encrypted,
        }
    }

    /// Whether everything heard so far is whole.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) const fn is_between(&self) -> bool {
        match self {
            Self::Packets(packets) => packets.is_between(),
            Self::Lines(_) | Self::Deaf => true,
        }
    }
}

impl Packets {
    fn hear(&mut self, byte: u8) {
        if self.skip > 0 {
            self.skip -= 1;
            return;
        }
        if let Some(slot) = self.head.get_mut(self.filled) {
            *slot = byte;
        }
        self.filled += 1;
        if self.filled == self.head.len() {
            let [a, b, c, d, _, message] = self.head;
            self.filled = 0;
            // The length counts all but itself; two bytes of what it counts are heard already.
            self.skip = u32::from_be_bytes([a, b, c, d]).saturating_sub(2);
            self.next = match message {
                KEXINIT => Next::KexReply,
                NEWKEYS => Next::Encrypted,
                reply if KEX_REPLIES.contains(&reply) => Next::NewKeys,
                _ => self.next,
            };
        }
    }

    const fn is_between(&self) -> bool {
        self.skip == 0 && self.filled == 0
    }
}

impl Default for Packets {
    fn default() -> Self {
        Self { head: [0; 6], filled: 0, skip: 0, next: Next::KexInit }
    }
}

impl Line {
    /// Whether this byte ends a line that began with `SSH-`.
    fn ends_identification(&mut self, byte: u8) -> bool {
        if byte == b'\n' {
            let found = &self.start == b"SSH-";
            *self = Self::default();
            return found;
        }
        if let Some(slot) = self.start.get_mut(self.len) {
            *slot = byte;
            self.len += 1;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(message: u8, payload: usize) -> Vec<u8> {
        let mut bytes = u32::try_from(payload + 2 + 4).unwrap().to_be_bytes().to_vec();
        bytes.extend([4, message]);
        bytes.extend(vec![7; payload + 4]);
        bytes
    }

    fn session() -> Vec<u8> {
        [b"hello\r\nSSH\n".to_vec(), b"SSH-2.0-x\r\n".to_vec(), packet(20, 900), packet(31, 300), packet(21, 0)]
            .concat()
    }

    #[test]
    fn the_ear_knows_what_comes_next() {
        let mut ear = Ear::default();
        let mut seen = vec![ear.next()];
        for byte in session() {
            ear.hear(byte);
            seen.push(ear.next());
        }
        seen.dedup();
        assert_eq!(seen, [Next::Identification, Next::KexInit, Next::KexReply, Next::NewKeys, Next::Encrypted]);
        assert!(matches!(ear, Ear::Deaf));
    }

    #[test]
    fn the_ear_knows_where_packets_end() {
        let mut ear = Ear::default();
        let ends: Vec<bool> = session().into_iter().map(|byte| (ear.hear(byte), ear.is_between()).1).collect();
        let identification = b"hello\r\nSSH\nSSH-2.0-x\r\n".len();
        let (kexinit, reply) = (identification + packet(20, 900).len(), packet(31, 300).len());
        assert!(ends[identification - 1] && ends[kexinit - 1] && ends[kexinit + reply - 1]);
        assert!(!ends[kexinit - 2] && !ends[identification]);
    }

    #[test]
    fn noise_is_no_identification() {
        let mut ear = Ear::default();
        b"HTTP/1.1 400 Bad Request\r\n".repeat(100).into_iter().for_each(|byte| ear.hear(byte));
        assert_eq!(ear.next(), Next::Identification);
    }
}
