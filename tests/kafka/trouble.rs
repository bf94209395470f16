//! What goes wrong, and what is said of it.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use thalweg::Sink;
use thalweg::connector::kafka::{KafkaSink, OutOfRange, Start};

use crate::Test;
use crate::rig::{Kafka, Rig, collect, failure, numbers, reading, schema, sorted, until, values};

pub const TESTS: &[Test] = &[
    ("what_is_not_there_is_named", what_is_not_there_is_named),
    ("offsets_that_are_gone_are_an_error_or_a_gap", offsets_that_are_gone_are_an_error_or_a_gap),
    ("a_deleted_topic_ends_the_run", a_deleted_topic_ends_the_run),
    ("brokers_may_come_and_go", brokers_may_come_and_go),
];

fn what_is_not_there_is_named(rig: &Rig) {
    for group in [None, Some("g")] {
        let topics = numbers(rig.bootstrap(), "no-such-topic");
        let error = failure(group.map_or(topics.clone(), |group| topics.group(group)));
        assert!(error.contains("there is no topic `no-such-topic` at 127.0.0.1"), "{error}");
        assert!(error.ends_with("; create it first, or correct the name [connector, final]"), "{error}");
    }
    let error = failure(numbers("127.0.0.1:1", "t").set("socket.timeout.ms", "1500"));
    assert!(error.starts_with("Kafka at 127.0.0.1:1: the cluster cannot be reached; is it running"), "{error}");
    assert!(error.ends_with("[connector, retriable]"), "{error}");
    let topic = rig.topic(1);
    let error = failure(thalweg::connector::kafka::Kafka::partitions(rig.bootstrap(), [(&topic, 1)]));
    assert!(error.contains(&format!("there is no {topic}[1] at ")) && error.contains("the topic has 1 partitions"), "{error}");
}

fn offsets_that_are_gone_are_an_error_or_a_gap(rig: &Rig) {
    let topic = rig.topic(1);
    rig.send_numbers(&topic, 0, 0..100);
    rig.ask(&format!("truncate {topic} 0 40"));
    let from = |offset| rig.numbers(&topic).start(Start::Offsets(vec![(topic.clone(), 0, offset)]));
    let error = failure(from(10));
    assert!(error.contains(&format!("{topic}[0] has no offset 10, it has 40 to 100")), "{error}");
    assert!(error.contains("(on_out_of_range earliest)") && error.ends_with("[connector, final]"), "{error}");
    let table = collect(from(10).on_out_of_range(OutOfRange::Earliest));
    assert_eq!((values(&table), table.metrics().skipped_records), ((40..100).collect(), 30));
    let mut live = reading(
        numbers(rig.bootstrap(), &topic).start(Start::Offsets(vec![(topic.clone(), 0, 10)])).on_out_of_range(OutOfRange::Latest),
        |_| {},
    );
    until("the gap is counted", || live.query.metrics().skipped_records == 90);
    rig.send_numbers(&topic, 0, 100..103);
    live.wait_for(3);
    assert_eq!(sorted(live), [100, 101, 102]);
}

fn a_deleted_topic_ends_the_run(rig: &Rig) {
    for group in [None, Some(rig.name("group"))] {
        let topic = rig.topic(1);
        rig.send_numbers(&topic, 0, 0..3);
        let topics = numbers(rig.bootstrap(), &topic).set("topic.metadata.refresh.interval.ms", "200");
        let mut live = reading(group.map_or(topics.clone(), |group| topics.group(group)), |_| {});
        live.wait_for(3);
        rig.ask(&format!("delete {topic}"));
        let error = live.query.wait().unwrap_err().to_string();
        assert!(error.contains(&format!("there is no topic `{topic}`")), "{error}");
    }
}

fn brokers_may_come_and_go(_: &Rig) {
    // Brokers of its own, as the others are needed.
    let rig = Rig::new(Kafka::start().unwrap());
    let topic = rig.topic(1);
    rig.send_numbers(&topic, 0, 0..100);
    let mut live = [
        reading(numbers(rig.bootstrap(), &topic), |_| {}),
        reading(numbers(rig.bootstrap(), &topic).group("g").set("session.timeout.ms", "2000"), |_| {}),
    ];
    live.iter_mut().for_each(|live| live.wait_for(100));
    let mut sink = KafkaSink::new(rig.bootstrap(), &topic);
    let rows = |numbers| RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from_iter_values(numbers))]).unwrap();
    sink.open(&schema()).unwrap();
    sink.write(&rows(100..150)).unwrap();
    rig.kafka.stop().unwrap();
    sink.write(&rows(150..200)).unwrap();
    rig.kafka.restart().unwrap();
    sink.commit().unwrap();
    for mut live in live {
        live.wait_for(200);
        let mut seen = sorted(live);
        // Membership may have been lost with a commit, so that records come again.
        seen.dedup();
        assert_eq!(seen, (0..200).collect::<Vec<_>>());
    }
}
