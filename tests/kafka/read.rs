//! What comes of records.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::compute::concat_batches;
use arrow::datatypes::{Int32Type, Int64Type, TimestampMillisecondType};
use rdkafka::producer::Producer;
use thalweg::connector::kafka::{Column, End, Kafka as Topics, Start};
use thalweg::format::avro::{Avro, WriterSchemas};
use thalweg::{Format, Stream, Table, count, event_time, millis, tumbling};

use crate::Test;
use crate::rig::{Rig, SOON, Send, collect, numbers, reading, schema, send, send_numbers, sorted, values};

pub const TESTS: &[Test] = &[
    ("a_read_begins_and_ends_where_it_is_told_to", a_read_begins_and_ends_where_it_is_told_to),
    ("everything_of_a_record_can_be_a_column", everything_of_a_record_can_be_a_column),
    ("every_codec_is_read", every_codec_is_read),
    ("transactions_are_read_when_they_are_committed", transactions_are_read_when_they_are_committed),
    ("poisoned_records_go_to_quarantine", poisoned_records_go_to_quarantine),
    ("values_are_in_any_format", values_are_in_any_format),
    ("records_name_the_schemas_they_were_written_by", records_name_the_schemas_they_were_written_by),
    ("topics_match_a_pattern_and_new_partitions_are_noticed", topics_match_a_pattern_and_new_partitions_are_noticed),
    ("windows_wait_for_partitions_by_name", windows_wait_for_partitions_by_name),
    ("a_partition_far_ahead_waits_and_loses_nothing", a_partition_far_ahead_waits_and_loses_nothing),
];

fn a_read_begins_and_ends_where_it_is_told_to(rig: &Rig) {
    let topic = rig.topic(2);
    let producer = rig.producer(&[]);
    let at = |number: i64| 1_000_000 + number * 1_000;
    for partition in 0..2 {
        for number in 0..50 {
            let value = format!("{{\"a\": {}}}", 2 * number + i64::from(partition));
            send(&producer, &topic, &[Send { partition, value: Some(&value), timestamp: Some(at(number)), ..Send::default() }]);
        }
    }
    let read = |topics: Topics| values(&collect(topics));
    let of = |range: std::ops::Range<i64>| (2 * range.start..2 * range.end).collect::<Vec<_>>();
    let offsets = |offset: i64| vec![(topic.clone(), 0, offset), (topic.clone(), 1, offset)];
    assert_eq!(read(rig.numbers(&topic)), of(0..50));
    assert!(read(rig.numbers(&topic).start(Start::Latest)).is_empty());
    assert_eq!(read(rig.numbers(&topic).start(Start::Timestamp(at(40)))), of(40..50));
    assert!(read(rig.numbers(&topic).start(Start::Timestamp(at(60)))).is_empty());
    assert_eq!(read(rig.numbers(&topic).end(End::Timestamp(at(10)))), of(0..10));
    assert_eq!(read(rig.numbers(&topic).start(Start::Offsets(offsets(20))).end(End::Offsets(offsets(30)))), of(20..30));
    assert_eq!(read(Topics::partitions(rig.bootstrap(), [(&topic, 1)]).format(Format::Ndjson, schema()).end(End::Latest)).len(), 50);
    // An end that lies ahead is waited for.
    let ahead = Topics::partitions(rig.bootstrap(), [(&topic, 1)]).format(Format::Ndjson, schema()).end(End::Offsets(offsets(55)));
    let mut live = reading(ahead, |_| {});
    live.wait_for(50);
    send_numbers(&producer, &topic, 1, 1_000..1_010);
    assert_eq!(live.query.wait().unwrap().rows_in, 55);
    let error = crate::rig::failure(rig.numbers(&topic).start(Start::Offsets(vec![(topic.clone(), 0, 3)])));
    assert!(error.contains(&format!("`start` has no offset of {topic}[1]; give one of every partition [config, final]")), "{error}");
}

