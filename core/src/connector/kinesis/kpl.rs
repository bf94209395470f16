//! Records of the Kinesis Producer Library, in which one record of Kinesis holds many of its users.
//!
//! Sources: `aggregation-format.md` and `messages.proto` of the Kinesis Producer Library for the bytes, `AggregatorUtil` of the Kinesis
//! Client Library for how they are told from others. An aggregated record is the magic number, a protocol buffer and the MD5 of that
//! buffer:
//!
//! ```text
//! F3 89 9A C2 | AggregatedRecord | MD5, 16 bytes
//!
//! message AggregatedRecord {
//!   repeated string partition_key_table     = 1;
//!   repeated string explicit_hash_key_table = 2;
//!   repeated Record records                 = 3;
//! }
//! message Record {
//!   required uint64 partition_key_index     = 1;
//!   optional uint64 explicit_hash_key_index = 2;
//!   required bytes  data                    = 3;
//!   repeated Tag    tags                    = 4;
//! }
//! ```
//!
//! What lacks the magic number, is too short, or has another MD5 is a plain record, as in the KCL. From there on we are stricter: the MD5
//! shows that the bytes are as they were sent, so a buffer that cannot be read is an error (the KCL gives the whole record as a plain one,
//! or drops users after an entry in its log).
//!
//! After a shard is split, a producer that does not know of it yet sends one record for what are two shards by now. It sends the users anew
//! whose hash keys are outside of the shard that took the record, so a reader has to drop them there. (`AggregatorUtil` drops all users of
//! such a record, which loses those inside if the producer sends only the others anew.)

use std::collections::HashMap;
use std::ops::Range;

use md5::{Digest, Md5};

use super::position::{HashRange, hash_key};
use crate::error::{Error, Result};
use crate::format::protobuf::wire::{Reader, Value};

const MAGIC: [u8; 4] = [0xF3, 0x89, 0x9A, 0xC2];
const DIGEST: usize = 16;

/// A user's record within an aggregated one; the ranges are of bytes of the latter. The keys are UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    /// Its number in the aggregated record, from 0, those that are dropped counted.
    pub(super) sub_sequence: u64,
    pub(super) data: Range<usize>,
    pub(super) partition_key: Range<usize>,
    pub(super) explicit_hash_key: Option<Range<usize>>,
}

/// What [`split`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Split {
    /// A plain record: its data is the user's.
    Plain,
    /// An aggregated record of `users`, of which `dropped` are outside of the range. The last sub-sequence number is `users - 1`.
    Aggregated { users: u64, dropped: u64 },
}

/// The hash key of a partition key: its MD5 as a number of 128 bits, the first byte the highest.
pub(super) fn hash_of(partition_key: &[u8]) -> u128 {
    u128::from_be_bytes(Md5::digest(partition_key).into())
}

/// Appends to `out` the users in the record `data` whose hash keys are in `range`; all, without a range. Nothing is appended for a plain
/// record or after an error.
///
/// # Errors
/// [`Kind::Decode`](crate::error::Kind::Decode) if the record is aggregated, its MD5 is right, and it cannot be read; it says at which
/// byte.
pub(super) fn split(data: &[u8], range: Option<&HashRange>, out: &mut Vec<User>) -> Result<Split> {
    let Some(body) = body(data) else { return Ok(Split::Plain) };
    let before = out.len();
    users(data, body, range, out).map_err(|damage| {
        out.truncate(before);
        let Damage { at, why } = damage;
        Error::decode(format!("an aggregated record of the Kinesis Producer Library is damaged at byte {at} of {}: {why}", data.len()))
    })
}

/// Where the protocol buffer is, if `data` is an aggregated record.
fn body(data: &[u8]) -> Option<Range<usize>> {
    let end = data.len().checked_sub(DIGEST)?;
    let is_aggregated = data.starts_with(&MAGIC) && end > MAGIC.len() && Md5::digest(&data[MAGIC.len()..end]).as_slice() == &data[end..];
    is_aggregated.then_some(MAGIC.len()..end)
}

/// A key of a table and its hash key, once that is needed.
struct Key {
    at: Range<usize>,
    hash: Option<u128>,
}

