//! Sources: where batches come from.

pub mod events;

use std::time::Duration;

use arrow::datatypes::SchemaRef;

use crate::batch::{Batch, PartitionId};
use crate::error::Result;
use crate::quality::Rejected;

/// What a source hands over at once. All of it may be empty: the wait was over before anything came.
#[derive(Debug, Default)]
pub struct Delivery {
    /// Rows.
    pub batch: Option<Batch>,
    /// Frames that did not decode.
    pub rejected: Vec<Rejected>,
    /// Partitions that have begun; they hold the watermark back until their first row or until idle.
    pub opened: Vec<PartitionId>,
    /// Partitions that have ended after the rows of this delivery.
    pub ended: Vec<PartitionId>,
    /// Nothing will come any more.
    pub end: bool,
    /// Bytes read since the last delivery.
    pub bytes: u64,
}

/// An input: files, sockets, memory, a broker.
pub trait Source: Send {
    /// The columns of the batches to come.
    fn schema(&self) -> SchemaRef;

    /// The next rows, waiting for them no longer than `wait`. Returns early with whatever is due.
    ///
    /// # Errors
    /// If the source as a whole has failed. The failure of one of several clients is logged, not returned.
    fn poll(&mut self, wait: Duration) -> Result<Delivery>;
}
