#![allow(clippy::unwrap_used)]

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int32Array, Int64Array, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, TimeUnit, TimestampNanosecondType, UInt32Type};
use proptest::prelude::*;

use super::*;
use crate::batch::PartitionId;
use crate::format::Format;
use crate::quality::Rejected;

const ONE: PartitionId = PartitionId(1);

pub(super) fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// A field whose value is a number.
pub(super) fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

/// A field whose value has a length.
pub(super) fn bytes(field: u64, value: impl AsRef<[u8]>) -> Vec<u8> {
    [varint(field << 3 | 2), varint(value.as_ref().len() as u64), value.as_ref().to_vec()].concat()
}

/// A field's descriptor: its name, number, type, label (3: repeated), and what else there is.
pub(super) fn field(name: &str, at: u64, kind: u64, label: u64, more: &[Vec<u8>]) -> Vec<u8> {
    bytes(2, [bytes(1, name), number(3, at), number(4, label), number(5, kind), more.concat()].concat())
}

pub(super) fn scalar(name: &str, at: u64, kind: u64) -> Vec<u8> {
    field(name, at, kind, 1, &[])
}

pub(super) fn of(type_name: &str) -> Vec<u8> {
    bytes(6, type_name)
}

/// Messages of one file of package `shop`, in proto3, with the well-known ones that are used.
pub(super) fn set(messages: &[Vec<u8>]) -> Vec<u8> {
    let message = |message: &Vec<u8>| bytes(4, message);
    let file = [bytes(2, "shop"), messages.iter().flat_map(message).collect(), bytes(12, "proto3")].concat();
    let known = [
        bytes(4, [bytes(1, "Timestamp"), scalar("seconds", 1, 3), scalar("nanos", 2, 5)].concat()),
        bytes(4, [bytes(1, "Int64Value"), scalar("value", 1, 3)].concat()),
        bytes(4, [bytes(1, "StringValue"), scalar("value", 1, 9)].concat()),
    ];
    let known = [bytes(2, "google.protobuf"), known.concat(), bytes(12, "proto3")].concat();
    [bytes(1, file), bytes(1, known)].concat()
}

/// A message with a bit of everything.
pub(super) fn payment() -> Vec<u8> {
    let kind =
        [bytes(1, "Kind"), bytes(2, [bytes(1, "DEBIT"), number(2, 0)].concat()), bytes(2, [bytes(1, "CREDIT"), number(2, 1)].concat())];
    let item = [bytes(1, "Item"), scalar("id", 1, 5), field("tags", 2, 9, 3, &[])];
    let entry = [bytes(1, "CountsEntry"), scalar("key", 1, 9), scalar("value", 2, 5), bytes(7, number(7, 1))];
    [
        bytes(1, "Payment"),
        scalar("id", 1, 3),
        scalar("amount", 2, 1),
        scalar("card", 3, 9),
        field("note", 4, 9, 1, &[number(17, 1), number(9, 1)]),
        field("kind", 5, 14, 1, &[of(".shop.Payment.Kind")]),
        field("codes", 6, 17, 3, &[]),
        field("item", 7, 11, 1, &[of(".shop.Payment.Item")]),
        field("items", 8, 11, 3, &[of(".shop.Payment.Item")]),
        field("counts", 9, 11, 3, &[of(".shop.Payment.CountsEntry")]),
        field("cash", 10, 8, 1, &[number(9, 0)]),
        field("cheque", 11, 11, 1, &[number(9, 0), of(".shop.Payment.Item")]),
        field("at", 12, 11, 1, &[of(".google.protobuf.Timestamp")]),
        field("limit", 13, 11, 1, &[of(".google.protobuf.Int64Value")]),
        field("label", 14, 11, 1, &[of(".google.protobuf.StringValue")]),
        bytes(3, item.concat()),
        bytes(3, entry.concat()),
        bytes(4, kind.concat()),
        bytes(8, bytes(1, "how")),
        bytes(8, bytes(1, "_note")),
    ]
    .concat()
}

pub(super) fn protobuf() -> Protobuf {
    Protobuf::new(&set(&[payment()]), "shop.Payment").unwrap()
}

