//! How the end of a local program is told.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use birun_core::execution::{Ending, LinkFault};
use birun_core::{Error, ErrorCode};
use rustix::process::Signal;

use crate::bootstrap::Start;

const SIGNALS: [(Signal, &str); 22] = [
    (Signal::HUP, "HUP"),
    (Signal::INT, "INT"),
    (Signal::QUIT, "QUIT"),
    (Signal::ILL, "ILL"),
    (Signal::TRAP, "TRAP"),
    (Signal::ABORT, "ABRT"),
    (Signal::BUS, "BUS"),
    (Signal::FPE, "FPE"),
    (Signal::KILL, "KILL"),
    (Signal::USR1, "USR1"),
    (Signal::SEGV, "SEGV"),
    (Signal::USR2, "USR2"),
    (Signal::PIPE, "PIPE"),
    (Signal::ALARM, "ALRM"),
    (Signal::TERM, "TERM"),
    (Signal::XCPU, "XCPU"),
    (Signal::XFSZ, "XFSZ"),
    (Signal::VTALARM, "VTALRM"),
    (Signal::PROF, "PROF"),
    (Signal::IO, "IO"),
    (Signal::SYS, "SYS"),
    (Signal::URG, "URG"),
];

/// The ending of a program all of whose output was sent on.
pub(super) fn judge(start: Start, status: ExitStatus) -> Ending {
    match start {
        Start::Started => ended(status),
        Start::Refused(error) => Ending::NotStarted(error),
        Start::Silent => Ending::NotStarted(
            Error::new(ErrorCode::SpawnFailed, format!("the shell ended before it started the script ({status})"))
                .with_hint("its own message is in the output"),
        ),
    }
}

/// The ending of a program whose output or status could not be read to its end.
pub(super) fn unknown(detail: String) -> Ending {
    Ending::Lost { fault: LinkFault::LinkLost, detail }
}

fn ended(status: ExitStatus) -> Ending {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ending::Exited { code },
        (None, Some(signal)) => Ending::Signaled { signal: signal_name(signal) },
        (None, None) => Ending::Lost { fault: LinkFault::NoExitStatus, detail: status.to_string() },
    }
}

/// The name of a signal without `SIG`; a number where it has none.
fn signal_name(number: i32) -> String {
    let known = SIGNALS.iter().find(|(signal, _)| signal.as_raw() == number);
    known.map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned())
}
