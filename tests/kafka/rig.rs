//! Brokers, topics of their own for every test, and records in them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use rdkafka::ClientConfig;
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use thalweg::connector::kafka::{End, Kafka as Topics};
use thalweg::{Format, Stream, Table, millis};

#[path = "../support/kafka.rs"]
mod kafka;
pub use kafka::{Kafka, REQUIRED};
#[path = "../support/live.rs"]
mod live;
pub use live::{Live, SOON, column, until, values};

/// What all tests share.
pub struct Rig {
    pub kafka: Kafka,
    topics: AtomicUsize,
}

/// A record to send.
#[derive(Default)]
pub struct Send<'a> {
    pub partition: i32,
    pub key: Option<&'a str>,
    pub value: Option<&'a str>,
    pub headers: &'a [(&'a str, Option<&'a str>)],
    pub timestamp: Option<i64>,
}

impl Rig {
    pub fn new(kafka: Kafka) -> Rig {
        Rig { kafka, topics: AtomicUsize::new(0) }
    }

    pub fn bootstrap(&self) -> &str {
        self.kafka.address("bootstrap")
    }

    pub fn ask(&self, command: &str) -> String {
        self.kafka.ask(command).unwrap()
    }

    /// A name that no other test has.
    pub fn name(&self, stem: &str) -> String {
        format!("{stem}-{}", self.topics.fetch_add(1, SeqCst))
    }

    /// A new topic.
    pub fn topic(&self, partitions: usize) -> String {
        let topic = self.name("topic");
        self.ask(&format!("create {topic} {partitions}"));
        topic
    }

    pub fn producer(&self, settings: &[(&str, &str)]) -> BaseProducer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.bootstrap()).set("linger.ms", "1");
        for (name, value) in settings {
            config.set(*name, *value);
        }
        config.create().unwrap()
    }

    /// Sends records and waits until they are there.
    pub fn send(&self, topic: &str, records: &[Send<'_>]) {
        send(&self.producer(&[]), topic, records);
    }

    /// Sends `{"a": n}` for each number.
    pub fn send_numbers(&self, topic: &str, partition: i32, numbers: impl IntoIterator<Item = i64>) {
        send_numbers(&self.producer(&[]), topic, partition, numbers);
    }

    /// What a topic has as numbers, by default all there is now.
    pub fn numbers(&self, topic: &str) -> Topics {
        numbers(self.bootstrap(), topic).end(End::Latest)
    }
}

pub fn send(producer: &BaseProducer, topic: &str, records: &[Send<'_>]) {
    for send in records {
        let mut record = BaseRecord::<str, str>::to(topic).partition(send.partition);
        record.key = send.key;
        record.payload = send.value;
        record.timestamp = send.timestamp;
        if !send.headers.is_empty() {
            let add = |headers: OwnedHeaders, (key, value): &(&str, Option<&str>)| {
                headers.insert(rdkafka::message::Header { key, value: *value })
            };
            record.headers = Some(send.headers.iter().fold(OwnedHeaders::new(), add));
        }
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(SOON).unwrap();
}

pub fn send_numbers(producer: &BaseProducer, topic: &str, partition: i32, numbers: impl IntoIterator<Item = i64>) {
    for number in numbers {
        let value = format!("{{\"a\": {number}}}");
        let mut record = BaseRecord::<(), str>::to(topic).partition(partition).payload(&value);
        while let Err((_, back)) = producer.send(record) {
            producer.poll(millis(10));
            record = back;
        }
    }
    producer.flush(SOON).unwrap();
}

pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]))
}

/// The numbers of a topic.
pub fn numbers(brokers: &str, topic: &str) -> Topics {
    Topics::new(brokers, [topic]).format(Format::Ndjson, schema())
}

/// Reads to the end.
pub fn collect(topics: Topics) -> Table {
    Stream::read_kafka(topics).unwrap().collect().unwrap()
}

/// What a read fails with.
pub fn failure(topics: Topics) -> String {
    match Stream::read_kafka(topics).and_then(|stream| stream.collect()) {
        Ok(table) => panic!("{} rows came", table.num_rows()),
        Err(error) => format!("{error} [{}, {}]", error.kind().code(), if error.is_retriable() { "retriable" } else { "final" }),
    }
}

/// Reads `topics` in the background; `before` is called with each batch before it counts as taken.
pub fn reading(topics: Topics, before: impl FnMut(&RecordBatch) + std::marker::Send + 'static) -> Live {
    Live::start(&Stream::read_kafka(topics).unwrap(), before)
}

/// Stops the query; returns all numbers in order of size.
pub fn sorted(live: Live) -> Vec<i64> {
    let mut all = live.stop();
    all.sort_unstable();
    all
}
