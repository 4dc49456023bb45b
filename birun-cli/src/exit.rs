//! Exit codes: what scripts may rely on.

use std::process::ExitCode;

/// A code that birun exits with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit(u8);

impl Exit {
    /// All went well.
    pub(crate) const OK: Self = Self(0);
    /// Something failed.
    pub(crate) const ERROR: Self = Self(1);
    /// The command line, a file or a parameter is not what it should be; nothing was done.
    pub(crate) const USAGE: Self = Self(2);
    /// The execution ended `cancelled`, or the user declined.
    pub(crate) const CANCELLED: Self = Self(3);
    /// Nobody is signed in, or the token has expired.
    pub(crate) const NOT_SIGNED_IN: Self = Self(4);
    /// The execution ended without success in any other way.
    pub(crate) const UNSUCCESSFUL: Self = Self(5);
    /// What was named does not exist.
    pub(crate) const NOT_FOUND: Self = Self(6);
    /// The resource is in another state than needed, or the name is taken.
    pub(crate) const CONFLICT: Self = Self(7);
    /// The wait timed out, and the execution still runs.
    pub(crate) const STILL_RUNNING: Self = Self(8);
    /// It may be seen, but not done.
    pub(crate) const FORBIDDEN: Self = Self(9);
    /// Interrupted.
    pub(crate) const INTERRUPTED: Self = Self(130);
    /// Nobody reads stdout any more: what a shell says of a program that SIGPIPE ended.
    pub(crate) const UNREAD: Self = Self(141);

    /// The code of a script, handed on. What does not fit into a byte is a plain failure.
    pub(crate) fn of_script(code: i64) -> Self {
        u8::try_from(code).map_or(Self::UNSUCCESSFUL, Self)
    }

    /// The code that a status of an execution stands for.
    pub(crate) fn of_status(status: &str) -> Self {
        match status {
            "succeeded" => Self::OK,
            "cancelled" => Self::CANCELLED,
            _ => Self::UNSUCCESSFUL,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_a_script_is_handed_on_if_it_is_one() {
        assert_eq!(Exit::of_script(7), Exit(7));
        assert_eq!(Exit::of_script(-1), Exit::UNSUCCESSFUL);
        assert_eq!(Exit::of_script(256), Exit::UNSUCCESSFUL);
    }

    #[test]
    fn only_success_is_zero() {
        for status in ["failed", "timed_out", "lost", "skipped", "unheard_of"] {
            assert_eq!(Exit::of_status(status), Exit::UNSUCCESSFUL, "{status}");
        }
        assert_eq!(Exit::of_status("succeeded"), Exit::OK);
        assert_eq!(Exit::of_status("cancelled"), Exit::CANCELLED);
    }
}
