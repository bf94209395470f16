//! What becomes of rows.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::channel;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int32Type, SchemaRef, TimestampMillisecondType};
use thalweg::connector::kafka::{Column, End, Kafka as Topics, KafkaSink, Offsets, Repartition, Value};
use thalweg::sink::Callback;
use thalweg::{Config, Error, Kind, Query, Sink, Stream, millis, secs};

use crate::Test;
use crate::rig::{Rig, Send, collect, numbers, until, values};

pub const TESTS: &[Test] = &[
    ("what_was_written_is_read_again", what_was_written_is_read_again),
    ("keys_go_where_java_puts_them", keys_go_where_java_puts_them),
    ("a_transaction_is_seen_whole_or_never", a_transaction_is_seen_whole_or_never),
    ("a_zombie_is_fenced_off", a_zombie_is_fenced_off),
    ("results_and_offsets_are_committed_together", results_and_offsets_are_committed_together),
    ("rows_are_shared_out_by_key_over_a_topic", rows_are_shared_out_by_key_over_a_topic),
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

/// A program that breaks off between the commit of its results and whatever comes after it.
struct BreaksOff {
    breaks_off: bool,
}

impl Sink for BreaksOff {
    fn open(&mut self, _: &SchemaRef) -> Result<(), Error> {
        Ok(())
    }

    fn write(&mut self, _: &RecordBatch) -> Result<(), Error> {
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Error> {
        if self.breaks_off { Err(Error::connector("broken off")) } else { Ok(()) }
    }

    fn abort(&mut self) {}
}

fn results_and_offsets_are_committed_together(rig: &Rig) {
    let (topic, copy, group) = (rig.topic(2), rig.topic(1), rig.name("group"));
    let offsets = Offsets::new();
    let read = || numbers(rig.bootstrap(), &topic).group(&group).offsets(&offsets);
    let sink = || KafkaSink::new(rig.bootstrap(), &copy).transactional_id(&copy).offsets(&offsets);
    let start = |filter: &str, breaks_off: bool| {
        let rows = Stream::read_kafka(read()).unwrap().filter(filter);
        let mut config = Config::default();
        // One that breaks off does so at its end.
        config.commit_every = if breaks_off { secs(3_600) } else { millis(50) };
        Query::new().config(config).sink(&rows, sink()).sink(&rows, BreaksOff { breaks_off }).start().unwrap()
    };
    let committed = || values(&collect(rig.numbers(&copy)));
    // The results of each run are there, and the offsets, but nobody has heard of it.
    for run in 0..3 {
        rig.send_numbers(&topic, (run % 2) as i32, run * 100..(run + 1) * 100);
        let mut query = start("a >= 0", true);
        until("the rows are read", || query.metrics().rows_in == 100);
        query.stop();
        let error = query.wait().unwrap_err().to_string();
        assert!(error.contains("broken off"), "{error}");
    }
    let mut query = start("a >= 0", false);
    rig.send_numbers(&topic, 0, 300..400);
    until("all is copied", || committed().len() >= 400);
    query.stop();
    query.wait().unwrap();
    assert_eq!(committed(), (0..400).collect::<Vec<_>>(), "each once");
    // Offsets are committed though there are no results of them.
    rig.send_numbers(&topic, 1, 400..500);
    let mut query = start("a < 0", false);
    until("they are read", || query.metrics().rows_in == 100);
    query.stop();
    query.wait().unwrap();
    let mut query = start("a >= 0", false);
    rig.send_numbers(&topic, 1, 500..501);
    until("the next is copied", || committed().len() == 401);
    assert_eq!(query.metrics().rows_in, 1);
    query.stop();
    query.wait().unwrap();
    // What cannot be tied says so.
    let mut alone = open(KafkaSink::new(rig.bootstrap(), &copy).transactional_id(&group).offsets(&Offsets::new()));
    let error = alone.commit().unwrap_err().to_string();
    assert!(error.contains("nothing reads them; give the same `offsets` to the read"), "{error}");
    let error = KafkaSink::new(rig.bootstrap(), &copy).offsets(&offsets).open(&batch([]).schema()).unwrap_err().to_string();
    assert!(error.contains("give the sink of Kafka a `transactional_id`"), "{error}");
    let error = Stream::read_kafka(numbers(rig.bootstrap(), &topic).offsets(&offsets)).err().unwrap().to_string();
    assert!(error.contains("no `group` is named"), "{error}");
}

fn rows_are_shared_out_by_key_over_a_topic(rig: &Rig) {
    let (topic, group) = (rig.name("by-word"), rig.name("group"));
    let shared = Repartition::new(rig.bootstrap(), &topic, ["word"]).partitions(4).replication(1);
    shared.create().unwrap();
    shared.create().unwrap();
    let error = shared.clone().partitions(6).create().unwrap_err();
    assert!(error.to_string().starts_with(&format!("topic `{topic}` has 4 partitions, not 6")) && error.kind() == Kind::Config, "{error}");
    let gone = Repartition::new("127.0.0.1:1", "t", ["word"]).set("socket.timeout.ms", "500").create().unwrap_err().to_string();
    assert!(gone.starts_with("cannot make topic `t` at 127.0.0.1:1"), "{gone}");
    let words = |numbers: std::ops::Range<i64>| {
        let words = StringArray::from_iter_values(numbers.clone().map(|number| format!("word {}", number % 10)));
        let columns: [(&str, ArrayRef); 2] = [("a", Arc::new(Int64Array::from_iter_values(numbers))), ("word", Arc::new(words))];
        RecordBatch::try_from_iter(columns).unwrap()
    };
    let schema = words(0..0).schema();
    Query::new().sink(&Stream::from_arrow([words(0..500), words(500..1_000)]), shared.sink()).run().unwrap();
    // Two members of a group: no word comes to both.
    let member = || {
        let (sender, arrived) = channel();
        let sink = Callback::new(move |batch: &RecordBatch| {
            let words = batch.column_by_name("word").unwrap().as_string::<i32>();
            let _ = sender.send(words.iter().flatten().map(str::to_owned).collect::<Vec<_>>());
            Ok(())
        });
        let rows = Stream::read_kafka(shared.source(&group, SchemaRef::clone(&schema)).metadata([Column::Partition])).unwrap();
        (Query::new().sink(&rows, sink).start().unwrap(), arrived)
    };
    let mut members = [member(), member()];
    let mut seen = [Vec::new(), Vec::new()];
    until("all words have come", || {
        for ((_, arrived), seen) in members.iter().zip(&mut seen) {
            seen.extend(arrived.try_iter().flatten());
        }
        seen[0].len() + seen[1].len() >= 1_000
    });
    members.iter_mut().for_each(|(query, _)| query.stop());
    members.iter_mut().for_each(|(query, _)| drop(query.wait().unwrap()));
    let all = seen.concat().len();
    let sets = seen.map(|words| words.into_iter().collect::<BTreeSet<_>>());
    assert_eq!((all, sets[0].union(&sets[1]).count()), (1_000, 10));
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
