//! Objects of JSON in Confluent's wire format: a zero byte, the number of a JSON Schema, the object.
//!
//! Fields are found by the names of columns, as in [NDJSON](super::ndjson), whichever schema a record was written by: the number is not
//! looked up, and objects are not held against their schema. A JSON Schema may say the columns:
//!
//! | a property | its column |
//! |---|---|
//! | `boolean`, `integer`, `number`, `string` | bool, int64, float64, string |
//! | `string` of format `date-time` | `timestamp[ms, UTC]` |
//! | `array` with `items` | a list |
//! | `object` with `properties` | a struct |
//! | one of these or `null`, `$ref` to one within the schema | as that |
//!
//! Columns may be null, and are in the order of their names.

#[cfg(any(feature = "kafka", feature = "kinesis"))]
mod writer;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use serde_json::Value;

#[cfg(any(feature = "kafka", feature = "kinesis"))]
pub(crate) use self::writer::Encoding;
#[cfg(any(feature = "kafka", feature = "kinesis"))]
pub use self::writer::JsonConfluentWriter;
use super::Messages;
use super::lines::{BadLine, Lines, is_blank};
use super::messages::confluent_head;
use super::ndjson::{ArrowJsonLines, NdjsonLines};
use crate::error::{Error, Result};

/// How deep properties may nest, references followed.
const MAX_DEPTH: usize = 32;

/// Objects of JSON behind the number of their schema; see the [module documentation](self).
#[derive(Debug, Clone, Default)]
pub struct JsonConfluent {
    columns: Option<SchemaRef>,
}

impl JsonConfluent {
    /// Objects whose columns are given where they are read.
    pub fn new() -> JsonConfluent {
        JsonConfluent::default()
    }

    /// Takes the columns from a JSON Schema, unless they are given where objects are read.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if it is none, or a property of it cannot be a column.
    pub fn json_schema(self, schema: &str) -> Result<JsonConfluent> {
        let root: Value = serde_json::from_str(schema).map_err(|error| Error::schema("the JSON Schema is no JSON").with_source(error))?;
        let fields = match of(&root, &root, 0) {
            Ok(DataType::Struct(fields)) => fields,
            Ok(_) => return Err(Error::schema("the JSON Schema is not of an object, whose properties would be the columns")),
            Err(why) => return Err(Error::schema(format!("the JSON Schema gives no columns: {why}; give a schema of columns"))),
        };
        Ok(JsonConfluent { columns: Some(Arc::new(Schema::new(fields))) })
    }

    pub(super) fn columns(&self) -> Option<SchemaRef> {
        self.columns.clone()
    }

    pub(super) fn messages(schema: &SchemaRef) -> Result<Box<dyn Messages>> {
        Ok(match NdjsonLines::new(SchemaRef::clone(schema))? {
            Some(lines) => Box::new(JsonMessages::new(lines)),
            None => Box::new(JsonMessages::new(ArrowJsonLines::new(SchemaRef::clone(schema))?)),
        })
    }
}

impl fmt::Display for JsonConfluent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("json_confluent")
    }
}

/// The type of what a schema describes, or why no column can have it.
fn of(schema: &Value, root: &Value, depth: usize) -> Result<DataType, String> {
    if depth > MAX_DEPTH {
        return Err(format!("it nests deeper than {MAX_DEPTH}, or holds itself"));
    }
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let target = reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
        return of(target.ok_or_else(|| format!("`{reference}` is not within the schema"))?, root, depth + 1);
    }
    for choice in ["oneOf", "anyOf"] {
        if let Some(choices) = schema.get(choice).and_then(Value::as_array) {
            let mut others = choices.iter().filter(|choice| choice.get("type").and_then(Value::as_str) != Some("null"));
            return match (others.next(), others.next()) {
                (Some(only), None) => of(only, root, depth + 1),
                _ => Err(format!("`{choice}` leaves several types open")),
            };
        }
    }
    match kind(schema)? {
        "boolean" => Ok(DataType::Boolean),
        "integer" => Ok(DataType::Int64),
        "number" => Ok(DataType::Float64),
        "string" if schema.get("format").and_then(Value::as_str) == Some("date-time") => {
            Ok(DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())))
        }
        "string" => Ok(DataType::Utf8),
        "array" => {
            let items = schema.get("items").ok_or("it is an array of anything, without `items`")?;
            of(items, root, depth + 1).map(|items| DataType::new_list(items, true))
        }
        "object" => properties(schema, root, depth).map(DataType::Struct),
        other => Err(format!("there is no column of type `{other}`")),
    }
}

