//! Collected results.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;

use crate::error::Result;
use crate::metrics::Metrics;
use crate::plan::query::{Shared, locked};
use crate::sink::Sink;

/// The results of a bounded run, with what did not make it into them.
#[derive(Debug, Clone)]
pub struct Table {
    pub(super) schema: SchemaRef,
    pub(super) batches: Vec<RecordBatch>,
    pub(super) late: Vec<RecordBatch>,
    pub(super) quarantined: Vec<RecordBatch>,
    pub(super) metrics: Metrics,
}

impl Table {
    /// The columns.
    pub fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    /// The rows, in batches.
    pub fn batches(&self) -> &[RecordBatch] {
        &self.batches
    }

    /// The rows in one batch.
    ///
    /// # Errors
    /// If the strings of a column are longer than 2 GiB together.
    pub fn to_batch(&self) -> Result<RecordBatch> {
        Ok(concat_batches(&self.schema, &self.batches)?)
    }

    /// How many rows.
    pub fn num_rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// The first rows that came after their window had fired, with the columns of [`Stream::late_schema`](crate::Stream::late_schema); at most
    /// [`MAX_LATE_ROWS`](crate::config::MAX_LATE_ROWS) and a batch, all are counted in [`Table::metrics`].
    pub fn late(&self) -> &[RecordBatch] {
        &self.late
    }

    /// The first rows that did not decode or had no event time, with the columns of
    /// [`quality::schema`](crate::quality::schema); at most
    /// [`MAX_QUARANTINED_ROWS`](crate::config::MAX_QUARANTINED_ROWS) and a batch, all are counted in [`Table::metrics`].
    pub fn quarantined(&self) -> &[RecordBatch] {
        &self.quarantined
    }

    /// The counters of the run.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match arrow::util::pretty::pretty_format_batches(&self.batches) {
            Ok(text) => write!(f, "{text}"),
            Err(error) => write!(f, "({error})"),
        }
    }
}

/// Batches that a sink keeps in memory for whoever holds this, up to a number of rows.
#[derive(Clone)]
pub(super) struct Kept {
    batches: Shared<VecDeque<RecordBatch>>,
    limit: usize,
}

impl Kept {
    pub fn new(limit: usize) -> Kept {
        Kept { batches: Arc::default(), limit }
    }

    pub fn sink(&self) -> KeepSink {
        KeepSink { kept: self.clone(), rows: 0 }
    }

    pub fn pop(&self) -> Option<RecordBatch> {
        locked(&self.batches).pop_front()
    }

    pub fn is_empty(&self) -> bool {
        locked(&self.batches).is_empty()
    }

    pub fn take(&self) -> Vec<RecordBatch> {
        std::mem::take(&mut *locked(&self.batches)).into()
    }
}

/// The sink of [`Kept`]: rows can be read as soon as they are written.
pub(super) struct KeepSink {
    kept: Kept,
    rows: usize,
}

impl Sink for KeepSink {
    fn open(&mut self, _schema: &SchemaRef) -> Result<()> {
        Ok(())
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if self.rows < self.kept.limit {
            locked(&self.kept.batches).push_back(batch.clone());
        }
        self.rows += batch.num_rows();
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        Ok(())
    }

    fn abort(&mut self) {}
}
