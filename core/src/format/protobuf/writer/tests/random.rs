//! Messages of any shape: what is written is read again as the same rows, by the decoder, which was not made of the encoder.

use arrow::array::{BinaryArray, Float32Array, RecordBatchOptions, StringArray, TimestampNanosecondArray, UInt32Array};
use arrow::datatypes::FieldRef;
use proptest::prelude::*;

use super::*;

/// Kinds of ours beside those of descriptors.
const TIMESTAMP: u64 = 100;
const INT64_VALUE: u64 = 101;
const STRING_VALUE: u64 = 102;

const KINDS: [u64; 20] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 18, TIMESTAMP, INT64_VALUE, STRING_VALUE];

/// Numbers by chance: SplitMix64 (Steele, Lea and Flood, 2014).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    /// A number of up to 64 bits, small ones and the greatest more often.
    fn bits(&mut self) -> u64 {
        match self.below(4) {
            0 => self.below(3),
            1 => (self.below(3)).wrapping_sub(2),
            2 => [i32::MAX as u64, i32::MIN as u64, i64::MAX as u64, i64::MIN as u64, u32::MAX.into()][self.below(5) as usize],
            _ => self.next() >> self.below(64),
        }
    }

    fn text(&mut self) -> String {
        ["", "a", "é\0", "häuser"][self.below(4) as usize].repeat(self.below(40) as usize)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Plain,
    Optional,
    Required,
    OneOf,
    Repeated,
    Map,
}

/// A field.
#[derive(Debug)]
struct Part {
    kind: u64,
    way: Way,
    /// The fields of the message that it is.
    inner: Vec<Part>,
}

struct Shapes {
    chance: Chance,
    is_proto3: bool,
    messages: Vec<Vec<u8>>,
}

impl Shapes {
    /// A message, whose descriptor is added, and its name.
    fn message(&mut self, depth: u64) -> (String, Vec<Part>) {
        let (mut parts, mut descriptor, mut choices) = (Vec::new(), Vec::new(), 0);
        for place in 1..=self.chance.below(6) {
            let number_of = if self.chance.one_in(5) { place + 20_000 } else { 20 - place };
            let (part, type_name) = self.part(depth);
            let label = match part.way {
                Way::Required => 2,
                Way::Repeated | Way::Map => 3,
                _ => 1,
            };
            let mut more: Vec<Vec<u8>> = type_name.iter().map(|name| of(name)).collect();
            match part.way {
                Way::OneOf => more.push(number(9, 0)),
                Way::Optional if self.is_proto3 => {
                    choices += 1;
                    more.extend([number(17, 1), number(9, choices)]);
                }
                Way::Repeated if self.chance.one_in(2) => more.push(bytes(8, number(2, self.chance.below(2)))),
                _ => {}
            }
            let kind = if part.kind >= TIMESTAMP || part.way == Way::Map { 11 } else { part.kind };
            descriptor.extend(field(&format!("f{number_of}"), number_of, kind, label, &more));
            parts.push(part);
        }
        let name = format!("M{}", self.messages.len());
        self.messages.push([bytes(1, &name), descriptor].concat());
        (format!(".shop.{name}"), parts)
    }

