//! Records that travel together: aggregated as the Kinesis Producer Library does, by the shard that they belong to.

use std::collections::BTreeMap;

use super::rows::Entry;
use crate::connector::kinesis::kpl::{Aggregator, hash_of, split};
use crate::connector::kinesis::position::{HashRange, hash_key};
use crate::connector::kinesis::shards::Shard;
use crate::error::Result;

/// Bytes of an aggregated record, at most: what the Kinesis Producer Library aims at unless told otherwise.
const AGGREGATED_BYTES: usize = 51_200;

/// One record of Kinesis, with one or many of users in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parcel {
    pub(super) entry: Entry,
    /// Records of users.
    pub(super) users: usize,
    /// The shard that all of them belong to, if they are aggregated: what comes to another is dropped by readers.
    pub(super) shard: Option<String>,
}

impl Parcel {
    /// A record on its own.
    pub(super) fn plain(entry: Entry) -> Parcel {
        Parcel { entry, users: 1, shard: None }
    }

    /// What readers of a shard drop of an aggregated record that came there: users outside of its range, all if that is unknown.
    ///
    /// # Errors
    /// If what we have aggregated cannot be taken apart, which is a defect.
    pub(super) fn strays(&self, range: Option<&HashRange>) -> Result<Vec<Parcel>> {
        let data = &self.entry.data;
        let mut users = Vec::new();
        split(data, None, &mut users)?;
        let text = |range| String::from_utf8_lossy(&data[range]).into_owned();
        let entries = users.into_iter().map(|user| Entry {
            data: data[user.data].to_vec(),
            partition_key: text(user.partition_key),
            explicit_hash_key: user.explicit_hash_key.map(text),
        });
        let mut strays = Vec::new();
        for entry in entries {
            let hash = hash(&entry)?;
            if range.is_none_or(|range| !range.contains(hash)) {
                strays.push(Parcel::plain(entry));
            }
        }
        Ok(strays)
    }
}

/// The shards that take records.
pub(super) struct Map(Vec<Shard>);

impl Map {
    /// Of all shards of a stream.
    pub(super) fn new(mut shards: Vec<Shard>) -> Map {
        shards.retain(|shard| !shard.closed);
        shards.sort_by_key(|shard| shard.range.start);
        Map(shards)
    }

    /// The range of a shard.
    pub(super) fn range(&self, id: &str) -> Option<&HashRange> {
        self.0.iter().find(|shard| shard.id == id).map(|shard| &shard.range)
    }

    /// The shard that takes records of this hash key.
    fn of(&self, hash: u128) -> Option<&Shard> {
        let behind = self.0.partition_point(|shard| shard.range.start <= hash);
        self.0[..behind].last().filter(|shard| shard.range.contains(hash))
    }

    /// Records, those of a shard together as far as they go.
    ///
    /// # Errors
    /// If a hash key is none, or what was aggregated cannot be taken apart, which would be a defect.
    pub(super) fn pack(&self, entries: Vec<Entry>) -> Result<Vec<Parcel>> {
        let mut packed = Vec::new();
        let mut open: BTreeMap<&str, Packing> = BTreeMap::new();
        for entry in entries {
            let hash = hash(&entry)?;
            let Some(shard) = self.of(hash) else {
                packed.push(Parcel::plain(entry));
                continue;
            };
            let packing = open.entry(&shard.id).or_insert_with(|| Packing { users: Aggregator::new(AGGREGATED_BYTES), hash });
            if !packing.add(&entry, hash) {
                packing.finish(&shard.id, &mut packed)?;
                if !packing.add(&entry, hash) {
                    packed.push(Parcel::plain(entry));
                }
            }
        }
        for (shard, mut packing) in open {
            packing.finish(shard, &mut packed)?;
        }
        Ok(packed)
    }
}

/// Records of one shard.
struct Packing {
    users: Aggregator,
    /// The hash key of the first.
    hash: u128,
}

impl Packing {
    /// Takes a record if there is room.
    fn add(&mut self, entry: &Entry, hash: u128) -> bool {
        let is_first = self.users.users() == 0;
        let taken = self.users.add(&entry.partition_key, entry.explicit_hash_key.as_deref(), &entry.data);
        if is_first && taken {
            self.hash = hash;
        }
        taken
    }

