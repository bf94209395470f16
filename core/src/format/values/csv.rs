//! Rows as lines of CSV.
//!
//! Null is written as nothing, and so is the empty text; timestamps as RFC 3339, those without a time zone without one
//! (`2024-01-31T12:00:00.250`); bytes as hexadecimal digits.

use arrow::array::{BinaryArray, RecordBatch};
use arrow::csv::WriterBuilder;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use memchr::memchr2_iter;

use super::values_of;
use crate::error::{Error, Result};

/// Rows as lines, added to `lines`; behind the names of the columns if there is a header.
pub(crate) fn write(batch: &RecordBatch, header: bool, delimiter: u8, lines: &mut Vec<u8>) -> Result<(), ArrowError> {
    WriterBuilder::new().with_header(header).with_delimiter(delimiter).build(lines).write(batch)
}

/// Refuses columns that CSV cannot hold, and delimiters that cannot be one, before any row comes.
pub(crate) fn check(schema: &SchemaRef, delimiter: u8) -> Result<()> {
    if !delimiter.is_ascii() || matches!(delimiter, b'"' | b'\n' | b'\r') {
        return Err(Error::config("`delimiter` must be one ASCII character that is neither a quote nor a line end"));
    }
    match schema.fields().iter().find(|field| field.data_type().is_nested()) {
        Some(field) => Err(Error::schema(format!(
            "column `{}` of type {} cannot be written as CSV; select other columns, or write NDJSON, Arrow or Parquet",
            field.name(),
            field.data_type()
        ))),
        None => Ok(()),
    }
}

/// Each row as a line without its end.
///
/// # Errors
/// If a value cannot be written as text.
pub(crate) fn values(batch: &RecordBatch, delimiter: u8) -> Result<BinaryArray> {
    let mut lines = Vec::new();
    write(batch, false, delimiter, &mut lines)?;
    // Lines end where their ends are not within quotes; a quote within quotes is written twice.
    let (mut ends, mut rows) = (Vec::with_capacity(batch.num_rows() + 1), Vec::with_capacity(lines.len()));
    ends.push(0);
    let (mut start, mut is_quoted) = (0, false);
    for at in memchr2_iter(b'"', b'\n', &lines) {
        if lines[at] == b'"' {
            is_quoted = !is_quoted;
        } else if !is_quoted {
            rows.extend_from_slice(&lines[start..at]);
            ends.push(rows.len());
            start = at + 1;
        }
    }
    match ends.len() == batch.num_rows() + 1 {
        true => values_of(rows, ends.into_iter()),
        false => Err(Error::schema("the writer of CSV has lost count of the rows; this is a defect, please report it")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMillisecondArray};

    use super::*;

    fn lines(columns: &[(&str, ArrayRef)], delimiter: u8) -> Vec<String> {
        let batch = RecordBatch::try_from_iter_with_nullable(columns.iter().map(|(name, array)| (*name, Arc::clone(array), true))).unwrap();
        let values = values(&batch, delimiter).unwrap();
        values.iter().map(|line| String::from_utf8(line.unwrap().to_vec()).unwrap()).collect()
    }

    #[test]
    fn a_row_is_a_line_without_its_end() {
        let texts = ["plain", "a,b", "say \"so\"", "two\nlines", "\"\n\"", ""];
        let columns: [(&str, ArrayRef); 3] = [
            ("t", Arc::new(StringArray::from(texts.to_vec()))),
            ("n", Arc::new(Int64Array::from(vec![Some(1), None, Some(-3), Some(4), Some(5), Some(6)]))),
            ("at", Arc::new(TimestampMillisecondArray::from(vec![1_250, 0, 0, 0, 0, 0]))),
        ];
        let rest = ",1970-01-01T00:00:00";
        let expected = [
            "plain,1,1970-01-01T00:00:01.250".to_owned(),
            format!("\"a,b\",{rest}"),
            format!("\"say \"\"so\"\"\",-3{rest}"),
            format!("\"two\nlines\",4{rest}"),
            format!("\"\"\"\n\"\"\",5{rest}"),
            format!(",6{rest}"),
        ];
        assert_eq!(lines(&columns, b','), expected);
        assert_eq!(lines(&columns[..2], b'\t')[1], "a,b\t");
        assert_eq!(lines(&[("t", Arc::new(StringArray::from(vec![None, Some("x")])))], b','), ["\"\"", "x"], "no line is empty");
        assert!(lines(&[("t", Arc::new(StringArray::from(Vec::<&str>::new())))], b',').is_empty());
    }
}
