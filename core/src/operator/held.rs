//! Rows that wait until event time has passed them, and come out in its order.
//!
//! Each batch is sorted by itself, as it comes, unless it is in order; what the watermark lets go of is the head of each such
//! run, and the heads are merged, unless there is but one.

use arrow::array::{Array, RecordBatch, UInt32Array};
use arrow::buffer::ScalarBuffer;
use arrow::compute::{interleave_record_batch, take_record_batch};
use arrow::datatypes::SchemaRef;
use thalweg_kernels::sorted_rows;

use crate::config::BATCH_ROWS;
use crate::error::Result;
use crate::operator::compact::is_sparse;
use crate::operator::keys::KeyColumns;
use crate::state::{Saved, numbers};

/// Name of the table of held rows in a snapshot, and of the column before theirs.
const HELD: &str = "held";
const TIME: &str = "event time";

/// Rows in order of time; those of one time in the order in which they came.
pub(crate) struct Sorted {
    pub records: RecordBatch,
    pub times: ScalarBuffer<i64>,
    /// Bytes of the columns that these rows are a part of: they are held as long as any of their rows is.
    bytes: usize,
}

/// The rows that wait, in runs; of rows of one time, those of an earlier run came earlier.
#[derive(Default)]
pub(crate) struct Held {
    runs: Vec<Sorted>,
}

impl Sorted {
    /// The rows of a batch in order.
    fn of(records: RecordBatch, times: &ScalarBuffer<i64>) -> Result<Sorted> {
        if times.is_sorted() {
            return Ok(Sorted::whole(records, times.clone()));
        }
        let mut order = Vec::new();
        sorted_rows(times, &mut order);
        let times = order.iter().map(|&row| times[row as usize]).collect();
        Ok(Sorted::whole(take_record_batch(&records, &UInt32Array::from(order))?, times))
    }

    /// Rows that are all of their columns.
    fn whole(records: RecordBatch, times: ScalarBuffer<i64>) -> Sorted {
        let mut whole = Sorted { records, times, bytes: 0 };
        whole.bytes = whole.own_bytes();
        whole
    }

    fn rows(&self) -> usize {
        self.times.len()
    }

    /// Bytes of these rows alone.
    fn own_bytes(&self) -> usize {
        let columns = self.records.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0));
        columns.sum::<usize>() + self.rows() * size_of::<i64>()
    }

    /// The rows from `start` on, so many.
    fn slice(&self, start: usize, rows: usize) -> Sorted {
        Sorted { records: self.records.slice(start, rows), times: self.times.slice(start, rows), bytes: self.bytes }
    }

    /// Lets go of the rows that have been here before, if they were more than these.
    fn trim(&mut self) -> Result<()> {
        if is_sparse(self.own_bytes(), self.bytes) {
            let rows = UInt32Array::from_iter_values(0..self.rows() as u32);
            *self = Sorted::whole(take_record_batch(&self.records, &rows)?, self.times.iter().copied().collect());
        }
        Ok(())
    }

    /// Takes out the rows that are not later than `until`.
    fn split_off(&mut self, until: i64) -> Sorted {
        let due = self.times.partition_point(|&time| time <= until);
        let head = self.slice(0, due);
        *self = self.slice(due, self.rows() - due);
        head
    }

    /// Rows of several runs, which came one after the other, in order.
    fn merge(mut runs: Vec<Sorted>) -> Result<Option<Sorted>> {
        runs.retain(|run| run.rows() > 0);
        if runs.len() < 2 {
            return Ok(runs.pop());
        }
        let (mut times, mut rows, mut order) = (Vec::new(), Vec::new(), Vec::new());
        for (number, run) in runs.iter().enumerate() {
            times.extend_from_slice(&run.times);
            rows.extend((0..run.rows() as u32).map(|row| (number as u32, row)));
        }
        sorted_rows(&times, &mut order);
        let rows = order.iter().map(|&place| rows[place as usize]).map(|(run, row): (u32, u32)| (run as usize, row as usize));
        let rows: Vec<(usize, usize)> = rows.collect();
        let records: Vec<&RecordBatch> = runs.iter().map(|run| &run.records).collect();
        let records = interleave_record_batch(&records, &rows)?;
        Ok(Some(Sorted::whole(records, order.iter().map(|&place| times[place as usize]).collect())))
    }
}

