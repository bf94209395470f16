//! Rows as lines of JSON.
//!
//! One object per row and line. Nulls are written as `null`, as are NaN and infinities, for which JSON has no name;
//! timestamps are written as RFC 3339 (`2024-01-31T12:00:00.250Z`), and those without a time zone count from
//! the epoch in UTC, as everywhere in the engine.

use std::sync::Arc;

use arrow::array::{BinaryArray, RecordBatch, StructArray, new_empty_array};
use arrow::datatypes::{Field, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::WriterBuilder;
use arrow::json::writer::{LineDelimited, make_encoder};
use memchr::memchr_iter;

use super::values_of;
use crate::error::{Error, Result};

/// A timestamp that has no time zone, in UTC; the fraction is left out where it is zero.
const TIMESTAMP: &str = "%Y-%m-%dT%H:%M:%S%.fZ";

/// Rows as lines, added to `lines`.
pub(crate) fn write(batch: &RecordBatch, lines: &mut Vec<u8>) -> Result<(), ArrowError> {
    let builder = WriterBuilder::new().with_explicit_nulls(true).with_timestamp_format(TIMESTAMP.to_owned());
    builder.build::<_, LineDelimited>(lines).write(batch)
}

/// Refuses columns that JSON cannot hold before any row comes.
pub(crate) fn check(schema: &SchemaRef) -> Result<()> {
    for field in schema.fields() {
        let alone = Arc::new(Field::new_struct("", vec![Arc::clone(field)], false));
        let empty = StructArray::new(vec![Arc::clone(field)].into(), vec![new_empty_array(field.data_type())], None);
        make_encoder(&alone, &empty, &Default::default()).map_err(|error| {
            Error::schema(format!("column `{}` of type {} cannot be written as JSON; select or cast it", field.name(), field.data_type()))
                .with_source(error)
        })?;
    }
    Ok(())
}

/// Each row as an object behind `head`.
///
/// # Errors
/// If a column has a type that JSON cannot hold.
pub(crate) fn values(batch: &RecordBatch, head: &[u8]) -> Result<BinaryArray> {
    let mut lines = Vec::new();
    write(batch, &mut lines)?;
    let mut rows = Vec::with_capacity(lines.len() + batch.num_rows() * head.len());
    let mut ends = Vec::with_capacity(batch.num_rows() + 1);
    ends.push(0);
    let mut start = 0;
    // Within an object a line end is an escape.
    for end in memchr_iter(b'\n', &lines) {
        rows.extend_from_slice(head);
        rows.extend_from_slice(&lines[start..end]);
        ends.push(rows.len());
        start = end + 1;
    }
    values_of(rows, ends.into_iter())
}
