//! What else there is of the records of a chunk, if it was asked for.

use std::ops::Range;

use rdkafka::Timestamp;
use rdkafka::message::{BorrowedMessage, Headers, Message};

/// Keys, times and headers of neighbouring records.
#[derive(Debug, Default)]
pub(super) struct Extras {
    /// In the order of the records.
    pub(super) records: Vec<Extra>,
    /// Keys, then names and values of headers.
    pub(super) bytes: Vec<u8>,
    pub(super) headers: Vec<Header>,
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

/// A header, in the bytes.
#[derive(Debug, Clone)]
pub(super) struct Header {
    pub(super) name: Range<usize>,
    pub(super) value: Option<Range<usize>>,
}

impl Extras {
    /// Adds what there is of the next record.
    pub(super) fn push(&mut self, message: &BorrowedMessage<'_>) {
        let key = message.key().map(|key| append(&mut self.bytes, key));
        if let Some(headers) = message.headers() {
            for header in headers.iter() {
                let name = append(&mut self.bytes, header.key.as_bytes());
                let value = header.value.map(|value| append(&mut self.bytes, value));
                self.headers.push(Header { name, value });
            }
        }
        let (timestamp, appended) = match message.timestamp() {
            Timestamp::NotAvailable => (None, false),
            Timestamp::CreateTime(time) => (Some(time), false),
            Timestamp::LogAppendTime(time) => (Some(time), true),
        };
        self.records.push(Extra { key, timestamp, appended, headers_end: self.headers.len() });
    }
}

/// Adds `bytes` to `all`; returns where they are.
fn append(all: &mut Vec<u8>, bytes: &[u8]) -> Range<usize> {
    let start = all.len();
    all.extend_from_slice(bytes);
    start..all.len()
}
