//! Messages whose ends are known beforehand, as those of a broker.

use std::ops::Range;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::error::Result;

/// Turns whole messages into columns of one schema, many at once.
pub trait Messages: Send {
    /// The columns that come out.
    fn schema(&self) -> SchemaRef;

    /// Decodes `messages`, which are ranges of `bytes`: each either adds one row, or its place among them and why not to `bad`, both in
    /// order.
    ///
    /// # Errors
    /// If nothing can be decoded for want of something outside of the messages, such as a schema that a registry which is down has
    /// ([`Error::is_retriable`](crate::Error::is_retriable)). Rows may have been added; all messages are to be decoded anew by a new
    /// decoder.
    fn decode(&mut self, bytes: &[u8], messages: &[Range<usize>], bad: &mut Vec<(usize, String)>) -> Result<()>;

    /// Rows that [`Messages::take`] would return.
    fn rows(&self) -> usize;

    /// Takes the rows decoded so far; `None` if there are none.
    ///
    /// # Errors
    /// If the columns cannot be built, which is a defect of the decoder.
    fn take(&mut self) -> Result<Option<RecordBatch>>;
}
