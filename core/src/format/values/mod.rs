//! Rows to bytes: how formats that are written to files and to brokers spell a row, once for both.

pub(crate) mod arrow_ipc;
pub(crate) mod csv;
pub(crate) mod json;

use arrow::array::BinaryArray;
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};

use crate::error::{Error, Result};

/// Values that stand one behind the other in `bytes`; `ends` is where each ends, behind a zero.
///
/// # Errors
/// [`Kind::Schema`](crate::error::Kind::Schema) if they are more than 2 GiB.
pub(crate) fn values_of(bytes: impl Into<Buffer>, ends: impl Iterator<Item = usize>) -> Result<BinaryArray> {
    let bytes = bytes.into();
    if i32::try_from(bytes.len()).is_err() {
        return Err(Error::schema(format!(
            "a batch is {} bytes as records, and 2 GiB are taken at once; make batches of fewer rows (`batch_rows`)",
            bytes.len()
        )));
    }
    let offsets: ScalarBuffer<i32> = ends.map(|end| end as i32).collect();
    Ok(BinaryArray::try_new(OffsetBuffer::new(offsets), bytes, None)?)
}
