//! What a [`ScriptedServer`](super::ScriptedServer) does, said in advance.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use russh::keys::Algorithm;
use russh::{MethodKind, Preferred, Sig};

/// How a scripted server behaves. The default is a good server that prints `hello` and exits 0.
#[derive(Clone, Debug)]
pub struct Script {
    /// The types of its host keys.
    pub host_keys: Vec<Algorithm>,
    /// The algorithms that it offers.
    pub preferred: Preferred,
    /// How it admits users.
    pub admission: Admission,
    /// How it meets requests for a channel.
    pub opening: Opening,
    /// What it does when work is to be run.
    pub run: Vec<Act>,
    /// What it does when birun's own small commands are to be run.
    pub errand: Vec<Act>,
    /// How much it is willing to read at once, and at all: it never asks for more than this when
    /// it is 0.
    pub window: u32,
    /// When the keys are exchanged anew.
    pub rekey_bytes: usize,
    /// It opens channels of its own, endlessly, once a user is in.
    pub opens_channels: bool,
}

/// How a server admits users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Whoever holds any key, or knows any password.
    Anyone,
    /// Whoever knows this password.
    Password(&'static str),
    /// Nobody.
    Nobody,
    /// It never answers.
    Hang,
    /// It takes the key that is offered, and never answers to the signature.
    HangAfterKey,
    /// It takes the key and wants a password as well.
    Partial,
    /// Whoever holds any key and knows this password, shown in this order: the one is taken, then the other.
    Both(&'static [MethodKind], &'static str),
    /// Whoever answers these prompts, round by round; what ends with a question mark is shown as it
    /// is typed. No other method is taken.
    Prompts(&'static [&'static [(&'static str, &'static str)]]),
    /// It asks this, without an end.
    Asks(&'static str),
}

/// How a server meets requests for a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// It agrees.
    Agree,
    /// It refuses.
    Refuse,
    /// It never answers.
    Hang,
    /// It agrees the first time and never answers again.
    HangLater,
}

/// One thing that a server does with a command.
#[derive(Clone, Debug)]
pub enum Act {
    /// Agrees to run it.
    Accept,
    /// Refuses to.
    Refuse,
    /// Waits for the end of the command's input.
    AwaitInput,
    /// Waits until a large body is so much there that a shell would run it: the last newline and the
    /// end of the input may be missing.
    AwaitWhole,
    /// Says what the bootstrap says when the program begins.
    Started,
    /// Says what the bootstrap says when the program cannot begin, and why.
    Refusal(&'static str),
    /// Writes.
    Stdout(Bytes),
    /// Writes to the other stream.
    Stderr(Bytes),
    /// Writes a chunk so many times.
    Flood(Bytes, usize),
    /// Writes a chunk so many times, with a pause after each.
    Drip(Bytes, Duration, usize),
    /// Says that no more output comes.
    Eof,
    /// Tells an exit status.
    Status(u32),
    /// Tells a signal.
    Signal(Sig),
    /// Closes the channel.
    Close,
    /// Says goodbye to the whole connection.
    Disconnect,
    /// Resets the connection.
    Reset,
    /// Ends the connection's outgoing side without a word.
    Fin,
    /// Does nothing for a while.
    Pause(Duration),
    /// Does nothing any more.
    Hang,
}

impl Act {
    /// Writes a text.
    #[must_use]
    pub const fn out(text: &'static str) -> Self {
        Self::Stdout(Bytes::from_static(text.as_bytes()))
    }
}

impl Script {
    /// What comes before a program's own output, then `acts`.
    #[must_use]
    pub fn running(acts: impl IntoIterator<Item = Act>) -> Self {
        let run = [Act::Accept, Act::AwaitInput, Act::Started].into_iter().chain(acts).collect();
        Self { run, ..Self::default() }
    }
}

impl Default for Script {
    fn default() -> Self {
        let ending = [Act::Eof, Act::Status(0), Act::Close];
        let run = [Act::Accept, Act::AwaitInput, Act::Started, Act::out("hello\n")].into_iter().chain(ending.clone());
        let errand = [Act::Accept, Act::AwaitInput, Act::out("gone\n")].into_iter().chain(ending);
        Self {
            host_keys: vec![Algorithm::Ed25519],
            preferred: Preferred { host_key_certificates: Cow::Borrowed(&[]), ..Preferred::DEFAULT },
            admission: Admission::Anyone,
            opening: Opening::Agree,
            run: run.collect(),
            errand: errand.collect(),
            window: 2 * 1024 * 1024,
            rekey_bytes: 1 << 30,
            opens_channels: false,
        }
    }
}
