//! `birun server import`

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use birun_core::inventory::{CredentialInspector as _, OfferedKey, OpenCredential};
use birun_core::name::Name;
use birun_core::vault::Secret;
use birun_exec::SshKeys;
use clap::Args;
use serde_json::{Value, json};

use super::address;
use crate::args::DryRun;
use crate::client::{Client, Request};
use crate::config::home;
use crate::context::Context;
use crate::error::{CommandError, CommandResult};
use crate::exit::Exit;
use crate::input::{Entry, HomeFiles, SshConfig, is_encrypted_key, put, read_text};
use crate::ui::{Column, Kind, Ui, View, visible};

const EXAMPLES: &str = "\
Examples:
  birun server import --ssh-config ~/.ssh/config --dry-run
  birun server import --ssh-config ~/.ssh/config
  birun server host-key import --known-hosts ~/.ssh/known_hosts";

/// Add the hosts that OpenSSH's client configuration names.
///
/// A server is made of each host that a Host line names outright; patterns give values as they do for
/// ssh. The key of the first IdentityFile that is there is stored once, with the certificate beside
/// it. What is there already stays as it is, so the same file can be imported again. Hosts behind a
/// ProxyJump or a ProxyCommand are skipped.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ImportServers {
    /// The configuration, often ~/.ssh/config; - is stdin.
    #[arg(long, value_name = "FILE")]
    ssh_config: PathBuf,

    #[command(flatten)]
    dry_run: DryRun,
}

/// What became of each host.
const REPORT: View = View {
    plural: "hosts",
    name: "name",
    columns: &[
        Column::new("name", "/name", Kind::Text),
        Column::new("status", "/status", Kind::Status),
        Column::new("address", "/address", Kind::Text),
        Column::new("credential", "/credential", Kind::Text),
        Column::new("reason", "/reason", Kind::Text),
    ],
};

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: ImportServers) -> CommandResult {
    let files = HomeFiles { home: home()? };
    let config = SshConfig::parse(&read_text(&args.ssh_config)?, &files);
    for line in &config.unknown {
        ui.note(&format!("warning: what stands under `{}` is left out; it cannot be told here", visible(line)));
    }
    let client = ctx.client().await?;
    let stored = client.list(Request::get(["credentials"]), None).await?;
    let mut import = Import {
        ui,
        client,
        dry_run: args.dry_run.dry_run,
        files,
        user: ctx.user.clone(),
        credentials: stored.get("items").and_then(Value::as_array).cloned().unwrap_or_default(),
        keys: HashMap::new(),
    };
    let mut rows = Vec::new();
    for alias in config.aliases() {
        rows.push(import.host(alias, &config.entry(alias)).await?);
    }
    ui.list(&REPORT, &json!({"items": rows, "next": Value::Null}))
}

/// An import under way.
struct Import<'a> {
    ui: &'a Ui,
    client: Client,
    dry_run: bool,
    files: HomeFiles,
    /// Who signs in where nobody is named, as ssh does it.
    user: String,
    /// The credentials that are stored.
    credentials: Vec<Value>,
    /// The credentials that hold the keys of these files.
    keys: HashMap<PathBuf, String>,
}

/// Why a host is not imported.
enum Skip {
    /// The host itself; the others are.
    Because(String),
    /// Nothing more can be imported.
    Failed(CommandError),
}

impl From<CommandError> for Skip {
    /// What birun refuses is the host's own trouble.
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Failed(failure) if matches!(failure.exit, Exit::USAGE | Exit::CONFLICT | Exit::NOT_FOUND) => {
                let hints = failure.hints.iter().map(|hint| format!("; {hint}"));
                Self::Because(failure.message.clone() + &hints.collect::<String>())
            }
            failed => Self::Failed(failed),
        }
    }
}

fn skip<T>(why: impl Into<String>) -> Result<T, Skip> {
    Err(Skip::Because(why.into()))
}

/// What became of one host.
#[derive(Default)]
struct Outcome {
    status: &'static str,
    credential: Option<String>,
    reason: Option<String>,
}

