//! Change events of Debezium in Avro: the rows that they are about, column by column.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, StructArray, new_null_array};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{CastOptions, cast_with_options, not, nullif};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::error::{Error, Result};
use crate::format::bulk::message;
use crate::format::conform::conform;
use crate::format::debezium::{DELETED, OP, TS_MS, of_no_row, without_op, without_row};

/// What an envelope has of a row's.
const BEFORE: &str = "before";
const AFTER: &str = "after";

/// The parts of an envelope that are looked at, by their names.
pub(super) fn parts() -> Schema {
    Schema::new([BEFORE, AFTER, "op", "ts_ms"].map(|name| Field::new(name, DataType::Null, true)).to_vec())
}

/// The columns of the table that events are about, each of which may be null, and of what is beside them.
///
/// # Errors
/// [`Kind::Schema`](crate::error::Kind::Schema) if these are no events of a table.
pub(super) fn columns(events: &Schema) -> Result<SchemaRef> {
    let row = [AFTER, BEFORE].iter().find_map(|part| match events.field_with_name(part).ok()?.data_type() {
        DataType::Struct(fields) => Some(fields),
        _ => None,
    });
    let row = row.filter(|_| events.field_with_name("op").is_ok()).ok_or_else(|| {
        Error::schema("the Avro schema is no envelope of Debezium, with `op` and a record `after`: its events may be unwrapped already")
    })?;
    let beside = [(OP, DataType::Utf8), (TS_MS, DataType::Int64), (DELETED, DataType::Boolean)];
    let of_table = row.iter().filter(|field| beside.iter().all(|(name, _)| field.name() != name));
    let mut fields: Vec<Field> =
        of_table.map(|field| Field::new(field.name(), noted(field).unwrap_or_else(|| field.data_type().clone()), true)).collect();
    fields.extend(beside.into_iter().map(|(name, kind)| Field::new(name, kind, true)));
    Ok(Arc::new(Schema::new(fields)))
}

/// The rows that `events` are about, in columns of `schema`.
///
/// # Errors
/// In words, if any of them is about none, or its row does not fit.
pub(super) fn rows(events: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, String> {
    let op = strictly(events.column_by_name("op").ok_or_else(without_op)?, &DataType::Utf8)?;
    let sides = Sides::of(events, &op)?;
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for field in schema.fields() {
        let column = match field.name().as_str() {
            OP => Some(Arc::clone(&op)),
            TS_MS => events.column_by_name("ts_ms").map(|millis| millis_as(millis, field.data_type())).transpose()?,
            DELETED => Some(Arc::new(sides.is_deleted.clone()) as ArrayRef),
            name => sides.column(name, field.data_type())?,
        };
        if let Some(column) = column {
            fields.push(Field::new(field.name(), column.data_type().clone(), true));
            columns.push(column);
        }
    }
    let options = RecordBatchOptions::new().with_row_count(Some(events.num_rows()));
    let found = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options).map_err(message)?;
    conform(&found, schema, "event").map_err(|error| error.to_string())
}

/// The two rows of each event, and which of them counts.
struct Sides<'a> {
    before: Option<&'a StructArray>,
    after: Option<&'a StructArray>,
    is_deleted: BooleanArray,
}

