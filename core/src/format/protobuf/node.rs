//! Columns that are being built out of messages, and what the message that is being read has for them so far.
//!
//! A field may come more than once: of scalars the last one counts, messages are merged, a member of a `oneof` puts an end to the others. So
//! a value waits in its node until the message is over ([`Node::commit`]) or does not decode ([`Node::discard`]). Items of lists are
//! committed one by one and cut off again if their message does not decode.

use std::collections::HashMap;

use super::shape::Shape;
use super::wire::{Reader, Value};

/// A column, or a part of one.
pub(super) struct Node {
    pub(super) data: Data,
    /// The type's number in `FieldDescriptorProto.Type`.
    pub(super) kind: u64,
    /// Of each value, whether it is there; `None` where absent ones have the default.
    pub(super) validity: Option<Vec<bool>>,
}

pub(super) enum Data {
    Bool(Scalar<bool>),
    Int32(Scalar<i32>),
    Int64(Scalar<i64>),
    UInt32(Scalar<u32>),
    UInt64(Scalar<u64>),
    Float32(Scalar<f32>),
    Float64(Scalar<f64>),
    Enum(Enum),
    Text(Bytes),
    Binary(Bytes),
    Timestamp(Timestamp),
    /// One of the well-known messages that hold one scalar, which is never of default presence.
    Wrapper(Box<Node>),
    Struct(Box<Shape>, bool),
    List(List),
    Map(Map),
}

#[derive(Default)]
pub(super) struct Scalar<T> {
    pub(super) values: Vec<T>,
    now: Option<T>,
}

/// Names of numbers, in a dictionary; a number without a name stands for itself.
#[derive(Default)]
pub(super) struct Enum {
    pub(super) keys: Vec<i32>,
    pub(super) names: Vec<String>,
    places: HashMap<i32, i32>,
    /// How many of the names are not of this batch alone.
    lasting: usize,
    now: Option<i32>,
}

/// Values that stand in the input until they are committed.
pub(super) struct Bytes {
    pub(super) offsets: Vec<i32>,
    pub(super) bytes: Vec<u8>,
    now: Option<(usize, usize)>,
}

/// Nanoseconds since the Unix epoch, out of seconds and nanoseconds.
#[derive(Default)]
pub(super) struct Timestamp {
    pub(super) values: Vec<i64>,
    now: Option<(i64, i32)>,
}

pub(super) struct List {
    pub(super) offsets: Vec<i32>,
    pub(super) item: Box<Node>,
}

pub(super) struct Map {
    pub(super) offsets: Vec<i32>,
    /// Key and value.
    pub(super) entry: Box<Shape>,
    /// Entries whose key comes again in their map.
    pub(super) repeated: Vec<usize>,
}

impl Enum {
    pub(super) fn new(names: &HashMap<i32, String>) -> Enum {
        let mut known = Enum::default();
        let mut sorted: Vec<(&i32, &String)> = names.iter().collect();
        sorted.sort();
        for (number, name) in sorted {
            known.places.insert(*number, known.names.len() as i32);
            known.names.push(name.clone());
        }
        known.lasting = known.names.len();
        known
    }

    fn key(&mut self, number: i32) -> i32 {
        *self.places.entry(number).or_insert_with(|| {
            self.names.push(number.to_string());
            self.names.len() as i32 - 1
        })
    }

    /// Forgets numbers without a name.
    pub(super) fn reset(&mut self) {
        self.names.truncate(self.lasting);
        let lasting = self.lasting as i32;
        self.places.retain(|_, place| *place < lasting);
    }
}

impl Default for Bytes {
    fn default() -> Bytes {
        Bytes { offsets: vec![0], bytes: Vec::new(), now: None }
    }
}

/// What a scalar of a type is in 64 bits; `None` if it is not of the wire type that this type has.
fn scalar(kind: u64, value: Value) -> Option<u64> {
    Some(match (kind, value) {
        (1 | 6 | 16, Value::Fixed64(bits)) => bits,
        (2 | 7 | 15, Value::Fixed32(bits)) => bits.into(),
        (3 | 4 | 5 | 13 | 14, Value::Varint(bits)) => bits,
        (8, Value::Varint(bits)) => u64::from(bits != 0),
        (17, Value::Varint(bits)) => u64::from((bits as u32 >> 1) ^ (bits as u32 & 1).wrapping_neg()),
        (18, Value::Varint(bits)) => (bits >> 1) ^ (bits & 1).wrapping_neg(),
        _ => return None,
    })
}

