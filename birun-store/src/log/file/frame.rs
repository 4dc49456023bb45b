//! The format of a log file: frames, one after the other.
//!
//! A frame is a header and a payload. The header, little-endian: a CRC-32 of all that follows it in
//! the frame (4 bytes), length of the payload (4), `seq` (8), instant in microseconds (8), `raw_end`
//! (8), step ordinal (4), bytes of the same batch that follow this frame (4), kind (1). A batch counts
//! only if all of it is there, so appending is atomic.
//!
//! A file begins with a note: which earlier epoch's file this one goes on after, and how far that
//! counts. If the earlier file turned out to be longer when the first note had been written, a
//! second note follows at once; the last one counts. Then come records.

use std::io::IoSlice;

use birun_core::execution::log::MAX_PAYLOAD;
use birun_core::execution::{Record, Stream};
use bytes::{Buf, BufMut, Bytes};
use chrono::DateTime;
use crc32fast::Hasher;

/// Length of a header.
pub(super) const HEADER: usize = 41;
/// The largest frame.
pub(super) const MAX_FRAME: usize = HEADER + MAX_PAYLOAD;
/// The first byte of a note's payload: the version of this format.
const VERSION: u8 = 1;

/// What stands before the payload of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    crc: u32,
    len: u32,
    /// Of a note: the last `seq` that counts in earlier epochs.
    pub(super) seq: u64,
    at: i64,
    raw_end: u64,
    step: u32,
    rest: u32,
    kind: u8,
}

/// Where the log of an execution goes on from: the part of the earlier epochs' files that counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Note {
    /// The epoch that this one goes on after; 0 = none.
    pub(super) epoch: u64,
    /// So many bytes of its file count.
    pub(super) len: u64,
    /// The last `seq` in them; 0 = none.
    pub(super) last_seq: u64,
}

/// What a frame holds.
#[derive(Debug)]
pub(super) enum Content {
    Note(Note),
    Record(Record),
}

/// Records as one batch. The payloads stay where they are: copying them costs as much as writing them.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    /// Of all frames, one after the other.
    headers: Vec<u8>,
    records: &'a [Record],
}

const NOTE: u8 = 255;

impl Header {
    /// Reads a header; nothing is checked.
    pub(super) fn parse(mut bytes: &[u8]) -> Option<Self> {
        Some(Self {
            crc: bytes.try_get_u32_le().ok()?,
            len: bytes.try_get_u32_le().ok()?,
            seq: bytes.try_get_u64_le().ok()?,
            at: bytes.try_get_i64_le().ok()?,
            raw_end: bytes.try_get_u64_le().ok()?,
            step: bytes.try_get_u32_le().ok()?,
            rest: bytes.try_get_u32_le().ok()?,
            kind: bytes.try_get_u8().ok()?,
        })
    }

    /// Whether it can be the header of a record with this `seq`.
    pub(super) fn is_record(&self, seq: u64) -> bool {
        self.seq == seq && stream(self.kind).is_some() && self.len as usize <= MAX_PAYLOAD
    }

    pub(super) const fn is_note(&self) -> bool {
        self.kind == NOTE
    }

    /// Length of the frame.
    pub(super) const fn frame_len(&self) -> u64 {
        HEADER as u64 + self.len as u64
    }

    /// Length of the frame and what follows it in its batch.
    pub(super) const fn batch_len(&self) -> u64 {
        self.frame_len() + self.rest as u64
    }

    /// Reads the whole frame; `None` if it is damaged.
    pub(super) fn content(&self, mut frame: Bytes) -> Option<Content> {
        if crc32fast::hash(frame.get(4..)?) != self.crc {
            return None;
        }
        frame.advance(HEADER);
        if self.is_note() { self.note(frame).map(Content::Note) } else { self.record(frame).map(Content::Record) }
    }

    fn note(&self, mut payload: Bytes) -> Option<Note> {
        (payload.try_get_u8().ok()? == VERSION).then_some(())?;
        let epoch = payload.try_get_u64_le().ok()?;
        Some(Note { epoch, len: payload.try_get_u64_le().ok()?, last_seq: self.seq })
    }

    fn record(&self, payload: Bytes) -> Option<Record> {
        Some(Record {
            seq: self.seq,
            at: DateTime::from_timestamp_micros(self.at)?,
            step: self.step,
            stream: stream(self.kind)?,
            raw_end: self.raw_end,
            payload,
        })
    }

