//! Newline-delimited JSON into columns.
//!
//! Most streams repeat one spelling: the same fields in the same order with the same white space. So a record is first
//! compared with the last one's spelling, a handful of word compares, and its values are parsed in place into the columns.
//! A record that is spelled otherwise is read field by field (any order, unknown and missing fields, nulls, escapes,
//! nested values that no column wants), and its spelling is expected of the next. What is odd beyond that goes to arrow-json, line by line.
//!
//! The rows are those of arrow-json for every line:
//! * a field that is missing or null is null, or makes the line bad where the column may not be null;
//! * fields that the schema does not name are ignored; of several fields with one name the last counts;
//! * an integer column takes a number with fraction or exponent, cut towards zero, and a number in quotes;
//! * a float column takes a number in quotes too, also `"NaN"` and `"inf"`; literals beyond the range are infinite;
//! * a timestamp is an RFC 3339 string or a number in the column's unit, a date an ISO string or a number of days;
//! * a string column takes strings only, a boolean column `true` and `false` only.
//!
//! Stricter than arrow-json in three things: a line holds exactly one record, one record is on one line,
//! and values are nested at most 64 levels deep. And right where arrow-json 59 is not: an escaped surrogate pair from U+20000
//! on is the character it stands for, save on the odd lines that arrow-json decodes.

mod arrow_json;
mod column;
mod number;
mod record;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod text;
mod time;

use std::collections::HashSet;
use std::slice::from_ref;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use memchr::memchr;

use self::arrow_json::ArrowJson;
pub use self::arrow_json::ArrowJsonLines;
use self::column::Column;
use self::record::Records;
pub(in crate::format) use self::text::names as field_names;
use super::bulk::Groups;
use super::lines::{BadLine, Lines, is_blank};
use crate::error::Result;

/// Newline-delimited JSON decoded straight into columns; see the [module documentation](self).
pub struct NdjsonLines {
    schema: SchemaRef,
    records: Records,
    judge: ArrowJson,
}

impl NdjsonLines {
    /// A decoder for `schema`; `None` if it has a type, or two columns of one name, that only [`ArrowJsonLines`] knows.
    ///
    /// # Errors
    /// If a column's time zone is unknown.
    pub fn new(schema: SchemaRef) -> Result<Option<NdjsonLines>> {
        let mut columns = Vec::with_capacity(schema.fields().len());
        let mut names = HashSet::new();
        for field in schema.fields() {
            match Column::new(field)? {
                Some(column) if names.insert(field.name()) => columns.push(column),
                _ => return Ok(None),
            }
        }
        if columns.is_empty() {
            return Ok(None);
        }
        let records = Records::new(columns, schema.fields().iter().map(|field| field.name().as_bytes().into()));
        let judge = ArrowJson::new(schema.clone(), 1)?;
        Ok(Some(NdjsonLines { schema, records, judge }))
    }

    /// Decodes lines that are valid UTF-8 and start at `base` of the slice that was handed over.
    fn valid(&mut self, lines: &[u8], base: usize, bad: &mut Vec<BadLine>) {
        let mut start = 0;
        while start < lines.len() {
            start = self.records.repeat(lines, start);
            let Some(length) = memchr(b'\n', &lines[start..]) else { return };
            let line = &lines[start..=start + length];
            if self.records.add(line).is_none()
                && !is_blank(line)
                && let Err(error) = self.odd(line)
            {
                bad.push(BadLine { start: base + start, end: base + start + length, error });
            }
            start += line.len();
        }
    }

    /// Decodes a line with arrow-json.
    fn odd(&mut self, line: &[u8]) -> Result<(), String> {
        let row = self.judge.rows(line, from_ref(&(0..line.len())))?;
        self.records.add_row(&row).ok_or_else(|| "the batch holds too much text for one column".to_owned())
    }
}

impl Lines for NdjsonLines {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn decode(&mut self, lines: &[u8], bad: &mut Vec<BadLine>) {
        if lines.is_ascii() || std::str::from_utf8(lines).is_ok() {
            return self.valid(lines, 0, bad);
        }
        let mut start = 0;
        while let Some(length) = memchr(b'\n', &lines[start..]) {
            let line = &lines[start..=start + length];
            match std::str::from_utf8(line) {
                Ok(_) => self.valid(line, start, bad),
                Err(error) => {
                    let error = format!("byte {} of the line is not UTF-8", error.valid_up_to());
                    bad.push(BadLine { start, end: start + length, error });
                }
            }
            start += line.len();
        }
    }

    fn rows(&self) -> usize {
        self.records.rows()
    }

    fn take(&mut self) -> Result<Option<RecordBatch>> {
        match self.records.rows() {
            0 => Ok(None),
            _ => Ok(Some(RecordBatch::try_new(self.schema.clone(), self.records.finish()?)?)),
        }
    }
}
