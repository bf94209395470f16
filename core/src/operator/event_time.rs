//! Event time: which column it is, and what the watermark was before each row.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::buffer::ScalarBuffer;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Int64Type, Schema, TimeUnit};

use thalweg_kernels::{behind_watermark, min_max_i64, running_watermarks};

use crate::batch::{Batch, EventTime};
use crate::error::{Error, Result};
use crate::operator::Late;
use crate::operator::keys::KeyColumns;
use crate::quality::{Rejected, row_as_json};
use crate::time::Unit;
use crate::watermark::{NONE, Watermarks};

/// Panes that one piece of a batch may span: bounds the state of sparse inputs, whose windows fire in between.
const PANES_PER_PIECE: i64 = 128;

/// Rows below which a batch is not cut, however many panes it spans.
const MIN_PIECE_ROWS: usize = 64;

/// Which column holds the event time, and how it counts.
#[derive(Debug, Clone)]
pub(crate) struct TimeColumn {
    pub index: usize,
    pub name: String,
    pub unit: Unit,
    /// What the values count as they stand in the column.
    counts: TimeUnit,
}

/// Which column says how far the event time of a row's partition has come.
#[derive(Debug, Clone)]
pub(crate) enum Punctuation {
    /// A boolean: true says that no row earlier than this one will come.
    Flag(usize),
    /// A time: no row at or before it will come; null says nothing.
    Time(TimeColumn),
}

impl TimeColumn {
    /// The column `name` of `schema`; `unit` says what integers count.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if the column is unknown or holds no time.
    pub fn new(schema: &Schema, name: &str, unit: Option<TimeUnit>) -> Result<TimeColumn> {
        let index = crate::operator::column_index(schema, name)?;
        let data_type = schema.field(index).data_type();
        let unit = match data_type {
            DataType::Timestamp(own, _) => *own,
            DataType::Date64 | DataType::Date32 => TimeUnit::Millisecond,
            DataType::Int64 | DataType::Int32 | DataType::UInt64 | DataType::UInt32 => unit.unwrap_or(TimeUnit::Millisecond),
            other => {
                return Err(Error::schema(format!(
                    "`{name}` is of type {other}, which is not a time; use a timestamp, a date or an integer with its unit, \
                     or make one with `with_columns(ts = \"to_timestamp_millis({name})\")` first"
                )));
            }
        };
        let counts = unit;
        let unit = match counts {
            TimeUnit::Second | TimeUnit::Millisecond => Unit::Millisecond,
            TimeUnit::Microsecond => Unit::Microsecond,
            TimeUnit::Nanosecond => Unit::Nanosecond,
        };
        Ok(TimeColumn { index, name: name.to_owned(), unit, counts })
    }

    /// The values of the column as they stand in it, in 64 bits.
    fn integers(&self, column: &ArrayRef) -> Result<Int64Array> {
        let checked = CastOptions { safe: false, ..CastOptions::default() };
        let through = match column.data_type() {
            DataType::Date32 => cast_with_options(column, &DataType::Date64, &checked)?,
            _ => ArrayRef::clone(column),
        };
        let integers = cast_with_options(&through, &DataType::Int64, &checked)
            .map_err(|error| Error::schema(format!("the event time `{}` does not fit int64", self.name)).with_source(error))?;
        Ok(integers.as_primitive::<Int64Type>().clone())
    }

    /// The event times of a column without nulls.
    fn times(&self, column: &ArrayRef) -> Result<ScalarBuffer<i64>> {
        let values = self.integers(column)?.values().clone();
        Ok(match self.factor() {
            1 => values,
            factor => values.iter().map(|value| value.saturating_mul(factor)).collect(),
        })
    }

    /// Seconds are multiplied to milliseconds.
    fn factor(&self) -> i64 {
        if self.counts == TimeUnit::Second { 1_000 } else { 1 }
    }
}

