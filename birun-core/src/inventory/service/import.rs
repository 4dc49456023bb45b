//! Servers that another tool knows, taken over one by one.

use serde_json::json;

use crate::error::{Error, ErrorCode, Result};
use crate::gate::{Gate, Scope};
use crate::id::{Selector, ServerId};
use crate::identity::Permission;
use crate::inventory::{ImportStatus, Imported, NewServer, Server};
use crate::store::StoreError;

/// More servers in one request than anyone's configuration names.
const MAX_SERVERS: usize = 1000;

impl Gate {
    /// Adds those of the servers that are not there, each by itself: what is wrong with one is told of
    /// it, and the others are added all the same. A server that is there stays as it is, so that the
    /// same servers can be imported again. With `dry_run` nothing is added.
    ///
    /// # Errors
    /// `too_large` for more than 1000 servers; what storage answers, with some of them added perhaps.
    pub async fn import_servers(&self, servers: Vec<NewServer>, dry_run: bool) -> Result<Vec<Imported>> {
        let scope = self.authorize(Permission::ServerWrite).await?;
        if servers.len() > MAX_SERVERS {
            let why = format!("at most {MAX_SERVERS} servers are imported at once");
            return Err(Error::new(ErrorCode::TooLarge, why.clone()).with_field("servers", why));
        }
        let mut imported = Vec::with_capacity(servers.len());
        for new in servers {
            let name = new.name.clone();
            imported.push(match self.import_server(&scope, new, dry_run).await {
                Ok((status, server_id)) => Imported { name, status, server_id, reason: None },
                Err(error) if is_its_own_trouble(&error) => {
                    let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
                    let reason = Some(format!("{error}{hint}"));
                    Imported { name, status: ImportStatus::Skipped, server_id: None, reason }
                }
                Err(error) => return Err(error),
            });
        }
        Ok(imported)
    }

    async fn import_server(
        &self,
        scope: &Scope,
        new: NewServer,
        dry_run: bool,
    ) -> Result<(ImportStatus, Option<ServerId>)> {
        let found = self.shared.store.server(scope, &Selector::Name(new.name.clone())).await;
        let server = self.new_server(scope, new).await?;
        match found {
            Ok(known) if is_same_place(&known, &server) => return Ok((ImportStatus::Exists, Some(known.id))),
            Ok(known) => {
                let Server { user, host, port, .. } = known;
                let why = format!("a server of this name is at {user}@{host}, port {port}");
                return Err(Error::new(ErrorCode::Conflict, why));
            }
            Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        if dry_run {
            return Ok((ImportStatus::WouldCreate, None));
        }
        let audit = self.audit("server.create").on(server.id, server.name.as_str()).after(json!(server));
        self.shared.store.create_server(scope, &server, &audit).await?;
        Ok((ImportStatus::Created, Some(server.id)))
    }
}

fn is_same_place(one: &Server, other: &Server) -> bool {
    (&one.user, &one.host, one.port) == (&other.user, &other.host, other.port)
}

/// Whether the next server may still be added.
fn is_its_own_trouble(error: &Error) -> bool {
    matches!(
        error.code(),
        ErrorCode::Invalid | ErrorCode::NotFound | ErrorCode::Conflict | ErrorCode::TooLarge | ErrorCode::NotRegistered
    )
}
