//! Rows that wait until event time has passed them, and come out in its order.
//!
//! Each batch is sorted by itself, as it comes, unless it is in order; what the watermark lets go of is the head of each such
//! run, and the heads are merged, unless there is but one. To move rows once, out of columns that lie as they came, costs more:
//! that goes through several batches at random.

use std::hint::select_unpredictable;

use arrow::array::{Array, RecordBatch, UInt32Array};
use arrow::buffer::ScalarBuffer;
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use thalweg_kernels::{gather, sorted_rows};

use crate::config::BATCH_ROWS;
use crate::error::Result;
use crate::operator::compact::is_sparse;
use crate::operator::keys::KeyColumns;
use crate::operator::reorder::{Timed, reorder};
use crate::operator::split::is_of;
use crate::state::{Saved, numbers};

/// Name of the table of held rows in a snapshot, and of the column before theirs.
const HELD: &str = "held";
const TIME: &str = "event time";

/// Rows in order of time; those of one time in the order in which they came.
pub(crate) struct Sorted {
    pub records: RecordBatch,
    pub times: ScalarBuffer<i64>,
}

/// The rows that wait, in runs; of rows of one time, those of an earlier run came earlier.
#[derive(Default)]
pub(crate) struct Held {
    runs: Vec<Run>,
}

/// Rows in order of time.
struct Run {
    records: RecordBatch,
    times: ScalarBuffer<i64>,
    /// Bytes of the columns that these rows are a part of: they are held as long as any of their rows is.
    bytes: usize,
}

impl Run {
    /// The rows of a batch.
    fn of(records: RecordBatch, times: &ScalarBuffer<i64>) -> Result<Run> {
        if times.is_sorted() {
            return Ok(Run::whole(Sorted { records, times: times.clone() }));
        }
        let (mut order, mut sorted) = (Vec::new(), Vec::new());
        sorted_rows(times, &mut order);
        gather(times, &order, &mut sorted);
        let sorted = sorted.into();
        Ok(Run::whole(Sorted { records: reorder(&[Timed { records: &records, times }], &order, &sorted)?, times: sorted }))
    }

    /// Rows that are all of their columns.
    fn whole(Sorted { records, times }: Sorted) -> Run {
        let mut whole = Run { records, times, bytes: 0 };
        whole.bytes = whole.own_bytes();
        whole
    }

    fn rows(&self) -> usize {
        self.times.len()
    }

    /// Bytes of these rows alone.
    fn own_bytes(&self) -> usize {
        let columns = self.records.columns().iter().filter(|column| !is_of(column, &self.times));
        let bytes: usize = columns.map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum();
        bytes + self.rows() * size_of::<i64>()
    }

    /// The rows from `start` on, so many.
    fn slice(&self, start: usize, rows: usize) -> Run {
        Run { records: self.records.slice(start, rows), times: self.times.slice(start, rows), bytes: self.bytes }
    }

    /// Lets go of the rows that have been here before, if they were more than these.
    fn trim(&mut self) -> Result<()> {
        if is_sparse(self.own_bytes(), self.bytes) {
            let records = take_record_batch(&self.records, &UInt32Array::from_iter_values(0..self.rows() as u32))?;
            *self = Run::whole(Sorted { records, times: self.times.iter().copied().collect() });
        }
        Ok(())
    }

    /// Takes out the rows that are not later than `until`.
    fn split_off(&mut self, until: i64) -> Run {
        let due = self.times.partition_point(|&time| time <= until);
        let head = self.slice(0, due);
        *self = self.slice(due, self.rows() - due);
        head
    }

    /// The rows of several runs, which came one after the other.
    fn merge(mut runs: Vec<Run>) -> Result<Option<Sorted>> {
        runs.retain(|run| run.rows() > 0);
        let (times, order) = match runs.as_slice() {
            [] | [_] => return Ok(runs.pop().map(|Run { records, times, .. }| Sorted { records, times })),
            [older, newer] => Self::merge_two(&older.times, &newer.times),
            runs => Self::merge_many(runs),
        };
        let parts: Vec<Timed<'_>> = runs.iter().map(|Run { records, times, .. }| Timed { records, times }).collect();
        let times = times.into();
        Ok(Some(Sorted { records: reorder(&parts, &order, &times)?, times }))
    }