impl<'a> Sides<'a> {
    fn of(events: &'a RecordBatch, op: &ArrayRef) -> Result<Sides<'a>, String> {
        let side = |name: &str| events.column_by_name(name).and_then(|column| column.as_struct_opt());
        let (before, after) = (side(BEFORE), side(AFTER));
        let is_deleted = |(row, op): (usize, Option<&str>)| {
            let deleted = match op {
                Some("c" | "u" | "r") => false,
                Some("d") => true,
                other => return Err(of_no_row(&other.map_or_else(|| "null".to_owned(), |op| format!("{op:?}")))),
            };
            let (name, of) = if deleted { (BEFORE, before) } else { (AFTER, after) };
            match of.is_some_and(|of| of.is_valid(row)) {
                true => Ok(deleted),
                false => Err(without_row(name, &format!("{:?}", op.unwrap_or_default()))),
            }
        };
        let is_deleted: Vec<bool> = op.as_string::<i32>().iter().enumerate().map(is_deleted).collect::<Result<_, _>>()?;
        Ok(Sides { before, after, is_deleted: is_deleted.into() })
    }

    /// A column of the rows that count, which are to be of `kind`; `None` if the table has none of this name.
    fn column(&self, name: &str, kind: &DataType) -> Result<Option<ArrayRef>, String> {
        let of = |side: Option<&StructArray>| {
            let (place, field) = side?.fields().find(name)?;
            Some(timed(field, side?.column(place), kind))
        };
        let deleted = self.is_deleted.true_count();
        let before = if deleted > 0 { of(self.before).transpose()? } else { None };
        let after = if deleted < self.is_deleted.len() { of(self.after).transpose()? } else { None };
        Ok(match (before, after) {
            (Some(before), Some(after)) if before.data_type() == after.data_type() => Some(zipped(&self.is_deleted, &before, &after)?),
            // What does not count need not be what is asked for either.
            (Some(before), Some(after)) => {
                let before = nullif(&before, &not(&self.is_deleted).map_err(message)?).map_err(message)?;
                let after = nullif(&after, &self.is_deleted).map_err(message)?;
                Some(zipped(&self.is_deleted, &strictly(&before, kind)?, &strictly(&after, kind)?)?)
            }
            (Some(before), None) if deleted == self.is_deleted.len() => Some(before),
            (None, Some(after)) if deleted == 0 => Some(after),
            (Some(before), None) => Some(zipped(&self.is_deleted, &before, &new_null_array(before.data_type(), before.len()))?),
            (None, Some(after)) => Some(zipped(&self.is_deleted, &new_null_array(after.data_type(), after.len()), &after)?),
            (None, None) => None,
        })
    }
}

fn zipped(mask: &BooleanArray, yes: &ArrayRef, no: &ArrayRef) -> Result<ArrayRef, String> {
    zip(mask, yes, no).map_err(message)
}

fn strictly(column: &ArrayRef, kind: &DataType) -> Result<ArrayRef, String> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(column, kind, &strict).map_err(message)
}

/// When events were taken in, as a column of `kind`.
fn millis_as(column: &ArrayRef, kind: &DataType) -> Result<ArrayRef, String> {
    match (column.data_type(), kind) {
        (DataType::Int64, DataType::Timestamp(_, zone)) => strictly(column, &DataType::Timestamp(TimeUnit::Millisecond, zone.clone())),
        _ => Ok(Arc::clone(column)),
    }
}

/// A column that is to be a time of `kind`, and of which the schema notes which times its numbers are, as these.
fn timed(field: &Field, column: &ArrayRef, kind: &DataType) -> Result<ArrayRef, String> {
    match (noted(field), kind) {
        // Both are an instant, whatever the zone that it is shown in.
        (Some(DataType::Timestamp(unit, _)), DataType::Timestamp(_, zone)) => strictly(column, &DataType::Timestamp(unit, zone.clone())),
        (Some(noted), kind) if kind.is_temporal() => strictly(column, &noted),
        _ => Ok(Arc::clone(column)),
    }
}

