//! Columns into Avro, records one by one.
//!
//! `arrow-avro` encodes; this module makes the schema, registers it, and brings columns into the types that it has.

use std::fmt;
use std::sync::Arc;

use arrow::array::{BinaryArray, RecordBatch};
use arrow::datatypes::{Schema, SchemaRef};
use arrow_avro::errors::AvroError;
use arrow_avro::schema::{FingerprintStrategy, SCHEMA_METADATA_KEY};
use arrow_avro::writer::format::{AvroBinaryFormat, AvroSoeFormat};
use arrow_avro::writer::{Encoder, WriterBuilder};
use serde_json::Value;

use super::resolved::{Resolved, Wrap};
use super::{made, shaped};
use crate::error::{Error, Result};
use crate::format::registration::Registration;
use crate::format::subjects::{SchemaKind, Subjects};
use crate::format::values::values_of;

/// How rows are written as Avro records, and by which schema.
///
/// # The schema
/// A given one says what each field is: columns are found by the names of fields and cast where no value is lost but the finer part of
/// times and numbers; a field that may be null needs no column. A column that the schema does not have, or that is of another kind, is an
/// error before anything is written.
///
/// A schema that is made has a field for each column, in their order, under the name of the subject:
///
/// | column | field |
/// |---|---|
/// | bool, int8 to int32 and uint8 to uint16, int64, uint32 and uint64, float16 and float32, float64 | boolean, int, long, float, double |
/// | string, binary, fixed-size binary | string, bytes, fixed |
/// | decimal | bytes, `decimal` |
/// | date, time32, time64\[us\] | `date`, `time-millis`, `time-micros` |
/// | timestamp, with a time zone or without | `timestamp-millis`, `timestamp-micros` or `timestamp-nanos`; seconds as milliseconds |
/// | list, map with text for keys, struct | array, map, record |
/// | dictionary | as its values |
/// | one that may be null | a union of null and its type, with the default null |
#[derive(Clone)]
pub struct AvroWriter(Framing);

#[derive(Clone)]
enum Framing {
    Confluent(Registration),
    SingleObject(Arc<str>),
    Bare(Arc<str>),
}

impl AvroWriter {
    /// Records in the wire format of Confluent's schema registry. The schema is made of the columns and registered when the sink is
    /// opened, under the subject `<topic>-value`, unless told otherwise.
    pub fn confluent(subjects: impl Subjects + 'static) -> AvroWriter {
        AvroWriter(Framing::Confluent(Registration::new(subjects)))
    }

    /// Records in Avro's single-object encoding, by `schema`, which is in JSON.
    pub fn single_object(schema: impl AsRef<str>) -> AvroWriter {
        AvroWriter(Framing::SingleObject(Arc::from(schema.as_ref())))
    }

    /// Records alone, by `schema`, which is in JSON.
    pub fn bare(schema: impl AsRef<str>) -> AvroWriter {
        AvroWriter(Framing::Bare(Arc::from(schema.as_ref())))
    }

    /// The subject, in place of `<topic>-value`; of no effect without a registry.
    pub fn subject(self, subject: impl Into<String>) -> AvroWriter {
        self.registration(|registration| registration.subject = Some(subject.into()))
    }

    /// The schema to write by, in JSON.
    pub fn schema(self, schema: impl AsRef<str>) -> AvroWriter {
        let schema = Arc::from(schema.as_ref());
        match self.0 {
            Framing::Confluent(_) => self.registration(|registration| registration.schema = Some(schema)),
            Framing::SingleObject(_) => AvroWriter(Framing::SingleObject(schema)),
            Framing::Bare(_) => AvroWriter(Framing::Bare(schema)),
        }
    }

    /// Whether the schema is registered if it is not yet; it is unless told otherwise. If not, a schema that was given has to be there, and
    /// without one the latest of the subject is written by. Of no effect without a registry.
    pub fn auto_register(self, auto_register: bool) -> AvroWriter {
        self.registration(|registration| registration.auto_register = auto_register)
    }

    fn registration(mut self, change: impl FnOnce(&mut Registration)) -> AvroWriter {
        if let Framing::Confluent(registration) = &mut self.0 {
            change(registration);
        }
        self
    }