    /// The times in order, and the row of each, those of the newer run following those of the older.
    fn merge_two(older: &[i64], newer: &[i64]) -> (Vec<i64>, Vec<u32>) {
        let all = older.len() + newer.len();
        assert!(u32::try_from(all).is_ok(), "{all} rows: their numbers do not fit in 32 bits");
        let (mut times, mut order) = (Vec::with_capacity(all), Vec::with_capacity(all));
        let (mut i, mut j) = (0, 0);
        // Which run is next cannot be foretold: chosen without a branch.
        while let (Some(&old), Some(&new)) = (older.get(i), newer.get(j)) {
            let is_new = new < old;
            times.push(select_unpredictable(is_new, new, old));
            order.push(select_unpredictable(is_new, older.len() + j, i) as u32);
            i += usize::from(!is_new);
            j += usize::from(is_new);
        }
        for (run, place, first) in [(older, i, 0), (newer, j, older.len())] {
            times.extend_from_slice(&run[place..]);
            order.extend((first + place..first + run.len()).map(|row| row as u32));
        }
        (times, order)
    }

    /// As [`Self::merge_two`] of more runs.
    fn merge_many(runs: &[Run]) -> (Vec<i64>, Vec<u32>) {
        let (mut times, mut order, mut sorted) = (Vec::new(), Vec::new(), Vec::new());
        runs.iter().for_each(|run| times.extend_from_slice(&run.times));
        sorted_rows(&times, &mut order);
        gather(&times, &order, &mut sorted);
        (sorted, order)
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
        self.runs.iter_mut().try_for_each(Run::trim)
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
        self.runs.push(Run::of(records, times)?);
        // Small runs are joined like the digits of a counter, so that there are few of them however small the batches.
        while let [.., older, newer] = self.runs.as_slice()
            && older.rows() <= 2 * newer.rows()
            && older.rows() + newer.rows() <= BATCH_ROWS
        {
            let joined = Run::merge(self.runs.split_off(self.runs.len() - 2))?;
            self.runs.extend(joined.map(Run::whole));
        }
        Ok(())
    }

    /// Puts the rows into a snapshot, by the key groups of `columns`.
    ///
    /// # Errors
    /// If columns cannot be put in order, which would be a defect.
    pub fn save(&self, columns: &mut KeyColumns, saved: &mut Saved) -> Result<()> {
        let runs = self.runs.iter().map(|run| run.slice(0, run.rows())).collect();
        let Some(Sorted { records, times }) = Run::merge(runs)? else { return Ok(()) };
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
        Run::merge(due)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::Int64Type;
    use proptest::prelude::*;

    use super::*;

    /// A batch of rows whose only column numbers them from `first` on.
    fn numbered(first: usize, rows: usize) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(first as i64..(first + rows) as i64));
        RecordBatch::try_from_iter([("n", column)]).unwrap()
    }

    proptest! {
        #[test]
        fn rows_come_out_in_order_of_time_and_of_arrival(
            batches in prop::collection::vec((prop::collection::vec(0i64..40, 0..60), 0i64..50, any::<bool>()), 1..12)
        ) {
            let (mut held, mut waiting, mut came) = (Held::default(), Vec::new(), 0);
            for (times, until, trims) in batches {
                held.push(numbered(came, times.len()), &times.clone().into()).unwrap();
                waiting.extend(times.iter().copied().zip(came as i64..));
                came += times.len();
                waiting.sort_unstable();
                prop_assert_eq!(held.earliest(), waiting.first().map(|row| row.0));
                if trims {
                    held.trim().unwrap();
                }
                let due: Vec<(i64, i64)> = waiting.extract_if(.., |row| row.0 <= until).collect();
                let taken = held.take(until).unwrap();
                prop_assert_eq!(taken.is_some(), !due.is_empty());
                let rows = taken.into_iter().flat_map(|Sorted { records, times }| {
                    let numbers = records.column(0).as_primitive::<Int64Type>().values().to_vec();
                    times.iter().copied().zip(numbers).collect::<Vec<_>>()
                });
                prop_assert_eq!(rows.collect::<Vec<_>>(), due);
            }
        }
    }

    #[test]
    fn rows_that_were_taken_out_are_held_until_memory_is_given_back() {
        let (mut held, times) = (Held::default(), (0..10_000).collect::<Vec<i64>>());
        held.push(numbered(0, 10_000), &times.into()).unwrap();
        assert_eq!(held.bytes(), 160_000);
        assert_eq!(held.take(9_989).unwrap().unwrap().times.len(), 9_990);
        assert_eq!(held.bytes(), 160_000);
        held.trim().unwrap();
        assert_eq!(held.bytes(), 160);
        let Sorted { records, times } = held.take(i64::MAX).unwrap().unwrap();
        assert_eq!(records.column(0).as_primitive::<Int64Type>().values(), &times);
        assert_eq!(times.to_vec(), (9_990..10_000).collect::<Vec<i64>>());
        assert_eq!(held.bytes(), 0);
    }
}
