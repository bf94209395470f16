//! Columns into objects of JSON in Confluent's wire format.

use std::fmt;
use std::sync::Arc;

use arrow::array::{BinaryArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::format::registration::{Registration, confluent_prefix};
use crate::format::subjects::{SchemaKind, Subjects};
use crate::format::values;

/// How rows are written as objects of JSON behind the number of their JSON Schema. Objects are spelled as
/// [`Ndjson`](crate::sink::Ndjson) spells them.
///
/// A schema that was given is registered as it is; each column has to be a property of it, unless it allows others
/// (`additionalProperties`), and each property that it requires a column. Objects are not held against it otherwise. One that is made has a property for each column,
/// and allows no others, so that a column which may be null can be added later:
///
/// | column | property |
/// |---|---|
/// | bool, integers, floats and decimals, strings | `boolean`, `integer`, `number`, `string` |
/// | timestamp, date | `string` of format `date-time`, `date` |
/// | binary, time, duration, interval | `string` |
/// | list, map, struct | `array`, `object` with `additionalProperties`, `object` |
/// | one that may be null, and each float, as JSON has no NaN | `oneOf` null and its type |
#[derive(Debug, Clone)]
pub struct JsonConfluentWriter(Registration);

impl JsonConfluentWriter {
    /// The schema is made of the columns and registered when the sink is opened, under the subject `<topic>-value`, unless told otherwise.
    pub fn new(subjects: impl Subjects + 'static) -> JsonConfluentWriter {
        JsonConfluentWriter(Registration::new(subjects))
    }

    /// The subject, in place of `<topic>-value`.
    pub fn subject(mut self, subject: impl Into<String>) -> JsonConfluentWriter {
        self.0.subject = Some(subject.into());
        self
    }

    /// The JSON Schema to write by.
    pub fn schema(mut self, schema: impl AsRef<str>) -> JsonConfluentWriter {
        self.0.schema = Some(Arc::from(schema.as_ref()));
        self
    }

    /// Whether the schema is registered if it is not yet; it is unless told otherwise. If not, a schema that was given has to be there, and
    /// without one the latest of the subject is written by.
    pub fn auto_register(mut self, auto_register: bool) -> JsonConfluentWriter {
        self.0.auto_register = auto_register;
        self
    }

    /// What encodes batches of `columns` for a topic.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if the columns do not fit the schema, or none can be made of them, or it is refused;
    /// another kind if the registry cannot be asked.
    pub(crate) fn encoding(&self, columns: &SchemaRef, topic: &str) -> Result<Encoding> {
        values::json::check(columns)?;
        if let Some(schema) = &self.0.schema {
            check(columns, schema)?;
        }
        let made = |subject: &str| made(columns, subject);
        let (id, schema) = self.0.settle(topic, SchemaKind::Json, made)?;
        check(columns, &schema).map_err(|error| error.context(format!("schema {id} of subject `{}`", self.0.subject(topic))))?;
        Ok(Encoding { prefix: confluent_prefix(id) })
    }
}

impl fmt::Display for JsonConfluentWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("json_confluent")
    }
}

/// Encodes batches by one schema.
pub(crate) struct Encoding {
    prefix: [u8; 5],
}

impl Encoding {
    /// A record for each row.
    ///
    /// # Errors
    /// If a column has a type that JSON cannot hold.
    pub(crate) fn values(&self, batch: &RecordBatch) -> Result<BinaryArray> {
        values::json::values(batch, &self.prefix)
    }
}

/// Whether columns are what a schema allows and requires, as far as names go.
fn check(columns: &SchemaRef, schema: &str) -> Result<()> {
    let root: Value = serde_json::from_str(schema).map_err(|error| Error::schema("the JSON Schema is no JSON").with_source(error))?;
    let properties = root.get("properties").and_then(Value::as_object);
    let is_closed = root.get("additionalProperties").is_some_and(|others| others == false);
    let unknown = |field: &&Arc<Field>| properties.is_none_or(|properties| !properties.contains_key(field.name()));
    if let Some(field) = columns.fields().iter().find(unknown).filter(|_| is_closed) {
        return Err(Error::schema(format!(
            "column `{}` is no property of the JSON Schema, which allows no others; leave it out by `select`, or write by a schema that has it",
            field.name()
        )));
    }
    let mut required = root.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    match required.find(|name| columns.field_with_name(name).is_err()) {
        None => Ok(()),
        Some(name) => Err(Error::schema(format!(
            "there is no column `{name}` for a property that the JSON Schema requires; add it, or write by another schema"
        ))),
    }
}

/// A JSON Schema for columns that have none.
fn made(columns: &Schema, title: &str) -> Result<String> {
    let Value::Object(mut schema) = object(columns.fields(), "")? else { return Err(Error::schema("there are no columns")) };
    schema.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
    schema.insert("title".to_owned(), json!(title));
    Ok(Value::Object(schema).to_string())
}

fn object(fields: &Fields, path: &str) -> Result<Value> {
    let mut properties = Map::new();
    for field in fields {
        properties.insert(field.name().clone(), site(field, path)?);
    }
    let required: Vec<&str> = fields.iter().filter(|field| !is_optional(field)).map(|field| field.name().as_str()).collect();
    let mut schema = json!({"type": "object", "properties": properties, "additionalProperties": false});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    Ok(schema)
}

/// A type, or null if it may be.
fn site(field: &Field, path: &str) -> Result<Value> {
    let kind = kind(field.data_type(), &format!("{path}{}", field.name()))?;
    Ok(if is_optional(field) && !field.data_type().is_null() { json!({"oneOf": [{"type": "null"}, kind]}) } else { kind })
}

