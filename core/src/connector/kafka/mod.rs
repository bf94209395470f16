//! Apache Kafka as a source and a sink, by librdkafka.
//!
//! ```no_run
//! use thalweg::connector::kafka::{Column, End, Kafka, Start};
//! use thalweg::{Format, Stream};
//! # fn run(schema: arrow::datatypes::SchemaRef) -> thalweg::Result<()> {
//! let payments = Kafka::new("localhost:9092", ["payments"])
//!     .format(Format::Ndjson, schema)
//!     .metadata([Column::Key, Column::Offset])
//!     .start(Start::Earliest)
//!     .end(End::Latest); // what is there now, then the stream ends
//! println!("{}", Stream::read_kafka(payments)?.collect()?);
//! # Ok(())
//! # }
//! ```
//!
//! # Who reads what
//! With a [`group`](Kafka::group) and no [`end`](Kafka::end) the source joins the group: Kafka deals out the partitions and takes them
//! away again. Without either it reads all partitions of its topics by itself; so does a bounded read, in the name of its group.
//! New partitions and new topics of a pattern are noticed within `topic.metadata.refresh.interval.ms`, five minutes unless it is
//! [set](Kafka::set), and are read from their beginning, unless the group knows better.
//!
//! # From where
//! What the group has committed comes first, always; [`start`](Kafka::start) is for partitions of which it has committed nothing. To read
//! anew, read without a group, in another one, or reset it with Kafka's own tools.
//!
//! # What is committed, and when
//! Offsets are committed to the group after the sinks have committed the results ([`Config::commit_every`](crate::Config::commit_every)),
//! and before a partition is handed to another member. **Steps with state** (windows, `dedup`, `detect`, `process`) hold rows, or what they
//! made of them, in memory that a crash takes along: a query with such steps commits at its end alone, when it has been stopped or has read
//! its input to the end, so that after a crash all rows since then are read again.
//!
//! **Guarantee:** at least once. No row is lost; rows whose results were not committed yet come again after a crash, and those of a
//! partition that was lost before its results could be committed come to the next member too. **Exactly once**, from topic to topic of one
//! cluster, if the sink commits the [`offsets`](Kafka::offsets) in its transactions and no step has state; with state, a query that was
//! stopped goes on exactly once, and one that was killed reads and writes again what it had since it began.
//!
//! # Records
//! One record is one frame: a JSON object, lines of CSV without a header, an Arrow IPC stream, an Avro record, a message of protocol buffers, or the
//! bytes as they are. What does
//! not decode goes to quarantine with its bytes, its partition and its offset. Records without a value (tombstones) are rows of nulls
//! where [`metadata`](Kafka::metadata) is asked for, and are else left out and counted
//! ([`Metrics::null_values`](crate::Metrics::null_values)). Transactions that were not committed are not read, unless `isolation.level`
//! is set to `read_uncommitted`.
//!
//! What is [written](KafkaSink) is NDJSON, CSV, Arrow IPC, Avro, protocol buffers, or JSON behind the number of its schema, a record for
//! each row but of Arrow IPC; or one column as it is: see [`Value`].
//!
//! librdkafka owns its sockets, so io_uring does not carry this source. It polls on a thread of its own, whatever the pipeline is busy
//! with, so that a slow step does not cost the membership; while the pipeline has no room, partitions are paused.

mod assignment;
mod client;
mod columns;
mod event;
mod extras;
mod offsets;
mod poller;
mod positions;
mod repartition;
mod rows;
mod settings;
mod sink;
mod source;
mod token;

use std::fmt;

use arrow::datatypes::{DataType, SchemaRef};

pub use self::columns::Column;
use self::columns::Columns;
pub use self::offsets::Offsets;
use self::poller::Reading;
pub use self::repartition::Repartition;
use self::settings::Settings;
pub use self::sink::KafkaSink;
use self::source::KafkaSource;
pub use self::token::Token;
use crate::config::Config;
pub use crate::connector::records::Value;
use crate::connector::records::{Encoding, Gathered, names_differ};
use crate::error::{Error, Result};
use crate::format::Format;
use crate::source::{OpenSource, Source};
use crate::time::SharedClock;

