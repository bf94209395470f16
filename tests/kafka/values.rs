//! What values are written as: each format is read again by our own source.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int32Type, Int64Type, SchemaRef};
use thalweg::connector::kafka::{Column, End, Kafka as Topics, KafkaSink, Value};
use thalweg::format::avro::{Avro, AvroWriter, WriterSchemas};
use thalweg::format::json_confluent::{JsonConfluent, JsonConfluentWriter};
use thalweg::format::protobuf::{Protobuf, ProtobufWriter};
use thalweg::format::subjects::{SchemaKind, Subjects};
use thalweg::{Error, Format, Kind, Query, Stream};

use crate::Test;
use crate::rig::{Rig, collect};

pub const TESTS: &[Test] = &[
    ("every_format_is_read_as_it_was_written", every_format_is_read_as_it_was_written),
    ("records_of_arrow_have_the_rows_of_a_key", records_of_arrow_have_the_rows_of_a_key),
    ("records_of_arrow_are_no_longer_than_allowed", records_of_arrow_are_no_longer_than_allowed),
    ("what_a_registry_refuses_is_not_written", what_a_registry_refuses_is_not_written),
];

/// A registry in memory: schemas by their numbers, with their subjects. It takes one schema for each subject.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<(String, String)>>>);

impl Subjects for Memory {
    fn register(&self, subject: &str, schema: &str, kind: SchemaKind) -> Result<u32, Error> {
        if let Ok((id, known)) = self.latest(subject, kind) {
            return if known == schema { Ok(id) } else { Err(Error::schema(format!("`{subject}` has another schema"))) };
        }
        let mut all = self.0.lock().unwrap();
        all.push((subject.to_owned(), schema.to_owned()));
        Ok(all.len() as u32)
    }

    fn find(&self, subject: &str, schema: &str, kind: SchemaKind) -> Result<u32, Error> {
        let (id, known) = self.latest(subject, kind)?;
        if known == schema { Ok(id) } else { Err(Error::schema("not found")) }
    }

    fn latest(&self, subject: &str, _: SchemaKind) -> Result<(u32, String), Error> {
        let all = self.0.lock().unwrap();
        let place = all.iter().position(|(known, _)| known == subject).ok_or_else(|| Error::connector("no subject"))?;
        Ok((place as u32 + 1, all[place].1.clone()))
    }
}

impl WriterSchemas for Memory {
    fn schema(&self, id: u32) -> Result<Option<Arc<str>>, Error> {
        Ok(self.0.lock().unwrap().get(id as usize - 1).map(|(_, schema)| Arc::from(schema.as_str())))
    }
}

