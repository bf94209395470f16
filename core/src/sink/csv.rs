//! Results as CSV, in a folder of parts.

use std::path::PathBuf;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::Sink;
use super::parts::{Encoder, Failure, Format, LocalFolder, Output, PartOptions, Parts, Place};
use super::text::Text;
use crate::error::Result;
use crate::format::compression::Compression;
use crate::format::values::csv;

/// Adds files of CSV to a folder.
///
/// Each begins with the names of the columns, unless told otherwise. Null is written as nothing, and so is the empty text; timestamps
/// as RFC 3339, those without a time zone without one (`2024-01-31T12:00:00.250`); bytes as hexadecimal digits.
///
/// **Guarantee:** exactly once within a run, by atomic publication, as [`Parquet`](super::Parquet): rows appear at the commit, each file whole.
pub struct Csv(Parts<Rows>);

/// When a part is complete, which folder it is in, and how it is written inside.
#[derive(Clone)]
pub struct CsvOptions {
    /// When a part is complete, and which folder it is in.
    pub parts: PartOptions,
    /// What separates the fields: an ASCII character.
    pub delimiter: u8,
    /// Whether each part begins with the names of the columns.
    pub header: bool,
    /// What parts are compressed with.
    pub compression: Compression,
}

impl Default for CsvOptions {
    fn default() -> CsvOptions {
        CsvOptions { parts: PartOptions::default(), delimiter: b',', header: true, compression: Compression::None }
    }
}

impl Csv {
    /// Adds part files to the folder at `path`, which is created if missing. Their names are unique, so that
    /// several pipelines may write to one folder.
    pub fn directory(path: impl Into<PathBuf>) -> Csv {
        Csv::at(LocalFolder::new(path))
    }

    /// Adds part files to a place, as [`Csv::directory`]: a prefix of an object store.
    pub fn at(place: impl Place + 'static) -> Csv {
        Csv(Parts::new(place, Rows(CsvOptions::default())))
    }

    /// Sets when parts are complete and how they are written.
    pub fn options(mut self, options: CsvOptions) -> Csv {
        self.0.options = options.parts.clone();
        self.0.format = Rows(options);
        self
    }
}

impl Sink for Csv {
    fn open(&mut self, schema: &SchemaRef) -> Result<()> {
        self.0.open(schema)
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.0.write(batch)
    }

    fn commit(&mut self) -> Result<()> {
        self.0.commit()
    }

    fn abort(&mut self) {
        self.0.abort();
    }
}

impl std::fmt::Debug for Csv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CSV parts in {}", self.0.describe())
    }
}

/// The format.
struct Rows(CsvOptions);

impl Format for Rows {
    fn extension(&self) -> &'static str {
        match self.0.compression {
            Compression::None => ".csv",
            Compression::Gzip => ".csv.gz",
            Compression::Zstd => ".csv.zst",
            Compression::Lz4 => ".csv.lz4",
        }
    }

    fn prepare(&mut self, schema: &SchemaRef, _sort_by: &[usize]) -> Result<()> {
        csv::check(schema, self.0.delimiter)
    }

    fn begin(&self, schema: &SchemaRef, output: Output) -> Result<Box<dyn Encoder>, Failure> {
        let CsvOptions { delimiter, header, compression, .. } = self.0;
        let mut file = Lines { text: Text::new(output, compression)?, delimiter, rows: Vec::new() };
        if header {
            file.encode(&RecordBatch::new_empty(SchemaRef::clone(schema)), true)?;
        }
        Ok(Box::new(file))
    }
}

/// One file.
struct Lines {
    text: Text,
    delimiter: u8,
    /// The lines of one batch.
    rows: Vec<u8>,
}

impl Lines {
    fn encode(&mut self, batch: &RecordBatch, header: bool) -> Result<(), Failure> {
        self.rows.clear();
        csv::write(batch, header, self.delimiter, &mut self.rows)?;
        Ok(self.text.write(&self.rows)?)
    }
}

impl Encoder for Lines {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), Failure> {
        self.encode(batch, false)
    }

    fn output(&self) -> &Output {
        self.text.output()
    }

    fn finish(self: Box<Self>) -> Result<Output, Failure> {
        Ok(self.text.finish()?)
    }
}
