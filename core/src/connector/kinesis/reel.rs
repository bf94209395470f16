//! One shard that is being read: where it is, and its records on their way into chunks.

use aws_sdk_kinesis::types::Record;

use super::columns::Extras;
use super::kpl::{self, Split, User};
use super::pace::Pace;
use super::position::{Checkpoint, HashRange};
use super::pull::{Cursor, From};
use crate::connector::records::{Chunk, Layout};

/// A shard that is being read.
pub(super) struct Reel {
    pub id: String,
    /// Its [`PartitionId`](crate::batch::PartitionId).
    pub number: u32,
    /// Which opening of a shard it is, of all so far.
    pub opening: u64,
    range: HashRange,
    /// Where a cursor is opened if there is none.
    pub from: From,
    pub cursor: Option<Cursor>,
    /// The record that was the last to be read before, which is read again to see that none is missing.
    resume: Option<(String, u64)>,
    pub pace: Pace,
    /// Whether an answer is awaited.
    pub asking: bool,
    /// Whether there was trouble, so that it is said once.
    pub in_trouble: bool,
    /// When an answer last came, in nanoseconds since the Unix epoch.
    pub answered: i64,
    /// Records so far.
    records: i64,
    users: Vec<User>,
}

/// Where records go.
pub(super) struct Into<'a> {
    pub chunk: &'a mut Chunk,
    pub extras: &'a mut Extras,
    pub layout: Layout,
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    Whole,
    /// It came at the end of the read or later, and is not taken.
    Beyond,
    /// It is not the one behind which reading was to go on: what was in between has gone.
    Gap,
}

impl Reel {
    /// A shard that is read from `checkpoint` on; `time` is where `AT_TIMESTAMP` is, in milliseconds since the Unix epoch.
    pub fn new(id: String, (number, opening): (u32, u64), range: HashRange, checkpoint: &Checkpoint, time: i64, now: i64) -> Reel {
        let (from, resume) = match checkpoint {
            Checkpoint::TrimHorizon | Checkpoint::ShardEnd => (From::TrimHorizon, None),
            Checkpoint::Latest => (From::Latest, None),
            Checkpoint::AtTimestamp => (From::Time(time), None),
            Checkpoint::After { sequence, sub_sequence } => (From::At(sequence.to_string()), Some((sequence.to_string(), *sub_sequence))),
        };
        Reel {
            id,
            number,
            opening,
            range,
            from,
            cursor: None,
            resume,
            pace: Pace::default(),
            asking: false,
            in_trouble: false,
            answered: now,
            records: 0,
            users: Vec::new(),
        }
    }

    /// Takes a record in, or the records that were aggregated into it. `until` is where the read ends, in milliseconds.
    pub fn take(&mut self, record: &Record, until: Option<i64>, into: Into<'_>) -> Taken {
        let arrival = record.approximate_arrival_timestamp().and_then(|time| time.to_millis().ok());
        if let (Some(until), Some(arrival)) = (until, arrival)
            && arrival >= until
        {
            return Taken::Beyond;
        }
        let seen = match &self.resume {
            Some((sequence, sub_sequence)) if *sequence == record.sequence_number => Some(*sub_sequence),
            Some(_) => return Taken::Gap,
            None => None,
        };
        self.resume = None;
        self.from = From::After(record.sequence_number.clone());
        self.unpack(record, seen, arrival, into);
        Taken::Whole
    }

    /// Goes on with what there is, though records have gone.
    pub fn pass_over_gap(&mut self) {
        self.resume = None;
    }

    fn unpack(&mut self, record: &Record, seen: Option<u64>, arrival: Option<i64>, into: Into<'_>) {
        let (data, sequence) = (record.data().as_ref(), record.sequence_number());
        self.users.clear();
        let split = kpl::split(data, Some(&self.range), &mut self.users).unwrap_or_else(|error| {
            tracing::warn!(%error, shard = self.id, sequence, "an aggregated record is damaged, and is taken as it is");
            Split::Plain
        });
        let Into { chunk, extras, layout } = into;
        let mut push = |value: &[u8], key: &str, sub_sequence: u64| {
            if seen.is_none_or(|seen| sub_sequence > seen) {
                chunk.push(self.number, self.records, Some(value), layout);
                extras.push(key, sequence, sub_sequence, arrival);
                self.records += 1;
            }
        };
        if split == Split::Plain {
            return push(data, record.partition_key().unwrap_or_default(), 0);
        }
        for user in &self.users {
            let key = String::from_utf8_lossy(&data[user.partition_key.clone()]);
            push(&data[user.data.clone()], &key, user.sub_sequence);
        }
    }
}
