//! The terminal: stdout is data, stderr is talk.

mod escape;
mod format;
mod prompt;
mod style;
mod table;
mod time;
mod view;

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

use serde_json::Value;

use crate::error::{CommandError, CommandResult, Failure};
use crate::exit::Exit;

pub(crate) use escape::visible;
pub(crate) use format::Format;
pub(crate) use style::{ColorChoice, Paint, Tone};
pub(crate) use time::{elapsed, instant};
pub(crate) use view::{Column, Kind, View, short};

/// How the user wants to be talked to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    pub(crate) format: Format,
    pub(crate) color: ColorChoice,
    pub(crate) quiet: bool,
    pub(crate) verbose: bool,
    /// Every question is answered with yes.
    pub(crate) yes: bool,
    /// No question is asked.
    pub(crate) no_input: bool,
}

/// The user's terminal, or what stands in its place.
#[derive(Debug)]
pub(crate) struct Ui {
    manner: Manner,
    out: Paint,
    err: Paint,
    stdin_is_terminal: bool,
    out_is_terminal: bool,
    err_is_terminal: bool,
    /// The code to end with, once stdout cannot be written any more.
    gone: OnceLock<Exit>,
}

impl Ui {
    /// The terminal of this process.
    pub(crate) fn new(manner: Manner) -> Self {
        let (out, err) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        Self {
            out: manner.color.paint(out),
            err: manner.color.paint(err),
            manner,
            stdin_is_terminal: io::stdin().is_terminal(),
            out_is_terminal: out,
            err_is_terminal: err,
            gone: OnceLock::new(),
        }
    }

    /// How the user wants to be talked to.
    pub(crate) const fn manner(&self) -> &Manner {
        &self.manner
    }

    /// How data is written to stdout.
    pub(crate) const fn format(&self) -> Format {
        self.manner.format
    }

    /// Whether only data is wanted.
    pub(crate) const fn is_quiet(&self) -> bool {
        self.manner.quiet
    }

    /// Whether stdout is a terminal.
    pub(crate) const fn out_is_terminal(&self) -> bool {
        self.out_is_terminal
    }

    /// Whether stderr is a terminal.
    pub(crate) const fn err_is_terminal(&self) -> bool {
        self.err_is_terminal
    }

    /// The colours of stdout.
    pub(crate) const fn out_paint(&self) -> Paint {
        self.out
    }

    /// The colours of stderr.
    pub(crate) const fn err_paint(&self) -> Paint {
        self.err
    }

