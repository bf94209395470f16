//! Sinks: where results go.

mod arrow_ipc;
mod callback;
mod csv;
mod memory;
mod ndjson;
mod parquet;
mod parts;
mod publish;
mod text;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::error::{Error, Result};
pub use arrow_ipc::{ArrowIpc, ArrowIpcOptions};
pub use callback::Callback;
pub use csv::{Csv, CsvOptions};
pub use memory::{Collected, Memory};
pub use ndjson::{Ndjson, NdjsonOptions};
pub use parquet::{Parquet, ParquetOptions};
pub use parts::{PartOptions, PartitionBy, PendingPart, Place};

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

/// What a call out of order fails with.
fn not_open() -> Error {
    Error::config("the sink is not open: call `open` first, and again after `abort`")
}
