//! Apache Avro into columns: object container files, and records one by one in three ways of telling their writer's schema.
//!
//! | framing | a record is | its writer's schema |
//! |---|---|---|
//! | [container](Avro::container) | one of a block of a file | stands in the file |
//! | [Confluent](Avro::confluent) | a zero byte, a schema's number (4 bytes, most significant first), the record | has that number |
//! | [single object](Avro::single_object) | `C3 01`, a schema's fingerprint (CRC-64-AVRO, 8 bytes, least significant first), the record | has that fingerprint |
//! | [bare](Avro::bare) | the record alone | is the one that was given |
//!
//! # Evolution
//! Writers change their schemas; the columns asked for stay. Of each writer's schema the fields are decoded that bear the names of
//! columns, and are cast to their types: `int` to `int64`, `float` to `float64`, an enum to `string`, a timestamp to another unit. Other
//! fields are passed over, and a column without a field is null. A value that its column cannot hold, or a null in a column that may not
//! be null, is an error of that record (of that block, in a container). For defaults and aliases give a
//! [reader schema](Avro::reader_schema): records are then resolved against it as the specification of Avro has it, before the columns are
//! taken out of them.
//!
//! # Types
//! Enums are dictionaries of strings, `decimal` is decimal128 or decimal256, `uuid` 16 bytes, times and timestamps their equals
//! in the unit that they have, in UTC unless they are local; `array` and `map` are lists and maps, records structs, `["null", T]` is T, other
//! unions are dense unions. Recursive types are refused, as are arrays of what takes no bytes, of which few bytes could claim any number.
//!
//! # Change events
//! Records may be the envelopes that Debezium's connectors write by an Avro converter. [`Avro::debezium`] makes of each the row that it is
//! about, as [`debezium`](super::debezium) does of those in JSON.
//!
//! Records of numbers, texts and the like are decoded here, all others by `arrow-avro`; this module finds the records, holds their lengths
//! against what was decoded, and isolates those that do not decode.

mod container;
mod debezium;
mod flat;
mod inlined;
#[cfg(any(feature = "kafka", feature = "kinesis"))]
mod made;
mod messages;
mod resolved;
#[cfg(any(feature = "kafka", feature = "kinesis"))]
mod shaped;
#[cfg(any(feature = "kafka", feature = "kinesis"))]
mod writer;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};

use self::container::ContainerDecoder;
#[cfg(feature = "registry")]
pub(crate) use self::inlined::inlined;
use self::messages::{AvroMessages, Rows};
use self::resolved::{Resolved, Wrap};
#[cfg(any(feature = "kafka", feature = "kinesis"))]
pub use self::writer::AvroWriter;
#[cfg(any(feature = "kafka", feature = "kinesis"))]
pub(crate) use self::writer::Encoding;
use super::{Decoder, Messages};
use crate::error::{Error, Result};

/// The schemas that the writers of records used, by their numbers.
pub trait WriterSchemas: Send + Sync {
    /// The schema of this number, in JSON; `None` if there is no such schema, which quarantines the record.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if there is one that is of no use, which quarantines the record; another one if it
    /// cannot be told whether there is, which ends the run; [retriable](Error::is_retriable) if another try may help.
    fn schema(&self, id: u32) -> Result<Option<Arc<str>>>;
}

impl<S: AsRef<str> + Send + Sync> WriterSchemas for HashMap<u32, S> {
    fn schema(&self, id: u32) -> Result<Option<Arc<str>>> {
        Ok(self.get(&id).map(|schema| Arc::from(schema.as_ref())))
    }
}

/// How records are told apart, and where their writers' schemas are; see the [module documentation](self).
#[derive(Clone)]
pub struct Avro {
    framing: Framing,
    reader: Option<Arc<str>>,
    rows: Rows,
}

#[derive(Clone)]
enum Framing {
    Container,
    Confluent(Arc<dyn WriterSchemas>),
    /// By fingerprint.
    SingleObject(Arc<HashMap<u64, Arc<str>>>),
    Bare(Arc<str>),
}

impl Avro {
    /// Object container files (`.avro`), blocks of which may be packed with deflate, snappy or zstandard.
    pub fn container() -> Avro {
        Avro { framing: Framing::Container, reader: None, rows: Rows::Records }
    }

    /// Records in the wire format of Confluent's schema registry.
    pub fn confluent(schemas: impl WriterSchemas + 'static) -> Avro {
        Avro { framing: Framing::Confluent(Arc::new(schemas)), reader: None, rows: Rows::Records }
    }

