//! Watching an execution to its end.

use std::time::Duration;

use futures::StreamExt;
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use super::board::StepView;
use super::progress::Progress;
use super::{Board, Interrupts, Layout, Printer, Why, header, lost, regained, tell_end};
use crate::client::{Happening, Request};
use crate::context::Session;
use crate::error::{CommandError, CommandResult};
use crate::exit::Exit;
use crate::ui::{Format, Ui, visible};

/// Happenings that are taken in at once.
const BATCH: usize = 64;
/// How often what dead processes left is looked for.
const ORPHANS: Duration = Duration::from_secs(5);
/// The same, after a worker was started for it.
const ORPHANS_TAKEN: Duration = Duration::from_secs(60);
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
    /// It lives in this process, and ends with it.
    pub(crate) drives: bool,
}

/// One execution being watched.
struct Watcher<'a> {
    ui: &'a Ui,
    session: &'a Session,
    board: Board,
    printer: Printer,
    progress: Progress,
    interrupts: Interrupts,
    drives: bool,
    why: Why,
    /// How often it was to stop.
    presses: u32,
    /// The code to end with, once stdout takes nothing more.
    unwritable: Option<Exit>,
    /// The server is away.
    alone: bool,
    /// When to look for what dead processes left.
    orphans_due: Instant,
}

impl Watch {
    /// Shows everything that happens in an execution until it has ended, and how it ended.
    ///
    /// # Errors
    /// The command ends with the code of an execution that did not succeed, of a wait that timed
    /// out, of an interruption, or of a stdout that takes nothing more.
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
            drives: self.drives,
            why: Why::new(),
            presses: 0,
            unwritable: None,
            alone: false,
            orphans_due: Instant::now() + ORPHANS,
        };
        let watched = watcher.until_the_end(self.timeout).await;
        watcher.progress.end();
        let ended = match watched {
            Ok(()) => watcher.tell_the_end().await.map(|()| watcher.exit(self.exit_of)),
            Err(CommandError::Ended(exit)) => Ok(exit),
            Err(failed) => Err(failed),
        };
        match watcher.unwritable.map_or(ended, Ok)? {
            Exit::OK => Ok(()),
            exit => Err(CommandError::Ended(exit)),
        }
    }
}

/// What can be done about an execution that goes on unwatched.
fn how_to_go_on(short: &str) -> String {
    format!("cancel it with  birun execution cancel {short},  follow it with  birun logs {short} -f")
}

