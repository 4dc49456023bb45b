//! Lists of placeholders.

use std::fmt::Write as _;

/// `($1, $2), ($3, $4)` for `rows` rows of `columns` columns, counting from `first`.
pub(crate) fn values(first: usize, columns: usize, rows: usize) -> String {
    let mut out = String::with_capacity(rows * columns * 6);
    for row in 0..rows {
        out.push_str(if row == 0 { "(" } else { ", (" });
        out.push_str(&placeholders(first + row * columns, columns));
        out.push(')');
    }
    out
}

/// `$1, $2, …`: so many, counting from `first`.
pub(crate) fn placeholders(first: usize, count: usize) -> String {
    let mut out = String::with_capacity(count * 6);
    for index in first..first + count {
        let comma = if index == first { "" } else { ", " };
        // Writing into a String cannot fail.
        let _: Result<(), _> = write!(out, "{comma}${index}");
    }
    out
}

/// Rows written in one statement. Few sizes, so that each statement stays prepared.
const SIZES: [usize; 5] = [256, 64, 16, 4, 1];

/// Cuts rows into pieces of few different sizes.
pub(crate) fn chunks<T>(mut rows: &[T]) -> Vec<&[T]> {
    let mut chunks = Vec::new();
    for size in SIZES {
        while let Some((chunk, rest)) = rows.split_at_checked(size) {
            chunks.push(chunk);
            rows = rest;
        }
    }
    chunks
}

/// The list, filled up to a power of two by repeating its last item: so a statement with
/// `IN (…)` has few different texts, and each stays prepared.
pub(crate) fn padded<T: Clone>(mut items: Vec<T>) -> Vec<T> {
    if let Some(last) = items.last().cloned() {
        items.resize(items.len().next_power_of_two(), last);
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_count_on() {
        assert_eq!(placeholders(3, 2), "$3, $4");
        assert_eq!(values(2, 2, 2), "($2, $3), ($4, $5)");
    }

    #[test]
    fn chunks_hold_every_row_once() {
        let rows: Vec<u32> = (0..600).collect();
        let chunks = chunks(&rows);
        assert_eq!(chunks.iter().map(|chunk| chunk.len()).collect::<Vec<_>>(), [256, 256, 64, 16, 4, 4]);
        assert_eq!(chunks.concat(), rows);
    }

    #[test]
    fn lists_are_filled_up() {
        assert_eq!(padded(vec![1, 2, 3]), [1, 2, 3, 3]);
        assert!(padded(Vec::<i32>::new()).is_empty());
    }
}
