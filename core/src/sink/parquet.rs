//! Results as Parquet: one file, or a folder of parts that DuckDB, Polars, Spark and the like read as one table.

use std::error::Error as StdError;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::Sink;
use super::publish::{self, Pending};
use crate::config;
use crate::error::{Error, Result};
use crate::time::SharedClock;

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
    schema: Option<SchemaRef>,
    /// The part that is being written.
    current: Option<Part>,
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

/// When a part is complete, and how it is written inside.
#[derive(Clone)]
pub struct ParquetOptions {
    /// Rows in one part.
    pub max_rows: usize,
    /// Bytes in one part, as compressed so far plus what the open row group is estimated to take; passed by at most one batch.
    pub max_bytes: usize,
    /// How long a part takes rows, by the given clock; looked at when a batch comes.
    pub max_age: Option<(Duration, SharedClock)>,
    /// Rows in one row group: what a reader decodes at once and can skip as a whole.
    pub row_group_rows: usize,
    /// zstd's level, 1 (fast) to 22 (small).
    pub zstd_level: i32,
}

impl Default for ParquetOptions {
    fn default() -> ParquetOptions {
        ParquetOptions {
            max_rows: config::PARQUET_PART_ROWS,
            max_bytes: config::PARQUET_PART_BYTES,
            max_age: None,
            row_group_rows: config::PARQUET_ROW_GROUP_ROWS,
            zstd_level: 1,
        }
    }
}

struct Part {
    writer: ArrowWriter<File>,
    pending: Pending,
    rows: usize,
    opened: u64,
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

    /// Sets when parts are complete and how they are written. For a single file only the row groups and the level matter.
    pub fn options(self, options: ParquetOptions) -> Parquet {
        Parquet { options, ..self }
    }

    fn new(destination: Destination) -> Parquet {
        Parquet { destination, options: ParquetOptions::default(), schema: None, current: None, complete: Vec::new(), next: 0, committed: false }
    }

    fn properties(&self) -> Result<WriterProperties> {
        let ParquetOptions { max_rows, max_bytes, row_group_rows, zstd_level, .. } = &self.options;
        for (name, value) in [("max_rows", max_rows), ("max_bytes", max_bytes), ("row_group_rows", row_group_rows)] {
            if *value == 0 {
                return Err(Error::config(format!("`{name}` is 0; it may be 1 or more")));
            }
        }
        let level = ZstdLevel::try_new(*zstd_level).map_err(|_| Error::config(format!("`zstd_level` is {zstd_level}; it may be 1 to 22")))?;
        Ok(WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_max_row_group_row_count(Some(*row_group_rows))
            .set_created_by(concat!("thalweg ", env!("CARGO_PKG_VERSION")).to_owned())
            .build())
    }

    /// Begins a part; a single file that was committed before begins with its old rows.
    fn begin(&mut self) -> Result<Part> {
        let schema = self.schema.clone().ok_or_else(not_open)?;
        let target = match &self.destination {
            Destination::Folder { path, run } => path.join(format!("{PART}{:05}-{run}{EXTENSION}", self.next)),
            Destination::File { path } => path.clone(),
        };
        self.next += 1;
        let pending = Pending::create(&target)?;
        let opened = self.options.max_age.as_ref().map_or(0, |(_, clock)| clock.monotonic());
        let writer = ArrowWriter::try_new(pending.handle()?, schema, Some(self.properties()?));
        let writer = writer.map_err(|error| failed("write", &target, error))?;
        let mut part = Part { writer, pending, rows: 0, opened };
        if matches!(self.destination, Destination::File { .. }) && self.committed {
            part.copy_committed()?;
        }
        Ok(part)
    }

    /// How many rows the part still takes.
    fn room(&self, part: &Part) -> usize {
        if matches!(self.destination, Destination::File { .. }) {
            return usize::MAX;
        }
        let too_large = part.writer.bytes_written() + part.writer.in_progress_size() >= self.options.max_bytes;
        let too_old = self.options.max_age.as_ref().is_some_and(|(age, clock)| u128::from(clock.monotonic() - part.opened) >= age.as_nanos());
        match part.rows > 0 && (too_large || too_old) {
            true => 0,
            false => self.options.max_rows.saturating_sub(part.rows),
        }
    }

