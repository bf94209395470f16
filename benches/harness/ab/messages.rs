//! Avro records and protocol buffers, a message each as a broker has them, beside `arrow-avro` alone and Python's decoders.

use std::collections::HashMap;
use std::fs;
use std::ops::Range;

use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, SchemaRef};
use arrow_avro::reader::ReaderBuilder;
use arrow_avro::schema::{AvroSchema, Fingerprint, FingerprintAlgorithm, SchemaStore};
use thalweg::Format;
use thalweg::config::BATCH_ROWS;
use thalweg::format::avro::Avro;
use thalweg::format::protobuf::Protobuf;

use crate::answer::Answer;
use crate::contest::{Contender, Contest, Run, Work};
use crate::data_file::DataFile;
use crate::events::{Events, KEYS};
use crate::ndjson::Shape;
use crate::peer::{Peer, Question};
use crate::report::Report;
use crate::{Common, Result};

/// Messages per event in memory.
const SHARE: usize = 10;

/// Messages that are handed over at once: as many as the source of Kafka gathers.
const TOGETHER: usize = 4_096;

const SCHEMA: &str = r#"{"type":"record","name":"Event","fields":[{"name":"ts","type":"long"},{"name":"key","type":"int"},
    {"name":"value","type":"double"},{"name":"card","type":"string"},{"name":"city","type":"string"}]}"#;

const CITY: &str = "Kraków";

/// Messages one after the other.
struct Messages {
    bytes: Vec<u8>,
    ranges: Vec<Range<usize>>,
}

/// How an event is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// In Confluent's wire format, schema 1.
    Avro,
    Protobuf,
}

pub fn measure(common: &Common, report: &mut Report) -> Result<()> {
    let cases = [
        ("Avro records beside arrow-avro and fastavro, three numbers and two strings each", Kind::Avro),
        ("Protocol buffers beside Python's protobuf, three numbers and two strings each", Kind::Protobuf),
    ];
    for (name, kind) in cases {
        if !common.wants(name) {
            continue;
        }
        let rows = (common.rows / SHARE).max(1);
        let messages = Messages::write(kind, &Events::generate(rows)?, rows)?;
        let (schema, format) = (Shape::Strings.schema(), kind.format()?);
        let expected = Answer::of_rows(rows as u64);
        let mut contenders = vec![Contender::new("Thalweg", expected, || Run::time(|| decode(&format, &schema, &messages)))];
        if kind == Kind::Avro {
            contenders.push(Contender::new("arrow-avro", expected, || Run::time(|| arrow_avro(&messages))));
        }
        let file = messages.file()?;
        let mut notes = Vec::new();
        match Peer::start("messages.py", &common.python, file.path()) {
            Ok(mut peer) => {
                let question = Question { query: kind.name(), key: "", size: 0, slide: 0, limit: 0.0, time: "" };
                contenders.push(Contender::new(peer.name.clone(), expected, move || peer.ask(&question)));
            }
            Err(why) => notes.push(why),
        }
        let mut contest = Contest::hold(name, Work::bytes(messages.bytes.len()), common, contenders)?;
        contest.notes.extend(notes);
        report.add(contest);
    }
    Ok(())
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Avro => "avro",
            Kind::Protobuf => "protobuf",
        }
    }

    fn format(self) -> Result<Format> {
        Ok(match self {
            Kind::Avro => Format::Avro(Avro::confluent(HashMap::from([(1, SCHEMA)]))),
            Kind::Protobuf => Format::Protobuf(Protobuf::new(&descriptors(), "Event")?),
        })
    }
}

impl Messages {
    fn write(kind: Kind, events: &Events, rows: usize) -> Result<Messages> {
        let index = events.schema.index_of(KEYS[1].0)?;
        let (mut bytes, mut ranges) = (Vec::new(), Vec::with_capacity(rows));
        for batch in &events.batches {
            let times = batch.column(0).as_primitive::<Int64Type>().values();
            let values = batch.column(1).as_primitive::<Float64Type>().values();
            let keys = batch.column(index).as_primitive::<Int32Type>().values();
            for ((&time, &value), &key) in times.iter().zip(values).zip(keys).take(rows - ranges.len()) {
                let start = bytes.len();
                match kind {
                    Kind::Avro => avro(&mut bytes, time, key, value),
                    Kind::Protobuf => protobuf(&mut bytes, time, key, value),
                }
                ranges.push(start..bytes.len());
            }
        }
        Ok(Messages { bytes, ranges })
    }

