//! Bytes to columns: one decoder per format, shared by all partitions of a source. And back: how rows are spelled in files and records.

pub mod arrow_ipc;
pub mod avro;
mod bulk;
pub mod compression;
mod conform;
pub mod csv;
pub mod debezium;
mod frames;
pub mod infer;
pub mod json_confluent;
pub mod lines;
mod messages;
pub mod ndjson;
pub mod pod;
pub mod protobuf;
#[cfg(any(feature = "kafka", feature = "kinesis"))]
mod registration;
mod runs;
pub mod subjects;
#[cfg_attr(not(any(feature = "kafka", feature = "kinesis")), allow(dead_code, reason = "files are written many rows at once"))]
pub(crate) mod values;

use std::fmt;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use self::arrow_ipc::ArrowIpcDecoder;
use self::avro::Avro;
use self::csv::CsvDecoder;
use self::debezium::DebeziumLines;
pub use self::infer::parse_type;
use self::json_confluent::JsonConfluent;
use self::lines::LineDecoder;
pub use self::messages::Messages;
use self::ndjson::{ArrowJsonLines, NdjsonLines};
use self::protobuf::Protobuf;
use crate::batch::{Origins, PartitionId, Segment};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::quality::Rejected;

/// What bytes are in.
#[derive(Debug, Clone)]
pub enum Format {
    /// One JSON object per line.
    Ndjson,
    /// One change event of Debezium per line, in JSON, for the row that it is about; see [`debezium`], and [`Avro::debezium`] for those in
    /// Avro.
    Debezium,
    /// Comma-separated values.
    Csv {
        /// The byte between fields.
        delimiter: u8,
        /// Whether each partition begins with its columns' names.
        header: bool,
    },
    /// Arrow's inter-process stream format.
    ArrowIpc,
    /// Objects of JSON in Confluent's wire format, records one by one.
    JsonConfluent(JsonConfluent),
    /// Apache Avro: object container files, or records one by one.
    Avro(Avro),
    /// Protocol buffers, each message behind its length, or records one by one.
    Protobuf(Protobuf),
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Ndjson => "ndjson",
            Format::Debezium => "debezium",
            Format::Csv { .. } => "csv",
            Format::ArrowIpc => "arrow",
            Format::JsonConfluent(json) => return json.fmt(f),
            Format::Avro(avro) => return avro.fmt(f),
            Format::Protobuf(protobuf) => return protobuf.fmt(f),
        })
    }
}

