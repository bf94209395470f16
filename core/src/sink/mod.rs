//! Sinks: where results go.

mod callback;
mod memory;
mod ndjson;
mod parquet;
mod publish;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::error::Result;
pub use callback::Callback;
pub use memory::{Collected, Memory};
pub use ndjson::Ndjson;
#[cfg(feature = "kafka")]
pub(crate) use ndjson::TIMESTAMP;
pub use parquet::{Parquet, ParquetOptions, PartitionBy};

/// An output. Calls come in the order `open`, then any number of `write` and `commit`, at last `commit` or `abort`.
///
/// What was written becomes visible to readers at the next `commit`, whole; an `abort` leaves nothing behind
/// of what was written since the last one. Sinks that cannot take back what they have sent (standard output,
/// callbacks) say so in their documentation.
pub trait Sink: Send {
    /// Prepares for batches of `schema`.
    ///
    /// # Errors
    /// If the destination cannot be written or the schema cannot be expressed there.
    fn open(&mut self, schema: &SchemaRef) -> Result<()>;

    /// Takes one batch.
    ///
    /// # Errors
    /// If the destination fails; nothing of the batch is visible then.
    fn write(&mut self, batch: &RecordBatch) -> Result<()>;

    /// Makes everything written so far visible.
    ///
    /// # Errors
    /// If the destination fails.
    fn commit(&mut self) -> Result<()>;

    /// Takes back what was written since the last commit.
    fn abort(&mut self);
}