    /// A field, and the name of its type.
    fn part(&mut self, depth: u64) -> (Part, Option<String>) {
        let ways =
            [Way::Plain, Way::Optional, if self.is_proto3 { Way::Plain } else { Way::Required }, Way::OneOf, Way::Repeated, Way::Map];
        let (way, mut kind) = (ways[self.chance.below(6) as usize], KINDS[self.chance.below(20) as usize]);
        if kind == 11 && depth == 0 {
            kind = 9;
        }
        let (mut type_name, mut inner) = (None, Vec::new());
        match kind {
            11 => {
                let (name, parts) = self.message(depth - 1);
                (type_name, inner) = (Some(name), parts);
            }
            14 => type_name = Some(".shop.Kind".to_owned()),
            TIMESTAMP => type_name = Some(".google.protobuf.Timestamp".to_owned()),
            INT64_VALUE => type_name = Some(".google.protobuf.Int64Value".to_owned()),
            STRING_VALUE => type_name = Some(".google.protobuf.StringValue".to_owned()),
            _ => {}
        }
        if way == Way::Map {
            let name = format!("M{}", self.messages.len());
            let more: Vec<Vec<u8>> = type_name.iter().map(|name| of(name)).collect();
            let value = field("value", 2, if kind >= TIMESTAMP { 11 } else { kind }, 1, &more);
            let key = if self.chance.one_in(2) { 9 } else { 3 };
            self.messages.push([bytes(1, &name), scalar("key", 1, key), value, bytes(7, number(7, 1))].concat());
            type_name = Some(format!(".shop.{name}"));
        }
        (Part { kind, way, inner }, type_name)
    }
}

/// Columns of a message.
fn columns(parts: &[Part], fields: &Fields, rows: usize, chance: &mut Chance) -> Vec<ArrayRef> {
    // Which member of the `oneof` each row has, if any.
    let members: Vec<usize> = (0..parts.len()).filter(|place| parts[*place].way == Way::OneOf).collect();
    let chosen: Vec<Option<usize>> = (0..rows).map(|_| members.get(chance.below(members.len() as u64 + 1) as usize).copied()).collect();
    let column = |(place, (part, field)): (usize, (&Part, &FieldRef))| {
        let validity: Option<Vec<bool>> = match part.way {
            Way::OneOf => Some(chosen.iter().map(|chosen| *chosen == Some(place)).collect()),
            Way::Required => None,
            _ => field.is_nullable().then(|| (0..rows).map(|_| !chance.one_in(3)).collect()),
        };
        let offsets = || OffsetBuffer::<i32>::from_lengths((0..rows).map(|row| (row * 7 + place) % 4));
        match field.data_type() {
            DataType::List(item) if part.way == Way::Repeated => {
                let offsets = offsets();
                let items = values(part, item.data_type(), *offsets.last().unwrap() as usize, None, chance);
                Arc::new(ListArray::new(Arc::clone(item), offsets, items, None)) as ArrayRef
            }
            DataType::Map(entries, _) => {
                let offsets = offsets();
                let count = *offsets.last().unwrap() as usize;
                let DataType::Struct(pair) = entries.data_type() else { panic!("{entries}") };
                let keys: ArrayRef = match pair[0].data_type() {
                    DataType::Utf8 => Arc::new(StringArray::from_iter_values((0..count).map(|key| key.to_string()))),
                    _ => Arc::new(Int64Array::from_iter_values((0..count as i64).map(|key| key - 3))),
                };
                let found = values(part, pair[1].data_type(), count, None, chance);
                let pairs = StructArray::new(pair.clone(), vec![keys, found], None);
                Arc::new(MapArray::new(Arc::clone(entries), offsets, pairs, None, false))
            }
            kind => values(part, kind, rows, validity.map(NullBuffer::from), chance),
        }
    };
    parts.iter().zip(fields).enumerate().map(column).collect()
}

