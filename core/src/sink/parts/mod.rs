//! Folders of files that are complete at some size or age, parted by the values of columns, and published whole: the same for every format.

mod local;
mod part;
mod partition;

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::Sink;
use super::publish;
use crate::batch::column_index;
use crate::config;
use crate::error::{Error, Result};
use crate::time::SharedClock;
pub(super) use local::LocalFolder;
pub(super) use part::{ORDER, Part};
pub use partition::PartitionBy;
use partition::Partitioner;

/// The beginning of a part's name; `part-<number>-<run>.<extension>`.
const PART: &str = "part-";

/// When a part is complete, and which folder it is in: options that all formats share.
#[derive(Clone)]
pub struct PartOptions {
    /// Rows in one part.
    pub max_rows: usize,
    /// Bytes in one part, as compressed so far plus what is not written yet is estimated to take; passed by at most one batch and what the
    /// compressor holds. Rows that wait to be sorted count as they are in memory.
    pub max_bytes: usize,
    /// How long a part takes rows, by the given clock; looked at when a batch comes.
    pub max_age: Option<(Duration, SharedClock)>,
    /// The folders that rows are parted by, the outermost first, so that a reader who asks for some days or cities opens no other files.
    pub partition_by: Vec<PartitionBy>,
    /// Columns that the rows of each part are sorted by. A part is held in memory until it is complete then.
    pub sort_by: Vec<String>,
}

impl Default for PartOptions {
    fn default() -> PartOptions {
        PartOptions {
            max_rows: config::PART_ROWS,
            max_bytes: config::PART_BYTES,
            max_age: None,
            partition_by: Vec::new(),
            sort_by: Vec::new(),
        }
    }
}

/// Where parts are put: a folder of this machine or a prefix of an object store.
pub trait Place: Send {
    /// Makes the place ready for parts that begin with `part-` and end in `extension`, so many levels below it, and removes what
    /// dead writers have left of such, where that can be told.
    ///
    /// # Errors
    /// If nothing can be written there.
    fn prepare(&mut self, extension: &str, levels: usize) -> Result<()>;

    /// Begins a part at `path` below the place, whose levels are parted by `/`.
    ///
    /// # Errors
    /// If it cannot be begun.
    fn begin(&mut self, path: &str) -> Result<Box<dyn PendingPart>>;

    /// All parts of a commit were [published](PendingPart::publish): returns when they are seen, if they are not yet.
    ///
    /// # Errors
    /// If one of them cannot be shown; others may be seen.
    fn settle(&mut self) -> Result<()> {
        Ok(())
    }

    /// The place in words, without credentials.
    fn describe(&self) -> String;
}

/// A part on its way: nobody sees it before it is published. Dropped before that, nothing of it is left. Errors of its writes may hold an
/// [`Error`], which then says all there is to say.
pub trait PendingPart: Write + Send {
    /// Where it will be, without credentials.
    fn location(&self) -> String;

    /// Bytes of it that are in memory.
    fn memory_bytes(&self) -> usize;

    /// All bytes are written: brings them where they are safe, still unseen. They may stay in memory if they are few.
    ///
    /// # Errors
    /// If they do not get there.
    fn complete(&mut self) -> Result<()>;

    /// Brings to where they are safe what [`PendingPart::complete`] has left in memory.
    ///
    /// # Errors
    /// If it does not get there.
    fn flush_memory(&mut self) -> Result<()>;

    /// Shows the complete part under its name, whole, now or when the place [settles](Place::settle).
    ///
    /// # Errors
    /// If it cannot be shown; it is not, then.
    fn publish(self: Box<Self>) -> Result<()>;
}

/// A part with the number of bytes written to it.
pub(super) struct Output {
    /// None once it was taken.
    part: Option<Box<dyn PendingPart>>,
    bytes: usize,
}

impl Output {
    pub fn new(part: Box<dyn PendingPart>) -> Output {
        Output { part: Some(part), bytes: 0 }
    }

