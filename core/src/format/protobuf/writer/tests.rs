#![allow(clippy::unwrap_used)]

use std::sync::Mutex;

use arrow::array::{
    Array, ArrayRef, BooleanArray, DictionaryArray, FixedSizeListArray, Float64Array, Int8Array, Int32Array, Int64Array, ListArray,
    MapArray, NullArray, StringArray, StringViewArray, StructArray, TimestampMillisecondArray, TimestampSecondArray, UInt64Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields, Int32Type};

use super::super::tests::{bytes, decode, field, number, of, payment, protobuf, scalar, set, varint};
use super::*;

mod random;

fn batch(columns: &[(&str, ArrayRef)]) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.iter().map(|(name, array)| (*name, Arc::clone(array), true))).unwrap()
}

fn written(protobuf: &Protobuf, batch: &RecordBatch) -> Result<Vec<Vec<u8>>> {
    let values = ProtobufWriter::bare(protobuf.clone()).encoding(&batch.schema(), "t")?.values(batch)?;
    Ok(values.iter().map(|value| value.unwrap().to_vec()).collect())
}

/// The error of one column of payments.
fn refused(name: &str, array: ArrayRef) -> String {
    let error = written(&protobuf(), &batch(&[(name, array)])).unwrap_err();
    assert_eq!(error.kind(), crate::error::Kind::Schema);
    error.to_string()
}

/// A file of messages in proto2, or in what else its last fields say.
fn file(messages: &[Vec<u8>], last: &[u8]) -> Vec<u8> {
    bytes(1, [bytes(2, "shop"), messages.iter().flat_map(|message| bytes(4, message)).collect(), last.to_vec()].concat())
}

fn list(items: Vec<Option<Vec<i32>>>) -> ArrayRef {
    Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(
        items.into_iter().map(|items| items.map(|items| items.into_iter().map(Some))),
    ))
}

