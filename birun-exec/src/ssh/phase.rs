//! The phases of reaching and using a server, each with a limit, so that an error names where it stuck.

use std::fmt;
use std::time::Duration;

use birun_core::{Error, ErrorCode, Result, duration};

/// How long each phase may take before its error names it.
///
/// A phase that is not reached costs nothing; the limits of a run add up only in the worst case.
#[derive(Clone, Copy, Debug)]
pub struct SshLimits {
    /// Finding the address of a host name. Default 10 s.
    pub resolve: Duration,
    /// Opening the TCP connection; attempts that the server drops before its banner are repeated
    /// within this time. Default 10 s.
    pub connect: Duration,
    /// From the first byte to the end of the key exchange. Default 10 s.
    pub handshake: Duration,
    /// Recording what was decided about the host key. Default 10 s.
    pub host_key: Duration,
    /// Signing in, all methods together. Default 20 s.
    pub authentication: Duration,
    /// Each answer of an ssh-agent, within the limit for signing in. Default 10 s.
    pub agent: Duration,
    /// The answer to a request to open a channel. Default 10 s.
    pub channel: Duration,
    /// The answer to a request to run the bootstrap text, and each step forward of sending the
    /// script to it. Default 10 s.
    pub exec: Duration,
    /// Silence of a running program. Default: no limit.
    pub idle: Option<Duration>,
    /// Silence between the exit status and the close of the channel. Default 10 s.
    pub close: Duration,
    /// Taking leave; afterwards the connection is cut. Default 2 s.
    pub disconnect: Duration,
}

impl Default for SshLimits {
    fn default() -> Self {
        let ten = Duration::from_secs(10);
        Self {
            resolve: ten,
            connect: ten,
            handshake: ten,
            host_key: ten,
            authentication: Duration::from_secs(20),
            agent: ten,
            channel: ten,
            exec: ten,
            idle: None,
            close: ten,
            disconnect: Duration::from_secs(2),
        }
    }
}

/// Where in the life of a connection or run we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    Resolve,
    Connect,
    Banner,
    KexInit,
    KexReply,
    NewKeys,
    HostKey,
    Authentication,
    ChannelOpen,
    ExecReply,
    Script,
    Answer,
    Idle,
    Close,
    Disconnect,
}

impl Phase {
    /// What users read in "timed out in …".
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Banner => "banner",
            Self::KexInit => "kexinit",
            Self::KexReply => "kex reply",
            Self::NewKeys => "newkeys",
            Self::HostKey => "host key",
            Self::Authentication => "authentication",
            Self::ChannelOpen => "channel open",
            Self::ExecReply => "exec reply",
            Self::Script => "script",
            Self::Answer => "answer",
            Self::Idle => "idle",
            Self::Close => "close",
            Self::Disconnect => "disconnect",
        }
    }

    const fn hint(self) -> &'static str {
        match self {
            Self::Resolve => "check the host name and the name servers of this machine",
            Self::Connect => "check address and port, and whether a firewall drops packets on the way",
            Self::Banner => "the port is open, but no SSH server speaks there, or it is overloaded",
            Self::KexInit | Self::KexReply | Self::NewKeys => {
                "the SSH server stopped answering during the key exchange; a path that drops large packets (MTU) does this"
            }
            Self::HostKey => "the store that keeps host keys did not answer",
            Self::Authentication => {
                "the server is slow to check credentials (name service, PAM); raise the limit if this is normal there"
            }
            Self::ChannelOpen | Self::ExecReply | Self::Script | Self::Answer => {
                "the server took the sign-in but starts nothing; look at its load and its logs"
            }
            Self::Idle => "the program was silent for too long; raise the idle limit if this is normal for it",
            Self::Close => "something that the script started still holds its output open; redirect it, or wait for it",
            Self::Disconnect => "the server does not close the connection",
        }
    }
}

/// The far end, as errors name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Endpoint {
    pub(super) host: String,
    pub(super) port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Runs one phase under its limit.
pub(super) async fn limited<T>(
    endpoint: &Endpoint,
    phase: Phase,
    limit: Duration,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(timed_out(endpoint, phase, limit)))
}

/// The error for a phase that took longer than its limit.
pub(super) fn timed_out(endpoint: &Endpoint, phase: Phase, limit: Duration) -> Error {
    let after = duration::format(limit);
    let (code, message) = match phase {
        Phase::Connect => (ErrorCode::ConnectTimeout, format!("connect {endpoint}: timed out after {after}")),
        _ => (ErrorCode::PhaseTimeout, format!("{endpoint}: timed out in {} after {after}", phase.name())),
    };
    Error::new(code, message).with_hint(phase.hint())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(host: &str) -> Endpoint {
        Endpoint { host: host.to_owned(), port: 22 }
    }

    #[test]
    fn a_time_out_names_the_end_and_the_phase() {
        let ten = Duration::from_secs(10);
        let cases = [
            ("10.0.0.9", Phase::Connect, ErrorCode::ConnectTimeout, "connect 10.0.0.9:22: timed out after 10s"),
            ("::1", Phase::KexReply, ErrorCode::PhaseTimeout, "[::1]:22: timed out in kex reply after 10s"),
        ];
        for (host, phase, code, message) in cases {
            let error = timed_out(&endpoint(host), phase, ten);
            assert_eq!((error.code(), error.to_string()), (code, message.to_owned()));
            assert!(error.hint().is_some());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_phase_ends_at_its_limit() {
        let silence = std::future::pending::<Result<()>>();
        let error = limited(&endpoint("a"), Phase::Banner, Duration::from_millis(300), silence).await.unwrap_err();
        assert_eq!(error.to_string(), "a:22: timed out in banner after 300ms");
    }
}
