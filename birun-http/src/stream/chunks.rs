//! Bytes on their way out: small ones gathered, large ones passed on as they are.

use std::collections::VecDeque;

use bytes::Bytes;

/// Gathered bytes are sent on when there are so many.
const ENOUGH: usize = 64 * 1024;
/// From this size on, bytes are passed on instead of copied.
const LARGE: usize = 16 * 1024;

/// What was encoded and not yet sent.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    ready: VecDeque<Bytes>,
    gathered: Vec<u8>,
}

impl Chunks {
    /// Adds bytes that exist already.
    pub(crate) fn push(&mut self, bytes: Bytes) {
        if bytes.len() < LARGE {
            self.write(|gathered| gathered.extend_from_slice(&bytes));
        } else {
            self.seal();
            self.ready.push_back(bytes);
        }
    }

    /// Lets `write` add bytes at the end.
    pub(crate) fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.gathered);
        if self.gathered.len() >= ENOUGH {
            self.seal();
        }
    }

    /// The next chunk to be sent.
    pub(crate) fn next(&mut self) -> Option<Bytes> {
        if self.ready.is_empty() {
            self.seal();
        }
        self.ready.pop_front()
    }

    fn seal(&mut self) {
        if !self.gathered.is_empty() {
            self.ready.push_back(Bytes::from(std::mem::take(&mut self.gathered)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_become_one_chunk_and_large_ones_are_not_copied() {
        let mut chunks = Chunks::default();
        chunks.push(Bytes::from_static(b"a"));
        chunks.push(Bytes::from_static(b"b"));
        let large = Bytes::from(vec![b'x'; LARGE]);
        chunks.push(large.clone());
        chunks.push(Bytes::from_static(b"c"));
        assert_eq!(chunks.next().unwrap(), "ab");
        assert_eq!(chunks.next().unwrap().as_ptr(), large.as_ptr());
        assert_eq!(chunks.next().unwrap(), "c");
        assert_eq!(chunks.next(), None);
    }

    #[test]
    fn gathered_bytes_are_cut_when_there_are_enough() {
        let mut chunks = Chunks::default();
        for _ in 0..ENOUGH {
            chunks.write(|gathered| gathered.extend_from_slice(b"xy"));
        }
        assert_eq!(chunks.next().unwrap().len(), ENOUGH);
        assert_eq!(chunks.next().unwrap().len(), ENOUGH);
        assert_eq!(chunks.next(), None);
    }
}
