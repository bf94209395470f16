//! One request for the records of one shard, by an iterator or by a subscription.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::error::ProvideErrorMetadata;
use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::primitives::event_stream::EventReceiver;
use aws_sdk_kinesis::types::error::SubscribeToShardEventStreamError;
use aws_sdk_kinesis::types::{ChildShard, Record, ShardIteratorType, StartingPosition, SubscribeToShardEventStream};

use super::address::Address;
use super::failure::{self, Failure};
use super::session::Session;
use crate::error::Error;

/// The most records of one answer: what Kinesis gives at most.
const MAX_RECORDS: i32 = 10_000;

/// Where in a shard to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum From {
    TrimHorizon,
    Latest,
    /// At the first record of this time or later, in milliseconds since the Unix epoch.
    Time(i64),
    /// At the record of this sequence number.
    At(String),
    /// Behind it.
    After(String),
}

impl From {
    fn kind(&self) -> ShardIteratorType {
        match self {
            From::TrimHorizon => ShardIteratorType::TrimHorizon,
            From::Latest => ShardIteratorType::Latest,
            From::Time(_) => ShardIteratorType::AtTimestamp,
            From::At(_) => ShardIteratorType::AtSequenceNumber,
            From::After(_) => ShardIteratorType::AfterSequenceNumber,
        }
    }

    fn sequence(&self) -> Option<String> {
        match self {
            From::At(sequence) | From::After(sequence) => Some(sequence.clone()),
            _ => None,
        }
    }

    fn time(&self) -> Option<DateTime> {
        match self {
            From::Time(time) => Some(DateTime::from_millis(*time)),
            _ => None,
        }
    }
}

/// What a subscription pushes.
type Events = Box<EventReceiver<SubscribeToShardEventStream, SubscribeToShardEventStreamError>>;

/// Where the service goes on, as long as it remembers.
pub(super) enum Cursor {
    Iterator(String),
    Subscription(Events),
}

/// What came of one request.
pub(super) struct Pulled {
    pub records: Vec<Record>,
    /// Where to go on; `None` if a cursor is to be had anew, or the shard is at its end.
    pub cursor: Option<Cursor>,
    /// Where that is, if the service says so itself.
    pub next: Option<String>,
    /// How far behind the newest record this is.
    pub behind: Option<Duration>,
    /// There is no more: the shard was split or merged, and what came of it.
    pub end: Option<Vec<ChildShard>>,
}

/// Why nothing came of it.
pub(super) enum Trouble {
    /// The cursor is too old.
    Expired,
    /// There is no such shard any more, or no such stream.
    Gone(Error),
    /// It may go away by itself.
    Passing(Error),
    Fatal(Error),
}

/// What is to be read by one request.
pub(super) struct Pull {
    pub session: Arc<Session>,
    pub stream: Address,
    pub shard: String,
    pub from: From,
    pub cursor: Option<Cursor>,
    /// The ARN of the consumer with a fan-out of its own, if there is one.
    pub consumer: Option<String>,
    /// How long a subscription may be silent.
    pub silence: Duration,
}

impl Pull {
    /// Asks once; opens a cursor before if there is none.
    pub async fn run(mut self) -> Result<Pulled, Trouble> {
        match (self.cursor.take(), self.consumer.take()) {
            (Some(Cursor::Iterator(iterator)), _) => self.get(iterator).await,
            (Some(Cursor::Subscription(events)), _) => self.receive(events).await,
            (None, None) => {
                let iterator = self.iterator().await?;
                self.get(iterator).await
            }
            (None, Some(consumer)) => {
                let events = self.subscribe(consumer).await?;
                self.receive(events).await
            }
        }
    }

    async fn iterator(&self) -> Result<String, Trouble> {
        let request = self.session.kinesis.get_shard_iterator().shard_id(&self.shard);
        let request = request.set_stream_name(self.stream.name()).set_stream_arn(self.stream.arn());
        let request = request.shard_iterator_type(self.from.kind());
        let request = request.set_starting_sequence_number(self.from.sequence()).set_timestamp(self.from.time());
        let answer = request.send().await.map_err(|error| self.trouble(error))?;
        answer.shard_iterator.ok_or(Trouble::Expired)
    }

    async fn get(&self, iterator: String) -> Result<Pulled, Trouble> {
        let request = self.session.kinesis.get_records().shard_iterator(iterator).limit(MAX_RECORDS).set_stream_arn(self.stream.arn());
        let answer = request.send().await.map_err(|error| self.trouble(error))?;
        let end = answer.next_shard_iterator.is_none().then(|| answer.child_shards.unwrap_or_default());
        let behind = answer.millis_behind_latest.map(|millis| Duration::from_millis(u64::try_from(millis).unwrap_or(0)));
        Ok(Pulled { records: answer.records, cursor: answer.next_shard_iterator.map(Cursor::Iterator), next: None, behind, end })
    }

    async fn subscribe(&self, consumer: String) -> Result<Events, Trouble> {
        let position = StartingPosition::builder().r#type(self.from.kind());
        let position = position.set_sequence_number(self.from.sequence()).set_timestamp(self.from.time());
        let position = position.build().map_err(|error| Trouble::Fatal(Error::config(format!("{}: {error}", self.doing()))))?;
        let request = self.session.kinesis.subscribe_to_shard().consumer_arn(consumer).shard_id(&self.shard).starting_position(position);
        let answer = request.send().await.map_err(|error| self.trouble(error))?;
        Ok(Box::new(answer.event_stream))
    }

    async fn receive(&self, mut events: Events) -> Result<Pulled, Trouble> {
        let event = match tokio::time::timeout(self.silence, events.recv()).await {
            Ok(Ok(event)) => event,
            // Whatever has become of the connection or the subscription, another one goes on.
            Ok(Err(error)) => {
                let why = self.session.scrubbed(&failure::chain(&error));
                return Err(Trouble::Passing(Error::connector(format!("{}: {why}", self.doing())).retriable_if(true)));
            }
            // Kinesis sends an event every few seconds even if there are no records, so nobody is there any more.
            Err(_) => None,
        };
        match event {
            Some(SubscribeToShardEventStream::SubscribeToShardEvent(event)) => {
                let behind = Some(Duration::from_millis(u64::try_from(event.millis_behind_latest).unwrap_or(0)));
                let end = event.child_shards.filter(|children| !children.is_empty());
                let cursor = end.is_none().then_some(Cursor::Subscription(events));
                Ok(Pulled { records: event.records, cursor, next: Some(event.continuation_sequence_number), behind, end })
            }
            // An event of a kind that is new to the client.
            Some(_) => Ok(Pulled { records: Vec::new(), cursor: Some(Cursor::Subscription(events)), next: None, behind: None, end: None }),
            // A subscription lasts five minutes.
            None => Ok(Pulled { records: Vec::new(), cursor: None, next: None, behind: None, end: None }),
        }
    }

    fn trouble<E>(&self, error: Failure<E>) -> Trouble
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let failed = || self.session.failed(&self.doing(), &error);
        match failure::code(&error) {
            Some("ExpiredIteratorException") => Trouble::Expired,
            _ if failure::is_missing(&error) => Trouble::Gone(failed()),
            _ if failure::is_retriable(&error) => Trouble::Passing(failed()),
            _ => Trouble::Fatal(failed()),
        }
    }

    fn doing(&self) -> String {
        format!("cannot read {} of stream `{}`", self.shard, self.stream)
    }
}
