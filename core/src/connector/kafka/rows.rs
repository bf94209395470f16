//! Rows to records: values, keys, headers and timestamps of one batch.

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, ListArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Int64Type, SchemaRef, TimeUnit, TimestampMillisecondType};
use rdkafka::message::{Header, OwnedHeaders};

use crate::connector::records::{Target, Value, lines};
use crate::error::{Error, Result};

const KAFKA: Target = Target("Kafka");

/// Which columns become what.
#[derive(Debug, Clone, Default)]
pub(super) struct Layout {
    pub(super) value: Value,
    pub(super) key: Vec<String>,
    pub(super) headers: Vec<String>,
    pub(super) timestamp: Option<String>,
}

/// The records of a batch.
pub(super) struct Rows {
    values: BinaryArray,
    keys: Option<BinaryArray>,
    headers: Vec<(String, Headers)>,
    timestamps: Option<ArrayRef>,
}

enum Headers {
    /// A header of the column's name in every record.
    One(StringArray),
    /// Any number of them, names and values.
    Many(Box<(ListArray, StringArray, BinaryArray)>),
}

impl Layout {
    /// Checks that the columns are there and of types that can be written.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema), naming the column.
    pub(super) fn check(&self, schema: &SchemaRef) -> Result<()> {
        self.rows(&RecordBatch::new_empty(SchemaRef::clone(schema))).map(drop)
    }

    /// The records of a batch.
    ///
    /// # Errors
    /// As [`Layout::check`].
    pub(super) fn rows(&self, batch: &RecordBatch) -> Result<Rows> {
        let values = KAFKA.values(batch, &self.value)?;
        let keys = match self.key.as_slice() {
            [] => None,
            [name] => Some(key(name, KAFKA.column(batch, name)?)?),
            names => Some(lines(&KAFKA.projected(batch, names)?)?),
        };
        let headers =
            self.headers.iter().map(|name| Ok((name.clone(), headers(name, KAFKA.column(batch, name)?)?))).collect::<Result<_>>()?;
        let timestamps = self.timestamp.as_ref().map(|name| timestamps(name, KAFKA.column(batch, name)?)).transpose()?;
        Ok(Rows { values, keys, headers, timestamps })
    }
}

impl Rows {
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    pub(super) fn value(&self, row: usize) -> Option<&[u8]> {
        self.values.is_valid(row).then(|| self.values.value(row))
    }

    pub(super) fn key(&self, row: usize) -> Option<&[u8]> {
        self.keys.as_ref().filter(|keys| keys.is_valid(row)).map(|keys| keys.value(row))
    }

    /// In milliseconds since the Unix epoch.
    pub(super) fn timestamp(&self, row: usize) -> Option<i64> {
        let times = self.timestamps.as_ref().filter(|times| times.is_valid(row))?;
        Some(times.as_primitive::<TimestampMillisecondType>().value(row))
    }

    pub(super) fn headers(&self, row: usize) -> Option<OwnedHeaders> {
        if self.headers.is_empty() {
            return None;
        }
        let mut all = OwnedHeaders::new();
        for (name, headers) in &self.headers {
            match headers {
                Headers::One(texts) => {
                    all = all.insert(Header { key: name, value: texts.is_valid(row).then(|| texts.value(row)) });
                }
                Headers::Many(many) => {
                    let (lists, names, values) = many.as_ref();
                    let range = lists.value_offsets()[row] as usize..lists.value_offsets()[row + 1] as usize;
                    for at in range {
                        all = all.insert(Header { key: names.value(at), value: values.is_valid(at).then(|| values.value(at)) });
                    }
                }
            }
        }
        Some(all)
    }
}

/// Integers as Java's serializers write them, most significant byte first; bytes and text as they are.
fn key(name: &str, array: &ArrayRef) -> Result<BinaryArray> {
    match array.data_type() {
        DataType::Int32 => Ok(array.as_primitive::<Int32Type>().iter().map(|number| number.map(i32::to_be_bytes)).collect()),
        DataType::Int64 => Ok(array.as_primitive::<Int64Type>().iter().map(|number| number.map(i64::to_be_bytes)).collect()),
        _ => KAFKA.bytes(name, array, "a key"),
    }
}