/// The examples of <https://protobuf.dev/programming-guides/encoding/>.
#[test]
fn bytes_are_those_of_the_specification() {
    let test = [
        bytes(1, "Test"),
        scalar("a", 1, 5),
        scalar("b", 2, 9),
        field("c", 3, 11, 1, &[of(".shop.Test")]),
        field("e", 5, 5, 3, &[]),
        field("f", 6, 5, 3, &[bytes(8, number(2, 1))]),
        scalar("g", 7, 17),
    ];
    let protobuf = Protobuf::new(&file(&[test.concat()], &[]), "shop.Test").unwrap();
    let inner =
        StructArray::from(vec![(Arc::new(Field::new("a", DataType::Int64, true)), Arc::new(Int64Array::from(vec![150])) as ArrayRef)]);
    let cases: [(&str, ArrayRef, &[u8]); 7] = [
        ("a", Arc::new(Int64Array::from(vec![150])), b"\x08\x96\x01"),
        ("a", Arc::new(Int8Array::from(vec![-2])), b"\x08\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        ("b", Arc::new(StringArray::from(vec!["testing"])), b"\x12\x07testing"),
        ("c", Arc::new(inner), b"\x1a\x03\x08\x96\x01"),
        ("e", list(vec![Some(vec![1, 2, 3])]), b"\x28\x01\x28\x02\x28\x03"),
        ("f", list(vec![Some(vec![3, 270, 86942])]), b"\x32\x06\x03\x8e\x02\x9e\xa7\x05"),
        ("g", Arc::new(Int32Array::from(vec![i32::MIN])), b"\x38\xff\xff\xff\xff\x0f"),
    ];
    for (name, column, expected) in cases {
        assert_eq!(written(&protobuf, &batch(&[(name, column)])).unwrap(), [expected], "{name}");
    }
    // Fields are in the order of their numbers, whatever that of the columns is.
    let both = batch(&[("b", Arc::new(StringArray::from(vec!["x"]))), ("a", Arc::new(Int64Array::from(vec![1])))]);
    assert_eq!(written(&protobuf, &both).unwrap(), [b"\x08\x01\x12\x01x"]);
}

#[test]
fn lengths_are_known_when_all_is_written() {
    for size in [0, 1, 123, 124, 125, 126, 127, 128, 129, 16_380, 16_390, 70_000] {
        let tags: ArrayRef = Arc::new(StringArray::from(vec!["y".to_owned(), "x".repeat(size)]));
        let item = Arc::new(Field::new("item", DataType::Utf8, true));
        let tags = ListArray::new(Arc::clone(&item), OffsetBuffer::from_lengths([2]), tags, None);
        let item = StructArray::from(vec![(Arc::new(Field::new("tags", tags.data_type().clone(), true)), Arc::new(tags) as ArrayRef)]);
        let columns = batch(&[("id", Arc::new(Int32Array::from(vec![5]))), ("item", Arc::new(item))]);
        let expected = [number(1, 5), bytes(7, [bytes(2, "y"), bytes(2, "x".repeat(size))].concat())].concat();
        assert_eq!(written(&protobuf(), &columns).unwrap(), [expected], "{size}");
    }
}

#[test]
fn what_is_not_there_or_the_default_is_left_out() {
    let columns = batch(&[
        ("id", Arc::new(Int64Array::from(vec![Some(0), None, Some(1)]))),
        ("amount", Arc::new(Float64Array::from(vec![Some(0.0), None, Some(-0.0)]))),
        ("card", Arc::new(StringArray::from(vec![Some(""), None, Some("c")]))),
        ("note", Arc::new(StringArray::from(vec![Some(""), None, Some("n")]))),
        ("kind", Arc::new(StringArray::from(vec![Some("DEBIT"), None, Some("CREDIT")]))),
        ("codes", list(vec![Some(vec![]), None, Some(vec![0, -1])])),
        ("cash", Arc::new(BooleanArray::from(vec![Some(false), None, Some(true)]))),
        ("limit", Arc::new(Int64Array::from(vec![Some(0), None, Some(7)]))),
        ("at", Arc::new(TimestampSecondArray::from(vec![Some(0), None, Some(1)]))),
    ]);
    let first = [bytes(4, ""), number(10, 0), bytes(12, ""), bytes(13, "")].concat();
    let amount = [varint(2 << 3 | 1), (-0.0_f64).to_le_bytes().to_vec()].concat();
    let last = [number(1, 1), amount, bytes(3, "c"), bytes(4, "n"), number(5, 1), bytes(6, [0, 1]), number(10, 1)];
    let last = [last.concat(), bytes(12, number(1, 1)), bytes(13, number(1, 7))].concat();
    assert_eq!(written(&protobuf(), &columns).unwrap(), [first, vec![], last]);
    let nothing = batch(&[("id", Arc::new(NullArray::new(2))), ("items", Arc::new(NullArray::new(2)))]);
    assert_eq!(written(&protobuf(), &nothing).unwrap(), [b"", b""]);
}

#[test]
fn columns_of_other_types_become_those_of_fields() {
    let kinds: DictionaryArray<Int32Type> = vec![Some("CREDIT"), None, Some("17")].into_iter().collect();
    let codes =
        FixedSizeListArray::new(Arc::new(Field::new("item", DataType::Int64, true)), 1, Arc::new(Int64Array::from(vec![1, 2, 3])), None);
    let columns = batch(&[
        ("id", Arc::new(UInt64Array::from(vec![1, 2, i64::MAX as u64]))),
        ("amount", Arc::new(Int32Array::from(vec![1, 2, 3]))),
        ("card", Arc::new(StringViewArray::from(vec![Some("a"), None, Some("é")]))),
        ("kind", Arc::new(kinds)),
        ("codes", Arc::new(codes)),
        ("at", Arc::new(TimestampMillisecondArray::from(vec![Some(-1), None, Some(1_500)]).with_timezone("UTC"))),
        ("label", Arc::new(BinaryArray::from(vec![Some(&b"x"[..]), None, Some(b"")]))),
    ]);
    let records = written(&protobuf(), &columns).unwrap();
    let (found, bad) = decode(&protobuf(), &columns.schema(), &records);
    assert!(bad.is_empty(), "{bad:?}");
    let found = found.unwrap();
    assert_eq!(found.column(0), columns.column(0));
    assert_eq!(found.column(1), columns.column(1));
    assert_eq!(found.column(2).as_ref(), &StringViewArray::from(vec!["a", "", "é"]) as &dyn Array);
    let kinds = arrow::compute::cast(found.column(3), &DataType::Utf8).unwrap();
    assert_eq!(kinds.as_ref(), &StringArray::from(vec!["CREDIT", "DEBIT", "17"]) as &dyn Array);
    assert_eq!(found.column(4), columns.column(4));
    assert_eq!(found.column(5), columns.column(5));
    assert_eq!(found.column(6), columns.column(6));
    let numbers = batch(&[("kind", Arc::new(Int64Array::from(vec![1, 0, -3])))]);
    let expected = [number(5, 1), vec![], number(5, -3_i64 as u64)];
    assert_eq!(written(&protobuf(), &numbers).unwrap(), expected);
}

#[test]
fn columns_that_a_message_cannot_hold_are_named_before_anything_is_written() {
    let numbers = || Arc::new(Int64Array::from(vec![1])) as ArrayRef;
    let texts = || Arc::new(StringArray::from(vec!["1"])) as ArrayRef;
    let error = refused("shop", numbers());
    assert!(error.starts_with("column `shop` is no field of message `shop.Payment`, which has id, amount, card"), "{error}");
    let inner = StructArray::from(vec![(Arc::new(Field::new("size", DataType::Int64, true)), numbers())]);
    let error = refused("item", Arc::new(inner));
    assert!(error.starts_with("column `item.size` is no field of message `shop.Payment.Item`, which has id, tags"), "{error}");
    for (name, array, says) in [
        ("id", texts(), "column `id` of type Utf8 cannot be written as int64"),
        ("id", Arc::new(Float64Array::from(vec![1.0])), "column `id` of type Float64 cannot be written as int64"),
        ("amount", texts(), "as double"),
        ("card", numbers(), "column `card` of type Int64 cannot be written as string"),
        ("kind", Arc::new(Float64Array::from(vec![1.0])), "as an enum"),
        ("codes", numbers(), "column `codes` of type Int64 cannot be written as a list"),
        ("counts", list(vec![None]), "as a map"),
        ("item", numbers(), "as message `shop.Payment.Item`"),
        ("at", numbers(), "as a timestamp"),
        ("limit", texts(), "as int64"),
        ("cash", numbers(), "as bool"),
    ] {
        let error = refused(name, array.slice(0, 0));
        assert!(error.contains(says), "{error}");
    }
    let twice =
        Arc::new(arrow::datatypes::Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("id", DataType::Int64, true)]));
    let error = ProtobufWriter::bare(protobuf()).encoding(&twice, "t").err().unwrap().to_string();
    assert!(error.contains("two columns are called `id`"), "{error}");
}

