//! The rows of a column in two: what an edge in time, or any other mask, parts.

use std::ops::RangeInclusive;

use arrow::array::{Array, ArrayData, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, make_array};
use arrow::buffer::{BooleanBuffer, Buffer, ScalarBuffer};
use arrow::compute::{FilterBuilder, FilterPredicate, filter};
use arrow::datatypes::{ArrowNativeType, DataType};
use thalweg_kernels::{self as kernels, Bits};

use crate::batch::{Batch, EventTime};
use crate::error::Result;

/// The rows of `column` that `selection` leaves out, and those that it selects.
///
/// # Errors
/// If Arrow cannot filter a column of this type.
pub(crate) fn split(column: &ArrayRef, selection: &BooleanBuffer) -> Result<[ArrayRef; 2]> {
    match width(column) {
        Some(4) => halves::<u32>(column, selection),
        Some(8) => halves::<u64>(column, selection),
        _ => {
            let others = BooleanArray::new(!selection, None);
            Ok([filter(column, &others)?, filter(column, &BooleanArray::new(selection.clone(), None))?])
        }
    }
}

/// The rows whose values lie in a range.
pub(crate) fn in_range<T: Copy + PartialOrd>(values: &[T], range: RangeInclusive<T>) -> BooleanBuffer {
    let mut selection = Vec::new();
    kernels::select_range(values, range, &mut selection);
    BooleanBuffer::new(Buffer::from_vec(selection), 0, values.len())
}

/// Of so many rows less than one is selected where those that are, are looked up one by one.
const FEW: usize = 2;

/// The rows of `batch` that `selection` selects, with their times and origins; `None` if there are none.
///
/// # Errors
/// As [`split`].
pub(crate) fn kept(batch: Batch, selection: &BooleanBuffer) -> Result<Option<Batch>> {
    let count = selection.count_set_bits();
    if count == batch.rows() {
        return Ok(Some(batch).filter(|batch| batch.rows() > 0));
    }
    if count == 0 {
        return Ok(None);
    }
    let mut rows = None;
    if count * FEW < selection.len() {
        kernels::selected_rows(bits(selection), rows.insert(Vec::with_capacity(count)));
    }
    let is_rest = batch.records.columns().iter().any(|column| !matches!(width(column), Some(4 | 8)));
    let rest = is_rest.then(|| FilterBuilder::new(&BooleanArray::new(selection.clone(), None)).optimize().build());
    let kept = Kept { selection, rows, rest };
    let times = |times: &ScalarBuffer<i64>| ScalarBuffer::from(kept.values(times));
    let time =
        batch.time.as_ref().map(|time| EventTime { times: times(&time.times), watermarks: time.watermarks.as_ref().map(times), ..*time });
    let column = |column: &ArrayRef| match (&batch.time, &time) {
        // The event time is often a column as it stands, which is taken once.
        (Some(whole), Some(time)) if is_of(column, &whole.times) => array(column, time.times.clone()),
        _ => kept.column(column),
    };
    let columns = batch.records.columns().iter().map(column).collect::<Result<_>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    let records = RecordBatch::try_new_with_options(batch.records.schema(), columns, &options)?;
    let (segments, origins) = batch.parts(selection);
    Ok(Some(Batch { records, time, segments, origins, ..batch }))
}

/// Takes columns apart.
struct Kept<'a> {
    selection: &'a BooleanBuffer,
    /// The rows that are selected, where they are few.
    rows: Option<Vec<u32>>,
    /// For columns that are not stored as numbers, if there are any.
    rest: Option<FilterPredicate>,
}

impl Kept<'_> {
    fn values<T: Copy>(&self, values: &[T]) -> Vec<T> {
        match &self.rows {
            Some(rows) => {
                let mut kept = Vec::with_capacity(rows.len());
                kernels::gather(values, rows, &mut kept);
                kept
            }
            None => selected(values, self.selection),
        }
    }

    fn column(&self, column: &ArrayRef) -> Result<ArrayRef> {
        match width(column) {
            Some(4) => array(column, self.values(&column.to_data().buffer::<u32>(0)[..column.len()])),
            Some(8) => array(column, self.values(&column.to_data().buffer::<u64>(0)[..column.len()])),
            _ => match &self.rest {
                Some(rest) => Ok(rest.filter(column)?),
                None => Ok(filter(column, &BooleanArray::new(self.selection.clone(), None))?),
            },
        }
    }
}

/// Whether `column` is these values as they stand in memory.
pub(crate) fn is_of(column: &ArrayRef, values: &ScalarBuffer<i64>) -> bool {
    width(column) == Some(size_of::<i64>())
        && column.len() == values.len()
        && std::ptr::eq(column.to_data().buffer::<i64>(0).as_ptr(), values.as_ptr())
}

/// Bytes of a value, where all are stored as numbers of so many and there are no nulls.
pub(crate) fn width(column: &ArrayRef) -> Option<usize> {
    // Intervals are several numbers each, and aligned as those are.
    let is_number = column.null_count() == 0 && !matches!(column.data_type(), DataType::Interval(_));
    column.data_type().primitive_width().filter(|_| is_number)
}

