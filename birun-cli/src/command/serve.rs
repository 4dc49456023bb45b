//! `birun serve`

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use birun_core::engine::{Engine, Roles};
use birun_core::identity::Principal;
use birun_core::vault::Secret;
use birun_http::{App, BearerToken, Tls};
use clap::Args;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::worker::DaemonArgs;
use crate::config::Reach;
use crate::context::Context;
use crate::error::{CommandError, CommandResult};
use crate::live::Interrupts;
use crate::local::{DataDir, Purpose, ServeFile, ServeLock, open_engine};
use crate::logging::LogFormat;
use crate::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  birun serve                                        on 127.0.0.1:7878, with its own worker
  birun serve --listen 0.0.0.0:443 --tls-cert cert.pem --tls-key key.pem
  birun serve --roles api --database-url postgres://birun@db/birun

The token of the API is in serve.json in the data directory, which only its user can read; birun
on the same machine finds it there.";

/// Offer the HTTP API, and run what it is asked to run.
///
/// On SIGTERM it starts nothing more and waits for what runs; a second SIGTERM stops that.
/// What may be run again, and what was not started, goes to other workers.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ServeArgs {
    /// Where to listen.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7878")]
    listen: SocketAddr,

    /// The path that the API is under, for a reverse proxy: /ops
    #[arg(long, value_name = "PATH", default_value = "", hide_default_value = true)]
    base_path: String,

    /// What this process does: offer the API, run executions.
    #[arg(long, value_name = "ROLES", value_delimiter = ',', default_value = "api,worker")]
    roles: Vec<Role>,

    /// The certificate chain, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// The certificate's private key, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Listen on other addresses than loopback without TLS: tokens and output cross the network in clear.
    #[arg(long)]
    insecure_listen: bool,

    /// The token that callers show, in a file; without it, every start makes a new one.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    #[command(flatten)]
    daemon: DaemonArgs,
}

/// How often samples are summed up.
const UPKEEP: Duration = Duration::from_secs(5);
/// Tokens that are shorter can be guessed.
const SHORTEST_TOKEN: usize = 16;

/// A part of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Role {
    /// Offers the HTTP API.
    Api,
    /// Runs executions.
    Worker,
}

impl ServeArgs {
    /// The form of its logs.
    pub(super) const fn log_format(&self) -> LogFormat {
        self.daemon.log_format
    }

    fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
}

pub(crate) async fn run(_ui: &Ui, ctx: &Context, args: ServeArgs) -> CommandResult {
    check(ctx, &args)?;
    let dir = DataDir::at(&ctx.settings.data_dir.value);
    dir.create()?;
    let lock = ServeLock::take(&dir)?;
    let mut interrupts = Interrupts::listen()?;
    let opened = open_engine(&ctx.settings, Purpose::Work { slots: args.daemon.slots }).await?;
    let token = args.token_file.as_deref().map_or_else(new_token, read_token)?;
    let draining = CancellationToken::new();
    let api = Api::open(&args, &opened.engine, &token, ctx, &draining).await?;
    let running = opened.engine.start(Roles { worker: args.has(Role::Worker) }).await?;
    lock.publish(&ServeFile {
        address: api.own_address.clone(),
        token,
        pid: std::process::id(),
        database: ctx.settings.database(),
    })?;
    tracing::info!(address = api.address, "ready");
    interrupts.next().await;
    draining.cancel();
    // Followers hear the end of what runs, so the API goes last.
    let drained = args.daemon.drain(running, &mut interrupts).await;
    api.close().await;
    drained
}

fn check(ctx: &Context, args: &ServeArgs) -> CommandResult {
    if ctx.settings.reach != Reach::Local {
        return Err(CommandError::usage("a server serves this machine's data, not another server's")
            .hint("leave out --server and --context, and unset BIRUN_SERVER and BIRUN_CONTEXT"));
    }
    if !args.has(Role::Api) {
        return Err(CommandError::usage("a server without the API is a worker").hint("start  birun worker"));
    }
    birun_http::may_listen(args.listen, args.tls_cert.is_some(), args.insecure_listen)
        .map_err(|error| CommandError::usage(error.to_string()).hint(error.hint().unwrap_or_default()))?;
    Ok(())
}

