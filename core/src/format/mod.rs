//! Bytes to columns: one decoder per format, shared by all partitions of a source.

pub mod arrow_ipc;
mod bulk;
pub mod csv;
pub mod infer;
pub mod lines;
pub mod ndjson;
pub mod pod;

use std::fmt;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use self::arrow_ipc::ArrowIpcDecoder;
use self::csv::CsvDecoder;
pub use self::infer::parse_type;
use self::lines::LineDecoder;
use self::ndjson::{ArrowJsonLines, NdjsonLines};
use crate::batch::{PartitionId, Segment};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::quality::Rejected;

/// What bytes are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line.
    Ndjson,
    /// Comma-separated values.
    Csv {
        /// The byte between fields.
        delimiter: u8,
        /// Whether each partition begins with its columns' names.
        header: bool,
    },
    /// Arrow's inter-process stream format.
    ArrowIpc,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Ndjson => "ndjson",
            Format::Csv { .. } => "csv",
            Format::ArrowIpc => "arrow",
        })
    }
}

impl Format {
    /// The format that a user's `name` means: `ndjson` (`jsonl`), `csv`, `tsv` (both with a header) or `arrow` (`arrow_ipc`).
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config), listing the names there are.
    pub fn parse(name: &str) -> Result<Format> {
        match name.to_ascii_lowercase().as_str() {
            "ndjson" | "jsonl" => Ok(Format::Ndjson),
            "csv" => Ok(Format::Csv { delimiter: b',', header: true }),
            "tsv" => Ok(Format::Csv { delimiter: b'\t', header: true }),
            "arrow" | "arrow_ipc" => Ok(Format::ArrowIpc),
            _ => Err(Error::config(format!("`{name}` is not a format; it may be ndjson, csv, tsv or arrow"))),
        }
    }

    /// A decoder of this format that gives columns of `schema`.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if the format cannot hold a column's type,
    /// [`Kind::Config`](crate::error::Kind::Config) if the CSV delimiter cannot be one.
    pub fn decoder(&self, schema: SchemaRef, config: &Config) -> Result<Box<dyn Decoder>> {
        match *self {
            Format::Ndjson => match NdjsonLines::new(schema.clone())? {
                Some(lines) => Ok(Box::new(LineDecoder::new(lines, config))),
                None => Ok(Box::new(LineDecoder::new(ArrowJsonLines::new(schema)?, config))),
            },
            Format::Csv { delimiter, header } => Ok(Box::new(CsvDecoder::new(schema, delimiter, header, config)?)),
            Format::ArrowIpc => Ok(Box::new(ArrowIpcDecoder::new(schema))),
        }
    }
}

/// Rows decoded since the last [`Decoder::take`].
#[derive(Debug)]
pub struct Decoded {
    /// The rows, in the order of arrival.
    pub records: RecordBatch,
    /// Runs of rows by partition; the row counts add up to the batch's.
    pub segments: Vec<Segment>,
}

/// Turns the bytes of any number of partitions into columns of one schema.
///
/// A decoder finds the frames (lines, messages) itself: bytes come in pieces of any size, and a frame that
/// straddles two pieces is put together from a copy that the decoder keeps per partition. What does not
/// decode is quarantined and the next frame goes on. Only a partition whose framing is beyond repair ends in an error.
pub trait Decoder: Send {
    /// The columns that come out.
    fn schema(&self) -> SchemaRef;

    /// Decodes all frames that end in `bytes`, the next piece of `partition`.
    ///
    /// # Errors
    /// If nothing after this point of the partition can be decoded; the caller ends the partition.
    fn decode(&mut self, partition: PartitionId, bytes: &[u8]) -> Result<()>;

    /// Ends `partition`: an unfinished last frame is decoded if it is whole, else quarantined, and its state is forgotten.
    fn end(&mut self, partition: PartitionId);

    /// Rows that [`Decoder::take`] would return.
    fn rows(&self) -> usize;

    /// Takes the rows decoded so far; `None` if there are none.
    ///
    /// # Errors
    /// If the columns cannot be built, which is a defect of the decoder.
    fn take(&mut self) -> Result<Option<Decoded>>;

    /// Moves the rows quarantined since the last call to the end of `into`.
    fn take_rejected(&mut self, into: &mut Vec<Rejected>);
}

/// Adds a run of rows to `segments`, or to the last of them if it is of the same partition.
fn extend_segments(segments: &mut Vec<Segment>, partition: PartitionId, rows: usize, offset: u64) {
    match segments.last_mut() {
        Some(last) if last.partition == partition => last.rows += rows,
        _ => segments.push(Segment { partition, rows, offset }),
    }
}