    /// Writes the header of a frame with this payload; the CRC is worked out here.
    fn write(&self, payload: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.put_u32_le(0);
        out.put_u32_le(self.len);
        out.put_u64_le(self.seq);
        out.put_i64_le(self.at);
        out.put_u64_le(self.raw_end);
        out.put_u32_le(self.step);
        out.put_u32_le(self.rest);
        out.put_u8(self.kind);
        if let Some((crc, covered)) = out.get_mut(start..).and_then(|header| header.split_first_chunk_mut::<4>()) {
            let mut hasher = Hasher::new();
            hasher.update(covered);
            hasher.update(payload);
            *crc = hasher.finalize().to_le_bytes();
        }
    }
}

/// A note as a frame.
pub(super) fn encode_note(note: &Note) -> Vec<u8> {
    let mut payload = vec![VERSION];
    payload.put_u64_le(note.epoch);
    payload.put_u64_le(note.len);
    let len = u32::try_from(payload.len()).unwrap_or_default();
    let header = Header { crc: 0, len, seq: note.last_seq, at: 0, raw_end: 0, step: 0, rest: 0, kind: NOTE };
    let mut out = Vec::with_capacity(HEADER + payload.len());
    header.write(&payload, &mut out);
    out.extend(payload);
    out
}

impl<'a> Batch<'a> {
    /// Makes a batch of records. Each has been checked to have at most [`MAX_PAYLOAD`] bytes; `None`
    /// if the batch is larger than 4 GiB.
    pub(super) fn encode(records: &'a [Record]) -> Option<Self> {
        let mut headers = Vec::with_capacity(HEADER * records.len());
        let mut rest: usize = records.iter().map(|record| HEADER + record.payload.len()).sum();
        for record in records {
            rest -= HEADER + record.payload.len();
            let (len, rest) = (u32::try_from(record.payload.len()).ok()?, u32::try_from(rest).ok()?);
            let (seq, at, raw_end, step) = (record.seq, record.at.timestamp_micros(), record.raw_end, record.step);
            let header = Header { crc: 0, len, seq, at, raw_end, step, rest, kind: kind(record.stream) };
            header.write(&record.payload, &mut headers);
        }
        Some(Self { headers, records })
    }

    /// The bytes of the batch, piece by piece.
    pub(super) fn pieces(&self) -> Vec<IoSlice<'_>> {
        let frames = self.headers.chunks(HEADER).zip(self.records);
        frames.flat_map(|(header, record)| [IoSlice::new(header), IoSlice::new(&record.payload)]).collect()
    }
}

const fn kind(stream: Stream) -> u8 {
    match stream {
        Stream::Stdout => 1,
        Stream::Stderr => 2,
        Stream::System => 3,
    }
}

fn stream(kind: u8) -> Option<Stream> {
    Stream::ALL.iter().copied().find(|stream| self::kind(*stream) == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seq: u64, payload: &'static [u8]) -> Record {
        let at = DateTime::from_timestamp_micros(1_700_000_000_123_456).unwrap();
        Record { seq, at, step: 7, stream: Stream::Stderr, raw_end: 99, payload: Bytes::from_static(payload) }
    }

    fn encode(records: &[Record]) -> Vec<u8> {
        Batch::encode(records).unwrap().pieces().iter().flat_map(|piece| piece.to_vec()).collect()
    }

    fn read(frame: &[u8]) -> Option<Content> {
        Header::parse(frame)?.content(Bytes::copy_from_slice(frame))
    }

    #[test]
    fn a_batch_reads_back_and_tells_what_follows_in_it() {
        let records = [record(1, b"hello"), record(2, b""), record(3, b"!")];
        let bytes = encode(&records);
        let mut rest = &bytes[..];
        for record in &records {
            let header = Header::parse(rest).unwrap();
            assert_eq!(header.batch_len(), rest.len() as u64);
            let (frame, later) = rest.split_at(usize::try_from(header.frame_len()).unwrap());
            let Some(Content::Record(same)) = read(frame) else { panic!("not a record") };
            assert_eq!(&same, record);
            rest = later;
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn a_note_reads_back() {
        let note = Note { epoch: 3, len: 12345, last_seq: 17 };
        assert!(matches!(read(&encode_note(&note)), Some(Content::Note(same)) if same == note));
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let whole = encode(&[record(1, b"hello")]);
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&bytes).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn an_unknown_version_is_not_a_note() {
        let mut payload = encode_note(&Note::default()).split_off(HEADER);
        payload[0] = VERSION + 1;
        let len = u32::try_from(payload.len()).unwrap();
        let header = Header { kind: NOTE, len, ..Header::parse(&[0; HEADER]).unwrap() };
        let mut frame = Vec::new();
        header.write(&payload, &mut frame);
        frame.extend(payload);
        assert!(read(&frame).is_none());
    }
}