/// Rows of messages, and what is bad about the others by their place.
pub(super) fn decode(protobuf: &Protobuf, schema: &SchemaRef, records: &[Vec<u8>]) -> (Option<RecordBatch>, Vec<(usize, String)>) {
    let mut messages = Format::Protobuf(protobuf.clone()).messages(schema).unwrap().unwrap();
    let mut ends = vec![0];
    records.iter().for_each(|record| ends.push(ends.last().unwrap() + record.len()));
    let (ranges, mut bad): (Vec<_>, _) = (ends.windows(2).map(|pair| pair[0]..pair[1]).collect(), Vec::new());
    messages.decode(&records.concat(), &ranges, &mut bad).unwrap();
    assert_eq!(messages.rows() + bad.len(), records.len());
    assert!(bad.is_sorted_by_key(|(place, _)| *place));
    let rows = messages.rows();
    let taken = messages.take().unwrap();
    assert_eq!(rows, taken.as_ref().map_or(0, RecordBatch::num_rows));
    (taken, bad)
}

/// All columns of messages that are whole.
fn rows(records: &[Vec<u8>]) -> RecordBatch {
    let protobuf = protobuf();
    let (rows, bad) = decode(&protobuf, &protobuf.columns().unwrap(), records);
    assert!(bad.is_empty(), "{bad:?}");
    rows.unwrap()
}

#[test]
fn scalars_of_every_kind() {
    let kinds = [1, 2, 3, 4, 5, 6, 7, 8, 13, 15, 16, 17, 18];
    let fields = kinds.iter().flat_map(|&kind| scalar(&format!("f{kind}"), kind, kind)).collect::<Vec<u8>>();
    let lists = kinds.iter().flat_map(|&kind| field(&format!("l{kind}"), 100 + kind, kind, 3, &[])).collect::<Vec<u8>>();
    let protobuf = Protobuf::new(&set(&[[bytes(1, "All"), fields, lists].concat()]), "shop.All").unwrap();
    let value = |kind: u64| match kind {
        1 => (-1.5_f64).to_le_bytes().to_vec(),
        2 => (-1.5_f32).to_le_bytes().to_vec(),
        3 | 5 => varint(-2_i64 as u64),
        6 => u64::MAX.to_le_bytes().to_vec(),
        7 => u32::MAX.to_le_bytes().to_vec(),
        15 => (-3_i32).to_le_bytes().to_vec(),
        16 => (-3_i64).to_le_bytes().to_vec(),
        17 | 18 => varint(7),
        // More bits than the type has are cut off, as all decoders do.
        13 => varint(1 << 40 | 5),
        _ => varint(300),
    };
    let wire = |kind: u64| match kind {
        1 | 6 | 16 => 1,
        2 | 7 | 15 => 5,
        _ => 0,
    };
    let one = |kind: u64| [varint(kind << 3 | wire(kind)), value(kind)].concat();
    let list = |kind: u64| {
        let single = [varint((100 + kind) << 3 | wire(kind)), value(kind)].concat();
        [bytes(100 + kind, [value(kind), value(kind)].concat()), single].concat()
    };
    let record: Vec<u8> = kinds.iter().flat_map(|&kind| [one(kind), list(kind)].concat()).collect();
    let (found, bad) = decode(&protobuf, &protobuf.columns().unwrap(), &[vec![], record]);
    assert!(bad.is_empty());
    let found = found.unwrap();
    let expected: Vec<ArrayRef> = vec![
        Arc::new(Float64Array::from(vec![0.0, -1.5])),
        Arc::new(arrow::array::Float32Array::from(vec![0.0, -1.5])),
        Arc::new(Int64Array::from(vec![0, -2])),
        Arc::new(UInt64Array::from(vec![0, 300])),
        Arc::new(Int32Array::from(vec![0, -2])),
        Arc::new(UInt64Array::from(vec![0, u64::MAX])),
        Arc::new(arrow::array::UInt32Array::from(vec![0, u32::MAX])),
        Arc::new(BooleanArray::from(vec![false, true])),
        Arc::new(arrow::array::UInt32Array::from(vec![0, 5])),
        Arc::new(Int32Array::from(vec![0, -3])),
        Arc::new(Int64Array::from(vec![0, -3])),
        Arc::new(Int32Array::from(vec![0, -4])),
        Arc::new(Int64Array::from(vec![0, -4])),
    ];
    for (kind, expected) in kinds.iter().zip(expected) {
        assert_eq!(&found[format!("f{kind}").as_str()], &expected, "{kind}");
        let list = found[format!("l{kind}").as_str()].as_list::<i32>();
        assert_eq!((list.value(0).len(), list.value(1).len()), (0, 3));
        assert!((0..3).all(|at| list.value(1).slice(at, 1) == expected.slice(1, 1)), "{kind}");
    }
}

