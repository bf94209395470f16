//! Rows to records: values, partition keys and hash keys of one batch.

use std::hash::{BuildHasher, Hasher, RandomState};

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};

use crate::connector::kinesis::position::hash_key;
use crate::connector::records::{Beside, Encoded, Target, Value, ValueWriter, lines};
use crate::error::{Error, Result};

const KINESIS: Target = Target("Kinesis");

/// Characters of a partition key, at most: what Kinesis takes.
const KEY_CHARACTERS: usize = 256;

/// Bytes of a record with its key, at most: what Kinesis takes of a stream that allows it.
const RECORD_BYTES: usize = 10 << 20;

/// Bytes of a record that is put together of many rows, at most: what Kinesis takes of any stream.
const SHARED_BYTES: usize = 1 << 20;

/// Bytes of a partition key that is made for rows which have none.
const SPREAD_BYTES: usize = 16;

/// Which columns become what.
#[derive(Debug, Clone, Default)]
pub(super) struct Layout {
    pub(super) value: Value,
    pub(super) partition_key: Vec<String>,
    pub(super) explicit_hash_key: Option<String>,
}

/// A record as it is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) data: Vec<u8>,
    pub(super) partition_key: String,
    /// A number below 2¹²⁸, in decimal.
    pub(super) explicit_hash_key: Option<String>,
}

impl Entry {
    /// What Kinesis counts of it.
    pub(super) fn size(&self) -> usize {
        self.data.len() + self.partition_key.len()
    }
}

/// The records of a batch.
pub(super) struct Rows {
    encoded: Encoded,
    parts: Parts,
}

/// What records have beside their values, by row.
struct Parts {
    keys: Option<StringArray>,
    hashes: Option<StringArray>,
}

/// Partition keys for records that have none: spread evenly over the shards.
pub(super) struct Spread(u64);

impl Spread {
    pub(super) fn new() -> Spread {
        // Keyed anew by the operating system in every process.
        Spread(RandomState::new().build_hasher().finish())
    }

    /// The next of a sequence of numbers that looks random: SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators,
    /// 2014).
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Layout {
    /// Checks that the columns are there and of types that can be written; returns what writes the values for a stream.
    ///
    /// # Errors
    /// As [`Value::writer`]; [`Kind::Schema`](crate::error::Kind::Schema), naming the column.
    pub(super) fn open(&self, schema: &SchemaRef, stream: &str) -> Result<ValueWriter> {
        self.parts(&RecordBatch::new_empty(SchemaRef::clone(schema)))?;
        self.value.writer(KINESIS, schema, stream)
    }

    /// The records of a batch.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema), naming a column that cannot be written, or what it holds.
    pub(super) fn rows(&self, batch: &RecordBatch, values: &mut ValueWriter) -> Result<Rows> {
        let parts = self.parts(batch)?;
        let encoded = values.values(batch, &parts)?;
        let values = &encoded.values;
        if let (Value::Column(name), Some(row)) = (&self.value, (0..values.len()).find(|row| values.is_null(*row))) {
            return Err(Error::schema(format!(
                "column `{name}` is null in row {row} of a batch, and Kinesis has no record without a value; fill it, or leave such rows out"
            )));
        }
        Ok(Rows { encoded, parts })
    }

    fn parts(&self, batch: &RecordBatch) -> Result<Parts> {
        let keys = match self.partition_key.as_slice() {
            [] => None,
            [name] => Some(keys(name, KINESIS.column(batch, name)?)?),
            names => {
                let objects = text(&names.join("`, `"), &lines(&KINESIS.projected(batch, names)?)?)?;
                Some(checked_keys(&names.join("`, `"), objects)?)
            }
        };
        let hashes = self.explicit_hash_key.as_ref().map(|name| hashes(name, KINESIS.column(batch, name)?)).transpose()?;
        Ok(Parts { keys, hashes })
    }
}

impl Rows {
    pub(super) fn len(&self) -> usize {
        self.encoded.values.len()
    }