    /// Writes bytes to stdout as they are.
    ///
    /// # Errors
    /// When stdout cannot be written. That is told once, and not at all where its reader went away;
    /// from then on nothing is written, so that what was taken is the beginning of what there was.
    pub(crate) fn write(&self, bytes: &[u8]) -> CommandResult {
        if let Some(exit) = self.gone.get() {
            return Err(CommandError::Ended(*exit));
        }
        let mut out = io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| {
            let unread = error.kind() == io::ErrorKind::BrokenPipe;
            let told = if unread {
                CommandError::Ended(Exit::UNREAD)
            } else {
                CommandError::failed("cannot write to stdout").because(&error)
            };
            self.gone.get_or_init(|| told.exit());
            told
        })
    }

    /// Writes a line to stdout.
    ///
    /// # Errors
    /// As [`write`](Ui::write).
    pub(crate) fn line(&self, text: &str) -> CommandResult {
        self.write(format!("{text}\n").as_bytes())
    }

    /// Writes bytes to stderr as they are; that nobody reads them is nobody's concern.
    #[expect(clippy::unused_self, reason = "stderr belongs to the terminal, like everything else that is written")]
    pub(crate) fn write_err(&self, bytes: &[u8]) {
        drop(io::stderr().lock().write_all(bytes));
    }

    /// Tells something in passing, unless only data is wanted.
    pub(crate) fn note(&self, text: &str) {
        if !self.manner.quiet {
            self.write_err(format!("{text}\n").as_bytes());
        }
    }

    /// Tells what may be a mistake.
    pub(crate) fn warn(&self, text: &str) {
        self.note(&format!("{} {text}", self.err.tone(Tone::Warn, "warning:")));
    }

    /// Tells what can be done next.
    pub(crate) fn hint(&self, text: &str) {
        self.note(&format!("{} {text}", self.err.tone(Tone::Hint, "hint:")));
    }

    /// Tells why a command failed, if it has not done so itself.
    pub(crate) fn fail(&self, error: &CommandError) {
        if let CommandError::Failed(failure) = error {
            self.write_err(self.failure_text(failure).as_bytes());
        }
    }

    fn failure_text(&self, failure: &Failure) -> String {
        let mut lines = vec![format!("{} {}", self.err.tone(Tone::Bad, "error:"), visible(&failure.message))];
        lines.extend(failure.causes.iter().map(|cause| format!("  caused by: {}", visible(cause))));
        let request = failure.request_id.iter().filter(|_| self.manner.verbose);
        lines.extend(request.map(|request| format!("  request: {}", visible(request))));
        if !failure.hints.is_empty() {
            lines.push(String::new());
        }
        let hint = self.err.tone(Tone::Hint, "hint:");
        lines.extend(failure.hints.iter().map(|text| format!("{hint} {}", visible(text))));
        lines.join("\n") + "\n"
    }

    /// Prints one resource.
    ///
    /// # Errors
    /// As [`write`](Ui::write).
    pub(crate) fn item(&self, view: &View, item: &Value) -> CommandResult {
        let text = match self.manner.format {
            Format::Table | Format::Wide => table::card(view, item, self.out),
            Format::Name => format!("{}\n", view.name_of(item)),
            other => other.serialize(item)?,
        };
        self.write(text.as_bytes())
    }

    /// Tells what was done to a resource: in words for people, else the resource as it is now.
    ///
    /// # Errors
    /// As [`write`](Ui::write).
    pub(crate) fn done(&self, view: &View, item: &Value, words: impl FnOnce(&str) -> String) -> CommandResult {
        if !self.manner.format.is_for_people() {
            return self.item(view, item);
        }
        let name = item.get(if view.name == "id" { "short_id" } else { view.name });
        let name = name.and_then(Value::as_str).unwrap_or_default();
        self.note(&visible(&words(name)));
        Ok(())
    }

    /// Prints a list: an object with `items` and `next`.
    ///
    /// # Errors
    /// As [`write`](Ui::write).
    pub(crate) fn list(&self, view: &View, list: &Value) -> CommandResult {
        let items = list.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let text = match self.manner.format {
            Format::Table | Format::Wide if items.is_empty() => {
                self.note(&format!("no {}", view.plural));
                return Ok(());
            }
            Format::Table => table::rows(view, items, false, self.out),
            Format::Wide => table::rows(view, items, true, self.out),
            Format::Name => items.iter().map(|item| format!("{}\n", view.name_of(item))).collect(),
            Format::Jsonl => items.iter().map(|item| format!("{item}\n")).collect(),
            other => other.serialize(list)?,
        };
        self.write(text.as_bytes())?;
        if matches!(self.manner.format, Format::Table | Format::Wide) && list.get("next").is_some_and(|n| !n.is_null())
        {
            self.note("there are more; see them with  --limit N  or  --all");
        }
        Ok(())
    }

    /// Prints a value that no resource view fits: as it is, in machine formats.
    ///
    /// # Errors
    /// As [`write`](Ui::write).
    pub(crate) fn value(&self, value: &Value) -> CommandResult {
        let format = match self.manner.format {
            Format::Table | Format::Wide | Format::Name => Format::Json,
            other => other,
        };
        self.write(format.serialize(value)?.as_bytes())
    }
}
