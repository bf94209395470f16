//! What decodes the records of one writer's schema, by `arrow-avro`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow_avro::errors::AvroError;
use arrow_avro::reader::{Decoder, ReaderBuilder};
use arrow_avro::schema::{AvroSchema, Fingerprint, FingerprintAlgorithm, SchemaStore};
use serde_json::{Value, json};

use super::flat::Flat;
use super::inlined::{At, whole};
use crate::error::{Error, Result};
use crate::format::bulk::message;

/// What stands before a record for `arrow-avro` if nothing does in the input: a zero and the number of its schema, which then is 0.
const PREFIX: [u8; PREFIX_BYTES] = [0; PREFIX_BYTES];
const PREFIX_BYTES: usize = 5;

/// More records than are decoded between two flushes, for which nothing is set aside.
const CAPACITY: usize = 1 << 30;

/// The name and the field of a record that holds a block of records.
const BLOCK: &str = "ThalwegBlock";
const ROWS: &str = "rows";

/// Whether what is decoded are records, or blocks of a container, each of which is an array of records when its count is put
/// before it and a zero behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrap {
    Record,
    /// Records each behind a zero and this number of their schema, as Confluent has it.
    Numbered(u32),
    Block,
}

impl Wrap {
    /// The number of the schema in what stands before each record.
    fn number(self) -> u32 {
        match self {
            Wrap::Numbered(number) => number,
            Wrap::Record | Wrap::Block => 0,
        }
    }
}

/// A writer's schema with the part of it that is asked for.
#[derive(Debug)]
pub(super) struct Resolved {
    wrap: Wrap,
    writer: AvroSchema,
    reader: Option<AvroSchema>,
    columns: SchemaRef,
    /// Absent after an error, which leaves it in the middle of something.
    decoder: Option<Decoder>,
    /// What decodes instead, if it can.
    flat: Option<Flat>,
}

impl Resolved {
    /// For records of the schema `writer`, resolved against `reader` if there is one; else of `wanted` columns, or all.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if a schema is none, cannot be resolved, or is of no record.
    pub(super) fn new(writer: &str, reader: Option<&str>, wanted: Option<&Schema>, wrap: Wrap) -> Result<Resolved> {
        // `arrow-avro` finds names by the letter, and where one schema has a name and the other its definition it takes that for the same.
        let at = if reader.is_some() { At::EveryUse } else { At::FirstUse };
        let writer = whole(&parse(writer)?, &[], at)?;
        let reader = reader.map(|reader| whole(&parse(reader)?, &[], at)).transpose()?;
        let all = Resolved::built(&writer, None, wrap)?;
        let everything = all.decoder.as_ref().map(Decoder::schema);
        if everything.is_some_and(|schema| schema.fields().iter().any(|field| has_free_items(field.data_type()))) {
            return Err(Error::schema("the Avro schema has an array, or a file, of what takes no bytes: few bytes could claim any number"));
        }
        if let Some(reader) = reader {
            return Resolved::built(&writer, Some(&reader), wrap);
        }
        let resolved = match wanted.and_then(|wanted| pruned(&writer, wanted)) {
            // A type that is defined in a field which is left out may be used in one that is not; then all are decoded.
            Some(part) => Resolved::built(&writer, Some(&part), wrap).unwrap_or(all),
            None => all,
        };
        Ok(Resolved { flat: Flat::new(&writer, &resolved.columns), ..resolved })
    }

    fn built(writer: &Value, reader: Option<&Value>, wrap: Wrap) -> Result<Resolved> {
        let schema = |record: &Value| {
            AvroSchema::new(match wrap {
                Wrap::Record | Wrap::Numbered(_) => record.to_string(),
                Wrap::Block => {
                    let rows = json!({"name": ROWS, "type": {"type": "array", "items": record}});
                    json!({"type": "record", "name": BLOCK, "fields": [rows]}).to_string()
                }
            })
        };
        let (writer, reader) = (schema(writer), reader.map(schema));
        let decoder = build(&writer, reader.as_ref(), wrap.number())?;
        let columns = decoder.schema();
        let columns = match wrap {
            Wrap::Record | Wrap::Numbered(_) => columns,
            Wrap::Block => Arc::new(Schema::new(rows_of(&columns)?)),
        };
        Ok(Resolved { wrap, writer, reader, columns, decoder: Some(decoder), flat: None })
    }