/// Whether a value is of the wire type that a field of this type has, once.
pub(super) fn is_of(kind: u64, value: Value) -> bool {
    match value {
        Value::Bytes(..) => matches!(kind, 9 | 11 | 12),
        value => scalar(kind, value).is_some(),
    }
}

/// Whether many scalars of a type may stand in one value.
pub(super) fn is_packable(kind: u64) -> bool {
    !matches!(kind, 9..=12)
}

/// The next of many scalars of a type.
fn packed(kind: u64, reader: &mut Reader<'_>) -> Result<Value, String> {
    match kind {
        1 | 6 | 16 => reader.fixed64().map(Value::Fixed64),
        2 | 7 | 15 => reader.fixed32().map(Value::Fixed32),
        _ => reader.varint().map(Value::Varint),
    }
}

impl Node {
    /// Takes the value of a field; one of another wire type than the field's is passed over, as one that is not known.
    ///
    /// # Errors
    /// In words, if it is malformed.
    pub(super) fn set(&mut self, bytes: &[u8], value: Value) -> Result<(), String> {
        match (&mut self.data, value) {
            (Data::List(list), value) => list.add(bytes, value),
            (Data::Map(map), Value::Bytes(start, end)) => map.add(bytes, start, end),
            (Data::Struct(shape, now), Value::Bytes(start, end)) => {
                *now = true;
                shape.read(&mut Reader::new(bytes, start, end), bytes)
            }
            (Data::Wrapper(inner), Value::Bytes(start, end)) => inner.unwrap_from(bytes, start, end),
            (Data::Timestamp(timestamp), Value::Bytes(start, end)) => timestamp.set(bytes, start, end),
            (Data::Text(text), Value::Bytes(start, end)) => match std::str::from_utf8(&bytes[start..end]) {
                Ok(_) => {
                    text.now = Some((start, end));
                    Ok(())
                }
                Err(_) => Err("a string is not UTF-8".to_owned()),
            },
            (Data::Binary(binary), Value::Bytes(start, end)) => {
                binary.now = Some((start, end));
                Ok(())
            }
            (_, value) => {
                if let Some(bits) = scalar(self.kind, value) {
                    self.set_bits(bits);
                }
                Ok(())
            }
        }
    }

    fn set_bits(&mut self, bits: u64) {
        match &mut self.data {
            Data::Bool(scalar) => scalar.now = Some(bits != 0),
            Data::Int32(scalar) => scalar.now = Some(bits as i32),
            Data::Int64(scalar) => scalar.now = Some(bits as i64),
            Data::UInt32(scalar) => scalar.now = Some(bits as u32),
            Data::UInt64(scalar) => scalar.now = Some(bits),
            Data::Float32(scalar) => scalar.now = Some(f32::from_bits(bits as u32)),
            Data::Float64(scalar) => scalar.now = Some(f64::from_bits(bits)),
            Data::Enum(of) => of.now = Some(bits as i32),
            _ => {}
        }
    }

    /// Takes the scalar out of a message that wraps it; without one it is the default.
    fn unwrap_from(&mut self, bytes: &[u8], start: usize, end: usize) -> Result<(), String> {
        if let Data::Text(of) | Data::Binary(of) = &mut self.data {
            of.now.get_or_insert((start, start));
        } else if !self.has_value() {
            self.set_bits(0);
        }
        let mut reader = Reader::new(bytes, start, end);
        while let Some((number, value)) = reader.field()? {
            if number == 1 {
                self.set(bytes, value)?;
            }
        }
        Ok(())
    }

    fn has_value(&self) -> bool {
        match &self.data {
            Data::Bool(scalar) => scalar.now.is_some(),
            Data::Int32(scalar) => scalar.now.is_some(),
            Data::Int64(scalar) => scalar.now.is_some(),
            Data::UInt32(scalar) => scalar.now.is_some(),
            Data::UInt64(scalar) => scalar.now.is_some(),
            Data::Float32(scalar) => scalar.now.is_some(),
            Data::Float64(scalar) => scalar.now.is_some(),
            Data::Enum(of) => of.now.is_some(),
            Data::Text(of) | Data::Binary(of) => of.now.is_some(),
            Data::Timestamp(timestamp) => timestamp.now.is_some(),
            Data::Wrapper(inner) => inner.has_value(),
            Data::Struct(_, now) => *now,
            Data::List(_) | Data::Map(_) => true,
        }
    }

