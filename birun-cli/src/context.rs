//! What every command works with: the terminal, the settings, and a way to birun.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use birun_core::engine::Roles;
use birun_core::execution::Running;
use birun_core::identity::Principal;
use birun_core::vault::Secret;
use reqwest::Url;

use crate::client::{Client, InProcess, Owner, Remote, Transport};
use crate::config::{Reach, Settings, TokenSource};
use crate::error::{CommandError, CommandResult};
use crate::local::{DataDir, Detached, Opened, Purpose, find_server, open_engine};

/// How long the engine of this process may take to put its things away.
const FINISH: Duration = Duration::from_secs(10);

/// What a command works with, besides its arguments.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) settings: Settings,
    /// The name of the user, for the audit log of the local context.
    pub(crate) user: String,
}

/// A way to birun for a command that starts something.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: Client,
    /// The engine of this process, where no server drives what is started.
    pub(crate) here: Option<Here>,
}

/// The engine of this process.
#[derive(Debug)]
pub(crate) struct Here {
    /// The worker that goes on after this process.
    pub(crate) detached: Detached,
    /// What drives; `None` where that is left to a worker of its own.
    pub(crate) running: Option<Running>,
}

/// Who drives what a command starts, where no server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    /// This process.
    Here,
    /// A worker that outlives it.
    Detached,
}

impl Context {
    /// A way to birun for a command that only asks, or changes records.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) async fn client(&self) -> CommandResult<Client> {
        match self.server().await? {
            Some(client) => Ok(client),
            None => self.in_process(&open_engine(&self.settings, Purpose::Ask).await?),
        }
    }

    /// A way to birun for a command that starts something.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) async fn session(&self, driver: Driver) -> CommandResult<Session> {
        if let Some(client) = self.server().await? {
            return Ok(Session { client, here: None });
        }
        let purpose = if driver == Driver::Here { Purpose::Own } else { Purpose::Ask };
        let opened = open_engine(&self.settings, purpose).await?;
        let running = match driver {
            Driver::Here => Some(opened.engine.start(Roles::all()).await?),
            Driver::Detached => None,
        };
        Ok(Session { client: self.in_process(&opened)?, here: Some(Here { detached: opened.detached, running }) })
    }

    /// The server that the settings name, or that owns the data directory.
    async fn server(&self) -> CommandResult<Option<Client>> {
        match &self.settings.reach {
            Reach::Server { address, token } => self.named(address, token).await.map(Some),
            Reach::Local => {
                let dir = DataDir::at(&self.settings.data_dir.value);
                let owner = find_server(&dir).await?;
                // A database that was named is reached itself where the server works on another one.
                let named = self.settings.database();
                match owner.filter(|serve| named.is_none() || serve.database == named) {
                    Some(serve) => Ok(Some(self.client_over(Owner::new(dir, serve)?))),
                    None => Ok(None),
                }
            }
        }
    }

    fn client_over(&self, transport: impl Transport + 'static) -> Client {
        Client::new(transport, self.settings.request_timeout.value)
    }

    fn in_process(&self, opened: &Opened) -> CommandResult<Client> {
        Ok(self.client_over(InProcess::new(&opened.engine, Principal::local(&self.user))?))
    }

    /// The server at an address. The one that owns the data directory has left its token there; it
    /// is asked at its own address, and no other server is ever shown the token.
    async fn named(&self, address: &str, token: &TokenSource) -> CommandResult<Client> {
        let token = match token {
            TokenSource::Given(token) => Some(token.clone()),
            TokenSource::File(path) => Some(read_token(path)?),
            TokenSource::Unknown => None,
        };
        let remote = Remote::new(address, token.clone())?;
        if token.is_none() {
            let dir = DataDir::at(&self.settings.data_dir.value);
            let own = find_server(&dir).await.ok().flatten();
            if let Some(own) = own.filter(|serve| same_place(&serve.address, address)) {
                return Ok(self.client_over(Owner::new(dir, own)?));
            }
        }
        Ok(self.client_over(remote))
    }
}

fn read_token(path: &Path) -> CommandResult<Secret> {
    let text =
        std::fs::read_to_string(path).map_err(|error| CommandError::unreadable("read the token in", path, &error))?;
    Ok(Secret::new(text.trim()))
}

/// Whether two addresses mean the same server on this machine.
fn same_place(own: &str, asked: &str) -> bool {
    let (Ok(own), Ok(asked)) = (Url::parse(own), Url::parse(asked)) else { return false };
    let loopback = |url: &Url| match url.host_str() {
        Some("localhost") => true,
        Some(host) => host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
        None => false,
    };
    own.port_or_known_default() == asked.port_or_known_default()
        && (own.host_str() == asked.host_str() || (loopback(&own) && loopback(&asked)))
}

impl Session {
    /// Whether this process drives what is started.
    pub(crate) fn drives(&self) -> bool {
        self.here.as_ref().is_some_and(|here| here.running.is_some())
    }

    /// Starts a worker for what dead processes left, if no other takes that over: this process drives
    /// only its own, and may end long before what it would take over. Answers what to tell then.
    pub(crate) async fn hand_over_orphans(&self) -> Option<&'static str> {
        let Some(Here { detached, running: Some(running) }) = &self.here else { return None };
        match running.leaves_orphans().await {
            Ok(true) => match detached.start() {
                Ok(()) => Some("a worker of its own goes on with what dead processes left"),
                Err(error) => {
                    tracing::warn!(error = error.message(), "nobody goes on with what dead processes left");
                    None
                }
            },
            Ok(false) => None,
            Err(error) => {
                tracing::warn!(%error, "what dead processes left cannot be looked for");
                None
            }
        }
    }

    /// Ends the engine of this process, once it has driven what it drives.
    ///
    /// # Errors
    /// What storage answers.
    pub(crate) async fn close(self) -> CommandResult {
        match self.here.and_then(|here| here.running) {
            Some(running) => Ok(running.shutdown(FINISH).await?),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_server_is_known_by_every_loopback_name() {
        let own = "http://127.0.0.1:7878";
        for same in ["http://127.0.0.1:7878", "http://127.0.0.1:7878/", "http://localhost:7878", "http://[::1]:7878"] {
            assert!(same_place(own, same), "{same}");
        }
        for other in ["http://127.0.0.1:7879", "https://birun.example.com:7878", "nonsense"] {
            assert!(!same_place(own, other), "{other}");
        }
    }
}
