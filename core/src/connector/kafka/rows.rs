//! Rows to records: values, keys, headers and timestamps of one batch.

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, ListArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Int64Type, SchemaRef, TimeUnit, TimestampMillisecondType};
use rdkafka::message::{Header, OwnedHeaders};

use crate::connector::records::{Beside, Encoded, Target, Value, ValueWriter, lines};
use crate::error::{Error, Result};

const KAFKA: Target = Target("Kafka");

/// Bytes that a record may take beside its key, value and headers, and those that a header may beside its name and value: librdkafka counts
/// 36 and 10 at most.
const RECORD_BYTES: usize = 64;
const HEADER_BYTES: usize = 16;

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
    encoded: Encoded,
    parts: Parts,
}

/// What records have beside their values, by row.
struct Parts {
    keys: Option<BinaryArray>,
    headers: Vec<(String, Headers)>,
    timestamps: Option<ArrayRef>,
    /// Bytes of a record, at most.
    max_bytes: usize,
}

enum Headers {
    /// A header of the column's name in every record.
    One(StringArray),
    /// Any number of them, names and values.
    Many(Box<(ListArray, StringArray, BinaryArray)>),
}

impl Layout {
    /// Checks that the columns are there and of types that can be written; returns what writes the values for a topic.
    ///
    /// # Errors
    /// As [`Value::writer`]; [`Kind::Schema`](crate::error::Kind::Schema), naming the column.
    pub(super) fn open(&self, schema: &SchemaRef, topic: &str) -> Result<ValueWriter> {
        self.parts(&RecordBatch::new_empty(SchemaRef::clone(schema)), 0)?;
        self.value.writer(KAFKA, schema, topic)
    }

    /// The records of a batch, of `max_bytes` at most where they can be made shorter.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema), naming the column.
    pub(super) fn rows(&self, batch: &RecordBatch, values: &mut ValueWriter, max_bytes: usize) -> Result<Rows> {
        let parts = self.parts(batch, max_bytes)?;
        Ok(Rows { encoded: values.values(batch, &parts)?, parts })
    }

    fn parts(&self, batch: &RecordBatch, max_bytes: usize) -> Result<Parts> {
        let keys = match self.key.as_slice() {
            [] => None,
            [name] => Some(key(name, KAFKA.column(batch, name)?)?),
            names => Some(lines(&KAFKA.projected(batch, names)?)?),
        };
        let headers =
            self.headers.iter().map(|name| Ok((name.clone(), headers(name, KAFKA.column(batch, name)?)?))).collect::<Result<_>>()?;
        let timestamps = self.timestamp.as_ref().map(|name| timestamps(name, KAFKA.column(batch, name)?)).transpose()?;
        Ok(Parts { keys, headers, timestamps, max_bytes })
    }
}

impl Rows {
    pub(super) fn len(&self) -> usize {
        self.encoded.values.len()
    }

    pub(super) fn value(&self, record: usize) -> Option<&[u8]> {
        self.encoded.values.is_valid(record).then(|| self.encoded.values.value(record))
    }

    pub(super) fn key(&self, record: usize) -> Option<&[u8]> {
        self.parts.key(self.encoded.row(record))
    }

    /// In milliseconds since the Unix epoch.
    pub(super) fn timestamp(&self, record: usize) -> Option<i64> {
        self.parts.timestamp(self.encoded.row(record))
    }

    pub(super) fn headers(&self, record: usize) -> Option<OwnedHeaders> {
        if self.parts.headers.is_empty() {
            return None;
        }
        let mut all = OwnedHeaders::new();
        for (name, headers) in &self.parts.headers {
            headers.each(name, self.encoded.row(record), &mut |key, value| {
                all = std::mem::take(&mut all).insert(Header { key, value });
            });
        }
        Some(all)
    }
}

impl Parts {
    fn key(&self, row: usize) -> Option<&[u8]> {
        self.keys.as_ref().filter(|keys| keys.is_valid(row)).map(|keys| keys.value(row))
    }

    fn timestamp(&self, row: usize) -> Option<i64> {
        let times = self.timestamps.as_ref().filter(|times| times.is_valid(row))?;
        Some(times.as_primitive::<TimestampMillisecondType>().value(row))
    }
}

impl Beside for Parts {
    fn is_same(&self, row: usize, other: usize) -> bool {
        self.key(row) == self.key(other)
            && self.timestamp(row) == self.timestamp(other)
            && self.headers.iter().all(|(_, headers)| headers.is_same(row, other))
    }

    fn room(&self, row: usize) -> usize {
        let mut taken = RECORD_BYTES + self.key(row).map_or(0, <[u8]>::len);
        for (name, headers) in &self.headers {
            headers.each(name, row, &mut |name, value| taken += HEADER_BYTES + name.len() + value.map_or(0, <[u8]>::len));
        }
        self.max_bytes.saturating_sub(taken)
    }
}

impl Headers {
    /// Those of a row.
    fn each(&self, column: &str, row: usize, take: &mut dyn FnMut(&str, Option<&[u8]>)) {
        match self {
            Headers::One(texts) => take(column, texts.is_valid(row).then(|| texts.value(row).as_bytes())),
            Headers::Many(many) => {
                let (lists, names, values) = many.as_ref();
                for at in range(lists, row) {
                    take(names.value(at), values.is_valid(at).then(|| values.value(at)));
                }
            }
        }
    }

