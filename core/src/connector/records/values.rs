//! Values of records to columns, one record a whole number of frames.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryBuilder, RecordBatch, StringBuilder, UInt32Array, new_null_array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};

use super::chunk::{Chunk, Layout, Record};
use crate::batch::PartitionId;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::format::{Decoder, Format, Messages};
use crate::quality::Rejected;

/// The column of values that are not decoded.
const VALUE: &str = "value";

/// What values are in.
#[derive(Debug, Clone)]
pub(in crate::connector) enum Encoding {
    /// As they are: bytes, or text.
    Raw(DataType),
    Formatted(Format, SchemaRef),
}

impl Encoding {
    /// Values of a format.
    pub(in crate::connector) fn formatted(format: Format, schema: SchemaRef) -> Encoding {
        // There is no first line in a stream of records that could name the columns.
        let format = match format {
            Format::Csv { delimiter, .. } => Format::Csv { delimiter, header: false },
            other => other,
        };
        Encoding::Formatted(format, schema)
    }

    /// The columns of values.
    pub(in crate::connector) fn schema(&self) -> SchemaRef {
        match self {
            Encoding::Raw(kind) => raw_schema(kind),
            Encoding::Formatted(_, schema) => SchemaRef::clone(schema),
        }
    }

    /// What decodes them.
    ///
    /// # Errors
    /// As [`Format::decoder`].
    pub(in crate::connector) fn values(&self, config: &Config) -> Result<Values> {
        match self {
            Encoding::Raw(kind) => Ok(Values::raw(kind)),
            Encoding::Formatted(format, schema) => Values::decoded(format, schema, config),
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Encoding::Raw(DataType::Utf8) => f.write_str("text"),
            Encoding::Raw(_) => f.write_str("bytes"),
            Encoding::Formatted(format, _) => format.fmt(f),
        }
    }
}

/// Whether no two columns have one name: those of values and those of what else there is of records.
///
/// # Errors
/// [`Kind::Config`](crate::error::Kind::Config), with the name.
pub(in crate::connector) fn names_differ(schema: &SchemaRef) -> Result<()> {
    let twice = |(position, field): &(usize, &FieldRef)| schema.fields()[..*position].iter().any(|other| other.name() == field.name());
    match schema.fields().iter().enumerate().find(twice) {
        None => Ok(()),
        Some((_, field)) => {
            Err(Error::config(format!("two columns are called `{}`; rename that of the value, or leave the other out", field.name())))
        }
    }
}

/// The columns of values that are not decoded: bytes, or text.
fn raw_schema(kind: &DataType) -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new(VALUE, kind.clone(), true)]))
}

/// Decodes values, and keeps the rows until they are taken.
pub(in crate::connector) struct Values {
    how: How,
    schema: SchemaRef,
    /// Where among the rows those without a value are, which the decoder does not know of.
    nulls: Vec<usize>,
    rejected: Vec<Rejected>,
}

enum How {
    /// Each a line, so that many are decoded at once. Holds how many bytes the decoder was given of each partition.
    Lines(Box<dyn Decoder>, HashMap<PartitionId, u64>),
    /// Each on its own.
    Each(Box<dyn Decoder>),
    /// Each a row, many decoded at once.
    Messages(Box<dyn Messages>),
    Bytes(BinaryBuilder),
    Text(StringBuilder),
}

/// What became of neighbouring records of one partition.
#[derive(Debug, Default)]
pub(in crate::connector) struct Outcome {
    /// How many rows each of them is.
    pub(in crate::connector) rows: Vec<usize>,
    /// Those that did not decode, by their place in the chunk, and why; in order.
    pub(in crate::connector) bad: Vec<(usize, String)>,
}

impl Values {
    /// Values that are kept as they are, in a column of type binary or string.
    fn raw(kind: &DataType) -> Values {
        let how = match kind {
            DataType::Utf8 => How::Text(StringBuilder::new()),
            _ => How::Bytes(BinaryBuilder::new()),
        };
        Values { how, schema: raw_schema(kind), nulls: Vec::new(), rejected: Vec::new() }
    }