    fn finish(&mut self, shard: &str, packed: &mut Vec<Parcel>) -> Result<()> {
        let Some(whole) = self.users.finish() else { return Ok(()) };
        let explicit_hash_key = Some(self.hash.to_string());
        let entry = Entry { data: whole.data, partition_key: whole.partition_key, explicit_hash_key };
        let parcel = Parcel { entry, users: whole.users, shard: Some(shard.to_owned()) };
        match parcel.users {
            // Alone, it needs no frame.
            1 => packed.extend(parcel.strays(None)?),
            _ => packed.push(parcel),
        }
        Ok(())
    }
}

fn hash(entry: &Entry) -> Result<u128> {
    match &entry.explicit_hash_key {
        Some(key) => hash_key(key),
        None => Ok(hash_of(entry.partition_key.as_bytes())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::Config as ProptestConfig;

    use super::*;

    fn shard(id: &str, start: u128, end: u128, closed: bool) -> Shard {
        Shard { id: id.to_owned(), parents: Vec::new(), range: HashRange { start, end }, closed }
    }

    /// The upper half is of one shard, the lower was split.
    fn map() -> Map {
        let middle = 1 << 127;
        Map::new(vec![
            shard("high", middle, u128::MAX, false),
            shard("parent", 0, middle - 1, true),
            shard("low", 0, middle / 2 - 1, false),
            shard("middle", middle / 2, middle - 1, false),
        ])
    }

    fn entry(key: &str, hash: Option<u128>, data: &[u8]) -> Entry {
        Entry { data: data.to_vec(), partition_key: key.to_owned(), explicit_hash_key: hash.map(|hash| hash.to_string()) }
    }

    /// The records of a parcel.
    fn users(parcel: &Parcel) -> Vec<Entry> {
        match parcel.shard {
            None => vec![parcel.entry.clone()],
            Some(_) => parcel.strays(None).unwrap().into_iter().map(|parcel| parcel.entry).collect(),
        }
    }

    #[test]
    fn those_that_came_to_another_shard_are_told() {
        let map = map();
        let entries = vec![entry("a", Some(1), b"1"), entry("b", Some(2), b"2"), entry("c", Some(u128::MAX), b"3")];
        let packed = map.pack(entries.clone()).unwrap();
        assert_eq!(packed.len(), 2);
        assert_eq!(packed[0], Parcel::plain(entries[2].clone()), "alone");
        let pair = &packed[1];
        assert_eq!((pair.users, pair.shard.as_deref(), pair.entry.explicit_hash_key.as_deref()), (2, Some("low"), Some("1")));
        assert_eq!(pair.strays(map.range("low")).unwrap(), []);
        let strays = pair.strays(Some(&HashRange { start: 0, end: 1 })).unwrap();
        assert_eq!(strays, [Parcel::plain(entries[1].clone())]);
        assert_eq!(pair.strays(None).unwrap().len(), 2);
        assert!(map.range("parent").is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_record_is_lost_and_each_is_with_its_own(
            records in prop::collection::vec(("[a-z]{1,3}", prop::option::of(any::<u128>()), 0usize..30_000), 0..60)
        ) {
            let map = map();
            let data = |(number, size): (usize, usize)| format!("{number:0size$}").into_bytes();
            let entries: Vec<Entry> =
                records.iter().enumerate().map(|(number, (key, hash, size))| entry(key, *hash, &data((number, *size)))).collect();
            let packed = map.pack(entries.clone()).unwrap();
            for parcel in &packed {
                let shards: Vec<&str> = users(parcel).iter().map(|user| map.of(hash(user).unwrap()).unwrap().id.as_str()).collect();
                prop_assert_eq!(shards.len(), parcel.users);
                if let Some(shard) = &parcel.shard {
                    prop_assert!(parcel.users > 1 && parcel.entry.data.len() <= AGGREGATED_BYTES);
                    prop_assert!(shards.iter().all(|of| of == shard));
                    prop_assert_eq!(&map.of(hash(&parcel.entry).unwrap()).unwrap().id, shard);
                }
            }
            let mut all: Vec<Entry> = packed.iter().flat_map(users).collect();
            let sorted = |entries: &mut Vec<Entry>| entries.sort_by(|a, b| (&a.data, &a.partition_key).cmp(&(&b.data, &b.partition_key)));
            let mut expected = entries;
            sorted(&mut all);
            sorted(&mut expected);
            prop_assert_eq!(all, expected);
        }
    }
}
