//! Processing time: when a batch was taken in, as a column and as the event time.

use std::sync::Arc;

use arrow::array::TimestampMillisecondArray;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::batch::{Batch, EventTime};
use crate::error::{Error, Result};
use crate::watermark::NONE;

/// Nanoseconds in a millisecond.
const MILLISECOND: i64 = 1_000_000;

/// The column that holds each row's time of arrival, and what the clock showed last.
#[derive(Debug)]
pub(crate) struct ArrivalColumn {
    schema: SchemaRef,
    /// Milliseconds since the Unix epoch. Never goes back, though the clock may.
    now: i64,
}

impl ArrivalColumn {
    /// Adds a column `name` to rows of `input`.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if there is a column of that name.
    pub fn new(name: &str, input: &SchemaRef) -> Result<ArrivalColumn> {
        if input.index_of(name).is_ok() {
            return Err(Error::schema(format!("there is a column `{name}` already; give the arrival time another name")));
        }
        let mut fields = input.fields().to_vec();
        fields.push(Arc::new(Field::new(name, DataType::Timestamp(TimeUnit::Millisecond, None), false)));
        Ok(ArrivalColumn { schema: Arc::new(Schema::new_with_metadata(fields, input.metadata().clone())), now: NONE })
    }

    /// The columns that come out.
    pub fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    /// The clock shows `wall` nanoseconds since the Unix epoch.
    pub fn tick(&mut self, wall: i64) {
        self.now = self.now.max(wall.div_euclid(MILLISECOND));
    }

    /// No row will be stamped with `watermark` or earlier, whatever the clock shows.
    pub fn resume(&mut self, watermark: i64) {
        self.now = self.now.max(watermark.saturating_add(1));
    }

    /// No row at or before it will come: later rows are stamped with what the clock shows now, or more.
    pub fn watermark(&self) -> i64 {
        self.now.saturating_sub(1)
    }

    /// Stamps the rows of a batch.
    ///
    /// # Errors
    /// If the batch has other columns than it was said to have, which would be a defect.
    pub fn stamp(&self, batch: Batch) -> Result<Batch> {
        let rows = batch.rows();
        let times = TimestampMillisecondArray::from_value(self.now, rows);
        let time = EventTime { times: times.values().clone(), watermarks: None, earliest: self.now, latest: self.now };
        let mut columns = batch.records.columns().to_vec();
        columns.push(Arc::new(times));
        let records = arrow::array::RecordBatch::try_new(self.schema(), columns)?;
        Ok(Batch { time: Some(time), ..batch.with_records(records) })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, RecordBatch};

    use super::*;

    #[test]
    fn a_clock_that_goes_back_takes_no_time_with_it() {
        let records = RecordBatch::try_from_iter([("x", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef)]).unwrap();
        let mut column = ArrivalColumn::new("arrived", &records.schema()).unwrap();
        column.tick(5_999_999);
        assert_eq!(column.watermark(), 4);
        column.tick(3_000_000);
        let batch = column.stamp(Batch::new(records.clone(), 0, 0)).unwrap();
        assert_eq!(batch.time.unwrap().times.as_ref(), [5, 5]);
        assert_eq!(batch.records.schema(), column.schema());
        let taken = ArrivalColumn::new("x", &records.schema()).unwrap_err();
        assert!(taken.to_string().contains("there is a column `x` already"), "{taken}");
    }
}
