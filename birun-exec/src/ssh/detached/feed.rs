//! What a follower says on its two streams.

use birun_core::execution::Stream;
use birun_core::id::StepId;
use bytes::Bytes;

use super::texts::Name;
use crate::bootstrap::{Opening, Sign, Start};

/// A word is not read beyond this.
const LONGEST_WORD: usize = 256;

/// Takes a follower's streams apart: what the login shell said before it, the program's output, and the
/// follower's own words.
#[derive(Debug)]
pub(super) struct Feed {
    name: Name,
    stdout: Option<Sign>,
    stderr: Option<Sign>,
    /// How the program was started, as its shell told.
    opening: Opening,
    /// Stands before the last word.
    last: Sign,
}

/// A piece of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Piece {
    /// From before the follower began.
    pub(super) noise: Bytes,
    /// Of the program.
    pub(super) output: Bytes,
}

/// What a follower ended with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// The program has ended, and so much output was kept; of these streams not all.
    Exit { code: i32, signal: Option<String>, stdout: u64, stderr: u64, cut: Vec<Stream> },
    /// The program has ended, and something holds its output open.
    Lingers { code: i32 },
    /// There is no such run. The server has been up for so many seconds, if it tells.
    Gone { uptime: Option<u64> },
    /// The server was started again while the program ran.
    Rebooted,
    /// The program ended, and nobody wrote down how.
    Dead,
    /// The output could not be read.
    Stuck,
}

impl Feed {
    pub(super) fn new(step: StepId, name: Name) -> Self {
        let begin = || Some(Sign::new(format!("birun:{name}:begin\n")));
        let last = Sign::new(format!("birun:{name}:"));
        Self { stdout: begin(), stderr: begin(), opening: Opening::new(step), last, name }
    }

    /// Whether the follower began.
    pub(super) const fn is_begun(&self) -> bool {
        self.stderr.is_none()
    }

    /// Whether the program was started.
    pub(super) const fn is_started(&self) -> bool {
        self.opening.is_started()
    }

    /// Takes the next bytes of a stream.
    pub(super) fn push(&mut self, stream: Stream, chunk: Bytes) -> Piece {
        let head = if stream == Stream::Stderr { &mut self.stderr } else { &mut self.stdout };
        let (noise, output) = behind(head, chunk);
        if stream != Stream::Stderr {
            return Piece { noise, output };
        }
        let unsaid = self.unsaid(output);
        Piece { noise, output: self.opening.push(unsaid) }
    }

    /// What is not part of the last word.
    fn unsaid(&mut self, bytes: Bytes) -> Bytes {
        let output = self.last.push(bytes);
        self.last.keep(LONGEST_WORD);
        output
    }

    /// The last word, once it is whole.
    pub(super) fn word(&self) -> Option<Word> {
        Word::parse(self.last.found()?.strip_suffix(b"\n")?)
    }

    /// Ends the streams: how starting went, and output that was held back.
    pub(super) fn end(&mut self) -> (Start, Bytes) {
        let fresh = Self::new(StepId::new(), self.name.clone());
        let ended = std::mem::replace(self, fresh);
        ended.opening.end()
    }
}

/// What comes before and behind the sign at which a stream begins.
fn behind(head: &mut Option<Sign>, chunk: Bytes) -> (Bytes, Bytes) {
    let Some(sign) = head else { return (Bytes::new(), chunk) };
    let noise = sign.push(chunk);
    let output = sign.found().map(Bytes::copy_from_slice);
    if output.is_some() {
        *head = None;
    }
    (noise, output.unwrap_or_default())
}

impl Word {
    fn parse(line: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?;
        let mut words = line.split_ascii_whitespace();
        let kind = words.next()?;
        Some(match kind {
            "exit" => {
                let code = words.next()?.parse().ok()?;
                let signal = words.next().filter(|signal| *signal != "-").map(str::to_owned);
                let (stdout, stderr) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
                let cut = words.filter_map(|stream| stream.parse().ok()).collect();
                Self::Exit { code, signal, stdout, stderr, cut }
            }
            "lingers" => Self::Lingers { code: words.next()?.parse().ok()? },
            "gone" => Self::Gone { uptime: words.next()?.split('.').next()?.parse().ok() },
            "rebooted" => Self::Rebooted,
            "dead" => Self::Dead,
            "stuck" => Self::Stuck,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn feed() -> (Feed, String, StepId) {
        let (name, step) = (Name::new(), StepId::new());
        (Feed::new(step, name.clone()), name.to_string(), step)
    }

    fn push(feed: &mut Feed, stream: Stream, text: &str, piece: usize) -> (String, String) {
        let (mut noise, mut output) = (Vec::new(), Vec::new());
        for chunk in text.as_bytes().chunks(piece) {
            let piece = feed.push(stream, Bytes::copy_from_slice(chunk));
            noise.extend(piece.noise);
            output.extend(piece.output);
        }
        (String::from_utf8(noise).unwrap(), String::from_utf8(output).unwrap())
    }

    proptest! {
        #[test]
        fn noise_and_output_and_words_are_told_apart_in_any_pieces(piece in 1_usize..200) {
            let (mut feed, name, step) = feed();
            let out = push(&mut feed, Stream::Stdout, &format!("motd\nbirun:{name}:begin\nbirun: one\n"), piece);
            prop_assert_eq!(out, ("motd\n".to_owned(), "birun: one\n".to_owned()));
            let text = format!("x\nbirun:{name}:begin\nbirun:{step}:started\ntwo\nbirun:{name}:exit 3 - 11 4\n");
            let err = push(&mut feed, Stream::Stderr, &text, piece);
            prop_assert_eq!(err, ("x\n".to_owned(), "two\n".to_owned()));
            let exit = Word::Exit { code: 3, signal: None, stdout: 11, stderr: 4, cut: vec![] };
            prop_assert_eq!(feed.word(), Some(exit));
            prop_assert!(matches!(feed.end().0, Start::Started));
        }
    }

    #[test]
    fn every_word_is_understood_and_no_other() {
        let cases = [
            ("lingers 7 -", Some(Word::Lingers { code: 7 })),
            ("gone 12.34", Some(Word::Gone { uptime: Some(12) })),
            ("gone -", Some(Word::Gone { uptime: None })),
            ("rebooted", Some(Word::Rebooted)),
            ("dead 17", Some(Word::Dead)),
            ("stuck", Some(Word::Stuck)),
            ("exit", None),
            ("exit x - 1 1", None),
            ("begone", None),
        ];
        for (text, word) in cases {
            assert_eq!(Word::parse(text.as_bytes()), word, "{text}");
        }
        let killed = Word::parse(b"exit 137 KILL 1 2 stdout stderr");
        let cut = vec![Stream::Stdout, Stream::Stderr];
        let expected = Word::Exit { code: 137, signal: Some("KILL".to_owned()), stdout: 1, stderr: 2, cut };
        assert_eq!(killed, Some(expected));
    }

    #[test]
    fn half_a_word_and_a_word_with_something_behind_it_say_nothing() {
        for behind in ["", "\nmore"] {
            let (mut feed, name, _) = feed();
            push(&mut feed, Stream::Stderr, &format!("birun:{name}:begin\nbirun:{name}:stuck{behind}"), 4096);
            assert_eq!(feed.word(), None);
        }
    }
}