    fn is_same(&self, row: usize, other: usize) -> bool {
        match self {
            Headers::One(texts) => texts.slice(row, 1) == texts.slice(other, 1),
            Headers::Many(many) => {
                let (lists, names, values) = many.as_ref();
                let of = |row| range(lists, row).map(|at| (names.value(at), values.is_valid(at).then(|| values.value(at))));
                of(row).eq(of(other))
            }
        }
    }
}

/// Where the items of a row are.
fn range(lists: &ListArray, row: usize) -> std::ops::Range<usize> {
    lists.value_offsets()[row] as usize..lists.value_offsets()[row + 1] as usize
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
    use arrow::ipc::reader::StreamReader;

    use super::*;

    fn rows(layout: &Layout, batch: &RecordBatch) -> Rows {
        let mut values = layout.open(&batch.schema(), "t").unwrap();
        layout.rows(batch, &mut values, 1_000_000).unwrap()
    }

    #[test]
    fn neighbours_with_the_same_key_time_and_headers_are_one_stream_of_arrow() {
        let columns: [(&str, ArrayRef); 3] = [
            ("key", Arc::new(StringArray::from(vec![Some("a"), Some("a"), Some("b"), None, None, Some("a")]))),
            ("note", Arc::new(StringArray::from(vec![Some("x"), None, None, None, None, None]))),
            ("at", Arc::new(TimestampMicrosecondArray::from(vec![5_000, 5_999, 5_999, 5_999, 5_999, 5_999]))),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap();
        let counts = |layout: Layout| -> Vec<(usize, Option<String>)> {
            let rows = rows(&Layout { value: Value::ArrowIpc, ..layout }, &batch);
            let count = |value| StreamReader::try_new(value, None).unwrap().map(|batch| batch.unwrap().num_rows()).sum();
            let text = |key: &[u8]| String::from_utf8(key.to_vec()).unwrap();
            (0..rows.len()).map(|record| (count(rows.value(record).unwrap()), rows.key(record).map(text))).collect()
        };
        let (name, key) = (|name: &str| vec![name.to_owned()], |key: &str| Some(key.to_owned()));
        assert_eq!(counts(Layout::default()), [(6, None)]);
        assert_eq!(counts(Layout { timestamp: Some("at".to_owned()), ..Layout::default() }), [(6, None)]);
        assert_eq!(counts(Layout { key: name("key"), ..Layout::default() }), [(2, key("a")), (1, key("b")), (2, None), (1, key("a"))]);
        assert_eq!(counts(Layout { headers: name("note"), ..Layout::default() }), [(1, None), (5, None)]);
        // Two rows too many for one record.
        let layout = Layout { value: Value::ArrowIpc, key: name("key"), ..Layout::default() };
        let whole = rows(&layout, &batch).value(0).unwrap().len();
        let mut values = layout.open(&batch.schema(), "t").unwrap();
        let exact = layout.rows(&batch, &mut values, whole + RECORD_BYTES + 1).unwrap();
        let less = layout.rows(&batch, &mut values, whole + RECORD_BYTES).unwrap();
        assert_eq!((exact.len(), less.len()), (4, 5), "there is a key of one byte");
        assert_eq!((less.key(1), less.key(2)), (Some(&b"a"[..]), Some(&b"b"[..])));
    }

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
        let rows = rows(&layout, &batch);
        assert_eq!((rows.value(0), rows.value(1), rows.len()), (Some(&b"\xFF"[..]), None, 2));
        assert_eq!((rows.key(1).unwrap(), rows.timestamp(0)), (&[0, 0, 0, 0, 0, 0, 1, 2][..], Some(5)));
        let layout = Layout { key: vec!["n".to_owned(), "user".to_owned()], ..Layout::default() };
        let rows = self::rows(&layout, &batch.project(&[0, 1]).unwrap());
        assert_eq!(rows.value(0).unwrap(), br#"{"user":"u","n":1}"#);
        assert_eq!(rows.key(1).unwrap(), br#"{"n":258,"user":null}"#);
        assert_eq!((rows.headers(0).is_none(), rows.timestamp(0)), (true, None));
    }

    #[test]
    fn columns_that_cannot_be_written_are_named() {
        let columns: [(&str, ArrayRef); 2] = [("x", Arc::new(Float64Array::from(vec![1.0]))), ("i", Arc::new(Int32Array::from(vec![1])))];
        let schema = RecordBatch::try_from_iter(columns).unwrap().schema();
        let error = |layout: Layout| layout.open(&schema, "t").err().unwrap().to_string();
        let name = |name: &str| vec![name.to_owned()];
        assert_eq!(
            error(Layout { key: name("x"), ..Layout::default() }),
            "column `x` of type Float64 cannot be a key in Kafka; cast it to a string"
        );
        assert_eq!(error(Layout { key: name("y"), ..Layout::default() }), "there is no column `y` to write to Kafka; there are x, i");
        assert!(error(Layout { timestamp: Some("i".to_owned()), ..Layout::default() }).contains("cast it to a timestamp"));
    }
}
