//! Watching an execution to its end.

use std::time::Duration;

use futures::StreamExt;
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use super::board::StepView;
use super::progress::Progress;
use super::{Board, Interrupts, Layout, Printer, Why, header, tell_end};
use crate::client::{Happening, Request};
use crate::context::Session;
use crate::error::{CommandError, CommandResult};
use crate::exit::Exit;
use crate::ui::{Format, Ui, visible};

/// Happenings that are taken in at once.
const BATCH: usize = 64;
/// The end of time, for waits that have none.
const NEVER: Duration = Duration::from_secs(30 * 365 * 86_400);

/// Whose exit code birun hands on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ExitOf {
    /// The execution's.
    #[default]
    Run,
    /// The script's own, when there is one target.
    Script,
}

/// How an execution is watched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch {
    /// How long.
    pub(crate) timeout: Option<Duration>,
    pub(crate) exit_of: ExitOf,
}

/// One execution being watched.
struct Watcher<'a> {
    ui: &'a Ui,
    session: &'a Session,
    board: Board,
    printer: Printer,
    progress: Progress,
    interrupts: Interrupts,
    why: Why,
    presses: u32,
}

impl Watch {
    /// Shows everything that happens in an execution until it has ended, and how it ended.
    ///
    /// # Errors
    /// The command ends with the code of an execution that did not succeed, of a wait that timed
    /// out, or of an interruption.
    pub(crate) async fn run(
        self,
        ui: &Ui,
        session: &Session,
        execution: Value,
        interrupts: Interrupts,
    ) -> CommandResult {
        let board = Board::new(execution);
        if ui.format().is_for_people() {
            ui.note(&header(&board));
        }
        let mut watcher = Watcher {
            ui,
            session,
            printer: Printer::new(ui, layout(session, &board).await?),
            progress: Progress::new(ui),
            board,
            interrupts,
            why: Why::new(),
            presses: 0,
        };
        let watched = watcher.until_the_end(self.timeout).await;
        watcher.progress.end();
        watched?;
        watcher.tell_the_end().await?;
        match watcher.exit(self.exit_of) {
            Exit::OK => Ok(()),
            exit => Err(CommandError::Ended(exit)),
        }
    }
}

/// A reader of stdout that went away changes nothing about the execution, whose end the exit code tells.
fn still_watched(written: CommandResult) -> CommandResult {
    match written {
        Err(CommandError::Ended(_)) => Ok(()),
        other => other,
    }
}

/// What can be done about an execution that goes on unwatched.
pub(crate) fn how_to_go_on(short: &str) -> String {
    format!("cancel it with  birun execution cancel {short},  follow it with  birun logs {short} -f")
}

/// Several targets are told apart by a prefix.
async fn layout(session: &Session, board: &Board) -> CommandResult<Layout> {
    let several = board.total() > 1;
    let targets = if several { Some(session.client.targets_of(&board.execution).await?) } else { None };
    Ok(Layout { targets, merged: false, timestamps: false, grep: None })
}

