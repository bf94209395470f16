//! The baseline: lines decoded by arrow-json, for schemas and lines that the faster decoder does not know.

use std::ops::Range;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::json::ReaderBuilder;
use arrow::json::reader::Decoder;
use memchr::memchr_iter;

use crate::error::Result;
use crate::format::bulk::{self, GROUP, Groups, message};
use crate::format::lines::{BadLine, Lines, is_blank};

/// Deepest nesting of a line. arrow-json quotes a value in its error by recursion, so that the depth must be bounded.
const MAX_DEPTH: usize = 64;

/// Lines decoded by arrow-json with a check that each is one record.
pub(super) struct ArrowJson {
    schema: SchemaRef,
    group: usize,
    /// Absent after an error, which leaves it in the middle of something.
    decoder: Option<Decoder>,
}

impl ArrowJson {
    /// A decoder of up to `group` lines at once.
    ///
    /// # Errors
    /// If arrow-json does not know a type of the schema.
    pub(super) fn new(schema: SchemaRef, group: usize) -> Result<ArrowJson> {
        let decoder = Some(build(&schema, group)?);
        Ok(ArrowJson { schema, group, decoder })
    }
}

fn build(schema: &SchemaRef, group: usize) -> Result<Decoder, arrow::error::ArrowError> {
    ReaderBuilder::new(schema.clone()).with_batch_size(group).build_decoder()
}

impl Groups for ArrowJson {
    fn rows(&mut self, text: &[u8], frames: &[Range<usize>]) -> Result<RecordBatch, String> {
        let mut decoder = match self.decoder.take() {
            Some(decoder) => decoder,
            None => build(&self.schema, self.group).map_err(message)?,
        };
        for (index, frame) in frames.iter().enumerate() {
            let line = &text[frame.clone()];
            if is_deep(line) {
                return Err(format!("the record is nested deeper than {MAX_DEPTH} levels"));
            }
            let used = decoder.decode(line).map_err(message)?;
            // A number at the very end is not known to be whole before white space follows it.
            decoder.decode(b"\n").map_err(message)?;
            if decoder.has_partial_record() {
                return Err("the record is cut off at the end of the line".to_owned());
            }
            if used < line.len() || decoder.len() != index + 1 {
                return Err("the line holds more than one record".to_owned());
            }
        }
        let rows = decoder.flush().map_err(|error| not_null(message(error)))?.ok_or("the line holds no record")?;
        self.decoder = Some(decoder);
        Ok(rows)
    }
}

/// arrow-json's words for a null in a column without nulls, made plain.
fn not_null(message: String) -> String {
    match message.split_once("Encountered unmasked nulls in non-nullable StructArray child: ") {
        Some((_, field)) => format!("a value is missing or null where the column may not be null: {field}"),
        None => message,
    }
}

/// Whether brackets are nested deeper than [`MAX_DEPTH`].
fn is_deep(line: &[u8]) -> bool {
    // Most lines have too few brackets for it, wherever they stand.
    if line.iter().filter(|byte| matches!(byte, b'[' | b'{')).count() <= MAX_DEPTH {
        return false;
    }
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for byte in line {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => depth += 1,
            b']' | b'}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return true;
        }
    }
    false
}

/// Newline-delimited JSON decoded by arrow-json alone.
pub struct ArrowJsonLines {
    inner: ArrowJson,
    frames: Vec<Range<usize>>,
    batches: Vec<RecordBatch>,
}

impl ArrowJsonLines {
    /// A decoder for `schema`.
    ///
    /// # Errors
    /// If arrow-json does not know a type of the schema.
    pub fn new(schema: SchemaRef) -> Result<ArrowJsonLines> {
        Ok(ArrowJsonLines { inner: ArrowJson::new(schema, GROUP)?, frames: Vec::new(), batches: Vec::new() })
    }
}

impl Lines for ArrowJsonLines {
    fn schema(&self) -> SchemaRef {
        self.inner.schema.clone()
    }

    fn decode(&mut self, lines: &[u8], bad: &mut Vec<BadLine>) {
        self.frames.clear();
        let mut start = 0;
        for end in memchr_iter(b'\n', lines) {
            if !is_blank(&lines[start..end]) {
                self.frames.push(start..end);
            }
            start = end + 1;
        }
        bulk::decode(&mut self.inner, lines, &self.frames, &mut self.batches, bad);
    }

    fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    fn take(&mut self) -> Result<Option<RecordBatch>> {
        bulk::take(&self.inner.schema, &mut self.batches)
    }
}