#[test]
fn values_that_do_not_fit_are_told_with_their_column_and_row() {
    let map = |value: Option<i32>| {
        let pair = Fields::from(vec![Field::new("keys", DataType::Utf8, false), Field::new("values", DataType::Int32, true)]);
        let columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(vec!["k"])), Arc::new(Int32Array::from(vec![value]))];
        let entries = StructArray::new(pair.clone(), columns, None);
        let entries_field = Arc::new(Field::new("entries", DataType::Struct(pair), false));
        Arc::new(MapArray::new(entries_field, OffsetBuffer::from_lengths([0, 1]), entries, None, false)) as ArrayRef
    };
    assert_eq!(written(&protobuf(), &batch(&[("counts", map(Some(0)))])).unwrap()[1], bytes(9, [bytes(1, "k"), number(2, 0)].concat()));
    let items = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1)]), Some(vec![Some(1), None])]);
    for (name, array, says) in [
        ("id", Arc::new(UInt64Array::from(vec![1, u64::MAX])) as ArrayRef, "`id` has 18446744073709551615, which does not fit into int64"),
        ("codes", Arc::new(items), "`codes[]` is null, which the field may not be"),
        ("counts", map(None), "`counts.value` is null"),
        (
            "kind",
            Arc::new(StringArray::from(vec!["DEBIT", "debit"])),
            "`kind` has the text \"debit\", and the field is an enum of CREDIT, DEBIT",
        ),
        ("kind", Arc::new(Int64Array::from(vec![0, 1 << 40])), "`kind` has 1099511627776, which does not fit into enum"),
        ("card", Arc::new(BinaryArray::from(vec![&b"a"[..], b"\xff"])), "`card` has bytes that are not UTF-8"),
        ("at", Arc::new(TimestampSecondArray::from(vec![253_402_300_799, 253_402_300_800])), "`at` has a time beyond the years 1 to 9999"),
    ] {
        let error = refused(name, array);
        assert!(error.starts_with("row 1 of a batch is no message `shop.Payment`: column ") && error.contains(says), "{error}");
    }
    let float = [bytes(1, "F"), scalar("f", 1, 2), scalar("u", 2, 4), scalar("s", 3, 13)].concat();
    let float = Protobuf::new(&set(&[float]), "shop.F").unwrap();
    let wide =
        |value| written(&float, &batch(&[("f", Arc::new(Float64Array::from(vec![value])) as ArrayRef)])).map_err(|error| error.to_string());
    assert!(wide(0.1).is_ok() && wide(f64::INFINITY).is_ok() && wide(f64::NAN).is_ok());
    assert!(wide(1e300).unwrap_err().contains("which does not fit into float"));
    for name in ["u", "s"] {
        assert!(
            written(&float, &batch(&[(name, Arc::new(Int64Array::from(vec![-1])) as ArrayRef)]))
                .unwrap_err()
                .to_string()
                .contains("has -1")
        );
    }
    let choice = batch(&[
        ("cash", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
        ("cheque", Arc::new(StructArray::new_empty_fields(3, Some(NullBuffer::from(vec![false, true, true]))))),
    ]);
    assert_eq!(written(&protobuf(), &choice.slice(0, 2)).unwrap(), [number(10, 1), bytes(11, "")]);
    let error = written(&protobuf(), &choice).unwrap_err().to_string();
    assert!(
        error.starts_with("row 2") && error.contains("columns `cash` and `cheque` both have a value, and are members of one `oneof`"),
        "{error}"
    );
}

