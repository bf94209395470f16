//! Readers that yield record batches: Parquet and Arrow files, streams handed over by other libraries.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use arrow::array::{RecordBatch, RecordBatchReader};
use arrow::datatypes::SchemaRef;

use crate::batch::{Batch, PartitionId, Segment};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::source::blob::of_batch;
use crate::source::{Delivery, OpenSource, Source};
use crate::time::SharedClock;

/// A reader that can be moved to the thread that runs the pipeline.
pub type Reader = Box<dyn RecordBatchReader + Send>;

type Open = Box<dyn Fn() -> Result<Vec<(String, Reader)>> + Send + Sync>;

/// One or more readers of one schema, each a partition of its own, read in turns so that inputs that cover the
/// same time advance together.
pub struct Readers {
    schema: SchemaRef,
    description: String,
    open: Open,
}

impl Readers {
    /// A single reader. The stream can be run once.
    pub fn once(reader: Reader) -> Readers {
        let schema = reader.schema();
        let slot = Mutex::new(Some(reader));
        let open = move || match slot.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(reader) => Ok(vec![("reader".to_owned(), reader)]),
            None => Err(Error::config("this stream reads from a reader that can be read only once, and it has been; make a new stream")),
        };
        Readers { schema, description: "reader".to_owned(), open: Box::new(open) }
    }

    /// Named readers that `open` makes anew for each run.
    pub fn reopened(
        schema: SchemaRef,
        description: impl Into<String>,
        open: impl Fn() -> Result<Vec<(String, Reader)>> + Send + Sync + 'static,
    ) -> Readers {
        Readers { schema, description: description.into(), open: Box::new(open) }
    }
}

impl OpenSource for Readers {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    fn describe(&self) -> String {
        self.description.clone()
    }

    fn open(&self, config: &Config, clock: &SharedClock) -> Result<Box<dyn Source>> {
        let readers = (self.open)()?.into_iter().enumerate().map(|(index, (name, reader))| Turn {
            partition: PartitionId(index as u32),
            name,
            reader,
            pending: None,
            offset: 0,
        });
        Ok(Box::new(ReaderSource {
            schema: self.schema(),
            turns: readers.collect(),
            paused: BTreeSet::new(),
            started: false,
            batch_rows: config.batch_rows,
            clock: SharedClock::clone(clock),
        }))
    }
}

struct ReaderSource {
    schema: SchemaRef,
    /// The readers that have not ended; the front is next.
    turns: VecDeque<Turn>,
    paused: BTreeSet<PartitionId>,
    started: bool,
    batch_rows: usize,
    clock: SharedClock,
}

struct Turn {
    partition: PartitionId,
    name: String,
    reader: Reader,
    /// What is left of the last batch read.
    pending: Option<RecordBatch>,
    offset: u64,
}

impl Turn {
    /// The next rows, at most `limit`.
    fn next(&mut self, limit: usize, schema: &SchemaRef) -> Result<Option<RecordBatch>> {
        let batch = match self.pending.take() {
            Some(batch) => batch,
            None => match self.reader.next() {
                None => return Ok(None),
                Some(batch) => batch.map_err(|error| of_batch(error, &self.name))?,
            },
        };
        if batch.schema_ref().fields() != schema.fields() {
            return Err(Error::schema(format!("{} has other columns than the first input: {:?}", self.name, batch.schema_ref().fields())));
        }
        let rows = batch.num_rows().min(limit);
        if rows < batch.num_rows() {
            self.pending = Some(batch.slice(rows, batch.num_rows() - rows));
        }
        Ok(Some(batch.slice(0, rows)))
    }
}

impl Source for ReaderSource {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    fn poll(&mut self, _wait: Duration) -> Result<Delivery> {
        let mut delivery = Delivery::default();
        if !self.started {
            self.started = true;
            delivery.opened = self.turns.iter().map(|turn| turn.partition).collect();
            delivery.names = self.turns.iter().map(|turn| (turn.partition, turn.name.clone())).collect();
        }
        delivery.end = self.turns.is_empty();
        let next = self.turns.iter().position(|turn| !self.paused.contains(&turn.partition));
        let Some(mut turn) = next.and_then(|next| self.turns.remove(next)) else { return Ok(delivery) };
        let received = self.clock.monotonic();
        match turn.next(self.batch_rows, &self.schema)? {
            None => delivery.ended.push(turn.partition),
            Some(records) => {
                let rows = records.num_rows();
                let segments = vec![Segment { partition: turn.partition, rows, offset: turn.offset }];
                delivery.batch = (rows > 0).then(|| Batch::of_source(records, segments, received));
                turn.offset += rows as u64;
                self.turns.push_back(turn);
            }
        }
        Ok(delivery)
    }

    fn pause(&mut self, partitions: &BTreeSet<PartitionId>) -> Result<()> {
        self.paused.clone_from(partitions);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatchIterator};

    use super::*;
    use crate::time::SystemClock;

    #[test]
    fn a_paused_reader_misses_its_turns() {
        let records = RecordBatch::try_from_iter([("x", Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef)]).unwrap();
        let schema = records.schema();
        let open = move || {
            let reader = || Box::new(RecordBatchIterator::new([Ok(records.clone())], records.schema())) as Reader;
            Ok(vec![("a".to_owned(), reader()), ("b".to_owned(), reader())])
        };
        let config = Config { batch_rows: 1, ..Config::default() };
        let mut source = Readers::reopened(schema, "two", open).open(&config, &SystemClock::shared()).unwrap();
        let partition = |delivery: Delivery| delivery.batch.map(|batch| batch.segments[0].partition.0);
        source.pause(&BTreeSet::from([PartitionId(0)])).unwrap();
        let first: Vec<_> = (0..4).map(|_| partition(source.poll(Duration::ZERO).unwrap())).collect();
        assert_eq!(first, [Some(1), Some(1), Some(1), None]);
        assert!(!source.poll(Duration::ZERO).unwrap().end, "the other is still to come");
        source.pause(&BTreeSet::new()).unwrap();
        let rest: Vec<_> = (0..4).map(|_| partition(source.poll(Duration::ZERO).unwrap())).collect();
        assert_eq!(rest, [Some(0), Some(0), Some(0), None]);
        assert!(source.poll(Duration::ZERO).unwrap().end);
    }
}
