//! What `run`, `exec` and `execution retry` have in common: starting something, and watching it.

use std::convert::Infallible;
use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value, json};

use super::preview;
use crate::args::DryRun;
use crate::client::{Collection, Request, Started};
use crate::context::{Context, Driver, Session};
use crate::error::{CommandError, CommandResult};
use crate::exit::Exit;
use crate::input;
use crate::live::{Board, ExitOf, Interrupts, Watch, goes_on_without_us, header};
use crate::ui::{Format, Ui};

/// How long an answer may take before someone who wants to leave is told what is waited for.
const PATIENCE: Duration = Duration::from_millis(500);

/// How a run goes through its targets.
#[derive(Clone, Debug, Args)]
pub(super) struct StrategyArgs {
    /// Most targets at once.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    parallel: Option<u32>,

    /// Rolling batches of N targets, or of N% of them: the next begins when the one before has ended.
    #[arg(long, value_name = "N|N%", value_parser = amount)]
    batch: Option<String>,

    /// Start no further target after N (or N%) without success.
    #[arg(long, value_name = "N|N%", value_parser = amount)]
    max_failures: Option<String>,

    /// Take the targets by name, or shuffled.
    #[arg(long, value_name = "ORDER", value_parser = ["name", "random"])]
    order: Option<String>,

    /// Servers with this tag first; given several times, or with commas: then those with the next tag.
    #[arg(long = "first", value_name = "TAG", value_delimiter = ',', value_parser = tag)]
    ranks: Vec<String>,

    /// Try one target after the other until one succeeds, and skip the rest.
    #[arg(long, conflicts_with_all = ["parallel", "batch", "max_failures"])]
    failover: bool,

    /// A target that is down is no failure, as long as another one succeeds; one that refuses us still is.
    #[arg(long)]
    skip_unreachable: bool,

    /// Show the targets, in order, and start nothing.
    #[arg(long, conflicts_with = "dry_run")]
    preview: bool,
}

/// How a run is watched.
#[derive(Clone, Debug, Args)]
pub(super) struct FollowArgs {
    /// Start it and return at once; without a server, a worker of its own drives it.
    #[arg(long, conflicts_with_all = ["wait_timeout", "exit_code"])]
    no_follow: bool,

    /// Stop waiting after this time, with exit code 8; the execution goes on.
    #[arg(long, value_name = "TIME", value_parser = input::duration)]
    wait_timeout: Option<Duration>,

    /// Whose exit code to exit with: the run's, or the script's own (if there is one target).
    #[arg(long, value_name = "WHOSE", default_value = "run")]
    exit_code: ExitOf,

    #[command(flatten)]
    dry_run: DryRun,
}

/// A tag, as it stands at servers.
fn tag(text: &str) -> Result<String, String> {
    if let Some(tag) = text.strip_prefix("tag:") {
        return Err(format!("give the tag itself: {tag}"));
    }
    let tag: birun_core::name::Tag = text.parse().map_err(|error: birun_core::Error| error.to_string())?;
    Ok(tag.to_string())
}

/// A strategy's number or share.
fn amount(text: &str) -> Result<String, String> {
    let amount: birun_core::execution::Amount = text.parse().map_err(|error: birun_core::Error| error.to_string())?;
    Ok(amount.to_string())
}

impl StrategyArgs {
    /// The strategy as the API takes it; what is not given is left to it.
    pub(super) fn body(&self) -> Option<Value> {
        let mut strategy = Map::new();
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                strategy.insert(name.to_owned(), value);
            }
        };
        put("parallel", self.parallel.map(Value::from));
        put("batch", self.batch.as_deref().map(count_or_share));
        put("max_failures", self.max_failures.as_deref().map(count_or_share));
        put("order", self.order.as_deref().map(Value::from));
        put("ranks", (!self.ranks.is_empty()).then(|| json!(self.ranks)));
        put("failover", self.failover.then_some(Value::Bool(true)));
        put("skip_unreachable", self.skip_unreachable.then_some(Value::Bool(true)));
        (!strategy.is_empty()).then_some(Value::Object(strategy))
    }

    /// A way to birun: one that drives nothing, if the targets are only to be shown.
    ///
    /// # Errors
    /// When there is none.
    pub(super) async fn session(&self, ctx: &Context, follow: &FollowArgs) -> CommandResult<Session> {
        if self.preview { ctx.session(Driver::Detached).await } else { follow.session(ctx).await }
    }

    /// Sends a request that starts an execution and watches that, or shows what it would start.
    ///
    /// # Errors
    /// When it is refused; the command ends with the execution's code.
    pub(super) async fn start(&self, ui: &Ui, follow: FollowArgs, session: Session, request: Request) -> CommandResult {
        if !self.preview {
            return follow.start(ui, session, request).await;
        }
        let shown = preview::show(ui, &session.client, request).await;
        session.close().await?;
        shown
    }
}