/// Where a read begins in partitions of which its group, if it has one, has committed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Start {
    /// At the oldest record.
    #[default]
    Earliest,
    /// Behind the newest record there is now.
    Latest,
    /// Where the group has committed; a partition without that is an error.
    Committed,
    /// At the first record of this time or later, in milliseconds since the Unix epoch; behind the newest if there is none.
    Timestamp(i64),
    /// At these offsets, by topic and partition; a partition that is not named is an error.
    Offsets(Vec<(String, i32, i64)>),
}

/// Where a bounded read ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Behind the newest record there is when it begins.
    Latest,
    /// Before the first record of this time or later, in milliseconds since the Unix epoch; behind the newest if there is none.
    Timestamp(i64),
    /// Before these offsets, by topic and partition; a partition that is not named is an error.
    Offsets(Vec<(String, i32, i64)>),
}

/// What is done when the broker does not have an offset that was to be read: it has deleted the record (retention), or the log is shorter
/// than it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OutOfRange {
    /// The run ends with an error that names the partition, the offset and the choices.
    #[default]
    Error,
    /// It goes on with the oldest record there is; the gap is logged, and counted where records are missing
    /// ([`Metrics::skipped_records`](crate::Metrics::skipped_records)).
    Earliest,
    /// It goes on behind the newest record; the gap is logged and counted likewise.
    Latest,
}

/// What is read of a cluster.
#[derive(Debug, Clone)]
pub(super) enum Topics {
    /// Names, or patterns that begin with `^`.
    Named(Vec<String>),
    /// Certain partitions.
    Partitions(Vec<(String, i32)>),
}

/// Topics of Apache Kafka to read; see the [module documentation](self).
#[derive(Clone)]
pub struct Kafka {
    settings: Settings,
    topics: Topics,
    group: Option<String>,
    start: Start,
    end: Option<End>,
    on_out_of_range: OutOfRange,
    values: Encoding,
    metadata: Vec<Column>,
    offsets: Option<Offsets>,
}

impl Kafka {
    /// The records of `topics` of the cluster that has `brokers` (`host:port`, several after commas). A topic that begins with `^` is a
    /// regular expression that names must match from their beginning. Values come as they are, in the column `value` of type binary, unless a
    /// [`format`](Kafka::format) is given.
    pub fn new(brokers: impl Into<String>, topics: impl IntoIterator<Item = impl Into<String>>) -> Kafka {
        Kafka::of(Settings::new(brokers), Topics::Named(topics.into_iter().map(Into::into).collect()))
    }

    /// The records of certain partitions, as [`Kafka::new`]. They are read without being a member of the group, if one is named.
    pub fn partitions(brokers: impl Into<String>, partitions: impl IntoIterator<Item = (impl Into<String>, i32)>) -> Kafka {
        Kafka::of(
            Settings::new(brokers),
            Topics::Partitions(partitions.into_iter().map(|(topic, partition)| (topic.into(), partition)).collect()),
        )
    }

    fn of(settings: Settings, topics: Topics) -> Kafka {
        Kafka {
            settings,
            topics,
            group: None,
            start: Start::default(),
            end: None,
            on_out_of_range: OutOfRange::default(),
            values: Encoding::Raw(DataType::Binary),
            metadata: Vec::new(),
            offsets: None,
        }
    }

    /// Values are in `format`, with the columns of `schema`.
    pub fn format(mut self, format: Format, schema: SchemaRef) -> Kafka {
        self.values = Encoding::formatted(format, schema);
        self
    }

    /// Values are text: the column `value` is a string. What is not UTF-8 goes to quarantine.
    pub fn text(mut self) -> Kafka {
        self.values = Encoding::Raw(DataType::Utf8);
        self
    }

    /// What else of each record becomes a column, after those of its value.
    pub fn metadata(mut self, columns: impl IntoIterator<Item = Column>) -> Kafka {
        self.metadata = columns.into_iter().collect();
        self
    }

    /// The consumer group that offsets are committed to and, if the read is unbounded, whose member the source becomes.
    pub fn group(mut self, group: impl Into<String>) -> Kafka {
        self.group = Some(group.into());
        self
    }

    /// Leaves the commit of offsets to the transactions of a [`KafkaSink`] that has the same `offsets`: results and offsets are committed
    /// together, or neither. Needs a [`group`](Kafka::group).
    pub fn offsets(mut self, offsets: &Offsets) -> Kafka {
        self.offsets = Some(offsets.clone());
        self
    }

    /// Where to begin in partitions of which the group has committed nothing, or if there is no group.
    pub fn start(mut self, start: Start) -> Kafka {
        self.start = start;
        self
    }

