//! Comma-separated values into columns, by arrow-csv.
//!
//! Framing is done here, because a record is not a line: a line feed inside quotes belongs to its field. Records end in
//! `\n` or `\r\n`, blank lines are skipped, quotes are doubled inside quotes. With a header, each partition's first
//! record names its columns: they may be in any order, further ones are ignored, and a column of the schema that is
//! missing is null (or ends the partition if it may not be null). An empty field is null.

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::collections::HashMap;
use std::ops::Range;
use std::slice::from_ref;
use std::sync::Arc;

use arrow::array::{RecordBatch, new_null_array};
use arrow::csv::ReaderBuilder;
use arrow::csv::reader::Decoder as ArrowDecoder;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use memchr::memchr;

use super::bulk::{self, GROUP, Groups, message};
use super::lines::{BadLine, too_long};
use super::runs::Runs;
use super::{Decoded, Decoder};
use crate::batch::PartitionId;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::quality::Rejected;

const QUOTE: u8 = b'"';
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// A [`Decoder`] of comma-separated values; see the [module documentation](self).
#[derive(Debug)]
pub struct CsvDecoder {
    run: Run,
    partitions: HashMap<PartitionId, Straddle>,
}

/// What a partition is in the middle of.
#[derive(Debug)]
struct Straddle {
    /// The partition's offset of the next byte to come.
    position: u64,
    /// The unfinished record before `position`.
    carry: Vec<u8>,
    scan: Scan,
    /// Whether the unfinished record was too long and is being skipped.
    skipping: bool,
    /// The partition's layout in [`Run::layouts`]; `None` before its header.
    layout: Option<usize>,
}

/// Where in a record the scan for its end stands, as csv-core has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scan {
    /// Before a field: a quote opens it.
    Start,
    /// In a field without quotes, where a quote is a character like others.
    Field,
    /// Inside quotes.
    Quoted,
    /// After a quote inside quotes: the end of them, or half of a doubled quote.
    Quote,
}

/// What all partitions share.
#[derive(Debug)]
struct Run {
    schema: SchemaRef,
    delimiter: u8,
    header: bool,
    max_line_bytes: usize,
    /// One per order of columns that a partition came with.
    layouts: Vec<Layout>,
    batches: Vec<RecordBatch>,
    rows: usize,
    runs: Runs,
    rejected: Vec<Rejected>,
}

/// Which field of a record is which column.
#[derive(Debug)]
struct Layout {
    schema: SchemaRef,
    delimiter: u8,
    /// The record's fields, under the schema's types.
    fields: SchemaRef,
    /// For each column the position of its field; `None` if it is missing and so null.
    columns: Vec<Option<usize>>,
    /// Absent after an error, which leaves it in the middle of something.
    decoder: Option<ArrowDecoder>,
}

impl CsvDecoder {
    /// A decoder for `schema` whose fields are parted by `delimiter`; with `header` each partition begins with its columns' names.
    ///
    /// # Errors
    /// If arrow-csv does not know a type of the schema, or the delimiter is a quote or a line end.
    pub fn new(schema: SchemaRef, delimiter: u8, header: bool, config: &Config) -> Result<CsvDecoder> {
        if matches!(delimiter, QUOTE | b'\n' | b'\r') || !delimiter.is_ascii() {
            return Err(Error::config(format!("`{}` cannot be the delimiter of CSV", delimiter.escape_ascii())));
        }
        check_types(&schema)?;
        let layouts = if header { Vec::new() } else { vec![Layout::positional(&schema, delimiter)] };
        let run = Run {
            schema,
            delimiter,
            header,
            max_line_bytes: config.max_line_bytes,
            layouts,
            batches: Vec::new(),
            rows: 0,
            runs: Runs::default(),
            rejected: Vec::new(),
        };
        Ok(CsvDecoder { run, partitions: HashMap::new() })
    }
}

/// Decodes a record of nulls to learn whether every type is known.
fn check_types(schema: &SchemaRef) -> Result<()> {
    for field in schema.fields() {
        let column = Arc::new(Schema::new(vec![field.as_ref().clone().with_nullable(true)]));
        let mut layout = Layout::positional(&column, b',');
        if let Err(why) = layout.rows(b"\"\"\n", from_ref(&(0..3))) {
            return Err(Error::schema(format!("column `{}` cannot be read from CSV: {why}", field.name())));
        }
    }
    Ok(())
}

impl Decoder for CsvDecoder {
    fn schema(&self) -> SchemaRef {
        self.run.schema.clone()
    }