/// What is known of an execution whose server is out of reach.
pub(crate) fn goes_on_without_us(short: &str) -> String {
    format!(
        "execution {short} goes on only while a server or a worker runs; follow it again with  birun logs {short} -f"
    )
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
            if self.unwritable.is_some() && self.presses == 0 && !self.board.has_ended() {
                self.interrupted(&id).await?;
                // What is still to come would be read for nobody.
                happenings = self.session.client.follow_state(&id).ready_chunks(BATCH);
            }
            tokio::select! {
                batch = happenings.next() => {
                    let Some(batch) = batch else {
                        self.flush();
                        return Ok(());
                    };
                    self.take(batch)?;
                }
                () = self.interrupts.next() => self.interrupted(&id).await?,
                () = self.printer.silence() => {
                    self.printer.end_silent_lines();
                    self.flush();
                }
                () = self.why.due() => self.tell_why(&id).await,
                () = sleep_until(self.orphans_due), if self.session.drives() => self.hand_over_orphans().await,
                () = sleep_until(give_up) => return Err(self.given_up()),
            }
        }
    }

    async fn hand_over_orphans(&mut self) {
        let told = self.session.hand_over_orphans().await;
        self.orphans_due = Instant::now() + if told.is_some() { ORPHANS_TAKEN } else { ORPHANS };
        if let Some(told) = told {
            self.aside(told);
        }
    }

    /// Tells something beside the progress.
    fn aside(&self, text: &str) {
        self.progress.aside(|| self.ui.note(text));
    }

    fn take(&mut self, batch: Vec<CommandResult<Happening>>) -> CommandResult {
        for happening in batch {
            match happening? {
                Happening::Output(record) => match self.ui.format() {
                    Format::Jsonl => self.line(&record.line),
                    // What birun says of itself is no data.
                    format if format.is_for_people() && !(self.ui.is_quiet() && record.stream == "system") => {
                        self.printer.take(self.ui, &record)?;
                    }
                    _ => {}
                },
                Happening::Lost(why) => {
                    self.alone = true;
                    self.aside(&lost(&why));
                }
                Happening::Regained => {
                    self.alone = false;
                    self.aside(regained());
                }
                Happening::Changed { execution, steps } => {
                    for step in self.board.change(execution, steps) {
                        self.tell_step(&step);
                    }
                    self.progress.show(&self.board);
                }
            }
        }
        if self.printer.has_news() {
            self.flush();
        }
        Ok(())
    }

    /// Writes what the printer holds.
    fn flush(&mut self) {
        let (printer, ui) = (&mut self.printer, self.ui);
        let written = self.progress.aside(|| printer.flush(ui));
        self.written(written);
    }

    fn line(&mut self, line: &[u8]) {
        let mut text = line.to_vec();
        text.push(b'\n');
        let written = self.progress.aside(|| self.ui.write(&text));
        self.written(written);
    }

    /// Notes that stdout takes nothing more, and says why, if that is not plain.
    fn written(&mut self, written: CommandResult) {
        if let Err(error) = written {
            self.progress.aside(|| self.ui.fail(&error));
            self.unwritable.get_or_insert(error.exit());
        }
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
        if self.drives && self.board.status() == "running" {
            return self.why.later();
        }
        if let Some(why) = self.why.ask(&self.session.client, id).await {
            self.aside(&visible(&why));
        }
    }

    /// The user wants it to stop, or stdout takes nothing more. What lives elsewhere goes on without
    /// us; what this process drives is cancelled, and the second time killed.
    async fn interrupted(&mut self, id: &str) -> CommandResult {
        self.presses += 1;
        let short = self.board.short_id().to_owned();
        let running = self.session.here.as_ref().and_then(|here| here.running.as_ref());
        let Some(running) = running.filter(|_| self.drives) else {
            self.progress.end();
            self.printer.end_lines();
            self.printer.flush(self.ui).ok();
            if self.alone {
                self.ui.note(&goes_on_without_us(&short));
            } else {
                self.ui.note(&format!("execution {short} goes on"));
                self.ui.hint(&how_to_go_on(&short));
            }
            return Err(CommandError::Ended(Exit::INTERRUPTED));
        };
        if self.presses == 1 {
            self.aside("cancelling; Ctrl-C again to kill at once");
            let cancelled = self.session.client.send(Request::act(["executions", id, "cancel"])).await;
            return match cancelled {
                // It ended by itself at this very moment.
                Err(error) if error.exit() == Exit::CONFLICT => Ok(()),
                other => other.map(drop),
            };
        }
        if let Ok(id) = id.parse() {
            self.aside("killing");
            running.kill_now(id);
        }
        Ok(())
    }

    fn given_up(&mut self) -> CommandError {
        self.printer.end_lines();
        self.printer.flush(self.ui).ok();
        let short = self.board.short_id();
        self.progress.end();
        if self.alone {
            self.ui.note(&goes_on_without_us(short));
        } else {
            self.ui.note(&format!("execution {short} still runs ({})", self.board.status()));
            self.ui.hint(&format!("follow it with  birun logs {short} -f"));
        }
        CommandError::Ended(Exit::STILL_RUNNING)
    }

    async fn tell_the_end(&mut self) -> CommandResult {
        self.printer.end_lines();
        self.flush();
        if !self.board.has_ended() {
            let id = self.board.text("id").unwrap_or_default().to_owned();
            self.board.execution = self.session.client.send(Request::get(["executions", &id])).await?;
        }
        if !self.ui.format().is_for_people() {
            let written = self.tell_as_data();
            self.written(written);
            return Ok(());
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
