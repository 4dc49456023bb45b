//! `birun logs`

use std::time::Duration;

use birun_core::{Clock, SystemClock};
use chrono::{DateTime, Utc};
use clap::Args;
use futures::StreamExt;
use regex::Regex;
use serde_json::Value;

use crate::client::{Client, Happening, Record, Request};
use crate::context::Context;
use crate::error::{CommandError, CommandResult};
use crate::exit::Exit;
use crate::input;
use crate::live::{Board, Interrupts, Layout, Printer, Why, goes_on_without_us, lost, regained, tell_end};
use crate::ui::{Format, Ui, short, visible};

const EXAMPLES: &str = "\
Examples:
  birun logs 7d20c1a9                    the output so far
  birun logs 7d20c1a9 -f                 and what is still to come
  birun logs 7d20c1a9 --on web-1 --grep error --timestamps
  birun logs 7d20c1a9 --raw > output     every byte as the programs wrote it";

/// Records that are taken in at once.
const BATCH: usize = 64;
/// Targets that are named where another one was meant, or that have no output to show.
const NAMED: usize = 10;

/// Show the output of an execution. All of it goes to stdout.
///
/// stderr names the targets that could not be reached or were lost. With -f, it tells how the
/// execution ended, and why it does not go on if no worker drives it.
/// The exit code is 0 however it ended: what was asked for is its output.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct LogsArgs {
    /// The execution: its short id, its id, or the beginning of that.
    execution: String,

    /// Go on until the execution has ended.
    #[arg(short, long)]
    follow: bool,

    /// Only the output of this target.
    #[arg(long, value_name = "TARGET")]
    on: Option<String>,

    /// Only the output of this step: one attempt on one target.
    #[arg(long, value_name = "ID")]
    step: Option<String>,

    /// Only this stream.
    #[arg(long, value_name = "STREAM", value_parser = ["stdout", "stderr", "system"])]
    stream: Option<String>,

    /// Only what came in this last stretch of time.
    #[arg(long, value_name = "TIME", value_parser = input::duration)]
    since: Option<Duration>,

    /// Only lines that match this regular expression.
    #[arg(long, value_name = "REGEX")]
    grep: Option<Regex>,

    /// Begin each line with its instant.
    #[arg(long)]
    timestamps: bool,

    /// Every byte as it was written: no prefix, nothing escaped.
    #[arg(long, conflicts_with_all = ["grep", "timestamps", "since"])]
    raw: bool,
}

pub(crate) async fn run(ui: &Ui, ctx: &Context, args: LogsArgs) -> CommandResult {
    let client = ctx.client().await?;
    let execution = client.send(Request::get(["executions", &args.execution])).await?;
    let id = execution.get("id").and_then(Value::as_str).unwrap_or(&args.execution);
    let request = Request::get(["executions", id, "logs"])
        .query_opt("target", args.on.as_deref())
        .query_opt("step", args.step.as_deref())
        .query_opt("stream", args.stream.as_deref());
    if let Some(target) = &args.on {
        is_target(&client, &execution, target).await?;
    }
    let mut follower = Follower { ui, client: &client, id, follow: args.follow, why: Why::new() };
    if args.follow {
        follower.tell_orphaned(&execution);
    }
    if args.raw {
        follower.raw(&request.query("raw", true).query("follow", args.follow)).await?;
    } else {
        let layout = layout(&args, &client, &execution).await?;
        follower.records(request, &args, layout).await?;
    }
    // The end of the only target is told whole.
    if !(args.follow && execution.pointer("/counts/total") == Some(&Value::from(1))) {
        follower.tell_unheard(&args).await?;
    }
    if args.follow { follower.tell_end().await } else { Ok(()) }
}

/// Shows the output of one execution.
struct Follower<'a> {
    ui: &'a Ui,
    client: &'a Client,
    id: &'a str,
    /// Until the execution has ended.
    follow: bool,
    why: Why,
}

