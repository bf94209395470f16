//! The sink: rows to records of a topic.

use std::fmt;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, PurgeConfig};

use super::client::{Context, reach};
use super::offsets::Offsets;
use super::positions::ANSWER;
use super::rows::{Layout, Rows};
use super::settings::{Settings, failed, is_retriable, not_made};
use super::token::Token;
use crate::connector::records::{Value, ValueWriter};
use crate::error::{Error, Result};
use crate::quality;
use crate::sink::Sink;

/// How long a full queue is waited for before deliveries are looked at again.
const ROOM: Duration = Duration::from_millis(50);

/// How long a record may be, and what that is by default, in bytes: librdkafka's setting.
const MAX_BYTES: &str = "message.max.bytes";
const DEFAULT_MAX_BYTES: usize = 1_000_000;

/// Writes rows to a topic of Apache Kafka, a record each; of [Arrow IPC](Value::ArrowIpc) as many in one as fit.
///
/// Records are acknowledged by all replicas in sync, and none is written twice by a retry (`enable.idempotence`). A commit waits until
/// every record is delivered. A full queue is waited for: rows are never dropped. Records of one key come to the partition that Java's
/// clients choose (murmur2), those without a key to any.
///
/// **Guarantee:** exactly once within a run with a [`transactional_id`](KafkaSink::transactional_id): what was written since the last
/// commit becomes visible to readers of committed records at once, or never; from one run to the next too if transactions hold the
/// [`offsets`](KafkaSink::offsets) of what is read. Without, at least once: records are visible as they are
/// delivered and an abort does not take them back.
pub struct KafkaSink {
    settings: Settings,
    topic: String,
    layout: Layout,
    transactional_id: Option<String>,
    offsets: Option<Offsets>,
    producer: Option<BaseProducer<Context>>,
    values: Option<ValueWriter>,
    in_transaction: bool,
}

impl KafkaSink {
    /// Writes to `topic` of the cluster that has `brokers` (`host:port`, several after commas).
    pub fn new(brokers: impl Into<String>, topic: impl Into<String>) -> KafkaSink {
        KafkaSink::of(Settings::new(brokers), topic)
    }

    /// Writes to `topic` of the cluster that the settings are of.
    pub(super) fn of(settings: Settings, topic: impl Into<String>) -> KafkaSink {
        KafkaSink {
            settings,
            topic: topic.into(),
            layout: Layout::default(),
            transactional_id: None,
            offsets: None,
            producer: None,
            values: None,
            in_transaction: false,
        }
    }

    /// A topic for rows that were [quarantined](crate::Query::quarantine): values are their bytes, and the headers `error`, `partition`
    /// and `offset` say why and where from.
    pub fn dead_letters(brokers: impl Into<String>, topic: impl Into<String>) -> KafkaSink {
        let [partition, offset, bytes, error] = quality::COLUMNS;
        KafkaSink::new(brokers, topic).value(Value::Column(bytes.to_owned())).headers([error, partition, offset])
    }

    /// What becomes the value. A schema is looked up or registered when the sink is opened; what a registry refuses is an error before
    /// anything is written.
    pub fn value(mut self, value: Value) -> KafkaSink {
        self.layout.value = value;
        self
    }

    /// What becomes the key: a column of text or bytes as it is, an integer of 32 or 64 bits as Java's serializers write it; several
    /// columns as a JSON object.
    pub fn key(mut self, columns: impl IntoIterator<Item = impl Into<String>>) -> KafkaSink {
        self.layout.key = columns.into_iter().map(Into::into).collect();
        self
    }

    /// What becomes headers: each column one of its name, as text; one that is a list of structs of name and value, as
    /// [`Column::Headers`](super::Column::Headers) is, each of those.
    pub fn headers(mut self, columns: impl IntoIterator<Item = impl Into<String>>) -> KafkaSink {
        self.layout.headers = columns.into_iter().map(Into::into).collect();
        self
    }

    /// The column of timestamps that is the records' time; it is that of writing without one.
    pub fn timestamp(mut self, column: impl Into<String>) -> KafkaSink {
        self.layout.timestamp = Some(column.into());
        self
    }

