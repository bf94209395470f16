//! Records on their way from the polling thread to the decoder: one copy of each value, no allocation per record.

use std::ops::Range;

use memchr::memchr;
use rdkafka::Timestamp;
use rdkafka::message::{BorrowedMessage, Headers, Message};

/// Bytes after which a chunk is handed on: as many as stay in the L2 cache for the decoder.
const CHUNK_BYTES: usize = 1 << 18;
/// Records after which a chunk is handed on.
const CHUNK_RECORDS: usize = 4_096;

/// How values are laid out in a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// As they are.
    Plain,
    /// Each as one line: a line feed within, which in JSON can only be white space, is a space here, and one follows.
    Lines,
}

/// Neighbouring records.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) records: Vec<Record>,
    pub(super) bytes: Vec<u8>,
    /// Where in `bytes` a line feed became a space.
    line_feeds: Vec<usize>,
    /// What else there is of each record, if it was asked for.
    pub(super) extras: Vec<Extra>,
    /// Keys, then names and values of headers.
    pub(super) extra_bytes: Vec<u8>,
    pub(super) headers: Vec<Header>,
    /// When the first record came, in the clock's nanoseconds.
    pub(super) received: u64,
}

/// A record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record {
    /// The number that the source has for its partition.
    pub(super) partition: u32,
    pub(super) offset: i64,
    /// Where its value is, less the line feed that was put behind it.
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) is_null: bool,
}

/// What else there is of a record.
#[derive(Debug, Clone)]
pub(super) struct Extra {
    pub(super) key: Option<Range<usize>>,
    /// In milliseconds since the Unix epoch.
    pub(super) timestamp: Option<i64>,
    /// Whether that is when the broker appended it, rather than when it was made.
    pub(super) appended: bool,
    /// How many headers the chunk has up to and with those of this record.
    pub(super) headers_end: usize,
}

/// A header, in `extra_bytes`.
#[derive(Debug, Clone)]
pub(super) struct Header {
    pub(super) name: Range<usize>,
    pub(super) value: Option<Range<usize>>,
}

impl Chunk {
    /// Adds a record of the partition that the source has this number for.
    pub(super) fn push(&mut self, partition: u32, message: &BorrowedMessage<'_>, layout: Layout, with_extras: bool) {
        let value = message.payload();
        let start = self.bytes.len();
        if let Some(value) = value {
            self.push_value(value, layout);
        }
        let feeds = usize::from(layout == Layout::Lines && value.is_some());
        let end = self.bytes.len() - feeds;
        self.records.push(Record { partition, offset: message.offset(), start, end, is_null: value.is_none() });
        if with_extras {
            self.push_extra(message);
        }
    }

    fn push_value(&mut self, value: &[u8], layout: Layout) {
        if layout == Layout::Plain {
            return self.bytes.extend_from_slice(value);
        }
        let value = value.strip_suffix(b"\n").unwrap_or(value);
        let mut at = self.bytes.len();
        self.bytes.extend_from_slice(value);
        while let Some(length) = memchr(b'\n', &self.bytes[at..]) {
            at += length;
            self.bytes[at] = b' ';
            self.line_feeds.push(at);
        }
        self.bytes.push(b'\n');
    }

    fn push_extra(&mut self, message: &BorrowedMessage<'_>) {
        let key = message.key().map(|key| append(&mut self.extra_bytes, key));
        if let Some(headers) = message.headers() {
            for header in headers.iter() {
                let name = append(&mut self.extra_bytes, header.key.as_bytes());
                let value = header.value.map(|value| append(&mut self.extra_bytes, value));
                self.headers.push(Header { name, value });
            }
        }
        let (timestamp, appended) = match message.timestamp() {
            Timestamp::NotAvailable => (None, false),
            Timestamp::CreateTime(time) => (Some(time), false),
            Timestamp::LogAppendTime(time) => (Some(time), true),
        };
        self.extras.push(Extra { key, timestamp, appended, headers_end: self.headers.len() });
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= CHUNK_BYTES || self.records.len() >= CHUNK_RECORDS
    }

    /// The value of a record.
    pub(super) fn value(&self, record: &Record) -> &[u8] {
        &self.bytes[record.start..record.end]
    }

    /// The value of a record as it came, line feeds and all, save one at its end.
    pub(super) fn original(&self, record: &Record) -> Vec<u8> {
        let mut value = self.value(record).to_vec();
        let first = self.line_feeds.partition_point(|at| *at < record.start);
        for at in self.line_feeds[first..].iter().take_while(|at| **at < record.end) {
            value[at - record.start] = b'\n';
        }
        value
    }
}

/// Adds `bytes` to `all`; returns where they are.
fn append(all: &mut Vec<u8>, bytes: &[u8]) -> Range<usize> {
    let start = all.len();
    all.extend_from_slice(bytes);
    start..all.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_one_line_and_is_given_back_as_it_was() {
        let mut chunk = Chunk::default();
        let values: [&[u8]; 4] = [b"{\"a\":\n1}\n", b"", b"\n\n", b"{}"];
        for value in values {
            let start = chunk.bytes.len();
            chunk.push_value(value, Layout::Lines);
            let record = Record { partition: 0, offset: 0, start, end: chunk.bytes.len() - 1, is_null: false };
            chunk.records.push(record);
        }
        assert_eq!(chunk.bytes, b"{\"a\": 1}\n\n \n{}\n");
        let back: Vec<Vec<u8>> = chunk.records.iter().map(|record| chunk.original(record)).collect();
        assert_eq!(back, [&b"{\"a\":\n1}"[..], b"", b"\n", b"{}"]);
    }
}
