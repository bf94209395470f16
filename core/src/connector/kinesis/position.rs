//! Places in a shard: sequence numbers, ranges of hash keys, checkpoints.
//!
//! Sources: the Kinesis Data Streams API reference (`SequenceNumber` is `0|([1-9]\d{0,128})`, `HashKeyRange` holds two decimal numbers of
//! 128 bits, both inclusive) and the Kinesis Client Library, `ExtendedSequenceNumber` and `SentinelCheckpoint`: the words for places
//! without a number, how they are ordered, and how a record within an aggregated one is counted. Their behaviour is copied, none of their
//! code.

use std::cmp::Ordering;
use std::fmt;

use crate::error::{Error, Result};

/// The most digits of a sequence number, as the API has it.
const MAX_DIGITS: usize = 129;

/// A sequence number: decimal digits without leading zeros, ordered by value. Numbers of one shard rise with its records.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Sequence(Box<str>);

impl Sequence {
    /// Reads decimal digits.
    ///
    /// # Errors
    /// [`Kind::Decode`](crate::error::Kind::Decode) if `text` has other characters, none, or more than 129.
    pub(super) fn parse(text: &str) -> Result<Sequence> {
        if text.is_empty() || text.len() > MAX_DIGITS || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Error::decode(format!("{text:?} is not a sequence number of Kinesis: it takes 1 to {MAX_DIGITS} decimal digits")));
        }
        let digits = text.trim_start_matches('0');
        Ok(Sequence(if digits.is_empty() { "0" } else { digits }.into()))
    }

    /// The decimal digits, as the API takes them.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Ord for Sequence {
    fn cmp(&self, other: &Sequence) -> Ordering {
        self.0.len().cmp(&other.0.len()).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Sequence {
    fn partial_cmp(&self, other: &Sequence) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The hash keys of a shard, from `start` to `end`, both inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct HashRange {
    pub(super) start: u128,
    pub(super) end: u128,
}

impl HashRange {
    /// Every hash key there is.
    pub(super) const ALL: HashRange = HashRange { start: 0, end: u128::MAX };

    /// Reads `StartingHashKey` and `EndingHashKey`.
    ///
    /// # Errors
    /// [`Kind::Decode`](crate::error::Kind::Decode) if one is not a decimal number of 128 bits, or the end is before the start.
    pub(super) fn parse(start: &str, end: &str) -> Result<HashRange> {
        let range = HashRange { start: hash_key(start)?, end: hash_key(end)? };
        match range.start <= range.end {
            true => Ok(range),
            false => Err(Error::decode(format!("the range of hash keys from {start} to {end} ends before it starts"))),
        }
    }

    pub(super) fn contains(&self, hash: u128) -> bool {
        self.start <= hash && hash <= self.end
    }
}

/// Reads a hash key: a decimal number below 2^128.
///
/// # Errors
/// [`Kind::Decode`](crate::error::Kind::Decode) if it is not one.
pub(super) fn hash_key(text: &str) -> Result<u128> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|_| digits)
        .ok_or_else(|| Error::decode(format!("{text:?} is not a hash key: it takes a decimal number below 2^128")))
}

/// How far a shard has been read.
///
/// Ordered as "is further than" of the KCL: the three words for a start come before every number and are ordered among themselves as
/// `AT_TIMESTAMP`, `TRIM_HORIZON`, `LATEST` (the KCL counts them as -3, -2, -1); the end of the shard comes after every number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Checkpoint {
    /// Nothing is read yet; begin at the first record of a time, which the read has in its settings.
    AtTimestamp,
    /// Nothing is read yet; begin at the eldest record that is kept.
    TrimHorizon,
    /// Nothing is read yet; begin after the newest record.
    Latest,
    /// Everything up to and with this record is done. Of an aggregated record, the records after `sub_sequence` are still to do: begin AT
    /// the sequence number and pass over those up to `sub_sequence`. A record that is not aggregated has sub-sequence 0.
    After { sequence: Sequence, sub_sequence: u64 },
    /// The shard is closed and all its records are done.
    ShardEnd,
}

impl Checkpoint {
    /// Reads the fields `checkpoint` and `checkpointSubSequenceNumber` of a lease of the KCL.
    ///
    /// # Errors
    /// [`Kind::Decode`](crate::error::Kind::Decode) if `checkpoint` is neither digits nor one of its words.
    pub(super) fn from_fields(checkpoint: &str, sub_sequence: u64) -> Result<Checkpoint> {
        match checkpoint {
            "AT_TIMESTAMP" => Ok(Checkpoint::AtTimestamp),
            "TRIM_HORIZON" => Ok(Checkpoint::TrimHorizon),
            "LATEST" => Ok(Checkpoint::Latest),
            "SHARD_END" => Ok(Checkpoint::ShardEnd),
            digits => Sequence::parse(digits).map(|sequence| Checkpoint::After { sequence, sub_sequence }).map_err(|error| {
                let words = "a checkpoint is a sequence number, AT_TIMESTAMP, TRIM_HORIZON, LATEST or SHARD_END";
                error.context(format!("{words}; delete the lease to read its shard anew"))
            }),
        }
    }