#[test]
fn what_proto2_and_editions_have_besides() {
    let inner = [bytes(1, "Inner"), field("id", 1, 5, 2, &[])].concat();
    let outer = [
        bytes(1, "Outer"),
        field("name", 1, 9, 2, &[]),
        field("inner", 2, 11, 1, &[of(".shop.Inner")]),
        field("old", 3, 10, 1, &[of(".shop.Inner")]),
        field("many", 4, 13, 3, &[]),
    ];
    let old = Protobuf::new(&file(&[inner.clone(), outer.concat()], &[]), "shop.Outer").unwrap();
    let name = || ("name", Arc::new(StringArray::from(vec![Some("n"), None])) as ArrayRef);
    let inner_of = |id: Option<i32>| {
        let ids: ArrayRef = Arc::new(Int32Array::from(vec![id, None]));
        let nulls = NullBuffer::from(vec![true, false]);
        Arc::new(StructArray::new(vec![Field::new("id", DataType::Int32, true)].into(), vec![ids], Some(nulls))) as ArrayRef
    };
    let error = |columns: &[(&str, ArrayRef)]| written(&old, &batch(columns)).unwrap_err().to_string();
    let lacking = error(&[("inner", inner_of(Some(1)))]);
    assert!(lacking.contains("there is no column `name` for a required field of message `shop.Outer`"), "{lacking}");
    let lacking = error(&[name(), ("inner", Arc::new(StructArray::new_empty_fields(2, None)))]);
    assert!(lacking.contains("there is no column `inner.id` for a required field of message `shop.Inner`"), "{lacking}");
    let null = error(&[name(), ("inner", inner_of(Some(1)))]);
    assert!(null.starts_with("row 1") && null.contains("column `name` is null"), "{null}");
    let null = error(&[("name", Arc::new(StringArray::from(vec!["", ""]))), ("inner", inner_of(None))]);
    assert!(null.starts_with("row 0") && null.contains("column `inner.id` is null"), "{null}");
    let group = error(&[name(), ("old", inner_of(Some(1)))]);
    assert!(group.contains("column `old`: the field is a group, which is not written"), "{group}");
    let columns = [
        ("name", Arc::new(StringArray::from(vec!["", ""])) as ArrayRef),
        ("inner", inner_of(Some(0))),
        ("many", list(vec![None, Some(vec![1, 2])])),
    ];
    let expected = [[bytes(1, ""), bytes(2, number(1, 0))].concat(), [bytes(1, ""), number(4, 1), number(4, 2)].concat()];
    assert_eq!(written(&old, &batch(&columns)).unwrap(), expected);
    // As an edition: lists are packed unless told otherwise, and fields required where they are told to be.
    let feature = |number_of: u64, value: u64| bytes(8, bytes(21, number(number_of, value)));
    let outer = [
        bytes(1, "Outer"),
        field("name", 1, 9, 1, &[feature(1, 3)]),
        field("inner", 2, 11, 1, &[of(".shop.Inner"), feature(5, 2)]),
        field("many", 4, 13, 3, &[]),
        field("loose", 5, 13, 3, &[feature(3, 2)]),
    ];
    let edition =
        Protobuf::new(&file(&[inner, outer.concat()], &[bytes(12, "editions"), number(14, 1000)].concat()), "shop.Outer").unwrap();
    let columns = [
        ("name", Arc::new(StringArray::from(vec![""])) as ArrayRef),
        ("many", list(vec![Some(vec![1, 2])])),
        ("loose", list(vec![Some(vec![1, 2])])),
    ];
    let expected = [bytes(1, ""), bytes(4, [1, 2]), number(5, 1), number(5, 2)].concat();
    assert_eq!(written(&edition, &batch(&columns)).unwrap(), [expected]);
    let error = |columns: &[(&str, ArrayRef)]| written(&edition, &batch(columns)).unwrap_err().to_string();
    assert!(error(&columns[1..]).contains("no column `name`"));
    assert!(error(&[name(), ("inner", inner_of(Some(1)))]).contains("is a group"));
}

