//! Results as Parquet: one file, or a folder of parts that DuckDB, Polars, Spark and the like read as one table.

mod part;
mod partition;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use super::Sink;
use super::publish::{self, Pending};
use crate::batch::column_index;
use crate::config;
use crate::error::{Error, Result};
use crate::time::SharedClock;
use part::{ORDER, Part, failed};
pub use partition::PartitionBy;
use partition::Partitioner;

/// The beginning of a part's name; `part-<number>-<run>.parquet`.
const PART: &str = "part-";
const EXTENSION: &str = ".parquet";

/// Writes Parquet files with zstd compression.
///
/// Files are written under hidden names that `*.parquet` does not match, completed, brought to the disk and then
/// renamed, so that a reader never sees half a file. Hidden files of writers that have died are removed by the
/// next one that opens the same destination.
///
/// **Guarantee:** exactly once within a run, by atomic publication: rows appear at the commit, each file whole; an abort, a
/// crash or a full disk leaves what was committed before. Several parts of one commit appear one after the other.
/// A run that is restarted from a checkpoint taken before its last commit publishes those rows again as new parts.
pub struct Parquet {
    destination: Destination,
    options: ParquetOptions,
    layout: Option<Layout>,
    /// The parts that are being written, by folder below the destination.
    open: BTreeMap<String, Part>,
    /// Parts that are complete and wait for the commit.
    complete: Vec<Pending>,
    /// Number of the next part.
    next: u64,
    /// Rows of the single file that are committed; none before its first commit.
    committed: bool,
}

enum Destination {
    Folder { path: PathBuf, run: String },
    File { path: PathBuf },
}

/// When a part is complete, which folder it is in, and how it is written inside.
#[derive(Clone)]
pub struct ParquetOptions {
    /// Rows in one part.
    pub max_rows: usize,
    /// Bytes in one part, as compressed so far plus what the open row group is estimated to take; passed by at most one batch. Rows that
    /// wait to be sorted count as they are in memory.
    pub max_bytes: usize,
    /// How long a part takes rows, by the given clock; looked at when a batch comes.
    pub max_age: Option<(Duration, SharedClock)>,
    /// Rows in one row group: what a reader decodes at once and can skip as a whole.
    pub row_group_rows: usize,
    /// zstd's level, 1 (fast) to 22 (small).
    pub zstd_level: i32,
    /// The folders that rows are parted by, the outermost first, so that a reader who asks for some days or cities opens no other files.
    pub partition_by: Vec<PartitionBy>,
    /// Columns that the rows of each part are sorted by, so that readers skip row groups and pages by their statistics. A part is held in
    /// memory until it is complete then.
    pub sort_by: Vec<String>,
    /// Columns of which each row group has a bloom filter, so that a reader who looks for one value skips those without it.
    pub bloom_filters: Vec<String>,
}

impl Default for ParquetOptions {
    fn default() -> ParquetOptions {
        ParquetOptions {
            max_rows: config::PARQUET_PART_ROWS,
            max_bytes: config::PARQUET_PART_BYTES,
            max_age: None,
            row_group_rows: config::PARQUET_ROW_GROUP_ROWS,
            zstd_level: 1,
            partition_by: Vec::new(),
            sort_by: Vec::new(),
            bloom_filters: Vec::new(),
        }
    }
}

/// What the options mean for the columns that come.
struct Layout {
    /// The columns of the files.
    schema: SchemaRef,
    partitioner: Option<Partitioner>,
    sort_by: Vec<usize>,
    properties: WriterProperties,
}

impl Layout {
    fn new(options: &ParquetOptions, schema: &SchemaRef) -> Result<Layout> {
        let partitioner = match options.partition_by.as_slice() {
            [] => None,
            by => Some(Partitioner::new(by, schema)?),
        };
        let schema = partitioner.as_ref().map_or_else(|| Ok(Arc::clone(schema)), |partitioner| partitioner.schema(schema))?;
        let sort_by = options.sort_by.iter().map(|name| column_index(&schema, name)).collect::<Result<Vec<_>>>()?;
        let properties = options.properties(&schema, &sort_by)?;
        Ok(Layout { schema, partitioner, sort_by, properties })
    }
}