/// The one type, other than null, that a schema is of.
fn kind(schema: &Value) -> Result<&str, String> {
    match schema.get("type") {
        Some(Value::String(kind)) => Ok(kind),
        Some(Value::Array(kinds)) => {
            let mut others = kinds.iter().filter_map(Value::as_str).filter(|kind| *kind != "null");
            match (others.next(), others.next()) {
                (Some(only), None) => Ok(only),
                _ => Err("`type` leaves several types open".to_owned()),
            }
        }
        _ if schema.get("properties").is_some() => Ok("object"),
        _ if schema
            .get("enum")
            .and_then(Value::as_array)
            .is_some_and(|values| values.iter().all(|value| value.is_string() || value.is_null())) =>
        {
            Ok("string")
        }
        _ => Err("it has no `type`".to_owned()),
    }
}

fn properties(schema: &Value, root: &Value, depth: usize) -> Result<Fields, String> {
    let properties = schema.get("properties").and_then(Value::as_object).ok_or("it is an object of anything, without `properties`")?;
    let field = |(name, schema): (&String, &Value)| match of(schema, root, depth + 1) {
        Ok(kind) => Ok(Field::new(name, kind, true)),
        Err(why) => Err(format!("property `{name}`: {why}")),
    };
    properties.iter().map(field).collect()
}

/// A decoder of records, each of which is a line to `L`.
struct JsonMessages<L> {
    lines: L,
    /// Objects, a line each.
    text: Vec<u8>,
    /// Where each line begins, and which record it is.
    origins: Vec<(usize, usize)>,
    bad: Vec<BadLine>,
}

impl<L: Lines> JsonMessages<L> {
    fn new(lines: L) -> JsonMessages<L> {
        JsonMessages { lines, text: Vec::new(), origins: Vec::new(), bad: Vec::new() }
    }

    /// Adds the object of a record as a line. A line feed within it, which in JSON can only be white space, is a space then.
    fn push(&mut self, record: &[u8], place: usize) -> Result<(), String> {
        let (_, length) = confluent_head(record)?;
        let object = &record[length..];
        if is_blank(object) {
            return Err("there is nothing behind the number of the schema".to_owned());
        }
        self.origins.push((self.text.len(), place));
        self.text.extend(object.iter().map(|&byte| if byte == b'\n' { b' ' } else { byte }));
        self.text.push(b'\n');
        Ok(())
    }
}

impl<L: Lines> Messages for JsonMessages<L> {
    fn schema(&self) -> SchemaRef {
        self.lines.schema()
    }

    fn decode(&mut self, bytes: &[u8], messages: &[Range<usize>], bad: &mut Vec<(usize, String)>) -> Result<()> {
        self.text.clear();
        self.origins.clear();
        let known = bad.len();
        for (place, message) in messages.iter().enumerate() {
            if let Err(why) = self.push(&bytes[message.clone()], place) {
                bad.push((place, why));
            }
        }
        self.lines.decode(&self.text, &mut self.bad);
        for line in self.bad.drain(..) {
            let before = self.origins.partition_point(|(start, _)| *start <= line.start);
            if let Some((_, place)) = self.origins[..before].last() {
                bad.push((*place, line.error));
            }
        }
        bad[known..].sort_by_key(|(place, _)| *place);
        Ok(())
    }

    fn rows(&self) -> usize {
        self.lines.rows()
    }

