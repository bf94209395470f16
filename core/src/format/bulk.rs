//! Decoding many frames with a decoder that fails as a whole: halve until the bad ones stand alone.

use std::ops::Range;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use super::lines::BadLine;
use crate::error::Result;

/// Frames handed over at once: enough to amortise the call, few enough that a bad one among them costs little.
pub(super) const GROUP: usize = 1_024;

/// Characters of an error message that are kept; some quote the whole input.
const MAX_MESSAGE: usize = 512;

/// A decoder of whole frames that gives one row for each or fails for all.
pub(super) trait Groups {
    /// The rows of `frames`, which are ranges of `text`, at most [`GROUP`] of them.
    fn rows(&mut self, text: &[u8], frames: &[Range<usize>]) -> Result<RecordBatch, String>;
}

/// Decodes all `frames` of `text`, adding rows to `good` and frames that fail to `bad`, both in order.
pub(super) fn decode(groups: &mut impl Groups, text: &[u8], frames: &[Range<usize>], good: &mut Vec<RecordBatch>, bad: &mut Vec<BadLine>) {
    let mut places = Vec::new();
    decode_placed(groups, text, frames, good, &mut places);
    bad.extend(places.into_iter().map(|(place, error)| BadLine { start: frames[place].start, end: frames[place].end, error }));
}

/// As [`decode`], with frames that fail by their place among all.
pub(super) fn decode_placed(
    groups: &mut impl Groups,
    text: &[u8],
    frames: &[Range<usize>],
    good: &mut Vec<RecordBatch>,
    bad: &mut Vec<(usize, String)>,
) {
    for (number, group) in frames.chunks(GROUP).enumerate() {
        halve(groups, text, (number * GROUP, group), good, bad);
    }
}

fn halve(
    groups: &mut impl Groups,
    text: &[u8],
    (first, frames): (usize, &[Range<usize>]),
    good: &mut Vec<RecordBatch>,
    bad: &mut Vec<(usize, String)>,
) {
    match (groups.rows(text, frames), frames) {
        (Ok(rows), _) => good.push(rows),
        (Err(error), [_]) => bad.push((first, error)),
        (Err(_), _) => {
            let middle = frames.len() / 2;
            halve(groups, text, (first, &frames[..middle]), good, bad);
            halve(groups, text, (first + middle, &frames[middle..]), good, bad);
        }
    }
}

/// Takes `batches` as one; `None` if there are none.
pub(super) fn take(schema: &SchemaRef, batches: &mut Vec<RecordBatch>) -> Result<Option<RecordBatch>> {
    Ok(match batches.len() {
        0 | 1 => batches.pop(),
        _ => Some(concat_batches(schema, &std::mem::take(batches))?),
    })
}

/// The words of an Arrow error, cut to a length that can be kept for every bad frame.
pub(super) fn message(error: ArrowError) -> String {
    let mut message = match error {
        ArrowError::JsonError(message) | ArrowError::CsvError(message) | ArrowError::ParseError(message) => message,
        ArrowError::InvalidArgumentError(message) => message,
        other => other.to_string(),
    };
    if let Some((end, _)) = message.char_indices().nth(MAX_MESSAGE) {
        message.truncate(end);
        message.push('…');
    }
    message
}