    /// Records in Avro's single-object encoding, written with any of `schemas`, which are in JSON.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if one of them is no schema.
    pub fn single_object(schemas: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Avro> {
        let mut known = HashMap::new();
        for schema in schemas {
            known.insert(resolved::fingerprint(schema.as_ref())?, Arc::from(schema.as_ref()));
        }
        Ok(Avro { framing: Framing::SingleObject(Arc::new(known)), reader: None, rows: Rows::Records })
    }

    /// Records alone, all written with `schema`, which is in JSON.
    pub fn bare(schema: impl AsRef<str>) -> Avro {
        Avro { framing: Framing::Bare(Arc::from(schema.as_ref())), reader: None, rows: Rows::Records }
    }

    /// Resolves records against `schema`, in JSON, as Avro's specification has it: with its defaults and aliases, and under its name.
    pub fn reader_schema(mut self, schema: impl AsRef<str>) -> Avro {
        self.reader = Some(Arc::from(schema.as_ref()));
        self
    }

    /// Takes records for change events of Debezium: rows are what they say of the rows of a table. In a record of a broker alone.
    ///
    /// The columns of the table are decoded by their names, as columns are elsewhere, whichever schema an event was written by; beside them
    /// there may be `__op`, `__ts_ms` and `__deleted`, and what is no envelope of a row goes to quarantine, see
    /// [`debezium`](super::debezium). A [reader schema](Avro::reader_schema) says which columns there are, and no more: tables change in
    /// ways that Avro's own resolution refuses, such as by a column that may not be null.
    ///
    /// Times and decimals of Kafka Connect have logical types, and are columns of these. Where a column is asked for as a time, a number is
    /// in the unit that Debezium notes beside it in the schema (`connect.name`, `io.debezium.time.MicroTimestamp` and the like); without
    /// a note it is in the unit of the column, as in JSON.
    pub fn debezium(mut self) -> Avro {
        self.rows = Rows::Changes;
        self
    }

    /// The columns of records, as far as they are known beforehand: those of the reader's schema, or of the only writer's. Of change events
    /// they are those of the table, each of which may be null, and what is beside them.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if that is no schema of a record.
    pub fn columns(&self) -> Result<Option<SchemaRef>> {
        let schema = match (&self.reader, &self.framing) {
            (Some(reader), _) => reader,
            (None, Framing::Bare(writer)) => writer,
            _ => return Ok(None),
        };
        let columns = Resolved::new(schema, None, None, Wrap::Record)?.columns();
        match self.rows {
            Rows::Records => Ok(Some(columns)),
            Rows::Changes => debezium::columns(&columns).map(Some),
        }
    }

    pub(super) fn decoder(&self, schema: SchemaRef) -> Result<Box<dyn Decoder>> {
        match self.framing {
            Framing::Container if self.rows == Rows::Changes => Err(Error::config(
                "change events in Avro are read from the records of a broker; read a container as what it holds, `before` and `after` as structs",
            )),
            Framing::Container => Ok(Box::new(ContainerDecoder::new(schema, self.reader.clone()))),
            _ => Err(Error::config(format!(
                "records in {self} have no ends of their own; they can be read from Kafka, and files only as Avro's object containers"
            ))),
        }
    }

    pub(super) fn messages(&self, schema: &SchemaRef) -> Option<Box<dyn Messages>> {
        match &self.framing {
            Framing::Container => None,
            framing => {
                let reader = self.reader.clone().filter(|_| self.rows == Rows::Records);
                Some(Box::new(AvroMessages::new(SchemaRef::clone(schema), framing.clone(), reader, self.rows)))
            }
        }
    }

    /// The columns of the container that begins with `sample`, or of what is known without one.
    pub(super) fn infer(&self, sample: &[u8]) -> Result<Schema> {
        if let Some(columns) = self.columns()? {
            return Ok(columns.as_ref().clone());
        }
        match self.framing {
            Framing::Container => container::columns(sample),
            _ => Err(Error::config(format!("the columns of {self} cannot be inferred; give a schema, or a reader schema in Avro's JSON"))),
        }
    }
}

impl fmt::Display for Avro {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.framing {
            _ if self.rows == Rows::Changes => "debezium_avro",
            Framing::Container => "avro",
            Framing::Confluent(_) => "avro_confluent",
            Framing::SingleObject(_) => "avro_single_object",
            Framing::Bare(_) => "avro_bare",
        })
    }
}

impl fmt::Debug for Avro {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests;
