//! Schemas from samples and from names of types.

use std::io::Cursor;

use arrow::array::timezone::Tz;
use arrow::csv;
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Field, Schema, TimeUnit};
use arrow::json::reader::infer_json_schema;

use super::Format;
use super::arrow_ipc;
use super::confluent_alone;
use super::debezium::unwrapped;
use super::lines::is_blank;
use super::ndjson::field_names;
use crate::error::{Error, Result};

/// Rows of a sample that are looked at: enough to meet the fields that are not in every row.
pub const SAMPLE_ROWS: usize = 1_000;

const TYPES: &str = "bool, int8, int16, int32, int64, uint8, uint16, uint32, uint64, float32, float64 (double), string (utf8), large_string, \
    binary, date32, date64, timestamp[s], timestamp[ms], timestamp[us], timestamp[ns] (with a time zone: timestamp[ms, UTC]) or \
    decimal128(precision, scale)";

/// The schema of the first [`SAMPLE_ROWS`] rows of `sample`, the beginning of an input; all columns may be null.
/// A last line that is cut off is not looked at unless it is the only one, and neither are lines that are not records.
/// Columns of which the sample has no value are strings. The columns are in the order of their first appearance.
///
/// # Errors
/// [`Kind::Decode`](crate::error::Kind::Decode) if the sample holds no row, or one field is of types that no column can hold.
pub fn infer(format: &Format, sample: &[u8]) -> Result<Schema> {
    let schema = match format {
        Format::Ndjson => infer_ndjson(whole_lines(sample))?,
        Format::Debezium => {
            let mut rows = Vec::new();
            for line in whole_lines(sample).split(|&byte| byte == b'\n').filter(|line| !is_blank(line)) {
                // What is no row is not looked at.
                let _ = unwrapped(line, &mut rows);
            }
            infer_ndjson(&rows)?
        }
        Format::Csv { delimiter, header } => {
            let format = csv::reader::Format::default().with_header(*header).with_delimiter(*delimiter);
            format.infer_schema(Cursor::new(whole_lines(sample)), Some(SAMPLE_ROWS)).map_err(undecided)?.0
        }
        Format::ArrowIpc => return arrow_ipc::stream_schema(sample),
        Format::JsonConfluent(_) => return Err(confluent_alone("NDJSON has no schema's number before its objects")),
        Format::Avro(avro) => return avro.infer(sample),
        Format::Protobuf(protobuf) => return Ok(protobuf.columns()?.as_ref().clone()),
    };
    if schema.fields().is_empty() {
        return Err(Error::decode(format!(
            "cannot infer a schema: the sample holds no row of {format}; check the format or give a schema"
        )));
    }
    let fields = schema.fields().iter().map(|field| match field.data_type() {
        DataType::Null => Field::new(field.name(), DataType::Utf8, true),
        _ => field.as_ref().clone(),
    });
    Ok(Schema::new(fields.collect::<Vec<_>>()))
}

fn undecided(error: arrow::error::ArrowError) -> Error {
    Error::decode("cannot infer a schema from the sample; give a schema").with_source(error)
}

/// `sample` up to its last line end, or all of it if it has none.
fn whole_lines(sample: &[u8]) -> &[u8] {
    memchr::memrchr(b'\n', sample).map_or(sample, |end| &sample[..=end])
}