    /// Takes it from a writer that keeps what it writes to. Nothing can be written through what is left.
    pub fn take(&mut self) -> Output {
        Output { part: self.part.take(), bytes: self.bytes }
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes in memory.
    pub fn memory_bytes(&self) -> usize {
        self.part.as_ref().map_or(0, |part| part.memory_bytes())
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let part = self.part.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        let written = part.write(bytes)?;
        self.bytes += written;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.part.as_mut().map_or(Ok(()), |part| part.flush())
    }
}

/// Anything that a format's writer fails with.
pub(super) type Failure = Box<dyn StdError + Send + Sync>;

/// A format of files.
pub(super) trait Format: Send {
    /// The end of a part's name, with its dot.
    fn extension(&self) -> &'static str;

    /// Checks the options, and whether there is a way to write columns of `schema`, sorted by those at `sort_by`.
    ///
    /// # Errors
    /// If not.
    fn prepare(&mut self, schema: &SchemaRef, sort_by: &[usize]) -> Result<()>;

    /// Begins a file.
    fn begin(&self, schema: &SchemaRef, output: Output) -> Result<Box<dyn Encoder>, Failure>;
}

/// One file of a format that is being written. After a failure nothing more may be asked of it.
pub(super) trait Encoder: Send {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), Failure>;

    fn output(&self) -> &Output;

    /// Bytes of the file, written or estimated.
    fn file_bytes(&self) -> usize {
        self.output().bytes()
    }

    /// Bytes in memory.
    fn memory_bytes(&self) -> usize {
        self.output().memory_bytes()
    }

    /// Writes the rest.
    fn finish(self: Box<Self>) -> Result<Output, Failure>;
}

/// What the options mean for the columns that come.
struct Layout {
    /// The columns of the files.
    schema: SchemaRef,
    partitioner: Option<Partitioner>,
    sort_by: Vec<usize>,
}

impl Layout {
    fn new(options: &PartOptions, schema: &SchemaRef) -> Result<Layout> {
        for (name, value) in [("max_rows", options.max_rows), ("max_bytes", options.max_bytes)] {
            positive(name, value)?;
        }
        let partitioner = match options.partition_by.as_slice() {
            [] => None,
            by => Some(Partitioner::new(by, schema)?),
        };
        let schema = partitioner.as_ref().map_or_else(|| Ok(Arc::clone(schema)), |partitioner| partitioner.schema(schema))?;
        let sort_by = places(&schema, &options.sort_by)?;
        Ok(Layout { schema, partitioner, sort_by })
    }
}

/// Where columns are.
pub(super) fn places(schema: &SchemaRef, names: &[String]) -> Result<Vec<usize>> {
    names.iter().map(|name| column_index(schema, name)).collect()
}

/// Refuses an option that is 0.
pub(super) fn positive(name: &str, value: usize) -> Result<()> {
    match value {
        0 => Err(Error::config(format!("`{name}` is 0; it may be 1 or more"))),
        _ => Ok(()),
    }
}

/// Writes parts of one format into one place.
pub(super) struct Parts<F> {
    place: Box<dyn Place>,
    /// What tells the parts of this sink from those of others.
    run: String,
    pub format: F,
    pub options: PartOptions,
    layout: Option<Layout>,
    /// The parts that are being written, by folder below the place.
    pub(super) open: BTreeMap<String, Part>,
    /// Parts that are complete and wait for the commit.
    complete: Vec<Box<dyn PendingPart>>,
    /// Bytes in memory of those at the beginning of `complete` that may have some.
    waiting_bytes: usize,
    /// Number of the next part.
    next: u64,
}

impl<F: Format> Parts<F> {
    pub fn new(place: impl Place + 'static, format: F) -> Parts<F> {
        Parts {
            place: Box::new(place),
            run: random_name(),
            format,
            options: PartOptions::default(),
            layout: None,
            open: BTreeMap::new(),
            complete: Vec::new(),
            waiting_bytes: 0,
            next: 0,
        }
    }

    /// Begins a part in a folder below the place.
    fn begin(&mut self, folder: &str) -> Result<Part> {
        let layout = self.layout.as_ref().ok_or_else(super::not_open)?;
        let parent = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let pending = self.place.begin(&format!("{parent}{PART}{:05}-{}{}", self.next, self.run, self.format.extension()))?;
        self.next += 1;
        let opened = self.options.max_age.as_ref().map_or(0, |(_, clock)| clock.monotonic());
        Part::begin(&self.format, &layout.schema, pending, opened, &layout.sort_by)
    }

