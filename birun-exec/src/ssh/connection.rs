//! A signed-in connection.

use birun_core::inventory::OfferedKey;
use birun_core::{Error, ErrorCode, Result};
use russh::client::{Handle, Msg};
use russh::{Channel, ChannelOpenFailure, Disconnect};
use tokio_util::sync::DropGuard;

use crate::ssh::approach::{Admitted, Approach};
use crate::ssh::peer::{Ended, Peer, printable};
use crate::ssh::phase::{Endpoint, Phase, SshLimits, limited};

/// A signed-in connection. Dropping it cuts the wire at once; [`leave`](Connection::leave) is polite.
pub(super) struct Connection {
    handle: Handle<Peer>,
    key: OfferedKey,
    ended: Ended,
    endpoint: Endpoint,
    limits: SshLimits,
    _cut: DropGuard,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("endpoint", &self.endpoint).field("dead", &self.is_dead()).finish()
    }
}

impl Connection {
    pub(super) fn new(session: Admitted, approach: &Approach) -> Self {
        Self {
            handle: session.handle,
            key: session.key,
            ended: session.ended,
            endpoint: approach.endpoint.clone(),
            limits: approach.settings.limits,
            _cut: session.cut,
        }
    }

    /// The far end.
    pub(super) const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The limits of the phases.
    pub(super) const fn limits(&self) -> &SshLimits {
        &self.limits
    }

    /// Whether the session has ended.
    pub(super) fn is_dead(&self) -> bool {
        self.handle.is_closed()
    }

    /// The host key under which it was made.
    pub(super) const fn key(&self) -> &OfferedKey {
        &self.key
    }

    /// Why the session ended.
    pub(super) fn why(&self) -> &str {
        self.ended.why().unwrap_or("the connection broke")
    }

    /// Opens a session channel.
    ///
    /// # Errors
    /// `phase_timeout`, or `connect_failed` if the server refuses or the connection is gone. Nothing
    /// was started then.
    pub(super) async fn open(&self) -> Result<Channel<Msg>> {
        let open = async { self.handle.channel_open_session().await.map_err(|error| self.not_opened(&error)) };
        limited(&self.endpoint, Phase::ChannelOpen, self.limits.channel, open).await
    }

    fn not_opened(&self, error: &russh::Error) -> Error {
        let why = match error {
            russh::Error::ChannelOpenFailure(failure) => {
                format!("the server refuses to open a channel ({})", reason(failure))
            }
            _ => format!("no channel could be opened: {}", self.why()),
        };
        Error::new(ErrorCode::ConnectFailed, format!("{}: {why}", self.endpoint))
    }

    /// Says goodbye and waits for the end of the session, within the limit; then cuts.
    pub(super) async fn leave(mut self) {
        let goodbye = async {
            if self.handle.disconnect(Disconnect::ByApplication, "", "").await.is_ok() {
                // How the session ended does not matter any more.
                let _ended = (&mut self.handle).await;
            }
        };
        if tokio::time::timeout(self.limits.disconnect, goodbye).await.is_err() {
            tracing::debug!(endpoint = %self.endpoint, "timed out in {}", Phase::Disconnect.name());
        }
    }
}

fn reason(failure: &ChannelOpenFailure) -> String {
    match failure {
        ChannelOpenFailure::AdministrativelyProhibited => "administratively prohibited".to_owned(),
        ChannelOpenFailure::ConnectFailed => "connect failed".to_owned(),
        ChannelOpenFailure::UnknownChannelType => "unknown channel type".to_owned(),
        ChannelOpenFailure::ResourceShortage => "resource shortage".to_owned(),
        ChannelOpenFailure::Other { reason, .. } => printable(reason),
    }
}
