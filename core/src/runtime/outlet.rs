//! A sink within a pipeline, with the time that results took to reach it.

use arrow::datatypes::SchemaRef;

use crate::batch::Batch;
use crate::error::Result;
use crate::metrics::Counters;
use crate::sink::Sink;
use crate::time::SharedClock;

/// A sink, its schema and its name.
pub(crate) struct Outlet {
    label: String,
    schema: SchemaRef,
    sink: Box<dyn Sink>,
    clock: SharedClock,
    /// Whether its rows are results, whose latency counts, rather than late or quarantined rows.
    results: bool,
}

impl Outlet {
    pub fn new(label: impl Into<String>, schema: SchemaRef, sink: Box<dyn Sink>, clock: &SharedClock, results: bool) -> Outlet {
        Outlet { label: label.into(), schema, sink, clock: SharedClock::clone(clock), results }
    }

    pub fn open(&mut self) -> Result<()> {
        self.sink.open(&self.schema).map_err(|error| error.context(&self.label))
    }

    pub fn write(&mut self, batch: &Batch, counters: &Counters) -> Result<()> {
        self.sink.write(&batch.records).map_err(|error| error.context(&self.label))?;
        if self.results && batch.received > 0 {
            let nanos = self.clock.monotonic().saturating_sub(batch.received);
            counters.latency.record(nanos, batch.rows() as u64);
        }
        Ok(())
    }

    pub fn commit(&mut self) -> Result<()> {
        self.sink.commit().map_err(|error| error.context(&self.label))
    }

    pub fn abort(&mut self) {
        self.sink.abort();
    }
}
