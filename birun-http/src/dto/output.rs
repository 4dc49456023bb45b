//! Output on the wire.

use birun_core::execution::{ExecutionStatus, Record, Stream};
use poem_openapi::Object;
use serde::Serialize;

use crate::dto::execution::Execution;
use crate::dto::step::Step;
use crate::schema::{Timestamp, Word};

/// A line (or event) of output, or the last one, which says how the execution stands.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub(crate) struct OutputLine {
    /// Counts the records of the execution from 1, over all steps: what to send as `after` to go on from here. On the
    /// last line: the last record that was looked at.
    seq: u64,
    /// When it arrived.
    at: Option<Timestamp>,
    /// The ordinal of the step that wrote it.
    step: Option<u32>,
    /// The target of that step.
    target: Option<String>,
    /// The attempt of that step.
    attempt: Option<u32>,
    stream: Option<Word<Stream>>,
    /// The bytes, where they are UTF-8.
    data: Option<String>,
    /// The bytes in base64, where they are not UTF-8.
    data_base64: Option<String>,
    /// `true` on the last line.
    end: Option<bool>,
    /// On the last line: how the execution stands.
    status: Option<Word<ExecutionStatus>>,
}

/// What changed in an execution.
#[derive(Debug, Object)]
pub(crate) struct ExecutionChange {
    /// The execution as it is now.
    pub(crate) execution: Execution,
    /// The steps that changed, as they are now.
    pub(crate) steps: Vec<Step>,
}

/// A record of output as it is written out: an [`OutputLine`] that borrows.
#[derive(Serialize)]
pub(crate) struct RecordLine<'a> {
    seq: u64,
    at: Timestamp,
    step: u32,
    target: &'a str,
    attempt: u32,
    stream: Stream,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

impl<'a> RecordLine<'a> {
    /// A record, with what is known of the step that wrote it.
    pub(crate) fn of(record: &'a Record, target: &'a str, attempt: u32) -> Self {
        let data = std::str::from_utf8(&record.payload).ok();
        Self {
            seq: record.seq,
            at: record.at.into(),
            step: record.step,
            target,
            attempt,
            stream: record.stream,
            data,
            data_base64: data.is_none().then(|| base64_of(&record.payload)),
        }
    }
}

/// The last line.
#[derive(Serialize)]
pub(crate) struct EndLine {
    end: bool,
    status: ExecutionStatus,
    seq: u64,
}

impl EndLine {
    pub(crate) const fn of(status: ExecutionStatus, seq: u64) -> Self {
        Self { end: true, status, seq }
    }
}

/// The last event of a stream of changes.
#[derive(Serialize)]
pub(crate) struct EndOfChanges {
    pub(crate) end: bool,
    pub(crate) status: ExecutionStatus,
    pub(crate) rev: u64,
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use chrono::DateTime;
    use poem_openapi::types::ParseFromJSON;

    fn line(payload: &'static [u8]) -> serde_json::Value {
        let record = Record {
            seq: 7,
            at: DateTime::UNIX_EPOCH,
            step: 2,
            stream: Stream::Stderr,
            raw_end: 9,
            payload: Bytes::from_static(payload),
        };
        serde_json::to_value(RecordLine::of(&record, "web-1", 1)).unwrap()
    }

    #[test]
    fn bytes_that_are_no_text_are_written_in_base64() {
        let text = line("grüß\n".as_bytes());
        assert_eq!((text["data"].as_str(), text.get("data_base64")), (Some("grüß\n"), None));
        let bytes = line(b"\xff\x00");
        assert_eq!((bytes.get("data"), bytes["data_base64"].as_str()), (None, Some("/wA=")));
    }

    #[test]
    fn lines_are_as_the_document_says() {
        let end = serde_json::to_value(EndLine::of(ExecutionStatus::Lost, 7)).unwrap();
        for line in [line(b"x"), line(b"\xff"), end] {
            let known: Vec<&String> = line.as_object().unwrap().keys().collect();
            let read = OutputLine::parse_from_json(Some(line.clone())).map_err(|error| error.into_message()).unwrap();
            let written = poem_openapi::types::ToJSON::to_json(&read).unwrap();
            assert_eq!(written.as_object().unwrap().keys().len(), known.len(), "{line}");
        }
    }
}
