//! Quarantine: what does not decode or breaks a rule is kept with its bytes and its origin, never dropped in silence.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::batch::PartitionId;
use crate::config::MAX_QUARANTINED_BYTES;
use crate::error::Result;

/// A row that could not become columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Where it came from.
    pub partition: PartitionId,
    /// The partition's offset of its first byte.
    pub offset: u64,
    /// Its bytes, cut to [`MAX_QUARANTINED_BYTES`].
    pub bytes: Vec<u8>,
    /// Why, in words.
    pub error: String,
}

impl Rejected {
    /// Keeps a copy of the first [`MAX_QUARANTINED_BYTES`] bytes.
    pub fn new(partition: PartitionId, offset: u64, bytes: &[u8], error: impl Into<String>) -> Rejected {
        Rejected { partition, offset, bytes: bytes[..bytes.len().min(MAX_QUARANTINED_BYTES)].to_vec(), error: error.into() }
    }
}

/// What the columns of quarantined rows are called.
pub const COLUMNS: [&str; 4] = ["partition", "offset", "bytes", "error"];

/// Columns of quarantined rows: `partition`, `offset`, `bytes`, `error`.
pub fn schema() -> SchemaRef {
    let types = [DataType::UInt32, DataType::UInt64, DataType::Binary, DataType::Utf8];
    let fields = COLUMNS.into_iter().zip(types).map(|(name, kind)| Field::new(name, kind, false));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Quarantined rows as columns of [`schema`].
///
/// # Errors
/// If the columns cannot be built, which would be a defect.
pub fn to_records(rows: &[Rejected]) -> Result<RecordBatch> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| row.partition.0))),
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.offset))),
        Arc::new(BinaryArray::from_iter_values(rows.iter().map(|row| &row.bytes))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.error))),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

/// Row `row` of `records` as a JSON object: the bytes of a row that decoded and was turned away later.
pub fn row_as_json(records: &RecordBatch, row: usize) -> Vec<u8> {
    let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
    match writer.write(&records.slice(row, 1)).and_then(|()| writer.finish()) {
        Ok(()) => writer.into_inner().trim_ascii_end().to_vec(),
        Err(error) => format!("(no JSON: {error})").into_bytes(),
    }
}
