//! Output of programs, written where it belongs.

use std::collections::HashMap;

use regex::Regex;
use tokio::time::{Instant, sleep_until};

use super::SILENCE;
use super::assemble::Assembler;
use crate::client::Record;
use crate::error::CommandResult;
use crate::ui::{Tone, Ui, instant, visible};

/// Longest name that a prefix is padded to.
const MAX_PAD: usize = 24;

/// In which form output is written.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// The names of the targets in their order, where each line is to say whose it is.
    pub(crate) targets: Option<Vec<String>>,
    /// Everything goes to stdout, as data.
    pub(crate) merged: bool,
    /// Each line begins with its instant.
    pub(crate) timestamps: bool,
    /// Only lines that match.
    pub(crate) grep: Option<Regex>,
}

/// Writes output: byte for byte where one target writes to no terminal, else line by line, with
/// everything escaped that a terminal would act on.
#[derive(Debug)]
pub(crate) struct Printer {
    layout: Layout,
    pad: usize,
    lines: HashMap<(u32, Place), Line>,
    /// What is to be written, in its order.
    taken: Vec<(Place, Vec<u8>)>,
    out_raw: bool,
    err_raw: bool,
}

/// Where output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Place {
    Out,
    Err,
}

/// The lines of one stream of one step.
#[derive(Debug)]
struct Line {
    assembler: Assembler,
    /// What stands before the line.
    head: String,
    /// When its newest piece came.
    touched: Instant,
}

impl Printer {
    /// A printer for this terminal.
    pub(crate) fn new(ui: &Ui, layout: Layout) -> Self {
        let by_line = layout.targets.is_some() || layout.timestamps || layout.grep.is_some();
        let longest = layout.targets.iter().flatten().map(|name| name.chars().count()).max();
        Self {
            pad: longest.unwrap_or(0).min(MAX_PAD),
            lines: HashMap::new(),
            taken: Vec::new(),
            out_raw: !by_line && !ui.out_is_terminal(),
            err_raw: !by_line && !if layout.merged { ui.out_is_terminal() } else { ui.err_is_terminal() },
            layout,
        }
    }

    /// Takes a record; [`flush`](Printer::flush) writes it.
    ///
    /// # Errors
    /// When the record is damaged.
    pub(crate) fn take(&mut self, ui: &Ui, record: &Record) -> CommandResult {
        let payload = record.payload()?;
        let place = if record.stream == "stdout" || self.layout.merged { Place::Out } else { Place::Err };
        let raw = if record.stream == "stdout" { self.out_raw } else { self.err_raw };
        if raw && record.stream != "system" {
            self.append(place, &payload);
            return Ok(());
        }
        let head = self.head(ui, record, place);
        let key = (record.step, place);
        let mut assembler = self.lines.remove(&key).map(|line| line.assembler).unwrap_or_default();
        assembler.push(&payload, |line| self.put(place, &head, line));
        self.lines.insert(key, Line { assembler, head, touched: Instant::now() });
        Ok(())
    }

    /// Takes a remark of birun's own about a target; it goes to stderr.
    pub(crate) fn remark(&mut self, ui: &Ui, target: &str, text: &str) {
        let head = self.prefix(ui, target, Place::Err);
        self.put(Place::Err, &head, text.as_bytes());
    }

    /// Waits until an unfinished line has had no news for so long that it may be a question. Other
    /// lines that go on meanwhile do not put that off.
    pub(crate) async fn silence(&self) {
        let partial = self.lines.values().filter(|line| line.assembler.is_partial());
        match partial.map(|line| line.touched).min() {
            Some(touched) => sleep_until(touched + SILENCE).await,
            None => std::future::pending().await,
        }
    }

    /// Ends the unfinished lines that have had no news for so long.
    pub(crate) fn end_silent_lines(&mut self) {
        let now = Instant::now();
        self.end_lines_if(|line| now.duration_since(line.touched) >= SILENCE);
    }

    /// Ends every unfinished line: nothing more will come.
    pub(crate) fn end_lines(&mut self) {
        self.end_lines_if(|_| true);
    }

    fn end_lines_if(&mut self, is_over: impl Fn(&Line) -> bool) {
        let mut lines = std::mem::take(&mut self.lines);
        for ((_, place), line) in lines.iter_mut().filter(|(_, line)| is_over(line)) {
            let head = std::mem::take(&mut line.head);
            line.assembler.rest(|text| self.put(*place, &head, text));
            line.head = head;
        }
        self.lines = lines;
    }

    /// Writes what was taken.
    ///
    /// # Errors
    /// When nobody reads stdout any more.
    pub(crate) fn flush(&mut self, ui: &Ui) -> CommandResult {
        let mut written = Ok(());
        for (place, bytes) in self.taken.drain(..) {
            match place {
                Place::Err => ui.write_err(&bytes),
                Place::Out if written.is_ok() => written = ui.write(&bytes),
                Place::Out => {}
            }
        }
        written
    }

    /// Whether there is something to write.
    pub(crate) const fn has_news(&self) -> bool {
        !self.taken.is_empty()
    }

    fn put(&mut self, place: Place, head: &str, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        if self.layout.grep.as_ref().is_some_and(|grep| !grep.is_match(&text)) {
            return;
        }
        let shown = visible(&text);
        self.append(place, head.as_bytes());
        self.append(place, shown.as_bytes());
        self.append(place, b"\n");
    }

    fn head(&self, ui: &Ui, record: &Record, place: Place) -> String {
        let at = if self.layout.timestamps { format!("{} ", instant(record.at)) } else { String::new() };
        format!("{at}{}", self.prefix(ui, &record.target, place))
    }

    fn prefix(&self, ui: &Ui, target: &str, place: Place) -> String {
        let Some(targets) = &self.layout.targets else { return String::new() };
        let paint = if place == Place::Out { ui.out_paint() } else { ui.err_paint() };
        let position = targets.iter().position(|name| name == target).unwrap_or(0);
        let bar = paint.tone(Tone::Faint, "│");
        format!("{} {bar} ", paint.target(position, format!("{target:<width$}", width = self.pad)))
    }

    /// Adds to what is to be written.
    fn append(&mut self, place: Place, bytes: &[u8]) {
        match self.taken.last_mut() {
            Some((last, taken)) if *last == place => taken.extend_from_slice(bytes),
            _ => self.taken.push((place, bytes.to_vec())),
        }
    }
}