impl Format {
    /// The format that a user's `name` means: `ndjson` (`jsonl`), `debezium`, `csv`, `tsv` (both with a header), `arrow` (`arrow_ipc`) or
    /// `avro` (object container files).
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config), listing the names there are.
    pub fn parse(name: &str) -> Result<Format> {
        match name.to_ascii_lowercase().as_str() {
            "ndjson" | "jsonl" => Ok(Format::Ndjson),
            "debezium" => Ok(Format::Debezium),
            "csv" => Ok(Format::Csv { delimiter: b',', header: true }),
            "tsv" => Ok(Format::Csv { delimiter: b'\t', header: true }),
            "arrow" | "arrow_ipc" => Ok(Format::ArrowIpc),
            "avro" => Ok(Format::Avro(Avro::container())),
            _ => Err(Error::config(format!("`{name}` is not a format; it may be ndjson, debezium, csv, tsv, arrow or avro"))),
        }
    }

    /// A decoder of this format that gives columns of `schema`.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if the format cannot hold a column's type,
    /// [`Kind::Config`](crate::error::Kind::Config) if the CSV delimiter cannot be one, or messages of the format have no ends of their own.
    pub fn decoder(&self, schema: SchemaRef, config: &Config) -> Result<Box<dyn Decoder>> {
        match self {
            Format::Ndjson => match NdjsonLines::new(schema.clone())? {
                Some(lines) => Ok(Box::new(LineDecoder::new(lines, config))),
                None => Ok(Box::new(LineDecoder::new(ArrowJsonLines::new(schema)?, config))),
            },
            Format::Debezium => match NdjsonLines::new(schema.clone())? {
                Some(lines) => Ok(Box::new(LineDecoder::new(DebeziumLines::new(lines), config))),
                None => Ok(Box::new(LineDecoder::new(DebeziumLines::new(ArrowJsonLines::new(schema)?), config))),
            },
            Format::Csv { delimiter, header } => Ok(Box::new(CsvDecoder::new(schema, *delimiter, *header, config)?)),
            Format::ArrowIpc => Ok(Box::new(ArrowIpcDecoder::new(schema))),
            Format::JsonConfluent(_) => Err(confluent_alone("NDJSON has no schema's number before its objects")),
            Format::Avro(avro) => avro.decoder(schema),
            Format::Protobuf(protobuf) => protobuf.decoder(schema, config),
        }
    }

    /// A decoder of messages of this format that gives columns of `schema`; `None` if [`Format::decoder`] decodes them.
    ///
    /// # Errors
    /// As [`Format::decoder`].
    pub fn messages(&self, schema: &SchemaRef) -> Result<Option<Box<dyn Messages>>> {
        match self {
            Format::Ndjson | Format::Debezium | Format::Csv { .. } | Format::ArrowIpc => Ok(None),
            Format::JsonConfluent(_) => JsonConfluent::messages(schema).map(Some),
            Format::Avro(avro) => Ok(avro.messages(schema)),
            Format::Protobuf(protobuf) => protobuf.messages(schema).map(Some),
        }
    }

    /// The columns that this format says itself that it has, without a sample.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if what it says is malformed.
    pub fn columns(&self) -> Result<Option<SchemaRef>> {
        match self {
            Format::Ndjson | Format::Debezium | Format::Csv { .. } | Format::ArrowIpc => Ok(None),
            Format::JsonConfluent(json) => Ok(json.columns()),
            Format::Avro(avro) => avro.columns(),
            Format::Protobuf(protobuf) => protobuf.columns().map(Some),
        }
    }
}

/// Refuses Confluent's wire format where bytes come as a stream; `instead` says what is there then.
fn confluent_alone(instead: &str) -> Error {
    Error::config(format!("Confluent's wire format is that of records in Kafka; files and sockets have no such records: {instead}"))
}

/// Rows decoded since the last [`Decoder::take`].
#[derive(Debug)]
pub struct Decoded {
    /// The rows, in the order of arrival.
    pub records: RecordBatch,
    /// Runs of rows by partition; the row counts add up to the batch's.
    pub segments: Vec<Segment>,
    /// The offset of each row, where segments do not tell and somebody wants to know.
    pub origins: Origins,
}

/// Turns the bytes of any number of partitions into columns of one schema.
///
/// A decoder finds the frames (lines, messages) itself: bytes come in pieces of any size, and a frame that
/// straddles two pieces is put together from a copy that the decoder keeps per partition. What does not
/// decode is quarantined and the next frame goes on. Only a partition whose framing is beyond repair ends in an error.
pub trait Decoder: Send {
    /// The columns that come out.
    fn schema(&self) -> SchemaRef;

    /// Tells the offset of each row from now on, unless the segments do.
    fn keep_offsets(&mut self) {}

    /// Decodes all frames that end in `bytes`, the next piece of `partition`.
    ///
    /// # Errors
    /// If nothing after this point of the partition can be decoded; the caller ends the partition.
    fn decode(&mut self, partition: PartitionId, bytes: &[u8]) -> Result<()>;

    /// Ends `partition`: an unfinished last frame is decoded if it is whole, else quarantined, and its state is forgotten.
    fn end(&mut self, partition: PartitionId);

    /// Ends `partition` where it is cut off, for the reason `why`: an unfinished last frame is quarantined, even where it could be taken
    /// for a whole one, as the first digits of a number can.
    fn cut(&mut self, partition: PartitionId, why: &str) {
        let _ = why;
        self.end(partition);
    }

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