    /// Makes what came since the last call a value.
    pub(super) fn commit(&mut self, bytes: &[u8]) {
        let has_value = self.has_value();
        if let Some(validity) = &mut self.validity {
            validity.push(has_value);
        }
        match &mut self.data {
            Data::Bool(scalar) => scalar.commit(),
            Data::Int32(scalar) => scalar.commit(),
            Data::Int64(scalar) => scalar.commit(),
            Data::UInt32(scalar) => scalar.commit(),
            Data::UInt64(scalar) => scalar.commit(),
            Data::Float32(scalar) => scalar.commit(),
            Data::Float64(scalar) => scalar.commit(),
            Data::Enum(of) => {
                let number = of.now.take().unwrap_or(0);
                let key = of.key(number);
                of.keys.push(key);
            }
            Data::Text(of) | Data::Binary(of) => {
                let (start, end) = of.now.take().unwrap_or((0, 0));
                of.bytes.extend_from_slice(&bytes[start..end]);
                of.offsets.push(of.bytes.len() as i32);
            }
            Data::Timestamp(timestamp) => {
                let (seconds, nanos) = timestamp.now.take().unwrap_or((0, 0));
                timestamp.values.push(nanoseconds(seconds, nanos).unwrap_or(0));
            }
            Data::Wrapper(inner) => inner.commit(bytes),
            Data::Struct(shape, now) => {
                *now = false;
                shape.commit(bytes);
            }
            Data::List(list) => list.offsets.push(list.item.len() as i32),
            Data::Map(map) => map.commit(),
        }
    }

    /// Forgets what came since the last commit.
    pub(super) fn discard(&mut self) {
        match &mut self.data {
            Data::Bool(scalar) => scalar.now = None,
            Data::Int32(scalar) => scalar.now = None,
            Data::Int64(scalar) => scalar.now = None,
            Data::UInt32(scalar) => scalar.now = None,
            Data::UInt64(scalar) => scalar.now = None,
            Data::Float32(scalar) => scalar.now = None,
            Data::Float64(scalar) => scalar.now = None,
            Data::Enum(of) => of.now = None,
            Data::Text(of) | Data::Binary(of) => of.now = None,
            Data::Timestamp(timestamp) => timestamp.now = None,
            Data::Wrapper(inner) => inner.discard(),
            Data::Struct(shape, now) => {
                *now = false;
                shape.discard();
            }
            Data::List(List { offsets, item }) => {
                item.discard();
                item.truncate(last(offsets));
            }
            Data::Map(Map { offsets, entry, .. }) => {
                entry.discard();
                entry.truncate(last(offsets));
            }
        }
    }

    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        match &self.data {
            Data::Bool(scalar) => scalar.values.len(),
            Data::Int32(scalar) => scalar.values.len(),
            Data::Int64(scalar) => scalar.values.len(),
            Data::UInt32(scalar) => scalar.values.len(),
            Data::UInt64(scalar) => scalar.values.len(),
            Data::Float32(scalar) => scalar.values.len(),
            Data::Float64(scalar) => scalar.values.len(),
            Data::Enum(of) => of.keys.len(),
            Data::Text(of) | Data::Binary(of) => of.offsets.len() - 1,
            Data::Timestamp(timestamp) => timestamp.values.len(),
            Data::Wrapper(inner) => inner.len(),
            Data::Struct(shape, _) => shape.len(),
            Data::List(List { offsets, .. }) | Data::Map(Map { offsets, .. }) => offsets.len() - 1,
        }
    }

    /// Leaves the first `length` values.
    pub(super) fn truncate(&mut self, length: usize) {
        if let Some(validity) = &mut self.validity {
            validity.truncate(length);
        }
        match &mut self.data {
            Data::Bool(scalar) => scalar.values.truncate(length),
            Data::Int32(scalar) => scalar.values.truncate(length),
            Data::Int64(scalar) => scalar.values.truncate(length),
            Data::UInt32(scalar) => scalar.values.truncate(length),
            Data::UInt64(scalar) => scalar.values.truncate(length),
            Data::Float32(scalar) => scalar.values.truncate(length),
            Data::Float64(scalar) => scalar.values.truncate(length),
            Data::Enum(of) => of.keys.truncate(length),
            Data::Text(of) | Data::Binary(of) => {
                of.offsets.truncate(length + 1);
                of.bytes.truncate(last(&of.offsets));
            }
            Data::Timestamp(timestamp) => timestamp.values.truncate(length),
            Data::Wrapper(inner) => inner.truncate(length),
            Data::Struct(shape, _) => shape.truncate(length),
            Data::List(List { offsets, item }) => {
                offsets.truncate(length + 1);
                item.truncate(last(offsets));
            }
            Data::Map(Map { offsets, entry, repeated }) => {
                offsets.truncate(length + 1);
                let left = last(offsets);
                entry.truncate(left);
                repeated.retain(|&entry| entry < left);
            }
        }
    }
}

