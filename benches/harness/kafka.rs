//! Topics of Apache Kafka to Arrow columns and back, beside loops around librdkafka that do nothing with what they move.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use thalweg::connector::kafka::{End, Kafka as Topics, KafkaSink};
use thalweg::{Config, Format, Query, Stream};

use crate::answer::{Answer, Collector};
use crate::contest::{Contender, Contest, Run, Work};
use crate::peer::{Peer, Question};
use crate::report::Report;
use crate::{Common, Result, machine};

#[allow(dead_code)] // The tests stop and start brokers, the harness does not.
#[path = "../../tests/support/kafka.rs"]
mod service;
use service::Kafka;

/// Records per event in memory: a broker takes longer.
const SHARE: usize = 20;

/// Rows of a batch to write.
const BATCH_ROWS: usize = 16_384;

/// The longest wait for the broker.
const WAIT: Duration = Duration::from_secs(60);

fn schema() -> SchemaRef {
    let field = |name, kind| Field::new(name, kind, false);
    Arc::new(Schema::new(vec![
        field("ts", DataType::Int64),
        field("key", DataType::Int64),
        field("value", DataType::Float64),
        field("user", DataType::Utf8),
        field("page", DataType::Utf8),
    ]))
}

/// Events of a hundred bytes as JSON.
fn events(rows: usize) -> Result<Vec<RecordBatch>> {
    let batch = |start: usize| {
        let numbers = || (start..(start + BATCH_ROWS).min(rows)).map(|row| row as i64);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(numbers().map(|row| 1_700_000_040_000 + row / 100))),
            Arc::new(Int64Array::from_iter_values(numbers().map(|row| row * 7_919 % 10_000))),
            Arc::new(Float64Array::from_iter_values(numbers().map(|row| (row * 104_729 % 1_000_003) as f64 / 1e4))),
            Arc::new(StringArray::from_iter_values(numbers().map(|row| format!("user-{:08}", row * 15_485_863 % 100_000_000)))),
            Arc::new(StringArray::from_iter_values(numbers().map(|row| format!("/shop/checkout/{}", row % 10)))),
        ];
        RecordBatch::try_new(schema(), columns)
    };
    (0..rows).step_by(BATCH_ROWS).map(|start| Ok(batch(start)?)).collect()
}

fn lines(batches: &[RecordBatch]) -> Result<Vec<Vec<u8>>> {
    let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
    batches.iter().try_for_each(|batch| writer.write(batch))?;
    writer.finish()?;
    Ok(writer.into_inner().split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect())
}

/// Measures reading and writing on a broker of its own; the processor is shared with it.
pub fn measure(common: &Common, report: &mut Report) -> Result<()> {
    machine::unpin();
    let kafka = Kafka::start()?;
    let rows = (common.rows / SHARE).max(1);
    let batches = events(rows)?;
    let lines = lines(&batches)?;
    let bytes = lines.iter().map(Vec::len).sum::<usize>() / rows;
    kafka.ask("create events 1")?;
    produce(kafka.address("bootstrap"), "events", &lines)?;
    let mut python = match Peer::free("kafka_loops.py", &common.python, &[kafka.address("bootstrap")]) {
        Ok(peer) => Some(peer),
        Err(why) => {
            eprintln!("{why}");
            None
        }
    };
    let name = python.as_ref().map(|peer| peer.name.clone()).unwrap_or_default();
    reading(common, report, &kafka, (rows, bytes), python.as_mut().map(|peer| (name.as_str(), peer)))?;
    writing(common, report, &kafka, (&batches, &lines), python.as_mut().map(|peer| (name.as_str(), peer)))
}

type Named<'a> = Option<(&'a str, &'a mut Peer)>;

fn reading(common: &Common, report: &mut Report, kafka: &Kafka, (rows, bytes): (usize, usize), python: Named<'_>) -> Result<()> {
    let name = "Kafka to columns, NDJSON of 100 B beside a loop that polls and counts";
    if !common.wants(name) {
        return Ok(());
    }
    let bootstrap = kafka.address("bootstrap");
    let topics = Topics::new(bootstrap, ["events"]).format(Format::Ndjson, schema()).end(End::Latest);
    let stream = Stream::read_kafka(topics)?;
    let expected = Answer::of_rows(rows as u64);
    let (ours, bare) = (Cores::default(), Cores::default());
    let mut contenders = vec![
        Contender::new("Thalweg", expected, || {
            ours.time(|| {
                let collector = Collector::default();
                Query::new().config(Config::default()).sink(&stream, collector.clone()).run()?;
                Ok(collector.answer())
            })
        }),
        Contender::new("poll loop", expected, || bare.time(|| count(bootstrap, "events", rows, &[]))),
        Contender::new("poll loop that waits no longer than we do", expected, || {
            Cores::default().time(|| count(bootstrap, "events", rows, &ALIKE))
        }),
    ];
    if let Some((name, peer)) = python {
        contenders
            .push(Contender::new(name, expected, move || peer.ask(&Question { query: "read", key: "events", ..Question::default() })));
    }
    let mut contest = Contest::hold(name, Work::rows(rows), common, contenders)?;
    contest.notes.push(format!("{bytes} bytes a record, one partition, uncompressed, the broker on the same processor"));
    contest.notes.push(format!(
        "seconds on the cores per million records: Thalweg {ours}, poll loop {bare}",
        ours = ours.per(rows),
        bare = bare.per(rows)
    ));
    let goals = [("poll loop", 0.9), ("poll loop that", 0.9), ("confluent", 5.0)];
    report.add(goals.into_iter().fold(contest, |contest, (peer, least)| contest.goal("Thalweg", peer, least)));
    Ok(())
}

