//! A sign in a stream of bytes, found in whatever pieces it comes.

use bytes::{Bytes, BytesMut};

/// Looks for a sign, and holds back only what may be the beginning of it.
#[derive(Debug)]
pub(crate) struct Sign {
    text: Vec<u8>,
    held: BytesMut,
}

impl Sign {
    pub(crate) fn new(text: impl Into<Vec<u8>>) -> Self {
        Self { text: text.into(), held: BytesMut::new() }
    }

    /// Takes the next bytes and gives those that come before the sign.
    pub(crate) fn push(&mut self, chunk: Bytes) -> Bytes {
        if self.held.is_empty() && self.clear_of_sign(&chunk) == chunk.len() {
            return chunk;
        }
        self.held.extend_from_slice(&chunk);
        let clear = self.clear_of_sign(&self.held);
        self.held.split_to(clear).freeze()
    }

    /// What follows the sign, once it was found.
    pub(crate) fn found(&self) -> Option<&[u8]> {
        self.held.strip_prefix(self.text.as_slice())
    }

    /// Keeps no more than this of what follows the sign.
    pub(crate) fn keep(&mut self, most: usize) {
        if self.found().is_some_and(|after| after.len() > most) {
            self.held.truncate(self.text.len() + most);
        }
    }

    /// Everything that is held back: the sign first, if it was found.
    pub(crate) fn into_held(self) -> BytesMut {
        self.held
    }

    /// How many bytes can be neither the sign nor its beginning.
    fn clear_of_sign(&self, bytes: &[u8]) -> usize {
        let Some(first) = self.text.first() else { return 0 };
        let mut at = 0;
        while let Some(found) = bytes.get(at..).and_then(|rest| rest.iter().position(|byte| byte == first)) {
            at += found;
            let rest = bytes.get(at..).unwrap_or_default();
            if rest.starts_with(&self.text) || self.text.starts_with(rest) {
                return at;
            }
            at += 1;
        }
        bytes.len()
    }
}