impl Punctuation {
    /// The column `name` of `schema`, where `time` is the event time. Integers count what the event time counts.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if the column is unknown, neither boolean nor a time, or counts in another unit.
    pub fn new(schema: &Schema, name: &str, time: &TimeColumn) -> Result<Punctuation> {
        let index = crate::operator::column_index(schema, name)?;
        let data_type = schema.field(index).data_type();
        if *data_type == DataType::Boolean {
            return Ok(Punctuation::Flag(index));
        }
        let column = TimeColumn::new(schema, name, Some(time.counts)).map_err(|_| {
            Error::schema(format!(
                "`{name}` is of type {data_type}; a column that punctuates is a boolean or a time in the unit of `{}`",
                time.name
            ))
        })?;
        if column.unit != time.unit {
            return Err(Error::schema(format!(
                "`{name}` counts {:?}s and the event time `{}` counts {:?}s; bring both to one unit with `with_columns` first",
                column.unit, time.name, time.unit
            )));
        }
        Ok(Punctuation::Time(column))
    }

    /// For each row the time before which no row will come after it; [`NONE`] where nothing is said. `times` are those of the rows.
    fn marks(&self, records: &RecordBatch, times: &[i64]) -> Result<Vec<i64>> {
        match self {
            Punctuation::Flag(index) => {
                let flags = records.column(*index).as_boolean();
                Ok(flags.iter().zip(times).map(|(flag, &time)| if flag == Some(true) { time } else { NONE }).collect())
            }
            Punctuation::Time(column) => {
                let past = |said: i64| said.saturating_mul(column.factor()).saturating_add(1);
                Ok(column.integers(records.column(column.index))?.iter().map(|said| said.map_or(NONE, past)).collect())
            }
        }
    }
}

/// Event times with their bounds, none of them late.
pub(crate) fn timed(times: ScalarBuffer<i64>) -> EventTime {
    let (earliest, latest) = min_max_i64(&times).unwrap_or((i64::MAX, i64::MIN));
    EventTime { times, watermarks: None, earliest, latest }
}

/// The rows that are not behind the watermark, neither that of their partition when they came nor the overall `watermark`; the others
/// are added to `late`. `keys` are the columns of the operator's key.
///
/// # Errors
/// If columns cannot be filtered, which would be a defect.
pub(crate) fn on_time(batch: Batch, watermark: i64, keys: &mut KeyColumns, late: &mut Vec<Late>) -> Result<Batch> {
    let Some(time) = batch.time.as_ref().filter(|time| time.watermarks.is_some() || time.earliest <= watermark) else {
        return Ok(batch);
    };
    let mark = |row: usize| time.watermarks.as_ref().map_or(NONE, |marks| marks[row]).max(watermark);
    let behind: Vec<bool> = time.times.iter().enumerate().map(|(row, &time)| time <= mark(row)).collect();
    if !behind.contains(&true) {
        return Ok(batch);
    }
    let ahead = BooleanArray::from(behind.iter().map(|behind| !behind).collect::<Vec<_>>());
    late.push(Late::of(&batch, &BooleanArray::from(behind), watermark, keys)?);
    batch.filter(&ahead)
}

/// Takes out the rows without event time and gives the others theirs.
pub(crate) fn take_times(batch: Batch, column: &TimeColumn, rejected: &mut Vec<Rejected>) -> Result<Batch> {
    let batch = match batch.records.column(column.index).logical_nulls().filter(|nulls| nulls.null_count() > 0) {
        None => batch,
        Some(nulls) => {
            let origins = batch.origins.of_rows(&batch.segments, batch.rows());
            let timeless = origins.into_iter().flatten().enumerate().filter(|(row, _)| nulls.is_null(*row));
            for (row, (partition, offset)) in timeless {
                let why = format!("the event time `{}` is null", column.name);
                rejected.push(Rejected::new(partition, offset, &row_as_json(&batch.records, row), why));
            }
            batch.filter(&BooleanArray::new(nulls.into_inner(), None))?
        }
    };
    let times = column.times(batch.records.column(column.index))?;
    Ok(Batch { time: Some(timed(times)), ..batch })
}

