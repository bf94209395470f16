//! Messages whose ends are known beforehand, as those of a broker.

use std::ops::Range;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::error::Result;

/// What a record in Confluent's wire format begins with.
const CONFLUENT: u8 = 0;

/// The number of the schema that a record in Confluent's wire format was written by, and the length of what stands before its body.
pub(super) fn confluent_head(record: &[u8]) -> Result<(u32, usize), String> {
    match record.first_chunk::<5>() {
        Some([CONFLUENT, id @ ..]) => Ok((u32::from_be_bytes(*id), 5)),
        _ => Err("the record does not begin with a zero byte and the number of a schema, as Confluent's wire format has it".to_owned()),
    }
}

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