/// The last offset, which is where the last value ends.
fn last(offsets: &[i32]) -> usize {
    offsets.last().map_or(0, |&offset| offset as usize)
}

impl<T: Default> Scalar<T> {
    fn commit(&mut self) {
        self.values.push(self.now.take().unwrap_or_default());
    }
}

impl Timestamp {
    fn set(&mut self, bytes: &[u8], start: usize, end: usize) -> Result<(), String> {
        let (mut seconds, mut nanos) = self.now.unwrap_or((0, 0));
        let mut reader = Reader::new(bytes, start, end);
        while let Some(field) = reader.field()? {
            match field {
                (1, Value::Varint(value)) => seconds = value as i64,
                (2, Value::Varint(value)) => nanos = value as i32,
                _ => {}
            }
        }
        self.now = Some((seconds, nanos));
        match nanoseconds(seconds, nanos) {
            Some(_) => Ok(()),
            None => Err(format!("a time of {seconds} s and {nanos} ns is beyond what nanoseconds in 64 bits can say (1677 to 2262)")),
        }
    }
}

fn nanoseconds(seconds: i64, nanos: i32) -> Option<i64> {
    // In 128 bits, as seconds before the first nanosecond have later ones.
    i64::try_from(i128::from(seconds) * 1_000_000_000 + i128::from(nanos)).ok()
}

impl List {
    fn add(&mut self, bytes: &[u8], value: Value) -> Result<(), String> {
        let kind = self.item.kind;
        match value {
            Value::Bytes(start, end) if is_packable(kind) => {
                let mut reader = Reader::new(bytes, start, end);
                while !reader.is_at_end() {
                    let value = packed(kind, &mut reader)?;
                    self.item.set(bytes, value)?;
                    self.item.commit(bytes);
                }
            }
            Value::Bytes(..) => {
                self.item.set(bytes, value)?;
                self.item.commit(bytes);
            }
            value => {
                if let Some(bits) = scalar(kind, value) {
                    self.item.set_bits(bits);
                    self.item.commit(bytes);
                }
            }
        }
        Ok(())
    }
}

impl Map {
    fn add(&mut self, bytes: &[u8], start: usize, end: usize) -> Result<(), String> {
        self.entry.read(&mut Reader::new(bytes, start, end), bytes)?;
        self.entry.commit(bytes);
        Ok(())
    }

    fn commit(&mut self) {
        let entries = last(&self.offsets)..self.entry.len();
        if entries.len() > 1 {
            let mut latest = HashMap::with_capacity(entries.len());
            let earlier = entries.clone().filter_map(|entry| latest.insert(self.entry.nodes[0].key(entry), entry));
            let earlier: Vec<usize> = earlier.collect();
            self.repeated.extend(earlier);
        }
        self.offsets.push(entries.end as i32);
    }
}

/// A key of a map, to be told from others.
#[derive(PartialEq, Eq, Hash)]
enum Key<'a> {
    Bits(u64),
    Bytes(&'a [u8]),
}

impl Node {
    fn key(&self, at: usize) -> Key<'_> {
        match &self.data {
            Data::Bool(scalar) => Key::Bits(scalar.values[at].into()),
            Data::Int32(scalar) => Key::Bits(scalar.values[at] as u64),
            Data::Int64(scalar) => Key::Bits(scalar.values[at] as u64),
            Data::UInt32(scalar) => Key::Bits(scalar.values[at].into()),
            Data::UInt64(scalar) => Key::Bits(scalar.values[at]),
            Data::Text(of) | Data::Binary(of) => Key::Bytes(&of.bytes[of.offsets[at] as usize..of.offsets[at + 1] as usize]),
            // Nothing else is a key; as none is equal to another, all are kept.
            _ => Key::Bits(at as u64),
        }
    }
}
