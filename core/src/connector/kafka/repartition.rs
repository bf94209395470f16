//! Sharing rows out by key, by way of a topic.

use std::time::Duration;

use arrow::datatypes::SchemaRef;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode as Code;

use super::client::{Context, now, reach};
use super::positions::ANSWER;
use super::settings::{Settings, failed, is_retriable, not_made};
use super::sink::KafkaSink;
use super::token::Token;
use super::{Kafka, Topics};
use crate::error::{Error, Result};
use crate::format::Format;

/// Partitions of a topic that is made here, unless told otherwise.
const PARTITIONS: i32 = 12;

/// A topic by which rows are shared out by key among programs: those that read from anywhere write to it, and every member of a group that
/// reads it has all rows of its keys, and state for these alone. What Kafka Streams calls a repartition topic: rows come to the partition
/// that Java's clients choose for the key (murmur2).
///
/// ```no_run
/// use thalweg::connector::kafka::{Kafka, Repartition};
/// use thalweg::{Query, Stream, count, tumbling, secs, event_time};
/// # fn run(clicks: Stream) -> thalweg::Result<()> {
/// let by_user = Repartition::new("localhost:9092", "clicks-by-user", ["user"]).partitions(24);
/// by_user.create()?;
/// let schema = clicks.schema()?;
/// let write = Query::new().sink(&clicks, by_user.sink()).start()?; // in every program that has clicks
/// let mine = Stream::read_kafka(by_user.source("counters", schema))?; // in every program that counts
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Repartition {
    settings: Settings,
    topic: String,
    key: Vec<String>,
    partitions: i32,
    replication: Option<i32>,
}

impl Repartition {
    /// By the columns `key` of rows, over `topic` of the cluster that has `brokers`.
    pub fn new(brokers: impl Into<String>, topic: impl Into<String>, key: impl IntoIterator<Item = impl Into<String>>) -> Repartition {
        Repartition {
            settings: Settings::new(brokers),
            topic: topic.into(),
            key: key.into_iter().map(Into::into).collect(),
            partitions: PARTITIONS,
            replication: None,
        }
    }

    /// How many partitions the topic has if it is made here, and with them how many programs at most have a share: 12 unless told otherwise.
    /// It cannot be changed later without moving keys.
    pub fn partitions(mut self, partitions: i32) -> Repartition {
        self.partitions = partitions;
        self
    }

    /// On how many brokers each partition is kept, if the topic is made here; the cluster's default unless told otherwise.
    pub fn replication(mut self, brokers: i32) -> Repartition {
        self.replication = Some(brokers);
        self
    }

    /// A setting under the name that librdkafka has for it, as [`Kafka::set`]; for all clients of the topic.
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> Repartition {
        self.settings.set(name, value);
        self
    }

    /// Shows the cluster tokens that `make` makes, as [`Kafka::oauth_token`]; for all clients of the topic.
    pub fn oauth_token(mut self, make: impl Fn() -> Result<Token> + Send + Sync + 'static) -> Repartition {
        self.settings.oauth_token(make);
        self
    }

    /// Makes the topic, if it is not there. With tokens of a [function](Repartition::oauth_token) it must be there and is only looked at:
    /// librdkafka's client that makes topics does not ask for them.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if it is there with another number of partitions, by which keys would be elsewhere;
    /// [`Kind::Connector`](crate::error::Kind::Connector) if the cluster does not make it.
    pub fn create(&self) -> Result<()> {
        let what = || format!("cannot make topic `{}` at {}", self.topic, self.settings.brokers());
        let wait = self.settings.millis("socket.timeout.ms", ANSWER);
        if self.settings.tokens().is_some() {
            return self.check(wait);
        }
        let config = self.settings.client(&[("client.id", "thalweg")], &[])?;
        let admin: AdminClient<DefaultClientContext> = config.create().map_err(not_made)?;
        let replication = TopicReplication::Fixed(self.replication.unwrap_or(-1));
        let topic = NewTopic::new(&self.topic, self.partitions, replication);
        let options = AdminOptions::new().operation_timeout(Some(wait)).request_timeout(Some(wait));
        let made = now(admin.create_topics([&topic], &options)).map_err(|error| failed(what(), error))?;
        match made.into_iter().next() {
            Some(Err((_, Code::TopicAlreadyExists))) => self.check(wait),
            Some(Err((_, code))) => Err(Error::connector(format!("{}: {code}", what())).retriable_if(is_retriable(code))),
            _ => Ok(()),
        }
    }

    /// Whether the topic has as many partitions as it should.
    fn check(&self, wait: Duration) -> Result<()> {
        let what = || format!("cannot look at topic `{}` at {}", self.topic, self.settings.brokers());
        let client = Context::consumer(&self.settings.client(&[("client.id", "thalweg")], &[])?, &self.settings)?;
        let poll = || drop(client.poll(Duration::ZERO));
        reach(client.client(), &poll, &self.topic, wait, &|| false).map_err(|error| error.context(what()))?;
        let metadata = client.fetch_metadata(Some(&self.topic), wait).map_err(|error| failed(what(), error))?;
        let has = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
        match has {
            0 => Err(Error::connector(format!(
                "there is no topic `{}` at {}; make it with {} partitions by Kafka's own tools",
                self.topic,
                self.settings.brokers(),
                self.partitions
            ))),
            has if has == self.partitions as usize => Ok(()),
            has => Err(Error::config(format!(
                "topic `{}` has {has} partitions, not {}; keys would be in others than before: use that number, or another topic",
                self.topic, self.partitions
            ))),
        }
    }

    /// Where rows go: all columns as a JSON object behind the key.
    pub fn sink(&self) -> KafkaSink {
        KafkaSink::of(self.settings.clone(), &self.topic).key(&self.key)
    }

    /// The rows of the keys that are dealt to this member of `group`, with the columns of `schema`.
    pub fn source(&self, group: impl Into<String>, schema: SchemaRef) -> Kafka {
        Kafka::of(self.settings.clone(), Topics::Named(vec![self.topic.clone()])).group(group).format(Format::Ndjson, schema)
    }
}