fn everything_of_a_record_can_be_a_column(rig: &Rig) {
    let topic = rig.topic(1);
    rig.send(
        &topic,
        &[
            Send { key: Some("k"), value: Some("{\"a\": 1}"), timestamp: Some(1_500), ..Send::default() },
            Send { value: None, timestamp: Some(1_600), headers: &[("h", Some("x")), ("h", None)], ..Send::default() },
            Send { value: Some("{\"a\":\n3}\n"), timestamp: Some(1_700), headers: &[("i", Some(""))], ..Send::default() },
        ],
    );
    let plain = collect(rig.numbers(&topic));
    assert_eq!((values(&plain), plain.metrics().null_values), (vec![1, 3], 1), "a tombstone is counted and left out");

    let table = collect(rig.numbers(&topic).metadata(Column::ALL));
    assert_eq!(table.metrics().null_values, 0);
    let all = concat_batches(&table.schema(), table.batches()).unwrap();
    let names: Vec<String> = all.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["a", "_key", "_headers", "_topic", "_partition", "_offset", "_timestamp", "_timestamp_type"]);
    assert_eq!(all.column(0).as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [Some(1), None, Some(3)]);
    assert_eq!(all.column(1).as_binary::<i32>().iter().collect::<Vec<_>>(), [Some(&b"k"[..]), None, None]);
    let headers = all.column(2).as_list::<i32>();
    assert_eq!(headers.offsets().as_ref(), [0, 0, 2, 3]);
    let pairs = headers.values().as_struct();
    assert_eq!(pairs.column(0).as_string::<i32>().iter().collect::<Vec<_>>(), [Some("h"), Some("h"), Some("i")]);
    assert_eq!(pairs.column(1).as_binary::<i32>().iter().collect::<Vec<_>>(), [Some(&b"x"[..]), None, Some(b"")]);
    assert!(all.column(3).as_string::<i32>().iter().all(|name| name == Some(&topic)));
    assert_eq!(all.column(4).as_primitive::<Int32Type>().values(), &[0, 0, 0]);
    assert_eq!(all.column(5).as_primitive::<Int64Type>().values(), &[0, 1, 2]);
    assert_eq!(all.column(6).as_primitive::<TimestampMillisecondType>().values(), &[1_500, 1_600, 1_700]);
    assert!(all.column(7).as_string::<i32>().iter().all(|kind| kind == Some("create_time")));
}

fn every_codec_is_read(rig: &Rig) {
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = rig.topic(1);
        send_numbers(&rig.producer(&[("compression.type", codec)]), &topic, 0, 0..5_000);
        assert_eq!(values(&collect(rig.numbers(&topic))), (0..5_000).collect::<Vec<_>>(), "{codec}");
    }
}

fn transactions_are_read_when_they_are_committed(rig: &Rig) {
    let (topic, other) = (rig.topic(1), rig.topic(1));
    let producer = rig.producer(&[("transactional.id", &topic)]);
    producer.init_transactions(SOON).unwrap();
    for (numbers, commit) in [(0..10, true), (10..20, false), (20..30, true)] {
        producer.begin_transaction().unwrap();
        send_numbers(&producer, &topic, 0, numbers.clone());
        send_numbers(&producer, &other, 0, numbers);
        if commit { producer.commit_transaction(SOON) } else { producer.abort_transaction(SOON) }.unwrap();
    }
    let committed: Vec<i64> = (0..10).chain(20..30).collect();
    // The last record of each is none for us: a read must end behind it all the same, if by other means with several topics.
    assert_eq!(values(&collect(rig.numbers(&topic))), committed);
    let both = Topics::new(rig.bootstrap(), [&topic, &other]).format(Format::Ndjson, schema()).end(End::Latest);
    assert_eq!(collect(both).num_rows(), 2 * committed.len());
    let all = collect(rig.numbers(&topic).set("isolation.level", "read_uncommitted"));
    assert_eq!(values(&all), (0..30).collect::<Vec<_>>());
}