fn is_optional(field: &Field) -> bool {
    // NaN is written as null.
    field.is_nullable() || field.data_type().is_floating()
}

fn kind(kind: &DataType, path: &str) -> Result<Value> {
    let format = |format: &str| json!({"type": "string", "format": format});
    Ok(match kind {
        DataType::Null => json!({"type": "null"}),
        DataType::Boolean => json!({"type": "boolean"}),
        kind if kind.is_integer() => json!({"type": "integer"}),
        kind if kind.is_floating() || kind.is_decimal() => json!({"type": "number"}),
        DataType::Timestamp(_, _) => format("date-time"),
        DataType::Date32 => format("date"),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => {
            json!({"type": "array", "items": site(item, &format!("{path}."))?})
        }
        DataType::Struct(fields) => object(fields, &format!("{path}."))?,
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => {
                json!({"type": "object", "additionalProperties": site(&pair[1], &format!("{path}."))?})
            }
            _ => json!({"type": "object"}),
        },
        DataType::Dictionary(_, values) => self::kind(values, path)?,
        DataType::RunEndEncoded(_, values) => self::kind(values.data_type(), path)?,
        DataType::Union(_, _) => return Err(Error::schema(format!("column `{path}` of type {kind} cannot be written as JSON; cast it"))),
        // Text, and what is spelled as text: bytes, times and durations.
        _ => json!({"type": "string"}),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Mutex;

    use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray, TimestampMillisecondArray};
    use arrow::datatypes::TimeUnit;

    use super::*;
    use crate::format::json_confluent::JsonConfluent;

    /// A registry in memory.
    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<HashMap<String, Vec<String>>>>);

    impl Subjects for Memory {
        fn register(&self, subject: &str, schema: &str, kind: SchemaKind) -> Result<u32> {
            assert_eq!(kind, SchemaKind::Json);
            let mut all = self.0.lock().unwrap();
            let known = all.entry(subject.to_owned()).or_default();
            known.push(schema.to_owned());
            Ok(known.len() as u32)
        }

        fn find(&self, _: &str, _: &str, _: SchemaKind) -> Result<u32> {
            Err(Error::schema("not found"))
        }

        fn latest(&self, subject: &str, _: SchemaKind) -> Result<(u32, String)> {
            let all = self.0.lock().unwrap();
            let known = all.get(subject).ok_or_else(|| Error::connector("no subject"))?;
            Ok((known.len() as u32, known[known.len() - 1].clone()))
        }
    }

    fn batch() -> RecordBatch {
        let columns: [(&str, ArrayRef, bool); 4] = [
            ("id", Arc::new(Int64Array::from(vec![1, 2])), false),
            ("card", Arc::new(StringArray::from(vec![Some("a\nb"), None])), true),
            ("price", Arc::new(Float64Array::from(vec![2.5, f64::NAN])), false),
            ("at", Arc::new(TimestampMillisecondArray::from(vec![250, 0])), false),
        ];
        let (fields, arrays): (Vec<_>, Vec<_>) =
            columns.into_iter().map(|(name, array, nullable)| (Field::new(name, array.data_type().clone(), nullable), array)).unzip();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
    }

    #[test]
    fn objects_stand_behind_the_number_of_a_schema_that_is_made() {
        let (registry, batch) = (Memory::default(), batch());
        let encoding = JsonConfluentWriter::new(registry.clone()).encoding(&batch.schema(), "t").unwrap();
        let values = encoding.values(&batch).unwrap();
        assert_eq!(values.value(0), b"\0\0\0\0\x01{\"id\":1,\"card\":\"a\\nb\",\"price\":2.5,\"at\":\"1970-01-01T00:00:00.250Z\"}");
        assert_eq!(&values.value(1)[5..], br#"{"id":2,"card":null,"price":null,"at":"1970-01-01T00:00:00Z"}"#);
        let schema = registry.0.lock().unwrap()["t-value"][0].clone();
        let value: Value = serde_json::from_str(&schema).unwrap();
        assert_eq!((&value["required"], &value["additionalProperties"]), (&json!(["id", "at"]), &json!(false)));
        assert_eq!(value["properties"]["card"], json!({"oneOf": [{"type": "null"}, {"type": "string"}]}));
        // What reads by it gets the columns.
        let columns = JsonConfluent::new().json_schema(&schema).unwrap().columns().unwrap();
        assert_eq!(columns.field_with_name("at").unwrap().data_type(), &DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())));
        assert_eq!(columns.field_with_name("price").unwrap().data_type(), &DataType::Float64);
    }

    #[test]
    fn columns_that_a_schema_does_not_allow_are_named() {
        let columns = batch().schema();
        let writer = || JsonConfluentWriter::new(Memory::default());
        let error = |writer: JsonConfluentWriter| writer.encoding(&columns, "t").err().unwrap().to_string();
        let closed = r#"{"properties": {"id": {}, "card": {}, "price": {}}, "additionalProperties": false}"#;
        assert!(error(writer().schema(closed)).starts_with("column `at` is no property of the JSON Schema"));
        let required = r#"{"properties": {"id": {}}, "required": ["id", "shop"]}"#;
        assert!(error(writer().schema(required)).starts_with("there is no column `shop`"));
        assert!(error(writer().schema("{")).contains("no JSON"));
        assert_eq!(error(writer().auto_register(false)), "no subject");
        assert_eq!(error(writer().schema("{}").auto_register(false)), "not found");
        assert!(writer().schema("{}").encoding(&columns, "t").is_ok(), "a schema of anything");
    }
}