    /// What the fields `checkpoint` and `checkpointSubSequenceNumber` of a lease of the KCL are; the latter is 0 beside a word.
    pub(super) fn to_fields(&self) -> (&str, u64) {
        match self {
            Checkpoint::AtTimestamp => ("AT_TIMESTAMP", 0),
            Checkpoint::TrimHorizon => ("TRIM_HORIZON", 0),
            Checkpoint::Latest => ("LATEST", 0),
            Checkpoint::After { sequence, sub_sequence } => (sequence.as_str(), *sub_sequence),
            Checkpoint::ShardEnd => ("SHARD_END", 0),
        }
    }

    /// Whether the shard has been read from: it has a record behind it, or its end.
    pub(super) fn has_begun(&self) -> bool {
        matches!(self, Checkpoint::After { .. } | Checkpoint::ShardEnd)
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Checkpoint::After { sequence, sub_sequence } => write!(f, "{sequence}.{sub_sequence}"),
            word => f.write_str(word.to_fields().0),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn after(sequence: &str, sub_sequence: u64) -> Checkpoint {
        Checkpoint::After { sequence: Sequence::parse(sequence).unwrap(), sub_sequence }
    }

    #[test]
    fn what_is_no_sequence_number_is_refused_by_name() {
        for text in ["", "-1", "12a", " 1", "٣", &"9".repeat(130)] {
            let error = Sequence::parse(text).unwrap_err().to_string();
            assert!(error.contains("is not a sequence number of Kinesis"), "{error}");
        }
        assert_eq!(Sequence::parse(&"9".repeat(129)).unwrap().as_str().len(), 129);
        assert_eq!(Sequence::parse("000").unwrap().to_string(), "0");
        assert_eq!(Sequence::parse("0071").unwrap(), Sequence::parse("71").unwrap());
    }

    #[test]
    fn a_range_of_hash_keys_is_inclusive_and_of_128_bits() {
        let top = u128::MAX.to_string();
        assert_eq!(HashRange::parse("0", &top).unwrap(), HashRange::ALL);
        let range = HashRange::parse("5", "7").unwrap();
        assert_eq!([4, 5, 7, 8].map(|hash| range.contains(hash)), [false, true, true, false]);
        for (start, end) in [("7", "5"), ("+1", "5"), ("0", "340282366920938463463374607431768211456"), ("", "1")] {
            assert!(HashRange::parse(start, end).is_err(), "{start} to {end}");
        }
    }

    #[test]
    fn checkpoints_are_ordered_as_the_kcl_orders_them() {
        let rising = [
            Checkpoint::AtTimestamp,
            Checkpoint::TrimHorizon,
            Checkpoint::Latest,
            after("0", 0),
            after("9", 0),
            after("9", 1),
            after("10", 0),
            after("49590338271490256608559692538361571095921575989136588898", 3),
            Checkpoint::ShardEnd,
        ];
        assert!(rising.is_sorted_by(|left, right| left < right));
        assert_eq!(rising.iter().filter(|checkpoint| checkpoint.has_begun()).count(), 6);
    }

    #[test]
    fn damaged_checkpoints_say_what_to_do() {
        for text in ["", "trim_horizon", "NULL", "1.5"] {
            let error = Checkpoint::from_fields(text, 0).unwrap_err().to_string();
            assert!(error.contains("delete the lease"), "{error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn sequence_numbers_are_ordered_as_numbers(
            left in any::<u128>(),
            right in any::<u128>(),
            shifts in (0..128_u32, 0..128_u32),
            zeros in 0..5_usize,
        ) {
            let (left, right) = (left >> shifts.0, right >> shifts.1);
            let parse = |number: u128| Sequence::parse(&format!("{}{number}", "0".repeat(zeros))).unwrap();
            prop_assert_eq!(parse(left).cmp(&parse(right)), left.cmp(&right));
            prop_assert_eq!(parse(left).to_string(), left.to_string());
        }

        #[test]
        fn checkpoints_come_back_from_their_fields(number in any::<u128>(), sub_sequence in any::<u64>(), kind in 0..5_u8) {
            let checkpoint = match kind {
                0 => Checkpoint::AtTimestamp,
                1 => Checkpoint::TrimHorizon,
                2 => Checkpoint::Latest,
                3 => Checkpoint::ShardEnd,
                _ => after(&number.to_string(), sub_sequence),
            };
            let (text, sub) = checkpoint.to_fields();
            prop_assert_eq!(Checkpoint::from_fields(text, sub).unwrap(), checkpoint);
        }
    }
}