fn poisoned_records_go_to_quarantine(rig: &Rig) {
    let topic = rig.topic(2);
    let bad = ["{\"a\": 1", "", "{\"a\":\n\"x\"}", "{\"a\": 2}{\"a\": 3}"];
    for (number, value) in (10..).zip(bad) {
        rig.send_numbers(&topic, 1, [number]);
        rig.send(&topic, &[Send { partition: 1, value: Some(value), ..Send::default() }]);
    }
    let table = collect(rig.numbers(&topic));
    assert_eq!(values(&table), [10, 11, 12, 13]);
    let quarantined = concat_batches(&thalweg::quality::schema(), table.quarantined()).unwrap();
    assert_eq!(quarantined.column(1).as_primitive::<arrow::datatypes::UInt64Type>().values(), &[1, 3, 5, 7], "{quarantined:?}");
    let bytes: Vec<&[u8]> = quarantined.column(2).as_binary::<i32>().iter().flatten().collect();
    assert_eq!(bytes, bad.map(str::as_bytes), "as they came, line feeds and all");
    assert!(quarantined.column(3).as_string::<i32>().value(1).contains("the value is empty"));
}

fn values_are_in_any_format(rig: &Rig) {
    let topic = rig.topic(1);
    let send = |value: &str| rig.send(&topic, &[Send { value: Some(value), ..Send::default() }]);
    ["1", "2\n3", "\"", "4\n"].into_iter().for_each(send);
    let read = |topics: Topics| collect(topics.end(End::Latest));
    let csv = read(Topics::new(rig.bootstrap(), [&topic]).format(Format::parse("csv").unwrap(), schema()));
    assert_eq!((values(&csv), csv.metrics().quarantined_rows), (vec![1, 2, 3, 4], 1));
    let texts = |table: &Table| {
        let all = concat_batches(&table.schema(), table.batches()).unwrap();
        all.column(0).as_string::<i32>().iter().flatten().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(texts(&read(Topics::new(rig.bootstrap(), [&topic]).text())), ["1", "2\n3", "\"", "4\n"]);
    assert_eq!(read(Topics::new(rig.bootstrap(), [&topic])).batches()[0].column(0).as_binary::<i32>().value(1), b"2\n3");

    let streams = rig.topic(1);
    let batch = arrow::array::RecordBatch::try_new(schema(), vec![Arc::new(arrow::array::Int64Array::from(vec![7, 8]))]).unwrap();
    let mut stream = Vec::new();
    let mut writer = arrow::ipc::writer::StreamWriter::try_new(&mut stream, &schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    let producer = rig.producer(&[]);
    for payload in [&stream[..], &stream[..stream.len() / 2], &stream[..]] {
        let record = rdkafka::producer::BaseRecord::<(), [u8]>::to(&streams).payload(payload);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(SOON).unwrap();
    let table = read(Topics::new(rig.bootstrap(), [&streams]).format(Format::ArrowIpc, schema()));
    assert_eq!((values(&table), table.metrics().quarantined_rows), (vec![7, 7, 8, 8], 1));
}

/// A registry that is down.
struct Down;

impl WriterSchemas for Down {
    fn schema(&self, _id: u32) -> thalweg::Result<Option<Arc<str>>> {
        Err(thalweg::Error::connector("the registry is down").retriable_if(true))
    }
}

fn records_name_the_schemas_they_were_written_by(rig: &Rig) {
    let (topic, group) = (rig.topic(1), rig.name("avro"));
    let producer = rig.producer(&[]);
    let first = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"}]}"#;
    let second = r#"{"type":"record","name":"R","fields":[{"name":"b","type":"string"},{"name":"a","type":"long"}]}"#;
    let records: [&[u8]; 4] = [&[0, 0, 0, 0, 1, 2], &[0, 0, 0, 0, 2, 2, b'x', 4], &[0, 0, 0, 0, 3, 6], &[0, 0, 0, 0, 1, 8]];
    for payload in records {
        let record = rdkafka::producer::BaseRecord::<(), [u8]>::to(&topic).payload(payload);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(SOON).unwrap();
    let read = |avro: Avro| {
        let topics = Topics::new(rig.bootstrap(), [&topic]).group(&group).end(End::Latest);
        Stream::read_kafka(topics.format(Format::Avro(avro), schema())).unwrap().collect()
    };
    let error = read(Avro::confluent(Down)).unwrap_err();
    assert!(error.is_retriable() && error.to_string().contains("the registry is down"), "{error}");
    let table = read(Avro::confluent(HashMap::from([(1, first), (2, second)]))).unwrap();
    assert_eq!(values(&table), [1, 2, 4], "nothing was committed that was not read");
    let quarantined = concat_batches(&thalweg::quality::schema(), table.quarantined()).unwrap();
    assert_eq!(quarantined.column(2).as_binary::<i32>().value(0), records[2]);
    assert_eq!(quarantined.column(3).as_string::<i32>().value(0), "schema 3 of the record is not known");
}

fn topics_match_a_pattern_and_new_partitions_are_noticed(rig: &Rig) {
    let stem = rig.name("pattern");
    let create = |name: &str| rig.ask(&format!("create {stem}.{name} 1"));
    create("a");
    rig.send_numbers(&format!("{stem}.a"), 0, 0..3);
    let quick = |topics: Topics| topics.set("topic.metadata.refresh.interval.ms", "200");
    let pattern = format!("^{stem}\\..*");
    let mut live = [
        reading(quick(numbers(rig.bootstrap(), &pattern)), |_| {}),
        reading(quick(numbers(rig.bootstrap(), &pattern).group(&stem)), |_| {}),
    ];
    live.iter_mut().for_each(|live| live.wait_for(3));
    create("b");
    rig.send_numbers(&format!("{stem}.b"), 0, 3..5);
    rig.ask(&format!("grow {stem}.a 2"));
    crate::rig::until("a new partition is there", || {
        rig.producer(&[]).client().fetch_metadata(Some(&format!("{stem}.a")), SOON).unwrap().topics()[0].partitions().len() == 2
    });
    rig.send_numbers(&format!("{stem}.a"), 1, 5..6);
    for mut live in live {
        live.wait_for(6);
        assert_eq!(sorted(live), [0, 1, 2, 3, 4, 5]);
    }
}

fn windows_wait_for_partitions_by_name(rig: &Rig) {
    let topic = rig.topic(2);
    rig.send_numbers(&topic, 0, (0..10).map(|number| number * 1_000));
    let stream = Stream::read_kafka(numbers(rig.bootstrap(), &topic)).unwrap();
    let stream = stream.event_time(event_time("a").idle_timeout(None)).window(tumbling(millis(1_000))).agg([count().alias("n")]);
    let mut query = stream.run(thalweg::sink::Memory::default()).unwrap();
    let mut held = None;
    crate::rig::until("a partition holds windows back", || {
        held = query.why_not_firing();
        held.is_some()
    });
    assert!(held.unwrap().to_string().contains(&format!("{topic}[1]")));
    crate::rig::until("lag is known", || query.metrics().lag.len() == 2);
    assert_eq!(query.metrics().lag, [(format!("{topic}[0]"), 0), (format!("{topic}[1]"), 0)]);
    query.stop();
    assert_eq!(query.wait().unwrap().rows_in, 10);
}

fn a_partition_far_ahead_waits_and_loses_nothing(rig: &Rig) {
    const AHEAD: i64 = 200_000;
    let topic = rig.topic(2);
    rig.send_numbers(&topic, 0, 0..AHEAD);
    rig.send_numbers(&topic, 1, [0]);
    let stream = Stream::read_kafka(numbers(rig.bootstrap(), &topic)).unwrap();
    let aligned = stream.event_time(event_time("a").idle_timeout(None).max_skew(millis(100))).filter("a >= 0");
    let sink = thalweg::sink::Memory::new();
    let collected = sink.collected();
    let mut query = aligned.run(sink).unwrap();
    // More than was on its way when the partition was paused.
    let lag = |query: &thalweg::Running| query.metrics().lag.iter().map(|(_, records)| *records).sum::<u64>();
    crate::rig::until("the partition ahead waits", || lag(&query) > AHEAD as u64 / 4);
    assert!(query.metrics().rows_in < AHEAD as u64);
    rig.send_numbers(&topic, 1, [AHEAD]);
    crate::rig::until("everything has come", || query.metrics().rows_in >= AHEAD as u64 + 2);
    query.stop();
    query.wait().unwrap();
    let mut all: Vec<i64> = collected.take().iter().flat_map(crate::rig::column).collect();
    all.sort_unstable();
    assert_eq!(all, std::iter::once(0).chain(0..=AHEAD).collect::<Vec<_>>());
}
