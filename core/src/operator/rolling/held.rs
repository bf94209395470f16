//! Rows that wait until event time has passed them, and come out in its order.
//!
//! Each batch is sorted by itself, as it comes; what the watermark lets go of is the head of each sorted run, and their
//! union is sorted once more. Rows are copied once, when they go.

use arrow::array::{Array, RecordBatch};
use arrow::compute::interleave_record_batch;
use thalweg_kernels::sorted_rows;

use crate::config::BATCH_ROWS;
use crate::error::Result;

/// Rows in order of time; those of one time in the order in which they came.
pub(super) struct Sorted {
    pub records: RecordBatch,
    pub times: Vec<i64>,
}

/// A batch of rows, some of which may have gone.
struct Run {
    records: RecordBatch,
    /// Rows that have not gone, in order of time, and their times.
    order: Vec<u32>,
    times: Vec<i64>,
    gone: usize,
    bytes: usize,
}

/// The rows that wait, in runs; rows of an earlier run came earlier.
#[derive(Default)]
pub(super) struct Held {
    runs: Vec<Run>,
}

impl Run {
    fn new(records: RecordBatch, times: &[i64]) -> Run {
        let mut order = Vec::new();
        sorted_rows(times, &mut order);
        let times = order.iter().map(|&row| times[row as usize]).collect();
        Run::sorted(records, order, times)
    }

    fn sorted(records: RecordBatch, order: Vec<u32>, times: Vec<i64>) -> Run {
        let slices = records.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0));
        let bytes = slices.sum::<usize>() + order.len() * (size_of::<u32>() + size_of::<i64>());
        Run { records, order, times, gone: 0, bytes }
    }

    fn rows(&self) -> usize {
        self.order.len() - self.gone
    }

    /// How many rows that have not gone are not later than `until`.
    fn due(&self, until: i64) -> usize {
        self.times[self.gone..].partition_point(|&time| time <= until)
    }
}

impl Held {
    /// Bytes of the rows.
    pub fn bytes(&self) -> usize {
        self.runs.iter().map(|run| run.bytes).sum()
    }

    /// Keeps the rows of one batch.
    ///
    /// # Errors
    /// If rows of small batches cannot be joined, which would be a defect.
    pub fn push(&mut self, records: RecordBatch, times: &[i64]) -> Result<()> {
        self.runs.push(Run::new(records, times));
        // Small runs are joined like the digits of a counter, so that there are few of them however small the batches.
        while let [.., older, newer] = self.runs.as_slice()
            && older.rows() <= 2 * newer.rows()
            && older.rows() + newer.rows() <= BATCH_ROWS
        {
            let joined = merge(&mut self.runs.split_off(self.runs.len() - 2), i64::MAX)?;
            let order = (0..joined.times.len() as u32).collect();
            self.runs.push(Run::sorted(joined.records, order, joined.times));
        }
        Ok(())
    }

    /// Takes out the rows that are not later than `until`, if there are any.
    ///
    /// # Errors
    /// If columns cannot be put together, which would be a defect.
    pub fn take(&mut self, until: i64) -> Result<Option<Sorted>> {
        if self.runs.iter().all(|run| run.due(until) == 0) {
            return Ok(None);
        }
        let sorted = merge(&mut self.runs, until)?;
        self.runs.retain(|run| run.rows() > 0);
        Ok(Some(sorted))
    }
}

/// Takes the rows out of some runs that are not later than `until`.
fn merge(runs: &mut [Run], until: i64) -> Result<Sorted> {
    let (mut times, mut rows, mut order) = (Vec::new(), Vec::new(), Vec::new());
    for (number, run) in runs.iter_mut().enumerate() {
        let due = run.gone..run.gone + run.due(until);
        times.extend_from_slice(&run.times[due.clone()]);
        rows.extend(run.order[due.clone()].iter().map(|&row| (number as u32, row)));
        run.gone = due.end;
    }
    sorted_rows(&times, &mut order);
    let rows = order.iter().map(|&place| rows[place as usize]).map(|(run, row): (u32, u32)| (run as usize, row as usize));
    let rows: Vec<(usize, usize)> = rows.collect();
    let records: Vec<&RecordBatch> = runs.iter().map(|run| &run.records).collect();
    let records = interleave_record_batch(&records, &rows)?;
    Ok(Sorted { records, times: order.iter().map(|&place| times[place as usize]).collect() })
}