    #[cfg(test)]
    pub(super) fn is_flat(&self) -> bool {
        self.flat.is_some()
    }

    #[cfg(test)]
    pub(super) fn without_flat(self) -> Resolved {
        Resolved { flat: None, ..self }
    }

    /// The columns that come out.
    pub(super) fn columns(&self) -> SchemaRef {
        SchemaRef::clone(&self.columns)
    }

    /// Decodes records, or blocks.
    ///
    /// # Errors
    /// In words, if any of them does not decode.
    pub(super) fn rows<'a>(&mut self, frames: impl Iterator<Item = &'a [u8]>) -> Result<RecordBatch, String> {
        match &mut self.flat {
            Some(flat) => flat_rows(flat, self.wrap, frames),
            None => self.any_rows(frames),
        }
    }

    fn any_rows<'a>(&mut self, frames: impl Iterator<Item = &'a [u8]>) -> Result<RecordBatch, String> {
        // What has panicked, or failed, is dropped.
        let mut decoder = match self.decoder.take() {
            Some(decoder) => decoder,
            None => build(&self.writer, self.reader.as_ref(), self.wrap.number()).map_err(|error| error.to_string())?,
        };
        let decoded = catch_unwind(AssertUnwindSafe(|| {
            let numbered = matches!(self.wrap, Wrap::Numbered(_));
            for frame in frames {
                match frame.split_at_checked(PREFIX_BYTES).filter(|_| numbered) {
                    Some((prefix, body)) => record(&mut decoder, prefix, body, frame)?,
                    None => record(&mut decoder, &PREFIX, frame, &[])?,
                }
            }
            decoder.flush().map_err(words)
        }));
        let batch = decoded.unwrap_or_else(|_| Err("the record is malformed".to_owned()))?.ok_or("there is no record")?;
        self.decoder = Some(decoder);
        match self.wrap {
            Wrap::Record | Wrap::Numbered(_) => Ok(batch),
            Wrap::Block => {
                let rows = batch.column(0).as_list::<i32>().values().as_struct();
                let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
                RecordBatch::try_new_with_options(self.columns(), rows.columns().to_vec(), &options).map_err(message)
            }
        }
    }
}

fn flat_rows<'a>(flat: &mut Flat, wrap: Wrap, mut frames: impl Iterator<Item = &'a [u8]>) -> Result<RecordBatch, String> {
    let decoded = match wrap {
        Wrap::Record => frames.try_for_each(|frame| flat.record(frame)),
        Wrap::Numbered(_) => frames.try_for_each(|frame| flat.record(frame.get(PREFIX_BYTES..).unwrap_or_default())),
        Wrap::Block => frames.try_for_each(|frame| flat.block(frame)),
    };
    let rows = decoded.and_then(|()| flat.take());
    if rows.is_err() {
        flat.clear();
    }
    rows
}

/// Decodes one record, and no less than all of it: its prefix and its body, or `whole`, which is both one behind the other, if it is not
/// empty.
fn record(decoder: &mut Decoder, prefix: &[u8], body: &[u8], whole: &[u8]) -> Result<(), String> {
    // A record of no bytes would not be looked at. One zero byte is: either the record takes it, or it is half of the next prefix.
    let (first, fed, length) = match (body, whole) {
        ([], _) => (prefix, &[0][..], 0),
        (_, []) => (prefix, body, body.len()),
        _ => (&[][..], whole, whole.len()),
    };
    let before = decoder.capacity();
    if !first.is_empty() {
        decoder.decode(first).map_err(words)?;
    }
    let used = decoder.decode(fed).map_err(words)?;
    match before - decoder.capacity() {
        1 if used == length => Ok(()),
        0 | 1 if used > length || decoder.capacity() == before => Err("the record ends too early".to_owned()),
        _ => Err("the record is longer than its schema says".to_owned()),
    }
}