#[test]
fn what_is_not_there_is_the_default_or_null() {
    let found = rows(&[vec![], bytes(4, "")]);
    assert_eq!(found["id"].as_primitive::<Int64Type>().values(), &[0, 0]);
    assert_eq!(found["card"].as_ref(), &StringArray::from(vec!["", ""]) as &dyn Array);
    assert_eq!(found["note"].as_ref(), &StringArray::from(vec![None, Some("")]) as &dyn Array);
    for nullable in ["item", "cash", "cheque", "at", "limit", "label"] {
        assert_eq!(found[nullable].null_count(), 2, "{nullable}");
    }
    assert_eq!(found["codes"].as_list::<i32>().value(0).len(), 0);
    let schema = protobuf().columns().unwrap();
    let kind = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    for (name, expected, nullable) in [
        ("id", DataType::Int64, false),
        ("note", DataType::Utf8, true),
        ("kind", kind, false),
        ("codes", DataType::new_list(DataType::Int32, false), false),
        ("at", DataType::Timestamp(TimeUnit::Nanosecond, None), true),
        ("limit", DataType::Int64, true),
    ] {
        let field = schema.field_with_name(name).unwrap();
        assert_eq!((field.data_type(), field.is_nullable()), (&expected, nullable), "{name}");
    }
}

#[test]
fn the_last_scalar_counts_and_messages_are_merged() {
    let item = |id: u64, tags: &[&str]| [number(1, id), tags.iter().flat_map(|tag| bytes(2, tag)).collect()].concat();
    let found = rows(&[
        [number(1, 5), bytes(3, "a"), number(1, 6), bytes(3, "b")].concat(),
        [bytes(7, item(1, &["x"])), bytes(7, bytes(2, "y")), bytes(8, item(2, &["z"])), bytes(8, item(3, &[]))].concat(),
        // Of members of a `oneof` the last one counts, with nothing of those before it.
        [bytes(11, item(1, &["gone"])), number(10, 1)].concat(),
        [number(10, 1), bytes(11, item(4, &["kept"]))].concat(),
        // An entry without its value, one that is not known, a group, and what is of another wire type.
        [bytes(9, bytes(1, "k")), number(99, 1), varint(50 << 3 | 3), number(1, 9), varint(50 << 3 | 4), number(3, 7)].concat(),
        [bytes(9, [bytes(1, "k"), number(2, 1)].concat()), bytes(9, bytes(1, "l")), bytes(9, [number(2, 3), bytes(1, "k")].concat())]
            .concat(),
    ]);
    assert_eq!((found["id"].as_primitive::<Int64Type>().value(0), found["card"].as_string::<i32>().value(0)), (6, "b"));
    let items = found["item"].as_struct();
    assert_eq!(items.column(0).as_primitive::<Int32Type>().value(1), 1);
    assert_eq!(items.column(1).as_list::<i32>().value(1).as_ref(), &StringArray::from(vec!["x", "y"]) as &dyn Array);
    let several = found["items"].as_list::<i32>().value(1);
    assert_eq!(several.as_struct().column(0).as_primitive::<Int32Type>().values(), &[2, 3]);
    let (cash, cheque) = (found["cash"].as_boolean(), found["cheque"].as_struct());
    assert_eq!((cash.is_valid(2), cheque.is_valid(2), cash.is_valid(3), cheque.is_valid(3)), (true, false, false, true));
    let tags = cheque.column(1).as_list::<i32>();
    assert_eq!((tags.value(2).len(), tags.value(3).as_string::<i32>().value(0)), (0, "kept"));
    let counts = found["counts"].as_map();
    assert_eq!((counts.value(4).len(), counts.value(5).len()), (1, 2));
    let last = counts.value(5);
    assert_eq!(last.column(0).as_ref(), &StringArray::from(vec!["l", "k"]) as &dyn Array);
    assert_eq!(last.column(1).as_primitive::<Int32Type>().values(), &[0, 3]);
}

