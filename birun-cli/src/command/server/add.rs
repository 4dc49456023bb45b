//! `birun server add`

use clap::Args;
use serde_json::{Value, json};

use super::probe::{TrustArgs, probe};
use super::{VIEW, own_credential};
use crate::args::DryRun;
use crate::client::{Client, Collection, Request};
use crate::command::credential::{SecretArgs, warn_of_certificate};
use crate::context::Context;
use crate::error::{CommandError, CommandResult};
use crate::exit::Exit;
use crate::input::Address;
use crate::input::put;
use crate::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  birun server add web-1 deploy@10.0.0.5 --key ~/.ssh/id_ed25519 --tag prod --tag web --test
  birun server add web-2 deploy@10.0.0.6 --credential web-1
  birun server add db-1 root@[fd00::7]:2222 --password-file db.password --group db";

/// Add a server. What it is signed in to with is given as a stored credential, or as a file, from
/// which a credential of the server's name is made; that one goes with the server.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct AddServer {
    /// Its name.
    name: String,

    /// Where it is: USER@HOST or USER@HOST:PORT.
    #[arg(value_name = "USER@HOST[:PORT]")]
    address: Address,

    #[command(flatten)]
    secret: SecretArgs,

    /// A stored credential.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["key", "certificate", "password_file", "password", "answers", "agent"])]
    credential: Option<String>,

    /// A tag; targets are chosen by tag:NAME.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,

    /// A group that it belongs to; targets are chosen by group:NAME.
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,

    /// What it is, for people.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,

    /// Try to reach it afterwards, stage by stage.
    #[arg(long)]
    test: bool,

    #[command(flatten)]
    trust: TrustArgs,

    #[command(flatten)]
    dry_run: DryRun,
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: AddServer) -> CommandResult {
    let value = args.secret.read(ui)?;
    let client = ctx.client().await?;
    let dry_run = args.dry_run.dry_run;
    let made = value.is_some();
    if !dry_run {
        // Before a credential of that name is made, or told of.
        refuse_taken(&client, &args.name).await?;
    }
    let credential = match value {
        Some(value) => Some(create_credential(ui, &client, &args.name, value, dry_run).await?),
        None => args.credential.clone(),
    };
    let created = client.change(ui, dry_run, request(&args, credential.as_deref())).await;
    if let (Err(_), true, Some(name)) = (&created, made, &credential) {
        // Nothing is left behind of a server that was not added.
        client.send(Request::delete(["credentials", name])).await.ok();
    }
    let Some(server) = created? else { return Ok(()) };
    ui.done(&VIEW, &server, |name| format!("added server {name}"))?;
    if args.test || args.trust.is_given() { probe(ui, &client, &args.name, args.trust).await } else { Ok(()) }
}

/// A server that exists is told of as the API would tell of it.
async fn refuse_taken(client: &Client, name: &str) -> CommandResult {
    let there = client.send(Request::get(["servers", name])).await;
    match there {
        Ok(server) if server.get("name") == Some(&json!(name)) => {
            Err(CommandError::new(Exit::CONFLICT, format!("a server named `{name}` exists already"))
                .hint(format!("change it with  birun server edit {name}")))
        }
        // Whatever else is wrong is told when it is added.
        _ => Ok(()),
    }
}

async fn create_credential(ui: &Ui, client: &Client, name: &str, value: Value, dry_run: bool) -> CommandResult<String> {
    let mut body = value;
    put(&mut body, "name", json!(name));
    put(&mut body, "description", json!(own_credential::description(name)));
    let request = Request::post(["credentials"], body);
    match client.change(ui, dry_run, request.clone()).await {
        // What a server that is gone left behind is in nobody's way.
        Err(error) if error.exit() == Exit::CONFLICT && deletes_leftover(ui, client, name).await? => {
            warn_of_certificate(ui, &client.send(request).await?);
        }
        Err(error) if error.exit() == Exit::CONFLICT => {
            return Err(error.hint(format!("use the credential that there is with  --credential {name}")));
        }
        created => {
            if let Some(credential) = created? {
                warn_of_certificate(ui, &credential);
            }
        }
    }
    Ok(name.to_owned())
}

/// Deletes the credential of this name if it was made for a server and none uses it; answers whether it is gone.
async fn deletes_leftover(ui: &Ui, client: &Client, name: &str) -> CommandResult<bool> {
    match own_credential::if_made(client, name).await? {
        Some(leftover) => own_credential::delete(ui, client, &leftover, false).await,
        None => Ok(false),
    }
}

fn request(args: &AddServer, credential: Option<&str>) -> Request {
    let mut body = json!({
        "name": args.name,
        "host": args.address.host,
        "user": args.address.user,
        "tags": args.tags,
        "groups": args.groups,
    });
    if let Some(port) = args.address.port {
        put(&mut body, "port", json!(port));
    }
    if let Some(credential) = credential {
        put(&mut body, "credential", json!(credential));
    }
    if let Some(description) = &args.description {
        put(&mut body, "description", json!(description));
    }
    let request = Request::post(["servers"], body);
    let request = credential.into_iter().fold(request, |request, name| request.naming(Collection::Credentials, name));
    args.groups.iter().fold(request, |request, name| request.naming(Collection::Groups, name))
}