    /// What encodes batches of `columns` for a topic.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if the columns do not fit the schema, or none can be made of them, or it is refused;
    /// another kind if the registry cannot be asked.
    pub(crate) fn encoding(&self, columns: &SchemaRef, topic: &str) -> Result<Encoding> {
        match &self.0 {
            Framing::Bare(schema) => Encoding::new(columns, schema, None),
            Framing::SingleObject(schema) => Encoding::new(columns, schema, Some(FingerprintStrategy::Rabin)),
            Framing::Confluent(registration) => {
                if let Some(schema) = &registration.schema {
                    // What the columns do not fit is not registered.
                    Encoding::new(columns, schema, None)?;
                }
                let made = |subject: &str| {
                    let schema = made::schema_of(columns, &made::name_of(subject))?;
                    Encoding::new(columns, &schema, None).map(|_| schema)
                };
                let (id, schema) = registration.settle(topic, SchemaKind::Avro, made)?;
                Encoding::new(columns, &schema, Some(FingerprintStrategy::Id(id)))
                    .map_err(|error| error.context(format!("schema {id} of subject `{}`", registration.subject(topic))))
            }
        }
    }
}

impl fmt::Display for AvroWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Framing::Confluent(_) => "avro_confluent",
            Framing::SingleObject(_) => "avro_single_object",
            Framing::Bare(_) => "avro_bare",
        })
    }
}

impl fmt::Debug for AvroWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Framing::Confluent(registration) => registration.fmt(f),
            Framing::SingleObject(_) | Framing::Bare(_) => write!(f, "{self}"),
        }
    }
}

/// Encodes batches by one schema.
pub(crate) struct Encoding {
    /// The columns of the schema, as the encoder takes them.
    target: SchemaRef,
    encoder: Encoder,
}

impl Encoding {
    fn new(columns: &SchemaRef, schema: &str, framing: Option<FingerprintStrategy>) -> Result<Encoding> {
        let mut value: Value =
            serde_json::from_str(schema).map_err(|error| Error::schema("the Avro schema is no JSON").with_source(error))?;
        // The encoder takes every UUID for text. One that is `fixed` is sixteen bytes, as it would be without the name.
        forget_fixed_uuids(&mut value);
        let target = Arc::new(Schema::new(Resolved::new(&value.to_string(), None, None, Wrap::Record)?.columns().fields().clone()));
        shaped::check(columns, &target)?;
        let noted = target.as_ref().clone().with_metadata([(SCHEMA_METADATA_KEY.to_owned(), value.to_string())].into());
        let builder = WriterBuilder::new(noted);
        let encoder = match framing {
            None => builder.build_encoder::<AvroBinaryFormat>(),
            Some(strategy) => builder.with_fingerprint_strategy(strategy).build_encoder::<AvroSoeFormat>(),
        };
        let encoder = encoder.map_err(|error| Error::schema("records cannot be written by the Avro schema").with_source(error))?;
        Ok(Encoding { target, encoder })
    }

    /// A record for each row.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema), naming a column with a value that the schema does not allow.
    pub(crate) fn values(&mut self, batch: &RecordBatch) -> Result<BinaryArray> {
        let batch = shaped::shaped(batch, &self.target)?;
        let failed = |error: AvroError| Error::schema("rows cannot be written as Avro").with_source(error);
        self.encoder.encode(&batch).map_err(failed)?;
        let rows = self.encoder.flush();
        values_of(rows.bytes().clone(), rows.offsets().iter().copied())
    }
}

/// Takes the name of UUIDs away from what is `fixed`.
fn forget_fixed_uuids(schema: &mut Value) {
    match schema {
        Value::Array(each) => each.iter_mut().for_each(forget_fixed_uuids),
        Value::Object(parts) => {
            if parts.get("type").is_some_and(|kind| kind == "fixed") && parts.get("logicalType").is_some_and(|kind| kind == "uuid") {
                parts.remove("logicalType");
            }
            for name in ["type", "fields", "items", "values"] {
                parts.get_mut(name).into_iter().for_each(forget_fixed_uuids);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