fn users(data: &[u8], body: Range<usize>, range: Option<&HashRange>, out: &mut Vec<User>) -> Result<Split, Damage> {
    let (mut partition_keys, mut hash_keys) = (Vec::new(), Vec::new());
    let mut fields = Reader::new(data, body.start, body.end);
    while let Some(field) = field(&mut fields)? {
        let table = match field.number {
            1 => &mut partition_keys,
            2 => &mut hash_keys,
            _ => continue,
        };
        let at = field.bytes()?;
        if std::str::from_utf8(&data[at.clone()]).is_err() {
            return Err(Damage::new(at.start, "a key is not UTF-8"));
        }
        table.push(Key { at, hash: None });
    }
    let (mut users, mut dropped) = (0, 0);
    let mut fields = Reader::new(data, body.start, body.end);
    while let Some(field) = field(&mut fields)? {
        if field.number != 3 {
            continue;
        }
        let record = Record::read(data, field.bytes()?)?;
        let partition_key = record.key(&mut partition_keys, record.partition_key, "partition")?;
        let mut user =
            User { sub_sequence: users, data: record.data.clone(), partition_key: partition_key.at.clone(), explicit_hash_key: None };
        let hash = match record.hash_key {
            Some(index) => {
                let key = record.key(&mut hash_keys, index, "explicit hash")?;
                user.explicit_hash_key = Some(key.at.clone());
                range.map(|_| key.explicit(data)).transpose()?
            }
            None => range.map(|_| *partition_key.hash.get_or_insert_with(|| hash_of(&data[partition_key.at.clone()]))),
        };
        users += 1;
        match range.zip(hash).is_none_or(|(range, hash)| range.contains(hash)) {
            true => out.push(user),
            false => dropped += 1,
        }
    }
    Ok(Split::Aggregated { users, dropped })
}

impl Key {
    /// The hash key that this one spells in decimal digits.
    fn explicit(&mut self, data: &[u8]) -> Result<u128, Damage> {
        if let Some(hash) = self.hash {
            return Ok(hash);
        }
        let text = std::str::from_utf8(&data[self.at.clone()]).unwrap_or_default();
        let hash = hash_key(text).map_err(|error| Damage { at: self.at.start, why: error.to_string() })?;
        Ok(*self.hash.insert(hash))
    }
}

/// A user's record as it is on the wire.
struct Record {
    at: usize,
    partition_key: u64,
    hash_key: Option<u64>,
    data: Range<usize>,
}

impl Record {
    fn read(data: &[u8], at: Range<usize>) -> Result<Record, Damage> {
        let (mut partition_key, mut hash_key, mut payload) = (None, None, None);
        let mut fields = Reader::new(data, at.start, at.end);
        while let Some(field) = field(&mut fields)? {
            match field.number {
                1 => partition_key = Some(field.varint()?),
                2 => hash_key = Some(field.varint()?),
                3 => payload = Some(field.bytes()?),
                _ => (),
            }
        }
        match (partition_key, payload) {
            (Some(partition_key), Some(data)) => Ok(Record { at: at.start, partition_key, hash_key, data }),
            (None, _) => Err(Damage::new(at.start, "a user's record has no partition key")),
            (_, None) => Err(Damage::new(at.start, "a user's record has no data")),
        }
    }

    fn key<'k>(&self, table: &'k mut [Key], index: u64, what: &str) -> Result<&'k mut Key, Damage> {
        let count = table.len();
        let key = usize::try_from(index).ok().and_then(|index| table.get_mut(index));
        key.ok_or_else(|| Damage { at: self.at, why: format!("a user's record names {what} key {index} of {count}") })
    }
}

/// What is wrong, and at which byte of the record.
#[derive(Debug)]
struct Damage {
    at: usize,
    why: String,
}

impl Damage {
    fn new(at: usize, why: &str) -> Damage {
        Damage { at, why: why.to_owned() }
    }
}

/// A field of a protocol buffer: its number, where it begins, and its value.
struct Field {
    number: u32,
    at: usize,
    value: Value,
}

impl Field {
    fn varint(&self) -> Result<u64, Damage> {
        match self.value {
            Value::Varint(number) => Ok(number),
            _ => Err(Damage { at: self.at, why: format!("field {} is not a number", self.number) }),
        }
    }

    fn bytes(&self) -> Result<Range<usize>, Damage> {
        match self.value {
            Value::Bytes(start, end) => Ok(start..end),
            _ => Err(Damage { at: self.at, why: format!("field {} has no length", self.number) }),
        }
    }
}

/// The next field.
fn field(fields: &mut Reader) -> Result<Option<Field>, Damage> {
    let at = fields.position();
    let field = fields.field().map_err(|why| Damage { at, why })?;
    Ok(field.map(|(number, value)| Field { number, at, value }))
}

