//! Lines out of pieces of output.

/// A line that is longer is cut into several.
const MAX_LINE: usize = 64 * 1024;

/// The unfinished line of one stream of one step.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    pending: Vec<u8>,
    /// The last byte was a carriage return: a line feed that follows belongs to it.
    after_return: bool,
}

impl Assembler {
    /// Takes a piece and hands on every line that is finished by it, without its end.
    ///
    /// A carriage return ends a line too: what a progress bar paints over is shown line by line.
    pub(super) fn push(&mut self, piece: &[u8], mut line: impl FnMut(&[u8])) {
        if piece.is_empty() {
            return;
        }
        let mut rest = piece;
        if std::mem::take(&mut self.after_return) {
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        while let Some(at) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let (head, tail) = rest.split_at(at);
            self.pending.extend_from_slice(head);
            self.emit(&mut line);
            let (end, after) = tail.split_at(1);
            rest = after;
            if end == b"\r" {
                self.after_return = rest.is_empty();
                rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            }
        }
        self.pending.extend_from_slice(rest);
        while self.pending.len() > MAX_LINE {
            let tail = self.pending.split_off(MAX_LINE);
            self.emit(&mut line);
            self.pending = tail;
        }
    }

    /// Whether a line has begun and not ended.
    pub(super) fn is_partial(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Hands on the unfinished line, if there is one.
    pub(super) fn rest(&mut self, mut line: impl FnMut(&[u8])) {
        if self.is_partial() {
            self.emit(&mut line);
        }
    }

    fn emit(&mut self, line: &mut impl FnMut(&[u8])) {
        line(&self.pending);
        self.pending.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&str]) -> (Vec<String>, bool) {
        let mut assembler = Assembler::default();
        let mut seen = Vec::new();
        for piece in pieces {
            assembler.push(piece.as_bytes(), |line| seen.push(String::from_utf8(line.to_vec()).unwrap()));
        }
        (seen, assembler.is_partial())
    }

    #[test]
    fn pieces_become_lines_wherever_they_are_cut() {
        for (pieces, expected, partial) in [
            (vec!["a\nb\n"], vec!["a", "b"], false),
            (vec!["a", "b\nc"], vec!["ab"], true),
            (vec!["a\r\nb\n"], vec!["a", "b"], false),
            (vec!["a\r", "\nb\n"], vec!["a", "b"], false),
            (vec!["10%\r20%\r"], vec!["10%", "20%"], false),
            (vec!["\n\n"], vec!["", ""], false),
            (vec!["a\r", "", "\n"], vec!["a"], false),
        ] {
            let (seen, rest) = lines(&pieces);
            assert_eq!((seen, rest), (expected.into_iter().map(str::to_owned).collect(), partial), "{pieces:?}");
        }
    }

    #[test]
    fn a_line_without_an_end_is_cut() {
        let (seen, partial) = lines(&["x".repeat(2 * MAX_LINE + 5).as_str()]);
        assert_eq!(seen.iter().map(String::len).collect::<Vec<_>>(), [MAX_LINE, MAX_LINE]);
        assert!(partial);
    }
}
