//! The rows of a column in two: what an edge in time, or any other mask, parts; and some of them.

use arrow::array::{Array, ArrayData, ArrayRef, BooleanArray, make_array};
use arrow::buffer::{BooleanBuffer, Buffer};
use arrow::compute::filter;
use arrow::datatypes::ArrowNativeType;
use thalweg_kernels::{self as kernels, Bits};

use crate::error::Result;

/// The rows of `column` that `selection` leaves out, and those that it selects.
///
/// # Errors
/// If Arrow cannot filter a column of this type.
pub(crate) fn split(column: &ArrayRef, selection: &BooleanBuffer) -> Result<[ArrayRef; 2]> {
    match (column.null_count(), column.data_type().primitive_width()) {
        (0, Some(4)) => halves::<u32>(column, selection),
        (0, Some(8)) => halves::<u64>(column, selection),
        _ => {
            let others = BooleanArray::new(!selection, None);
            Ok([filter(column, &others)?, filter(column, &BooleanArray::new(selection.clone(), None))?])
        }
    }
}

/// The rows of `column` that `selection` selects, if it is of numbers of 32 or 64 bits without nulls.
///
/// # Errors
/// If Arrow finds the column invalid, which would be a defect.
pub(crate) fn selected_numbers(column: &ArrayRef, selection: &BooleanBuffer) -> Result<Option<ArrayRef>> {
    match (column.null_count(), column.data_type().primitive_width()) {
        (0, Some(4)) => selected::<u32>(column, selection).map(Some),
        (0, Some(8)) => selected::<u64>(column, selection).map(Some),
        _ => Ok(None),
    }
}

fn selected<T: ArrowNativeType>(column: &ArrayRef, selection: &BooleanBuffer) -> Result<ArrayRef> {
    let mut selected = Vec::with_capacity(selection.count_set_bits());
    kernels::compact(&column.to_data().buffer::<T>(0)[..column.len()], bits(selection), &mut selected);
    array(column, selected)
}

fn bits(selection: &BooleanBuffer) -> Bits<'_> {
    Bits { bytes: selection.values(), offset: selection.offset(), len: selection.len() }
}

/// A column like `column` of other values.
fn array<T: ArrowNativeType>(column: &ArrayRef, values: Vec<T>) -> Result<ArrayRef> {
    let data = ArrayData::builder(column.data_type().clone()).len(values.len()).add_buffer(Buffer::from_vec(values)).build()?;
    Ok(make_array(data))
}

/// [`split`] of a column without nulls whose values are stored as `T`s.
fn halves<T: ArrowNativeType>(column: &ArrayRef, selection: &BooleanBuffer) -> Result<[ArrayRef; 2]> {
    let (mut others, mut selected) = (Vec::new(), Vec::new());
    kernels::split(&column.to_data().buffer::<T>(0)[..column.len()], bits(selection), &mut others, &mut selected);
    Ok([array(column, others)?, array(column, selected)?])
}