fn words(error: AvroError) -> String {
    let text = message(ArrowError::from(error));
    match text.as_str() {
        // What is left when a record of one length is read as one of another.
        "Missing magic bytes and fingerprint" => "the record is longer than its schema says".to_owned(),
        "bad varint" => "the record ends too early, or has a number of more than ten bytes".to_owned(),
        _ => text,
    }
}

fn build(writer: &AvroSchema, reader: Option<&AvroSchema>, number: u32) -> Result<Decoder> {
    let refused = |error: ArrowError| Error::schema("the Avro schema cannot be read").with_source(error);
    let mut store = SchemaStore::new_with_type(FingerprintAlgorithm::Id);
    store.set(Fingerprint::Id(number), writer.clone()).map_err(refused)?;
    let builder = ReaderBuilder::new().with_writer_schema_store(store).with_batch_size(CAPACITY);
    let builder = reader.iter().fold(builder, |builder, reader| builder.with_reader_schema((*reader).clone()));
    catch_unwind(AssertUnwindSafe(|| builder.build_decoder()))
        .unwrap_or_else(|_| Err(ArrowError::SchemaError("it is malformed".to_owned())))
        .map_err(refused)
}

/// The fields of the records in a block.
fn rows_of(columns: &Schema) -> Result<Fields> {
    match columns.field(0).data_type() {
        DataType::List(item) => match item.data_type() {
            DataType::Struct(fields) => Ok(fields.clone()),
            _ => Err(Error::schema("an Avro file must hold records; columns cannot be made of anything else")),
        },
        _ => Err(Error::schema("an Avro file must hold records")),
    }
}

/// A schema in JSON, of a record.
fn parse(schema: &str) -> Result<Value> {
    let value: Value = serde_json::from_str(schema).map_err(|error| Error::schema("the Avro schema is no JSON").with_source(error))?;
    match value.get("type").and_then(Value::as_str) {
        Some("record" | "error") => Ok(value),
        _ => Err(Error::schema("the Avro schema is not that of a record; columns cannot be made of anything else")),
    }
}

/// The schema with the wanted fields alone; `None` if that is all of them.
fn pruned(writer: &Value, wanted: &Schema) -> Option<Value> {
    let mut part = writer.clone();
    let fields = part.get_mut("fields")?.as_array_mut()?;
    let all = fields.len();
    let mut kept: Vec<Value> = std::mem::take(fields);
    let first = kept.first().cloned();
    kept.retain(|field| field.get("name").and_then(Value::as_str).is_some_and(|name| wanted.field_with_name(name).is_ok()));
    if kept.is_empty() {
        // Rows are counted by a column.
        kept.extend(first);
    }
    let less = kept.len() < all;
    *fields = kept;
    less.then_some(part)
}

/// Whether a type has a list of what takes no bytes.
fn has_free_items(kind: &DataType) -> bool {
    match kind {
        DataType::List(item) => {
            (!item.is_nullable() || item.data_type().is_null()) && is_free(item.data_type()) || has_free_items(item.data_type())
        }
        DataType::Map(entry, _) => has_free_items(entry.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_free_items(field.data_type())),
        DataType::Union(fields, _) => fields.iter().any(|(_, field)| has_free_items(field.data_type())),
        _ => false,
    }
}

fn is_free(kind: &DataType) -> bool {
    match kind {
        DataType::Null | DataType::FixedSizeBinary(0) => true,
        DataType::Struct(fields) => {
            fields.iter().all(|field| (!field.is_nullable() || field.data_type().is_null()) && is_free(field.data_type()))
        }
        _ => false,
    }
}

/// The fingerprint of a schema's canonical form, CRC-64-AVRO.
pub(super) fn fingerprint(schema: &str) -> Result<u64> {
    match AvroSchema::new(parse(schema)?.to_string()).fingerprint(FingerprintAlgorithm::Rabin) {
        Ok(Fingerprint::Rabin(fingerprint)) => Ok(fingerprint),
        Ok(_) => Err(Error::schema("the Avro schema has no fingerprint")),
        Err(error) => Err(Error::schema("the Avro schema cannot be read").with_source(error)),
    }
}