    /// A record.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if it is longer than Kinesis takes.
    pub(super) fn entry(&self, record: usize, spread: &mut Spread) -> Result<Entry> {
        let row = self.encoded.row(record);
        let entry = Entry {
            data: self.encoded.values.value(record).to_vec(),
            partition_key: self.parts.key(row).map_or_else(|| format!("{:016x}", spread.next()), str::to_owned),
            explicit_hash_key: self.parts.hash(row).map(str::to_owned),
        };
        match entry.size() <= RECORD_BYTES {
            true => Ok(entry),
            false => Err(Error::schema(format!(
                "row {row} of a batch is a record of {} bytes with its key, and Kinesis takes {RECORD_BYTES} at most; write fewer columns",
                entry.size()
            ))),
        }
    }
}

impl Parts {
    fn key(&self, row: usize) -> Option<&str> {
        self.keys.as_ref().filter(|keys| keys.is_valid(row)).map(|keys| keys.value(row))
    }

    fn hash(&self, row: usize) -> Option<&str> {
        self.hashes.as_ref().filter(|hashes| hashes.is_valid(row)).map(|hashes| hashes.value(row))
    }
}

impl Beside for Parts {
    fn is_same(&self, row: usize, other: usize) -> bool {
        self.key(row) == self.key(other) && self.hash(row) == self.hash(other)
    }

