//! Which folder a row goes to: one level for each thing that the output is partitioned by, named as Hive does it.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::{DataType, Field, SchemaRef, TimeUnit, TimestampSecondType};
use arrow::row::{RowConverter, SortField};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use chrono::{DateTime, Datelike};

use crate::batch::column_index;
use crate::error::{Error, Result};

/// What stands for null in the name of a folder: Hive's word, which readers know.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

const SECONDS_PER_HOUR: i64 = 3_600;
const SECONDS_PER_DAY: i64 = 24 * SECONDS_PER_HOUR;

/// What the folders of an output are made of.
///
/// Text names one as Iceberg does: `city` is the values of a column, `day(ts)` the days of a time; `year`, `month` and `hour` likewise.
/// Times are counted in UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartitionBy {
    /// The values of a column, which is left out of the files: `city=Paris`.
    Column(String),
    /// The years of a time column, which stays: `ts_year=2026`.
    Year(String),
    /// Its months: `ts_month=2026-11`.
    Month(String),
    /// Its days: `ts_day=2026-11-27`.
    Day(String),
    /// Its hours: `ts_hour=2026-11-27-13`.
    Hour(String),
}

impl PartitionBy {
    fn column(&self) -> &str {
        match self {
            PartitionBy::Column(name)
            | PartitionBy::Year(name)
            | PartitionBy::Month(name)
            | PartitionBy::Day(name)
            | PartitionBy::Hour(name) => name,
        }
    }

    /// The name before the `=` of a folder.
    fn label(&self) -> String {
        match self {
            PartitionBy::Column(name) => escaped(name),
            PartitionBy::Year(name) => format!("{}_year", escaped(name)),
            PartitionBy::Month(name) => format!("{}_month", escaped(name)),
            PartitionBy::Day(name) => format!("{}_day", escaped(name)),
            PartitionBy::Hour(name) => format!("{}_hour", escaped(name)),
        }
    }
}

impl fmt::Display for PartitionBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PartitionBy::Column(name) => f.write_str(name),
            PartitionBy::Year(name) => write!(f, "year({name})"),
            PartitionBy::Month(name) => write!(f, "month({name})"),
            PartitionBy::Day(name) => write!(f, "day({name})"),
            PartitionBy::Hour(name) => write!(f, "hour({name})"),
        }
    }
}

impl FromStr for PartitionBy {
    type Err = Error;

    fn from_str(text: &str) -> Result<PartitionBy> {
        let Some((unit, column)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) else {
            return Ok(PartitionBy::Column(text.to_owned()));
        };
        let column = column.trim().to_owned();
        Ok(match unit.trim().to_ascii_lowercase().as_str() {
            "year" => PartitionBy::Year(column),
            "month" => PartitionBy::Month(column),
            "day" => PartitionBy::Day(column),
            "hour" => PartitionBy::Hour(column),
            other => return Err(Error::config(format!("`{other}` of `{text}` is none of year, month, day and hour"))),
        })
    }
}

/// Parts batches by folder.
pub(super) struct Partitioner {
    by: Vec<(PartitionBy, usize)>,
    /// The columns that are written.
    kept: Vec<usize>,
    converter: RowConverter,
}

impl Partitioner {
    /// By columns of `schema`.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if a column is unknown, its type cannot be told in a folder's name or counts no
    /// days, or no column is left to be written.
    pub fn new(by: &[PartitionBy], schema: &SchemaRef) -> Result<Partitioner> {
        let places = by.iter().map(|by| Ok((by.clone(), column_index(schema, by.column())?))).collect::<Result<Vec<_>>>()?;
        places.iter().try_for_each(|(by, place)| check(by, schema.field(*place)))?;
        let leaves = |place: &usize| places.iter().any(|(by, own)| own == place && matches!(by, PartitionBy::Column(_)));
        let kept: Vec<usize> = (0..schema.fields().len()).filter(|place| !leaves(place)).collect();
        if kept.is_empty() {
            return Err(Error::schema("every column is one that the output is partitioned by, so that none is left for the files"));
        }
        let key = |(by, place): &(PartitionBy, usize)| match by {
            PartitionBy::Column(_) => SortField::new(schema.field(*place).data_type().clone()),
            _ => SortField::new(DataType::Int64),
        };
        let converter = RowConverter::new(places.iter().map(key).collect())?;
        Ok(Partitioner { by: places, kept, converter })
    }

    /// The columns of the files.
    pub fn schema(&self, schema: &SchemaRef) -> Result<SchemaRef> {
        Ok(Arc::new(schema.project(&self.kept)?))
    }

    /// The rows of each folder with their columns, folders in the order in which they first come.
    ///
    /// # Errors
    /// If Arrow cannot take a column, which would be a defect.
    pub fn split(&self, batch: &RecordBatch) -> Result<Vec<(String, RecordBatch)>> {
        if batch.num_rows() == 0 {
            return Ok(Vec::new());
        }
        let keys = self.by.iter().map(|(by, place)| key(by, batch.column(*place))).collect::<Result<Vec<_>>>()?;
        let rows = self.converter.convert_columns(&keys)?;
        let mut groups: Vec<Vec<u32>> = Vec::new();
        let mut known = HashMap::new();
        for (number, row) in (0u32..).zip(&rows) {
            let group = *known.entry(row).or_insert(groups.len());
            match groups.get_mut(group) {
                Some(rows) => rows.push(number),
                None => groups.push(vec![number]),
            }
        }
        let kept = batch.project(&self.kept)?;
        let one = groups.len() == 1;
        let part = |rows: Vec<u32>| {
            let folder = self.folder(&keys, rows[0] as usize)?;
            Ok((folder, if one { kept.clone() } else { take_record_batch(&kept, &UInt32Array::from(rows))? }))
        };
        groups.into_iter().map(part).collect()
    }

