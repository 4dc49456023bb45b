//! The limit of a step's output: the beginning and the end are kept, the middle is cut out.

use std::collections::VecDeque;

use bytes::Bytes;
use chrono::{DateTime, Utc};

use crate::execution::Stream;
use crate::execution::log::MAX_PAYLOAD;

/// So many bytes at the end are kept, whatever the limit.
const TAIL: usize = 64 * 1024;

/// A part of a step's output, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) stream: Stream,
    pub(super) at: DateTime<Utc>,
    /// Bytes of the stream up to the end of this part, before masking.
    pub(super) raw_end: u64,
    pub(super) bytes: Bytes,
}

/// Lets a step's output pass up to a limit, and keeps the last of what comes beyond.
#[derive(Debug)]
pub(super) struct Cut {
    /// Bytes that may still pass.
    room: u64,
    /// The bytes of the tail, without gaps; `marks` tell what they are.
    tail: VecDeque<u8>,
    marks: VecDeque<Mark>,
    dropped: u64,
    exceeded: bool,
}

/// What a stretch of the tail is.
#[derive(Debug)]
struct Mark {
    stream: Stream,
    at: DateTime<Utc>,
    raw_end: u64,
    len: usize,
}

impl Cut {
    pub(super) const fn new(limit: u64) -> Self {
        Self { room: limit, tail: VecDeque::new(), marks: VecDeque::new(), dropped: 0, exceeded: false }
    }

    /// What passes of a part, if anything does.
    pub(super) fn take(&mut self, mut part: Part) -> Option<Part> {
        let room = usize::try_from(self.room).unwrap_or(usize::MAX);
        let beyond = part.bytes.split_off(part.bytes.len().min(room));
        self.room -= part.bytes.len() as u64;
        if !beyond.is_empty() {
            self.exceeded = true;
            self.keep(part.stream, part.at, part.raw_end, &beyond);
            // Exact, unless a secret was masked in the bytes beyond.
            part.raw_end -= beyond.len() as u64;
        }
        (!part.bytes.is_empty()).then_some(part)
    }

    /// Whether anything came beyond the limit.
    pub(super) const fn exceeded(&self) -> bool {
        self.exceeded
    }

    /// So many bytes were cut out.
    pub(super) const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The kept tail, which is empty afterwards.
    pub(super) fn end(&mut self) -> Vec<Part> {
        let (marks, tail) = (&mut self.marks, &mut self.tail);
        let part = |Mark { stream, at, raw_end, len }| Part { stream, at, raw_end, bytes: tail.drain(..len).collect() };
        marks.drain(..).map(part).collect()
    }

    fn keep(&mut self, stream: Stream, at: DateTime<Utc>, raw_end: u64, bytes: &[u8]) {
        self.tail.extend(bytes);
        match self.marks.back_mut() {
            Some(last) if last.stream == stream && last.len + bytes.len() <= MAX_PAYLOAD => {
                last.len += bytes.len();
                last.raw_end = raw_end;
            }
            _ => self.marks.push_back(Mark { stream, at, raw_end, len: bytes.len() }),
        }
        self.trim();
    }

    /// Drops what is too much, from the front.
    fn trim(&mut self) {
        let mut excess = self.tail.len().saturating_sub(TAIL);
        self.dropped += excess as u64;
        self.tail.drain(..excess);
        while let Some(first) = self.marks.front_mut().filter(|_| excess > 0) {
            let cut = excess.min(first.len);
            first.len -= cut;
            excess -= cut;
            if first.len == 0 {
                self.marks.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(stream: Stream, raw_end: u64, bytes: impl Into<Bytes>) -> Part {
        Part { stream, at: DateTime::UNIX_EPOCH, raw_end, bytes: bytes.into() }
    }

    /// Feeds parts of one stream and gives what passed, what was dropped, and the tail.
    fn run(limit: u64, parts: &[Vec<u8>]) -> (Vec<u8>, u64, Vec<u8>) {
        let (mut cut, mut passed, mut raw) = (Cut::new(limit), Vec::new(), 0);
        for bytes in parts {
            raw += bytes.len() as u64;
            if let Some(part) = cut.take(part(Stream::Stdout, raw, bytes.clone())) {
                passed.extend(&part.bytes);
                assert_eq!(part.raw_end, passed.len() as u64);
            }
        }
        let mut end = passed.len() as u64 + cut.dropped();
        let tail = cut.end();
        for part in &tail {
            end += part.bytes.len() as u64;
            assert_eq!(part.raw_end, end);
            assert!(part.bytes.len() <= MAX_PAYLOAD);
        }
        (passed, cut.dropped(), tail.into_iter().flat_map(|part| part.bytes).collect())
    }

    #[test]
    fn what_fits_passes_whole() {
        assert_eq!(run(6, &[b"abc".into(), b"def".into()]), (b"abcdef".into(), 0, vec![]));
    }

    #[test]
    fn a_little_beyond_the_limit_loses_nothing() {
        assert_eq!(run(4, &[b"abc".into(), b"def".into()]), (b"abcd".into(), 0, b"ef".into()));
    }

    #[test]
    fn the_tail_keeps_the_order_of_both_streams() {
        let mut cut = Cut::new(0);
        for (stream, text) in [(Stream::Stdout, "a"), (Stream::Stderr, "b"), (Stream::Stdout, "c")] {
            assert_eq!(cut.take(part(stream, 1, text)), None);
        }
        let tail: Vec<_> = cut.end().into_iter().map(|part| (part.stream, part.bytes)).collect();
        assert_eq!(tail, [(Stream::Stdout, "a".into()), (Stream::Stderr, "b".into()), (Stream::Stdout, "c".into())]);
    }

    proptest! {
        #[test]
        fn head_and_count_and_tail_make_up_the_input(
            limit in 0_u64..100_000,
            sizes in prop::collection::vec(prop_oneof![0_usize..5, 1000_usize..70_000], 0..12),
        ) {
            let mut byte = 0_u8;
            let mut next = || { byte = byte.wrapping_mul(5).wrapping_add(17); byte };
            let parts: Vec<Vec<u8>> = sizes.iter().map(|size| (0..*size).map(|_| next()).collect()).collect();
            let input = parts.concat();
            let (head, dropped, tail) = run(limit, &parts);
            let head_len = input.len().min(usize::try_from(limit).unwrap());
            prop_assert_eq!(&head, &input[..head_len]);
            prop_assert_eq!(&tail, &input[input.len().saturating_sub(TAIL).max(head_len)..]);
            prop_assert_eq!(head.len() as u64 + dropped + tail.len() as u64, input.len() as u64);
        }
    }
}