#[test]
fn enums_times_and_wrappers() {
    let time = |seconds: i64, nanos: i32| [number(1, seconds as u64), number(2, nanos as u64)].concat();
    let found = rows(&[
        [number(5, 1), bytes(12, time(1_700_000_000, 5)), bytes(13, number(1, 7)), bytes(14, bytes(1, "x"))].concat(),
        [number(5, 9), bytes(12, time(-1, 999_999_999)), bytes(13, []), bytes(14, [])].concat(),
        [bytes(12, number(1, 5)), bytes(12, number(2, 6))].concat(),
    ]);
    let kinds = arrow::compute::cast(&found["kind"], &DataType::Utf8).unwrap();
    assert_eq!(kinds.as_ref(), &StringArray::from(vec!["CREDIT", "9", "DEBIT"]) as &dyn Array);
    assert_eq!(found["at"].as_primitive::<TimestampNanosecondType>().values(), &[1_700_000_000_000_000_005, -1, 5_000_000_006]);
    assert_eq!(found["limit"].as_ref(), &Int64Array::from(vec![Some(7), Some(0), None]) as &dyn Array);
    assert_eq!(found["label"].as_ref(), &StringArray::from(vec![Some("x"), Some(""), None]) as &dyn Array);
    let first = rows(&[bytes(12, time(-9_223_372_037, 145_224_192))]);
    assert_eq!(first["at"].as_primitive::<TimestampNanosecondType>().values(), &[i64::MIN]);
    let protobuf = protobuf();
    let (_, bad) = decode(&protobuf, &protobuf.columns().unwrap(), &[bytes(12, time(i64::MAX / 1_000_000_000 + 1, 0))]);
    assert!(bad[0].1.contains("field 12") && bad[0].1.contains("1677 to 2262"), "{bad:?}");
}

#[test]
fn malformed_messages_stand_alone() {
    let good = |id: u64| [number(1, id), bytes(8, bytes(2, "t")), bytes(6, [1, 2])].concat();
    let bad: [(&str, Vec<u8>); 9] = [
        ("in the middle of a number", vec![0x08]),
        ("claims 200 bytes of the 1", vec![0x1A, 0xC8, 0x01, b'x']),
        ("not UTF-8", bytes(3, [0xFF])),
        ("more than ten bytes", [vec![0x08], vec![0xFF; 11]].concat()),
        ("wire type 7", vec![0x0F, 0]),
        ("has the number 0", vec![0x00, 0]),
        ("ends without having begun", varint(50 << 3 | 4)),
        ("in the middle of a number", [bytes(8, bytes(2, "cut")), bytes(6, [0x80])].concat()),
        ("field 7: field 2: a string is not UTF-8", bytes(7, [bytes(2, "u"), bytes(2, [0xC0])].concat())),
    ];
    let records: Vec<Vec<u8>> = bad.iter().enumerate().flat_map(|(at, (_, bad))| [good(at as u64), bad.clone()]).collect();
    let protobuf = protobuf();
    let (found, errors) = decode(&protobuf, &protobuf.columns().unwrap(), &records);
    let whole: Vec<Vec<u8>> = records.iter().step_by(2).cloned().collect();
    assert_eq!(found.unwrap(), rows(&whole), "nothing is left of what did not decode");
    assert_eq!(errors.len(), bad.len());
    for ((place, error), (at, (words, _))) in errors.iter().zip(bad.iter().enumerate()) {
        assert!(*place == 2 * at + 1 && error.contains(words), "{words}: {error}");
    }
}

