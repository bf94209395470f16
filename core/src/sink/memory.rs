//! Results in memory.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::Sink;
use crate::error::Result;

/// Collects batches in memory; [`Memory::collected`] is the handle by which to read them.
///
/// **Guarantee:** exactly once. Batches are seen from the commit on; an abort forgets those written since the last one.
#[derive(Debug, Default)]
pub struct Memory {
    pending: Vec<RecordBatch>,
    collected: Collected,
}

impl Memory {
    /// An empty sink.
    pub fn new() -> Memory {
        Memory::default()
    }

    /// What was committed, now and later: a handle that may be cloned and sent to other threads.
    pub fn collected(&self) -> Collected {
        self.collected.clone()
    }
}

impl Sink for Memory {
    fn open(&mut self, schema: &SchemaRef) -> Result<()> {
        self.collected.lock().schema = Some(Arc::clone(schema));
        Ok(())
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.pending.push(batch.clone());
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        self.collected.lock().batches.append(&mut self.pending);
        Ok(())
    }

    fn abort(&mut self) {
        self.pending.clear();
    }
}

/// A handle on what a [`Memory`] sink has committed.
#[derive(Clone, Default)]
pub struct Collected(Arc<Mutex<Shared>>);

#[derive(Default)]
struct Shared {
    schema: Option<SchemaRef>,
    batches: Vec<RecordBatch>,
}

impl Collected {
    /// The schema of the batches; `None` until the sink is opened.
    pub fn schema(&self) -> Option<SchemaRef> {
        self.lock().schema.clone()
    }

    /// All batches, which stay. Their columns are shared, not copied.
    pub fn batches(&self) -> Vec<RecordBatch> {
        self.lock().batches.clone()
    }

    /// All batches, which are forgotten here.
    pub fn take(&self) -> Vec<RecordBatch> {
        std::mem::take(&mut self.lock().batches)
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.lock().batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// A vector of batches is whole at any moment, also when a thread has panicked with the lock held.
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Collected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collected").field("rows", &self.rows()).finish()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;

    use super::*;

    #[test]
    fn a_commit_shows_and_an_abort_forgets() {
        let batch = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![1, 2])) as _)]).unwrap();
        let mut sink = Memory::new();
        let collected = sink.collected();
        assert!(collected.schema().is_none());
        sink.open(&batch.schema()).unwrap();
        sink.write(&batch).unwrap();
        assert_eq!(collected.rows(), 0);
        sink.commit().unwrap();
        sink.write(&batch).unwrap();
        sink.abort();
        sink.commit().unwrap();
        assert_eq!(collected.schema().unwrap(), batch.schema());
        assert_eq!(collected.batches(), [batch.clone()]);
        assert_eq!(collected.take(), [batch]);
        assert_eq!(collected.rows(), 0);
    }
}
