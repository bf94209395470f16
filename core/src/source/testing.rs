//! A decoder of one screen for the tests of sources, and what a run brought.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::{Delivery, Source};
use crate::batch::{Origins, PartitionId, Segment};
use crate::error::{Error, Result};
use crate::format::{Decoded, Decoder};
use crate::quality::Rejected;

/// Lines of text in one column. A line is whole if it ends with `;`, even where its line end is missing; the line
/// `poison;` makes the rest of its partition undecodable.
#[derive(Default)]
pub(super) struct Lines {
    partial: BTreeMap<PartitionId, Vec<u8>>,
    offsets: BTreeMap<PartitionId, u64>,
    rows: Vec<String>,
    segments: Vec<Segment>,
    rejected: Vec<Rejected>,
}

impl Lines {
    pub(super) fn boxed() -> Box<dyn Decoder> {
        Box::<Lines>::default()
    }

    fn line(&mut self, partition: PartitionId, line: &[u8], length: u64) {
        let offset = self.offsets.entry(partition).or_default();
        match line.ends_with(b";") {
            true => {
                self.rows.push(String::from_utf8(line.to_vec()).unwrap());
                self.segments.push(Segment { partition, rows: 1, offset: *offset });
            }
            false => self.rejected.push(Rejected::new(partition, *offset, line, "the line is not whole")),
        }
        *offset += length;
    }
}

impl Decoder for Lines {
    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("line", DataType::Utf8, false)]))
    }

    fn decode(&mut self, partition: PartitionId, bytes: &[u8]) -> Result<()> {
        let mut buffer = self.partial.remove(&partition).unwrap_or_default();
        buffer.extend_from_slice(bytes);
        while let Some(end) = buffer.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            if line == b"poison;\n" {
                return Err(Error::decode("poisoned"));
            }
            self.line(partition, &line[..end], line.len() as u64);
        }
        self.partial.insert(partition, buffer);
        Ok(())
    }

    fn end(&mut self, partition: PartitionId) {
        if let Some(rest) = self.partial.remove(&partition).filter(|rest| !rest.is_empty()) {
            self.line(partition, &rest, rest.len() as u64);
        }
        self.offsets.remove(&partition);
    }

    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn take(&mut self) -> Result<Option<Decoded>> {
        if self.rows.is_empty() {
            return Ok(None);
        }
        let column = Arc::new(StringArray::from(std::mem::take(&mut self.rows)));
        let records = RecordBatch::try_new(self.schema(), vec![column])?;
        Ok(Some(Decoded { records, segments: std::mem::take(&mut self.segments), origins: Origins::default() }))
    }

    fn take_rejected(&mut self, into: &mut Vec<Rejected>) {
        into.append(&mut self.rejected);
    }
}

/// Everything that a source delivered.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Run {
    /// Rows with their partitions, in order.
    pub(super) rows: Vec<(u32, String)>,
    pub(super) rejected: Vec<Rejected>,
    pub(super) opened: Vec<u32>,
    pub(super) ended: Vec<u32>,
    pub(super) batches: Vec<usize>,
    pub(super) bytes: u64,
}

impl Run {
    pub(super) fn add(&mut self, delivery: Delivery) {
        let number = |partitions: Vec<PartitionId>| partitions.into_iter().map(|partition| partition.0);
        self.opened.extend(number(delivery.opened));
        if let Some(batch) = delivery.batch {
            let lines = batch.records.column(0).as_string::<i32>();
            let partitions = batch.segments.iter().flat_map(|segment| std::iter::repeat_n(segment.partition.0, segment.rows));
            self.batches.push(lines.len());
            self.rows.extend(partitions.zip(lines.iter().flatten().map(String::from)));
            assert!(self.rows.iter().all(|(partition, _)| self.opened.contains(partition)), "rows of a partition not announced");
            assert!(batch.segments.iter().all(|segment| !self.ended.contains(&segment.partition.0)), "rows after the end");
        }
        self.rejected.extend(delivery.rejected);
        self.ended.extend(number(delivery.ended));
        self.bytes += delivery.bytes;
    }

    /// Adds everything up to the end of the source.
    pub(super) fn add_all(&mut self, source: &mut dyn Source) {
        loop {
            let delivery = source.poll(Duration::from_secs(600)).unwrap();
            let end = delivery.end;
            self.add(delivery);
            if end {
                return;
            }
        }
    }

    /// The rows of one partition.
    pub(super) fn of(&self, partition: u32) -> Vec<&str> {
        self.rows.iter().filter(|(of, _)| *of == partition).map(|(_, row)| row.as_str()).collect()
    }
}

/// Polls a source to its end.
pub(super) fn run(source: &mut dyn Source) -> Run {
    let mut run = Run::default();
    run.add_all(source);
    run
}