    /// Makes the read bounded. The partitions are those there are when it begins.
    pub fn end(mut self, end: End) -> Kafka {
        self.end = Some(end);
        self
    }

    /// What to do when the broker does not have an offset any more.
    pub fn on_out_of_range(mut self, policy: OutOfRange) -> Kafka {
        self.on_out_of_range = policy;
        self
    }

    /// A setting under the name that librdkafka has for it: `group.protocol`, `group.instance.id`, `partition.assignment.strategy`,
    /// `isolation.level`, `security.protocol`, `sasl.mechanisms`, `sasl.username`, `sasl.password`, `ssl.ca.location` and so on. A value
    /// `env:NAME` is the environment variable, `file:PATH` what the file holds. Values are never shown or logged. The time that
    /// the cluster has to answer at the beginning is `socket.timeout.ms`, ten seconds unless it is set.
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> Kafka {
        self.settings.set(name, value);
        self
    }

    /// Shows the cluster tokens that `make` makes (SASL OAUTHBEARER): of an OpenID provider, of AWS for MSK with IAM, of Azure or Google. It
    /// is called when the read begins and again when four fifths of a token's life have passed, by the thread that polls. An error
    /// of it ends the read if it is the first or not [retriable](Error::is_retriable); else it is logged, and asked again ten seconds later.
    /// `sasl.mechanisms` is OAUTHBEARER and `security.protocol` sasl_ssl, unless the latter is [set](Kafka::set) to sasl_plaintext.
    pub fn oauth_token(mut self, make: impl Fn() -> Result<Token> + Send + Sync + 'static) -> Kafka {
        self.settings.oauth_token(make);
        self
    }

    /// Checks what can be checked without the cluster.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if settings contradict each other or two columns have one name.
    pub(crate) fn checked(self) -> Result<Kafka> {
        let empty = match &self.topics {
            Topics::Named(topics) => topics.is_empty(),
            Topics::Partitions(partitions) => partitions.is_empty(),
        };
        if empty {
            return Err(Error::config("no topic is named that could be read from Kafka"));
        }
        if self.start == Start::Committed && self.group.is_none() {
            return Err(Error::config("`start` is where a group has committed, and no `group` is named; name one or start elsewhere"));
        }
        if self.offsets.is_some() && self.group.is_none() {
            return Err(Error::config("offsets are committed to a group, and no `group` is named"));
        }
        names_differ(&self.schema())?;
        self.reading().settings(&self.settings)?.create_native_config().map_err(settings::not_made)?;
        Ok(self)
    }

    fn columns(&self) -> Columns {
        Columns::new(&self.metadata)
    }

    fn reading(&self) -> Reading {
        Reading {
            topics: self.topics.clone(),
            group: self.group.clone(),
            start: self.start.clone(),
            end: self.end.clone(),
            on_out_of_range: self.on_out_of_range,
        }
    }
}

impl OpenSource for Kafka {
    fn schema(&self) -> SchemaRef {
        self.columns().after(&self.values.schema())
    }

    fn describe(&self) -> String {
        let group = self.group.as_ref().map(|group| format!(", group {group}")).unwrap_or_default();
        format!("read_kafka({}, {}{group}), {}", self.settings.brokers(), self.topics, self.values)
    }

    fn open(&self, config: &Config, clock: &SharedClock) -> Result<Box<dyn Source>> {
        let gathered = Gathered::new(self.schema(), self.values.values(config)?, config, clock);
        let reading = self.reading();
        let consumer = client::Context::consumer(&reading.settings(&self.settings)?, &self.settings)?;
        Ok(Box::new(KafkaSource::start(
            consumer,
            reading,
            &self.settings,
            (gathered, self.columns()),
            self.offsets.clone(),
            (config, clock),
        )?))
    }
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kafka")
            .field("settings", &self.settings)
            .field("topics", &self.topics)
            .field("group", &self.group)
            .field("start", &self.start)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Topics::Named(topics) => f.write_str(&topics.join(", ")),
            Topics::Partitions(partitions) => {
                let named: Vec<String> = partitions.iter().map(|(topic, number)| name_of(topic, *number)).collect();
                f.write_str(&named.join(", "))
            }
        }
    }
}

/// What users call a partition.
fn name_of(topic: &str, number: i32) -> String {
    format!("{topic}[{number}]")
}
