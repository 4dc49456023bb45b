//! `birun server edit`

use clap::Args;
use serde_json::{Map, Value, json};

use super::VIEW;
use crate::args::DryRun;
use crate::client::{Collection, Request};
use crate::context::Context;
use crate::error::CommandResult;
use crate::input::Address;
use crate::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  birun server edit web-1 --address deploy@10.0.0.8
  birun server edit web-1 --tag canary --untag prod
  birun server edit web-1 --group eu --no-credential
  birun server edit web-1 --maintenance";

/// Change a server. What is not named stays as it is.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
#[group(id = "change", required = true, multiple = true, args = ["name", "address", "credential", "no_credential",
        "tags", "untag", "groups", "ungroup", "maintenance", "no_maintenance", "description"])]
pub(crate) struct EditServer {
    /// Its name or id.
    #[arg(id = "server_name", value_name = "SERVER")]
    server: String,

    /// Another name.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// Another place: USER@HOST or USER@HOST:PORT (22, if no port is given).
    #[arg(long, value_name = "USER@HOST[:PORT]")]
    address: Option<Address>,

    /// Another credential.
    #[arg(long, value_name = "NAME")]
    credential: Option<String>,

    /// No credential any more.
    #[arg(long, conflicts_with = "credential")]
    no_credential: bool,

    /// Add a tag.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,

    /// Take a tag away.
    #[arg(long, value_name = "TAG")]
    untag: Vec<String>,

    /// Add it to a group.
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,

    /// Take it out of a group.
    #[arg(long, value_name = "GROUP")]
    ungroup: Vec<String>,

    /// Begin maintenance: executions that are accepted from now on leave the server out.
    #[arg(long)]
    maintenance: bool,

    /// End maintenance.
    #[arg(long, conflicts_with = "maintenance")]
    no_maintenance: bool,

    /// Another description.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,

    #[command(flatten)]
    dry_run: DryRun,
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: EditServer) -> CommandResult {
    let client = ctx.client().await?;
    let request = Request::get(["servers", &args.server]).naming(Collection::Servers, &args.server);
    let server = client.send(request).await?;
    let request = Request::patch(["servers", &args.server], patch(&args, &server)).if_unchanged(&server);
    let request = args.credential.iter().fold(request, |request, name| request.naming(Collection::Credentials, name));
    let request = args.groups.iter().fold(request, |request, name| request.naming(Collection::Groups, name));
    let Some(server) = client.change(ui, args.dry_run.dry_run, request).await? else { return Ok(()) };
    ui.done(&VIEW, &server, |name| format!("changed server {name}"))
}

fn patch(args: &EditServer, server: &Value) -> Value {
    let mut patch = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            patch.insert(name.to_owned(), value);
        }
    };
    put("name", args.name.as_deref().map(Value::from));
    put("description", args.description.as_deref().map(Value::from));
    if let Some(address) = &args.address {
        put("user", Some(json!(address.user)));
        put("host", Some(json!(address.host)));
        put("port", Some(json!(address.port.unwrap_or(22))));
    }
    put("credential", args.no_credential.then_some(Value::Null).or(args.credential.as_deref().map(Value::from)));
    put("maintenance", (args.maintenance || args.no_maintenance).then_some(Value::Bool(args.maintenance)));
    put("tags", changed(server, "tags", &args.tags, &args.untag));
    put("groups", changed(server, "groups", &args.groups, &args.ungroup));
    Value::Object(patch)
}

/// A list with some added and some taken away; `None` if neither.
fn changed(server: &Value, field: &str, add: &[String], remove: &[String]) -> Option<Value> {
    if add.is_empty() && remove.is_empty() {
        return None;
    }
    let present = server.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let present = present.iter().filter_map(Value::as_str).map(str::to_owned);
    let mut list: Vec<String> = present.chain(add.iter().cloned()).filter(|item| !remove.contains(item)).collect();
    list.sort();
    list.dedup();
    Some(json!(list))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_added_and_taken_away() {
        let server = json!({"tags": ["prod", "web"]});
        let own = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
        assert_eq!(changed(&server, "tags", &own(&["canary", "web"]), &own(&["prod"])), Some(json!(["canary", "web"])));
        assert_eq!(changed(&server, "tags", &[], &[]), None);
        assert_eq!(changed(&server, "groups", &own(&["eu"]), &[]), Some(json!(["eu"])));
    }
}