#[test]
fn columns_are_asked_for_by_name_and_cast() {
    let asked = vec![
        Field::new("kind", DataType::Utf8, true),
        Field::new("id", DataType::UInt32, true),
        Field::new("new", DataType::Float64, true),
    ];
    let asked = Arc::new(Schema::new(asked));
    let (found, bad) = decode(&protobuf(), &asked, &[number(1, 7), number(1, -1_i64 as u64), [number(1, 8), number(5, 1)].concat()]);
    let found = found.unwrap();
    assert_eq!(found["id"].as_primitive::<UInt32Type>().values(), &[7, 8]);
    assert_eq!(found["kind"].as_ref(), &StringArray::from(vec!["DEBIT", "CREDIT"]) as &dyn Array);
    assert_eq!((found["new"].null_count(), bad[0].0), (2, 1));
    assert!(bad[0].1.contains("column `id` is Int64 in the message and cannot become UInt32"), "{bad:?}");
    // A member of a `oneof` ends those that are asked for, asked for itself or not.
    let asked = Arc::new(Schema::new(vec![Field::new("cash", DataType::Boolean, true)]));
    let (found, _) = decode(&protobuf(), &asked, &[[number(10, 1), bytes(11, [])].concat(), number(10, 1)]);
    assert_eq!(found.unwrap()["cash"].as_ref(), &BooleanArray::from(vec![None, Some(true)]) as &dyn Array);
}

#[test]
fn what_cannot_be_read_says_why() {
    let refuse = |set: &[u8], name: &str| Protobuf::new(set, name).unwrap_err().to_string();
    assert!(refuse(b"\xFF", "x").contains("no descriptor set"));
    assert!(refuse(b"", "x").contains("has no message; make one with `protoc"));
    let error = refuse(&set(&[payment()]), "shop.Refund");
    assert!(error.contains("no message `shop.Refund`; it has ") && error.contains("shop.Payment"), "{error}");
    let tree = [bytes(1, "Tree"), scalar("id", 1, 3), field("next", 2, 11, 1, &[of(".shop.Tree")])].concat();
    let tree = Protobuf::new(&set(&[tree]), "shop.Tree").unwrap();
    assert!(tree.columns().unwrap_err().to_string().contains("field `next`: message `shop.Tree` holds itself"));
    // Messages that double at every level.
    let level = |at: usize| {
        let next = of(&format!(".shop.L{}", at + 1));
        let fields = if at < 40 {
            ["a", "b"].iter().zip(1..).flat_map(|(name, at)| field(name, at, 11, 1, std::slice::from_ref(&next))).collect()
        } else {
            vec![]
        };
        [bytes(1, format!("L{at}")), fields].concat()
    };
    let wide = Protobuf::new(&set(&(0..=40).map(level).collect::<Vec<_>>()), "shop.L0").unwrap();
    assert!(wide.columns().unwrap_err().to_string().contains("more than 65536 fields"));
    let asked = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
    assert_eq!(decode(&tree, &asked, &[number(1, 3)]).0.unwrap().num_rows(), 1, "without it the others can be");
}

#[test]
fn records_as_confluents_serializers_write_them() {
    let protobuf = protobuf().confluent().unwrap();
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
    let record = |way: &[u8]| [&[0, 0, 0, 0, 9][..], way, &number(1, 5)].concat();
    let records = [record(&[0]), record(&[2, 0]), record(&[2, 2]), record(&[4, 0, 2]), vec![1, 0, 0, 0, 9, 0], vec![0, 0], record(&[0xFF])];
    let (found, bad) = decode(&protobuf, &schema, &records);
    assert_eq!(found.unwrap()["id"].as_primitive::<Int64Type>().values(), &[5, 5]);
    assert_eq!(bad.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [2, 3, 4, 5, 6]);
    assert!(bad[0].1.contains("another message of its file: the way to it is [1], not [0]"), "{bad:?}");
    let nested = Protobuf::new(&set(&[payment()]), "shop.Payment.Item").unwrap().confluent().unwrap();
    assert!(decode(&nested, &schema, &[record(&[4, 0, 0])]).1.is_empty());
    assert!(Format::Protobuf(nested).decoder(schema, &Config::default()).is_err());
}