    fn keep_offsets(&mut self) {
        self.run.runs.keep_offsets();
    }

    fn decode(&mut self, partition: PartitionId, mut bytes: &[u8]) -> Result<()> {
        let straddle = self.partitions.entry(partition).or_insert_with(|| Straddle::new(self.run.header));
        while !bytes.is_empty() {
            let used = if straddle.skipping {
                straddle.skip(bytes)
            } else if straddle.carry.is_empty() && straddle.layout.is_some() {
                self.run.whole(partition, straddle, bytes)
            } else {
                self.run.complete(partition, straddle, bytes)?
            };
            straddle.position += used as u64;
            bytes = &bytes[used..];
        }
        Ok(())
    }

    fn end(&mut self, partition: PartitionId) {
        let Some(mut straddle) = self.partitions.remove(&partition) else { return };
        if straddle.carry.is_empty() {
            return;
        }
        let start = straddle.position - straddle.carry.len() as u64;
        match straddle.layout {
            Some(layout) if straddle.scan != Scan::Quoted => {
                straddle.carry.push(b'\n');
                self.run.decode(partition, layout, start, &straddle.carry, from_ref(&(0..straddle.carry.len())));
            }
            Some(_) => self.run.reject(partition, start, &straddle.carry, "the input ends inside quotes".to_owned()),
            // A header without rows.
            None => {}
        }
    }

    fn cut(&mut self, partition: PartitionId, why: &str) {
        let Some(straddle) = self.partitions.remove(&partition).filter(|straddle| !straddle.carry.is_empty()) else { return };
        let start = straddle.position - straddle.carry.len() as u64;
        self.run.reject(partition, start, &straddle.carry, format!("the record is cut off: {why}"));
    }

    fn rows(&self) -> usize {
        self.run.rows
    }

    fn take(&mut self) -> Result<Option<Decoded>> {
        self.run.rows = 0;
        let (segments, origins) = self.run.runs.take();
        Ok(bulk::take(&self.run.schema, &mut self.run.batches)?.map(|records| Decoded { records, segments, origins }))
    }

    fn take_rejected(&mut self, into: &mut Vec<Rejected>) {
        into.append(&mut self.run.rejected);
    }
}

impl Straddle {
    fn new(header: bool) -> Straddle {
        Straddle { position: 0, carry: Vec::new(), scan: Scan::Start, skipping: false, layout: (!header).then_some(0) }
    }

    /// Skips to the end of the line in which a record became too long; returns the bytes used.
    fn skip(&mut self, bytes: &[u8]) -> usize {
        match memchr(b'\n', bytes) {
            Some(end) => {
                (self.skipping, self.scan) = (false, Scan::Start);
                end + 1
            }
            None => bytes.len(),
        }
    }
}

impl Scan {
    /// The position after the `\n` that ends the record in `bytes`; `None` if it does not end there.
    fn end(&mut self, bytes: &[u8], delimiter: u8) -> Option<usize> {
        let mut at = 0;
        loop {
            *self = match self {
                Scan::Quoted => {
                    at += memchr(QUOTE, &bytes[at..])? + 1;
                    Scan::Quote
                }
                Scan::Field => {
                    // Nothing but the next delimiter or line end matters.
                    let found = bytes[at..].iter().position(|&byte| byte == delimiter || byte == b'\n' || byte == b'\r')?;
                    at += found + 1;
                    match bytes[at - 1] {
                        b'\n' => {
                            *self = Scan::Start;
                            return Some(at);
                        }
                        _ => Scan::Start,
                    }
                }
                Scan::Start | Scan::Quote => {
                    let byte = *bytes.get(at)?;
                    at += 1;
                    match byte {
                        QUOTE => Scan::Quoted,
                        b'\n' => {
                            *self = Scan::Start;
                            return Some(at);
                        }
                        b'\r' => Scan::Start,
                        byte if byte == delimiter => Scan::Start,
                        _ => Scan::Field,
                    }
                }
            };
        }
    }
}

impl Run {
    /// Decodes the whole records that `bytes` begins with, or keeps the beginning of one; returns the bytes used.
    fn whole(&mut self, partition: PartitionId, straddle: &mut Straddle, bytes: &[u8]) -> usize {
        let Some(layout) = straddle.layout else { return 0 };
        let (mut frames, mut at) = (Vec::new(), 0);
        loop {
            let window = &bytes[at..bytes.len().min(at + self.max_line_bytes + 1)];
            straddle.scan = Scan::Start;
            match straddle.scan.end(window, self.delimiter) {
                Some(length) => {
                    if !is_blank(&window[..length]) {
                        frames.push(at..at + length);
                    }
                    at += length;
                }
                None => break,
            }
        }
        self.decode(partition, layout, straddle.position, bytes, &frames);
        if at == 0 { self.begin(partition, straddle, bytes) } else { at }
    }

