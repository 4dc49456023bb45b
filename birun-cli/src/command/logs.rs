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
use crate::live::{Interrupts, Layout, Printer};
use crate::ui::{Format, Ui};

const EXAMPLES: &str = "\
Examples:
  birun logs 7d20c1a9                    the output so far
  birun logs 7d20c1a9 -f                 and what is still to come
  birun logs 7d20c1a9 --on web-1 --grep error --timestamps
  birun logs 7d20c1a9 --raw > output     every byte as the programs wrote it";

/// Records that are taken in at once.
const BATCH: usize = 64;

/// Show the output of an execution. All of it goes to stdout.
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
    if args.raw {
        return raw(ui, &client, &request.query("raw", true).query("follow", args.follow)).await;
    }
    let layout = layout(&args, &client, &execution).await?;
    records(ui, &client, request, &args, layout).await
}

async fn raw(ui: &Ui, client: &Client, request: &Request) -> CommandResult {
    let mut body = client.stream(request).await?;
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| CommandError::failed("the output broke off").because(&error))?;
        ui.write(&chunk)?;
    }
    Ok(())
}

async fn records(ui: &Ui, client: &Client, request: Request, args: &LogsArgs, layout: Layout) -> CommandResult {
    let mut printer = Printer::new(ui, layout);
    let mut interrupts = Interrupts::listen()?;
    let since = args
        .since
        .and_then(|span| SystemClock::new().now().checked_sub_signed(chrono::TimeDelta::from_std(span).ok()?));
    let mut output = client.output(request, args.follow).ready_chunks(BATCH);
    loop {
        let batch = tokio::select! {
            batch = output.next() => batch,
            () = printer.silence() => {
                printer.end_silent_lines();
                printer.flush(ui)?;
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
            if let Happening::Output(record) = happening? {
                take(ui, &mut printer, &record, since, args.grep.as_ref())?;
            }
        }
        printer.flush(ui)?;
    }
    printer.end_lines();
    printer.flush(ui)
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
