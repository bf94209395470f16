//! Amazon Kinesis Data Streams as a source and a sink, by AWS's own client.
//!
//! ```no_run
//! use thalweg::connector::kinesis::{Column, End, Kinesis, Start};
//! use thalweg::{Format, Stream};
//! # fn run(schema: arrow::datatypes::SchemaRef) -> thalweg::Result<()> {
//! let payments = Kinesis::new("payments")
//!     .set("region", "eu-west-1")
//!     .format(Format::Ndjson, schema)
//!     .metadata([Column::PartitionKey, Column::Timestamp])
//!     .start(Start::TrimHorizon)
//!     .end(End::Latest); // what is there now, then the stream ends
//! println!("{}", Stream::read_kinesis(payments)?.collect()?);
//! # Ok(())
//! # }
//! ```
//!
//! # Settings
//! | name | what | if not set |
//! |---|---|---|
//! | `region` | the stream's region | that of its ARN, or the default chain's: `AWS_REGION`, the profile's, the machine's |
//! | `profile` | a profile of `~/.aws` | `AWS_PROFILE`, else `default` |
//! | `endpoint_url` | where the service answers, if it is not AWS | `AWS_ENDPOINT_URL`, else AWS |
//! | `dynamodb_endpoint_url` | where leases are kept, if it is elsewhere | `endpoint_url` |
//! | `access_key`, `secret_key`, `session_token` | the credentials | the default chain: the environment, a profile, single sign-on, a web identity, the container's, the machine's |
//! | `allow_http` | `true` to send requests unencrypted | `false` |
//! | `max_attempts` | how often the client tries a request | 3 |
//! | `timeout` | for how long, each time (a duration) | `30s` |
//!
//! A value `env:NAME` is the environment variable, `file:PATH` what the file holds. Values are never shown or logged.
//!
//! # Who reads what
//! Without an [`application`](Kinesis::application) the source reads every shard by itself and keeps nothing. With one, programs that have
//! the same application share the shards out among themselves by leases in a table of DynamoDB of that name, which has the layout of
//! Amazon's Kinesis Client Library: a program takes what is nobody's, or another has not renewed for [`failover`](Kinesis::failover), and takes
//! from the one that has most until all have about as many. The table is made if it is not there, with capacity on demand.
//!
//! Shards that are split or merged are followed: parents are read to their end before their children, so that the records of a key come in
//! order. New shards are looked for every minute and whenever one ends.
//!
//! # From where
//! The checkpoint of a shard comes first, always; [`start`](Kinesis::start) is for shards that have none. If records behind a checkpoint have
//! gone, as the stream keeps them for a day unless told otherwise, the run ends with an error, or goes on as
//! [`on_expired`](Kinesis::on_expired) says.
//!
//! # What is committed, and when
//! A checkpoint is the sequence number of a record, and the place within it if several were aggregated into one. Checkpoints are written
//! after the sinks have committed the results ([`Config::commit_every`](crate::Config::commit_every)). **Steps with state** (windows, `dedup`,
//! `detect`, `process`) hold rows, or what they made of them, in memory that a crash takes along: a query with such steps writes checkpoints at
//! its end alone, when it has been stopped or has read its input to the end.
//!
//! **Guarantee:** at least once. Kinesis has no transactions. No row is lost; rows whose results were not committed yet come again after a
//! crash, and those of a shard that another program takes come there too.
//!
//! # Records
//! One record is one frame, as of [Kafka](crate::connector). What the Kinesis Producer Library has aggregated is taken apart; of that, what
//! belongs to a sibling shard (after a split) is left to it. What does not decode goes to quarantine with its bytes, its shard, how many
//! records of the shard were read before, and its sequence number.
//!
//! # Limits
//! A shard is asked at most five times a second and for two megabytes a second, as Kinesis allows, and more slowly while it asks for
//! patience. All who read the stream share that; a [consumer](Kinesis::enhanced_fan_out) with enhanced fan-out has two megabytes a second of
//! its own, pushed to it within some 70 ms by Amazon's account, and is billed for it.

