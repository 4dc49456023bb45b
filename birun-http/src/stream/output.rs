//! Output on its way out: as lines, as events, or as it is.

use birun_core::execution::{ExecutionChange, ExecutionStatus, Record, RunEvent, Step, Stream};
use birun_core::id::Selector;
use serde::Serialize;

use crate::dto::output::{EndLine, RecordLine};
use crate::stream::{Chunks, Encode};

/// A remark of an event stream that means nothing.
pub(crate) const REMARK: &str = ": still here\n\n";

/// Which records are shown.
#[derive(Debug, Default)]
pub(crate) struct OutputFilter {
    /// Only those of this step, which is named by its id or a part of it.
    pub(crate) step: Option<Selector>,
    /// Only those of steps on this target.
    pub(crate) target: Option<String>,
    /// Only those of this stream.
    pub(crate) stream: Option<Stream>,
}

impl OutputFilter {
    fn takes_step(&self, step: &Step) -> bool {
        let id = step.id.as_uuid();
        let wanted = match &self.step {
            None | Some(Selector::Name(_)) => self.step.is_none(),
            Some(Selector::Id(wanted)) => id == *wanted,
            Some(Selector::Part(part)) => {
                let digits = id.simple().to_string();
                digits.starts_with(part.as_str()) || step.id.short() == part.as_str()
            }
        };
        wanted && self.target.as_ref().is_none_or(|target| step.target.to_string() == *target)
    }

    fn takes(&self, record: &Record) -> bool {
        self.stream.is_none_or(|stream| record.stream == stream)
    }
}

/// What is known while output is read: who writes, how the execution stands, how far it was read.
#[derive(Debug)]
pub(crate) struct Reading {
    filter: OutputFilter,
    /// By ordinal. A step is known before it writes.
    writers: Vec<Option<Writer>>,
    status: ExecutionStatus,
    seq: u64,
}

/// A step whose output is shown.
#[derive(Clone, Debug)]
struct Writer {
    target: String,
    attempt: u32,
}

impl Reading {
    /// Begins after `seq`, with the execution in this status.
    pub(crate) const fn new(filter: OutputFilter, status: ExecutionStatus, seq: u64) -> Self {
        Self { filter, writers: Vec::new(), status, seq }
    }

    fn note(&mut self, change: &ExecutionChange) {
        self.status = change.execution.status;
        self.meet(&change.steps);
    }

    fn meet(&mut self, steps: &[Step]) {
        for step in steps {
            let at = step.ordinal as usize;
            if self.writers.len() <= at {
                self.writers.resize(at + 1, None);
            }
            if let Some(writer) = self.writers.get_mut(at) {
                let shown = self.filter.takes_step(step);
                *writer = shown.then(|| Writer { target: step.target.to_string(), attempt: step.attempt });
            }
        }
    }

    /// Hands every record that is to be shown to `show`, with who wrote it.
    fn show(&mut self, event: RunEvent, mut show: impl FnMut(&Record, &Writer)) {
        let records = match event {
            RunEvent::Changed(change) => return self.note(&change),
            RunEvent::Steps(steps) => return self.meet(&steps),
            RunEvent::Output(records) => records,
        };
        self.seq = records.last().map_or(self.seq, |record| record.seq);
        for record in records.iter().filter(|record| self.filter.takes(record)) {
            if let Some(Some(writer)) = self.writers.get(record.step as usize) {
                show(record, writer);
            }
        }
    }

    const fn end(&self) -> EndLine {
        EndLine::of(self.status, self.seq)
    }
}

/// Output as JSON lines.
#[derive(Debug)]
pub(crate) struct Lines(pub(crate) Reading);

impl Encode for Lines {
    fn event(&mut self, event: RunEvent, chunks: &mut Chunks) {
        self.0.show(event, |record, writer| {
            let line = RecordLine::of(record, &writer.target, writer.attempt);
            chunks.write(|out| write_line(out, &line));
        });
    }

    fn end(&mut self, chunks: &mut Chunks) {
        let line = self.0.end();
        chunks.write(|out| write_line(out, &line));
    }

    fn has_last_word(&self) -> bool {
        true
    }

    fn idle(&self) -> Option<&'static str> {
        // Between JSON lines an empty one means nothing, and tells proxies that the stream lives.
        Some("\n")
    }
}

/// Output as server-sent events.
#[derive(Debug)]
pub(crate) struct Events(pub(crate) Reading);

impl Encode for Events {
    fn event(&mut self, event: RunEvent, chunks: &mut Chunks) {
        self.0.show(event, |record, writer| {
            let line = RecordLine::of(record, &writer.target, writer.attempt);
            chunks.write(|out| write_event(out, "record", record.seq, &line));
        });
    }

    fn end(&mut self, chunks: &mut Chunks) {
        let (seq, line) = (self.0.seq, self.0.end());
        chunks.write(|out| write_event(out, "end", seq, &line));
    }

    fn has_last_word(&self) -> bool {
        true
    }

    fn idle(&self) -> Option<&'static str> {
        Some(REMARK)
    }
}

/// Output as the processes wrote it.
#[derive(Debug)]
pub(crate) struct Raw(pub(crate) Reading);

impl Encode for Raw {
    fn event(&mut self, event: RunEvent, chunks: &mut Chunks) {
        self.0.show(event, |record, _| chunks.push(record.payload.clone()));
    }

    fn end(&mut self, _chunks: &mut Chunks) {}

    fn has_last_word(&self) -> bool {
        false
    }

    fn idle(&self) -> Option<&'static str> {
        None
    }
}

fn write_line(out: &mut Vec<u8>, line: &impl Serialize) {
    write_json(out, line);
    out.push(b'\n');
}

/// Writes a server-sent event. JSON holds no line break, so the data is one line.
pub(crate) fn write_event(out: &mut Vec<u8>, name: &str, id: u64, data: &impl Serialize) {
    out.extend_from_slice(format!("event: {name}\nid: {id}\ndata: ").as_bytes());
    write_json(out, data);
    out.extend_from_slice(b"\n\n");
}

fn write_json(out: &mut Vec<u8>, value: &impl Serialize) {
    if let Err(error) = serde_json::to_writer(out, value) {
        tracing::error!(%error, "a line could not be written as JSON");
    }
}
