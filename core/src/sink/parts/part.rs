//! One file that is being written.

use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{SortColumn, SortOptions, concat_batches, lexsort_to_indices, take_record_batch};
use arrow::datatypes::SchemaRef;

use super::{Encoder, Format, Output, PendingPart, failed};
use crate::error::Result;

/// Least first, nulls before all.
pub(in crate::sink) const ORDER: SortOptions = SortOptions { descending: false, nulls_first: true };

/// A file that nobody sees yet, with its rows so far.
pub(in crate::sink) struct Part {
    encoder: Box<dyn Encoder>,
    location: String,
    pub rows: usize,
    /// When it was begun, in the clock's nanoseconds.
    pub opened: u64,
    sorting: Option<Sorting>,
}

/// Rows that wait until all are there, to be sorted.
struct Sorting {
    by: Vec<usize>,
    batches: Vec<RecordBatch>,
    bytes: usize,
}

impl Part {
    /// Begins a file of `format`. Rows are sorted by the columns `sort_by`, if there are any.
    pub fn begin(format: &impl Format, schema: &SchemaRef, pending: Box<dyn PendingPart>, opened: u64, sort_by: &[usize]) -> Result<Part> {
        let location = pending.location();
        let encoder = format.begin(schema, Output::new(pending)).map_err(|failure| failed("write", &location, failure))?;
        let sorting = (!sort_by.is_empty()).then(|| Sorting { by: sort_by.to_vec(), batches: Vec::new(), bytes: 0 });
        Ok(Part { encoder, location, rows: 0, opened, sorting })
    }

    /// Bytes of the file, as written so far plus what the rows that wait are estimated to take.
    pub fn file_bytes(&self) -> usize {
        self.encoder.file_bytes() + self.sorting.as_ref().map_or(0, |sorting| sorting.bytes)
    }

    /// Bytes in memory.
    pub fn memory_bytes(&self) -> usize {
        self.encoder.memory_bytes() + self.sorting.as_ref().map_or(0, |sorting| sorting.bytes)
    }

    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows();
        match &mut self.sorting {
            None => self.write_now(batch),
            Some(sorting) => {
                sorting.bytes += batch.get_array_memory_size();
                sorting.batches.push(batch.clone());
                Ok(())
            }
        }
    }

    fn write_now(&mut self, batch: &RecordBatch) -> Result<()> {
        self.encoder.write(batch).map_err(|failure| failed("write", &self.location, failure))
    }

    /// Completes the file, which nobody sees yet.
    pub fn finish(mut self) -> Result<Box<dyn PendingPart>> {
        if let Some(sorting) = self.sorting.take()
            && let Some(sorted) = sorting.sorted()?
        {
            self.write_now(&sorted)?;
        }
        let output = self.encoder.finish().map_err(|failure| failed("write", &self.location, failure))?;
        let Some(mut pending) = output.part else { return Err(crate::sink::not_open()) };
        pending.complete()?;
        Ok(pending)
    }
}

impl Sorting {
    /// All rows in order; those that are equal as they came.
    fn sorted(self) -> Result<Option<RecordBatch>> {
        let Some(first) = self.batches.first() else { return Ok(None) };
        let all = concat_batches(&first.schema(), &self.batches)?;
        drop(self.batches);
        let rows = UInt32Array::from_iter_values(0..all.num_rows() as u32);
        let mut columns: Vec<SortColumn> =
            self.by.iter().map(|&place| SortColumn { values: all.column(place).clone(), options: Some(ORDER) }).collect();
        columns.push(SortColumn { values: Arc::new(rows), options: Some(ORDER) });
        Ok(Some(take_record_batch(&all, &lexsort_to_indices(&columns, None)?)?))
    }
}
