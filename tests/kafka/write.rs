//! What becomes of rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int32Type, TimestampMillisecondType};
use thalweg::connector::kafka::{Column, End, Kafka as Topics, KafkaSink, Value};
use thalweg::{Query, Sink, Stream};

use crate::Test;
use crate::rig::{Rig, Send, collect, numbers, until, values};

pub const TESTS: &[Test] = &[
    ("what_was_written_is_read_again", what_was_written_is_read_again),
    ("keys_go_where_java_puts_them", keys_go_where_java_puts_them),
    ("a_transaction_is_seen_whole_or_never", a_transaction_is_seen_whole_or_never),
    ("a_zombie_is_fenced_off", a_zombie_is_fenced_off),
    ("a_full_queue_is_waited_for", a_full_queue_is_waited_for),
    ("what_cannot_be_delivered_is_said", what_cannot_be_delivered_is_said),
    ("dead_letters_say_why", dead_letters_say_why),
];

fn batch(numbers: impl IntoIterator<Item = i64>) -> RecordBatch {
    RecordBatch::try_from_iter([("a", Arc::new(Int64Array::from_iter_values(numbers)) as ArrayRef)]).unwrap()
}

fn open(sink: KafkaSink) -> KafkaSink {
    let mut sink = sink;
    sink.open(&batch([]).schema()).unwrap();
    sink
}