mod address;
mod columns;
mod event;
mod failure;
mod kpl;
mod lease;
mod leases;
mod lookup;
mod pace;
mod position;
mod pull;
mod reader;
mod reel;
mod session;
mod settings;
mod shards;
mod sink;
mod source;
mod table;

use std::fmt;
use std::time::Duration;

use arrow::datatypes::{DataType, SchemaRef};

use self::address::Address;
pub use self::columns::Column;
use self::columns::Columns;
use self::position::Sequence;
use self::reader::Reading;
use self::settings::Settings;
pub use self::sink::KinesisSink;
use self::source::KinesisSource;
use crate::config::Config;
pub use crate::connector::records::Value;
use crate::connector::records::{Encoding, Gathered, names_differ};
use crate::error::{Error, Result};
use crate::format::Format;
use crate::source::{OpenSource, Source};
use crate::time::SharedClock;

/// How long a lease lasts that is not renewed, unless told otherwise.
const FAILOVER: Duration = Duration::from_secs(10);

/// How often shards are listed unless told otherwise, as Amazon's library does.
const DISCOVERY: Duration = Duration::from_secs(60);

/// Where a read begins in shards that have no checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Start {
    /// At the oldest record.
    #[default]
    TrimHorizon,
    /// Behind the newest record there is now. With an application, a shard that changes hands before the first of its records is
    /// checkpointed begins there anew, as with Amazon's library.
    Latest,
    /// At the first record that came at this time or later, in milliseconds since the Unix epoch.
    Timestamp(i64),
    /// At these records, by the names of shards and sequence numbers. What descends from these shards is read, their ancestors are not; an
    /// open shard that neither is named nor descends from one that is is an error.
    At(Vec<(String, String)>),
    /// Behind these records, likewise.
    After(Vec<(String, String)>),
}

/// Where a bounded read ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Each shard where the newest record has been read.
    Latest,
    /// Before the first record that came at this time or later, in milliseconds since the Unix epoch.
    Timestamp(i64),
}

/// What is done when records that were to be read are not there any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnExpired {
    /// The run ends with an error that names the shard and the choices.
    #[default]
    Error,
    /// It goes on with the oldest record there is; the gap is logged and counted ([`Metrics::gaps`](crate::Metrics::gaps)).
    TrimHorizon,
}

/// A stream of Amazon Kinesis to read; see the [module documentation](self).
#[derive(Clone)]
pub struct Kinesis {
    settings: Settings,
    reading: Reading,
    values: Encoding,
    metadata: Vec<Column>,
}

impl Kinesis {
    /// The records of the stream of this name, or of this ARN, which may be another account's. Values come as they are, in the column `value` of type binary, unless a
    /// [`format`](Kinesis::format) is given.
    pub fn new(stream: impl Into<String>) -> Kinesis {
        let reading = Reading {
            stream: Address::new(stream),
            application: None,
            consumer: None,
            start: Start::default(),
            end: None,
            on_expired: OnExpired::default(),
            failover: FAILOVER,
            discovery: DISCOVERY,
        };
        Kinesis { settings: Settings::default(), reading, values: Encoding::Raw(DataType::Binary), metadata: Vec::new() }
    }

    /// Values are in `format`, with the columns of `schema`.
    pub fn format(mut self, format: Format, schema: SchemaRef) -> Kinesis {
        self.values = Encoding::formatted(format, schema);
        self
    }

    /// Values are text: the column `value` is a string. What is not UTF-8 goes to quarantine.
    pub fn text(mut self) -> Kinesis {
        self.values = Encoding::Raw(DataType::Utf8);
        self
    }

    /// What else of each record becomes a column, after those of its value.
    pub fn metadata(mut self, columns: impl IntoIterator<Item = Column>) -> Kinesis {
        self.metadata = columns.into_iter().collect();
        self
    }