    /// Values of a format.
    ///
    /// # Errors
    /// As [`Format::decoder`].
    fn decoded(format: &Format, schema: &SchemaRef, config: &Config) -> Result<Values> {
        let how = match (format.messages(schema)?, format) {
            (Some(messages), _) => How::Messages(messages),
            (None, Format::Ndjson | Format::Debezium) => How::Lines(format.decoder(SchemaRef::clone(schema), config)?, HashMap::new()),
            (None, _) => How::Each(format.decoder(SchemaRef::clone(schema), config)?),
        };
        Ok(Values { how, schema: SchemaRef::clone(schema), nulls: Vec::new(), rejected: Vec::new() })
    }

    /// How chunks are to lay values out.
    pub(in crate::connector) fn layout(&self) -> Layout {
        match self.how {
            How::Lines(..) => Layout::Lines,
            How::Each(_) | How::Messages(_) | How::Bytes(_) | How::Text(_) => Layout::Plain,
        }
    }

    /// A column that may not be null, so that there is no row for a record without a value.
    pub(in crate::connector) fn refuses_null(&self) -> Option<&str> {
        self.schema.fields().iter().find(|field| !field.is_nullable()).map(|field| field.name().as_str())
    }

    /// Rows so far.
    pub(in crate::connector) fn rows(&self) -> usize {
        self.nulls.len()
            + match &self.how {
                How::Lines(decoder, _) | How::Each(decoder) => decoder.rows(),
                How::Messages(decoder) => decoder.rows(),
                How::Bytes(builder) => arrow::array::ArrayBuilder::len(builder),
                How::Text(builder) => arrow::array::ArrayBuilder::len(builder),
            }
    }

    /// Adds a row of nulls.
    pub(in crate::connector) fn push_null(&mut self) {
        match &mut self.how {
            How::Bytes(builder) => builder.append_null(),
            How::Text(builder) => builder.append_null(),
            How::Lines(..) | How::Each(_) | How::Messages(_) => self.nulls.push(self.rows()),
        }
    }

    /// Decodes the records `range` of a chunk, all of one partition and with a value.
    ///
    /// # Errors
    /// If a schema that records name cannot be had, or the decoder breaks its promises, which is a defect.
    pub(in crate::connector) fn decode(&mut self, chunk: &Chunk, range: Range<usize>, outcome: &mut Outcome) -> Result<()> {
        outcome.rows.clear();
        outcome.rows.resize(range.len(), 1);
        outcome.bad.clear();
        let records = &chunk.records[range.clone()];
        match &mut self.how {
            How::Bytes(builder) => records.iter().for_each(|record| builder.append_value(chunk.value(record))),
            How::Text(builder) => {
                for (place, record) in range.clone().zip(records) {
                    match std::str::from_utf8(chunk.value(record)) {
                        Ok(text) => builder.append_value(text),
                        Err(error) => outcome.bad.push((place, format!("byte {} of the value is not UTF-8", error.valid_up_to()))),
                    }
                }
            }
            How::Each(decoder) => {
                for (place, record) in range.clone().zip(records) {
                    match each(decoder.as_mut(), chunk, record, &mut self.rejected) {
                        Ok(rows) => outcome.rows[place - range.start] = rows,
                        Err((rows, error)) => {
                            outcome.rows[place - range.start] = rows;
                            outcome.bad.push((place, error));
                        }
                    }
                }
                return Ok(());
            }
            How::Messages(decoder) => {
                let (before, messages): (_, Vec<_>) = (decoder.rows(), records.iter().map(|record| record.start..record.end).collect());
                decoder.decode(&chunk.bytes, &messages, &mut outcome.bad)?;
                if decoder.rows() - before + outcome.bad.len() != records.len() {
                    return Err(lost_count());
                }
                outcome.bad.iter_mut().for_each(|(place, _)| *place += range.start);
            }
            How::Lines(decoder, fed) => {
                let fed = fed.entry(PartitionId(records[0].partition)).or_default();
                lines(decoder.as_mut(), chunk, range.clone(), fed, &mut self.rejected, outcome)?;
            }
        }
        outcome.bad.iter().for_each(|(place, _)| outcome.rows[place - range.start] = 0);
        Ok(())
    }

    /// Forgets a partition.
    pub(in crate::connector) fn end(&mut self, partition: PartitionId) {
        match &mut self.how {
            How::Lines(decoder, fed) => {
                decoder.end(partition);
                fed.remove(&partition);
            }
            How::Each(_) | How::Messages(_) | How::Bytes(_) | How::Text(_) => {}
        }
    }

