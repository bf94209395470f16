//! A source that replays a bundle in a closed loop, later by its length in each lap.

use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{Int64Type, SchemaRef};
use thalweg::batch::{Batch, PartitionId};
use thalweg::source::{Delivery, OpenSource, Source};
use thalweg::time::SharedClock;
use thalweg::{Config, Result};

/// Rows in memory, the time in the first column, and how often and how far apart in time they come.
pub struct Replay {
    pub records: RecordBatch,
    pub lap: i64,
    pub laps: usize,
}

impl OpenSource for Replay {
    fn schema(&self) -> SchemaRef {
        self.records.schema()
    }

    fn describe(&self) -> String {
        format!("{} laps of {} rows", self.laps, self.records.num_rows())
    }

    fn open(&self, config: &Config, clock: &SharedClock) -> Result<Box<dyn Source>> {
        Ok(Box::new(Laps {
            bundle: self.records.clone(),
            shifted: self.records.clone(),
            lap: self.lap,
            next: 0,
            laps: self.laps,
            row: self.records.num_rows(),
            batch_rows: config.batch_rows,
            clock: SharedClock::clone(clock),
        }))
    }
}

struct Laps {
    bundle: RecordBatch,
    /// The bundle with the times of this lap.
    shifted: RecordBatch,
    lap: i64,
    next: usize,
    laps: usize,
    /// Rows of this lap that were handed over.
    row: usize,
    batch_rows: usize,
    clock: SharedClock,
}

impl Laps {
    /// Begins the next lap: a new column of time, all others as they are.
    fn begin(&mut self) -> Result<()> {
        let offset = self.lap * self.next as i64;
        let times: Int64Array = self.bundle.column(0).as_primitive::<Int64Type>().unary(|time| time + offset);
        let mut columns: Vec<ArrayRef> = self.bundle.columns().to_vec();
        columns[0] = std::sync::Arc::new(times);
        self.shifted = RecordBatch::try_new(self.bundle.schema(), columns)?;
        (self.next, self.row) = (self.next + 1, 0);
        Ok(())
    }
}

impl Source for Laps {
    fn schema(&self) -> SchemaRef {
        self.bundle.schema()
    }

    fn poll(&mut self, _wait: Duration) -> Result<Delivery> {
        let opened = if self.next == 0 { vec![PartitionId(0)] } else { Vec::new() };
        if self.row == self.bundle.num_rows() {
            if self.next == self.laps {
                return Ok(Delivery { end: true, opened, ..Delivery::default() });
            }
            self.begin()?;
        }
        let rows = self.batch_rows.min(self.bundle.num_rows() - self.row);
        let offset = ((self.next - 1) * self.bundle.num_rows() + self.row) as u64;
        let batch = Batch::new(self.shifted.slice(self.row, rows), offset, self.clock.monotonic());
        self.row += rows;
        Ok(Delivery { batch: Some(batch), opened, ..Delivery::default() })
    }
}