    /// Writes rows into parts, each of which goes to `complete` when it is full. The part being written is in
    /// `current` only while it is sound: after a failure it is gone, with its hidden file.
    fn write_parts(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut from = 0;
        while from < batch.num_rows() {
            let mut part = match self.current.take() {
                Some(part) => part,
                None => self.begin()?,
            };
            let rows = self.room(&part).min(batch.num_rows() - from);
            if rows == 0 {
                self.complete.push(part.finish()?);
                continue;
            }
            part.write(&batch.slice(from, rows))?;
            from += rows;
            self.current = Some(part);
        }
        Ok(())
    }
}

impl Part {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.writer.write(batch).map_err(|error| failed("write", self.pending.target(), error))?;
        self.rows += batch.num_rows();
        Ok(())
    }

    fn copy_committed(&mut self) -> Result<()> {
        let path = self.pending.target().to_owned();
        let file = File::open(&path).map_err(|error| publish::failed("read", &path, error))?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|builder| builder.build());
        for batch in reader.map_err(|error| failed("read", &path, error))? {
            self.write(&batch?)?;
        }
        Ok(())
    }

    /// Completes the file and brings it to the disk, still hidden.
    fn finish(mut self) -> Result<Pending> {
        self.writer.finish().map_err(|error| failed("write", self.pending.target(), error))?;
        self.pending.sync()?;
        Ok(self.pending)
    }
}

impl Sink for Parquet {
    fn open(&mut self, schema: &SchemaRef) -> Result<()> {
        self.schema = Some(Arc::clone(schema));
        match &self.destination {
            Destination::Folder { path, .. } => {
                std::fs::create_dir_all(path).map_err(|error| publish::failed("create the folder", path, error))?;
                publish::remove_leftovers(path, |name| name.starts_with(PART) && name.ends_with(EXTENSION));
            }
            Destination::File { path } => {
                publish::remove_leftovers(publish::folder_of(path), |name| path.file_name().is_some_and(|own| own == name));
                self.committed = false;
            }
        }
        // Also tells whether the destination can be written and whether Parquet has all the types.
        self.current = Some(self.begin()?);
        Ok(())
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let written = self.write_parts(batch);
        if written.is_err() {
            // A part of the batch may be in complete parts: it must never be committed.
            self.abort();
        }
        written
    }

    fn commit(&mut self) -> Result<()> {
        if self.schema.is_none() {
            return Err(not_open());
        }
        let is_file = matches!(self.destination, Destination::File { .. });
        match self.current.take() {
            Some(part) if part.rows > 0 || (is_file && !self.committed) => self.complete.push(part.finish()?),
            empty => self.current = empty,
        }
        for part in self.complete.drain(..) {
            part.publish()?;
            self.committed = true;
        }
        Ok(())
    }

    fn abort(&mut self) {
        self.current = None;
        self.complete.clear();
        self.schema = None;
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

/// The error of the Parquet writer, with what the operating system said if it was that.
fn failed(doing: &str, path: &Path, error: ParquetError) -> Error {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            let same = io.raw_os_error().map_or_else(|| io::Error::new(io.kind(), io.to_string()), io::Error::from_raw_os_error);
            return publish::failed(doing, path, same);
        }
        cause = inner.source();
    }
    Error::connector(format!("cannot {doing} `{}`", path.display())).with_source(error)
}