/// Values of a field that is there once.
fn values(part: &Part, kind: &DataType, rows: usize, nulls: Option<NullBuffer>, chance: &mut Chance) -> ArrayRef {
    let numbers = |chance: &mut Chance| (0..rows).map(|_| chance.bits()).collect::<Vec<u64>>();
    match part.kind {
        1 => Arc::new(Float64Array::new(numbers(chance).into_iter().map(float).collect(), nulls)),
        2 => Arc::new(Float32Array::new(numbers(chance).into_iter().map(|bits| float(bits) as f32).collect(), nulls)),
        3 | 16 | 18 | INT64_VALUE => Arc::new(Int64Array::new(numbers(chance).into_iter().map(|bits| bits as i64).collect(), nulls)),
        4 | 6 => Arc::new(UInt64Array::new(numbers(chance).into(), nulls)),
        5 | 15 | 17 => Arc::new(Int32Array::new(numbers(chance).into_iter().map(|bits| bits as i32).collect(), nulls)),
        7 | 13 => Arc::new(UInt32Array::new(numbers(chance).into_iter().map(|bits| bits as u32).collect(), nulls)),
        8 => Arc::new(BooleanArray::new(numbers(chance).into_iter().map(|bits| bits & 1 == 1).collect::<Vec<_>>().into(), nulls)),
        9 | STRING_VALUE => {
            let texts = StringArray::from_iter_values((0..rows).map(|_| chance.text()));
            Arc::new(StringArray::new(texts.offsets().clone(), texts.values().clone(), nulls))
        }
        12 => {
            let texts = BinaryArray::from_iter_values((0..rows).map(|_| [chance.text().as_bytes(), b"\xff"].concat()));
            Arc::new(BinaryArray::new(texts.offsets().clone(), texts.values().clone(), nulls))
        }
        14 => {
            let names = Arc::new(StringArray::from(vec!["ZERO", "17", "MINUS", "-5", "ONE"]));
            let keys = (0..rows).map(|_| chance.below(5) as i32).collect();
            Arc::new(DictionaryArray::new(Int32Array::new(keys, nulls), names))
        }
        TIMESTAMP => Arc::new(TimestampNanosecondArray::new(numbers(chance).into_iter().map(|bits| bits as i64).collect(), nulls)),
        _ => {
            let DataType::Struct(fields) = kind else { panic!("{kind} for {part:?}") };
            let inner = columns(&part.inner, fields, rows, chance);
            Arc::new(StructArray::try_new_with_length(fields.clone(), inner, nulls, rows).unwrap())
        }
    }
}

fn float(bits: u64) -> f64 {
    match bits % 5 {
        0 => 0.0,
        1 => -0.0,
        2 => f64::INFINITY,
        _ => bits as i64 as f64 / 16.0,
    }
}

fn shape(seed: u64) -> (Protobuf, Vec<Part>, Chance) {
    let mut shapes = Shapes { chance: Chance(seed), is_proto3: seed.is_multiple_of(2), messages: Vec::new() };
    let (name, parts) = shapes.message(3);
    let value = |name: &str, of: i64| bytes(2, [bytes(1, name), number(2, of as u64)].concat());
    let kinds = [bytes(1, "Kind"), value("ZERO", 0), value("ONE", 1), value("MINUS", -2)].concat();
    let last = [bytes(5, kinds), if shapes.is_proto3 { bytes(12, "proto3") } else { Vec::new() }].concat();
    let set = [set(&[]), file(&shapes.messages, &last)].concat();
    (Protobuf::new(&set, &name).unwrap(), parts, shapes.chance)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rows_are_read_as_they_were_written(seed in any::<u64>(), rows in 1usize..9, cut in 0usize..9) {
        let (protobuf, parts, mut chance) = shape(seed);
        let schema = protobuf.columns().unwrap();
        let arrays = columns(&parts, schema.fields(), rows, &mut chance);
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(schema.clone(), arrays, &options).unwrap();
        let records = written(&protobuf, &batch).unwrap();
        let (found, bad) = decode(&protobuf, &schema, &records);
        prop_assert!(bad.is_empty(), "{bad:?}");
        prop_assert_eq!(&found.unwrap(), &batch);
        // Neither what the rows were cut of nor the order of the columns is seen in them.
        let cut = cut.min(rows);
        prop_assert_eq!(&written(&protobuf, &batch.slice(cut, rows - cut)).unwrap(), &records[cut..]);
        let turned: Vec<usize> = (0..schema.fields().len()).rev().collect();
        prop_assert_eq!(&written(&protobuf, &batch.project(&turned).unwrap()).unwrap(), &records);
    }
}
