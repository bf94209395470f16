//! The sink: rows to records of a stream.

mod delivery;
mod outbox;
mod parcel;
mod rows;

use std::fmt;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use aws_sdk_kinesis::types::StreamStatus;

use self::delivery::Delivery;
use self::parcel::Map;
use self::rows::{Layout, Spread};
use super::address::Address;
use super::session::Session;
use super::settings::Settings;
use super::{failure, lookup};
use crate::connector::records::{Value, ValueWriter};
use crate::error::{Error, Result};
use crate::sink::Sink;

/// For how long a record is sent again and again.
const DELIVERY_TIMEOUT: &str = "delivery_timeout";

/// For how long, by default: what Kafka's clients take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Writes rows to a stream of Amazon Kinesis, a record each; of [Arrow IPC](Value::ArrowIpc) as many in one as are 1 MiB.
///
/// Records go by `PutRecords`, up to 500 and 5 MiB a request, four requests at once, sent by a thread of their own. A request that is not
/// full is sent when no other is under way, so that few rows do not wait for more. What Kinesis does not take, as shards are over their
/// throughput or for a failure of its own, is sent again, and nothing else: after 100 ms at first, up to 5 s later, each time with a share
/// of chance. When 4,000 records or 40 MiB are on their way, rows wait; they are never dropped. A record that is not taken within the
/// setting `delivery_timeout` (a duration, `2min` unless it is set) ends the run with an error that says why.
///
/// **Guarantee:** at least once. Kinesis has no transactions: records are there for readers as they are delivered, and an abort
/// takes back only what was not sent. A request whose answer is lost is sent again, and its records may be there twice. A commit waits
/// until every record is delivered. Kinesis does not keep the order of records that are sent at once, be they of one key; where order
/// matters, have a column that tells it.
///
/// Rows that were [quarantined](crate::Query::quarantine) can be written too: as JSON, where their bytes are hexadecimal digits.
pub struct KinesisSink {
    settings: Settings,
    stream: Address,
    layout: Layout,
    aggregate: bool,
    spread: Spread,
    values: Option<ValueWriter>,
    delivery: Option<Delivery>,
}

impl KinesisSink {
    /// Writes to the stream of this name, or of this ARN, which may be another account's.
    pub fn new(stream: impl Into<String>) -> KinesisSink {
        KinesisSink {
            settings: Settings::default(),
            stream: Address::new(stream),
            layout: Layout::default(),
            aggregate: false,
            spread: Spread::new(),
            values: None,
            delivery: None,
        }
    }

    /// What becomes the value. Kinesis has no records without one, so that a column that does must not have nulls. A schema is looked up or
    /// registered when the sink is opened, under the stream's name where Kafka has the topic's.
    pub fn value(mut self, value: Value) -> KinesisSink {
        self.layout.value = value;
        self
    }

    /// What becomes the partition key, whose MD5 hash chooses the shard: a column of text or integers as its text, of bytes that are UTF-8;
    /// several columns as a JSON object. 1 to 256 characters. Rows whose key is null, and all if there is none, are spread evenly over the
    /// shards.
    pub fn partition_key(mut self, columns: impl IntoIterator<Item = impl Into<String>>) -> KinesisSink {
        self.layout.partition_key = columns.into_iter().map(Into::into).collect();
        self
    }

    /// The column that chooses the shard in place of the key's hash: numbers below 2¹²⁸, or their decimal text. Null leaves it to the key.
    pub fn explicit_hash_key(mut self, column: impl Into<String>) -> KinesisSink {
        self.layout.explicit_hash_key = Some(column.into());
        self
    }

    /// Puts many rows into one record as the Kinesis Producer Library does: those of a batch whose hash keys are in the range of one shard,
    /// up to 50 KiB. Shards take 1,000 records a second, so that many small rows pass that would not otherwise. Readers have to take them
    /// apart, as [`Kinesis`](super::Kinesis), Amazon's client libraries and Lambda with a library do. The shards are asked for at the
    /// beginning and whenever a record comes to another than was expected; what readers of that shard would drop is sent again on its own.
    pub fn aggregate(mut self, aggregate: bool) -> KinesisSink {
        self.aggregate = aggregate;
        self
    }

    /// A setting by its name: `delivery_timeout`, or one of every connection, see the [module documentation](super).
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> KinesisSink {
        self.settings.set(name, value);
        self
    }

    /// Connects, and asks for the stream.
    fn connect(&self) -> Result<Delivery> {
        self.settings.check(&[DELIVERY_TIMEOUT])?;
        let patience = self.settings.duration(DELIVERY_TIMEOUT, PATIENCE)?;
        let session = Session::connect(&self.stream.locate(&self.settings)?)?;
        let doing = format!("cannot write to stream `{}`", self.stream);
        let request = session.kinesis.describe_stream_summary().set_stream_name(self.stream.name()).set_stream_arn(self.stream.arn());
        match session.wait(request.send())? {
            Ok(answer) => match answer.stream_description_summary().map(|stream| stream.stream_status()) {
                Some(StreamStatus::Creating) => {
                    return Err(Error::connector(format!("{doing}: it is being created; try later")).retriable_if(true));
                }
                Some(StreamStatus::Deleting) => return Err(Error::connector(format!("{doing}: it is being deleted"))),
                _ => {}
            },
            // Who may write need not be allowed to ask.
            Err(error) if failure::is_forbidden(&error) => {}
            Err(error) => return Err(session.failed(&doing, &error)),
        }
        let shards = match self.aggregate {
            true => Some(Map::new(session.wait(lookup::shards(&session, &self.stream))??)),
            false => None,
        };
        Delivery::start(session, &self.stream, patience, shards)
    }
}

impl Sink for KinesisSink {
    fn open(&mut self, schema: &SchemaRef) -> Result<()> {
        self.values = Some(self.layout.open(schema, self.stream.stream())?);
        self.delivery = Some(self.connect()?);
        Ok(())
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let rows = self.layout.rows(batch, self.values.as_mut().ok_or_else(not_open)?)?;
        let entries = (0..rows.len()).map(|row| rows.entry(row, &mut self.spread)).collect::<Result<Vec<_>>>()?;
        self.delivery.as_ref().ok_or_else(not_open)?.send(entries)
    }

    fn commit(&mut self) -> Result<()> {
        self.delivery.as_ref().ok_or_else(not_open)?.flush()
    }

    fn abort(&mut self) {
        self.delivery = None;
    }
}

impl fmt::Debug for KinesisSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KinesisSink")
            .field("settings", &self.settings)
            .field("stream", &self.stream)
            .field("layout", &self.layout)
            .finish_non_exhaustive()
    }
}

fn not_open() -> Error {
    Error::config("the sink is not open: call `open` first, and again after `abort`")
}