fn not_open() -> Error {
    Error::config("the sink is not open: call `open` first, and again after `abort`")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};

    use super::*;
    use crate::time::{SimulatedClock, secs};

    fn batch(values: std::ops::Range<i64>) -> RecordBatch {
        let names: ArrayRef = Arc::new(StringArray::from_iter_values(values.clone().map(|n| format!("row {n}"))));
        RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from_iter_values(values)) as ArrayRef), ("name", names)]).unwrap()
    }

    fn open(mut sink: Parquet) -> Parquet {
        sink.open(&batch(0..0).schema()).unwrap();
        sink
    }

    fn listing(folder: &Path) -> (Vec<PathBuf>, usize) {
        let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let (mut visible, hidden): (Vec<_>, Vec<_>) = paths.partition(|path| path.extension().is_some_and(|end| end == "parquet"));
        visible.sort();
        (visible, hidden.len())
    }

    fn read(path: &Path) -> Vec<i64> {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
        reader.flat_map(|batch| batch.unwrap().column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
    }

    fn read_parts(folder: &Path) -> Vec<Vec<i64>> {
        listing(folder).0.iter().map(|path| read(path)).collect()
    }

    #[test]
    fn parts_appear_whole_at_the_commit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/out");
        let mut sink = open(Parquet::directory(&path).options(ParquetOptions { max_rows: 4, ..Default::default() }));
        sink.write(&batch(0..10)).unwrap();
        assert_eq!(listing(&path), (vec![], 3), "two complete parts and an open one, all hidden");
        sink.commit().unwrap();
        assert_eq!(read_parts(&path), [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9]]);
        sink.commit().unwrap();
        sink.write(&batch(10..11)).unwrap();
        sink.commit().unwrap();
        sink.write(&batch(11..20)).unwrap();
        sink.abort();
        assert_eq!(read_parts(&path), [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9], vec![10]]);
        assert_eq!(listing(&path).1, 0);
        let name = listing(&path).0[0].file_name().unwrap().to_str().unwrap().to_owned();
        assert!(name.starts_with("part-00000-") && name.len() == "part-00000-0123456789abcdef.parquet".len(), "{name}");
    }

    #[test]
    fn a_run_without_rows_leaves_no_part() {
        let folder = tempfile::tempdir().unwrap();
        let mut sink = open(Parquet::directory(folder.path()));
        sink.write(&batch(0..0)).unwrap();
        sink.commit().unwrap();
        drop(sink);
        assert_eq!(listing(folder.path()), (vec![], 0));
    }

    #[test]
    fn parts_are_rolled_by_bytes_and_age() {
        let folder = tempfile::tempdir().unwrap();
        let mut by_bytes = open(Parquet::directory(folder.path()).options(ParquetOptions { max_bytes: 1, ..Default::default() }));
        for n in 0..3 {
            by_bytes.write(&batch(n..n + 1)).unwrap();
        }
        by_bytes.commit().unwrap();
        assert_eq!(read_parts(folder.path()), [[0], [1], [2]]);

        let folder = tempfile::tempdir().unwrap();
        let clock = SimulatedClock::shared();
        let max_age = Some((secs(10), clock.clone() as SharedClock));
        let mut by_age = open(Parquet::directory(folder.path()).options(ParquetOptions { max_age, ..Default::default() }));
        for n in 0..4 {
            by_age.write(&batch(n..n + 1)).unwrap();
            clock.advance(secs(5));
        }
        by_age.commit().unwrap();
        assert_eq!(read_parts(folder.path()), [[0, 1], [2, 3]]);
    }

    #[test]
    fn a_single_file_holds_all_commits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.parquet");
        let mut sink = open(Parquet::file(&path));
        sink.write(&batch(0..2)).unwrap();
        assert!(!path.exists());
        sink.commit().unwrap();
        sink.write(&batch(2..4)).unwrap();
        assert_eq!(read(&path), [0, 1]);
        sink.commit().unwrap();
        sink.commit().unwrap();
        sink.write(&batch(4..5)).unwrap();
        drop(sink);
        assert_eq!(read(&path), [0, 1, 2, 3]);
        open(Parquet::file(&path)).commit().unwrap();
        assert_eq!(read(&path), [0; 0], "a new run replaces the file, with a schema even if without rows");
        assert_eq!(listing(folder.path()), (vec![path], 0));
    }

    #[test]
    fn options_out_of_range_and_calls_out_of_order_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let with = |options| Parquet::directory(folder.path()).options(options).open(&batch(0..0).schema()).unwrap_err().to_string();
        assert_eq!(with(ParquetOptions { max_rows: 0, ..Default::default() }), "`max_rows` is 0; it may be 1 or more");
        assert_eq!(with(ParquetOptions { zstd_level: 40, ..Default::default() }), "`zstd_level` is 40; it may be 1 to 22");
        assert!(Parquet::directory(folder.path()).write(&batch(0..1)).unwrap_err().to_string().contains("not open"));
        assert!(Parquet::directory(folder.path()).commit().is_err());
        let other = Arc::new(Schema::new(vec![Field::new("other", DataType::Utf8, true)]));
        let mut sink = open(Parquet::directory(folder.path()));
        let wrong = RecordBatch::new_empty(other);
        assert!(sink.write(&wrong).is_ok(), "no rows, no matter");
        drop(sink);
        assert_eq!(listing(folder.path()), (vec![], 0));
        assert!(Parquet::directory("/dev/null/out").open(&batch(0..0).schema()).unwrap_err().to_string().contains("`/dev/null/out`"));
    }

    /// Runs the test `name` again in a process of its own whose working folder is `folder`, behind `before` in a shell.
    fn rerun(name: &str, folder: &Path, before: &str) -> bool {
        std::fs::write(folder.join(name), "").unwrap();
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("{before}; exec \"$0\" --exact sink::parquet::tests::{name} --test-threads 1"));
        shell.arg(std::env::current_exe().unwrap()).current_dir(folder).output().unwrap().status.success()
    }

    #[test]
    fn a_full_disk_keeps_what_was_committed() {
        let values = |step: i64| batch(0..2_000).column(0).as_primitive::<Int64Type>().unary::<_, Int64Type>(|n| (n + step) * 0x9e37_79b9_7f4a_7c15_u64 as i64);
        let random = |step| RecordBatch::try_from_iter([("n", Arc::new(values(step)) as ArrayRef)]).unwrap();
        if Path::new("a_full_disk_keeps_what_was_committed").exists() {
            let mut sink = Parquet::directory("out").options(ParquetOptions { row_group_rows: 2_000, ..Default::default() });
            sink.open(&random(0).schema()).unwrap();
            sink.write(&random(0)).unwrap();
            sink.commit().unwrap();
            let error = (1..1_000).find_map(|step| sink.write(&random(step)).err()).unwrap().to_string();
            assert!(error.contains("cannot write `out/part-00001-") && error.contains("no space is left"), "{error}");
            assert!(sink.commit().is_err(), "the run is over");
            assert_eq!(listing(Path::new("out")).1, 0, "the unfinished part was removed at once");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        // A limit on the size of a file fails a write as a full disk does, but needs no privilege to set up.
        assert!(rerun("a_full_disk_keeps_what_was_committed", folder.path(), "trap '' XFSZ; ulimit -f 256"));
        assert_eq!(read_parts(&folder.path().join("out")), [values(0).values().to_vec()]);
    }

    #[test]
    fn a_crash_leaves_commits_and_the_next_run_cleans_up() {
        if Path::new("a_crash_leaves_commits_and_the_next_run_cleans_up").exists() {
            let mut sink = open(Parquet::directory("out").options(ParquetOptions { max_rows: 2, ..Default::default() }));
            sink.write(&batch(0..2)).unwrap();
            sink.commit().unwrap();
            sink.write(&batch(2..7)).unwrap();
            std::process::abort();
        }
        let folder = tempfile::tempdir().unwrap();
        assert!(!rerun("a_crash_leaves_commits_and_the_next_run_cleans_up", folder.path(), "ulimit -c 0"));
        let out = folder.path().join("out");
        assert_eq!((read_parts(&out), listing(&out).1), (vec![vec![0, 1]], 3));
        let mut next = open(Parquet::directory(&out));
        assert_eq!(listing(&out).1, 1, "its own");
        next.write(&batch(2..7)).unwrap();
        next.commit().unwrap();
        let mut rows = read_parts(&out).concat();
        rows.sort_unstable();
        assert_eq!(rows, [0, 1, 2, 3, 4, 5, 6]);
    }
}
