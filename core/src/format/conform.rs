//! Columns that an input came with into the columns that were asked for.

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, FieldRef, SchemaRef};

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
        let cast = |column: &ArrayRef, kind: &DataType| cast_with_options(column, kind, &strict);
        let cast = match (column.data_type(), field.data_type()) {
            // Those without a time zone count in UTC; a cast would take them for what clocks show in that zone.
            (DataType::Timestamp(_, None), zoned @ DataType::Timestamp(unit, Some(_))) => cast(column, &DataType::Timestamp(*unit, None))
                .and_then(|plain| cast(&plain, &DataType::Int64))
                .and_then(|count| cast(&count, zoned)),
            (_, kind) => cast(column, kind),
        };
        cast.map_err(|error| {
            let (name, from, to) = (field.name(), column.data_type(), field.data_type());
            Error::schema(format!("column `{name}` is {from} in the {what} and cannot become {to}")).with_source(error)
        })
    };
    let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, TimestampMicrosecondArray};
    use arrow::datatypes::{Field, Schema, TimeUnit, TimestampMillisecondType};

    use super::*;

    #[test]
    fn a_time_is_the_same_in_every_zone() {
        let at: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![Some(1_700_000_000_123_456), None]));
        for from in [None, Some("Europe/Paris"), Some("+00:00")] {
            let given = at.as_primitive::<arrow::datatypes::TimestampMicrosecondType>().clone().with_timezone_opt(from);
            let batch = RecordBatch::try_from_iter_with_nullable([("at", Arc::new(given) as ArrayRef, true)]).unwrap();
            for to in [None, Some("America/New_York"), Some("+02:00")] {
                let kind = DataType::Timestamp(TimeUnit::Millisecond, to.map(Into::into));
                let schema = Arc::new(Schema::new(vec![Field::new("at", kind, true)]));
                let found = conform(&batch, &schema, "file").unwrap();
                let found = found["at"].as_primitive::<TimestampMillisecondType>();
                assert_eq!(found.iter().collect::<Vec<_>>(), [Some(1_700_000_000_123), None], "{from:?} {to:?}");
            }
        }
    }
}