    /// The rows so far as arrays; they start again. `None` if there are none.
    ///
    /// # Errors
    /// If the columns cannot be built, which is a defect of the decoder.
    pub(in crate::connector) fn take(&mut self) -> Result<Option<Vec<ArrayRef>>> {
        if self.rows() == 0 {
            return Ok(None);
        }
        let rows = self.rows();
        let nulls = std::mem::take(&mut self.nulls);
        let decoded = match &mut self.how {
            How::Bytes(builder) => return Ok(Some(vec![Arc::new(builder.finish())])),
            How::Text(builder) => return Ok(Some(vec![Arc::new(builder.finish())])),
            How::Lines(decoder, _) | How::Each(decoder) => decoder.take()?.map(|decoded| decoded.records),
            How::Messages(decoder) => decoder.take()?,
        };
        match decoded {
            Some(records) if nulls.is_empty() => Ok(Some(records.columns().to_vec())),
            Some(records) => with_nulls(&records, rows, &nulls).map(Some),
            None => Ok(Some(self.schema.fields().iter().map(|field| new_null_array(field.data_type(), rows)).collect())),
        }
    }
}

/// Decodes one record; returns its rows, or with them why not all of it decoded.
fn each(decoder: &mut dyn Decoder, chunk: &Chunk, record: &Record, rejected: &mut Vec<Rejected>) -> Result<usize, (usize, String)> {
    let (before, value) = (decoder.rows(), chunk.value(record));
    let decoded = decoder.decode(PartitionId(record.partition), value);
    decoder.end(PartitionId(record.partition));
    rejected.clear();
    decoder.take_rejected(rejected);
    let rows = decoder.rows() - before;
    match (decoded, rejected.first()) {
        (Err(error), _) => Err((rows, error.to_string())),
        (Ok(()), Some(bad)) => Err((rows, bad.error.clone())),
        (Ok(()), None) if value.trim_ascii().is_empty() => Err((rows, EMPTY.to_owned())),
        (Ok(()), None) => Ok(rows),
    }
}

const EMPTY: &str = "the value is empty";

/// Decodes records that are lines, many at once.
fn lines(
    decoder: &mut dyn Decoder,
    chunk: &Chunk,
    range: Range<usize>,
    fed: &mut u64,
    rejected: &mut Vec<Rejected>,
    outcome: &mut Outcome,
) -> Result<()> {
    let records = &chunk.records[range.clone()];
    let (start, end) = (records[0].start, records[records.len() - 1].end + 1);
    let before = decoder.rows();
    decoder.decode(PartitionId(records[0].partition), &chunk.bytes[start..end])?;
    rejected.clear();
    decoder.take_rejected(rejected);
    for bad in rejected.drain(..) {
        let at = start + (bad.offset - *fed) as usize;
        let place = records.partition_point(|record| record.end < at);
        outcome.bad.push((range.start + place, bad.error));
    }
    *fed += (end - start) as u64;
    if decoder.rows() - before + outcome.bad.len() < records.len() {
        // A decoder passes over blank lines without a word.
        let blank = range.clone().zip(records).filter(|(_, record)| chunk.value(record).trim_ascii().is_empty());
        outcome.bad.extend(blank.map(|(place, _)| (place, EMPTY.to_owned())));
        outcome.bad.sort_by_key(|(place, _)| *place);
    }
    match decoder.rows() - before + outcome.bad.len() == records.len() {
        true => Ok(()),
        false => Err(lost_count()),
    }
}

fn lost_count() -> Error {
    Error::decode("the decoder of values has lost count of the records; this is a defect, please report it")
}