/// The time that a field's numbers are, if the schema notes one (`connect.name`) and `arrow-avro` has not made it one.
fn noted(field: &Field) -> Option<DataType> {
    let name = field.metadata().get("connect.name")?;
    let kind = match name.trim_matches('"') {
        "io.debezium.time.Timestamp" | "org.apache.kafka.connect.data.Timestamp" => DataType::Timestamp(TimeUnit::Millisecond, None),
        "io.debezium.time.MicroTimestamp" => DataType::Timestamp(TimeUnit::Microsecond, None),
        "io.debezium.time.NanoTimestamp" => DataType::Timestamp(TimeUnit::Nanosecond, None),
        "io.debezium.time.Date" | "org.apache.kafka.connect.data.Date" => DataType::Date32,
        "io.debezium.time.Time" | "org.apache.kafka.connect.data.Time" => DataType::Time32(TimeUnit::Millisecond),
        "io.debezium.time.MicroTime" => DataType::Time64(TimeUnit::Microsecond),
        "io.debezium.time.NanoTime" => DataType::Time64(TimeUnit::Nanosecond),
        _ => return None,
    };
    let number = if matches!(kind, DataType::Date32 | DataType::Time32(_)) { DataType::Int32 } else { DataType::Int64 };
    (*field.data_type() == number).then_some(kind)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashMap;

    use arrow::array::StringArray;
    use arrow::datatypes::{Date32Type, Decimal128Type, TimestampMicrosecondType, TimestampMillisecondType};
    use proptest::prelude::*;

    use super::*;
    use crate::batch::PartitionId;
    use crate::config::Config;
    use crate::format::Format;
    use crate::format::avro::Avro;
    use crate::format::avro::tests::{columns, confluent, decode_messages, long, text};

    /// An envelope as Kafka Connect's Avro converter writes its schema, of a table with `fields`.
    fn envelope(fields: &str) -> String {
        let value = format!(r#"{{"type":"record","name":"Value","fields":[{fields}],"connect.name":"shop.public.orders.Value"}}"#);
        let source = r#"{"type":"record","name":"Source","namespace":"io.debezium.connector.postgresql","fields":[
            {"name":"version","type":"string"},{"name":"snapshot","type":[{"type":"string","connect.version":1,"connect.default":"false",
            "connect.parameters":{"allowed":"true,last,false"},"connect.name":"io.debezium.data.Enum"},"null"],"default":"false"}]}"#;
        let transaction = r#"{"type":"record","name":"block","namespace":"event","fields":[{"name":"id","type":"string"}]}"#;
        format!(
            r#"{{"type":"record","name":"Envelope","namespace":"shop.public.orders","fields":[
            {{"name":"before","type":["null",{value}],"default":null}},{{"name":"after","type":["null","Value"],"default":null}},
            {{"name":"source","type":{source}}},{{"name":"transaction","type":["null",{transaction}],"default":null}},
            {{"name":"op","type":"string"}},{{"name":"ts_ms","type":["null","long"],"default":null}}],"connect.version":2}}"#
        )
    }

    fn optional(value: Option<Vec<u8>>) -> Vec<u8> {
        value.map_or(long(0), |value| [long(1), value].concat())
    }

    fn event(before: Option<Vec<u8>>, after: Option<Vec<u8>>, op: &str, ts_ms: Option<i64>) -> Vec<u8> {
        let source = [text("3.0"), long(0), text("false")].concat();
        [optional(before), optional(after), source, long(0), text(op), optional(ts_ms.map(long))].concat()
    }

    const PLAIN: &str = r#"{"name":"id","type":"int"},{"name":"name","type":["null","string"],"default":null},{"name":"at","type":"long"}"#;

    fn plain(id: i64, name: Option<&str>, at: i64) -> Vec<u8> {
        [long(id), optional(name.map(text)), long(at)].concat()
    }

    const TIMES: &str = r#"{"name":"id","type":"int"},
        {"name":"placed","type":["null",{"type":"long","connect.version":1,"connect.name":"io.debezium.time.MicroTimestamp"}],"default":null},
        {"name":"day","type":{"type":"int","connect.version":1,"connect.name":"io.debezium.time.Date"}},
        {"name":"zoned","type":{"type":"string","connect.version":1,"connect.name":"io.debezium.time.ZonedTimestamp"}},
        {"name":"paid","type":{"type":"long","connect.version":1,"connect.name":"org.apache.kafka.connect.data.Timestamp","logicalType":"timestamp-millis"}},
        {"name":"total","type":{"type":"bytes","scale":2,"precision":64,"connect.version":1,"connect.parameters":{"scale":"2"},
            "connect.name":"org.apache.kafka.connect.data.Decimal","logicalType":"decimal"}}"#;

    #[test]
    fn times_and_decimals_are_what_the_schema_notes() {
        let row = |id, placed: Option<i64>| {
            let noted = [optional(placed.map(long)), long(19_723), text("2024-01-01T01:00:00.5+01:00"), long(1_704_067_200_007)];
            [long(id), noted.concat(), long(2), vec![0x01, 0x86]].concat()
        };
        let micros = 1_704_067_200_123_456;
        let records = [
            event(None, Some(row(1, Some(micros))), "c", Some(1_700_000_000_001)),
            event(Some(row(2, None)), None, "d", None),
            event(Some(row(3, None)), Some(row(4, Some(micros + 1))), "u", Some(5)),
        ];
        let avro = Avro::bare(envelope(TIMES)).debezium();
        let own = avro.columns().unwrap().unwrap();
        let timestamp = |unit, zone: Option<&str>| DataType::Timestamp(unit, zone.map(Into::into));
        let expected = [
            ("id", DataType::Int32),
            ("placed", timestamp(TimeUnit::Microsecond, None)),
            ("day", DataType::Date32),
            ("zoned", DataType::Utf8),
            ("paid", timestamp(TimeUnit::Millisecond, Some("+00:00"))),
            ("total", DataType::Decimal256(64, 2)),
            (OP, DataType::Utf8),
            (TS_MS, DataType::Int64),
            (DELETED, DataType::Boolean),
        ];
        assert_eq!(own, columns(&expected), "each may be null");
        let asked = columns(&[
            ("placed", timestamp(TimeUnit::Millisecond, Some("Europe/Berlin"))),
            ("day", timestamp(TimeUnit::Millisecond, None)),
            ("zoned", timestamp(TimeUnit::Microsecond, Some("UTC"))),
            ("paid", timestamp(TimeUnit::Millisecond, None)),
            ("total", DataType::Decimal128(10, 2)),
            (TS_MS, timestamp(TimeUnit::Microsecond, None)),
            ("none", DataType::Utf8),
        ]);
        let (rows, bad) = decode_messages(&avro, &own, &records).unwrap();
        let rows = rows.unwrap();
        assert!(bad.is_empty(), "{bad:?}");
        let placed = rows["placed"].as_primitive::<TimestampMicrosecondType>();
        assert_eq!(placed.iter().collect::<Vec<_>>(), [Some(micros), None, Some(micros + 1)]);
        assert_eq!(rows["day"].as_primitive::<Date32Type>().values(), &[19_723; 3]);
        let (rows, bad) = decode_messages(&avro, &asked, &records).unwrap();
        let rows = rows.unwrap();
        assert!(bad.is_empty() && rows["none"].null_count() == 3, "{bad:?}");
        let millis = |name: &str| rows[name].as_primitive::<TimestampMillisecondType>().iter().collect::<Vec<_>>();
        let day = 1_704_067_200_000;
        assert_eq!(millis("placed"), [Some(day + 123), None, Some(day + 123)]);
        assert_eq!((millis("day"), millis("paid")), (vec![Some(day); 3], vec![Some(day + 7); 3]));
        let micros = |name: &str| rows[name].as_primitive::<TimestampMicrosecondType>().iter().collect::<Vec<_>>();
        assert_eq!(micros("zoned"), [Some(day * 1_000 + 500_000); 3]);
        assert_eq!(micros(TS_MS), [Some(1_700_000_000_001_000), None, Some(5_000)]);
        assert_eq!(rows["total"].as_primitive::<Decimal128Type>().values(), &[390; 3]);
        // A number alone is of the unit that is asked for, as in JSON.
        let asked = columns(&[("at", timestamp(TimeUnit::Microsecond, None))]);
        let plain = [event(None, Some(plain(1, None, 5)), "r", None)];
        let (rows, _) = decode_messages(&Avro::bare(envelope(PLAIN)).debezium(), &asked, &plain).unwrap();
        assert_eq!(rows.unwrap()["at"].as_primitive::<TimestampMicrosecondType>().values(), &[5]);
    }

    #[test]
    fn tables_change_and_what_is_no_row_says_why() {
        let later = envelope(r#"{"name":"code","type":"string"},{"name":"name","type":"int"},{"name":"id","type":"long"}"#);
        // What was before may be of another type than what is after.
        let torn = r#"{"type":"record","name":"E","fields":[{"name":"op","type":["null","string"]},
            {"name":"before","type":["null",{"type":"record","name":"Old","fields":[{"name":"id","type":"string"}]}]},
            {"name":"after","type":["null",{"type":"record","name":"New","fields":[{"name":"id","type":"int"},{"name":"name","type":"string"}]}]}]}"#;
        let documents =
            r#"{"type":"record","name":"E","fields":[{"name":"op","type":"string"},{"name":"after","type":["null","string"]}]}"#;
        let unwrapped = r#"{"type":"record","name":"Value","fields":[{"name":"id","type":"int"}]}"#;
        let schemas = [envelope(PLAIN), later, torn.to_owned(), documents.to_owned(), unwrapped.to_owned()];
        let schemas: HashMap<u32, String> = (1..).zip(schemas).collect();
        let new = |code: &str, id| [text(code), long(7), long(id)].concat();
        let torn = |op: Option<&str>, before: Option<&str>, after: Option<i64>| {
            let after = after.map(|id| [long(id), text("n")].concat());
            confluent(3, &[optional(op.map(text)), optional(before.map(text)), optional(after)].concat())
        };
        let row = || plain(1, Some("a"), 0);
        let records = [
            confluent(1, &event(None, Some(row()), "c", Some(1))),
            confluent(2, &event(Some(new("x", 2)), Some(new("y", 3)), "u", Some(2))),
            confluent(1, &event(None, None, "t", Some(3))),
            confluent(1, &event(Some(row()), None, "c", Some(4))),
            confluent(1, &event(None, Some(row()), "d", Some(5))),
            torn(Some("d"), Some("4"), None),
            torn(Some("u"), Some("not a number"), Some(5)),
            torn(Some("d"), Some("not a number"), None),
            torn(None, None, Some(6)),
            confluent(4, &[text("c"), optional(Some(text("{}")))].concat()),
            confluent(5, &long(7)),
            confluent(9, &[]),
            confluent(1, &event(Some(plain(7, None, 0)), None, "d", None)),
        ];
        let asked = columns(&[("id", DataType::Int64), ("name", DataType::Utf8), ("code", DataType::Utf8), (OP, DataType::Utf8)]);
        let avro = Avro::confluent(schemas).reader_schema(envelope(PLAIN)).debezium();
        let (rows, bad) = decode_messages(&avro, &asked, &records).unwrap();
        let rows = rows.unwrap();
        assert_eq!(rows["id"].as_primitive::<arrow::datatypes::Int64Type>().values(), &[1, 3, 4, 5, 7]);
        let text = |name: &str| rows[name].as_string::<i32>().iter().collect::<Vec<_>>();
        assert_eq!(text("name"), [Some("a"), Some("7"), None, Some("n"), None]);
        assert_eq!(text("code"), [None, Some("y"), None, None, None]);
        assert_eq!(rows[OP].as_ref(), &StringArray::from(vec!["c", "u", "d", "u", "d"]) as &dyn Array);
        let expected = [
            (2, "the event's `op` is \"t\", which is of no row"),
            (3, "the event has no row in `after`, whose `op` is \"c\""),
            (4, "the event has no row in `before`, whose `op` is \"d\""),
            (7, "column `id` is Utf8 in the event and cannot become Int64"),
            (8, "the event's `op` is null, which is of no row"),
            (9, "the event has no row in `after`, whose `op` is \"c\""),
            (10, "the event has no `op`: it is no envelope of Debezium, or was unwrapped already"),
            (11, "schema 9 of the record is not known"),
        ];
        assert_eq!(bad.len(), expected.len(), "{bad:?}");
        for ((place, why), (expected, words)) in bad.iter().zip(expected) {
            assert!(*place == expected && why.starts_with(words), "{place}: {why}");
        }
        // A column that may not be null, and is in one event.
        let strict = Arc::new(Schema::new(vec![Field::new("name", DataType::Utf8, false)]));
        let (rows, bad) = decode_messages(&avro, &strict, &records[..1].iter().chain(&records[12..]).cloned().collect::<Vec<_>>()).unwrap();
        assert!(rows.unwrap().num_rows() == 1 && bad.len() == 1 && bad[0].0 == 1, "{bad:?}");
    }

    #[test]
    fn where_change_events_cannot_be() {
        let avro = Avro::container().debezium();
        let refused = Format::Avro(avro.clone()).decoder(columns(&[("id", DataType::Int64)]), &Config::default()).err().unwrap();
        assert!(refused.to_string().contains("are read from the records of a broker"), "{refused}");
        assert_eq!(avro.to_string(), "debezium_avro");
        let unwrapped = r#"{"type":"record","name":"Value","fields":[{"name":"id","type":"int"}]}"#;
        let error = Avro::bare(unwrapped).debezium().columns().unwrap_err().to_string();
        assert!(error.contains("is no envelope of Debezium"), "{error}");
    }

    /// A row of the table, or none.
    type Row = Option<(i32, Option<String>, i64)>;

    fn a_row() -> impl Strategy<Value = Row> {
        prop::option::weighted(0.8, (any::<i32>(), prop::option::of("[a-zä\"]{0,4}"), -9_000_000_000_000_000..9_000_000_000_000_000_i64))
    }

    fn json(row: &Row) -> serde_json::Value {
        row.as_ref().map_or(serde_json::Value::Null, |(id, name, at)| serde_json::json!({"id": id, "name": name, "at": at}))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn events_in_avro_are_the_rows_of_those_in_json(
            events in prop::collection::vec((a_row(), a_row(), "[cudcudrt]", prop::option::of(0..i64::MAX)), 0..30),
        ) {
            let millis = DataType::Timestamp(TimeUnit::Millisecond, None);
            let asked = columns(&[(DELETED, DataType::Boolean), ("id", DataType::Int64), ("name", DataType::Utf8), ("at", millis),
                (TS_MS, DataType::Int64), ("none", DataType::Float64), (OP, DataType::Utf8)]);
            let bytes = |row: &Row| row.as_ref().map(|(id, name, at)| plain((*id).into(), name.as_deref(), *at));
            let records: Vec<Vec<u8>> =
                events.iter().map(|(before, after, op, millis)| event(bytes(before), bytes(after), op, *millis)).collect();
            let (found, bad) = decode_messages(&Avro::bare(envelope(PLAIN)).debezium(), &asked, &records).unwrap();
            let mut decoder = Format::Debezium.decoder(asked, &Config::default()).unwrap();
            for (before, after, op, millis) in &events {
                let line = serde_json::json!({"before": json(before), "after": json(after), "op": op, "ts_ms": millis});
                decoder.decode(PartitionId(0), format!("{line}\n").as_bytes()).unwrap();
            }
            let mut rejected = Vec::new();
            decoder.take_rejected(&mut rejected);
            prop_assert_eq!(found, decoder.take().unwrap().map(|decoded| decoded.records));
            let words = |bad: Vec<(usize, String)>| bad.into_iter().map(|(_, why)| why).collect::<Vec<_>>();
            prop_assert_eq!(words(bad), rejected.into_iter().map(|row| row.error).collect::<Vec<_>>());
        }

        #[test]
        fn damaged_events_are_rows_or_quarantined(
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 0..9),
            rows in prop::collection::vec((a_row(), a_row(), "[cudr]"), 1..20),
        ) {
            let bytes = |row: &Row| row.as_ref().map(|(id, name, at)| plain((*id).into(), name.as_deref(), *at));
            let mut records: Vec<Vec<u8>> = rows.iter().map(|(before, after, op)| event(bytes(before), bytes(after), op, Some(1))).collect();
            for (record, place, byte) in damage {
                let record = record.index(records.len());
                let place = place.index(records[record].len());
                records[record][place] = byte;
            }
            let narrow = columns(&[("id", DataType::Int8), ("name", DataType::Int32), ("at", DataType::Date32), (OP, DataType::Utf8)]);
            decode_messages(&Avro::bare(envelope(PLAIN)).debezium(), &narrow, &records).unwrap();
        }
    }
}