fn what_was_written_is_read_again(rig: &Rig) {
    for codec in ["none", "zstd"] {
        let (topic, copy) = (rig.topic(1), rig.topic(1));
        let columns: [(&str, ArrayRef); 4] = [
            ("a", Arc::new(Int64Array::from(vec![1, 2]))),
            ("user", Arc::new(StringArray::from(vec!["é", "u"]))),
            ("note", Arc::new(StringArray::from(vec![Some("x"), None]))),
            ("at", Arc::new(TimestampMillisecondArray::from(vec![1_500, 2_500]))),
        ];
        let rows =
            Stream::from_arrow([RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap()]);
        let sink = KafkaSink::new(rig.bootstrap(), &topic).key(["user"]).headers(["note"]).timestamp("at").set("compression.type", codec);
        Query::new().sink(&rows, sink).run().unwrap();
        // And once more, from topic to topic, with what the source makes of headers.
        let raw = Topics::new(rig.bootstrap(), [&topic]).metadata([Column::Key, Column::Headers, Column::Timestamp]).end(End::Latest);
        let sink = KafkaSink::new(rig.bootstrap(), &copy).value(Value::Column("value".to_owned())).key(["_key"]);
        let sink = sink.headers(["_headers"]).timestamp("_timestamp");
        Query::new().sink(&Stream::read_kafka(raw).unwrap(), sink).run().unwrap();
        for topic in [topic, copy] {
            let metadata = [Column::Key, Column::Headers, Column::Timestamp];
            let table = collect(Topics::new(rig.bootstrap(), [&topic]).text().metadata(metadata).end(End::Latest));
            let all = concat_batches(&table.schema(), table.batches()).unwrap();
            assert_eq!(all.column(0).as_string::<i32>().value(0), r#"{"a":1,"user":"é","note":"x","at":"1970-01-01T00:00:01.500Z"}"#);
            assert_eq!(all.column(1).as_binary::<i32>().iter().flatten().collect::<Vec<_>>(), ["é".as_bytes(), b"u"]);
            let pairs = all.column(2).as_list::<i32>().values().as_struct();
            assert_eq!(pairs.column(0).as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["note", "note"]);
            assert_eq!(pairs.column(1).as_binary::<i32>().iter().collect::<Vec<_>>(), [Some(&b"x"[..]), None]);
            assert_eq!(all.column(3).as_primitive::<TimestampMillisecondType>().values(), &[1_500, 2_500]);
        }
    }
}

fn keys_go_where_java_puts_them(rig: &Rig) {
    let topic = rig.topic(8);
    let keys: Vec<String> = (0..200).map(|number| format!("key {}", number * number)).collect();
    let rows = RecordBatch::try_from_iter([("key", Arc::new(StringArray::from(keys)) as ArrayRef)]).unwrap();
    Query::new().sink(&Stream::from_arrow([rows]), KafkaSink::new(rig.bootstrap(), &topic).key(["key"])).run().unwrap();
    let table = collect(Topics::new(rig.bootstrap(), [&topic]).metadata([Column::Key, Column::Partition]).end(End::Latest));
    let all = concat_batches(&table.schema(), table.batches()).unwrap();
    let hex = |key: &[u8]| key.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let keys: Vec<String> = all.column(1).as_binary::<i32>().iter().flatten().map(hex).collect();
    let java = rig.ask(&format!("murmur2 8 {}", keys.join(" ")));
    let ours: Vec<String> = all.column(2).as_primitive::<Int32Type>().values().iter().map(i32::to_string).collect();
    assert_eq!((keys.len(), ours.join(" ")), (200, java));
}

fn a_transaction_is_seen_whole_or_never(rig: &Rig) {
    let topic = rig.topic(2);
    let mut sink = open(KafkaSink::new(rig.bootstrap(), &topic).transactional_id(&topic));
    let seen = || values(&collect(rig.numbers(&topic)));
    sink.commit().unwrap();
    sink.write(&batch(0..100)).unwrap();
    sink.write(&batch(100..110)).unwrap();
    assert!(seen().is_empty(), "before the commit");
    sink.commit().unwrap();
    assert_eq!(seen(), (0..110).collect::<Vec<_>>());
    sink.write(&batch(110..120)).unwrap();
    sink.commit().unwrap();
    sink.write(&batch(120..130)).unwrap();
    sink.abort();
    assert_eq!(seen(), (0..120).collect::<Vec<_>>(), "an abort leaves nothing");
    assert!(sink.write(&batch(0..1)).unwrap_err().to_string().contains("not open"));
    let mut sink = open(sink);
    sink.write(&batch(120..121)).unwrap();
    sink.commit().unwrap();
    assert_eq!(seen(), (0..121).collect::<Vec<_>>());
}

fn a_zombie_is_fenced_off(rig: &Rig) {
    let topic = rig.topic(1);
    let mut zombie = open(KafkaSink::new(rig.bootstrap(), &topic).transactional_id(&topic));
    zombie.write(&batch(0..10)).unwrap();
    let mut successor = open(KafkaSink::new(rig.bootstrap(), &topic).transactional_id(&topic));
    successor.write(&batch(10..20)).unwrap();
    successor.commit().unwrap();
    let error = zombie.write(&batch(20..30)).and_then(|()| zombie.commit()).unwrap_err();
    let says = format!("another program writes under the transactional id `{topic}` now, and this one was fenced off");
    assert!(error.to_string().contains(&says) && !error.is_retriable(), "{error:?}");
    zombie.abort();
    assert_eq!(values(&collect(rig.numbers(&topic))), (10..20).collect::<Vec<_>>());
}

fn a_full_queue_is_waited_for(rig: &Rig) {
    let topic = rig.topic(1);
    let sink = KafkaSink::new(rig.bootstrap(), &topic).set("queue.buffering.max.messages", "10");
    Query::new().sink(&Stream::from_arrow([batch(0..5_000)]), sink).run().unwrap();
    let table = collect(rig.numbers(&topic));
    let read: Vec<i64> = table.batches().iter().flat_map(crate::rig::column).collect();
    assert_eq!(read, (0..5_000).collect::<Vec<_>>(), "in order, each once");
}

fn what_cannot_be_delivered_is_said(rig: &Rig) {
    let topic = rig.name("small");
    rig.ask(&format!("create {topic} 1 max.message.bytes=200"));
    let mut sink = open(KafkaSink::new(rig.bootstrap(), &topic));
    let text = "x".repeat(1_000);
    let long = RecordBatch::try_from_iter([("a", Arc::new(StringArray::from(vec![text])) as ArrayRef)]).unwrap();
    let error = sink.write(&long).and_then(|()| sink.commit()).unwrap_err();
    assert!(error.to_string().starts_with(&format!("a record was not delivered to topic `{topic}`")) && !error.is_retriable(), "{error:?}");
    let gone = KafkaSink::new("127.0.0.1:1", "t").set("socket.timeout.ms", "1000").open(&batch([]).schema()).unwrap_err();
    assert!(gone.to_string().starts_with("Kafka at 127.0.0.1:1: the cluster cannot be reached; is it running") && gone.is_retriable());
    let wrong = KafkaSink::new(rig.kafka.address("sasl"), "t").set("security.protocol", "sasl_plaintext").set("sasl.mechanisms", "PLAIN");
    let wrong = wrong.set("sasl.username", "alice").set("sasl.password", "hunter2").open(&batch([]).schema()).unwrap_err();
    assert!(wrong.to_string().contains("check the credentials") && !format!("{wrong:?}").contains("hunter2"), "{wrong:?}");
}

fn dead_letters_say_why(rig: &Rig) {
    let (topic, dead) = (rig.topic(1), rig.topic(1));
    rig.send_numbers(&topic, 0, 0..3);
    rig.send(&topic, &[Send { value: Some("poison"), ..Send::default() }]);
    let stream = Stream::read_kafka(numbers(rig.bootstrap(), &topic)).unwrap();
    let query = Query::new().sink(&stream, thalweg::sink::Memory::new()).quarantine(KafkaSink::dead_letters(rig.bootstrap(), &dead));
    let mut query = query.start().unwrap();
    until("the poison is quarantined", || query.metrics().quarantined_rows == 1);
    query.stop();
    query.wait().unwrap();
    let table = collect(Topics::new(rig.bootstrap(), [&dead]).text().metadata([Column::Headers]).end(End::Latest));
    let all = concat_batches(&table.schema(), table.batches()).unwrap();
    assert_eq!(all.column(0).as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["poison"]);
    let pairs = all.column(1).as_list::<i32>().values().as_struct();
    assert_eq!(pairs.column(0).as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["error", "partition", "offset"]);
    let values = pairs.column(1).as_binary::<i32>();
    assert_eq!((values.value(1), values.value(2)), (&b"0"[..], &b"3"[..]));
    assert!(String::from_utf8_lossy(values.value(0)).contains("unexpected 'p' whilst parsing"));
}