    /// The messages in a file, each behind its length in four bytes.
    fn file(&self) -> Result<DataFile> {
        let mut bytes = Vec::with_capacity(self.bytes.len() + 4 * self.ranges.len());
        for range in &self.ranges {
            bytes.extend((range.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&self.bytes[range.clone()]);
        }
        let file = DataFile::new("messages.bin")?;
        fs::write(file.path(), bytes)?;
        Ok(file)
    }
}

fn varint(into: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        into.push(number as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

fn avro(into: &mut Vec<u8>, time: i64, key: i32, value: f64) {
    let text = |into: &mut Vec<u8>, text: &str| {
        varint(into, text.len() as u64 * 2);
        into.extend_from_slice(text.as_bytes());
    };
    into.extend([0, 0, 0, 0, 1]);
    // Neither is negative.
    varint(into, time as u64 * 2);
    varint(into, key as u64 * 2);
    into.extend(value.to_le_bytes());
    text(into, &format!("card-{key:06}"));
    text(into, CITY);
}

fn protobuf(into: &mut Vec<u8>, time: i64, key: i32, value: f64) {
    let text = |into: &mut Vec<u8>, tag: u8, text: &str| {
        into.push(tag);
        varint(into, text.len() as u64);
        into.extend_from_slice(text.as_bytes());
    };
    into.push(1 << 3);
    varint(into, time as u64);
    into.push(2 << 3);
    varint(into, key as u64);
    into.push(3 << 3 | 1);
    into.extend(value.to_le_bytes());
    text(into, 4 << 3 | 2, &format!("card-{key:06}"));
    text(into, 5 << 3 | 2, CITY);
}

/// The descriptor set of `message Event { int64 ts = 1; int32 key = 2; double value = 3; string card = 4; string city = 5; }`.
fn descriptors() -> Vec<u8> {
    let part = |tag: u8, bytes: &[u8]| [&[tag, bytes.len() as u8][..], bytes].concat();
    let field = |(name, kind): (&str, u8), number: u8| {
        part(0x12, &[&part(0x0A, name.as_bytes())[..], &[0x18, number, 0x20, 1, 0x28, kind]].concat())
    };
    let fields = [("ts", 3), ("key", 5), ("value", 1), ("card", 9), ("city", 9)];
    let fields: Vec<u8> = fields.into_iter().zip(1..).flat_map(|(of, number)| field(of, number)).collect();
    let message = part(0x22, &[part(0x0A, b"Event"), fields].concat());
    part(0x0A, &[message, part(0x62, b"proto3")].concat())
}

/// Decodes messages as they come from Kafka and counts the rows.
fn decode(format: &Format, schema: &SchemaRef, messages: &Messages) -> Result<Answer> {
    let mut decoder = format.messages(schema)?.ok_or("messages are decoded one by one")?;
    let (mut rows, mut bad) = (0, Vec::new());
    for together in messages.ranges.chunks(TOGETHER) {
        decoder.decode(&messages.bytes, together, &mut bad)?;
        if decoder.rows() >= BATCH_ROWS {
            rows += decoder.take()?.map_or(0, |batch| batch.num_rows() as u64);
        }
    }
    rows += decoder.take()?.map_or(0, |batch| batch.num_rows() as u64);
    Ok(Answer::of_rows(rows))
}

/// The same through arrow-avro's own decoder.
fn arrow_avro(messages: &Messages) -> Result<Answer> {
    let mut store = SchemaStore::new_with_type(FingerprintAlgorithm::Id);
    store.set(Fingerprint::Id(1), AvroSchema::new(SCHEMA.to_owned()))?;
    let mut decoder = ReaderBuilder::new().with_writer_schema_store(store).with_batch_size(BATCH_ROWS).build_decoder()?;
    let mut rows = 0;
    for range in &messages.ranges {
        decoder.decode(&messages.bytes[range.clone()])?;
        if decoder.batch_is_full() {
            rows += decoder.flush()?.map_or(0, |batch| batch.num_rows() as u64);
        }
    }
    rows += decoder.flush()?.map_or(0, |batch| batch.num_rows() as u64);
    Ok(Answer::of_rows(rows))
}
