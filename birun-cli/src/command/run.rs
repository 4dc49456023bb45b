//! `birun run`

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use birun_core::script::{ParamKind, RunMode};
use clap::Args;
use serde_json::{Map, Value, json};

use super::start::{FollowArgs, StrategyArgs, naming_targets};
use crate::client::{Client, Collection, Request};
use crate::context::Context;
use crate::error::{CommandError, CommandResult};
use crate::input::{self, ParamArgs, read_text};
use crate::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  birun run ./hello.sh                                       a file (with a slash), on this machine
  birun run disk-report --on 'tag:prod,!web-3' -p LIMIT=80   a stored script, on servers
  birun run deploy --on tag:web --batch 25% --max-failures 1
  birun run failover-job --on tag:db --failover --first primary
  birun run backup --on db-1 -p TOKEN=@token.txt             a secret, from a file
  echo 'uptime' | birun run - --on tag:prod                  a script from stdin
  birun run ./check.sh --exit-code script                    exit as the script does";

/// Run a script and show its output while it runs.
///
/// The script is a stored one (by name or id), a file (a path with a slash), or - for stdin. A file
/// runs on this machine unless --on says otherwise; a stored script on its own default targets.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct RunArgs {
    /// A stored script, a file such as ./hello.sh, or - for stdin.
    #[arg(value_name = "SCRIPT|FILE|-")]
    script: String,

    /// Where to run it: local, web-1, tag:prod, group:db, all; combined by , & and !
    #[arg(long, value_name = "TARGETS")]
    on: Option<String>,

    #[command(flatten)]
    params: ParamArgs,

    #[command(flatten)]
    strategy: StrategyArgs,

    /// Limit of the whole run.
    #[arg(long, value_name = "TIME", value_parser = input::duration)]
    timeout: Option<Duration>,

    /// How it runs on servers: ended with its connection (attached), or by itself, to be found again
    /// after a lost connection or worker (detached). What a stored script says, if not given.
    #[arg(long, value_name = "MODE", value_parser = input::one_of(RunMode::ALL, RunMode::as_str))]
    mode: Option<String>,

    /// Accept the run only once under this key, however often it is sent.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,

    /// A version of a stored script other than the newest.
    #[arg(long, value_name = "N")]
    script_version: Option<u32>,

    /// What runs a file: shebang, sh, bash, python3, or an absolute path.
    #[arg(long, value_name = "PROGRAM", conflicts_with = "script_version")]
    interpreter: Option<String>,

    #[command(flatten)]
    follow: FollowArgs,
}

/// What is to be run.
enum Subject {
    /// A stored script.
    Stored(String),
    /// A body, and its title.
    Body { title: String, content: String },
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: RunArgs) -> CommandResult {
    let subject = Subject::read(&args)?;
    let session = args.strategy.session(ctx, &args.follow).await?;
    let declared = match &subject {
        Subject::Stored(name) if !args.params.is_empty() => {
            declared_params(&session.client, name, args.script_version).await?
        }
        _ => BTreeMap::new(),
    };
    let params = args.params.read(ui, &declared)?;
    let request = request(&args, &subject, params);
    args.strategy.start(ui, args.follow, session, request).await
}

fn request(args: &RunArgs, subject: &Subject, params: Value) -> Request {
    let mut body = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    };
    put("kind", Some(json!("script")));
    put("params", Some(params));
    put("targets", args.on.as_deref().map(Value::from));
    put("strategy", args.strategy.body());
    put("timeout", args.timeout.map(|timeout| json!(birun_core::duration::format(timeout))));
    put("mode", args.mode.as_deref().map(Value::from));
    match subject {
        Subject::Stored(name) => {
            put("script_id", Some(json!(name)));
            put("script_version", args.script_version.map(Value::from));
        }
        Subject::Body { title, content } => {
            put("title", Some(json!(title)));
            put("content", Some(json!(content)));
            put("interpreter", args.interpreter.as_deref().map(Value::from));
        }
    }
    let mut request = Request::post(["executions"], Value::Object(body));
    if let Some(key) = &args.idempotency_key {
        request = request.header("idempotency-key", key);
    }
    if let Subject::Stored(name) = subject {
        request = request.naming(Collection::Scripts, name);
    }
    naming_targets(request, args.on.as_deref())
}

impl Subject {
    fn read(args: &RunArgs) -> CommandResult<Self> {
        let script = &args.script;
        let is_stored = script != "-" && !script.contains('/');
        if args.script_version.is_some() && !is_stored {
            return Err(CommandError::usage("only a stored script has versions")
                .hint("leave out --script-version, or name a stored script; see them with  birun script list"));
        }
        if script == "-" {
            if args.params.reads_stdin() {
                return Err(CommandError::usage("stdin cannot be both the script and a parameter")
                    .hint("put one of them into a file"));
            }
            return Ok(Self::Body { title: "stdin".to_owned(), content: read_text(Path::new("-"))? });
        }
        if !is_stored {
            let path = Path::new(script);
            let title = path.file_name().map_or_else(|| script.clone(), |name| name.to_string_lossy().into_owned());
            return Ok(Self::Body { title, content: read_text(path)? });
        }
        if args.interpreter.is_some() {
            return Err(CommandError::usage("a stored script has its own interpreter")
                .hint(format!("change it with  birun script edit {script} --interpreter …")));
        }
        Ok(Self::Stored(script.clone()))
    }
}

/// The parameters that a stored script declares, with their types.
async fn declared_params(
    client: &Client,
    name: &str,
    version: Option<u32>,
) -> CommandResult<BTreeMap<String, ParamKind>> {
    let request = match version.map(|version| version.to_string()) {
        Some(version) => Request::get(["scripts", name, "versions", &version]),
        None => Request::get(["scripts", name]),
    };
    let script =
        client.send(request.naming(Collection::Scripts, name)).await.map_err(|error| hint_at_file(error, name))?;
    let parameters = script.get("parameters").and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |parameter: &Value, field: &str| Some(parameter.get(field)?.as_str()?.to_owned());
    // A type of a later server is taken for none: what is given from a file stays secret.
    let declared = |parameter: &Value| Some((text(parameter, "name")?, text(parameter, "type")?.parse().ok()?));
    Ok(parameters.iter().filter_map(declared).collect())
}

/// A file that lies in the current directory was meant, perhaps.
fn hint_at_file(error: CommandError, name: &str) -> CommandError {
    if Path::new(name).is_file() { error.hint(format!("to run the file, write  ./{name}")) } else { error }
}