impl ParquetOptions {
    fn properties(&self, schema: &Schema, sort_by: &[usize]) -> Result<WriterProperties> {
        let ParquetOptions { max_rows, max_bytes, row_group_rows, zstd_level, .. } = self;
        for (name, value) in [("max_rows", max_rows), ("max_bytes", max_bytes), ("row_group_rows", row_group_rows)] {
            if *value == 0 {
                return Err(Error::config(format!("`{name}` is 0; it may be 1 or more")));
            }
        }
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

impl Parquet {
    /// Adds part files to the folder at `path`, which is created if missing. Their names are unique, so that
    /// several pipelines may write to one folder.
    pub fn directory(path: impl Into<PathBuf>) -> Parquet {
        Parquet::new(Destination::Folder { path: path.into(), run: random_name() })
    }

    /// Writes one file, replacing one that was there before the run. A file of Parquet cannot grow: every commit
    /// after the first writes it anew with all its rows. For streams that commit often, use [`Parquet::directory`].
    pub fn file(path: impl Into<PathBuf>) -> Parquet {
        Parquet::new(Destination::File { path: path.into() })
    }

    /// Sets when parts are complete and how they are written. A single file is one part, whatever its size and age, and cannot be
    /// partitioned.
    pub fn options(self, options: ParquetOptions) -> Parquet {
        Parquet { options, ..self }
    }

    fn new(destination: Destination) -> Parquet {
        Parquet {
            destination,
            options: ParquetOptions::default(),
            layout: None,
            open: BTreeMap::new(),
            complete: Vec::new(),
            next: 0,
            committed: false,
        }
    }

    fn is_file(&self) -> bool {
        matches!(self.destination, Destination::File { .. })
    }

    /// Begins a part in a folder below the destination; a single file that was committed before begins with its old rows.
    fn begin(&mut self, folder: &str) -> Result<Part> {
        let layout = self.layout.as_ref().ok_or_else(not_open)?;
        let target = match &self.destination {
            Destination::Folder { path, run } => {
                if !folder.is_empty() {
                    publish::create_folders(path, folder)?;
                }
                path.join(folder).join(format!("{PART}{:05}-{run}{EXTENSION}", self.next))
            }
            Destination::File { path } => path.clone(),
        };
        self.next += 1;
        let pending = Pending::create(&target)?;
        let opened = self.options.max_age.as_ref().map_or(0, |(_, clock)| clock.monotonic());
        let writer = ArrowWriter::try_new(pending.handle()?, Arc::clone(&layout.schema), Some(layout.properties.clone()));
        let writer = writer.map_err(|error| failed("write", &target, error))?;
        let mut part = Part::new(writer, pending, opened, &layout.sort_by);
        if self.is_file() && self.committed {
            part.copy_committed()?;
        }
        Ok(part)
    }

    /// How many rows the part still takes.
    fn room(&self, part: &Part) -> usize {
        if self.is_file() {
            return usize::MAX;
        }
        let too_large = part.file_bytes() >= self.options.max_bytes;
        let too_old =
            self.options.max_age.as_ref().is_some_and(|(age, clock)| u128::from(clock.monotonic() - part.opened) >= age.as_nanos());
        match part.rows > 0 && (too_large || too_old) {
            true => 0,
            false => self.options.max_rows.saturating_sub(part.rows),
        }
    }

    /// Writes rows into parts of a folder, each of which goes to `complete` when it is full. The part being written is in
    /// `open` only while it is sound: after a failure it is gone, with its hidden file.
    fn write_parts(&mut self, folder: &str, batch: &RecordBatch) -> Result<()> {
        let mut from = 0;
        while from < batch.num_rows() {
            let mut part = match self.open.remove(folder) {
                Some(part) => part,
                None => self.begin(folder)?,
            };
            let rows = self.room(&part).min(batch.num_rows() - from);
            if rows == 0 {
                self.complete.push(part.finish()?);
                continue;
            }
            part.write(&batch.slice(from, rows))?;
            from += rows;
            self.open.insert(folder.to_owned(), part);
        }
        Ok(())
    }

    /// Writes rows into the parts of their folders.
    fn write_rows(&mut self, batch: &RecordBatch) -> Result<()> {
        let Some(partitioner) = self.layout.as_ref().ok_or_else(not_open)?.partitioner.as_ref() else {
            return self.write_parts("", batch);
        };
        for (folder, rows) in partitioner.split(batch)? {
            self.write_parts(&folder, &rows)?;
            self.bound()?;
        }
        Ok(())
    }

    /// Completes parts, the largest first, while more are open or hold more memory than may be.
    fn bound(&mut self) -> Result<()> {
        let is_over = |open: &BTreeMap<String, Part>| {
            open.len() > config::PARQUET_OPEN_PARTS || open.values().map(Part::memory_bytes).sum::<usize>() > config::PARQUET_OPEN_BYTES
        };
        while self.open.len() > 1 && is_over(&self.open) {
            let largest = self.open.iter().max_by_key(|(_, part)| part.memory_bytes()).map(|(folder, _)| folder.clone());
            if let Some(part) = largest.and_then(|folder| self.open.remove(&folder)) {
                self.complete.push(part.finish()?);
            }
        }
        Ok(())
    }

    /// Makes the destination ready, and removes what dead writers have left there.
    fn prepare(&mut self) -> Result<()> {
        match &self.destination {
            Destination::Folder { path, .. } => {
                std::fs::create_dir_all(path).map_err(|error| publish::failed("create the folder", path, error))?;
                let ours = |name: &str| name.starts_with(PART) && name.ends_with(EXTENSION);
                publish::remove_leftovers(path, self.options.partition_by.len(), &ours);
            }
            Destination::File { .. } if !self.options.partition_by.is_empty() => {
                return Err(Error::config("a single file cannot be partitioned; give a folder"));
            }
            Destination::File { path } => {
                let ours = |name: &str| path.file_name().is_some_and(|own| own == name);
                publish::remove_leftovers(publish::folder_of(path), 0, &ours);
                self.committed = false;
            }
        }
        Ok(())
    }
}

impl Sink for Parquet {
    fn open(&mut self, schema: &SchemaRef) -> Result<()> {
        self.layout = Some(Layout::new(&self.options, schema)?);
        self.prepare()?;
        // Also tells whether the destination can be written and whether Parquet has all the types.
        let first = self.begin("")?;
        if self.options.partition_by.is_empty() {
            self.open.insert(String::new(), first);
        }
        Ok(())
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let written = self.write_rows(batch);
        if written.is_err() {
            // A part of the batch may be in complete parts: it must never be committed.
            self.abort();
        }
        written
    }

    fn commit(&mut self) -> Result<()> {
        if self.layout.is_none() {
            return Err(not_open());
        }
        let due = |part: &Part| part.rows > 0 || (self.is_file() && !self.committed);
        let folders: Vec<String> = self.open.iter().filter(|(_, part)| due(part)).map(|(folder, _)| folder.clone()).collect();
        for part in folders.iter().filter_map(|folder| self.open.remove(folder)).collect::<Vec<_>>() {
            self.complete.push(part.finish()?);
        }
        for part in self.complete.drain(..) {
            part.publish()?;
            self.committed = true;
        }
        Ok(())
    }

    fn abort(&mut self) {
        self.open.clear();
        self.complete.clear();
        self.layout = None;
    }
}

impl std::fmt::Debug for Parquet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.destination {
            Destination::Folder { path, .. } => write!(f, "Parquet parts in {}", path.display()),
            Destination::File { path } => write!(f, "Parquet in {}", path.display()),
        }
    }
}

/// Sixteen digits that no other run has, from the seed that the standard library draws for its hash maps.
fn random_name() -> String {
    use std::hash::{BuildHasher, RandomState};
    format!("{:016x}", RandomState::new().hash_one(std::process::id()))
}

fn not_open() -> Error {
    Error::config("the sink is not open: call `open` first, and again after `abort`")
}

#[cfg(test)]
mod tests;
