//! Our side of what a server may say on its own account: nearly nothing is granted.

use std::sync::{Arc, OnceLock};

use birun_core::inventory::OfferedKey;
use russh::client::{ChannelOpenHandle, DisconnectReason, Handler, Msg, Session};
use russh::keys::{PublicKey, PublicKeyOrCertificate};
use russh::{Channel, ChannelId, Names};
use tokio::sync::oneshot;

use crate::ssh::algorithms::is_open_to_truncation;
use crate::ssh::host_key::{is_too_short, offered};

/// More than any greeting needs.
const MAX_BANNERS: usize = 16;

/// Why a session ended or never began.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error(transparent)]
    Ssh(#[from] russh::Error),
    #[error("the server shows a host certificate, which was not asked for")]
    Certificate,
    #[error("the server's host key is an RSA key of less than 2048 bits")]
    ShortHostKey,
    #[error("the server offers no algorithms that are safe against cut-out packets (CVE-2023-48795)")]
    OpenToTruncation,
    #[error("the server does not stop sending greetings")]
    TooManyBanners,
}

/// How the session ended, once it has.
#[derive(Clone, Debug, Default)]
pub(super) struct Ended(Arc<OnceLock<String>>);

impl Ended {
    /// Why the session ended, if it has and if anyone knows.
    pub(super) fn why(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}

/// The handler that russh asks. Host keys are shown to whoever connects; the answer comes from there.
#[derive(Debug)]
pub(super) struct Peer {
    show: Option<oneshot::Sender<OfferedKey>>,
    answer: Option<oneshot::Receiver<bool>>,
    ended: Ended,
    banners: usize,
}

/// The other end of a [`Peer`].
#[derive(Debug)]
pub(super) struct Doorkeeper {
    /// Yields the offered host key.
    pub(super) shown: oneshot::Receiver<OfferedKey>,
    /// Takes the decision; dropped means no.
    pub(super) answer: oneshot::Sender<bool>,
    /// Tells how the session ended.
    pub(super) ended: Ended,
}

impl Peer {
    pub(super) fn new() -> (Self, Doorkeeper) {
        let (show, shown) = oneshot::channel();
        let (answer, answered) = oneshot::channel();
        let ended = Ended::default();
        let peer = Self { show: Some(show), answer: Some(answered), ended: ended.clone(), banners: 0 };
        (peer, Doorkeeper { shown, answer, ended })
    }

    /// Counts a greeting. A server that sends nothing else would keep a sign-in alive without an end.
    const fn greeted(&mut self) -> Result<(), Fault> {
        self.banners += 1;
        if self.banners > MAX_BANNERS { Err(Fault::TooManyBanners) } else { Ok(()) }
    }

    async fn ask(&mut self, key: &PublicKey) -> bool {
        let (Some(show), Some(answer)) = (self.show.take(), self.answer.take()) else { return false };
        show.send(offered(key)).is_ok() && answer.await.unwrap_or(false)
    }
}

/// Server-initiated channels: dropping the reply handle refuses.
macro_rules! refuse {
    ($($name:ident($($arg:ty),*);)+) => {$(
        async fn $name(
            &mut self,
            _: Channel<Msg>,
            $(_: $arg,)*
            _: ChannelOpenHandle,
            _: &mut Session,
        ) -> Result<(), Fault> {
            Ok(())
        }
    )+};
}

impl Handler for Peer {
    type Error = Fault;

    async fn check_server_key(&mut self, offer: &PublicKeyOrCertificate) -> Result<bool, Fault> {
        match offer {
            PublicKeyOrCertificate::Certificate(_) => Err(Fault::Certificate),
            PublicKeyOrCertificate::PublicKey { key, .. } if is_too_short(key) => Err(Fault::ShortHostKey),
            PublicKeyOrCertificate::PublicKey { key, .. } => Ok(self.ask(key).await),
        }
    }

    async fn kex_done(&mut self, _: Option<&[u8]>, names: &Names, _: &mut Session) -> Result<(), Fault> {
        if is_open_to_truncation(names) { Err(Fault::OpenToTruncation) } else { Ok(()) }
    }

    async fn auth_banner(&mut self, _: &str, _: &mut Session) -> Result<(), Fault> {
        self.greeted()
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Fault>) -> Result<(), Fault> {
        let why = match &reason {
            DisconnectReason::ReceivedDisconnect(info) => format!("the server said: {}", printable(&info.message)),
            DisconnectReason::Error(fault) => in_words(fault),
        };
        // Only the first end counts.
        let _first = self.ended.0.set(why);
        match reason {
            DisconnectReason::ReceivedDisconnect(_) => Ok(()),
            DisconnectReason::Error(fault) => Err(fault),
        }
    }

    async fn should_accept_unknown_server_channel(&mut self, _: ChannelId, _: &str) -> bool {
        false
    }

    refuse! {
        server_channel_open_forwarded_tcpip(&str, u32, &str, u32);
        server_channel_open_forwarded_streamlocal(&str);
        server_channel_open_agent_forward();
        server_channel_open_session();
        server_channel_open_direct_tcpip(&str, u32, &str, u32);
        server_channel_open_direct_streamlocal(&str);
        server_channel_open_x11(&str, u32);
        server_channel_open_unknown();
    }
}

/// What a fault means, for people.
pub(super) fn in_words(fault: &Fault) -> String {
    use russh::Error as E;
    match fault {
        Fault::Ssh(E::Disconnect | E::HUP) => "the server closed the connection".to_owned(),
        Fault::Ssh(E::IO(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            "the server closed the connection".to_owned()
        }
        Fault::Ssh(E::IO(error)) => error.kind().to_string(),
        Fault::Ssh(E::KeepaliveTimeout) => "the server stopped answering keep-alives".to_owned(),
        Fault::Ssh(E::NoCommonAlgo { kind, theirs, .. }) => {
            let theirs = printable(&theirs.join(", "));
            format!("no common {kind:?} algorithm; the server offers {theirs}")
        }
        Fault::Ssh(E::WrongServerSig) => "the server could not prove that it holds its host key".to_owned(),
        Fault::Ssh(E::Version) => "what it sends is not SSH".to_owned(),
        other => other.to_string(),
    }
}

/// Text from a server, made harmless and short.
pub(super) fn printable(text: &str) -> String {
    const MAX: usize = 200;
    let mut shown: String = text.chars().take(MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(MAX).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_does_not_stop_greeting_is_given_up() {
        let (mut peer, _doorkeeper) = Peer::new();
        for _ in 0..MAX_BANNERS {
            peer.greeted().unwrap();
        }
        let fault = peer.greeted().unwrap_err();
        assert_eq!(in_words(&fault), "the server does not stop sending greetings");
    }

    #[test]
    fn text_of_a_server_is_made_harmless() {
        assert_eq!(printable("a\u{1b}]52;c;x\u{7}b\r\nc"), "a ]52;c;x b  c");
        assert_eq!(printable(&"x".repeat(500)).chars().count(), 201);
    }
}
