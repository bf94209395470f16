//! Rows that a function has emitted, on their way out.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;

use crate::batch::{Batch, EventTime};
use crate::error::{Error, Result};
use crate::operator::Output;
use crate::operator::event_time::{TimeColumn, take_times, timed};
use crate::time::Unit;

/// Emitted rows, joined to batches.
pub(super) struct Emitted {
    schema: SchemaRef,
    /// Whether the stream has an event time, and the column that holds that of the rows.
    unit: Option<Unit>,
    column: Option<TimeColumn>,
    batch_rows: usize,
    records: Vec<RecordBatch>,
    rows: usize,
    times: Vec<i64>,
    marks: Vec<i64>,
}

impl Emitted {
    /// Rows of `schema`, whose column `time`, if one is named, holds their event time.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if that column is unknown, holds no time or counts in another unit than the stream.
    pub fn new(schema: SchemaRef, time: Option<&str>, unit: Option<Unit>, batch_rows: usize) -> Result<Emitted> {
        let column = match (time, unit) {
            (Some(name), Some(unit)) => Some(TimeColumn::new(&schema, name, Some(unit.arrow()))?),
            (Some(name), None) => {
                return Err(Error::config(format!(
                    "`{name}` cannot be the event time of the rows put out: the rows that come in have none"
                )));
            }
            (None, _) => None,
        };
        if let (Some(column), Some(unit)) = (&column, unit)
            && column.unit != unit
        {
            return Err(Error::schema(format!(
                "`{}` counts {:?}s and the stream's event time {unit:?}s; bring both to one unit",
                column.name, column.unit
            )));
        }
        Ok(Emitted { schema, unit, column, batch_rows, records: Vec::new(), rows: 0, times: Vec::new(), marks: Vec::new() })
    }

    pub fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    /// Adds rows that were emitted at `time`, when the watermark was `mark`.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if they have other columns than was said, or a null event time.
    pub fn push(&mut self, rows: RecordBatch, time: i64, mark: i64, out: &mut Output) -> Result<()> {
        let columns = rows.columns().to_vec();
        if !rows.schema_ref().fields().iter().map(|field| field.name()).eq(self.schema.fields().iter().map(|field| field.name())) {
            return Err(self.other_columns(&rows));
        }
        let records = RecordBatch::try_new(self.schema(), columns).map_err(|error| self.other_columns(&rows).with_source(error))?;
        match &self.column {
            Some(column) => {
                let mut rejected = Vec::new();
                let timed = take_times(Batch::new(records.clone(), 0, 0), column, &mut rejected)?;
                if !rejected.is_empty() {
                    return Err(Error::schema(format!("a row was emitted whose event time `{}` is null", column.name)));
                }
                self.times.extend(timed.time.iter().flat_map(|time| time.times.iter()));
            }
            None => self.times.extend(std::iter::repeat_n(time, records.num_rows())),
        }
        self.marks.extend(std::iter::repeat_n(mark, records.num_rows()));
        self.rows += records.num_rows();
        self.records.push(records);
        if self.rows >= self.batch_rows { self.flush(out) } else { Ok(()) }
    }

    /// Hands on what was emitted.
    ///
    /// # Errors
    /// If the strings of a column are longer than 2 GiB together.
    pub fn flush(&mut self, out: &mut Output) -> Result<()> {
        let (records, times, marks) = (std::mem::take(&mut self.records), std::mem::take(&mut self.times), std::mem::take(&mut self.marks));
        if std::mem::take(&mut self.rows) == 0 {
            return Ok(());
        }
        let records = concat_batches(&self.schema, &records)?;
        let behind = times.iter().zip(&marks).any(|(time, mark)| time <= mark);
        let time = self.unit.map(|_| EventTime { watermarks: behind.then(|| marks.into()), ..timed(times.into()) });
        out.batches.push(Batch::of_results(records, time));
        Ok(())
    }

    fn other_columns(&self, rows: &RecordBatch) -> Error {
        let list = |schema: &SchemaRef| {
            let columns = schema.fields().iter().map(|field| format!("`{}` {}", field.name(), field.data_type()));
            columns.collect::<Vec<_>>().join(", ")
        };
        let (given, said) = (list(&rows.schema()), list(&self.schema));
        Error::schema(format!("rows of the columns {given} were emitted, but the columns were said to be {said}"))
    }
}