/// A count is a number, a share a text.
fn count_or_share(text: &str) -> Value {
    text.parse::<u32>().map_or_else(|_| json!(text), Value::from)
}

impl FollowArgs {
    /// A way to birun that suits how the run is watched.
    ///
    /// # Errors
    /// When there is none.
    pub(super) async fn session(&self, ctx: &Context) -> CommandResult<Session> {
        // A run that is not waited for to its end cannot be driven by this process.
        let leaves = self.no_follow || self.wait_timeout.is_some() || self.dry_run.dry_run;
        ctx.session(if leaves { Driver::Detached } else { Driver::Here }).await
    }

    /// Sends a request that starts an execution, and watches that to its end.
    ///
    /// # Errors
    /// When it is refused; the command ends with the execution's code.
    pub(super) async fn start(self, ui: &Ui, session: Session, request: Request) -> CommandResult {
        let mut interrupts = Interrupts::listen()?;
        session.hand_over_orphans().await.inspect(|told| ui.note(told));
        let accepted = self.accepted(ui, &session, request, &mut interrupts).await;
        let Started { mut execution, before } = match accepted {
            Ok(Some(started)) => started,
            Ok(None) => return session.close().await,
            Err(interrupted @ CommandError::Ended(_)) => return Err(interrupted),
            Err(refused) => {
                session.close().await?;
                return Err(refused);
            }
        };
        let short = Board::new(execution.clone()).short_id().to_owned();
        if before {
            ui.note(&format!("this key was used before: nothing new is started, this is execution {short}"));
        }
        if let Some(here) = session.here.as_ref().filter(|here| here.running.is_none()) {
            here.detached.start()?;
            wait_for_worker(&mut execution);
        }
        if self.no_follow {
            return tell_started(ui, execution);
        }
        let id = execution.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        // What an earlier request started lives elsewhere.
        let drives = session.drives() && !before;
        let watch = Watch { timeout: self.wait_timeout, exit_of: self.exit_code, drives };
        let watched = match watch.run(ui, &session, execution, interrupts).await {
            Err(error @ CommandError::Failed(_)) if drives => {
                // Nobody would see what goes on here.
                session.client.send(Request::act(["executions", &id, "cancel"])).await.ok();
                Err(error)
            }
            Err(error @ CommandError::Failed(_)) => Err(error.hint(goes_on_without_us(&short))),
            ended => ended,
        };
        session.close().await?;
        watched
    }

    /// Sends the request that starts something. A request to stop that comes meanwhile is kept until
    /// it is known what there is to stop; the second one waits for nothing.
    async fn accepted(
        &self,
        ui: &Ui,
        session: &Session,
        request: Request,
        interrupts: &mut Interrupts,
    ) -> CommandResult<Option<Started>> {
        if self.dry_run.dry_run {
            ui.value(&request.preview()?)?;
            return Ok(None);
        }
        let mut answer = pin!(session.client.start(request));
        tokio::select! {
            answer = &mut answer => return answer.map(Some),
            () = interrupts.next() => {}
        }
        let waiting = async {
            tokio::time::sleep(PATIENCE).await;
            ui.note("waiting for the answer; Ctrl-C again leaves without it");
            pending::<Infallible>().await
        };
        tokio::select! {
            never = waiting => match never {},
            answer = &mut answer => {
                interrupts.keep();
                answer.map(Some)
            }
            () = interrupts.next() => Err(CommandError::Ended(Exit::INTERRUPTED)),
        }
    }
}

/// Says of a queued execution that a worker was started for it: the answer is older than that.
fn wait_for_worker(execution: &mut Value) {
    if execution.get("status").and_then(Value::as_str) == Some("queued") {
        input::put(execution, "why", json!("waits for the worker that was started for it"));
    }
}

fn tell_started(ui: &Ui, execution: Value) -> CommandResult {
    let board = Board::new(execution);
    if !ui.format().is_for_people() {
        return match ui.format() {
            Format::Name => ui.line(board.text("id").unwrap_or_default()),
            format => ui.write(format.serialize(&board.execution)?.as_bytes()),
        };
    }
    ui.note(&header(&board));
    ui.line(board.short_id())?;
    ui.hint(&format!("follow it with  birun logs {} -f", board.short_id()));
    Ok(())
}

/// Adds the servers and groups that an expression names, for suggestions.
pub(super) fn naming_targets(request: Request, expr: Option<&str>) -> Request {
    let Some(expr) = expr else { return request };
    expr.split([',', '&']).map(|part| part.trim().trim_start_matches('!')).fold(request, |request, part| {
        match part.split_once(':') {
            Some(("group", group)) => request.naming(Collection::Groups, group),
            Some(_) => request,
            None if matches!(part, "local" | "all") => request,
            None => request.naming(Collection::Servers, part),
        }
    })
}