impl Import<'_> {
    async fn host(&mut self, alias: &str, entry: &Entry) -> CommandResult<Value> {
        let outcome = match self.import(alias, entry).await {
            Ok(outcome) => outcome,
            Err(Skip::Because(why)) => Outcome { status: "skipped", reason: Some(why), credential: None },
            Err(Skip::Failed(error)) => return Err(error),
        };
        let server = json!({"user": self.user_of(entry), "host": entry.host, "port": port_of(entry)});
        Ok(json!({
            "name": alias, "status": outcome.status, "address": address(&server),
            "credential": outcome.credential, "reason": outcome.reason,
        }))
    }

    fn user_of(&self, entry: &Entry) -> String {
        entry.user.clone().unwrap_or_else(|| self.user.clone())
    }

    async fn import(&mut self, alias: &str, entry: &Entry) -> Result<Outcome, Skip> {
        if let Err(error) = alias.parse::<Name>() {
            return skip(format!("its name cannot be a server's: {error}"));
        }
        for (how, by) in [("ProxyJump", &entry.jump), ("ProxyCommand", &entry.command)] {
            if let Some(by) = by {
                return skip(format!("it is reached by {how} {by}, which birun cannot do yet"));
            }
        }
        let Some(port) = port_of(entry) else { return skip("its port is none") };
        let mut server = json!({"name": alias, "user": self.user_of(entry), "host": entry.host, "port": port});
        match self.ask(&server, true).await? {
            "would_create" => {}
            status => return Ok(Outcome { status, ..Outcome::default() }),
        }
        let (credential, made) = match self.key_file(alias, entry)? {
            Some(path) => self.credential(&path, entry).await.map(|(name, made)| (Some(name), made))?,
            None => (None, false),
        };
        if let Some(name) = credential.as_ref().filter(|_| !self.dry_run) {
            put(&mut server, "credential", json!(name));
        }
        let asked = self.ask(&server, self.dry_run).await;
        if let (Err(_), true, Some(name)) = (&asked, made, &credential) {
            self.forget(name).await;
        }
        let missing = || format!("it names no key; give it one with  birun server edit {alias} --credential NAME");
        let reason = credential.is_none().then(missing);
        Ok(Outcome { status: asked?, credential, reason })
    }

    /// Has a server imported; what became of it, unless it was skipped.
    async fn ask(&self, server: &Value, dry_run: bool) -> Result<&'static str, Skip> {
        let body = json!({"servers": [server], "dry_run": dry_run});
        let report = self.client.send(Request::post(["servers", "import"], body)).await?;
        let item = report.pointer("/items/0").cloned().unwrap_or_default();
        match text(&item, "status") {
            "created" => Ok("created"),
            "would_create" => Ok("would_create"),
            "exists" => Ok("exists"),
            _ => skip(text(&item, "reason")),
        }
    }

    async fn create(&self, request: Request) -> CommandResult {
        if self.dry_run { Ok(()) } else { self.client.send(request).await.map(drop) }
    }

    /// Nothing is left behind of a server that was not added.
    async fn forget(&mut self, name: &str) {
        if !self.dry_run {
            self.client.send(Request::delete(["credentials", name])).await.ok();
        }
        self.keys.retain(|_, known| known != name);
        self.credentials.retain(|credential| text(credential, "name") != name);
    }

    /// The first key file of a host that is there.
    fn key_file(&self, alias: &str, entry: &Entry) -> Result<Option<PathBuf>, Skip> {
        let paths: Vec<PathBuf> = entry.keys.iter().map(|text| self.expand(text, alias, entry)).collect();
        match paths.iter().find(|path| path.is_file()) {
            Some(path) => Ok(Some(path.clone())),
            None if paths.is_empty() => Ok(None),
            None => {
                let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
                skip(format!("none of its keys is there: {}", paths.join(", ")))
            }
        }
    }

    fn expand(&self, text: &str, alias: &str, entry: &Entry) -> PathBuf {
        let home = self.files.home.display().to_string();
        let tokens = [("%d", home.as_str()), ("%u", &self.user), ("%h", &entry.host), ("%n", alias)];
        let text = tokens.iter().fold(text.to_owned(), |text, (token, value)| text.replace(token, value));
        self.files.path(&text.replace("%r", &self.user_of(entry)), Path::new(""))
    }

    /// The name of the credential that holds a key, and whether it was stored for this host.
    async fn credential(&mut self, path: &Path, entry: &Entry) -> Result<(String, bool), Skip> {
        if let Some(name) = self.keys.get(path) {
            return Ok((name.clone(), false));
        }
        let key = read_text(path)?;
        let public = read_text(&beside(path, ".pub")).ok().and_then(|line| OfferedKey::parse(&line).ok());
        let fingerprint = match public {
            Some(public) => Some(public.fingerprint),
            None if is_encrypted_key(&key) => None,
            None => fingerprint(&key)?,
        };
        let known = self.credentials.iter().find(|credential| {
            text(credential, "kind") == "private_key" && fingerprint.as_deref() == Some(text(credential, "fingerprint"))
        });
        if let Some(known) = known {
            let name = text(known, "name").to_owned();
            self.keys.insert(path.to_owned(), name.clone());
            return Ok((name, false));
        }
        let name = self.free_name(path);
        let mut body =
            json!({"name": name, "private_key": key, "description": format!("imported from {}", path.display())});
        if is_encrypted_key(&key) {
            put(&mut body, "passphrase", json!(self.passphrase(path)?));
        }
        let certificate = match entry.certificates.first() {
            Some(named) => Some(self.files.path(named, Path::new(""))),
            None => Some(beside(path, "-cert.pub")).filter(|beside| beside.is_file()),
        };
        if let Some(certificate) = certificate {
            put(&mut body, "certificate", json!(read_text(&certificate)?));
        }
        self.create(Request::post(["credentials"], body)).await?;
        self.credentials.push(json!({"name": name, "kind": "private_key", "fingerprint": fingerprint}));
        self.keys.insert(path.to_owned(), name.clone());
        Ok((name, true))
    }

    fn passphrase(&self, path: &Path) -> Result<String, Skip> {
        if self.dry_run {
            return Ok(String::new());
        }
        if !self.ui.can_ask() {
            let shown = path.display();
            return skip(format!(
                "its key {shown} is encrypted; import where birun can ask for the passphrase, or store the key first \
                 with  birun credential create NAME --key {shown} --passphrase-file FILE"
            ));
        }
        Ok(self.ui.secret(&format!("passphrase of {}:", path.display()), "--passphrase-file FILE")?)
    }

    /// A name for a key's credential, like its file's.
    fn free_name(&self, path: &Path) -> String {
        let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let fit = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
        let plain: String = file.trim_start_matches(['.', '_', '-']).chars().map(fit).take(48).collect();
        let plain = if plain.parse::<Name>().is_ok() { plain } else { format!("key-{plain}") };
        let taken = |name: &str| self.credentials.iter().any(|credential| text(credential, "name") == name);
        let numbered = (2..).map(|number: u32| format!("{plain}-{number}"));
        std::iter::once(plain.clone()).chain(numbered).find(|name| !taken(name)).unwrap_or(plain)
    }
}

fn fingerprint(key: &str) -> Result<Option<String>, Skip> {
    let value = OpenCredential::PrivateKey { key: Secret::new(key), passphrase: None, certificate: None };
    match SshKeys.inspect(&value) {
        Ok(facts) => Ok(facts.fingerprint),
        Err(error) => skip(format!("its key cannot be used: {error}")),
    }
}

fn port_of(entry: &Entry) -> Option<u16> {
    entry.port.as_deref().map_or(Some(22), |text| text.parse().ok().filter(|port| *port > 0))
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn text<'a>(item: &'a Value, field: &str) -> &'a str {
    item.get(field).and_then(Value::as_str).unwrap_or_default()
}
