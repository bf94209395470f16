//! Questions about a stream: its shards and its consumers.

use std::time::Duration;

use aws_sdk_kinesis::types::{ChildShard, ConsumerStatus, HashKeyRange, Shard as Listed};

use super::address::Address;
use super::failure;
use super::position::HashRange;
use super::session::Session;
use super::shards::Shard;
use crate::error::{Error, Result};

/// How long a consumer may take to become active, in steps of half a second.
const CONSUMER_TRIES: usize = 120;
const CONSUMER_PAUSE: Duration = Duration::from_millis(500);

/// All shards that the stream has, those that take no more records too.
///
/// # Errors
/// [`Kind::Connector`](crate::error::Kind::Connector) if the service does not say, or there is no such stream.
pub(super) async fn shards(session: &Session, stream: &Address) -> Result<Vec<Shard>> {
    let mut all = Vec::new();
    let mut page: Option<String> = None;
    loop {
        let request = session.kinesis.list_shards();
        let request = match &page {
            Some(token) => request.next_token(token),
            None => request.set_stream_name(stream.name()).set_stream_arn(stream.arn()),
        };
        let answer =
            request.send().await.map_err(|error| session.failed(&format!("cannot list the shards of stream `{stream}`"), &error))?;
        for listed in answer.shards() {
            all.push(shard(listed).map_err(|error| error.context(format!("stream `{stream}`")))?);
        }
        page = answer.next_token;
        if page.is_none() {
            return Ok(all);
        }
    }
}

fn shard(listed: &Listed) -> Result<Shard> {
    let parents = [listed.parent_shard_id(), listed.adjacent_parent_shard_id()];
    Ok(Shard {
        id: listed.shard_id().to_owned(),
        parents: parents.into_iter().flatten().map(str::to_owned).collect(),
        range: range(listed.hash_key_range())?,
        closed: listed.sequence_number_range().is_some_and(|range| range.ending_sequence_number().is_some()),
    })
}

/// A shard, as its parents tell of it at their end.
///
/// # Errors
/// [`Kind::Decode`](crate::error::Kind::Decode) if its range is no range.
pub(super) fn child(child: &ChildShard) -> Result<Shard> {
    Ok(Shard {
        id: child.shard_id().to_owned(),
        parents: child.parent_shards().to_vec(),
        range: range(child.hash_key_range())?,
        closed: false,
    })
}

fn range(range: Option<&HashKeyRange>) -> Result<HashRange> {
    let Some(range) = range else { return Ok(HashRange::ALL) };
    HashRange::parse(range.starting_hash_key(), range.ending_hash_key())
}

/// The ARN of the consumer of this name with enhanced fan-out, registered if it was not, when it is active.
///
/// # Errors
/// [`Kind::Connector`](crate::error::Kind::Connector) if it cannot be had.
pub(super) async fn consumer(session: &Session, stream: &Address, name: &str) -> Result<String> {
    let doing = format!("cannot register the consumer `{name}` of stream `{stream}`");
    let arn = match stream.arn() {
        Some(arn) => arn,
        None => {
            let summary = session.kinesis.describe_stream_summary().set_stream_name(stream.name()).send().await;
            let summary = summary.map_err(|error| session.failed(&doing, &error))?;
            summary.stream_description_summary().map(|summary| summary.stream_arn().to_owned()).unwrap_or_default()
        }
    };
    let registered = session.kinesis.register_stream_consumer().stream_arn(&arn).consumer_name(name).send().await;
    if let Err(error) = registered
        && failure::code(&error) != Some("ResourceInUseException")
    {
        return Err(session.failed(&doing, &error));
    }
    for _ in 0..CONSUMER_TRIES {
        let told = session.kinesis.describe_stream_consumer().stream_arn(&arn).consumer_name(name).send().await;
        let told = told.map_err(|error| session.failed(&doing, &error))?;
        if let Some(consumer) = told.consumer_description().filter(|consumer| *consumer.consumer_status() == ConsumerStatus::Active) {
            return Ok(consumer.consumer_arn().to_owned());
        }
        tokio::time::sleep(CONSUMER_PAUSE).await;
    }
    Err(Error::connector(format!("{doing}: it does not become active within a minute; see it in AWS's console")).retriable_if(true))
}