fn headers(name: &str, array: &ArrayRef) -> Result<Headers> {
    let refused = || {
        let kind = array.data_type();
        Error::schema(format!("column `{name}` of type {kind} cannot be a header in Kafka; cast it to a string"))
    };
    if let Some(lists) = array.as_list_opt::<i32>() {
        let pairs = lists.values().as_struct_opt().filter(|pairs| pairs.num_columns() == 2).ok_or_else(refused)?;
        let names = cast(pairs.column(0), &DataType::Utf8).map_err(|_| refused())?.as_string::<i32>().clone();
        return Ok(Headers::Many(Box::new((lists.clone(), names, KAFKA.bytes(name, pairs.column(1), "a header")?))));
    }
    Ok(Headers::One(cast(array, &DataType::Utf8).map_err(|_| refused())?.as_string::<i32>().clone()))
}

fn timestamps(name: &str, array: &ArrayRef) -> Result<ArrayRef> {
    match array.data_type() {
        DataType::Timestamp(_, _) => Ok(cast(array, &DataType::Timestamp(TimeUnit::Millisecond, None))?),
        other => Err(Error::schema(format!("column `{name}` of type {other} cannot be the time of a record; cast it to a timestamp"))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int32Array, Int64Array, TimestampMicrosecondArray};

    use super::*;

    #[test]
    fn columns_become_parts_of_records() {
        let columns: [(&str, ArrayRef); 4] = [
            ("user", Arc::new(StringArray::from(vec![Some("u"), None]))),
            ("n", Arc::new(Int64Array::from(vec![1, 258]))),
            ("at", Arc::new(TimestampMicrosecondArray::from(vec![5_999, 7_000]))),
            ("raw", Arc::new(BinaryArray::from_opt_vec(vec![Some(b"\xFF"), None]))),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap();
        let layout = Layout {
            key: vec!["n".to_owned()],
            headers: vec!["user".to_owned(), "n".to_owned()],
            timestamp: Some("at".to_owned()),
            value: Value::Column("raw".to_owned()),
        };
        layout.check(&batch.schema()).unwrap();
        let rows = layout.rows(&batch).unwrap();
        assert_eq!((rows.value(0), rows.value(1), rows.len()), (Some(&b"\xFF"[..]), None, 2));
        assert_eq!((rows.key(1).unwrap(), rows.timestamp(0)), (&[0, 0, 0, 0, 0, 0, 1, 2][..], Some(5)));
        let layout = Layout { key: vec!["n".to_owned(), "user".to_owned()], ..Layout::default() };
        let rows = layout.rows(&batch.project(&[0, 1]).unwrap()).unwrap();
        assert_eq!(rows.value(0).unwrap(), br#"{"user":"u","n":1}"#);
        assert_eq!(rows.key(1).unwrap(), br#"{"n":258,"user":null}"#);
        assert_eq!((rows.headers(0).is_none(), rows.timestamp(0)), (true, None));
    }

    #[test]
    fn columns_that_cannot_be_written_are_named() {
        let columns: [(&str, ArrayRef); 2] = [("x", Arc::new(Float64Array::from(vec![1.0]))), ("i", Arc::new(Int32Array::from(vec![1])))];
        let schema = RecordBatch::try_from_iter(columns).unwrap().schema();
        let error = |layout: Layout| layout.check(&schema).unwrap_err().to_string();
        let name = |name: &str| vec![name.to_owned()];
        assert_eq!(
            error(Layout { key: name("x"), ..Layout::default() }),
            "column `x` of type Float64 cannot be a key in Kafka; cast it to a string"
        );
        assert_eq!(error(Layout { key: name("y"), ..Layout::default() }), "there is no column `y` to write to Kafka; there are x, i");
        assert!(error(Layout { timestamp: Some("i".to_owned()), ..Layout::default() }).contains("cast it to a timestamp"));
    }
}
