//! Batches that are in memory already.

use std::collections::VecDeque;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{Fields, SchemaRef};

use crate::batch::{Batch, PartitionId};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::source::{Delivery, OpenSource, Source};
use crate::time::SharedClock;

/// Batches of one schema, handed over in slices of `batch_rows` without a copy; can be read any number of times.
#[derive(Debug)]
pub struct Memory {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
}

impl Memory {
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if a batch has another schema (field metadata aside).
    pub fn new(schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<Memory> {
        for (number, batch) in batches.iter().enumerate() {
            if !same_columns(schema.fields(), batch.schema_ref().fields()) {
                return Err(Error::schema(format!("batch {number} has the columns {:?}, the first has {:?}", batch.schema(), schema)));
            }
        }
        Ok(Memory { schema, batches })
    }
}

/// Whether fields agree in name and type.
fn same_columns(a: &Fields, b: &Fields) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.name() == b.name() && a.data_type() == b.data_type())
}

impl OpenSource for Memory {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    fn describe(&self) -> String {
        format!("memory: {} rows", self.batches.iter().map(RecordBatch::num_rows).sum::<usize>())
    }

    fn open(&self, config: &Config, clock: &SharedClock) -> Result<Box<dyn Source>> {
        Ok(Box::new(MemorySource {
            schema: self.schema(),
            batches: self.batches.clone().into(),
            row: 0,
            total: 0,
            batch_rows: config.batch_rows,
            clock: SharedClock::clone(clock),
        }))
    }
}

struct MemorySource {
    schema: SchemaRef,
    batches: VecDeque<RecordBatch>,
    /// Rows handed over of the batch in front, and of all.
    row: usize,
    total: u64,
    batch_rows: usize,
    clock: SharedClock,
}

impl Source for MemorySource {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    fn poll(&mut self, _wait: Duration) -> Result<Delivery> {
        let opened = if self.total == 0 && self.row == 0 { vec![PartitionId(0)] } else { Vec::new() };
        while let Some(front) = self.batches.front() {
            let rows = (front.num_rows() - self.row).min(self.batch_rows);
            if rows == 0 {
                self.batches.pop_front();
                self.row = 0;
                continue;
            }
            let batch = Batch::new(front.slice(self.row, rows), self.total, self.clock.monotonic());
            self.row += rows;
            self.total += rows as u64;
            return Ok(Delivery { batch: Some(batch), opened, ..Delivery::default() });
        }
        Ok(Delivery { end: true, opened, ..Delivery::default() })
    }
}
