//! Bytes to columns: one decoder per format, shared by all partitions of a source.

mod bulk;
pub mod lines;
pub mod ndjson;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::batch::{PartitionId, Segment};
use crate::error::Result;
use crate::quality::Rejected;

/// Rows decoded since the last [`Decoder::take`].
#[derive(Debug)]
pub struct Decoded {
    /// The rows, in the order of arrival.
    pub records: RecordBatch,
    /// Runs of rows by partition; the row counts add up to the batch's.
    pub segments: Vec<Segment>,
}

/// Turns the bytes of any number of partitions into columns of one schema.
///
/// A decoder finds the frames (lines, messages) itself: bytes come in pieces of any size, and a frame that
/// straddles two pieces is put together from a copy that the decoder keeps per partition. What does not
/// decode is quarantined and the next frame goes on. Only a partition whose framing is beyond repair ends in an error.
pub trait Decoder: Send {
    /// The columns that come out.
    fn schema(&self) -> SchemaRef;

    /// Decodes all frames that end in `bytes`, the next piece of `partition`.
    ///
    /// # Errors
    /// If nothing after this point of the partition can be decoded; the caller ends the partition.
    fn decode(&mut self, partition: PartitionId, bytes: &[u8]) -> Result<()>;

    /// Ends `partition`: an unfinished last frame is decoded if it is whole, else quarantined, and its state is forgotten.
    fn end(&mut self, partition: PartitionId);

    /// Rows that [`Decoder::take`] would return.
    fn rows(&self) -> usize;

    /// Takes the rows decoded so far; `None` if there are none.
    ///
    /// # Errors
    /// If the columns cannot be built, which is a defect of the decoder.
    fn take(&mut self) -> Result<Option<Decoded>>;

    /// Moves the rows quarantined since the last call to the end of `into`.
    fn take_rejected(&mut self, into: &mut Vec<Rejected>);
}