    fn room(&self, row: usize) -> usize {
        SHARED_BYTES - self.key(row).map_or(SPREAD_BYTES, str::len)
    }
}

/// Text as it is, bytes that are text, integers in decimal.
fn keys(name: &str, array: &ArrayRef) -> Result<StringArray> {
    let kind = match array.data_type() {
        DataType::Dictionary(_, values) => values.as_ref(),
        other => other,
    };
    let keys = if kind.is_integer() {
        cast(array, &DataType::Utf8)?.as_string::<i32>().clone()
    } else {
        text(name, &KINESIS.bytes(name, array, "a partition key")?)?
    };
    checked_keys(name, keys)
}

/// Keys that Kinesis takes.
fn checked_keys(name: &str, keys: StringArray) -> Result<StringArray> {
    for (row, key) in keys.iter().enumerate() {
        let Some(key) = key else { continue };
        // No character is shorter than a byte.
        let characters = if key.len() <= KEY_CHARACTERS { key.len().min(1) } else { key.chars().count() };
        if !(1..=KEY_CHARACTERS).contains(&characters) {
            return Err(Error::schema(format!(
                "the partition key of column `{name}` has {characters} characters in row {row} of a batch, and Kinesis takes 1 to \
                 {KEY_CHARACTERS}; choose another column, or make it null to have the row go to any shard"
            )));
        }
    }
    Ok(keys)
}

/// Bytes that are text.
fn text(name: &str, bytes: &BinaryArray) -> Result<StringArray> {
    StringArray::try_from_binary(bytes.clone()).map_err(|error| {
        Error::schema(format!("column `{name}` has a partition key that is not UTF-8, as Kinesis wants it; encode it as text"))
            .with_source(error)
    })
}

/// Numbers below 2¹²⁸, in decimal.
fn hashes(name: &str, array: &ArrayRef) -> Result<StringArray> {
    let refused = || {
        let kind = array.data_type();
        Error::schema(format!("column `{name}` of type {kind} cannot be a hash key in Kinesis; cast it to a string"))
    };
    let is_known = match array.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(_, _) => true,
        DataType::Decimal128(_, 0) | DataType::Decimal256(_, 0) => true,
        other => other.is_integer(),
    };
    let numbers = if is_known { cast(array, &DataType::Utf8).map_err(|_| refused())? } else { return Err(refused()) };
    let numbers = numbers.as_string::<i32>();
    match numbers.iter().enumerate().find(|(_, number)| number.is_some_and(|number| hash_key(number).is_err())) {
        None => Ok(numbers.clone()),
        Some((row, _)) => Err(Error::schema(format!(
            "the hash key of column `{name}` is not a number of 0 to 2^128 - 1 in decimal, in row {row} of a batch, as Kinesis wants it"
        ))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array};
    use arrow::ipc::reader::StreamReader;

    use super::*;

    fn batch(columns: &[(&str, ArrayRef)]) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.iter().map(|(name, array)| (*name, Arc::clone(array), true))).unwrap()
    }

    fn entries(layout: &Layout, batch: &RecordBatch) -> Vec<Entry> {
        let mut values = layout.open(&batch.schema(), "s").unwrap();
        let (rows, mut spread) = (layout.rows(batch, &mut values).unwrap(), Spread::new());
        (0..rows.len()).map(|row| rows.entry(row, &mut spread).unwrap()).collect()
    }

    #[test]
    fn columns_become_parts_of_records() {
        let batch = batch(&[
            ("user", Arc::new(StringArray::from(vec![Some("u"), None]))),
            ("n", Arc::new(Int64Array::from(vec![1, -258]))),
            ("hash", Arc::new(StringArray::from(vec![None, Some("340282366920938463463374607431768211455")]))),
        ]);
        let name = |name: &str| name.to_owned();
        let layout = Layout { partition_key: vec![name("n")], explicit_hash_key: Some(name("hash")), ..Layout::default() };
        let [first, second] = entries(&layout, &batch).try_into().unwrap();
        assert_eq!(first.data, br#"{"user":"u","n":1,"hash":null}"#);
        assert_eq!((first.partition_key.as_str(), first.explicit_hash_key.as_deref()), ("1", None));
        assert_eq!((second.partition_key.as_str(), second.explicit_hash_key.unwrap().len()), ("-258", 39));
        let layout = Layout { partition_key: vec![name("user")], ..Layout::default() };
        let [first, second] = entries(&layout, &batch).try_into().unwrap();
        assert_eq!((first.partition_key.as_str(), second.partition_key.len()), ("u", 16), "null goes anywhere");
        let layout = Layout { partition_key: vec![name("n"), name("user")], ..Layout::default() };
        assert_eq!(entries(&layout, &batch)[1].partition_key, r#"{"n":-258,"user":null}"#);
        let keys: Vec<String> = entries(&Layout::default(), &batch).into_iter().map(|entry| entry.partition_key).collect();
        assert_ne!(keys[0], keys[1]);
    }

    #[test]
    fn neighbours_of_one_key_are_one_stream_of_arrow() {
        let keys = StringArray::from(vec![Some("a"), Some("a"), None, None, Some("a")]);
        let batch = batch(&[("key", Arc::new(keys)), ("n", Arc::new(Int64Array::from_iter_values(0..5)))]);
        let counts = |partition_key: Vec<String>| -> Vec<usize> {
            let entries = entries(&Layout { value: Value::ArrowIpc, partition_key, ..Layout::default() }, &batch);
            let count = |entry: Entry| StreamReader::try_new(&entry.data[..], None).unwrap().map(|batch| batch.unwrap().num_rows()).sum();
            entries.into_iter().map(count).collect()
        };
        assert_eq!((counts(Vec::new()), counts(vec!["key".to_owned()])), (vec![5], vec![2, 2, 1]));
    }

    #[test]
    fn what_kinesis_does_not_take_is_named() {
        let rows = |layout: &Layout, column: ArrayRef| {
            let batch = batch(&[("c", column)]);
            layout.open(&batch.schema(), "s").and_then(|mut values| layout.rows(&batch, &mut values))
        };
        let error = |layout: Layout, column: ArrayRef| rows(&layout, column).err().unwrap().to_string();
        let key = || Layout { partition_key: vec!["c".to_owned()], ..Layout::default() };
        let hash = || Layout { explicit_hash_key: Some("c".to_owned()), ..Layout::default() };
        let texts = |text: &str| Arc::new(StringArray::from(vec![text])) as ArrayRef;
        assert!(error(key(), texts("")).contains("has 0 characters in row 0"));
        assert!(error(key(), texts(&"ö".repeat(257))).contains("`c` has 257 characters in row 0"));
        assert!(rows(&key(), texts(&"ö".repeat(256))).is_ok());
        let bytes = Arc::new(BinaryArray::from_vec(vec![b"\xFF"])) as ArrayRef;
        assert!(error(key(), bytes).contains("not UTF-8"));
        let float = || Arc::new(Float64Array::from(vec![1.0])) as ArrayRef;
        assert_eq!(error(key(), float()), "column `c` of type Float64 cannot be a partition key in Kinesis; cast it to a string");
        assert_eq!(error(hash(), float()), "column `c` of type Float64 cannot be a hash key in Kinesis; cast it to a string");
        assert!(error(hash(), texts("340282366920938463463374607431768211456")).contains("not a number of 0 to 2^128 - 1"));
        assert!(error(hash(), Arc::new(Int64Array::from(vec![-1]))).contains("not a number"));
        let value = Layout { value: Value::Column("c".to_owned()), ..Layout::default() };
        assert!(error(value.clone(), Arc::new(StringArray::from(vec![None::<&str>]))).contains("`c` is null in row 0"));
        let long = rows(&value, texts(&"x".repeat(RECORD_BYTES))).unwrap().entry(0, &mut Spread::new());
        assert!(long.unwrap_err().to_string().contains("10485760 at most"));
    }
}
