//! Framing of line formats: pieces of any size in, slices of whole lines out, at most one copy per piece.

use std::collections::HashMap;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use memchr::{memchr, memchr_iter, memrchr};

use super::runs::Runs;
use super::{Decoded, Decoder};
use crate::batch::PartitionId;
use crate::config::Config;
use crate::error::Result;
use crate::quality::Rejected;

/// A line that did not decode, as a range of the slice that was handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// Where the line starts.
    pub start: usize,
    /// Where it ends, before its `\n`.
    pub end: usize,
    /// Why, in words.
    pub error: String,
}

/// A format whose frames are lines.
pub trait Lines: Send {
    /// The columns that come out.
    fn schema(&self) -> SchemaRef;

    /// Decodes `lines`, each of which ends in `\n`; blank ones are skipped. Every other line either adds one row
    /// or one entry to `bad`, both in order.
    fn decode(&mut self, lines: &[u8], bad: &mut Vec<BadLine>);

    /// Rows that [`Lines::take`] would return.
    fn rows(&self) -> usize;

    /// Takes the rows decoded so far; `None` if there are none.
    ///
    /// # Errors
    /// If the columns cannot be built, which is a defect of the format.
    fn take(&mut self) -> Result<Option<RecordBatch>>;
}

/// A [`Decoder`] of lines.
///
/// Lines end in `\n` or `\r\n`. A line of more than `max_line_bytes` before its `\n` is quarantined once, cut; the rest
/// of it is skipped without being kept. Memory per partition is at most that of one line.
#[derive(Debug)]
pub struct LineDecoder<L> {
    run: Run<L>,
    partitions: HashMap<PartitionId, Straddle>,
}

/// What a partition is in the middle of.
#[derive(Debug, Default)]
struct Straddle {
    /// The partition's offset of the next byte to come.
    position: u64,
    /// The unfinished line before `position`, without its `\n`.
    carry: Vec<u8>,
    /// Whether the unfinished line was too long and is being skipped.
    skipping: bool,
}

/// What all partitions share: the rows of the run between two takes.
#[derive(Debug)]
struct Run<L> {
    lines: L,
    max_line_bytes: usize,
    runs: Runs,
    rejected: Vec<Rejected>,
    bad: Vec<BadLine>,
}

impl<L: Lines> LineDecoder<L> {
    /// A decoder that frames lines for `lines`.
    pub fn new(lines: L, config: &Config) -> LineDecoder<L> {
        let run = Run { lines, max_line_bytes: config.max_line_bytes, runs: Runs::default(), rejected: Vec::new(), bad: Vec::new() };
        LineDecoder { run, partitions: HashMap::new() }
    }
}

impl<L: Lines> Decoder for LineDecoder<L> {
    fn schema(&self) -> SchemaRef {
        self.run.lines.schema()
    }

    fn keep_offsets(&mut self) {
        self.run.runs.keep_offsets();
    }

    fn decode(&mut self, partition: PartitionId, mut bytes: &[u8]) -> Result<()> {
        let straddle = self.partitions.entry(partition).or_default();
        while !bytes.is_empty() {
            let used = if straddle.skipping {
                straddle.skip(bytes)
            } else if straddle.carry.is_empty() {
                self.run.whole(partition, straddle, bytes)
            } else {
                self.run.complete(partition, straddle, bytes)
            };
            straddle.position += used as u64;
            bytes = &bytes[used..];
        }
        Ok(())
    }

    fn end(&mut self, partition: PartitionId) {
        let Some(mut straddle) = self.partitions.remove(&partition) else { return };
        if !straddle.carry.is_empty() {
            let start = straddle.position - straddle.carry.len() as u64;
            straddle.carry.push(b'\n');
            self.run.decode(partition, start, &straddle.carry);
        }
    }

    fn cut(&mut self, partition: PartitionId, why: &str) {
        let Some(straddle) = self.partitions.remove(&partition).filter(|straddle| !straddle.carry.is_empty()) else { return };
        let start = straddle.position - straddle.carry.len() as u64;
        self.run.rejected.push(Rejected::new(partition, start, &straddle.carry, format!("the line is cut off: {why}")));
    }

    fn rows(&self) -> usize {
        self.run.lines.rows()
    }

    fn take(&mut self) -> Result<Option<Decoded>> {
        let (segments, origins) = self.run.runs.take();
        Ok(self.run.lines.take()?.map(|records| Decoded { records, segments, origins }))
    }

    fn take_rejected(&mut self, into: &mut Vec<Rejected>) {
        into.append(&mut self.run.rejected);
    }
}