impl Follower<'_> {
    async fn raw(&mut self, request: &Request) -> CommandResult {
        let mut body = self.client.stream(request).await?;
        loop {
            let chunk = tokio::select! {
                chunk = body.next() => chunk,
                () = self.why.due(), if self.follow => {
                    self.tell_why().await;
                    continue;
                }
            };
            let Some(chunk) = chunk else { return Ok(()) };
            let broken = |error| self.left_alone(CommandError::failed("the output broke off").because(&error));
            let chunk = chunk.map_err(broken)?;
            self.ui.write(&chunk)?;
        }
    }

    async fn records(&mut self, request: Request, args: &LogsArgs, layout: Layout) -> CommandResult {
        let ui = self.ui;
        let mut printer = Printer::new(ui, layout);
        let mut interrupts = Interrupts::listen()?;
        let since = args
            .since
            .and_then(|span| SystemClock::new().now().checked_sub_signed(chrono::TimeDelta::from_std(span).ok()?));
        let mut output = self.client.output(request, self.follow).ready_chunks(BATCH);
        loop {
            let batch = tokio::select! {
                batch = output.next() => batch,
                () = printer.silence() => {
                    printer.end_silent_lines();
                    printer.flush(ui)?;
                    continue;
                }
                () = self.why.due(), if self.follow => {
                    self.tell_why().await;
                    continue;
                }
                () = interrupts.next() => {
                    printer.end_lines();
                    printer.flush(ui)?;
                    return Err(CommandError::Ended(Exit::INTERRUPTED));
                }
            };
            let Some(batch) = batch else { break };
            for happening in batch {
                match happening.map_err(|error| self.left_alone(error))? {
                    Happening::Output(record) => take(ui, &mut printer, &record, since, args.grep.as_ref())?,
                    Happening::Lost(why) => ui.note(&lost(&why)),
                    Happening::Regained => ui.note(regained()),
                    Happening::Changed { .. } => {}
                }
            }
            printer.flush(ui)?;
        }
        printer.end_lines();
        printer.flush(ui)
    }

    /// Says at once that nobody drives an execution that is said to run. One that is queued may be
    /// taken up in the next moment.
    fn tell_orphaned(&mut self, execution: &Value) {
        if execution.get("status").and_then(Value::as_str) == Some("running")
            && let Some(why) = self.why.news(execution)
        {
            self.ui.note(&visible(&why));
        }
    }

    /// Says what becomes of an execution that can be followed no longer.
    fn left_alone(&self, error: CommandError) -> CommandError {
        if self.follow { error.hint(goes_on_without_us(short(self.id))) } else { error }
    }

    async fn tell_why(&mut self) {
        if let Some(why) = self.why.ask(self.client, self.id).await {
            self.ui.note(&visible(&why));
        }
    }

    /// Names the targets of which there may be no output because they could not be reached or were lost.
    async fn tell_unheard(&self, args: &LogsArgs) -> CommandResult {
        if !self.talks() || args.step.is_some() {
            return Ok(());
        }
        let request = Request::get(["executions", self.id, "steps"])
            .query("newest_attempt", true)
            .query("status", "unreachable,lost")
            .query_opt("target", args.on.as_deref());
        let steps = self.client.steps(request).await?;
        steps.iter().take(NAMED).for_each(|step| self.ui.note(&visible(&unheard(step))));
        if steps.len() > NAMED {
            let (more, id) = (steps.len() - NAMED, short(self.id));
            self.ui.note(&format!("… and {more} more; see  birun execution steps {id} --status unreachable,lost"));
        }
        Ok(())
    }

    /// Whether something is told besides the output.
    fn talks(&self) -> bool {
        self.ui.format().is_for_people() && !self.ui.is_quiet()
    }

    /// Says how the execution ended, as `birun run` does.
    async fn tell_end(&self) -> CommandResult {
        if !self.talks() {
            return Ok(());
        }
        let execution = self.client.send(Request::get(["executions", self.id])).await?;
        let steps = self.client.steps(Request::get(["executions", self.id, "steps"]).query("newest_attempt", true));
        let mut board = Board::default();
        board.change(execution, steps.await?);
        tell_end(self.ui, &board);
        Ok(())
    }
}

/// `db-1: unreachable: connect 10.0.0.9:22: timed out after 10s`
fn unheard(step: &Value) -> String {
    let text = |field: &str| step.get(field).and_then(Value::as_str);
    let parts = [text("target"), text("status"), text("detail")];
    parts.into_iter().flatten().collect::<Vec<_>>().join(": ")
}

/// Asserts that an execution has a target of this name: nothing is not what such a target wrote.
async fn is_target(client: &Client, execution: &Value, target: &str) -> CommandResult {
    let targets = client.targets_of(execution).await?;
    if targets.iter().any(|known| known == target) {
        return Ok(());
    }
    let short = execution.get("short_id").and_then(Value::as_str).unwrap_or_default();
    let more = targets.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let named = targets.into_iter().take(NAMED).collect::<Vec<_>>().join(", ");
    Err(CommandError::new(Exit::NOT_FOUND, format!("execution {short} has no target `{target}`"))
        .hint(format!("it runs on {named}{more}")))
}

fn take(
    ui: &Ui,
    printer: &mut Printer,
    record: &Record,
    since: Option<DateTime<Utc>>,
    grep: Option<&Regex>,
) -> CommandResult {
    if since.is_some_and(|since| record.at < since) {
        return Ok(());
    }
    match ui.format() {
        Format::Json | Format::Jsonl => {
            // A record is a piece of output, which need not end with a line.
            let shown = match grep {
                Some(grep) => grep.is_match(&String::from_utf8_lossy(&record.payload()?)),
                None => true,
            };
            if !shown {
                return Ok(());
            }
            let mut line = record.line.to_vec();
            line.push(b'\n');
            ui.write(&line)
        }
        _ => printer.take(ui, record),
    }
}

/// Targets are told apart where there are several.
async fn layout(args: &LogsArgs, client: &Client, execution: &Value) -> CommandResult<Layout> {
    let total = execution.pointer("/counts/total").and_then(Value::as_u64).unwrap_or(1);
    let several = total > 1 && args.on.is_none() && args.step.is_none();
    let targets = if several { Some(client.targets_of(execution).await?) } else { None };
    Ok(Layout { targets, merged: true, timestamps: args.timestamps, grep: args.grep.clone() })
}