/// Tells `watermarks` of a batch's rows and writes into the batch what the watermark was before each, if any is behind.
/// With a `punctuation` it is that column which moves the watermark, else the rows' own times.
///
/// # Errors
/// [`Kind::Schema`](crate::error::Kind::Schema) if a time that punctuates does not fit.
pub(crate) fn observe(
    batch: &mut Batch,
    punctuation: Option<&Punctuation>,
    watermarks: &mut Watermarks,
    now: u64,
    before: &mut Vec<i64>,
) -> Result<()> {
    let Some(time) = &mut batch.time else { return Ok(()) };
    let marks = punctuation.map(|punctuation| punctuation.marks(&batch.records, &time.times)).transpose()?;
    before.clear();
    let (mut start, delay) = (0, watermarks.delay());
    for segment in &batch.segments {
        let rows = start..start + segment.rows;
        let times = &time.times[rows.clone()];
        let so_far = watermarks.greatest(segment.partition.0);
        // Rows of segments that are not behind need no mark: one below them all will do.
        let greatest = match &marks {
            Some(marks) => {
                let known = before.len();
                before.resize(start, NONE);
                let greatest = running_watermarks(&marks[rows], so_far, delay, before);
                if times.iter().zip(&before[start..]).all(|(time, mark)| time > mark) {
                    before.truncate(known);
                }
                greatest
            }
            None => {
                let (greatest, behind) = behind_watermark(times, so_far, delay);
                if behind {
                    before.resize(start, NONE);
                    running_watermarks(times, so_far, delay, before);
                }
                greatest
            }
        };
        watermarks.observe(segment.partition.0, greatest, now);
        start += segment.rows;
    }
    if !before.is_empty() {
        before.resize(start, NONE);
        time.watermarks = Some(ScalarBuffer::from(before.clone()));
    }
    Ok(())
}

/// Cuts the rows of a batch into pieces that span few panes each.
pub(crate) fn pieces(time: &EventTime, pane: Option<i64>) -> Vec<Range<usize>> {
    let rows = time.times.len();
    let whole = || std::iter::once(0..rows).collect();
    let Some(pane) = pane.filter(|_| rows > MIN_PIECE_ROWS) else { return whole() };
    let panes = time.latest.saturating_sub(time.earliest) / pane + 1;
    if panes <= PANES_PER_PIECE {
        return whole();
    }
    let count = (panes / PANES_PER_PIECE + 1) as usize;
    let length = rows.div_ceil(count).max(MIN_PIECE_ROWS);
    (0..rows).step_by(length).map(|start| start..(start + length).min(rows)).collect()
}

/// A piece of a batch, with the bounds of its own times: those of the batch would let steps take its rows for late.
pub(crate) fn piece(batch: &Batch, rows: Range<usize>) -> Batch {
    let whole = rows.len() == batch.rows();
    let piece = batch.slice(rows);
    let own = |time: EventTime| EventTime { watermarks: time.watermarks, ..timed(time.times) };
    Batch { time: if whole { piece.time } else { piece.time.map(own) }, ..piece }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn cut(times: impl IntoIterator<Item = i64>, pane: Option<i64>) -> Vec<Range<usize>> {
        pieces(&timed(times.into_iter().collect()), pane)
    }

    #[test]
    fn rows_behind_are_told_apart_whatever_the_split() {
        let times = [5, 9, 3, 20, 8, 9, 10, 30, 15];
        let expected = [NONE, -6, -2, -2, 9, 9, 9, 9, 19];
        let batch = |times: &[i64]| {
            let column = Arc::new(Int64Array::from(times.to_vec())) as ArrayRef;
            let batch = Batch::new(RecordBatch::try_from_iter([("ts", column)]).unwrap(), 0, 0);
            Batch { time: Some(timed(times.to_vec().into())), ..batch }
        };
        for size in [1, 2, 4, 9] {
            let mut marks = Watermarks::new(10, None);
            for (times, expected) in times.chunks(size).zip(expected.chunks(size)) {
                let mut batch = batch(times);
                observe(&mut batch, None, &mut marks, 0, &mut Vec::new()).unwrap();
                let behind = times.iter().zip(expected).any(|(time, mark)| time <= mark);
                assert_eq!(batch.time.unwrap().watermarks.as_deref(), behind.then_some(expected), "{times:?}");
            }
        }
    }

    #[test]
    fn sparse_batches_are_cut_and_dense_ones_are_not() {
        let one = |end: usize| vec![Range { start: 0, end }];
        assert_eq!(cut(0..1_000, Some(1_000)), one(1_000));
        assert_eq!(cut(0..1_000, None), one(1_000));
        let sparse = cut((0..1_000).map(|row| row * 1_000), Some(1_000));
        assert_eq!((sparse.first(), sparse.last()), (Some(&(0..125)), Some(&(875..1_000))));
        assert_eq!(sparse.iter().map(ExactSizeIterator::len).sum::<usize>(), 1_000);
        assert_eq!(cut([i64::MIN, i64::MAX], Some(1)), one(2));
    }
}