fn infer_ndjson(sample: &[u8]) -> Result<Schema> {
    let (mut records, mut names) = (Vec::with_capacity(sample.len()), Vec::<String>::new());
    for line in sample.split(|&byte| byte == b'\n').filter(|line| !is_blank(line)).take(SAMPLE_ROWS) {
        if infer_json_schema(Cursor::new(line), None).is_ok() {
            records.extend_from_slice(line);
            records.push(b'\n');
            for name in field_names(line) {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
    }
    let (schema, _) = infer_json_schema(Cursor::new(records), None).map_err(undecided)?;
    // Arrow gives the fields in no particular order.
    let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
    let rank = |name: &String| names.iter().position(|known| known == name).unwrap_or(names.len());
    fields.sort_by(|a, b| (rank(a.name()), a.name()).cmp(&(rank(b.name()), b.name())));
    Ok(Schema::new(fields))
}

/// The type that a user's `name` means: `float64`, `string`, `timestamp[ms, UTC]`, …
///
/// # Errors
/// [`Kind::Schema`](crate::error::Kind::Schema), listing the names there are.
pub fn parse_type(name: &str) -> Result<DataType> {
    let unknown = || Error::schema(format!("`{name}` is not the name of a type; a type is one of {TYPES}"));
    let name = name.trim();
    Ok(match name.to_ascii_lowercase().as_str() {
        "bool" | "boolean" => DataType::Boolean,
        "int8" => DataType::Int8,
        "int16" => DataType::Int16,
        "int32" => DataType::Int32,
        "int64" => DataType::Int64,
        "uint8" => DataType::UInt8,
        "uint16" => DataType::UInt16,
        "uint32" => DataType::UInt32,
        "uint64" => DataType::UInt64,
        "float32" => DataType::Float32,
        "float64" | "double" => DataType::Float64,
        "string" | "utf8" | "str" => DataType::Utf8,
        "large_string" | "large_utf8" => DataType::LargeUtf8,
        "binary" => DataType::Binary,
        "date32" | "date" => DataType::Date32,
        "date64" => DataType::Date64,
        lower if lower.starts_with("timestamp[") => parse_timestamp(&name["timestamp".len()..]).ok_or_else(unknown)?,
        lower if lower.starts_with("decimal") => parse_decimal(lower).ok_or_else(unknown)?,
        _ => return Err(unknown()),
    })
}

/// `[unit]` or `[unit, zone]`, as PyArrow also writes it: `[unit, tz=zone]`.
fn parse_timestamp(parameters: &str) -> Option<DataType> {
    let parameters = parameters.strip_prefix('[')?.strip_suffix(']')?;
    let (unit, zone) = parameters.split_once(',').map_or((parameters, None), |(unit, zone)| (unit, Some(zone.trim())));
    let unit = match unit.trim().to_ascii_lowercase().as_str() {
        "s" => TimeUnit::Second,
        "ms" => TimeUnit::Millisecond,
        "us" => TimeUnit::Microsecond,
        "ns" => TimeUnit::Nanosecond,
        _ => return None,
    };
    let zone = match zone {
        Some(zone) => {
            let zone = zone.strip_prefix("tz=").unwrap_or(zone);
            zone.parse::<Tz>().ok()?;
            Some(zone.into())
        }
        None => None,
    };
    Some(DataType::Timestamp(unit, zone))
}

/// `decimal128(precision, scale)` or `decimal(precision, scale)`.
fn parse_decimal(name: &str) -> Option<DataType> {
    let parameters = name.strip_prefix("decimal128").or_else(|| name.strip_prefix("decimal"))?;
    let (precision, scale) = parameters.trim().strip_prefix('(')?.strip_suffix(')')?.split_once(',')?;
    let (precision, scale): (u8, i8) = (precision.trim().parse().ok()?, scale.trim().parse().ok()?);
    let fits = (1..=DECIMAL128_MAX_PRECISION).contains(&precision) && (0..=i16::from(precision)).contains(&i16::from(scale));
    fits.then_some(DataType::Decimal128(precision, scale))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn columns(schema: &Schema) -> Vec<(&str, DataType)> {
        schema.fields().iter().map(|field| (field.name().as_str(), field.data_type().clone())).collect()
    }

    #[test]
    fn names_of_types() {
        let milliseconds = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Millisecond, zone.map(Into::into));
        for (name, expected) in [
            ("timestamp[ms]", milliseconds(None)),
            ("timestamp[ms, UTC]", milliseconds(Some("UTC"))),
            ("timestamp[ms, tz=Europe/Berlin]", milliseconds(Some("Europe/Berlin"))),
            ("timestamp[ns]", DataType::Timestamp(TimeUnit::Nanosecond, None)),
            ("string", DataType::Utf8),
            ("double", DataType::Float64),
            (" Float64 ", DataType::Float64),
            ("decimal128(10, 2)", DataType::Decimal128(10, 2)),
            ("date32", DataType::Date32),
        ] {
            assert_eq!(parse_type(name).unwrap(), expected, "{name}");
        }
        for name in
            ["", "int", "timestamp", "timestamp[h]", "timestamp[ms", "timestamp[ms, Nowhere]", "decimal(99, 2)", "decimal(5,9)", "é"]
        {
            let error = parse_type(name).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("timestamp[ms]") && error.contains("float64"), "{error}");
        }
    }

    #[test]
    fn ndjson_in_the_order_of_appearance() {
        let sample = b"{\"z\":1,\"a\":\"x\",\"n\":null}\nnot a record\n{\"z\":1.5,\"m\":true,\"l\":[1]}\n{\"z\":";
        let schema = infer(&Format::Ndjson, sample).unwrap();
        let list = DataType::new_list(DataType::Int64, true);
        let expected = [("z", DataType::Float64), ("a", DataType::Utf8), ("n", DataType::Utf8), ("m", DataType::Boolean), ("l", list)];
        assert_eq!(columns(&schema), expected);
        assert!(infer(&Format::Ndjson, b"").is_err());
        assert!(infer(&Format::Ndjson, b"{\"a\":1}\n{\"a\":{\"b\":2}}\n").is_err());
    }

    #[test]
    fn csv_with_and_without_header() {
        let format = Format::Csv { delimiter: b';', header: true };
        let schema = infer(&format, b"id;when;what\n1;2024-01-31T01:02:03;a\n2;2024-01-31T01:02:04;\n").unwrap();
        let when = DataType::Timestamp(TimeUnit::Second, None);
        assert_eq!(columns(&schema), [("id", DataType::Int64), ("when", when), ("what", DataType::Utf8)]);
        let schema = infer(&Format::Csv { delimiter: b',', header: false }, b"1,x\n").unwrap();
        assert_eq!(columns(&schema), [("column_1", DataType::Int64), ("column_2", DataType::Utf8)]);
    }
}
