//! Masking: secrets never leave in output.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::search::Search;
use super::spelling::{MAX_SPELLING, MIN_SECRET, spellings};
use crate::vault::Secret;

/// What is shown in place of a secret.
const MASK: &[u8] = b"***";

/// The secrets of one execution, ready to be searched for. Cheap to clone.
///
/// A secret is recognised as it is, without the white space around it, and each of its lines of 8
/// characters or more by itself. What has 8 characters or more is also recognised in base64 (in all
/// alignments, standard and URL-safe), URL-encoded, and escaped for JSON. Other encodings (hex, base64
/// that is broken into lines, compression …) are not recognised.
///
/// Secrets of fewer than 4 characters are **not** masked, since they are all over any text: callers
/// ask [`too_short`](Self::too_short) and warn or refuse.
#[derive(Clone, Default)]
pub struct SecretSet {
    search: Option<Arc<Search>>,
    too_short: Arc<[usize]>,
}

/// Masks one stream of bytes.
///
/// Every byte that belongs to an occurrence of a secret is hidden, also where occurrences overlap;
/// each run of hidden bytes shows as one `***`. What is shown does not depend on how the stream was
/// cut into chunks.
///
/// Only the longest end of the stream that could begin a secret is [held](Self::held) back, at most
/// 255 bytes, so that a prompt without a newline shows at once.
#[derive(Clone)]
pub struct Masker {
    secrets: SecretSet,
    /// The end of the stream so far, from the first byte on that could begin a secret.
    carry: Bytes,
    /// So many bytes of the carry are known to be hidden, and their mask was shown.
    hidden: usize,
    /// Whether the last byte that was dealt with was hidden.
    hiding: bool,
    /// So many bytes to come, or of the carry, were masked and shown by an earlier masker.
    spent: usize,
}

impl SecretSet {
    /// Prepares secrets for searching.
    #[must_use]
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let (mut all, mut too_short) = (Vec::new(), Vec::new());
        for (index, secret) in secrets.into_iter().enumerate() {
            let spellings = spellings(secret.expose());
            if spellings.is_empty() && !secret.expose().is_empty() {
                too_short.push(index);
            }
            all.extend(spellings);
        }
        Self { search: Search::new(all).map(Arc::new), too_short: too_short.into() }
    }

    /// Which of the secrets, counted from 0 as they were given, are too short to be masked: fewer
    /// than [`MIN_LENGTH`](Self::MIN_LENGTH) characters. Empty ones have nothing to hide and do not count.
    #[must_use]
    pub fn too_short(&self) -> &[usize] {
        &self.too_short
    }

    /// Fewest characters of a secret that is masked.
    pub const MIN_LENGTH: usize = MIN_SECRET;

    /// A masker for a new stream.
    #[must_use]
    pub fn masker(&self) -> Masker {
        self.masker_after(0)
    }

    /// A masker that goes on in a stream of which an earlier one has dealt with a part: of what it is
    /// given, the first `spent` bytes are the last of that part, and are looked at, but not shown again.
    ///
    /// With [`CONTEXT`](Self::CONTEXT) of them, or all there are, it goes on exactly as the earlier one
    /// would have.
    #[must_use]
    pub fn masker_after(&self, spent: usize) -> Masker {
        Masker { secrets: self.clone(), carry: Bytes::new(), hidden: 0, hiding: false, spent }
    }

    /// So many bytes before a place in a stream tell all that matters for what comes after it.
    pub const CONTEXT: usize = MAX_SPELLING;

    /// Masks a whole text, for example an error message.
    #[must_use]
    pub fn mask_text(&self, text: &str) -> String {
        let mut masker = self.masker();
        let mut masked = masker.push(Bytes::copy_from_slice(text.as_bytes())).to_vec();
        masked.extend(masker.finish());
        String::from_utf8_lossy(&masked).into_owned()
    }
}

