//! Results as Parquet: one file, or a folder of parts that DuckDB, Polars, Spark and the like read as one table.

mod file;

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use super::Sink;
use super::parts::{Encoder, Failure, Format, LocalFolder, ORDER, Output, PartOptions, Parts, Place, positive};
use crate::batch::column_index;
use crate::config;
use crate::error::{Error, Result};
use file::SingleFile;

/// Writes Parquet files with zstd compression.
///
/// Files are written under hidden names that `*.parquet` does not match, completed, brought to the disk and then
/// renamed, so that a reader never sees half a file. Hidden files of writers that have died are removed by the
/// next one that opens the same destination.
///
/// **Guarantee:** exactly once within a run, by atomic publication: rows appear at the commit, each file whole; an abort, a
/// crash or a full disk leaves what was committed before. Several parts of one commit appear one after the other.
/// A run that is restarted from a checkpoint taken before its last commit publishes those rows again as new parts.
pub struct Parquet(Destination);

enum Destination {
    Parts(Parts<Columns>),
    File(SingleFile),
}

/// When a part is complete, which folder it is in, and how it is written inside.
#[derive(Clone)]
pub struct ParquetOptions {
    /// When a part is complete, and which folder it is in. Readers skip row groups and pages of sorted parts by their statistics.
    pub parts: PartOptions,
    /// Rows in one row group: what a reader decodes at once and can skip as a whole.
    pub row_group_rows: usize,
    /// zstd's level, 1 (fast) to 22 (small).
    pub zstd_level: i32,
    /// Columns of which each row group has a bloom filter, so that a reader who looks for one value skips those without it.
    pub bloom_filters: Vec<String>,
}

impl Default for ParquetOptions {
    fn default() -> ParquetOptions {
        ParquetOptions {
            parts: PartOptions::default(),
            row_group_rows: config::PARQUET_ROW_GROUP_ROWS,
            zstd_level: 1,
            bloom_filters: Vec::new(),
        }
    }
}

impl Parquet {
    /// Adds part files to the folder at `path`, which is created if missing. Their names are unique, so that
    /// several pipelines may write to one folder.
    pub fn directory(path: impl Into<PathBuf>) -> Parquet {
        Parquet::at(LocalFolder::new(path))
    }

    /// Adds part files to a place, as [`Parquet::directory`]: a prefix of an object store.
    pub fn at(place: impl Place + 'static) -> Parquet {
        Parquet(Destination::Parts(Parts::new(place, Columns::default())))
    }

    /// Writes one file, replacing one that was there before the run. A file of Parquet cannot grow: every commit
    /// after the first writes it anew with all its rows. For streams that commit often, use [`Parquet::directory`].
    pub fn file(path: impl Into<PathBuf>) -> Parquet {
        Parquet(Destination::File(SingleFile::new(path.into())))
    }

    /// Sets when parts are complete and how they are written. A single file is one part, whatever its size and age, and cannot be
    /// partitioned.
    pub fn options(mut self, options: ParquetOptions) -> Parquet {
        match &mut self.0 {
            Destination::Parts(parts) => {
                parts.options = options.parts.clone();
                parts.format = Columns { options, properties: WriterProperties::default() };
            }
            Destination::File(file) => file.set(options),
        }
        self
    }

    fn sink(&mut self) -> &mut dyn Sink {
        match &mut self.0 {
            Destination::Parts(parts) => parts,
            Destination::File(file) => file,
        }
    }
}

impl Sink for Parquet {
    fn open(&mut self, schema: &SchemaRef) -> Result<()> {
        self.sink().open(schema)
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.sink().write(batch)
    }

    fn commit(&mut self) -> Result<()> {
        self.sink().commit()
    }

    fn abort(&mut self) {
        self.sink().abort();
    }
}

impl std::fmt::Debug for Parquet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Destination::Parts(parts) => write!(f, "Parquet parts in {}", parts.describe()),
            Destination::File(file) => write!(f, "Parquet in {}", file.path().display()),
        }
    }
}

/// The format.
#[derive(Default)]
struct Columns {
    options: ParquetOptions,
    properties: WriterProperties,
}

impl Format for Columns {
    fn extension(&self) -> &'static str {
        ".parquet"
    }

    fn prepare(&mut self, schema: &SchemaRef, sort_by: &[usize]) -> Result<()> {
        self.properties = self.options.properties(schema, sort_by)?;
        Ok(())
    }

    fn begin(&self, schema: &SchemaRef, output: Output) -> Result<Box<dyn Encoder>, Failure> {
        Ok(Box::new(ColumnWriter(ArrowWriter::try_new(output, Arc::clone(schema), Some(self.properties.clone()))?)))
    }
}

impl ParquetOptions {
    fn properties(&self, schema: &Schema, sort_by: &[usize]) -> Result<WriterProperties> {
        let ParquetOptions { row_group_rows, zstd_level, .. } = self;
        positive("row_group_rows", *row_group_rows)?;
        let level =
            ZstdLevel::try_new(*zstd_level).map_err(|_| Error::config(format!("`zstd_level` is {zstd_level}; it may be 1 to 22")))?;
        let builder = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_max_row_group_row_count(Some(*row_group_rows))
            .set_sorting_columns(sorting(schema, sort_by))
            .set_created_by(concat!("thalweg ", env!("CARGO_PKG_VERSION")).to_owned());
        Ok(self.bloom_filters.iter().try_fold(builder, |builder, name| bloom_filter(builder, schema, name))?.build())
    }
}

/// The note in a file that it is sorted, which counts leaves; none where columns have several of them.
fn sorting(schema: &Schema, by: &[usize]) -> Option<Vec<SortingColumn>> {
    let flat = schema.fields().iter().all(|field| !field.data_type().is_nested());
    let column = |&place: &usize| SortingColumn { column_idx: place as i32, descending: ORDER.descending, nulls_first: ORDER.nulls_first };
    (flat && !by.is_empty()).then(|| by.iter().map(column).collect())
}

fn bloom_filter(builder: WriterPropertiesBuilder, schema: &Schema, name: &str) -> Result<WriterPropertiesBuilder> {
    match schema.field(column_index(schema, name)?).data_type() {
        nested if nested.is_nested() => Err(Error::schema(format!("`{name}` is of type {nested}, which takes no bloom filter"))),
        DataType::Boolean => Err(Error::schema(format!("`{name}` is of two values, for which no bloom filter is made"))),
        _ => Ok(builder.set_column_bloom_filter_enabled(ColumnPath::from(name), true)),
    }
}

/// One file.
struct ColumnWriter(ArrowWriter<Output>);

impl Encoder for ColumnWriter {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), Failure> {
        Ok(self.0.write(batch)?)
    }

    fn output(&self) -> &Output {
        self.0.inner()
    }

    fn file_bytes(&self) -> usize {
        self.0.bytes_written() + self.0.in_progress_size()
    }

    fn memory_bytes(&self) -> usize {
        self.0.memory_size() + self.output().memory_bytes()
    }

    fn finish(mut self: Box<Self>) -> Result<Output, Failure> {
        // `into_inner` would turn what the operating system says into text.
        self.0.finish()?;
        Ok(self.0.inner_mut().take())
    }
}

#[cfg(test)]
mod tests;
