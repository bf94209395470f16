//! One file that is being written.

use std::error::Error as StdError;
use std::fs::File;
use std::io;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::compute::{SortColumn, SortOptions, concat_batches, lexsort_to_indices, take_record_batch};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;

use super::super::publish::{self, Pending};
use crate::error::{Error, Result};

/// Least first, nulls before all.
pub(super) const ORDER: SortOptions = SortOptions { descending: false, nulls_first: true };

/// A file under its hidden name, with its rows so far.
pub(super) struct Part {
    writer: ArrowWriter<File>,
    pending: Pending,
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
    /// Rows are sorted by the columns `sort_by`, if there are any.
    pub fn new(writer: ArrowWriter<File>, pending: Pending, opened: u64, sort_by: &[usize]) -> Part {
        let sorting = (!sort_by.is_empty()).then(|| Sorting { by: sort_by.to_vec(), batches: Vec::new(), bytes: 0 });
        Part { writer, pending, rows: 0, opened, sorting }
    }

    /// Bytes of the file, as written so far plus what the rows that wait are estimated to take.
    pub fn file_bytes(&self) -> usize {
        self.writer.bytes_written() + self.writer.in_progress_size() + self.sorting.as_ref().map_or(0, |sorting| sorting.bytes)
    }

    /// Bytes in memory.
    pub fn memory_bytes(&self) -> usize {
        self.writer.memory_size() + self.sorting.as_ref().map_or(0, |sorting| sorting.bytes)
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
        self.writer.write(batch).map_err(|error| failed("write", self.pending.target(), error))
    }

    /// Begins with the rows of the file that has its name.
    pub fn copy_committed(&mut self) -> Result<()> {
        let path = self.pending.target().to_owned();
        let file = File::open(&path).map_err(|error| publish::failed("read", &path, error))?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|builder| builder.build());
        for batch in reader.map_err(|error| failed("read", &path, error))? {
            self.write(&batch?)?;
        }
        Ok(())
    }

    /// Completes the file and brings it to the disk, still hidden.
    pub fn finish(mut self) -> Result<Pending> {
        if let Some(sorting) = self.sorting.take()
            && let Some(sorted) = sorting.sorted()?
        {
            self.write_now(&sorted)?;
        }
        self.writer.finish().map_err(|error| failed("write", self.pending.target(), error))?;
        self.pending.sync()?;
        Ok(self.pending)
    }
}

impl Sorting {
    /// All rows in order; those that are equal as they came.
    fn sorted(self) -> Result<Option<RecordBatch>> {
        let Some(first) = self.batches.first() else { return Ok(None) };
        let all = concat_batches(&first.schema(), &self.batches)?;
        drop(self.batches);
        let rows = arrow::array::UInt32Array::from_iter_values(0..all.num_rows() as u32);
        let mut columns: Vec<SortColumn> =
            self.by.iter().map(|&place| SortColumn { values: all.column(place).clone(), options: Some(ORDER) }).collect();
        columns.push(SortColumn { values: std::sync::Arc::new(rows), options: Some(ORDER) });
        Ok(Some(take_record_batch(&all, &lexsort_to_indices(&columns, None)?)?))
    }
}

/// The error of the Parquet writer, with what the operating system said if it was that.
pub(super) fn failed(doing: &str, path: &Path, error: ParquetError) -> Error {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            let same = io.raw_os_error().map_or_else(|| io::Error::new(io.kind(), io.to_string()), io::Error::from_raw_os_error);
            return publish::failed(doing, path, same);
        }
        cause = inner.source();
    }
    Error::connector(format!("cannot {doing} `{}`", path.display())).with_source(error)
}