#[test]
fn messages_that_hold_themselves_are_as_deep_as_the_columns() {
    let tree = [bytes(1, "Tree"), scalar("id", 1, 3), field("next", 2, 11, 1, &[of(".shop.Tree")])].concat();
    let tree = Protobuf::new(&set(&[tree]), "shop.Tree").unwrap();
    let id = |id: i64| (Arc::new(Field::new("id", DataType::Int64, true)), Arc::new(Int64Array::from(vec![id])) as ArrayRef);
    let leaf = StructArray::from(vec![id(3)]);
    let branch = StructArray::from(vec![id(2), (Arc::new(Field::new("next", leaf.data_type().clone(), true)), Arc::new(leaf) as ArrayRef)]);
    let expected = [number(1, 1), bytes(2, [number(1, 2), bytes(2, number(1, 3))].concat())].concat();
    assert_eq!(written(&tree, &batch(&[("id", id(1).1), ("next", Arc::new(branch))])).unwrap(), [expected]);
}

/// A registry in memory: subjects and their schemas.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<(String, String)>>>);

impl Subjects for Memory {
    fn register(&self, subject: &str, schema: &str, kind: SchemaKind) -> Result<u32> {
        assert_eq!(kind, SchemaKind::Protobuf);
        let mut all = self.0.lock().unwrap();
        all.push((subject.to_owned(), schema.to_owned()));
        Ok(all.len() as u32)
    }

    fn find(&self, subject: &str, schema: &str, _: SchemaKind) -> Result<u32> {
        let all = self.0.lock().unwrap();
        let place = all.iter().position(|(known, text)| known == subject && text == schema);
        place.map(|place| place as u32 + 1).ok_or_else(|| Error::schema("not found"))
    }

    fn latest(&self, _: &str, _: SchemaKind) -> Result<(u32, String)> {
        Err(Error::schema("there is no need to ask"))
    }
}

