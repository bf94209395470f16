//! A batch: Arrow columns with their event time and where they came from.

mod origins;

use std::ops::Range;

use arrow::array::{Array, BooleanArray, Int64Array, RecordBatch};
use arrow::buffer::{BooleanBuffer, ScalarBuffer};
use arrow::compute::{FilterBuilder, FilterPredicate, prep_null_mask_filter};
use arrow::datatypes::Schema;

use crate::error::{Error, Result};
pub use origins::Origins;

/// One input of a source that has an order of its own: a connection, a file, a broker's partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PartitionId(pub u32);

/// A run of neighbouring rows of a batch that come from one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Where the rows come from.
    pub partition: PartitionId,
    /// How many rows.
    pub rows: usize,
    /// The partition's offset of the first row: a byte position in files and connections of text, the record's in brokers, a row number
    /// elsewhere. Steps that take rows out leave it as it is.
    pub offset: u64,
}

/// Event times of a batch, one per row, and what the watermark was before each.
#[derive(Debug, Clone)]
pub struct EventTime {
    /// Event time of each row in the stream's unit.
    pub times: ScalarBuffer<i64>,
    /// For each row the watermark of its partition before that row was seen. `None` when no row of the
    /// batch lies at or behind it, so that no row can be late.
    pub watermarks: Option<ScalarBuffer<i64>>,
    /// No row is earlier. Steps that take rows out need not raise it.
    pub earliest: i64,
    /// No row is later. Steps that take rows out need not lower it.
    pub latest: i64,
}

/// Columns, their event time once the watermark stage has seen them, and their origin.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The columns.
    pub records: RecordBatch,
    /// Set by the watermark stage for streams with event time.
    pub time: Option<EventTime>,
    /// Runs of rows by partition, in row order; their row counts add up to the batch's. None of results that are made of many rows.
    pub segments: Vec<Segment>,
    /// Which rows of their partitions these are, where segments do not tell.
    pub origins: Origins,
    /// When the first byte of the oldest row arrived, in the clock's monotonic nanoseconds.
    pub received: u64,
    /// The number of the first row in order of arrival, where the batches of a stream go to several workers; rows that follow have
    /// greater ones, below that of the next batch. `None` where steps count for themselves.
    pub sequence: Option<u64>,
}

impl Batch {
    /// A batch whose rows all come from partition 0, starting at row number `offset`.
    pub fn new(records: RecordBatch, offset: u64, received: u64) -> Batch {
        let rows = records.num_rows();
        Batch::of_source(records, vec![Segment { partition: PartitionId(0), rows, offset }], received)
    }

    /// A batch whose rows come from the partitions that `segments` name.
    pub fn of_source(records: RecordBatch, segments: Vec<Segment>, received: u64) -> Batch {
        Batch { records, time: None, segments, origins: Origins::default(), received, sequence: None }
    }

    /// Results that are made of many rows, with their event times, if they have any.
    pub fn of_results(records: RecordBatch, time: Option<EventTime>) -> Batch {
        Batch { records, time, segments: Vec::new(), origins: Origins::default(), received: 0, sequence: None }
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.records.num_rows()
    }

    /// The same rows with other columns.
    pub fn with_records(self, records: RecordBatch) -> Batch {
        debug_assert_eq!(records.num_rows(), self.records.num_rows());
        Batch { records, ..self }
    }

    /// The rows where `mask` is true (null counts as false), in order.
    ///
    /// # Errors
    /// If the mask has another length than the batch.
    pub fn filter(self, mask: &BooleanArray) -> Result<Batch> {
        let predicate = FilterBuilder::new(mask).optimize().build();
        if predicate.count() == self.rows() {
            return Ok(self);
        }
        let records = predicate.filter_record_batch(&self.records)?;
        let (segments, origins) = match mask.null_count() {
            0 => self.parts(mask.values()),
            _ => self.parts(prep_null_mask_filter(mask).values()),
        };
        let time = self.time.map(|time| time.filter(&predicate)).transpose()?;
        Ok(Batch { records, time, segments, origins, received: self.received, sequence: self.sequence })
    }

    /// Where the rows come from at which `mask` is true.
    pub(crate) fn parts(&self, mask: &BooleanBuffer) -> (Vec<Segment>, Origins) {
        let mut start = 0;
        let kept = |segment: &Segment| {
            let rows = mask.slice(start, segment.rows).count_set_bits();
            start += segment.rows;
            (rows > 0).then_some(Segment { rows, ..*segment })
        };
        (self.segments.iter().filter_map(kept).collect(), self.origins.masked(&self.segments, mask))
    }

    /// The rows in `range`, without a copy.
    pub fn slice(&self, range: Range<usize>) -> Batch {
        let length = range.len();
        let mut start = 0;
        let mut segments = Vec::with_capacity(1);
        for segment in &self.segments {
            let (low, high) = (range.start.max(start), range.end.min(start + segment.rows));
            if low < high {
                segments.push(Segment { rows: high - low, ..*segment });
            }
            start += segment.rows;
        }
        Batch {
            records: self.records.slice(range.start, length),
            time: self.time.as_ref().map(|time| time.slice(range.start, length)),
            segments,
            origins: if length == self.rows() { self.origins.clone() } else { self.origins.from(&self.segments, range.start) },
            received: self.received,
            sequence: self.sequence,
        }
    }
}

impl EventTime {
    fn filter(self, predicate: &FilterPredicate) -> Result<EventTime> {
        let keep = |values: ScalarBuffer<i64>| -> Result<ScalarBuffer<i64>> {
            let kept = predicate.filter(&Int64Array::new(values, None))?;
            Ok(kept.to_data().buffers()[0].clone().into())
        };
        let watermarks = self.watermarks.map(keep).transpose()?;
        Ok(EventTime { times: keep(self.times)?, watermarks, ..self })
    }

    fn slice(&self, offset: usize, length: usize) -> EventTime {
        let watermarks = self.watermarks.as_ref().map(|marks| marks.slice(offset, length));
        EventTime { times: self.times.slice(offset, length), watermarks, ..*self }
    }
}

/// The position of the column `name`.
///
/// # Errors
/// [`Kind::Schema`](crate::error::Kind::Schema), listing the columns that exist.
pub(crate) fn column_index(schema: &Schema, name: &str) -> Result<usize> {
    schema.index_of(name).map_err(|_| {
        let known: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        Error::schema(format!("there is no column `{name}`; the columns are `{}`", known.join("`, `")))
    })
}