fn rows(numbers: std::ops::Range<i64>) -> RecordBatch {
    let texts = numbers.clone().map(|number| (number % 5 > 0).then(|| format!("{number}, \"é\"\n{}", "x".repeat(number as usize % 40))));
    let columns: [(&str, ArrayRef); 4] = [
        ("n", Arc::new(Int64Array::from_iter_values(numbers.clone()))),
        ("text", Arc::new(StringArray::from_iter(texts))),
        ("x", Arc::new(Float64Array::from_iter(numbers.clone().map(|number| (number % 3 > 0).then_some(number as f64 / 7.0))))),
        ("at", Arc::new(TimestampMillisecondArray::from_iter_values(numbers.map(|number| number * 1_001)))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap()
}

/// A field of a message in Protobuf's wire format whose value has a length.
fn part(field: u8, value: impl AsRef<[u8]>) -> Vec<u8> {
    [&[field << 3 | 2, value.as_ref().len() as u8], value.as_ref()].concat()
}

/// The columns of [`rows`] as a message of proto2, the second of its file.
fn message() -> Protobuf {
    let field = |name: &str, number: u8, kind: u8, more: &[u8]| {
        part(2, [&part(1, name)[..], &[3 << 3, number, 4 << 3, 1, 5 << 3, kind], more].concat())
    };
    let at = field("at", 4, 11, &part(6, ".google.protobuf.Timestamp"));
    let fields = [field("n", 1, 3, &[]), field("text", 2, 9, &[]), field("x", 3, 1, &[]), at].concat();
    let messages = [part(4, part(1, "Other")), part(4, [part(1, "R"), fields].concat())].concat();
    let file = [part(1, "r.proto"), part(2, "shop"), part(3, "google/protobuf/timestamp.proto"), messages].concat();
    Protobuf::new(&[&[10, file.len() as u8 | 0x80, (file.len() >> 7) as u8], &file[..]].concat(), "shop.R").unwrap()
}

fn write(rig: &Rig, topic: &str, value: Value, batches: &[RecordBatch], change: impl Fn(KafkaSink) -> KafkaSink) {
    let sink = change(KafkaSink::new(rig.bootstrap(), topic).value(value));
    Query::new().sink(&Stream::from_arrow(batches.to_vec()), sink).run().unwrap();
}

/// All rows of a topic in one batch.
fn read(rig: &Rig, topic: &str, format: Format, schema: &SchemaRef) -> RecordBatch {
    let table = collect(Topics::new(rig.bootstrap(), [topic]).format(format, SchemaRef::clone(schema)).end(End::Latest));
    assert_eq!(table.metrics().quarantined_rows, 0, "{:?}", table.quarantined());
    concat_batches(&table.schema(), table.batches()).unwrap()
}

fn every_format_is_read_as_it_was_written(rig: &Rig) {
    let registry = Memory::default();
    let batches = [rows(1..1_500), rows(1_500..2_000)];
    let all = concat_batches(&batches[0].schema(), &batches).unwrap();
    let schema = all.schema();
    let fields = r#"[{"name":"n","type":"long"},{"name":"text","type":["string","null"]},{"name":"x","type":["null","double"]},
        {"name":"at","type":{"type":"long","logicalType":"local-timestamp-micros"}}]"#;
    let given = format!(r#"{{"type":"record","name":"R","fields":{fields}}}"#);
    let tsv = Format::Csv { delimiter: b'\t', header: true };
    let cases: [(Value, Format); 10] = [
        (Value::Ndjson, Format::Ndjson),
        (Value::parse("csv").unwrap(), Format::parse("csv").unwrap()),
        (Value::parse("tsv").unwrap(), tsv),
        (Value::parse("arrow").unwrap(), Format::ArrowIpc),
        (Value::Avro(AvroWriter::confluent(registry.clone())), Format::Avro(Avro::confluent(registry.clone()))),
        (Value::Avro(AvroWriter::bare(&given)), Format::Avro(Avro::bare(&given))),
        (Value::Avro(AvroWriter::single_object(&given)), Format::Avro(Avro::single_object([&given]).unwrap())),
        (Value::JsonConfluent(JsonConfluentWriter::new(registry.clone())), Format::JsonConfluent(JsonConfluent::new())),
        (Value::Protobuf(ProtobufWriter::bare(message())), Format::Protobuf(message())),
        (Value::Protobuf(ProtobufWriter::confluent(message(), registry.clone())), Format::Protobuf(message().confluent().unwrap())),
    ];
    let mut topics = Vec::new();
    for (value, format) in cases {
        let (topic, name) = (rig.topic(1), format!("{value:?}"));
        write(rig, &topic, value, &batches, |sink| sink);
        assert_eq!(read(rig, &topic, format, &schema), all, "{name}");
        topics.push(topic);
    }
    let subjects: Vec<String> = registry.0.lock().unwrap().iter().map(|(subject, _)| subject.clone()).collect();
    assert_eq!(subjects, [4, 7, 9].map(|place: usize| format!("{}-value", topics[place])));
    // Values of one column and all columns as Avro: the records are as many as the rows, but for Arrow.
    let count = |topic: &str| collect(Topics::new(rig.bootstrap(), [topic]).end(End::Latest)).num_rows();
    assert_eq!((count(&topics[3]), count(&topics[4])), (2, 1_999));
}

fn records_of_arrow_have_the_rows_of_a_key(rig: &Rig) {
    let topic = rig.topic(4);
    let keys = StringArray::from_iter((0..1_000).map(|row| [Some("a"), Some("b"), None][row / 10 % 3]));
    let columns: [(&str, ArrayRef); 2] = [("key", Arc::new(keys)), ("n", Arc::new(Int64Array::from_iter_values(0..1_000)))];
    let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap();
    write(rig, &topic, Value::ArrowIpc, std::slice::from_ref(&batch), |sink| sink.key(["key"]));
    let topics = Topics::new(rig.bootstrap(), [&topic]).format(Format::ArrowIpc, batch.schema());
    let table = collect(topics.metadata([Column::Key, Column::Partition, Column::Offset]).end(End::Latest));
    let found = concat_batches(&table.schema(), table.batches()).unwrap();
    let (mut records, mut places) = (BTreeMap::new(), BTreeMap::new());
    for row in 0..found.num_rows() {
        let key = found.column(0).as_string_opt::<i32>().map(|keys| keys.iter().nth(row).unwrap());
        let of_record = found.column_by_name("_key").unwrap().as_binary::<i32>().iter().nth(row).unwrap();
        assert_eq!(key.unwrap().map(str::as_bytes), of_record, "the key of a record is that of its rows");
        let partition = found.column_by_name("_partition").unwrap().as_primitive::<Int32Type>().value(row);
        let offset = found.column_by_name("_offset").unwrap().as_primitive::<Int64Type>().value(row);
        records.entry((partition, offset)).or_insert_with(Vec::new).push(found.column(1).as_primitive::<Int64Type>().value(row));
        if let Some(key) = of_record {
            assert_eq!(*places.entry(key).or_insert(partition), partition, "one key, one partition");
        }
    }
    let mut runs: Vec<Vec<i64>> = records.into_values().collect();
    runs.sort();
    assert_eq!(runs, (0..100).map(|run| (run * 10..run * 10 + 10).collect::<Vec<i64>>()).collect::<Vec<_>>());
}

fn records_of_arrow_are_no_longer_than_allowed(rig: &Rig) {
    let (topic, all) = (rig.topic(1), rows(1..20_000));
    write(rig, &topic, Value::ArrowIpc, std::slice::from_ref(&all), |sink| sink.set("message.max.bytes", "20000"));
    assert_eq!(read(rig, &topic, Format::ArrowIpc, &all.schema()), all);
    let raw = collect(Topics::new(rig.bootstrap(), [&topic]).end(End::Latest));
    let lengths: Vec<usize> = raw
        .batches()
        .iter()
        .flat_map(|batch| batch.column(0).as_binary::<i32>().iter().flatten().map(<[u8]>::len).collect::<Vec<_>>())
        .collect();
    let (longest, total) = (lengths.iter().max().unwrap(), lengths.iter().sum::<usize>());
    assert!(*longest <= 20_000 && lengths.len() < total / 8_000, "{} records of {total} bytes, the longest {longest}", lengths.len());
    // A single row that is too long is told as ever.
    let long = RecordBatch::try_from_iter([("t", Arc::new(StringArray::from(vec!["x".repeat(30_000)])) as ArrayRef)]).unwrap();
    let sink = KafkaSink::new(rig.bootstrap(), &topic).value(Value::ArrowIpc).set("message.max.bytes", "20000");
    let error = Query::new().sink(&Stream::from_arrow([long]), sink).run().unwrap_err().to_string();
    assert!(error.contains("bytes cannot be sent to topic"), "{error}");
}

fn what_a_registry_refuses_is_not_written(rig: &Rig) {
    let (topic, registry) = (rig.topic(1), Memory::default());
    let run = |batch: RecordBatch, writer: AvroWriter| {
        let sink = KafkaSink::new(rig.bootstrap(), &topic).value(Value::Avro(writer));
        Query::new().sink(&Stream::from_arrow([batch]), sink).run()
    };
    let writer = || AvroWriter::confluent(registry.clone());
    let error = run(rows(0..5), writer().auto_register(false)).unwrap_err();
    assert!(error.to_string().contains("no subject"), "{error}");
    run(rows(0..5), writer()).unwrap();
    run(rows(5..9), writer().auto_register(false)).unwrap();
    let error = run(rows(0..5).project(&[0, 1]).unwrap(), writer()).unwrap_err();
    assert!(error.kind() == Kind::Schema && error.to_string().contains(&format!("`{topic}-value` has another schema")), "{error}");
    // A column less is null by the latest schema, one more is not there.
    run(rows(9..10).project(&[0, 1]).unwrap(), writer().auto_register(false)).unwrap();
    let more = rows(0..1);
    let columns =
        ["n", "text", "x", "at", "more"].map(|name| (name, Arc::clone(more.column_by_name(name).unwrap_or(more.column(0))), true));
    let error = run(RecordBatch::try_from_iter_with_nullable(columns).unwrap(), writer().auto_register(false)).unwrap_err();
    assert!(error.kind() == Kind::Schema && error.to_string().contains("column `more` is no field of the Avro schema"), "{error}");
    let found = read(rig, &topic, Format::Avro(Avro::confluent(registry)), &rows(0..0).schema());
    assert_eq!(found.num_rows(), 10);
    assert_eq!(found.slice(0, 9), rows(0..9));
    assert!(found.column(2).is_null(9) && found.column(3).is_null(9));
}
