//! Columns as parts of records.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryArray, BinaryBuilder, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema};
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;
use memchr::memchr_iter;

use crate::error::{Error, Result};
use crate::sink::TIMESTAMP;

/// What becomes the value of a record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Value {
    /// All columns as one JSON object, spelled as [`Ndjson`](crate::sink::Ndjson) does.
    #[default]
    Ndjson,
    /// One column of bytes or text, as it is; null is a record without a value (a tombstone).
    Column(String),
}

/// Where rows go, by the name that errors have for it.
#[derive(Debug, Clone, Copy)]
pub(in crate::connector) struct Target(pub(in crate::connector) &'static str);

impl Target {
    /// The column `name`.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema), naming those there are.
    pub(in crate::connector) fn column<'a>(self, batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
        batch.column_by_name(name).ok_or_else(|| {
            let names: Vec<&str> = batch.schema_ref().fields().iter().map(|field| field.name().as_str()).collect();
            Error::schema(format!("there is no column `{name}` to write to {}; there are {}", self.0, names.join(", ")))
        })
    }

    /// Some of the columns, in this order.
    ///
    /// # Errors
    /// As [`Target::column`].
    pub(in crate::connector) fn projected(self, batch: &RecordBatch, names: &[String]) -> Result<RecordBatch> {
        let columns = names.iter().map(|name| self.column(batch, name).cloned()).collect::<Result<Vec<_>>>()?;
        let schema = batch.schema();
        let fields: Vec<_> = schema.fields().iter().filter(|field| names.contains(field.name())).cloned().collect();
        let ordered = names.iter().filter_map(|name| fields.iter().find(|field| field.name() == name).cloned());
        Ok(RecordBatch::try_new(Arc::new(Schema::new(ordered.collect::<Vec<_>>())), columns)?)
    }

    /// The values of records.
    ///
    /// # Errors
    /// As [`Target::column`] and [`Target::bytes`].
    pub(in crate::connector) fn values(self, batch: &RecordBatch, value: &Value) -> Result<BinaryArray> {
        match value {
            Value::Ndjson => lines(batch),
            Value::Column(name) => self.bytes(name, self.column(batch, name)?, "a value"),
        }
    }

    /// Bytes and text as they are.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if the column is of another type.
    pub(in crate::connector) fn bytes(self, name: &str, array: &ArrayRef, what: &str) -> Result<BinaryArray> {
        let kind = match array.data_type() {
            DataType::Dictionary(_, values) => values.as_ref(),
            other => other,
        };
        match kind {
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {}
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {}
            other => {
                return Err(Error::schema(format!("column `{name}` of type {other} cannot be {what} in {}; cast it to a string", self.0)));
            }
        }
        let plain = if kind == array.data_type() { Arc::clone(array) } else { cast(array, kind)? };
        Ok(cast(&plain, &DataType::Binary)?.as_binary::<i32>().clone())
    }
}

/// Each row as a JSON object.
///
/// # Errors
/// If a column has a type that JSON cannot hold.
pub(in crate::connector) fn lines(batch: &RecordBatch) -> Result<BinaryArray> {
    let mut lines = Vec::new();
    let builder = WriterBuilder::new().with_explicit_nulls(true).with_timestamp_format(TIMESTAMP.to_owned());
    builder.build::<_, LineDelimited>(&mut lines).write(batch)?;
    let mut values = BinaryBuilder::with_capacity(batch.num_rows(), lines.len());
    let mut start = 0;
    for end in memchr_iter(b'\n', &lines) {
        values.append_value(&lines[start..end]);
        start = end + 1;
    }
    Ok(values.finish())
}