    /// Writes in transactions, from commit to commit, under a name of its own among the programs that write to the cluster. A program that
    /// takes the same name later fences this one off, which then fails for good.
    pub fn transactional_id(mut self, id: impl Into<String>) -> KafkaSink {
        self.transactional_id = Some(id.into());
        self
    }

    /// Commits the offsets of a [read](super::Kafka::offsets) in the same transactions: after a crash nothing is read whose results are
    /// there, and all else is read again. Needs a [`transactional_id`](KafkaSink::transactional_id).
    pub fn offsets(mut self, offsets: &Offsets) -> KafkaSink {
        self.offsets = Some(offsets.clone());
        self
    }

    /// A setting under the name that librdkafka has for it, as [`Kafka::set`](super::Kafka::set): `compression.type`, `linger.ms`,
    /// `security.protocol` and so on.
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> KafkaSink {
        self.settings.set(name, value);
        self
    }

    /// Shows the cluster tokens that `make` makes, as [`Kafka::oauth_token`](super::Kafka::oauth_token); it is called by the thread that
    /// writes.
    pub fn oauth_token(mut self, make: impl Fn() -> Result<Token> + Send + Sync + 'static) -> KafkaSink {
        self.settings.oauth_token(make);
        self
    }

    /// The producer, connected.
    fn connect(&self) -> Result<BaseProducer<Context>> {
        let defaults = [("client.id", "thalweg"), ("enable.idempotence", "true"), ("partitioner", "murmur2_random")];
        let mut fixed = vec![("delivery.report.only.error", "true")];
        fixed.extend(self.transactional_id.as_deref().map(|id| ("transactional.id", id)));
        let config = self.settings.client(&defaults, &fixed)?;
        let producer: BaseProducer<Context> = config.create_with_context(Context::new(&self.settings)).map_err(not_made)?;
        let wait = self.settings.millis("socket.timeout.ms", ANSWER);
        reach(producer.client(), &|| producer.poll(Duration::ZERO), &self.topic, wait, &|| false)?;
        if self.transactional_id.is_some() {
            producer.init_transactions(wait).map_err(|error| self.of_transaction("cannot begin", error))?;
        }
        Ok(producer)
    }

    /// Sends one record, waiting for room.
    fn send(&self, producer: &BaseProducer<Context>, rows: &Rows, row: usize) -> Result<()> {
        let mut record = BaseRecord::<[u8], [u8]>::to(&self.topic);
        (record.key, record.payload) = (rows.key(row), rows.value(row));
        (record.timestamp, record.headers) = (rows.timestamp(row), rows.headers(row));
        loop {
            match producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(Code::QueueFull), back)) => {
                    record = back;
                    producer.poll(ROOM);
                    self.check(producer)?;
                }
                Err((error, _)) => {
                    let size = rows.value(row).map_or(0, <[u8]>::len);
                    return Err(failed(format!("a record of {size} bytes cannot be sent to topic `{}`", self.topic), error));
                }
            }
        }
    }

    /// Whether every record so far was delivered or still may be.
    fn check(&self, producer: &BaseProducer<Context>) -> Result<()> {
        if let Some((code, why)) = producer.client().fatal_error() {
            return Err(self.fatal(code, &why));
        }
        if let Some(error) = producer.context().take_refusal() {
            return Err(error.context(format!("writing to topic `{}`", self.topic)));
        }
        match producer.context().undelivered() {
            None => Ok(()),
            Some(code) => {
                Err(Error::connector(format!("a record was not delivered to topic `{}`: {code}", self.topic))
                    .retriable_if(is_retriable(code)))
            }
        }
    }

    fn fatal(&self, code: Code, why: &str) -> Error {
        match (code, &self.transactional_id) {
            (Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch, Some(id)) => Error::connector(format!(
                "another program writes under the transactional id `{id}` now, and this one was fenced off; run only one, or give each its own"
            )),
            _ => Error::connector(format!("writing to topic `{}` has ended for good: {code}: {why}", self.topic)),
        }
    }

    /// An error of a transaction, by what can be done about it.
    fn of_transaction(&self, doing: &str, error: KafkaError) -> Error {
        match &error {
            KafkaError::Transaction(inner) if inner.is_fatal() => self.fatal(inner.code(), &inner.string()),
            KafkaError::Transaction(inner) => {
                let retriable = inner.is_retriable() || inner.txn_requires_abort();
                Error::connector(format!("{doing} a transaction of topic `{}`", self.topic)).with_source(error).retriable_if(retriable)
            }
            _ => failed(format!("{doing} a transaction of topic `{}`", self.topic), error),
        }
    }

    /// Begins a transaction, if there are to be any and none is under way.
    fn begin_transaction(&mut self) -> Result<()> {
        let producer = self.producer.as_ref().ok_or_else(not_open)?;
        if self.transactional_id.is_some() && !self.in_transaction {
            producer.begin_transaction().map_err(|error| self.of_transaction("cannot begin", error))?;
            self.in_transaction = true;
        }
        Ok(())
    }

    /// Tries a call of the transaction until it succeeds or cannot.
    fn until_done(&self, doing: &str, call: impl Fn(&BaseProducer<Context>) -> KafkaResult<()>) -> Result<()> {
        let producer = self.producer.as_ref().ok_or_else(not_open)?;
        loop {
            match call(producer) {
                Ok(()) => return Ok(()),
                Err(KafkaError::Transaction(error)) if error.is_retriable() => self.check(producer)?,
                Err(error) => return Err(self.of_transaction(doing, error)),
            }
        }
    }

    /// Waits until every record is delivered.
    fn flush(&self, producer: &BaseProducer<Context>) -> Result<()> {
        // Nothing may be under way, and a token be due.
        producer.poll(Duration::ZERO);
        loop {
            match producer.flush(ROOM) {
                Ok(()) => return self.check(producer),
                // A record that cannot be delivered fails after `message.timeout.ms`, so that this ends.
                Err(KafkaError::Flush(Code::OperationTimedOut)) => self.check(producer)?,
                Err(error) => return Err(failed(format!("records cannot be delivered to topic `{}`", self.topic), error)),
            }
        }
    }
}

