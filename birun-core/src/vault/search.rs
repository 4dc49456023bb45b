//! Finding secrets in bytes, fast where there are none.
//!
//! Every spelling has at least [`GRAM`] bytes. Wherever one stands, every window of `GRAM` bytes in
//! it is one of its *grams*; so it is enough to look at every `stride`-th window of the text, with
//! `stride` as large as the shortest spelling allows, and to ask a bit table whether it is a gram of
//! the first bytes of any spelling. That asks once for several bytes, independently of how many
//! spellings there are; only where the answer is yes, the spellings themselves are compared.

use super::spelling::Spelling;

/// Bytes of a window. No spelling is shorter: it has four characters or more.
const GRAM: usize = 4;
/// Beyond this, a longer stride gains little, and fills the table.
const MAX_STRIDE: usize = 8;

/// Spellings of secrets, prepared for searching.
pub(super) struct Search {
    /// Sorted, without doubles.
    spellings: Vec<Spelling>,
    /// The grams that a spelling may show at one of the places that are looked at.
    grams: GramSet,
    /// The grams that spellings begin with.
    heads: GramSet,
    stride: usize,
}

/// What begins at a place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Length of the longest spelling that stands there; 0 if none does.
    pub(super) len: usize,
    /// Whether the text ends before a longer one could be told from something else.
    pub(super) open: bool,
}

impl Search {
    /// Prepares spellings; `None` if there are none.
    pub(super) fn new(mut spellings: Vec<Spelling>) -> Option<Self> {
        spellings.sort_unstable_by(|a, b| a.as_slice().cmp(b));
        spellings.dedup_by(|a, b| a.as_slice() == b.as_slice());
        let shortest = spellings.iter().map(|spelling| spelling.len()).min()?;
        let stride = (shortest - GRAM + 1).min(MAX_STRIDE);
        let (mut grams, mut heads) = (GramSet::new(), GramSet::new());
        for spelling in &spellings {
            spelling.windows(GRAM).take(stride).for_each(|gram| grams.insert(gram));
            spelling.windows(GRAM).take(1).for_each(|gram| heads.insert(gram));
        }
        Some(Self { spellings, grams, heads, stride })
    }

    /// Number of spellings.
    pub(super) fn len(&self) -> usize {
        self.spellings.len()
    }

    /// The spellings, for tests to search for plainly.
    #[cfg(test)]
    pub(super) fn spellings(&self) -> &[Spelling] {
        &self.spellings
    }

    /// The next place, from `from` on, where a spelling stands or may stand.
    pub(super) fn find(&self, text: &[u8], mut from: usize) -> Option<(usize, Found)> {
        loop {
            let place = self.candidate(text, from)?;
            let found = self.look(text.get(place..)?);
            if found.len > 0 || found.open {
                return Some((place, found));
            }
            from = place + 1;
        }
    }

    /// The next place that is worth a look.
    fn candidate(&self, text: &[u8], mut from: usize) -> Option<usize> {
        loop {
            let rest = text.get(from..)?;
            let mut looked_at = rest.windows(GRAM).skip(self.stride - 1).step_by(self.stride);
            let Some(hit) = looked_at.position(|gram| self.grams.contains(gram)) else {
                return self.after_last_window(rest, from);
            };
            let block = from + hit * self.stride;
            let places = text.get(block..block + self.stride + GRAM - 1)?;
            if let Some(head) = places.windows(GRAM).position(|gram| self.heads.contains(gram)) {
                return Some(block + head);
            }
            from = block + self.stride;
        }
    }

    /// The first place behind those that the windows of `rest` speak for. All that can be there is
    /// the beginning of a spelling.
    fn after_last_window(&self, rest: &[u8], from: usize) -> Option<usize> {
        let windows = (rest.len() + 1).saturating_sub(GRAM);
        let spoken_for = windows - windows % self.stride;
        (spoken_for < rest.len()).then_some(from + spoken_for)
    }

    /// What stands at the beginning of `rest`.
    fn look(&self, rest: &[u8]) -> Found {
        let head = rest.get(..GRAM).unwrap_or(rest);
        let first = self.spellings.partition_point(|spelling| spelling.as_slice() < head);
        let mut found = Found::default();
        for spelling in self.spellings.iter().skip(first).take_while(|spelling| spelling.starts_with(head)) {
            if rest.starts_with(spelling) {
                found.len = spelling.len();
            } else if spelling.starts_with(rest) {
                // Sorted as they are, no later one is a beginning of `rest`.
                found.open = true;
                break;
            }
        }
        found
    }
}

/// A set of windows that may claim to contain more than was put into it.
struct GramSet(Box<[u64; 1024]>);

impl GramSet {
    fn new() -> Self {
        Self(Box::new([0; 1024]))
    }

    fn insert(&mut self, gram: &[u8]) {
        let (word, bit) = Self::slot(gram);
        if let Some(word) = self.0.get_mut(word) {
            *word |= bit;
        }
    }

    fn contains(&self, gram: &[u8]) -> bool {
        let (word, bit) = Self::slot(gram);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Where a window's bit is: the upper 16 bits of a multiplicative hash.
    fn slot(gram: &[u8]) -> (usize, u64) {
        let number = gram.try_into().map(u32::from_le_bytes).unwrap_or_default();
        let hash = number.wrapping_mul(0x9E37_79B1) >> 16;
        ((hash >> 6) as usize, 1 << (hash & 63))
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    fn search(spellings: &[&str]) -> Search {
        Search::new(spellings.iter().map(|text| Zeroizing::new(text.as_bytes().to_vec())).collect()).unwrap()
    }

    #[test]
    fn a_spelling_is_found_at_every_place_of_a_text() {
        for spelling in ["abcd", "abcde", "0123456789", "a rather long one that exceeds the stride"] {
            for before in 0..40 {
                for after in 0..20 {
                    let text = format!("{}{spelling}{}", "-".repeat(before), "-".repeat(after));
                    let found = search(&[spelling]).find(text.as_bytes(), 0);
                    assert_eq!(found, Some((before, Found { len: spelling.len(), open: false })), "{text}");
                }
            }
        }
    }

    #[test]
    fn every_beginning_at_the_end_of_a_text_is_open() {
        for spelling in ["abcd", "0123456789", "a rather long one that exceeds the stride"] {
            for before in 0..20 {
                for len in 1..spelling.len() {
                    let text = format!("{}{}", "-".repeat(before), &spelling[..len]);
                    let found = search(&[spelling]).find(text.as_bytes(), 0);
                    assert_eq!(found, Some((before, Found { len: 0, open: true })), "{text}");
                }
            }
        }
    }

    #[test]
    fn the_longest_is_found_and_a_still_longer_one_is_open() {
        let search = search(&["abcd", "abcdef", "abcdefgh", "cdef", "abcdeX"]);
        assert_eq!(search.find(b"abcdefg", 0), Some((0, Found { len: 6, open: true })));
        assert_eq!(search.find(b"abcdefg-", 0), Some((0, Found { len: 6, open: false })));
        assert_eq!(search.find(b"abcdefg-", 1), Some((2, Found { len: 4, open: false })));
        assert_eq!(search.find(b"abcdefg-", 3), None);
        assert_eq!(search.find(b"abcdefg-", 8), None);
    }
}
