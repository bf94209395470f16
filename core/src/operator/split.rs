//! The rows of a column in two: what an edge in time, or any other mask, parts.

use std::ops::RangeInclusive;

use arrow::array::{Array, ArrayData, ArrayRef, BooleanArray, make_array};
use arrow::buffer::{BooleanBuffer, Buffer, ScalarBuffer};
use arrow::compute::filter;
use arrow::datatypes::{ArrowNativeType, DataType};
use thalweg_kernels::{self as kernels, Bits};

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

/// The rows of `column` that `selection` selects.
///
/// # Errors
/// As [`split`].
pub(crate) fn select(column: &ArrayRef, selection: &BooleanBuffer) -> Result<ArrayRef> {
    match width(column) {
        Some(4) => array(column, selected(&column.to_data().buffer::<u32>(0)[..column.len()], selection)),
        Some(8) => array(column, selected(&column.to_data().buffer::<u64>(0)[..column.len()], selection)),
        _ => Ok(filter(column, &BooleanArray::new(selection.clone(), None))?),
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
pub(crate) fn selected<T: Copy>(values: &[T], selection: &BooleanBuffer) -> Vec<T> {
    let mut selected = Vec::new();
    kernels::compact(values, bits(selection), &mut selected);
    selected
}

fn bits(selection: &BooleanBuffer) -> Bits<'_> {
    Bits { bytes: selection.values(), offset: selection.offset(), len: selection.len() }
}

/// A column of the type of `column` without nulls, whose values these are.
pub(crate) fn array<T: ArrowNativeType>(column: &ArrayRef, values: impl Into<ScalarBuffer<T>>) -> Result<ArrayRef> {
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