impl Sink for KafkaSink {
    fn open(&mut self, schema: &SchemaRef) -> Result<()> {
        if self.offsets.is_some() && self.transactional_id.is_none() {
            return Err(Error::config("offsets are committed in transactions; give the sink of Kafka a `transactional_id`"));
        }
        // Before others who write under the same transactional id are fenced off.
        self.values = Some(self.layout.open(schema, &self.topic)?);
        self.producer = Some(self.connect().map_err(|error| error.context(format!("Kafka at {}", self.settings.brokers())))?);
        Ok(())
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let max_bytes = self.settings.get(MAX_BYTES).and_then(|bytes| bytes.parse().ok()).unwrap_or(DEFAULT_MAX_BYTES);
        let rows = self.layout.rows(batch, self.values.as_mut().ok_or_else(not_open)?, max_bytes)?;
        if rows.len() > 0 {
            self.begin_transaction()?;
        }
        let producer = self.producer.as_ref().ok_or_else(not_open)?;
        (0..rows.len()).try_for_each(|row| self.send(producer, &rows, row))?;
        producer.poll(Duration::ZERO);
        self.check(producer)
    }

    fn commit(&mut self) -> Result<()> {
        self.flush(self.producer.as_ref().ok_or_else(not_open)?)?;
        if let Some((offsets, group)) = self.offsets.as_ref().map_or(Ok(None), Offsets::take)? {
            self.begin_transaction()?;
            self.until_done("cannot put offsets into", |producer| producer.send_offsets_to_transaction(&offsets, &group, ANSWER))?;
        }
        if self.in_transaction {
            self.until_done("cannot commit", |producer| producer.commit_transaction(ANSWER))?;
            self.in_transaction = false;
        }
        Ok(())
    }

    fn abort(&mut self) {
        let Some(producer) = self.producer.take() else { return };
        producer.purge(PurgeConfig::default().queue().inflight());
        if std::mem::take(&mut self.in_transaction)
            && let Err(error) = producer.abort_transaction(ANSWER)
        {
            tracing::warn!(%error, topic = self.topic, "a transaction cannot be aborted; the broker does so after transaction.timeout.ms");
        }
    }
}

impl fmt::Debug for KafkaSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSink")
            .field("settings", &self.settings)
            .field("topic", &self.topic)
            .field("layout", &self.layout)
            .finish_non_exhaustive()
    }
}

fn not_open() -> Error {
    Error::config("the sink is not open: call `open` first, and again after `abort`")
}