    fn take(&mut self) -> Result<Option<RecordBatch>> {
        self.lines.take()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;
    use proptest::prelude::*;

    use super::*;
    use crate::format::Format;

    fn decoded(schema: &SchemaRef, records: &[Vec<u8>]) -> (Option<RecordBatch>, Vec<(usize, String)>) {
        let mut decoder = Format::JsonConfluent(JsonConfluent::new()).messages(schema).unwrap().unwrap();
        let (mut bytes, mut ranges, mut bad) = (Vec::new(), Vec::new(), Vec::new());
        for record in records {
            ranges.push(bytes.len()..bytes.len() + record.len());
            bytes.extend_from_slice(record);
        }
        // In two parts, as a broker brings them.
        let (first, rest) = ranges.split_at(ranges.len() / 2);
        decoder.decode(&bytes, first, &mut bad).unwrap();
        let known = bad.len();
        decoder.decode(&bytes, rest, &mut bad).unwrap();
        bad[known..].iter_mut().for_each(|(place, _)| *place += first.len());
        (decoder.take().unwrap(), bad)
    }

    fn record(id: u32, object: &str) -> Vec<u8> {
        [&[0][..], &id.to_be_bytes(), object.as_bytes()].concat()
    }

    #[test]
    fn objects_are_rows_and_others_are_told_by_their_places() {
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Utf8, true)]));
        let records = [
            record(1, r#"{"a": 1, "b": "x"}"#),
            record(1, "{\n  \"b\": \"y\",\n  \"a\": 2\n}\n"),
            br#"{"a": 3}"#.to_vec(),
            record(7, "  "),
            record(7, r#"{"a": "x"}"#),
            vec![0, 0, 0],
            record(u32::MAX, r#"{"a": 6}"#),
        ];
        let (rows, bad) = decoded(&schema, &records);
        let rows = rows.unwrap();
        assert_eq!(rows["a"].as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [Some(1), Some(2), Some(6)]);
        assert_eq!(rows["b"].as_string::<i32>().iter().collect::<Vec<_>>(), [Some("x"), Some("y"), None]);
        assert_eq!(bad.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [2, 3, 4, 5]);
        assert!(bad[0].1.contains("Confluent's wire format"), "{bad:?}");
        assert!(bad[1].1.contains("nothing behind the number"), "{bad:?}");
    }

    #[test]
    fn a_json_schema_says_the_columns() {
        let schema = r##"{
            "type": "object", "definitions": {"place": {"type": "object", "properties": {"lat": {"type": "number"}}}},
            "properties": {
                "id": {"type": "integer"}, "ok": {"type": "boolean"}, "at": {"type": "string", "format": "date-time"},
                "card": {"oneOf": [{"type": "null"}, {"type": "string"}]}, "price": {"type": ["number", "null"]},
                "kind": {"enum": ["debit", "credit"]}, "tags": {"type": "array", "items": {"type": "string"}},
                "place": {"$ref": "#/definitions/place"}
            }}"##;
        let columns = JsonConfluent::new().json_schema(schema).unwrap().columns().unwrap();
        let mut found: Vec<(&str, DataType)> =
            columns.fields().iter().map(|field| (field.name().as_str(), field.data_type().clone())).collect();
        found.sort_by_key(|(name, _)| *name);
        let place = DataType::Struct(Fields::from(vec![Field::new("lat", DataType::Float64, true)]));
        let millis = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
        let expected = [
            ("at", millis),
            ("card", DataType::Utf8),
            ("id", DataType::Int64),
            ("kind", DataType::Utf8),
            ("ok", DataType::Boolean),
            ("place", place),
            ("price", DataType::Float64),
            ("tags", DataType::new_list(DataType::Utf8, true)),
        ];
        assert_eq!(found, expected);
        let (rows, bad) =
            decoded(&columns, &[record(1, r#"{"id": 1, "place": {"lat": 2.5}, "at": "2026-01-01T00:00:00Z", "tags": ["a"]}"#)]);
        assert!(bad.is_empty() && rows.unwrap().num_rows() == 1, "{bad:?}");
        for (wrong, says) in [
            ("{", "no JSON"),
            (r#"{"type": "string"}"#, "not of an object"),
            (r#"{"type": "object"}"#, "object of anything"),
            (r#"{"properties": {"x": {}}}"#, "property `x`: it has no `type`"),
            (r#"{"properties": {"x": {"type": ["string", "integer"]}}}"#, "property `x`: `type` leaves several types open"),
            (r#"{"properties": {"x": {"anyOf": [{"type": "string"}, {"type": "integer"}]}}}"#, "`anyOf` leaves several"),
            (r#"{"properties": {"x": {"type": "array"}}}"#, "without `items`"),
            (r##"{"properties": {"x": {"$ref": "other.json#/x"}}}"##, "`other.json#/x` is not within the schema"),
            (r##"{"properties": {"x": {"$ref": "#"}}}"##, "holds itself"),
        ] {
            let error = JsonConfluent::new().json_schema(wrong).unwrap_err().to_string();
            assert!(error.contains(says), "{wrong}: {error}");
        }
    }

    proptest! {
        #[test]
        fn every_record_is_a_row_or_is_bad(records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 0..20)) {
            let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
            let records: Vec<Vec<u8>> = records.into_iter().map(|rest| [&[0, 0, 0, 0, 1][..], &rest].concat()).collect();
            let (rows, bad) = decoded(&schema, &records);
            prop_assert_eq!(rows.map_or(0, |rows| rows.num_rows()) + bad.len(), records.len());
            prop_assert!(bad.is_sorted_by_key(|(place, _)| *place));
        }
    }
}