/// What a stream of messages behind their lengths brings, in pieces.
fn stream(text: &[u8], piece: usize, config: &Config) -> Result<(Vec<i64>, Vec<Rejected>)> {
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
    let mut decoder = Format::Protobuf(protobuf()).decoder(schema, config)?;
    text.chunks(piece).try_for_each(|bytes| decoder.decode(ONE, bytes))?;
    decoder.end(ONE);
    let (rows, mut rejected) = (decoder.rows(), Vec::new());
    decoder.take_rejected(&mut rejected);
    let decoded = decoder.take()?;
    assert_eq!(rows, decoded.iter().flat_map(|decoded| &decoded.segments).map(|segment| segment.rows).sum::<usize>());
    Ok((decoded.map_or(Vec::new(), |decoded| decoded.records["id"].as_primitive::<Int64Type>().values().to_vec()), rejected))
}

fn delimited(message: &[u8]) -> Vec<u8> {
    [varint(message.len() as u64), message.to_vec()].concat()
}

#[test]
fn messages_behind_their_lengths_in_pieces() {
    let config = Config { max_line_bytes: 300, ..Config::default() };
    let long = [number(1, 99), bytes(3, "x".repeat(700))].concat();
    let parts = [number(1, 1), vec![0x08], long, number(1, 2), vec![], [number(1, 3), bytes(3, "y".repeat(250))].concat()];
    let text: Vec<u8> = parts.iter().flat_map(|part| delimited(part)).collect();
    for piece in [1, 2, 7, 100, 1 << 16] {
        let (ids, rejected) = stream(&text, piece, &config).unwrap();
        assert_eq!(ids, [1, 2, 0, 3], "{piece}");
        let offsets: Vec<u64> = rejected.iter().map(|row| row.offset).collect();
        assert_eq!(offsets, [3, 5], "{piece}: {rejected:?}");
        assert!(rejected[1].error.contains("of 705 bytes; at most 300 are taken"), "{rejected:?}");
    }
    let (ids, rejected) = stream(&text[..text.len() - 1], 50, &config).unwrap();
    assert_eq!((ids.len(), rejected.len()), (3, 3));
    assert!(rejected[2].error.contains("ends in the middle of a message"));
    let error = stream(&[0xFF; 9], 4, &config).unwrap_err().to_string();
    assert!(error.contains("byte 0") && error.contains("more than five bytes"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_a_row_or_quarantined_and_leave_others_alone(
        records in prop::collection::vec(prop::collection::vec((0..16_u8, prop::collection::vec(any::<u8>(), 0..12)), 0..6), 0..12),
    ) {
        // Bytes behind the tags of fields that there are go further than any bytes.
        let bytes_of = |(field, value): &(u8, Vec<u8>)| match value.first().map(|byte| byte % 4) {
            Some(0) => number((*field).into(), value.len() as u64),
            Some(1) => value.clone(),
            _ => bytes((*field).into(), value),
        };
        let records: Vec<Vec<u8>> = records.iter().map(|parts| parts.iter().flat_map(bytes_of).collect()).collect();
        let protobuf = protobuf();
        let schema = protobuf.columns().unwrap();
        let (together, bad) = decode(&protobuf, &schema, &records);
        let alone: Vec<RecordBatch> = records.iter().filter_map(|record| decode(&protobuf, &schema, std::slice::from_ref(record)).0).collect();
        prop_assert_eq!(alone.len() + bad.len(), records.len());
        if let Some(together) = together {
            let alone = arrow::compute::concat_batches(&schema, &alone).unwrap();
            for (name, column) in schema.fields().iter().map(|field| (field.name(), field.data_type())) {
                let plain = |batch: &RecordBatch| match column {
                    DataType::Dictionary(..) => arrow::compute::cast(&batch[name.as_str()], &DataType::Utf8).unwrap(),
                    _ => Arc::clone(&batch[name.as_str()]),
                };
                prop_assert_eq!(&plain(&together), &plain(&alone), "{}", name);
            }
        }
    }

    #[test]
    fn descriptor_sets_of_any_bytes_are_refused_or_read(at in any::<prop::sample::Index>(), byte in any::<u8>(), any in prop::collection::vec(any::<u8>(), 0..60)) {
        let mut damaged = set(&[payment()]);
        let at = at.index(damaged.len());
        damaged[at] = byte;
        for set in [damaged, any] {
            if let Ok(protobuf) = Protobuf::new(&set, "shop.Payment") {
                let _ = protobuf.columns().map(|schema| decode(&protobuf, &schema, &[number(1, 1), bytes(7, [])]));
            }
        }
    }
}