/// An aggregated record that is ready to be put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Aggregated {
    pub(super) data: Vec<u8>,
    pub(super) users: usize,
    /// The keys of the first user, under which the KPL's ports put the whole.
    pub(super) partition_key: String,
    pub(super) explicit_hash_key: Option<String>,
}

/// Collects users' records into an aggregated one of bounded size. Records of one aggregated record must belong to one shard by their hash
/// keys: readers drop the others.
#[derive(Debug)]
pub(super) struct Aggregator {
    limit: usize,
    users: usize,
    partition_keys: Table,
    hash_keys: Table,
    records: Vec<u8>,
    first: (String, Option<String>),
}

impl Aggregator {
    /// An empty aggregator; `limit` is the most bytes that an aggregated record may take, with its frame.
    pub(super) fn new(limit: usize) -> Aggregator {
        let (partition_keys, hash_keys) = (Table::new(1), Table::new(2));
        Aggregator { limit, users: 0, partition_keys, hash_keys, records: Vec::new(), first: Default::default() }
    }

    /// How many records it holds.
    pub(super) fn users(&self) -> usize {
        self.users
    }

    /// How many bytes [`finish`](Aggregator::finish) would give now.
    pub(super) fn size(&self) -> usize {
        MAGIC.len() + self.partition_keys.bytes.len() + self.hash_keys.bytes.len() + self.records.len() + DIGEST
    }

    /// Takes a record, or leaves all as it was and gives `false` if it would take the whole over the limit. What an empty aggregator does
    /// not take has to be put as a plain record.
    pub(super) fn add(&mut self, partition_key: &str, explicit_hash_key: Option<&str>, data: &[u8]) -> bool {
        let (partition, mut added) = self.partition_keys.place(partition_key);
        let hash = explicit_hash_key.map(|key| self.hash_keys.place(key));
        added += hash.map_or(0, |(_, added)| added);
        let inner = 1 + varint_size(partition) + hash.map_or(0, |(index, _)| 1 + varint_size(index)) + 1 + sized(data.len());
        if self.size() + added + 1 + sized(inner) > self.limit {
            return false;
        }
        if self.users == 0 {
            self.first = (partition_key.to_owned(), explicit_hash_key.map(str::to_owned));
        }
        self.partition_keys.enter(partition_key);
        self.records.push(3 << 3 | 2);
        put_varint(&mut self.records, inner as u64);
        self.records.push(1 << 3);
        put_varint(&mut self.records, partition);
        if let Some((key, (index, _))) = explicit_hash_key.zip(hash) {
            self.hash_keys.enter(key);
            self.records.push(2 << 3);
            put_varint(&mut self.records, index);
        }
        put_bytes(&mut self.records, 3, data);
        self.users += 1;
        true
    }

    /// Gives what was collected and is empty again; `None` if it is empty.
    pub(super) fn finish(&mut self) -> Option<Aggregated> {
        if self.users == 0 {
            return None;
        }
        let whole = std::mem::replace(self, Aggregator::new(self.limit));
        let mut data = Vec::with_capacity(whole.size());
        data.extend(MAGIC);
        for part in [&whole.partition_keys.bytes, &whole.hash_keys.bytes, &whole.records] {
            data.extend(part);
        }
        let digest = Md5::digest(&data[MAGIC.len()..]);
        data.extend(digest);
        let (partition_key, explicit_hash_key) = whole.first;
        Some(Aggregated { data, users: whole.users, partition_key, explicit_hash_key })
    }
}

/// A table of distinct keys and its bytes on the wire.
#[derive(Debug)]
struct Table {
    field: u8,
    places: HashMap<Box<str>, u64>,
    bytes: Vec<u8>,
}

impl Table {
    fn new(field: u8) -> Table {
        Table { field, places: HashMap::new(), bytes: Vec::new() }
    }

    /// Where `key` is or would be, and how many bytes it would add.
    fn place(&self, key: &str) -> (u64, usize) {
        match self.places.get(key) {
            Some(place) => (*place, 0),
            None => (self.places.len() as u64, 1 + sized(key.len())),
        }
    }

    fn enter(&mut self, key: &str) {
        if !self.places.contains_key(key) {
            self.places.insert(key.into(), self.places.len() as u64);
            put_bytes(&mut self.bytes, self.field, key.as_bytes());
        }
    }
}

/// How many bytes a length and so many bytes take.
fn sized(length: usize) -> usize {
    varint_size(length as u64) + length
}

fn varint_size(number: u64) -> usize {
    (number | 1).ilog2() as usize / 7 + 1
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number > 0x7F {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend(bytes);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "kpl_tests.rs"]
mod tests;
