//! Rows that change places, column by column.

use arrow::array::{Array, ArrayData, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array, make_array};
use arrow::buffer::{Buffer, ScalarBuffer};
use arrow::compute::{interleave, take};
use arrow::datatypes::ArrowNativeType;
use thalweg_kernels::gather;

use crate::error::Result;
use crate::operator::split::{is_of, width};

/// Rows with the event time of each.
pub(super) struct Timed<'a> {
    pub records: &'a RecordBatch,
    pub times: &'a ScalarBuffer<i64>,
}

/// The rows of `parts`, at least one, in this order, in which those of the second follow those of the first and so on; `times` are their
/// event times in the same order.
///
/// Values of a fixed width without nulls are laid side by side and gathered, which costs less than to look for the part of each; and a
/// column that is the event time itself shares the memory of `times`.
///
/// # Errors
/// If Arrow cannot move the rows, which would be a defect.
pub(super) fn reorder(parts: &[Timed<'_>], order: &[u32], times: &ScalarBuffer<i64>) -> Result<RecordBatch> {
    let schema = parts[0].records.schema();
    let mut columns = Vec::with_capacity(schema.fields().len());
    let (mut rows, mut places) = (None, None);
    for number in 0..schema.fields().len() {
        let arrays: Vec<&ArrayRef> = parts.iter().map(|part| part.records.column(number)).collect();
        columns.push(match arrays.iter().map(|array| Plain::of(array)).collect::<Option<Vec<_>>>() {
            Some(plain) => {
                let is_time = arrays.iter().zip(parts).all(|(array, part)| is_of(array, part.times));
                let values = if is_time { times.inner().clone() } else { gathered(&plain, order) };
                make_array(ArrayData::builder(arrays[0].data_type().clone()).len(order.len()).add_buffer(values).build()?)
            }
            None if arrays.len() == 1 => take(arrays[0], rows.get_or_insert_with(|| UInt32Array::from(order.to_vec())), None)?,
            None => {
                let arrays: Vec<&dyn Array> = arrays.into_iter().map(AsRef::as_ref).collect();
                interleave(&arrays, places.get_or_insert_with(|| places_in(parts, order)))?
            }
        });
    }
    Ok(RecordBatch::try_new_with_options(schema, columns, &RecordBatchOptions::new().with_row_count(Some(order.len())))?)
}

/// Values of a fixed width of at most eight bytes, none of which is null.
struct Plain {
    width: usize,
    values: Buffer,
}

impl Plain {
    fn of(column: &ArrayRef) -> Option<Plain> {
        let width = width(column).filter(|width| *width <= size_of::<u64>())?;
        let data = column.to_data();
        Some(Plain { width, values: data.buffers()[0].slice_with_length(data.offset() * width, data.len() * width) })
    }
}

/// The values of a column that lies in parts, in this order.
fn gathered(parts: &[Plain], order: &[u32]) -> Buffer {
    match parts[0].width {
        1 => gathered_as::<u8>(parts, order),
        2 => gathered_as::<u16>(parts, order),
        4 => gathered_as::<u32>(parts, order),
        _ => gathered_as::<u64>(parts, order),
    }
}

fn gathered_as<T: ArrowNativeType>(parts: &[Plain], order: &[u32]) -> Buffer {
    let (mut joined, mut moved) = (Vec::new(), Vec::new());
    match parts {
        [part] => gather(part.values.typed_data::<T>(), order, &mut moved),
        parts => {
            joined.reserve_exact(parts.iter().map(|part| part.values.len() / size_of::<T>()).sum());
            parts.iter().for_each(|part| joined.extend_from_slice(part.values.typed_data::<T>()));
            gather(&joined, order, &mut moved);
        }
    }
    Buffer::from_vec(moved)
}

/// Part and row in it, of each row.
fn places_in(parts: &[Timed<'_>], order: &[u32]) -> Vec<(usize, usize)> {
    let rows = parts.iter().enumerate().flat_map(|(number, part)| (0..part.times.len()).map(move |row| (number, row)));
    let rows: Vec<(usize, usize)> = rows.collect();
    order.iter().map(|&row| rows[row as usize]).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        BooleanArray, Decimal128Array, Float32Array, Int8Array, Int16Array, Int64Array, StringArray, TimestampMillisecondArray,
    };
    use arrow::compute::{concat_batches, take_record_batch};
    use arrow::datatypes::{DataType, Field, Schema, TimeUnit};

    use super::*;

    /// Rows of columns of all kinds, from `first` on.
    fn rows(first: i64, count: i64) -> (RecordBatch, ScalarBuffer<i64>) {
        let all = || first..first + count;
        let times = Int64Array::from_iter_values(all().map(|row| row * 7_919 % 1_000));
        let zone = DataType::Timestamp(TimeUnit::Millisecond, Some("Europe/Berlin".into()));
        let clock = TimestampMillisecondArray::new(times.values().clone(), None).with_data_type(zone.clone());
        let fields: Vec<(DataType, bool, ArrayRef)> = vec![
            (DataType::Int64, false, Arc::new(times.clone())),
            (zone, false, Arc::new(clock)),
            (DataType::Int64, false, Arc::new(Int64Array::from_iter_values(all()))),
            (DataType::Int16, false, Arc::new(Int16Array::from_iter_values(all().map(|row| row as i16)))),
            (DataType::Int8, true, Arc::new(Int8Array::from_iter_values(all().map(|row| row as i8)))),
            (DataType::Float32, true, Arc::new(all().map(|row| (row % 5 != 1).then_some(row as f32)).collect::<Float32Array>())),
            (DataType::Boolean, false, Arc::new(BooleanArray::from_iter(all().map(|row| Some(row % 3 == 0))))),
            (DataType::Decimal128(38, 10), false, Arc::new(Decimal128Array::from_iter_values(all().map(i128::from)))),
            (DataType::Utf8, false, Arc::new(StringArray::from_iter_values(all().map(|row| "x".repeat(row as usize % 20))))),
        ];
        let field = |(place, (data_type, nullable, _)): (usize, &(DataType, bool, ArrayRef))| {
            Field::new(format!("column {place}"), data_type.clone(), *nullable)
        };
        let schema = Schema::new(fields.iter().enumerate().map(field).collect::<Vec<_>>());
        let records = RecordBatch::try_new(Arc::new(schema), fields.into_iter().map(|(.., array)| array).collect()).unwrap();
        (records, times.values().clone())
    }

    #[test]
    fn rows_of_parts_come_in_the_order_that_was_asked_for() {
        let parts: Vec<_> = [(0, 40), (40, 0), (40, 300), (340, 1)].into_iter().map(|(first, count)| rows(first, count)).collect();
        // Parts of parts, too, as of rows some of which have gone.
        let parts: Vec<_> = parts
            .iter()
            .map(|(records, times)| (records.num_rows() / 3, records, times))
            .map(|(gone, records, times)| (records.slice(gone, times.len() - gone), times.slice(gone, times.len() - gone)))
            .collect();
        for parts in [&parts[..], &parts[..2], &parts[2..3]] {
            let whole = concat_batches(&parts[0].0.schema(), parts.iter().map(|part| &part.0)).unwrap();
            let rows = whole.num_rows() as u32;
            let order: Vec<u32> = (0..rows).map(|row| row * 101 % rows).chain([0, 0]).collect();
            let joined: Vec<i64> = parts.iter().flat_map(|part| part.1.iter().copied()).collect();
            let times: ScalarBuffer<i64> = order.iter().map(|&row| joined[row as usize]).collect();
            let parts: Vec<Timed<'_>> = parts.iter().map(|(records, times)| Timed { records, times }).collect();
            let moved = reorder(&parts, &order, &times).unwrap();
            assert_eq!(moved, take_record_batch(&whole, &UInt32Array::from(order)).unwrap());
            let shares: Vec<bool> = moved.columns().iter().map(|column| is_of(column, &times)).collect();
            assert_eq!(shares[..3], [true, true, false], "the event time is held once");
        }
    }

    #[test]
    fn rows_without_columns_are_counted() {
        let records =
            RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &RecordBatchOptions::new().with_row_count(Some(3)));
        let (records, times) = (records.unwrap(), ScalarBuffer::from(vec![3, 1, 2]));
        let moved = reorder(&[Timed { records: &records, times: &times }], &[1, 2, 0], &vec![1, 2, 3].into()).unwrap();
        assert_eq!(moved.num_rows(), 3);
    }
}