/// The columns of `records` with rows of nulls put in, `rows` in all.
fn with_nulls(records: &RecordBatch, rows: usize, nulls: &[usize]) -> Result<Vec<ArrayRef>> {
    let (mut next, mut nulls) = (0u32, nulls.iter().peekable());
    let places = (0..rows).map(|row| match nulls.next_if(|null| **null == row) {
        Some(_) => None,
        None => {
            next += 1;
            Some(next - 1)
        }
    });
    let places = UInt32Array::from_iter(places);
    records.columns().iter().map(|column| Ok(take(column, &places, None)?)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;

    use super::*;
    use crate::format::avro::Avro;

    fn chunk(layout: Layout, values: &[&[u8]]) -> Chunk {
        let mut chunk = Chunk::default();
        for (offset, value) in (0..).zip(values) {
            let start = chunk.bytes.len();
            chunk.bytes.extend_from_slice(value);
            let end = chunk.bytes.len();
            if layout == Layout::Lines {
                chunk.bytes.push(b'\n');
            }
            chunk.records.push(Record { partition: 7, offset, start, end, is_null: false });
        }
        chunk
    }

    fn numbers(values: &mut Values) -> Vec<Option<i64>> {
        let columns = values.take().unwrap().unwrap();
        columns[0].as_primitive::<Int64Type>().iter().collect()
    }

    #[test]
    fn records_that_do_not_decode_are_told_by_their_place() {
        let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
        let cases: [(Format, [&[u8]; 5]); 2] = [
            (Format::Ndjson, [br#"{"a":1}"#, b"", br#"{"a":"x"}"#, b"poison", br#"{"a":5}"#]),
            (Format::Csv { delimiter: b',', header: false }, [b"1", b" ", b"x", b"\"", b"5"]),
        ];
        for (format, records) in cases {
            let mut values = Values::decoded(&format, &schema, &Config::default()).unwrap();
            let chunk = chunk(values.layout(), &records);
            let mut outcome = Outcome::default();
            // In two parts, so that the decoder's count of bytes goes on.
            values.decode(&chunk, 0..2, &mut outcome).unwrap();
            assert_eq!((outcome.rows.as_slice(), outcome.bad.len(), outcome.bad[0].0), ([1, 0].as_slice(), 1, 1), "{format}");
            values.push_null();
            values.decode(&chunk, 2..5, &mut outcome).unwrap();
            let bad: Vec<usize> = outcome.bad.iter().map(|(place, _)| *place).collect();
            assert_eq!((outcome.rows.as_slice(), bad), ([0, 0, 1].as_slice(), vec![2, 3]), "{format}: {:?}", outcome.bad);
            assert_eq!(values.rows(), 3);
            assert_eq!(numbers(&mut values), [Some(1), None, Some(5)], "{format}");
            assert!(values.take().unwrap().is_none());
            values.push_null();
            assert_eq!(numbers(&mut values), [None]);
        }
    }

    #[test]
    fn messages_are_decoded_many_at_once() {
        let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
        let avro = Avro::bare(r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"}]}"#);
        let mut values = Values::decoded(&Format::Avro(avro), &schema, &Config::default()).unwrap();
        let chunk = chunk(values.layout(), &[&[2], b"", &[6], &[8, 0], &[10]]);
        let mut outcome = Outcome::default();
        values.decode(&chunk, 0..2, &mut outcome).unwrap();
        assert_eq!((outcome.rows.as_slice(), outcome.bad[0].0), ([1, 0].as_slice(), 1));
        values.push_null();
        values.decode(&chunk, 2..5, &mut outcome).unwrap();
        assert_eq!((outcome.rows.as_slice(), outcome.bad[0].0), ([1, 0, 1].as_slice(), 3));
        values.end(PartitionId(7));
        assert_eq!((values.rows(), numbers(&mut values)), (4, vec![Some(1), None, Some(3), Some(5)]));
        assert!(values.take().unwrap().is_none());
    }

    #[test]
    fn text_is_utf8_and_bytes_are_anything() {
        let records: [&[u8]; 3] = [b"a", b"\xFF", b""];
        let mut outcome = Outcome::default();
        let mut text = Values::raw(&DataType::Utf8);
        text.decode(&chunk(Layout::Plain, &records), 0..3, &mut outcome).unwrap();
        assert_eq!((outcome.rows.as_slice(), outcome.bad[0].1.as_str()), ([1, 0, 1].as_slice(), "byte 0 of the value is not UTF-8"));
        text.push_null();
        let column = text.take().unwrap().unwrap();
        assert_eq!(column[0].as_string::<i32>().iter().collect::<Vec<_>>(), [Some("a"), Some(""), None]);
        let mut bytes = Values::raw(&DataType::Binary);
        bytes.decode(&chunk(Layout::Plain, &records), 0..3, &mut outcome).unwrap();
        assert_eq!(bytes.take().unwrap().unwrap()[0].as_binary::<i32>().iter().flatten().collect::<Vec<_>>(), records);
    }
}