    /// Keeps a record that does not end in `bytes`, unless it is too long; returns the bytes used.
    fn begin(&mut self, partition: PartitionId, straddle: &mut Straddle, bytes: &[u8]) -> usize {
        let max = self.max_line_bytes;
        if bytes.len() > max {
            self.reject(partition, straddle.position, &bytes[..max], too_long(max));
            straddle.skipping = true;
            return max;
        }
        straddle.carry.extend_from_slice(bytes);
        bytes.len()
    }

    /// Adds to the record that began in an earlier piece, or to the header; returns the bytes used.
    fn complete(&mut self, partition: PartitionId, straddle: &mut Straddle, bytes: &[u8]) -> Result<usize> {
        let start = straddle.position - straddle.carry.len() as u64;
        let room = self.max_line_bytes - straddle.carry.len();
        let window = &bytes[..bytes.len().min(room + 1)];
        let Some(used) = straddle.scan.end(window, self.delimiter) else {
            let used = window.len().min(room);
            straddle.carry.extend_from_slice(&bytes[..used]);
            if window.len() > room {
                let carry = std::mem::take(&mut straddle.carry);
                if straddle.layout.is_none() {
                    return Err(Error::decode(format!("the CSV header is longer than {} bytes", self.max_line_bytes)));
                }
                self.reject(partition, start, &carry, too_long(self.max_line_bytes));
                straddle.skipping = true;
            }
            return Ok(used);
        };
        straddle.carry.extend_from_slice(&bytes[..used]);
        match straddle.layout {
            _ if is_blank(&straddle.carry) => {}
            Some(layout) => self.decode(partition, layout, start, &straddle.carry, from_ref(&(0..straddle.carry.len()))),
            None => straddle.layout = Some(self.header(&straddle.carry)?),
        }
        straddle.carry.clear();
        Ok(used)
    }

    /// The layout that a header asks for.
    fn header(&mut self, record: &[u8]) -> Result<usize> {
        let names = split(record.strip_prefix(BYTE_ORDER_MARK).unwrap_or(record), self.delimiter);
        let layout = Layout::named(&self.schema, self.delimiter, &names)?;
        if let Some(known) = self.layouts.iter().position(|known| known.fields == layout.fields && known.columns == layout.columns) {
            return Ok(known);
        }
        self.layouts.push(layout);
        Ok(self.layouts.len() - 1)
    }

    /// Decodes records; `text` starts at the partition's offset `start`.
    fn decode(&mut self, partition: PartitionId, layout: usize, start: u64, text: &[u8], frames: &[Range<usize>]) {
        let before = self.batches.len();
        let mut bad = Vec::new();
        bulk::decode(&mut self.layouts[layout], text, frames, &mut self.batches, &mut bad);
        let rows = self.batches[before..].iter().map(RecordBatch::num_rows).sum();
        if rows > 0 {
            // Both in order, so that as long as every frame was bad they go in step.
            let is_bad = |index: usize, frame: &Range<usize>| bad.get(index).is_some_and(|bad: &BadLine| bad.start == frame.start);
            let first = frames.iter().enumerate().find(|(index, frame)| !is_bad(*index, frame)).map_or(0, |(_, frame)| frame.start);
            let all = || {
                let mut bad = bad.iter().peekable();
                let good = move |frame: &&Range<usize>| bad.next_if(|bad| bad.start == frame.start).is_none();
                frames.iter().filter(good).map(|frame| start + frame.start as u64)
            };
            self.runs.add(partition, rows, start + first as u64, all);
            self.rows += rows;
        }
        for BadLine { start: at, end, error } in bad {
            self.reject(partition, start + at as u64, text[at..end].trim_ascii_end(), error);
        }
    }

    fn reject(&mut self, partition: PartitionId, start: u64, record: &[u8], error: String) {
        self.rejected.push(Rejected::new(partition, start, record, error));
    }
}

impl Layout {
    /// Fields in the order of the columns.
    fn positional(schema: &SchemaRef, delimiter: u8) -> Layout {
        let columns = (0..schema.fields().len()).map(Some).collect();
        Layout { schema: schema.clone(), delimiter, fields: schema.clone(), columns, decoder: None }
    }

