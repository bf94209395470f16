//! What is written is read again; what cannot be is named.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::sync::Mutex;

use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::*;
use proptest::prelude::*;

use super::*;
use crate::error::Kind;
use crate::format::Format;
use crate::format::avro::{Avro, WriterSchemas};

/// A registry in memory that takes any schema.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<(String, String)>>>);

impl Subjects for Memory {
    fn register(&self, subject: &str, schema: &str, kind: SchemaKind) -> Result<u32> {
        assert_eq!(kind, SchemaKind::Avro);
        let mut all = self.0.lock().unwrap();
        all.push((subject.to_owned(), schema.to_owned()));
        Ok(all.len() as u32 + 6)
    }

    fn find(&self, subject: &str, schema: &str, _: SchemaKind) -> Result<u32> {
        let all = self.0.lock().unwrap();
        let place = all.iter().position(|(known, text)| known == subject && text == schema);
        place.map(|place| place as u32 + 7).ok_or_else(|| Error::schema("not found"))
    }

    fn latest(&self, subject: &str, kind: SchemaKind) -> Result<(u32, String)> {
        let all = self.0.lock().unwrap();
        let (_, schema) = all.iter().rfind(|(known, _)| known == subject).cloned().ok_or_else(|| Error::connector("no subject"))?;
        drop(all);
        Ok((self.find(subject, &schema, kind)?, schema))
    }
}

impl WriterSchemas for Memory {
    fn schema(&self, id: u32) -> Result<Option<Arc<str>>> {
        Ok(self.0.lock().unwrap().get(id as usize - 7).map(|(_, schema)| Arc::from(schema.as_str())))
    }
}

fn batch(columns: &[(&str, ArrayRef)]) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.iter().map(|(name, array)| (*name, Arc::clone(array), true))).unwrap()
}

/// What our own source makes of values.
fn read(values: &BinaryArray, format: Avro, columns: &SchemaRef) -> RecordBatch {
    let mut messages = Format::Avro(format).messages(columns).unwrap().unwrap();
    let ranges: Vec<_> = values.value_offsets().windows(2).map(|pair| pair[0] as usize..pair[1] as usize).collect();
    let mut bad = Vec::new();
    messages.decode(values.value_data(), &ranges, &mut bad).unwrap();
    assert!(bad.is_empty(), "{bad:?}");
    messages.take().unwrap().unwrap()
}

fn round(writer: &AvroWriter, format: Avro, batch: &RecordBatch, columns: &SchemaRef) -> RecordBatch {
    let mut encoding = writer.encoding(&batch.schema(), "t").unwrap();
    assert_eq!(encoding.values(&batch.slice(0, 0)).unwrap().len(), 0);
    read(&encoding.values(batch).unwrap(), format, columns)
}