    /// The programs among which shards are shared out, and whose checkpoints are kept: the name of a table in DynamoDB.
    pub fn application(mut self, application: impl Into<String>) -> Kinesis {
        self.reading.application = Some(application.into());
        self
    }

    /// Reads by enhanced fan-out, as the consumer of this name, which is registered if it is not yet. It stays registered, and billed, until
    /// it is removed by AWS's tools.
    pub fn enhanced_fan_out(mut self, consumer: impl Into<String>) -> Kinesis {
        self.reading.consumer = Some(consumer.into());
        self
    }

    /// Where to begin in shards that have no checkpoint.
    pub fn start(mut self, start: Start) -> Kinesis {
        self.reading.start = start;
        self
    }

    /// Makes the read bounded. An application has no end.
    pub fn end(mut self, end: End) -> Kinesis {
        self.reading.end = Some(end);
        self
    }

    /// What to do when records are not there any more.
    pub fn on_expired(mut self, policy: OnExpired) -> Kinesis {
        self.reading.on_expired = policy;
        self
    }

    /// How long the leases of an application last that are not renewed: after a crash, others go on so much later. 10 s unless told
    /// otherwise; all programs of an application need the same.
    pub fn failover(mut self, after: Duration) -> Kinesis {
        self.reading.failover = after;
        self
    }

    /// How often new shards are looked for. A minute unless told otherwise; a shard that ends names its children, so that these are read at
    /// once anyway.
    pub fn shard_discovery(mut self, every: Duration) -> Kinesis {
        self.reading.discovery = every;
        self
    }

    /// A setting by its name, see the [module documentation](self).
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> Kinesis {
        self.settings.set(name, value);
        self
    }

    /// Checks what can be checked without the service.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if settings contradict each other or the stream's ARN, or two columns have one name.
    pub(crate) fn checked(self) -> Result<Kinesis> {
        self.settings.check(&[])?;
        self.settings.endpoints()?;
        self.settings.patience()?;
        self.settings.keys()?;
        self.reading.stream.locate(&self.settings)?;
        if self.reading.end.is_some() && self.reading.application.is_some() {
            return Err(Error::config(
                "a bounded read takes all shards, and an application shares them out; leave `end` or `application` away",
            ));
        }
        if let Start::At(places) | Start::After(places) = &self.reading.start {
            places
                .iter()
                .try_for_each(|(_, sequence)| Sequence::parse(sequence).map(drop))
                .map_err(|error| Error::config(error.to_string()))?;
        }
        if self.reading.failover < Duration::from_secs(1) {
            return Err(Error::config("a lease of Kinesis lasts a second or longer; let `failover` be that"));
        }
        if self.reading.discovery.is_zero() {
            return Err(Error::config("shards are not looked for without pause; let `shard_discovery` be above zero"));
        }
        names_differ(&self.schema())?;
        Ok(self)
    }

    fn columns(&self) -> Columns {
        Columns::new(&self.metadata)
    }
}

impl OpenSource for Kinesis {
    fn schema(&self) -> SchemaRef {
        self.columns().after(&self.values.schema())
    }

    fn describe(&self) -> String {
        let Reading { stream, application, consumer, .. } = &self.reading;
        let application = application.as_ref().map(|name| format!(", application {name}")).unwrap_or_default();
        let consumer = consumer.as_ref().map(|name| format!(", consumer {name}")).unwrap_or_default();
        format!("read_kinesis({stream}{application}{consumer}), {}", self.values)
    }

    fn open(&self, config: &Config, clock: &SharedClock) -> Result<Box<dyn Source>> {
        let gathered = Gathered::new(self.schema(), self.values.values(config)?, config, clock);
        Ok(Box::new(KinesisSource::start(self.reading.clone(), &self.settings, (gathered, self.columns()), config, clock)?))
    }
}

impl fmt::Debug for Kinesis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kinesis").field("settings", &self.settings).field("reading", &self.reading).finish_non_exhaustive()
    }
}
