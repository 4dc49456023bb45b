//! What the end of a run says about its program.

use std::time::Duration;

use birun_core::execution::{Ending, LinkFault};
use birun_core::{Error, ErrorCode};

use crate::ssh::channel::Exit;
use crate::ssh::phase::{Endpoint, Phase, timed_out};

/// What a run's end says about the program.
pub(super) struct Verdict<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) exits: &'a [Exit],
    /// Whether the program was started, or may have been; else nothing of it can have run.
    pub(super) delivered: bool,
}

impl Verdict<'_> {
    /// The channel was closed after the program had been started.
    pub(super) fn closed(&self) -> Ending {
        let endpoint = self.endpoint;
        match self.exits {
            // Windows uses all 32 bits, among them the sign.
            [Exit::Status(status)] => Ending::Exited { code: i32::from_ne_bytes(status.to_ne_bytes()) },
            [Exit::Signal(signal)] => Ending::Signaled { signal: signal.clone() },
            [] => no_exit_status(format!("{endpoint}: the channel was closed without an exit status")),
            [first, second, ..] => {
                no_exit_status(format!("{endpoint}: the server told two endings, {first} and {second}"))
            }
        }
    }

    /// The channel was closed, and the shell never said that it started the program.
    pub(super) fn silent(&self) -> Ending {
        let endpoint = self.endpoint;
        let exit = self.exits.first().map_or_else(|| "no exit status".to_owned(), ToString::to_string);
        Ending::NotStarted(
            Error::new(
                ErrorCode::SpawnFailed,
                format!("{endpoint}: the login shell did not start the script ({exit})"),
            )
            .with_hint("the user's login shell must run commands; its own words are in the output"),
        )
    }

    pub(super) fn link_down(&self, why: &str) -> Ending {
        let endpoint = self.endpoint;
        if !self.delivered {
            let message = format!("{endpoint}: {why} before the script was sent");
            return Ending::Unreachable(Error::new(ErrorCode::ConnectFailed, message));
        }
        link_lost(match self.exits.first() {
            Some(exit) => format!("{endpoint}: {why} after {exit}, before the channel was closed"),
            None => format!("{endpoint}: {why} while the program ran"),
        })
    }

    pub(super) fn timed_out(&self, phase: Phase, limit: Duration) -> Ending {
        let error = timed_out(self.endpoint, phase, limit);
        if !self.delivered {
            return Ending::Unreachable(error);
        }
        link_lost(match self.exits.first() {
            Some(exit) => format!("{error}, after {exit}"),
            None => error.to_string(),
        })
    }
}

fn link_lost(detail: String) -> Ending {
    Ending::Lost { fault: LinkFault::LinkLost, detail }
}

fn no_exit_status(detail: String) -> Ending {
    Ending::Lost { fault: LinkFault::NoExitStatus, detail }
}