impl Watcher<'_> {
    async fn until_the_end(&mut self, timeout: Option<Duration>) -> CommandResult {
        let id = self.board.text("id").unwrap_or_default().to_owned();
        let mut happenings = self.session.client.follow(&id).ready_chunks(BATCH);
        let give_up = Instant::now() + timeout.unwrap_or(NEVER);
        loop {
            tokio::select! {
                batch = happenings.next() => {
                    let Some(batch) = batch else { return self.flush() };
                    self.take(batch)?;
                }
                () = self.interrupts.next() => self.interrupted(&id).await?,
                () = self.printer.silence() => {
                    self.printer.end_silent_lines();
                    self.flush()?;
                }
                () = self.why.due() => self.tell_why(&id).await,
                () = sleep_until(give_up) => return Err(self.given_up()),
            }
        }
    }

    fn take(&mut self, batch: Vec<CommandResult<Happening>>) -> CommandResult {
        for happening in batch {
            match happening? {
                Happening::Output(record) => match self.ui.format() {
                    Format::Jsonl => self.line(&record.line)?,
                    format if format.is_for_people() => self.printer.take(self.ui, &record)?,
                    _ => {}
                },
                Happening::Changed { execution, steps } => {
                    for step in self.board.change(execution, steps) {
                        self.tell_step(&step);
                    }
                    self.progress.show(&self.board);
                }
            }
        }
        if self.printer.has_news() { self.flush() } else { Ok(()) }
    }

    /// Writes what the printer holds.
    fn flush(&mut self) -> CommandResult {
        let (printer, ui) = (&mut self.printer, self.ui);
        still_watched(self.progress.aside(|| printer.flush(ui)))
    }

    fn line(&self, line: &[u8]) -> CommandResult {
        let mut text = line.to_vec();
        text.push(b'\n');
        still_watched(self.progress.aside(|| self.ui.write(&text)))
    }

    /// Says what a step has come to, where its output does not.
    fn tell_step(&mut self, step: &StepView) {
        if !self.ui.format().is_for_people() || self.ui.is_quiet() {
            return;
        }
        if step.attempt > 1 && step.status == "pending" {
            self.printer.remark(self.ui, &step.target, &format!("trying again: attempt {}", step.attempt));
        } else if step.status == "running"
            && let Some(waits_for) = &step.detail
        {
            self.printer.remark(self.ui, &step.target, &format!("waits: {waits_for}"));
        } else if step.has_ended()
            && !step.succeeded()
            && self.board.total() > 1
            && let Some(detail) = &step.detail
        {
            self.printer.remark(self.ui, &step.target, detail);
        }
    }

    /// Says why nothing goes on. What this process drives itself goes on as long as it lives.
    async fn tell_why(&mut self, id: &str) {
        if self.session.drives() && self.board.status() == "running" {
            return self.why.later();
        }
        if let Some(why) = self.why.ask(&self.session.client, id).await {
            self.progress.aside(|| self.ui.note(&visible(&why)));
        }
    }

    /// The user wants it to stop. What a server drives goes on without us; what this process drives
    /// is cancelled, and the second time killed.
    async fn interrupted(&mut self, id: &str) -> CommandResult {
        self.presses += 1;
        let short = self.board.short_id().to_owned();
        let Some(running) = self.session.here.as_ref().and_then(|here| here.running.as_ref()) else {
            self.progress.end();
            self.printer.end_lines();
            self.printer.flush(self.ui).ok();
            self.ui.note(&format!("execution {short} goes on"));
            self.ui.hint(&how_to_go_on(&short));
            return Err(CommandError::Ended(Exit::INTERRUPTED));
        };
        if self.presses == 1 {
            self.progress.aside(|| self.ui.note("cancelling; Ctrl-C again to kill at once"));
            let cancelled = self.session.client.send(Request::act(["executions", id, "cancel"])).await;
            return match cancelled {
                // It ended by itself at this very moment.
                Err(error) if error.exit() == Exit::CONFLICT => Ok(()),
                other => other.map(drop),
            };
        }
        if let Ok(id) = id.parse() {
            self.progress.aside(|| self.ui.note("killing"));
            running.kill_now(id);
        }
        Ok(())
    }

    fn given_up(&mut self) -> CommandError {
        self.printer.end_lines();
        self.printer.flush(self.ui).ok();
        let short = self.board.short_id();
        self.progress.end();
        self.ui.note(&format!("execution {short} still runs ({})", self.board.status()));
        self.ui.hint(&format!("follow it with  birun logs {short} -f"));
        CommandError::Ended(Exit::STILL_RUNNING)
    }

    async fn tell_the_end(&mut self) -> CommandResult {
        self.printer.end_lines();
        still_watched(self.printer.flush(self.ui))?;
        if !self.board.has_ended() {
            let id = self.board.text("id").unwrap_or_default().to_owned();
            self.board.execution = self.session.client.send(Request::get(["executions", &id])).await?;
        }
        if !self.ui.format().is_for_people() {
            return still_watched(self.tell_as_data());
        }
        tell_end(self.ui, &self.board);
        Ok(())
    }

    fn tell_as_data(&self) -> CommandResult {
        match self.ui.format() {
            Format::Jsonl => Ok(()),
            Format::Name => self.ui.line(self.board.text("id").unwrap_or_default()),
            format => self.ui.write(format.serialize(&self.board.execution)?.as_bytes()),
        }
    }

    fn exit(&self, of: ExitOf) -> Exit {
        let mut steps = self.board.steps();
        let code = match (of, steps.next(), steps.next()) {
            (ExitOf::Script, Some(only), None) => only.exit_code,
            _ => None,
        };
        code.map_or_else(|| Exit::of_status(self.board.status()), Exit::of_script)
    }
}