impl fmt::Debug for SecretSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretSet({} spellings)", self.search.as_ref().map_or(0, |search| search.len()))
    }
}

impl fmt::Debug for Masker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Masker").field("secrets", &self.secrets).field("held", &self.held()).finish()
    }
}

impl Masker {
    /// Takes the next chunk and gives what can be shown of the stream so far.
    ///
    /// Never gives more bytes than it took. Copies nothing where there is nothing to hide.
    #[must_use]
    pub fn push(&mut self, chunk: Bytes) -> Bytes {
        let Some(search) = self.secrets.search.clone() else { return self.unspent(chunk) };
        let text = if self.carry.is_empty() { chunk } else { Bytes::from([&self.carry[..], &chunk].concat()) };
        let scan = scan(&search, &text, false);
        self.carry = Bytes::copy_from_slice(text.get(scan.settled..).unwrap_or_default());
        self.show(&text, &scan)
    }

    /// Ends the stream and gives the rest.
    #[must_use]
    pub fn finish(&mut self) -> Bytes {
        let Some(search) = self.secrets.search.clone() else { return Bytes::new() };
        let text = std::mem::take(&mut self.carry);
        let scan = scan(&search, &text, true);
        self.show(&text, &scan)
    }

    /// So many bytes were taken that are neither shown nor hidden yet.
    #[must_use]
    pub fn held(&self) -> usize {
        self.carry.len() - self.hidden.max(self.spent.min(self.carry.len()))
    }

    /// What was not shown before of bytes that need no masking.
    fn unspent(&mut self, mut bytes: Bytes) -> Bytes {
        let shown_before = bytes.split_to(bytes.len().min(self.spent));
        self.spent -= shown_before.len();
        bytes
    }

    /// Gives the settled part of a text, less what was shown of it before.
    fn show(&mut self, text: &Bytes, scan: &Scan) -> Bytes {
        if self.hidden == 0 && scan.hidden.is_empty() {
            self.hiding &= scan.settled == 0;
            return self.unspent(text.slice(..scan.settled));
        }
        let mut shown = Vec::with_capacity(scan.settled + MASK.len());
        let mut at = self.hidden;
        for hidden in &scan.hidden {
            self.copy(text, at..hidden.start, &mut shown);
            at = at.max(hidden.start);
            self.hide(at..hidden.end, &mut shown);
            at = at.max(hidden.end);
        }
        self.copy(text, at..scan.settled, &mut shown);
        self.hidden = at.saturating_sub(scan.settled);
        self.spent = self.spent.saturating_sub(scan.settled);
        shown.into()
    }

    fn copy(&mut self, text: &[u8], range: Range<usize>, shown: &mut Vec<u8>) {
        if !range.is_empty() {
            self.hiding = false;
            let start = range.start.max(self.spent);
            shown.extend(text.get(start..range.end).unwrap_or_default());
        }
    }

    fn hide(&mut self, range: Range<usize>, shown: &mut Vec<u8>) {
        if !range.is_empty() {
            if !self.hiding && range.start >= self.spent {
                shown.extend(MASK);
            }
            self.hiding = true;
        }
    }
}

/// What is known about a text.
struct Scan {
    /// Where secrets stand, in order.
    hidden: Vec<Range<usize>>,
    /// Where the first byte is of which it is not known yet whether a secret begins there.
    settled: usize,
}

fn scan(search: &Search, text: &[u8], ended: bool) -> Scan {
    let (mut hidden, mut from) = (Vec::<Range<usize>>::new(), 0);
    while let Some((place, found)) = search.find(text, from) {
        let end = place + found.len;
        match hidden.last_mut() {
            Some(last) if place <= last.end => last.end = last.end.max(end),
            _ if found.len > 0 => hidden.push(place..end),
            _ => {}
        }
        if found.open && !ended {
            return Scan { hidden, settled: place };
        }
        from = place + 1;
    }
    Scan { hidden, settled: text.len() }
}

#[cfg(test)]
mod tests;
