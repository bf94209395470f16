//! Columns that an input came with into the columns that were asked for.

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{FieldRef, SchemaRef};

use crate::error::{Error, Result};

/// The columns of `schema` from those of `batch`, by name, cast where types differ; a missing one is null. Errors call the input `what`.
///
/// # Errors
/// [`Kind::Schema`](crate::error::Kind::Schema) if a value cannot be cast, or a column is missing, or null, that may not be null.
pub(super) fn conform(batch: &RecordBatch, schema: &SchemaRef, what: &str) -> Result<RecordBatch> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let column = |field: &FieldRef| -> Result<ArrayRef> {
        let Some(column) = batch.column_by_name(field.name()) else {
            if field.is_nullable() {
                return Ok(new_null_array(field.data_type(), batch.num_rows()));
            }
            return Err(Error::schema(format!("the {what} has no column `{}`, which may not be null", field.name())));
        };
        if column.data_type() == field.data_type() {
            return Ok(column.clone());
        }
        cast_with_options(column, field.data_type(), &strict).map_err(|error| {
            let (name, from, to) = (field.name(), column.data_type(), field.data_type());
            Error::schema(format!("column `{name}` is {from} in the {what} and cannot become {to}")).with_source(error)
        })
    };
    let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}