    /// Fields in the order of `names`.
    fn named(schema: &SchemaRef, delimiter: u8, names: &[String]) -> Result<Layout> {
        let mut columns = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            let position = names.iter().position(|name| name == field.name());
            if position.is_none() && !field.is_nullable() {
                let (name, found) = (field.name(), names.join("`, `"));
                return Err(Error::schema(format!("the CSV header has no column `{name}`, which may not be null; it has `{found}`")));
            }
            columns.push(position);
        }
        let field = |name: &String| schema.field_with_name(name).cloned().unwrap_or_else(|_| Field::new(name, DataType::Utf8, true));
        let fields = Arc::new(Schema::new(names.iter().map(field).collect::<Vec<_>>()));
        Ok(Layout { schema: schema.clone(), delimiter, fields, columns, decoder: None })
    }

    fn build(&self) -> ArrowDecoder {
        let projection = self.columns.iter().copied().flatten().collect();
        let builder = ReaderBuilder::new(self.fields.clone()).with_delimiter(self.delimiter).with_batch_size(GROUP);
        builder.with_projection(projection).build_decoder()
    }
}

impl Groups for Layout {
    fn rows(&mut self, text: &[u8], frames: &[Range<usize>]) -> Result<RecordBatch, String> {
        self.try_rows(text, frames).map_err(|message| match frames {
            // arrow-csv counts only as far as it has room.
            [frame] if message.contains("number of fields") => {
                let (found, wanted) = (split(&text[frame.clone()], self.delimiter).len(), self.fields.fields().len());
                format!("the record has {found} fields where {wanted} are expected")
            }
            _ => self.reword(message),
        })
    }
}

impl Layout {
    /// [`Groups::rows`] with arrow-csv's words.
    fn try_rows(&mut self, text: &[u8], frames: &[Range<usize>]) -> Result<RecordBatch, String> {
        let mut decoder = self.decoder.take().unwrap_or_else(|| self.build());
        for (index, frame) in frames.iter().enumerate() {
            let used = decoder.decode(&text[frame.clone()]).map_err(message)?;
            if used < frame.len() || GROUP - decoder.capacity() != index + 1 {
                return Err("the line holds more than one record or part of one".to_owned());
            }
        }
        let found = decoder.flush().map_err(message)?.ok_or("the line holds no record")?;
        self.decoder = Some(decoder);
        let mut found = found.columns().iter();
        let columns = self.schema.fields().iter().zip(&self.columns).map(|(field, position)| match position {
            Some(_) => found.next().cloned().unwrap_or_else(|| new_null_array(field.data_type(), frames.len())),
            None => new_null_array(field.data_type(), frames.len()),
        });
        RecordBatch::try_new(self.schema.clone(), columns.collect()).map_err(message)
    }

    /// arrow-csv's words with names of columns for their numbers, and without its line numbers, which count what it was given last.
    fn reword(&self, message: String) -> String {
        if let Some((what, rest)) = message.split_once(" for column ") {
            let number = rest.split(' ').next().and_then(|number| number.parse::<usize>().ok());
            if let Some(field) = number.and_then(|number| self.fields.fields().get(number)) {
                return format!("{what} for column `{}`", field.name());
            }
        }
        match message.split_once(" for line ") {
            Some((what, rest)) => {
                let rest = rest.trim_start_matches(|character: char| character.is_ascii_digit());
                format!("{what}{}", rest.replace(" and field", " in field"))
            }
            None => message,
        }
    }
}

/// Whether a record is an empty line.
fn is_blank(record: &[u8]) -> bool {
    record.iter().all(|byte| matches!(byte, b'\r' | b'\n'))
}

/// The fields of a record, without their quotes.
fn split(record: &[u8], delimiter: u8) -> Vec<String> {
    let (mut fields, mut field, mut scan) = (Vec::new(), Vec::new(), Scan::Start);
    for &byte in record.strip_suffix(b"\n").map_or(record, |record| record.strip_suffix(b"\r").unwrap_or(record)) {
        scan = match (scan, byte) {
            (Scan::Quoted, QUOTE) => Scan::Quote,
            (Scan::Quoted, _) => {
                field.push(byte);
                Scan::Quoted
            }
            (Scan::Start, QUOTE) => Scan::Quoted,
            (Scan::Quote, QUOTE) => {
                field.push(QUOTE);
                Scan::Quoted
            }
            (_, byte) if byte == delimiter => {
                fields.push(String::from_utf8_lossy(&std::mem::take(&mut field)).into_owned());
                Scan::Start
            }
            _ => {
                field.push(byte);
                Scan::Field
            }
        };
    }
    fields.push(String::from_utf8_lossy(&field).into_owned());
    fields
}