impl Straddle {
    /// Skips to the end of a line that was too long; returns the bytes used.
    fn skip(&mut self, bytes: &[u8]) -> usize {
        match memchr(b'\n', bytes) {
            Some(end) => {
                self.skipping = false;
                end + 1
            }
            None => bytes.len(),
        }
    }
}

impl<L: Lines> Run<L> {
    /// Decodes whole lines in place, or keeps the beginning of one; returns the bytes used.
    fn whole(&mut self, partition: PartitionId, straddle: &mut Straddle, bytes: &[u8]) -> usize {
        // No line that ends in a window of this length can be too long, so lines need no look one by one.
        let window = &bytes[..bytes.len().min(self.max_line_bytes + 1)];
        if let Some(last) = memrchr(b'\n', window) {
            self.decode(partition, straddle.position, &bytes[..=last]);
            return last + 1;
        }
        if bytes.len() <= self.max_line_bytes {
            straddle.carry.extend_from_slice(bytes);
            return bytes.len();
        }
        self.reject_long(partition, straddle.position, bytes);
        straddle.skipping = true;
        window.len()
    }

    /// Adds to the line that began in an earlier piece and decodes it if that completes it; returns the bytes used.
    fn complete(&mut self, partition: PartitionId, straddle: &mut Straddle, bytes: &[u8]) -> usize {
        let start = straddle.position - straddle.carry.len() as u64;
        let room = self.max_line_bytes - straddle.carry.len();
        let end = memchr(b'\n', &bytes[..bytes.len().min(room + 1)]);
        let used = end.map_or(bytes.len().min(room + 1), |end| end + 1);
        straddle.carry.extend_from_slice(&bytes[..used]);
        if end.is_some() {
            self.decode(partition, start, &straddle.carry);
            straddle.carry.clear();
        } else if straddle.carry.len() > self.max_line_bytes {
            self.reject_long(partition, start, &straddle.carry);
            straddle.carry = Vec::new();
            straddle.skipping = true;
        }
        used
    }

    /// Decodes whole lines, the first of which starts at the partition's offset `start`.
    fn decode(&mut self, partition: PartitionId, start: u64, lines: &[u8]) {
        let before = self.lines.rows();
        self.lines.decode(lines, &mut self.bad);
        let rows = self.lines.rows() - before;
        if rows > 0 {
            let first = first_row(lines, &self.bad);
            let all = || all_rows(lines, &self.bad, rows).into_iter().map(|at| start + at as u64);
            self.runs.add(partition, rows, start + first as u64, all);
        }
        for bad in self.bad.drain(..) {
            let line = &lines[bad.start..bad.end];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            self.rejected.push(Rejected::new(partition, start + bad.start as u64, line, bad.error));
        }
    }

    /// Quarantines a line that is too long. What is kept does not depend on how the line was cut into pieces.
    fn reject_long(&mut self, partition: PartitionId, start: u64, line: &[u8]) {
        let max = self.max_line_bytes;
        let error = too_long(max);
        self.rejected.push(Rejected::new(partition, start, &line[..max], error));
    }
}

/// Why a line or record is refused that is longer than `max` bytes.
pub(super) fn too_long(max: usize) -> String {
    format!("the record is longer than {max} bytes; raise `max_line_bytes` if such records are meant")
}

/// Whether `line` is to be skipped: nothing but white space.
pub(super) fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
}

/// Where the first line starts that is neither blank nor bad.
fn first_row(lines: &[u8], bad: &[BadLine]) -> usize {
    let (mut start, mut bad) = (0, bad.iter().peekable());
    while let Some(length) = memchr(b'\n', &lines[start..]) {
        let is_bad = bad.next_if(|bad| bad.start == start).is_some();
        if !is_bad && !is_blank(&lines[start..start + length]) {
            break;
        }
        start += length + 1;
    }
    start
}

/// Where each line starts that is neither blank nor bad, which are `rows`.
fn all_rows(lines: &[u8], bad: &[BadLine], rows: usize) -> Vec<usize> {
    let mut starts = Vec::with_capacity(rows);
    let (mut start, mut bad_ones) = (0, bad.iter().peekable());
    for end in memchr_iter(b'\n', lines) {
        let is_bad = bad_ones.next_if(|bad| bad.start == start).is_some();
        // Few lines begin with white space.
        if !is_bad && (lines[start] > b' ' || !is_blank(&lines[start..end])) {
            starts.push(start);
        }
        start = end + 1;
    }
    starts
}