#[test]
fn messages_stand_behind_the_number_of_their_file_and_the_way_to_them() {
    let (registry, set) = (Memory::default(), set(&[[bytes(1, "First"), scalar("id", 1, 3)].concat(), payment()]));
    let columns = batch(&[("id", Arc::new(Int64Array::from(vec![5])))]);
    let items = batch(&[("id", Arc::new(Int32Array::from(vec![5])))]);
    let write = |message: &str, change: &dyn Fn(ProtobufWriter) -> ProtobufWriter, batch: &RecordBatch| {
        let protobuf = Protobuf::new(&set, message).unwrap();
        let encoding = change(ProtobufWriter::confluent(protobuf, registry.clone())).encoding(&batch.schema(), "t");
        encoding.and_then(|encoding| encoding.values(batch)).map(|values| values.value(0).to_vec())
    };
    let error = write("shop.First", &|writer| writer.auto_register(false), &columns).unwrap_err();
    assert_eq!(error.to_string(), "not found");
    assert!(write("shop.First", &|writer| writer, &batch(&[("x", Arc::new(NullArray::new(1)))])).is_err());
    assert!(registry.0.lock().unwrap().is_empty(), "what the columns do not fit is not registered");
    assert_eq!(write("shop.First", &|writer| writer, &columns).unwrap(), b"\0\0\0\0\x01\0\x08\x05");
    assert_eq!(write("shop.First", &|writer| writer.auto_register(false), &columns).unwrap(), b"\0\0\0\0\x01\0\x08\x05");
    assert_eq!(write("shop.Payment", &|writer| writer.subject("s"), &columns).unwrap(), b"\0\0\0\0\x02\x02\x02\x08\x05");
    assert_eq!(write("shop.Payment.Item", &|writer| writer, &items).unwrap(), b"\0\0\0\0\x03\x04\x02\0\x08\x05");
    let numbered = ProtobufWriter::numbered(Protobuf::new(&set, "shop.Payment.Item").unwrap(), 0x0102_0304);
    assert_eq!(numbered.encoding(&items.schema(), "t").unwrap().values(&items).unwrap().value(0), b"\0\x01\x02\x03\x04\x04\x02\0\x08\x05");
    let all = registry.0.lock().unwrap().clone();
    assert_eq!(all.iter().map(|(subject, _)| subject.as_str()).collect::<Vec<_>>(), ["t-value", "s", "t-value"]);
    // The file is the schema, which reads what was written.
    let file = STANDARD.decode(&all[2].1).unwrap();
    let reading = Protobuf::new(&bytes(1, &file), "shop.Payment.Item").unwrap().confluent().unwrap();
    let record = write("shop.Payment.Item", &|writer| writer.auto_register(false), &items).unwrap();
    assert_eq!(decode(&reading, &items.schema(), &[record]).0.unwrap().column(0), items.column(0));
}

#[test]
fn files_that_import_others_say_what_to_do() {
    let one = [bytes(1, "One"), scalar("id", 1, 3)].concat();
    let known = [bytes(1, "a.proto"), bytes(3, "google/protobuf/timestamp.proto")].concat();
    let columns = batch(&[("id", Arc::new(Int64Array::from(vec![5])))]);
    let write = |head: &[u8]| {
        let protobuf = Protobuf::new(&file(std::slice::from_ref(&one), head), "shop.One").unwrap();
        ProtobufWriter::confluent(protobuf, Memory::default()).encoding(&columns.schema(), "t").map(|_| ())
    };
    write(&known).unwrap();
    let error = write(&[known, bytes(3, "shop/item.proto")].concat()).unwrap_err().to_string();
    assert!(error.contains("`shop.One` is in `a.proto`, which imports `shop/item.proto`, and cannot be registered without it"), "{error}");
    let any = Protobuf::new(&set(std::slice::from_ref(&one)), "google.protobuf.Any").unwrap();
    let typed = batch(&[("type_url", Arc::new(StringArray::from(vec!["x"])))]);
    assert_eq!(written(&any, &typed).unwrap(), [bytes(1, "x")]);
    let error = ProtobufWriter::confluent(any, Memory::default()).encoding(&typed.schema(), "t").err().unwrap().to_string();
    assert!(error.contains("is in no file of the descriptor set"), "{error}");
}
