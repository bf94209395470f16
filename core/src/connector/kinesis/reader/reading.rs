//! What is read of a stream, from where to where.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::connector::kinesis::address::Address;
use crate::connector::kinesis::pull::From;
use crate::connector::kinesis::shards::{self, Shard};
use crate::connector::kinesis::{End, OnExpired, Start};

/// A record that comes so long after a read began is not one of those that were there, whatever the clocks say.
const SKEW: Duration = Duration::from_secs(60);

/// What is read, from where to where.
#[derive(Debug, Clone)]
pub(in crate::connector::kinesis) struct Reading {
    pub(in crate::connector::kinesis) stream: Address,
    pub(in crate::connector::kinesis) application: Option<String>,
    pub(in crate::connector::kinesis) consumer: Option<String>,
    pub(in crate::connector::kinesis) start: Start,
    pub(in crate::connector::kinesis) end: Option<End>,
    pub(in crate::connector::kinesis) on_expired: OnExpired,
    pub(in crate::connector::kinesis) failover: Duration,
    pub(in crate::connector::kinesis) discovery: Duration,
}

impl Reading {
    pub(super) fn shards_start(&self) -> shards::Start {
        match &self.start {
            Start::TrimHorizon | Start::At(_) | Start::After(_) => shards::Start::TrimHorizon,
            Start::Latest => shards::Start::Latest,
            Start::Timestamp(_) => shards::Start::AtTimestamp,
        }
    }

    /// Where `AT_TIMESTAMP` is, in milliseconds.
    pub(super) fn time(&self) -> i64 {
        match self.start {
            Start::Timestamp(time) => time,
            _ => 0,
        }
    }

    /// Where the named shards begin.
    pub(super) fn places(&self) -> impl Iterator<Item = (&String, From)> {
        let (places, after) = match &self.start {
            Start::At(places) => (places.as_slice(), false),
            Start::After(places) => (places.as_slice(), true),
            _ => (&[][..], false),
        };
        let from = move |sequence: &String| if after { From::After(sequence.clone()) } else { From::At(sequence.clone()) };
        places.iter().map(move |(id, sequence)| (id, from(sequence)))
    }

    /// The time before which records belong to a read that begins at `now`, in milliseconds.
    pub(super) fn until(&self, now: i64) -> Option<i64> {
        self.end.map(|end| match end {
            End::Latest => now + SKEW.as_millis() as i64,
            End::Timestamp(time) => time,
        })
    }
}

/// Whether a shard is one of some, or descends from one.
pub(super) fn descends(list: &[Shard], id: &str, from: &BTreeSet<String>) -> bool {
    let (mut next, mut seen) = (vec![id], BTreeSet::new());
    while let Some(id) = next.pop() {
        if from.contains(id) {
            return true;
        }
        if seen.insert(id) {
            let parents = list.iter().filter(|shard| shard.id == id).flat_map(|shard| &shard.parents);
            next.extend(parents.map(String::as_str));
        }
    }
    false
}