    /// How many rows the part still takes.
    fn room(&self, part: &Part) -> usize {
        let too_large = part.file_bytes() >= self.options.max_bytes;
        let too_old =
            self.options.max_age.as_ref().is_some_and(|(age, clock)| u128::from(clock.monotonic() - part.opened) >= age.as_nanos());
        match part.rows > 0 && (too_large || too_old) {
            true => 0,
            false => self.options.max_rows.saturating_sub(part.rows),
        }
    }

    /// Completes a part. What complete parts hold in memory has a bound too.
    fn finish(&mut self, part: Part) -> Result<()> {
        let part = part.finish()?;
        self.waiting_bytes += part.memory_bytes();
        self.complete.push(part);
        if self.waiting_bytes > config::OPEN_PART_BYTES {
            self.complete.iter_mut().try_for_each(|part| part.flush_memory())?;
            self.waiting_bytes = 0;
        }
        Ok(())
    }

    /// Writes rows into parts of a folder, each of which goes to `complete` when it is full. The part being written is in
    /// `open` only while it is sound: after a failure it is gone, with what was written of it.
    fn write_parts(&mut self, folder: &str, batch: &RecordBatch) -> Result<()> {
        let mut from = 0;
        while from < batch.num_rows() {
            let mut part = match self.open.remove(folder) {
                Some(part) => part,
                None => self.begin(folder)?,
            };
            let rows = self.room(&part).min(batch.num_rows() - from);
            if rows == 0 {
                self.finish(part)?;
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
        let Some(partitioner) = self.layout.as_ref().ok_or_else(super::not_open)?.partitioner.as_ref() else {
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
            open.len() > config::OPEN_PARTS || open.values().map(Part::memory_bytes).sum::<usize>() > config::OPEN_PART_BYTES
        };
        while self.open.len() > 1 && is_over(&self.open) {
            let largest = self.open.iter().max_by_key(|(_, part)| part.memory_bytes()).map(|(folder, _)| folder.clone());
            if let Some(part) = largest.and_then(|folder| self.open.remove(&folder)) {
                self.finish(part)?;
            }
        }
        Ok(())
    }

    pub fn describe(&self) -> String {
        self.place.describe()
    }
}

impl<F: Format> Sink for Parts<F> {
    fn open(&mut self, schema: &SchemaRef) -> Result<()> {
        let layout = Layout::new(&self.options, schema)?;
        self.format.prepare(&layout.schema, &layout.sort_by)?;
        self.layout = Some(layout);
        self.place.prepare(self.format.extension(), self.options.partition_by.len())?;
        // Also tells whether the place can be written and whether the format has all the types.
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
            return Err(super::not_open());
        }
        let folders: Vec<String> = self.open.iter().filter(|(_, part)| part.rows > 0).map(|(folder, _)| folder.clone()).collect();
        for part in folders.iter().filter_map(|folder| self.open.remove(folder)).collect::<Vec<_>>() {
            self.finish(part)?;
        }
        self.waiting_bytes = 0;
        self.complete.drain(..).try_for_each(|part| part.publish())?;
        self.place.settle()
    }

    fn abort(&mut self) {
        self.open.clear();
        self.complete.clear();
        self.waiting_bytes = 0;
        self.layout = None;
    }
}

/// The error of a writer, with what the operating system or the place said if it was that.
pub(super) fn failed(doing: &str, location: &str, failure: Failure) -> Error {
    let failure = match failure.downcast::<Error>() {
        Ok(ours) => return *ours,
        Err(failure) => failure,
    };
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&*failure);
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            if let Some(ours) = io.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
                return Error::new(ours.kind(), ours.to_string()).retriable_if(ours.is_retriable());
            }
            let same = io.raw_os_error().map_or_else(|| io::Error::new(io.kind(), io.to_string()), io::Error::from_raw_os_error);
            return publish::failed(doing, Path::new(location), same);
        }
        cause = inner.source();
    }
    Error::connector(format!("cannot {doing} `{location}`")).with_source(failure)
}

/// Sixteen digits that no other run has, from the seed that the standard library draws for its hash maps.
fn random_name() -> String {
    use std::hash::{BuildHasher, RandomState};
    format!("{:016x}", RandomState::new().hash_one(std::process::id()))
}

#[cfg(test)]
mod tests;
