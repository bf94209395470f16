//! The rows of a column in two: what an edge in time, or any other mask, parts.

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

/// The same of a column without nulls whose values are stored as `T`s.
fn halves<T: ArrowNativeType>(column: &ArrayRef, selection: &BooleanBuffer) -> Result<[ArrayRef; 2]> {
    let bits = Bits { bytes: selection.values(), offset: selection.offset(), len: selection.len() };
    let (mut others, mut selected) = (Vec::new(), Vec::new());
    kernels::split(&column.to_data().buffer::<T>(0)[..column.len()], bits, &mut others, &mut selected);
    let array = |values: Vec<T>| -> Result<ArrayRef> {
        let data = ArrayData::builder(column.data_type().clone()).len(values.len()).add_buffer(Buffer::from_vec(values)).build()?;
        Ok(make_array(data))
    };
    Ok([array(others)?, array(selected)?])
}