/// The values that `selection` selects.
fn selected<T: Copy>(values: &[T], selection: &BooleanBuffer) -> Vec<T> {
    let mut selected = Vec::new();
    kernels::compact(values, bits(selection), &mut selected);
    selected
}

fn bits(selection: &BooleanBuffer) -> Bits<'_> {
    Bits { bytes: selection.values(), offset: selection.offset(), len: selection.len() }
}

/// A column of the type of `column` without nulls, whose values these are.
fn array<T: ArrowNativeType>(column: &ArrayRef, values: impl Into<ScalarBuffer<T>>) -> Result<ArrayRef> {
    let values = values.into();
    let data = ArrayData::builder(column.data_type().clone()).len(values.len()).add_buffer(values.into_inner()).build()?;
    Ok(make_array(data))
}

/// The same as [`split`] of a column without nulls whose values are stored as `T`s.
fn halves<T: ArrowNativeType>(column: &ArrayRef, selection: &BooleanBuffer) -> Result<[ArrayRef; 2]> {
    let (mut others, mut selected) = (Vec::new(), Vec::new());
    kernels::split(&column.to_data().buffer::<T>(0)[..column.len()], bits(selection), &mut others, &mut selected);
    Ok([array(column, others)?, array(column, selected)?])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int8Array, Int32Array, IntervalDayTimeArray, StringArray, TimestampMillisecondArray};
    use arrow::datatypes::{IntervalDayTime, Schema};

    use super::*;
    use crate::batch::{PartitionId, Segment};

    /// Columns of every kind of storage.
    fn records(rows: i32) -> RecordBatch {
        let of = |name: &'static str, column: ArrayRef| (name, column, true);
        let long = |row: i32| Some(i64::from(row) << 33);
        RecordBatch::try_from_iter_with_nullable([
            of("four", Arc::new((0..rows).collect::<Int32Array>())),
            of("eight", Arc::new((0..rows).map(|row| f64::from(row) / 3.0).collect::<Float64Array>())),
            of("time", Arc::new((0..rows).map(long).collect::<TimestampMillisecondArray>().with_timezone("+02:00"))),
            of("one", Arc::new((0..rows).map(|row| row as i8).collect::<Int8Array>())),
            of("nulls", Arc::new((0..rows).map(|row| (row % 5 > 0).then(|| f64::from(row))).collect::<Float64Array>())),
            of("bits", Arc::new((0..rows).map(|row| Some(row % 7 > 2)).collect::<BooleanArray>())),
            of("text", Arc::new((0..rows).map(|row| Some(format!("row {row}"))).collect::<StringArray>())),
            of("pairs", Arc::new(IntervalDayTimeArray::from_iter_values((0..rows).map(|row| IntervalDayTime::new(row, -row))))),
        ])
        .unwrap()
    }

    fn batch(rows: usize, is_late: bool) -> Batch {
        let segments = vec![
            Segment { partition: PartitionId(3), rows: rows / 3, offset: 10 },
            Segment { partition: PartitionId(5), rows: rows - rows / 3, offset: 70 },
        ];
        let times = (0..rows as i64).map(|row| 100 + row).collect();
        let watermarks = is_late.then(|| (0..rows as i64).map(|row| 3 * row).collect());
        let time = Some(EventTime { times, watermarks, earliest: -1, latest: 10_000 });
        Batch { time, sequence: Some(9), ..Batch::of_source(records(rows as i32), segments, 42) }
    }

    #[test]
    fn rows_are_kept_as_a_mask_of_arrow_keeps_them() {
        for rows in [1, 7, 64, 65, 200, 1_000] {
            for (nth, (start, is_late)) in [1, 2, 3, 5, 20, 70].into_iter().flat_map(|nth| [(nth, (0, false)), (nth, (1, true))]) {
                let batch = batch(rows + start, is_late).slice(start..rows + start);
                let mask: BooleanArray = (0..rows + 3).map(|row| Some(row % nth == 0)).collect();
                let mask = mask.slice(3, rows);
                let Some(kept) = kept(batch.clone(), mask.values()).unwrap() else {
                    assert_eq!(mask.true_count(), 0);
                    continue;
                };
                let expected = batch.filter(&mask).unwrap();
                assert_eq!(kept.records, expected.records, "every {nth}th of {rows} rows");
                let origins = |batch: &Batch| batch.origins.of_rows(&batch.segments, batch.rows());
                assert_eq!(origins(&kept), origins(&expected));
                assert_eq!((&kept.segments, kept.received, kept.sequence), (&expected.segments, expected.received, expected.sequence));
                let (time, expected) = (kept.time.unwrap(), expected.time.unwrap());
                assert_eq!((time.times, time.watermarks), (expected.times, expected.watermarks));
                assert_eq!((time.earliest, time.latest), (expected.earliest, expected.latest));
            }
        }
    }

    #[test]
    fn of_no_columns_the_rows_are_counted() {
        let none = RecordBatch::new_empty(Arc::new(Schema::empty()));
        let options = RecordBatchOptions::new().with_row_count(Some(3));
        let records = RecordBatch::try_new_with_options(none.schema(), Vec::new(), &options).unwrap();
        let kept = kept(Batch::new(records, 0, 0), &BooleanBuffer::from(vec![true, false, true])).unwrap();
        assert_eq!(kept.unwrap().rows(), 2);
    }
}
