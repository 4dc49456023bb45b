//! Lines out of a body that arrives in pieces.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;

use super::Body;

/// A server says something at least every 15 seconds: one that is silent for so long is not reached.
const SILENCE: Duration = Duration::from_secs(45);

/// Reads a body line by line.
pub(super) struct Lines {
    body: Body,
    buffer: BytesMut,
    /// How much of the buffer holds no line feed.
    searched: usize,
}

impl Lines {
    /// The lines of a body.
    pub(super) fn new(body: Body) -> Self {
        Self { body, buffer: BytesMut::new(), searched: 0 }
    }

    /// The next line without its line feed; `None` after the last. A last line without a line feed
    /// was cut off on the way and is left out.
    ///
    /// # Errors
    /// When the body breaks off, or nothing comes for so long that nobody is there any more.
    pub(super) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(line) = self.take() {
                return Ok(Some(line));
            }
            let next = tokio::time::timeout(SILENCE, self.body.next()).await;
            match next.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk?),
                None => return Ok(None),
            }
        }
    }

    fn take(&mut self) -> Option<Bytes> {
        let found = self.buffer.get(self.searched..)?.iter().position(|byte| *byte == b'\n');
        let Some(at) = found else {
            self.searched = self.buffer.len();
            return None;
        };
        let mut line = self.buffer.split_to(self.searched + at + 1);
        self.searched = 0;
        line.truncate(line.len() - 1);
        Some(line.freeze())
    }
}

#[cfg(test)]
pub(super) fn body_of(chunks: &[&'static str]) -> Body {
    let chunks: Vec<io::Result<Bytes>> = chunks.iter().map(|chunk| Ok(Bytes::from_static(chunk.as_bytes()))).collect();
    futures::stream::iter(chunks).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_do_not_care_where_chunks_end() {
        let mut lines = Lines::new(body_of(&["a", "b\nc\n", "\n", "d", "", "e\nrest"]));
        let mut seen = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            seen.push(String::from_utf8(line.to_vec()).unwrap());
        }
        assert_eq!(seen, ["ab", "c", "", "de"]);
    }
}