/// Columns of every type that has a place in Avro, of `count` rows, some of them null.
fn everything(count: usize) -> RecordBatch {
    let some = |row: usize, of: usize| !row.is_multiple_of(of);
    let ints = || (0..count).map(|row| some(row, 3).then_some(row as i64 - 2));
    let text = |row: usize| format!("{row}é").repeat(row % 4);
    let list = {
        let lengths = (0..count).map(|row| row % 3);
        let items = Int64Array::from_iter((0..count).flat_map(|row| (0..row % 3).map(move |at| (at == 0).then_some(row as i64))));
        let nulls = NullBuffer::from_iter((0..count).map(|row| some(row, 5)));
        let item = Arc::new(Field::new_list_field(DataType::Int64, true));
        // A null list has no items.
        let offsets = OffsetBuffer::from_lengths(lengths);
        Arc::new(ListArray::new(item, offsets, Arc::new(items), Some(nulls))) as ArrayRef
    };
    let inner: ArrayRef = Arc::new(StringArray::from_iter((0..count).map(|row| some(row, 2).then(|| text(row)))));
    let fields = Fields::from(vec![Field::new("name", DataType::Utf8, true)]);
    let record = StructArray::new(fields, vec![inner], Some(NullBuffer::from_iter((0..count).map(|row| some(row, 4)))));
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    for row in 0..count {
        for entry in 0..row % 3 {
            map.keys().append_value(text(entry + 1));
            map.values().append_option((entry > 0).then_some(row as i64));
        }
        map.append(some(row, 6)).unwrap();
    }
    let cents = Decimal128Array::from_iter(ints().map(|cents| cents.map(i128::from))).with_precision_and_scale(12, 2).unwrap();
    let wide = Decimal256Array::from_iter(ints().map(|cents| cents.map(i256::from))).with_precision_and_scale(60, 9).unwrap();
    let pair = FixedSizeListArray::from_iter_primitive::<Int64Type, _, _>((0..count).map(|row| some(row, 3).then_some([Some(1), None])), 2);
    let words: DictionaryArray<Int32Type> = (0..count).map(|row| some(row, 4).then_some(["a", "b"][row % 2])).collect();
    let fixed = FixedSizeBinaryArray::try_from_sparse_iter_with_size((0..count).map(|row| some(row, 3).then_some([row as u8; 3])), 3);
    batch(&[
        ("flag", Arc::new(BooleanArray::from_iter((0..count).map(|row| some(row, 3).then_some(row % 2 == 0))))),
        ("i8", cast(&Int64Array::from_iter(ints()), &DataType::Int8).unwrap()),
        ("u32", Arc::new(UInt32Array::from_iter(ints().map(|number| number.map(|number| number.unsigned_abs() as u32))))),
        ("i64", Arc::new(Int64Array::from_iter(ints().map(|number| number.map(|number| number << 40))))),
        ("f32", Arc::new(Float32Array::from_iter(ints().map(|number| number.map(|number| number as f32 / 3.0))))),
        ("f64", Arc::new(Float64Array::from_iter(ints().map(|number| number.map(|number| number as f64 / 3.0))))),
        ("text", Arc::new(StringArray::from_iter((0..count).map(|row| some(row, 3).then(|| text(row)))))),
        ("view", Arc::new(StringViewArray::from_iter((0..count).map(|row| some(row, 3).then(|| text(row)))))),
        ("bytes", Arc::new(BinaryArray::from_iter((0..count).map(|row| some(row, 3).then(|| text(row).into_bytes()))))),
        ("fixed", Arc::new(fixed.unwrap())),
        ("cents", Arc::new(cents)),
        ("day", Arc::new(Date32Array::from_iter(ints().map(|number| number.map(|number| number as i32))))),
        ("time", Arc::new(Time64MicrosecondArray::from_iter(ints().map(|number| number.map(i64::abs))))),
        ("seconds", Arc::new(TimestampSecondArray::from_iter(ints()))),
        ("at", Arc::new(TimestampMillisecondArray::from_iter(ints()))),
        ("zoned", Arc::new(TimestampMicrosecondArray::from_iter(ints()).with_timezone("+02:00"))),
        ("nanos", Arc::new(TimestampNanosecondArray::from_iter(ints()))),
        ("words", Arc::new(words)),
        ("nothing", Arc::new(NullArray::new(count))),
        ("f16", cast(&Int64Array::from_iter(ints()), &DataType::Float16).unwrap()),
        ("large", cast(&StringArray::from_iter((0..count).map(|row| some(row, 3).then(|| text(row)))), &DataType::LargeUtf8).unwrap()),
        ("date64", cast(&Date32Array::from_iter(ints().map(|number| number.map(|number| number as i32))), &DataType::Date64).unwrap()),
        ("time32", Arc::new(Time32SecondArray::from_iter(ints().map(|number| number.map(|number| number.abs() as i32))))),
        ("wide", Arc::new(wide)),
        ("pair", Arc::new(pair)),
        ("list", list),
        ("record", Arc::new(record)),
        ("map", Arc::new(map.finish())),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]
    #[test]
    fn every_type_is_read_as_it_was_written(count in 1usize..40, start in 0usize..40) {
        let whole = everything(count);
        let rows = whole.slice(start.min(count - 1), count - start.min(count - 1));
        let registry = Memory::default();
        let found = round(&AvroWriter::confluent(registry.clone()), Avro::confluent(registry), &rows, &rows.schema());
        for (column, field) in rows.columns().iter().zip(rows.schema().fields()) {
            let found = cast(&found[field.name().as_str()], field.data_type()).unwrap();
            prop_assert_eq!(&found, column, "{}", field.name());
        }
    }
}

#[test]
fn a_schema_is_made_of_the_columns_and_registered() {
    let (registry, rows) = (Memory::default(), everything(3));
    let mut encoding = AvroWriter::confluent(registry.clone()).encoding(&rows.schema(), "my-topic").unwrap();
    let values = encoding.values(&rows).unwrap();
    assert!(values.iter().all(|value| value.unwrap().starts_with(&[0, 0, 0, 0, 7])));
    let (subject, schema) = registry.0.lock().unwrap()[0].clone();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    assert_eq!((subject.as_str(), &schema["name"]), ("my-topic-value", &"my_topic_value".into()));
    let kind = |name: &str| {
        let field = schema["fields"].as_array().unwrap().iter().find(|field| field["name"] == name).unwrap();
        assert_eq!((&field["type"][0], &field["default"]), (&"null".into(), &Value::Null), "{name}");
        field["type"][1].to_string()
    };
    let expected = [
        ("i8", r#""int""#),
        ("u32", r#""long""#),
        ("view", r#""string""#),
        ("words", r#""string""#),
        ("fixed", r#"{"name":"my_topic_value_fixed","size":3,"type":"fixed"}"#),
        ("cents", r#"{"logicalType":"decimal","precision":12,"scale":2,"type":"bytes"}"#),
        ("seconds", r#"{"logicalType":"timestamp-millis","type":"long"}"#),
        ("zoned", r#"{"logicalType":"timestamp-micros","type":"long"}"#),
        ("list", r#"{"items":["null","long"],"type":"array"}"#),
        ("map", r#"{"type":"map","values":["null","long"]}"#),
    ];
    for (name, expected) in expected {
        assert_eq!(kind(name), expected, "{name}");
    }
    let required: SchemaRef = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
    AvroWriter::confluent(registry.clone()).subject("s").encoding(&required, "t").unwrap();
    let expected = r#"{"fields":[{"name":"id","type":"long"}],"name":"s","type":"record"}"#;
    assert_eq!(registry.0.lock().unwrap()[1], ("s".to_owned(), expected.to_owned()));
}

#[test]
fn a_schema_is_found_where_it_is_not_to_be_registered() {
    let registry = Memory::default();
    let rows = batch(&[("id", Arc::new(Int64Array::from(vec![1])))]);
    let writer = || AvroWriter::confluent(registry.clone()).auto_register(false);
    let error = |writer: AvroWriter| writer.encoding(&rows.schema(), "t").err().unwrap().to_string();
    let schema = |kind: &str| format!(r#"{{"type":"record","name":"R","fields":[{{"name":"id","type":"{kind}"}}]}}"#);
    assert_eq!(error(writer()), "no subject");
    assert_eq!(error(writer().schema(schema("int"))), "not found");
    registry.register("t-value", &schema("int"), SchemaKind::Avro).unwrap();
    registry.register("t-value", &schema("string"), SchemaKind::Avro).unwrap();
    let mut encoding = writer().schema(schema("int")).encoding(&rows.schema(), "t").unwrap();
    assert_eq!(encoding.values(&rows).unwrap().value(0), [0, 0, 0, 0, 7, 2]);
    let latest = error(writer());
    assert!(latest.starts_with("schema 8 of subject `t-value`: column `id` of type Int64 cannot be written as Utf8"), "{latest}");
    // What does not fit is not registered.
    let error = AvroWriter::confluent(registry.clone()).schema(schema("boolean")).encoding(&rows.schema(), "t").err().unwrap();
    assert!(error.kind() == Kind::Schema && registry.0.lock().unwrap().len() == 2, "{error}");
}

const GIVEN: &str = r#"{"type":"record","name":"shop.Payment","fields":[
    {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"id","type":"int"},
    {"name":"amount","type":["double","null"]},
    {"name":"kind","type":{"type":"enum","name":"Kind","symbols":["debit","credit"]}},
    {"name":"text_id","type":{"type":"string","logicalType":"uuid"}},
    {"name":"bytes_id","type":{"type":"fixed","name":"Id","size":16,"logicalType":"uuid"}},
    {"name":"places","type":{"type":"array","items":{"type":"record","name":"Place","fields":[
        {"name":"kind","type":["null","Kind"]},{"name":"lat","type":"float"},{"name":"note","type":["null","string"]}]}}},
    {"name":"absent","type":["null","Place"],"default":null}]}"#;

fn given(kinds: &[Option<&str>]) -> RecordBatch {
    let places: Vec<(&str, ArrayRef)> =
        vec![("lat", Arc::new(Float64Array::from(vec![1.5; 2]))), ("kind", Arc::new(StringArray::from(vec![Some("credit"), None])))];
    let places = StructArray::try_from(places).unwrap();
    let item = Arc::new(Field::new_list_field(places.data_type().clone(), false));
    let id = |row: usize| "0f".repeat(16 - row) + &"a0".repeat(row);
    let ids: Vec<String> = (0..kinds.len()).map(id).collect();
    let bytes: Vec<[u8; 16]> = ids.iter().map(|id| u128::from_str_radix(id, 16).unwrap().to_be_bytes()).collect();
    let offsets = OffsetBuffer::from_lengths((0..kinds.len()).map(|row| if row == 0 { 2 } else { 0 }));
    batch(&[
        ("id", Arc::new(Int64Array::from_iter_values(0..kinds.len() as i64))),
        ("at", Arc::new(TimestampMicrosecondArray::from_iter_values((0..kinds.len() as i64).map(|row| row * 1_000 + 999)))),
        ("kind", Arc::new(StringArray::from(kinds.to_vec()))),
        ("amount", Arc::new(Int64Array::from_iter((0..kinds.len() as i64).map(|row| (row > 0).then_some(row))))),
        ("text_id", Arc::new(StringArray::from(ids))),
        ("bytes_id", Arc::new(FixedSizeBinaryArray::try_from_iter(bytes.iter()).unwrap())),
        ("places", Arc::new(LargeListArray::from(cast_list(ListArray::new(item, offsets, Arc::new(places), None))))),
    ])
}

fn cast_list(list: ListArray) -> LargeListArray {
    let DataType::List(item) = list.data_type().clone() else { unreachable!() };
    cast(&list, &DataType::LargeList(item)).unwrap().as_list::<i64>().clone()
}

#[test]
fn columns_become_what_a_given_schema_has() {
    let rows = given(&[Some("debit"), Some("credit"), Some("debit")]);
    for (writer, format, prefix) in [
        (AvroWriter::bare(GIVEN), Avro::bare(GIVEN), &[][..]),
        (AvroWriter::single_object(GIVEN), Avro::single_object([GIVEN]).unwrap(), &[0xC3, 1][..]),
    ] {
        let columns = Avro::bare(GIVEN).columns().unwrap().unwrap();
        let mut encoding = writer.encoding(&rows.schema(), "t").unwrap();
        let values = encoding.values(&rows).unwrap();
        assert!(values.iter().all(|value| value.unwrap().starts_with(prefix)));
        let found = read(&values, format, &columns);
        assert_eq!(found["at"].as_primitive::<TimestampMillisecondType>().values(), &[0, 1, 2]);
        assert_eq!(found["id"].as_primitive::<Int32Type>().values(), &[0, 1, 2]);
        assert_eq!(found["amount"].as_primitive::<Float64Type>().iter().collect::<Vec<_>>(), [None, Some(1.0), Some(2.0)]);
        let kinds = cast(&found["kind"], &DataType::Utf8).unwrap();
        assert_eq!(kinds.as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["debit", "credit", "debit"]);
        assert_eq!(found["bytes_id"].as_fixed_size_binary().value(1), rows["bytes_id"].as_fixed_size_binary().value(1));
        assert_eq!(found["text_id"].as_fixed_size_binary().value(1), rows["bytes_id"].as_fixed_size_binary().value(1));
        let places = found["places"].as_list::<i32>();
        assert_eq!((places.value_length(0), places.value_length(1)), (2, 0));
        assert_eq!(places.values().as_struct().column_by_name("lat").unwrap().as_primitive::<Float32Type>().values(), &[1.5, 1.5]);
        let kinds = cast(places.values().as_struct().column(0), &DataType::Utf8).unwrap();
        assert_eq!(kinds.as_string::<i32>().iter().collect::<Vec<_>>(), [Some("credit"), None]);
        assert_eq!(found["absent"].null_count(), 3);
        // What was read is written again.
        if prefix.is_empty() {
            assert_eq!(round(&writer, Avro::bare(GIVEN), &found, &columns), found);
        }
    }
}

#[test]
fn what_a_schema_does_not_allow_is_named() {
    let write = |schema: &str, rows: &RecordBatch| {
        AvroWriter::bare(schema).encoding(&rows.schema(), "t").and_then(|mut encoding| encoding.values(rows)).unwrap_err()
    };
    let one = |kind: &str, column: ArrayRef| {
        let schema = format!(r#"{{"type":"record","name":"R","fields":[{{"name":"c","type":{kind}}}]}}"#);
        let error = write(&schema, &batch(&[("c", column)]));
        assert_eq!(error.kind(), Kind::Schema, "{error}");
        error.to_string()
    };
    assert!(write(GIVEN, &given(&[Some("debit"), None])).to_string().starts_with("column `kind` is null in row 1 of a batch"));
    let error = write(GIVEN, &given(&[Some("cash")])).to_string();
    assert_eq!(error, "column `kind` has the text \"cash\", and the Avro schema an enum of debit, credit");
    let error = write(GIVEN, &given(&[Some("debit")]).project(&[0, 2, 3, 4, 5, 6]).unwrap()).to_string();
    assert!(error.starts_with("there is no column `at` for a field of the Avro schema that may not be null"), "{error}");
    let numbers = || Arc::new(Int64Array::from(vec![1 << 40])) as ArrayRef;
    assert!(one("\"int\"", numbers()).starts_with("column `c` of type Int64 has a value that is no Int32"));
    assert!(one("\"string\"", numbers()).starts_with("column `c` of type Int64 cannot be written as Utf8"));
    assert!(one(r#"{"type":"long","logicalType":"timestamp-millis"}"#, numbers()).contains("cannot be written as Timestamp"));
    assert!(one("\"long\"", Arc::new(Float64Array::from(vec![1.5]))).contains("cannot be written as Int64"));
    assert!(one("[\"string\",\"long\"]", numbers()).contains("cannot be written as Union"));
    let uuid = one(r#"{"type":"string","logicalType":"uuid"}"#, Arc::new(StringArray::from(vec!["no"])));
    assert_eq!(uuid, "column `c` has the text \"no\", which is no UUID");
    let error = write(r#"{"type":"record","name":"R","fields":[{"name":"d","type":"long"}]}"#, &batch(&[("c", numbers())])).to_string();
    assert!(error.starts_with("column `c` is no field of the Avro schema, which has d; leave it out"), "{error}");
    assert!(write("{", &batch(&[("c", numbers())])).to_string().contains("no JSON"));
    // Without a schema.
    let made = |name: &str, column: ArrayRef| {
        let columns = batch(&[(name, column)]).schema();
        AvroWriter::confluent(Memory::default()).encoding(&columns, "t").err().unwrap().to_string()
    };
    assert!(made("a b", numbers()).starts_with("column `a b` cannot be a field of Avro"));
    assert!(made("c", Arc::new(DurationSecondArray::from(vec![1]))).ends_with("Avro has no such type; cast it to int64"));
    assert!(made("c", Arc::new(Time64NanosecondArray::from(vec![1]))).contains("cast it to time64[us]"));
    assert!(made("c", Arc::new(IntervalYearMonthArray::from(vec![1]))).contains("Avro has no such type; select"));
    let large = batch(&[("c", Arc::new(UInt64Array::from(vec![u64::MAX])))]);
    let mut encoding = AvroWriter::confluent(Memory::default()).encoding(&large.schema(), "t").unwrap();
    assert!(encoding.values(&large).unwrap_err().to_string().contains("has a value that is no Int64"));
}

#[test]
fn names_of_nested_records_differ() {
    let inner = |name: &str| Field::new_struct(name, vec![Field::new("x", DataType::Int64, true)], false);
    let columns: SchemaRef = Arc::new(Schema::new(vec![
        inner("a_b"),
        Field::new_struct(
            "a",
            vec![inner("b"), Field::new_list("l", Field::new_list_field(inner("i").data_type().clone(), true), true)],
            true,
        ),
    ]));
    let registry = Memory::default();
    AvroWriter::confluent(registry.clone()).encoding(&columns, "t").unwrap();
    let mut names: Vec<String> = Vec::new();
    let schema = registry.0.lock().unwrap()[0].1.clone();
    let value: Value = serde_json::from_str(&schema).unwrap();
    collect(&value, &mut names);
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!((names.len(), count), (5, 5), "{names:?}");
}

fn collect(schema: &Value, names: &mut Vec<String>) {
    match schema {
        Value::Array(each) => each.iter().for_each(|schema| collect(schema, names)),
        Value::Object(parts) => {
            if parts.get("type").is_some_and(|kind| kind == "record") {
                names.push(parts["name"].as_str().unwrap().to_owned());
            }
            parts.values().for_each(|schema| collect(schema, names));
        }
        _ => {}
    }
}

#[test]
fn known_schemas_may_be_a_map() {
    // The number of a schema that is written by is one that readers know.
    let rows = batch(&[("id", Arc::new(Int64Array::from(vec![5])))]);
    let registry = Memory::default();
    let mut encoding = AvroWriter::confluent(registry.clone()).encoding(&rows.schema(), "t").unwrap();
    let schemas: HashMap<u32, String> = [(7, registry.0.lock().unwrap()[0].1.clone())].into();
    assert_eq!(read(&encoding.values(&rows).unwrap(), Avro::confluent(schemas), &rows.schema()), rows);
}
