//! Records on their way from the polling thread to the decoder: one copy of each value, no allocation per record.

use memchr::memchr;

/// Bytes after which a chunk is handed on: as many as stay in the L2 cache for the decoder.
const CHUNK_BYTES: usize = 1 << 18;
/// Records after which a chunk is handed on.
const CHUNK_RECORDS: usize = 4_096;

/// How values are laid out in a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::connector) enum Layout {
    /// As they are.
    Plain,
    /// Each as one line: a line feed within, which in JSON can only be white space, is a space here, and one follows.
    Lines,
}

/// Neighbouring records.
#[derive(Debug, Default)]
pub(in crate::connector) struct Chunk {
    pub(in crate::connector) records: Vec<Record>,
    pub(in crate::connector) bytes: Vec<u8>,
    /// Where in `bytes` a line feed became a space.
    line_feeds: Vec<usize>,
    /// When the first record came, in the clock's nanoseconds.
    pub(in crate::connector) received: u64,
}

/// A record.
#[derive(Debug, Clone, Copy)]
pub(in crate::connector) struct Record {
    /// The number that the source has for its partition.
    pub(in crate::connector) partition: u32,
    pub(in crate::connector) offset: i64,
    /// Where its value is, less the line feed that was put behind it.
    pub(in crate::connector) start: usize,
    pub(in crate::connector) end: usize,
    pub(in crate::connector) is_null: bool,
}

impl Chunk {
    /// Adds a record of the partition that the source has this number for.
    pub(in crate::connector) fn push(&mut self, partition: u32, offset: i64, value: Option<&[u8]>, layout: Layout) {
        let start = self.bytes.len();
        if let Some(value) = value {
            self.push_value(value, layout);
        }
        let feeds = usize::from(layout == Layout::Lines && value.is_some());
        let end = self.bytes.len() - feeds;
        self.records.push(Record { partition, offset, start, end, is_null: value.is_none() });
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

    pub(in crate::connector) fn is_full(&self) -> bool {
        self.bytes.len() >= CHUNK_BYTES || self.records.len() >= CHUNK_RECORDS
    }

    /// The value of a record.
    pub(in crate::connector) fn value(&self, record: &Record) -> &[u8] {
        &self.bytes[record.start..record.end]
    }

    /// The value of a record as it came, line feeds and all, save one at its end.
    pub(in crate::connector) fn original(&self, record: &Record) -> Vec<u8> {
        let mut value = self.value(record).to_vec();
        let first = self.line_feeds.partition_point(|at| *at < record.start);
        for at in self.line_feeds[first..].iter().take_while(|at| **at < record.end) {
            value[at - record.start] = b'\n';
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_one_line_and_is_given_back_as_it_was() {
        let mut chunk = Chunk::default();
        let values: [&[u8]; 4] = [b"{\"a\":\n1}\n", b"", b"\n\n", b"{}"];
        (0..).zip(values).for_each(|(offset, value)| chunk.push(0, offset, Some(value), Layout::Lines));
        assert_eq!(chunk.bytes, b"{\"a\": 1}\n\n \n{}\n");
        let back: Vec<Vec<u8>> = chunk.records.iter().map(|record| chunk.original(record)).collect();
        assert_eq!(back, [&b"{\"a\":\n1}"[..], b"", b"\n", b"{}"]);
    }
}
