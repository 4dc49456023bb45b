//! Whether the program was started, as the shell tells on stderr.

use birun_core::id::StepId;
use birun_core::{Error, ErrorCode};
use bytes::Bytes;

use super::input::interpreter_missing;
use super::sign::Sign;

/// What the line says when the program begins.
const STARTED: &[u8] = b"started\n";
/// A refusal is not read beyond this.
const MAX_REFUSAL: usize = 4096;

/// Watches the beginning of stderr for the line by which the shell tells how it went.
///
/// The line is `birun:<step id>:started` or `birun:<step id>:refused <why>`. Bytes before it come
/// from the login shell's own start-up and are passed on. An exit status means something only
/// after `started`: before it, nothing of the program ran.
#[derive(Debug)]
pub(crate) struct Opening(State);

#[derive(Debug)]
enum State {
    /// The sign is looked for; once it is found, what follows decides.
    Waiting(Sign),
    Started,
}

/// How starting went.
#[derive(Debug)]
pub(crate) enum Start {
    /// The program was started.
    Started,
    /// The shell says why it was not; nothing of the program ran.
    Refused(Error),
    /// The shell ended without a word; nothing of the program ran.
    Silent,
}

impl Opening {
    /// Watches for the line of this step.
    pub(crate) fn new(step: StepId) -> Self {
        Self(State::Waiting(Sign::new(format!("birun:{step}:"))))
    }

    /// Whether the program was started.
    pub(crate) const fn is_started(&self) -> bool {
        matches!(self.0, State::Started)
    }

    /// Takes the next bytes of stderr and gives those that belong to the output.
    pub(crate) fn push(&mut self, chunk: Bytes) -> Bytes {
        let State::Waiting(sign) = &mut self.0 else { return chunk };
        let before = sign.push(chunk);
        let Some(after) = sign.found().and_then(|line| line.strip_prefix(STARTED)) else {
            sign.keep(MAX_REFUSAL);
            return before;
        };
        let output = [&before, after].concat();
        self.0 = State::Started;
        output.into()
    }

    /// Ends the stream: how starting went, and bytes that turned out to belong to the output.
    pub(crate) fn end(self) -> (Start, Bytes) {
        let State::Waiting(sign) = self.0 else { return (Start::Started, Bytes::new()) };
        let Some(line) = sign.found() else { return (Start::Silent, sign.into_held().freeze()) };
        let why = String::from_utf8_lossy(line.get(..MAX_REFUSAL).unwrap_or(line)).into_owned();
        (Start::Refused(refusal(why.trim_end())), Bytes::new())
    }
}

/// Words what the shell refused for.
fn refusal(why: &str) -> Error {
    let why = why.strip_prefix("refused ").unwrap_or(why);
    let (kind, detail) = why.split_once(' ').unwrap_or((why, ""));
    match kind {
        "interpreter" => interpreter_missing(detail),
        "variable" => Error::new(ErrorCode::SpawnFailed, format!("the shell does not let `{detail}` be set"))
            .with_hint("give the parameter another name"),
        "file" => Error::new(ErrorCode::SpawnFailed, format!("no private file could be made for the script: {detail}"))
            .with_hint("make room in $TMPDIR or /tmp of the target, and let the user write there"),
        _ => Error::new(ErrorCode::ConnectFailed, "the script did not arrive whole, so nothing of it was run"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(step: StepId, text: &str, piece: usize) -> (Start, String) {
        let mut opening = Opening::new(step);
        let mut output = Vec::new();
        for chunk in text.as_bytes().chunks(piece) {
            output.extend_from_slice(&opening.push(Bytes::copy_from_slice(chunk)));
        }
        let (start, rest) = opening.end();
        output.extend_from_slice(&rest);
        (start, String::from_utf8(output).unwrap())
    }

    #[test]
    fn the_line_is_found_in_any_pieces_and_behind_noise() {
        let step = StepId::new();
        for piece in [1, 2, 7, 4096] {
            for noise in ["", "motd\n", "birun:birun:"] {
                let (start, output) =
                    watch(step, &format!("{noise}birun:{step}:started\nbirun:{step}:refused x\n"), piece);
                assert!(matches!(start, Start::Started), "{piece} {noise}");
                assert_eq!(output, format!("{noise}birun:{step}:refused x\n"));
            }
        }
    }

    #[test]
    fn a_refusal_is_no_output() {
        let step = StepId::new();
        let (start, output) = watch(step, &format!("noise birun:{step}:refused interpreter ruby\n"), 3);
        let Start::Refused(error) = start else { panic!("{start:?}") };
        assert_eq!((error.code(), output.as_str()), (ErrorCode::SpawnFailed, "noise "));
        assert!(error.to_string().contains("`ruby`"), "{error}");
    }

    #[test]
    fn without_the_line_nothing_was_started() {
        let (start, output) = watch(StepId::new(), "This account is not available.\nbirun:", 5);
        assert!(matches!(start, Start::Silent));
        assert_eq!(output, "This account is not available.\nbirun:");
    }
}