fn writing(
    common: &Common,
    report: &mut Report,
    kafka: &Kafka,
    (batches, lines): (&[RecordBatch], &[Vec<u8>]),
    python: Named<'_>,
) -> Result<()> {
    let name = "columns to Kafka, NDJSON of 100 B, idempotent, beside a loop that sends";
    if !common.wants(name) {
        return Ok(());
    }
    let (bootstrap, rows) = (kafka.address("bootstrap"), lines.len());
    for topic in ["ours", "bare", "python"] {
        kafka.ask(&format!("create {topic} 1 retention.bytes=100000000 segment.bytes=50000000"))?;
    }
    let stream = Stream::from_batches(schema(), batches.to_vec());
    let expected = Answer::of_rows(rows as u64);
    let (ours, bare) = (Cores::default(), Cores::default());
    let written = |topic: &str, write: &dyn Fn() -> Result<()>| {
        let before = newest(bootstrap, topic)?;
        write()?;
        Ok(Answer::of_rows((newest(bootstrap, topic)? - before) as u64))
    };
    let mut contenders = vec![
        Contender::new("Thalweg", expected, || {
            ours.time(|| {
                written("ours", &|| {
                    let sink = KafkaSink::new(bootstrap, "ours");
                    Query::new().sink(&stream, sink).run().map(drop).map_err(Into::into)
                })
            })
        }),
        Contender::new("send loop", expected, || bare.time(|| written("bare", &|| produce(bootstrap, "bare", lines)))),
    ];
    if let Some((name, peer)) = python {
        let question = Question { query: "write", key: "python", size: rows as i64, ..Question::default() };
        contenders.push(Contender::new(name, expected, move || peer.ask(&question)));
    }
    let mut contest = Contest::hold(name, Work::rows(rows), common, contenders)?;
    contest.notes.push(format!(
        "seconds on the cores per million records: Thalweg {ours}, send loop {bare}",
        ours = ours.per(rows),
        bare = bare.per(rows)
    ));
    report.add(contest.goal("Thalweg", "send loop", 0.9));
    Ok(())
}

/// Seconds that this process has spent on all cores, run by run.
#[derive(Default)]
struct Cores(std::cell::RefCell<Vec<f64>>);

impl Cores {
    fn time(&self, work: impl FnOnce() -> Result<Answer>) -> Result<Run> {
        let (start, cores) = (Instant::now(), machine::process_seconds());
        let answer = work()?;
        let seconds = start.elapsed().as_secs_f64();
        self.0.borrow_mut().push(machine::process_seconds() - cores);
        Ok(Run { seconds, cpu_seconds: None, answer })
    }

    /// The median, per million records, in words.
    fn per(&self, rows: usize) -> String {
        format!("{:.2}", crate::contest::median(&self.0.borrow()) / rows as f64 * 1e6)
    }
}

/// What the source of Kafka sets that a loop may gain by: milliseconds without a fetch when the client's queue was full, of which the default
/// is 1,000.
const ALIKE: [(&str, &str); 1] = [("fetch.queue.backoff.ms", "10")];

/// Reads records and counts them.
fn count(bootstrap: &str, topic: &str, rows: usize, settings: &[(&str, &str)]) -> Result<Answer> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("group.id", "bench");
    for (name, value) in settings {
        config.set(*name, *value);
    }
    let consumer: BaseConsumer = config.create()?;
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, 0, Offset::Beginning)?;
    consumer.assign(&assignment)?;
    let mut records = 0;
    while records < rows {
        let message = consumer.poll(WAIT).ok_or("the broker has fallen silent")??;
        records += usize::from(message.payload().is_some());
    }
    Ok(Answer::of_rows(records as u64))
}

/// Sends records and waits until all are delivered.
fn produce(bootstrap: &str, topic: &str, lines: &[Vec<u8>]) -> Result<()> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("enable.idempotence", "true").set("delivery.report.only.error", "true");
    let producer: BaseProducer = config.create()?;
    for line in lines {
        let mut record = BaseRecord::<(), [u8]>::to(topic).payload(line);
        while let Err((error, back)) = producer.send(record) {
            if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                return Err(error.into());
            }
            producer.poll(Duration::from_millis(50));
            record = back;
        }
    }
    Ok(producer.flush(WAIT)?)
}

/// The offset after the newest record.
fn newest(bootstrap: &str, topic: &str) -> Result<i64> {
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
    Ok(consumer.fetch_watermarks(topic, 0, WAIT)?.1)
}
