//! Columns as parts of records.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema, SchemaRef};

use crate::error::{Error, Result};
use crate::format::avro::{self, AvroWriter};
use crate::format::json_confluent::{self, JsonConfluentWriter};
use crate::format::protobuf::{self, ProtobufWriter};
use crate::format::values;

/// What becomes the value of a record.
#[derive(Debug, Clone, Default)]
pub enum Value {
    /// All columns as one JSON object, spelled as [`Ndjson`](crate::sink::Ndjson) does.
    #[default]
    Ndjson,
    /// One column of bytes or text, as it is; null is a record without a value (a tombstone).
    Column(String),
    /// All columns as one line without its end, spelled as [`Csv`](crate::sink::Csv) does; nothing says their names.
    Csv {
        /// What separates the fields: an ASCII character.
        delimiter: u8,
    },
    /// Neighbouring rows of a batch as one Arrow IPC stream, which is whole: its schema, one record batch and the mark of its end. One
    /// record has all rows whose keys, headers, times and the like are the same: those of a whole batch, if none of these comes from a
    /// column. Rows that are longer together than a record may be are several records. Dictionaries and views are written as
    /// plain columns.
    ArrowIpc,
    /// All columns as one Avro record.
    Avro(AvroWriter),
    /// All columns as one JSON object, spelled as [`Ndjson`](crate::sink::Ndjson) does, behind the number of its JSON Schema.
    JsonConfluent(JsonConfluentWriter),
    /// All columns as one message of protocol buffers.
    Protobuf(ProtobufWriter),
}

impl Value {
    /// The format that a user's `name` means: `ndjson` (`jsonl`), `csv`, `tsv` or `arrow` (`arrow_ipc`).
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config), listing the names there are.
    pub fn parse(name: &str) -> Result<Value> {
        match name.to_ascii_lowercase().as_str() {
            "ndjson" | "jsonl" => Ok(Value::Ndjson),
            "csv" => Ok(Value::Csv { delimiter: b',' }),
            "tsv" => Ok(Value::Csv { delimiter: b'\t' }),
            "arrow" | "arrow_ipc" => Ok(Value::ArrowIpc),
            _ => Err(Error::config(format!("`{name}` is not a format of records that are written; it may be ndjson, csv, tsv or arrow"))),
        }
    }

    /// What makes values of batches of `schema` that go to a topic, or what is like one.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if a column cannot be written, or a registry refuses the schema;
    /// [`Kind::Connector`](crate::error::Kind::Connector) if it cannot be asked.
    pub(in crate::connector) fn writer(&self, target: Target, schema: &SchemaRef, topic: &str) -> Result<ValueWriter> {
        Ok(match self {
            Value::Ndjson => {
                values::json::check(schema)?;
                ValueWriter::Ndjson
            }
            Value::Column(name) => {
                let empty = RecordBatch::new_empty(SchemaRef::clone(schema));
                target.bytes(name, target.column(&empty, name)?, "a value")?;
                ValueWriter::Column(target, name.clone())
            }
            Value::Csv { delimiter } => {
                values::csv::check(schema, *delimiter)?;
                ValueWriter::Csv(*delimiter)
            }
            Value::ArrowIpc => ValueWriter::ArrowIpc(Box::new(values::arrow_ipc::Streams::new(schema)?)),
            Value::Avro(writer) => ValueWriter::Avro(Box::new(writer.encoding(schema, topic)?)),
            Value::JsonConfluent(writer) => ValueWriter::Json(writer.encoding(schema, topic)?),
            Value::Protobuf(writer) => ValueWriter::Protobuf(Box::new(writer.encoding(schema, topic)?)),
        })
    }
}

/// What makes values.
pub(in crate::connector) enum ValueWriter {
    Ndjson,
    Column(Target, String),
    Csv(u8),
    ArrowIpc(Box<values::arrow_ipc::Streams>),
    Avro(Box<avro::Encoding>),
    Json(json_confluent::Encoding),
    Protobuf(Box<protobuf::Encoding>),
}

/// What records have beside their values.
pub(in crate::connector) trait Beside {
    /// Whether two rows have the same, so that they can be one record.
    fn is_same(&self, row: usize, other: usize) -> bool;

    /// Bytes that there are for the value in a record of this row.
    fn room(&self, row: usize) -> usize;
}

/// The values of a batch.
pub(in crate::connector) struct Encoded {
    pub(in crate::connector) values: BinaryArray,
    /// The rows of each, if it is not one.
    rows: Option<Vec<Range<usize>>>,
}

impl Encoded {
    /// A row that the record is of.
    pub(in crate::connector) fn row(&self, record: usize) -> usize {
        self.rows.as_ref().map_or(record, |rows| rows[record].start)
    }
}

impl ValueWriter {
    /// The values of a batch.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema), naming a column with what cannot be written.
    pub(in crate::connector) fn values(&mut self, batch: &RecordBatch, beside: &dyn Beside) -> Result<Encoded> {
        let values = match self {
            ValueWriter::Ndjson => values::json::values(batch, &[])?,
            ValueWriter::Column(target, name) => target.bytes(name, target.column(batch, name)?, "a value")?,
            ValueWriter::Csv(delimiter) => values::csv::values(batch, *delimiter)?,
            ValueWriter::Avro(encoding) => encoding.values(batch)?,
            ValueWriter::Json(encoding) => encoding.values(batch)?,
            ValueWriter::Protobuf(encoding) => encoding.values(batch)?,
            ValueWriter::ArrowIpc(streams) => {
                let (values, rows) = streams.values(batch, runs(batch.num_rows(), beside), &|row| beside.room(row))?;
                return Ok(Encoded { values, rows: Some(rows) });
            }
        };
        Ok(Encoded { values, rows: None })
    }
}

/// Runs of neighbouring rows that can be one record.
fn runs(rows: usize, beside: &dyn Beside) -> impl Iterator<Item = Range<usize>> {
    let mut next = 0;
    std::iter::from_fn(move || {
        let start = next;
        if start == rows {
            return None;
        }
        next = (start + 1..rows).find(|row| !beside.is_same(start, *row)).unwrap_or(rows);
        Some(start..next)
    })
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
    values::json::values(batch, &[])
}