/// What callers show, as the administrator chose it.
fn read_token(path: &Path) -> CommandResult<Secret> {
    let text =
        std::fs::read_to_string(path).map_err(|error| CommandError::unreadable("read the token in", path, &error))?;
    let token = text.trim();
    if token.len() < SHORTEST_TOKEN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(CommandError::usage(format!("{} holds no token", path.display())).hint(format!(
            "a token is {SHORTEST_TOKEN} or more printable ASCII characters; make one with  openssl rand -hex 32"
        )));
    }
    Ok(Secret::new(token))
}

/// What callers show, unless the server was given one: 32 random bytes.
fn new_token() -> CommandResult<Secret> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| CommandError::failed("no random bytes are there").because(&error))?;
    Ok(Secret::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
}

/// The API on its listeners.
struct Api {
    app: App,
    /// Where this machine's own command line reaches it.
    own_address: String,
    /// Where everyone reaches it.
    address: String,
    stop: CancellationToken,
    served: TaskTracker,
}

impl Api {
    /// Listens and answers. With TLS, this machine's command line gets a loopback port of its own,
    /// where no certificate has to be trusted.
    async fn open(
        args: &ServeArgs,
        engine: &Engine,
        token: &Secret,
        ctx: &Context,
        draining: &CancellationToken,
    ) -> CommandResult<Self> {
        let metrics = PrometheusBuilder::new()
            .install_recorder()
            .map_err(|error| CommandError::failed("metrics cannot be collected").because(&error))?;
        let samples = metrics.clone();
        let app = birun_http::mount(engine)
            .auth(BearerToken::new(token, Principal::local(&ctx.user)))
            .base_path(&args.base_path)
            .metrics(move || metrics.render())
            .draining(draining.clone())
            .build()?;
        let tls = read_tls(args)?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let main = bind(args.listen).await?;
        let address = local_address(&main)?;
        let mut api = Self {
            own_address: format!("http://{}{}", reachable(address), app.base_path()),
            address: format!("{scheme}://{address}{}", app.base_path()),
            stop: CancellationToken::new(),
            served: TaskTracker::new(),
            app: app.clone(),
        };
        api.keep_up(samples);
        if tls.is_some() {
            let own = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
            api.own_address = format!("http://{}{}", local_address(&own)?, app.base_path());
            api.serve(own, app.clone(), None);
        }
        api.serve(main, app, tls);
        Ok(api)
    }

    /// Sums samples up now and then: a server that nobody scrapes does not keep each of them.
    fn keep_up(&self, metrics: PrometheusHandle) {
        let stop = self.stop.clone();
        self.served.spawn(async move {
            let mut ticks = tokio::time::interval(UPKEEP);
            while stop.run_until_cancelled(ticks.tick()).await.is_some() {
                metrics.run_upkeep();
            }
        });
    }

    fn serve(&self, listener: TcpListener, app: App, tls: Option<Tls>) {
        self.served.spawn(birun_http::serve(listener, app, tls, self.stop.clone().cancelled_owned()));
    }

    async fn close(self) {
        self.stop.cancel();
        self.served.close();
        self.served.wait().await;
        self.app.finish().await;
    }
}

fn read_tls(args: &ServeArgs) -> CommandResult<Option<Tls>> {
    let (Some(chain), Some(key)) = (&args.tls_cert, &args.tls_key) else { return Ok(None) };
    let read = |path: &PathBuf| std::fs::read(path).map_err(|error| CommandError::unreadable("read", path, &error));
    Ok(Some(Tls::from_pem(&read(chain)?, &read(key)?)?))
}

async fn bind(address: SocketAddr) -> CommandResult<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        CommandError::failed(format!("cannot listen on {address}"))
            .because(&error)
            .hint("another program may listen there; choose another address with  --listen")
    })
}

fn local_address(listener: &TcpListener) -> CommandResult<SocketAddr> {
    listener.local_addr().map_err(|error| CommandError::failed("the listener has no address").because(&error))
}

/// The address by which this machine reaches a listener that may be on all of its addresses.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::from((Ipv4Addr::LOCALHOST, address.port())),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::from((Ipv6Addr::LOCALHOST, address.port())),
        _ => address,
    }
}
