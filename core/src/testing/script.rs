//! A source whose deliveries are written out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::table::{conform, parse};
use super::{Action, Step};
use crate::batch::{Batch, PartitionId, Segment};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::source::{Delivery, OpenSource, Source};
use crate::time::{Clock, SharedClock, SimulatedClock};

/// What comes next.
#[derive(Debug, Clone)]
enum Next {
    Rows(PartitionId, RecordBatch),
    Pause(Duration),
    Eof,
    Abort,
}

/// The steps of an input, read.
pub(super) struct Script {
    schema: SchemaRef,
    steps: Vec<Next>,
    /// The clock of the run that is about to begin.
    clock: Mutex<Arc<SimulatedClock>>,
}

impl Script {
    pub fn new(steps: impl IntoIterator<Item = Step>) -> Result<Script> {
        let mut schema: Option<SchemaRef> = None;
        let mut read = Vec::new();
        for (number, Step(action)) in steps.into_iter().enumerate() {
            let in_step = |error: Error| error.context(format!("step {number}"));
            let (partition, records) = match action {
                Action::Text(partition, text) => (partition, parse(&text, schema.as_ref()).map_err(in_step)?),
                Action::Batch(partition, records) => (partition, records),
                Action::Pause(duration) => {
                    read.push(Next::Pause(duration));
                    continue;
                }
                Action::Eof => {
                    read.push(Next::Eof);
                    continue;
                }
                Action::Abort => {
                    read.push(Next::Abort);
                    continue;
                }
            };
            let columns = schema.get_or_insert_with(|| records.schema());
            read.push(Next::Rows(PartitionId(partition), conform(&records, columns).map_err(in_step)?));
        }
        let schema = schema.ok_or_else(|| Error::schema("a script without rows has no columns; begin with a table of a header alone"))?;
        Ok(Script { schema, steps: read, clock: Mutex::default() })
    }
}

impl OpenSource for Script {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    fn describe(&self) -> String {
        format!("script: {} steps", self.steps.len())
    }

    fn open(&self, config: &Config, _clock: &SharedClock) -> Result<Box<dyn Source>> {
        let partitions = self.steps.iter().filter_map(|step| match step {
            Next::Rows(partition, _) => Some(*partition),
            _ => None,
        });
        let partitions: BTreeSet<PartitionId> = partitions.collect();
        Ok(Box::new(Reading {
            schema: self.schema(),
            steps: self.steps.clone().into(),
            opened: partitions.into_iter().collect(),
            offsets: BTreeMap::new(),
            batch_rows: config.batch_rows,
            clock: Arc::clone(&self.clock.lock().unwrap_or_else(PoisonError::into_inner)),
        }))
    }

    fn clock(&self) -> Option<SharedClock> {
        let clock = SimulatedClock::shared();
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&clock);
        Some(clock)
    }
}

struct Reading {
    schema: SchemaRef,
    steps: VecDeque<Next>,
    /// Partitions not announced yet.
    opened: Vec<PartitionId>,
    /// Rows that came of each partition.
    offsets: BTreeMap<PartitionId, u64>,
    batch_rows: usize,
    clock: Arc<SimulatedClock>,
}

impl Source for Reading {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    fn poll(&mut self, _wait: Duration) -> Result<Delivery> {
        let opened = std::mem::take(&mut self.opened);
        match self.steps.pop_front() {
            Some(Next::Rows(partition, records)) => {
                let rows = records.num_rows().min(self.batch_rows);
                if rows < records.num_rows() {
                    self.steps.push_front(Next::Rows(partition, records.slice(rows, records.num_rows() - rows)));
                }
                let offset = self.offsets.entry(partition).or_default();
                let segments = vec![Segment { partition, rows, offset: *offset }];
                *offset += rows as u64;
                let batch = Batch { segments, ..Batch::new(records.slice(0, rows), 0, self.clock.monotonic()) };
                Ok(Delivery { batch: (rows > 0).then_some(batch), opened, ..Delivery::default() })
            }
            Some(Next::Pause(duration)) => {
                self.clock.advance(duration);
                Ok(Delivery { opened, ..Delivery::default() })
            }
            Some(Next::Abort) => Err(Error::connector("the script of the test aborts here")),
            Some(Next::Eof) | None => {
                self.steps.clear();
                Ok(Delivery { end: true, opened, ..Delivery::default() })
            }
        }
    }
}
