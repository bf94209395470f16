//! A schema for columns that have none.

use std::collections::HashSet;

use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use serde_json::{Value, json};

use crate::error::{Error, Result};

/// The schema of a record called `name` that has these columns.
///
/// # Errors
/// [`Kind::Schema`](crate::error::Kind::Schema), naming a column that cannot be in one.
pub(super) fn schema_of(columns: &Schema, name: &str) -> Result<String> {
    let mut making = Making { names: HashSet::new() };
    Ok(making.record(columns.fields(), name, "")?.to_string())
}

struct Making {
    /// Those of records and the like so far: they are told apart by their names.
    names: HashSet<String>,
}

impl Making {
    /// A record of fields that are at `path` among the columns.
    fn record(&mut self, fields: &Fields, name: &str, path: &str) -> Result<Value> {
        let name = self.name(name);
        let mut all = Vec::with_capacity(fields.len());
        for field in fields {
            let inner = if path.is_empty() { field.name().clone() } else { format!("{path}.{}", field.name()) };
            if !is_name(field.name()) {
                return Err(Error::schema(format!(
                    "column `{inner}` cannot be a field of Avro, whose names are of the letters a to z, digits and `_`, and do not begin \
                     with a digit; rename it"
                )));
            }
            let kind = self.site(field, &format!("{name}_{}", field.name()), &inner)?;
            all.push(match field.is_nullable() && !field.data_type().is_null() {
                // With a default, readers of later schemas do without the field.
                true => json!({"name": field.name(), "type": kind, "default": null}),
                false => json!({"name": field.name(), "type": kind}),
            });
        }
        Ok(json!({"type": "record", "name": name, "fields": all}))
    }

    /// A type, or null if the field may be.
    fn site(&mut self, field: &Field, name: &str, path: &str) -> Result<Value> {
        let kind = self.kind(field.data_type(), name, path)?;
        Ok(if field.is_nullable() && !field.data_type().is_null() { json!(["null", kind]) } else { kind })
    }

    fn kind(&mut self, kind: &DataType, name: &str, path: &str) -> Result<Value> {
        let logical = |kind: &str, logical: &str| json!({"type": kind, "logicalType": logical});
        Ok(match kind {
            DataType::Null => json!("null"),
            DataType::Boolean => json!("boolean"),
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => json!("int"),
            DataType::Int64 | DataType::UInt32 | DataType::UInt64 => json!("long"),
            DataType::Float16 | DataType::Float32 => json!("float"),
            DataType::Float64 => json!("double"),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => json!("string"),
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => json!("bytes"),
            DataType::FixedSizeBinary(size) => json!({"type": "fixed", "name": self.name(name), "size": size}),
            DataType::Decimal32(precision, scale)
            | DataType::Decimal64(precision, scale)
            | DataType::Decimal128(precision, scale)
            | DataType::Decimal256(precision, scale)
                if (0..=*precision as i8).contains(scale) =>
            {
                json!({"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale})
            }
            DataType::Date32 | DataType::Date64 => logical("int", "date"),
            DataType::Time32(_) => logical("int", "time-millis"),
            DataType::Time64(TimeUnit::Microsecond) => logical("long", "time-micros"),
            // Those without a time zone count from the epoch in UTC, as everywhere in the engine.
            DataType::Timestamp(TimeUnit::Second | TimeUnit::Millisecond, _) => logical("long", "timestamp-millis"),
            DataType::Timestamp(TimeUnit::Microsecond, _) => logical("long", "timestamp-micros"),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => logical("long", "timestamp-nanos"),
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                json!({"type": "array", "items": self.site(item, &format!("{name}_item"), &format!("{path}[]"))?})
            }
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(pair) if pair.len() == 2 && is_text(pair[0].data_type()) => {
                    json!({"type": "map", "values": self.site(&pair[1], &format!("{name}_value"), &format!("{path}[]"))?})
                }
                _ => return Err(refused(path, kind, "keys of Avro's maps are strings")),
            },
            DataType::Struct(fields) => self.record(fields, name, path)?,
            DataType::Dictionary(_, values) => self.kind(values, name, path)?,
            DataType::RunEndEncoded(_, values) => self.kind(values.data_type(), name, path)?,
            DataType::Time64(_) => return Err(refused(path, kind, "Avro has no times in nanoseconds; cast it to time64[us]")),
            DataType::Duration(_) => return Err(refused(path, kind, "Avro has no such type; cast it to int64")),
            _ => return Err(refused(path, kind, "Avro has no such type; select other columns, or cast it")),
        })
    }

    /// A name that is not taken.
    fn name(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        while !self.names.insert(name.clone()) {
            name.push('_');
        }
        name
    }
}

fn refused(path: &str, kind: &DataType, why: &str) -> Error {
    Error::schema(format!("column `{path}` of type {kind} cannot be written as Avro: {why}"))
}

fn is_text(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Whether Avro takes a name.
fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|other| other.is_ascii_alphanumeric() || other == '_')
}

/// A name that Avro takes, made of one that it may not.
pub(super) fn name_of(text: &str) -> String {
    let mut name: String = text.chars().map(|each| if each.is_ascii_alphanumeric() { each } else { '_' }).collect();
    if !is_name(&name) {
        name.insert(0, '_');
    }
    name
}