    /// The folder of a row.
    fn folder(&self, keys: &[ArrayRef], row: usize) -> Result<String> {
        let levels = self.by.iter().zip(keys).map(|((by, _), key)| Ok(format!("{}={}", by.label(), value(by, key, row)?)));
        Ok(levels.collect::<Result<Vec<_>>>()?.join("/"))
    }
}

fn check(by: &PartitionBy, field: &Field) -> Result<()> {
    let data_type = match field.data_type() {
        DataType::Dictionary(_, values) => values,
        other => other,
    };
    let fits = match by {
        PartitionBy::Column(_) => {
            data_type.is_integer()
                || matches!(
                    data_type,
                    DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Boolean | DataType::Date32 | DataType::Date64
                )
        }
        _ => matches!(data_type, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64),
    };
    match fits {
        true => Ok(()),
        false => Err(Error::schema(format!(
            "the output cannot be partitioned by `{by}`, whose column is of type {data_type}; it takes text, integers, booleans and dates, and \
             for years to hours times and dates; cast it first"
        ))),
    }
}

/// What tells the folders of a column apart.
fn key(by: &PartitionBy, column: &ArrayRef) -> Result<ArrayRef> {
    let per = match by {
        PartitionBy::Column(_) => return Ok(Arc::clone(column)),
        PartitionBy::Hour(_) => SECONDS_PER_HOUR,
        PartitionBy::Year(_) | PartitionBy::Month(_) | PartitionBy::Day(_) => SECONDS_PER_DAY,
    };
    let seconds = seconds(column)?;
    let number = |seconds: i64| match (by, date(seconds)) {
        (PartitionBy::Year(_), Some(date)) => i64::from(date.year()),
        (PartitionBy::Month(_), Some(date)) => i64::from(date.year()) * 12 + i64::from(date.month0()),
        _ => seconds.div_euclid(per),
    };
    Ok(Arc::new(seconds.unary::<_, arrow::datatypes::Int64Type>(number)))
}

/// A time column in seconds, rounded down.
fn seconds(column: &ArrayRef) -> Result<Int64Array> {
    let per_second = match column.data_type() {
        DataType::Timestamp(TimeUnit::Millisecond, _) => 1_000,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000_000,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => 1_000_000_000,
        DataType::Timestamp(TimeUnit::Second, _) => 1,
        // Dates, which are whole seconds.
        _ => {
            let whole = cast(column, &DataType::Timestamp(TimeUnit::Second, None))?;
            return Ok(whole.as_primitive::<TimestampSecondType>().reinterpret_cast());
        }
    };
    let counts = cast(column, &DataType::Int64)?;
    Ok(counts.as_primitive::<arrow::datatypes::Int64Type>().unary(|count: i64| count.div_euclid(per_second)))
}

fn date(seconds: i64) -> Option<chrono::NaiveDate> {
    DateTime::from_timestamp(seconds, 0).map(|time| time.date_naive())
}

/// The name behind the `=` of a folder.
fn value(by: &PartitionBy, key: &ArrayRef, row: usize) -> Result<String> {
    if key.is_null(row) {
        return Ok(NULL.to_owned());
    }
    let number = || key.as_primitive::<arrow::datatypes::Int64Type>().value(row);
    Ok(match by {
        PartitionBy::Column(_) => {
            let options = FormatOptions::default();
            escaped(&ArrayFormatter::try_new(key.as_ref(), &options)?.value(row).to_string())
        }
        PartitionBy::Year(_) => format!("{:04}", number()),
        PartitionBy::Month(_) => format!("{:04}-{:02}", number().div_euclid(12), number().rem_euclid(12) + 1),
        PartitionBy::Day(_) => day(number()),
        PartitionBy::Hour(_) => format!("{}-{:02}", day(number().div_euclid(24)), number().rem_euclid(24)),
    })
}

fn day(days: i64) -> String {
    date(days.saturating_mul(SECONDS_PER_DAY)).map_or_else(|| days.to_string(), |date| date.to_string())
}

/// A name in which no byte means anything to file systems or to readers of such folders: others are written as `%` and two digits.
fn escaped(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for letter in name.chars() {
        match letter {
            '/'
            | '\\'
            | ':'
            | '='
            | '%'
            | '?'
            | '*'
            | '"'
            | '\''
            | '#'
            | '<'
            | '>'
            | '|'
            | '{'
            | '}'
            | '['
            | ']'
            | '^'
            | '\0'..='\x1f'
            | '\x7f' => {
                let _ = write!(escaped, "%{:02X}", u32::from(letter));
            }
            letter => escaped.push(letter),
        }
    }
    escaped
}