impl Held {
    /// Bytes of the rows, and of those that were taken out and lie in the same memory.
    pub fn bytes(&self) -> usize {
        self.runs.iter().map(|run| run.bytes).sum()
    }

    /// Gives back the memory of rows that were taken out.
    ///
    /// # Errors
    /// If columns cannot be copied, which would be a defect.
    pub fn trim(&mut self) -> Result<()> {
        self.runs.iter_mut().try_for_each(Sorted::trim)
    }

    /// The time of the earliest row.
    pub fn earliest(&self) -> Option<i64> {
        self.runs.iter().filter_map(|run| run.times.first().copied()).min()
    }

    /// Keeps the rows of one batch.
    ///
    /// # Errors
    /// If columns cannot be put in order, which would be a defect.
    pub fn push(&mut self, records: RecordBatch, times: &ScalarBuffer<i64>) -> Result<()> {
        self.runs.push(Sorted::of(records, times)?);
        // Small runs are joined like the digits of a counter, so that there are few of them however small the batches.
        while let [.., older, newer] = self.runs.as_slice()
            && older.rows() <= 2 * newer.rows()
            && older.rows() + newer.rows() <= BATCH_ROWS
        {
            let joined = Sorted::merge(self.runs.split_off(self.runs.len() - 2))?;
            self.runs.extend(joined);
        }
        Ok(())
    }

    /// Puts the rows into a snapshot, by the key groups of `columns`.
    ///
    /// # Errors
    /// If columns cannot be put in order, which would be a defect.
    pub fn save(&self, columns: &mut KeyColumns, saved: &mut Saved) -> Result<()> {
        let runs = self.runs.iter().map(|run| run.slice(0, run.rows())).collect();
        let Some(Sorted { records, times, .. }) = Sorted::merge(runs)? else { return Ok(()) };
        let mut groups = Vec::new();
        columns.encode(&records)?.groups(&mut groups)?;
        let fields = records.schema_ref().fields().iter().cloned();
        let columns = std::iter::once(numbers(TIME, times.to_vec())).chain(fields.zip(records.columns().to_vec()));
        saved.add(HELD, groups, columns.collect())
    }

    /// Adds the rows of a snapshot, which are of `schema`.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if they are not.
    pub fn restore(&mut self, schema: &SchemaRef, saved: &Saved) -> Result<()> {
        let Some(rows) = saved.table(HELD) else { return Ok(()) };
        self.push(rows.records_after(TIME, schema)?, rows.numbers(TIME)?.values())
    }

    /// Takes out the rows that are not later than `until`, if there are any.
    ///
    /// # Errors
    /// If columns cannot be put in order, which would be a defect.
    pub fn take(&mut self, until: i64) -> Result<Option<Sorted>> {
        let due = self.runs.iter_mut().map(|run| run.split_off(until)).collect();
        self.runs.retain(|run| run.rows() > 0);
        Sorted::merge(due)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::Int64Type;

    use super::*;

    #[test]
    fn rows_that_were_taken_out_are_held_until_memory_is_given_back() {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..10_000));
        let (mut held, times) = (Held::default(), (0..10_000).collect::<Vec<i64>>());
        held.push(RecordBatch::try_from_iter([("n", column)]).unwrap(), &times.into()).unwrap();
        assert_eq!(held.bytes(), 160_000);
        assert_eq!(held.take(9_989).unwrap().unwrap().times.len(), 9_990);
        assert_eq!(held.bytes(), 160_000);
        held.trim().unwrap();
        assert_eq!(held.bytes(), 160);
        let Sorted { records, times, .. } = held.take(i64::MAX).unwrap().unwrap();
        assert_eq!(records.column(0).as_primitive::<Int64Type>().values(), &times);
        assert_eq!(times.to_vec(), (9_990..10_000).collect::<Vec<i64>>());
        assert_eq!(held.bytes(), 0);
    }
}
