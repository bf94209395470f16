//! Folders and prefixes that are watched for new files.
//!
//! The folder is listed every [`poll`](Watch::poll). A file is read once it is whole: when its size and time of modification have stayed
//! the same for [`settle`](Watch::settle), or at once if it was seen under the name of an unfinished file before and has been renamed, and
//! in an object store, where objects appear whole. Names that begin with `_` or `.` or end in `.tmp` or `.part` are those of unfinished
//! files. Whole files are read one after the other, those of one look by time of modification, then name.
//!
//! Each file is read once for as long as it is there: what is remembered is the names that are listed, some hundred bytes each. One that
//! goes and comes again is read again; what is added to one that was read is not seen. Nothing is remembered from one run to the next: move
//! or delete what was read, or begin with what is [new](Watch::existing).
//!
//! Each file is a partition of its own, which ends with it. A file that does not decode any further goes to quarantine from there on, with
//! its error; one that was deleted before it could be read is counted ([`Metrics::missing_files`](crate::Metrics::missing_files)).

mod arrivals;
mod local;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use self::arrivals::Arrivals;
use self::local::LocalFiles;
use super::blob::{arrow_reader, of_batch, parquet_reader};
use super::blobs::{Turn, entries, inferred, open};
use super::gather::Gather;
use super::linger::nanos;
use super::{Blob, Delivery, FileEntry, FileSet, OpenSource, Reader, Source};
use crate::batch::{Batch, PartitionId, Segment};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::format::Format;
use crate::format::compression::Compression;
use crate::quality::Rejected;
use crate::time::{SharedClock, secs};

/// How often a folder is listed, by default.
const POLL: Duration = secs(1);

/// How long a file of this machine has to stay as it is, by default: longer than writers pause, and than network file systems take to tell
/// of a change.
const SETTLE: Duration = secs(5);

/// What files are in.
#[derive(Debug, Clone)]
pub enum FileFormat {
    /// A format that is decoded as its bytes come: NDJSON, CSV, Avro, Protobuf.
    Bytes(Format),
    /// Arrow IPC, files or streams.
    Arrow,
    /// Parquet.
    Parquet,
}

impl FileFormat {
    /// The format that a user's `name` means: `ndjson` (`jsonl`), `csv`, `tsv` (both with a header), `avro`, `arrow` (`arrow_ipc`) or `parquet`.
    ///
    /// # Errors
    /// [`Kind::Config`], listing the names there are.
    pub fn parse(name: &str) -> Result<FileFormat> {
        match (name.to_ascii_lowercase().as_str(), Format::parse(name)) {
            ("parquet", _) => Ok(FileFormat::Parquet),
            (_, Ok(Format::ArrowIpc)) => Ok(FileFormat::Arrow),
            (_, Ok(format)) => Ok(FileFormat::Bytes(format)),
            (_, Err(_)) => Err(Error::config(format!(
                "`{name}` is not a format of files; it may be ndjson, debezium, csv, tsv, avro, arrow or parquet"
            ))),
        }
    }

    fn name(&self) -> String {
        match self {
            FileFormat::Bytes(format) => format.to_string(),
            FileFormat::Arrow => "arrow".to_owned(),
            FileFormat::Parquet => "parquet".to_owned(),
        }
    }

    /// The rows of a file that does not come as bytes.
    fn reader(&self, blob: Arc<dyn Blob>) -> Result<Reader> {
        match self {
            FileFormat::Parquet => parquet_reader(blob),
            FileFormat::Arrow | FileFormat::Bytes(_) => arrow_reader(blob),
        }
    }
}

/// New files as a source; see the [module documentation](self).
#[derive(Clone)]
pub struct Watch {
    set: Arc<dyn FileSet>,
    format: FileFormat,
    compression: Option<Compression>,
    schema: Option<SchemaRef>,
    poll: Duration,
    settle: Duration,
    existing: bool,
    bounded: bool,
}

impl Watch {
    /// Files of this machine whose paths match `pattern`, as [`expand`](super::file::expand) has it.
    ///
    /// # Errors
    /// [`Kind::Config`] if it names no files.
    pub fn new(pattern: &str, format: FileFormat) -> Result<Watch> {
        Ok(Watch::at(LocalFiles::new(pattern)?, format))
    }

    /// Files of any place.
    pub fn at(set: impl FileSet + 'static, format: FileFormat) -> Watch {
        let settle = if set.appear_whole() { Duration::ZERO } else { SETTLE };
        Watch { set: Arc::new(set), format, compression: None, schema: None, poll: POLL, settle, existing: true, bounded: false }
    }

    /// The columns. Without them those of the first file, which must be there when the stream is made.
    pub fn schema(mut self, schema: SchemaRef) -> Watch {
        self.schema = Some(schema);
        self
    }

    /// How all of them are packed, in a format that comes as bytes; without it, the suffix of each says so: `.gz`, `.zst`, `.lz4`, or none.
    pub fn compression(mut self, compression: Compression) -> Watch {
        self.compression = Some(compression);
        self
    }

    /// How often the folder is listed: 1 s unless told otherwise.
    pub fn poll(mut self, every: Duration) -> Watch {
        self.poll = every;
        self
    }

    /// How long a file has to stay as it is before it is taken for whole: 5 s on this machine, no time in an object store, unless told
    /// otherwise. With zero, files must appear by being renamed.
    pub fn settle(mut self, after: Duration) -> Watch {
        self.settle = after;
        self
    }

    /// Whether files that are there when the run begins are read too; they are, unless told otherwise.
    pub fn existing(mut self, read: bool) -> Watch {
        self.existing = read;
        self
    }

    /// Whether the stream ends behind the files that are there when the run begins, once these are whole.
    pub fn bounded(mut self, bounded: bool) -> Watch {
        self.bounded = bounded;
        self
    }

    /// Checks what can be checked, and finds out the columns.
    ///
    /// # Errors
    /// [`Kind::Config`] if options contradict each other or there is no file that the columns could be inferred from.
    pub(crate) fn checked(mut self) -> Result<impl OpenSource> {
        if self.poll.is_zero() {
            return Err(Error::config("`poll` is 0; it must be longer"));
        }
        if self.bounded && !self.existing {
            return Err(Error::config("a watch that ends behind the files that are there, and leaves these out, would read nothing"));
        }
        let schema = match self.schema.take() {
            Some(schema) => schema,
            None => self.inferred().map_err(|error| error.context("the columns cannot be inferred; give a schema"))?,
        };
        Ok(Watching { watch: self, schema })
    }

    fn inferred(&self) -> Result<SchemaRef> {
        let whole = entries(&*self.set)?.into_iter().find(|entry| !arrivals::is_unfinished(&entry.name) && entry.size > 0);
        let entry = whole.ok_or_else(|| Error::config(format!("no file matches `{}`", self.set.describe())))?;
        let blob = open(&*self.set, &entry)?;
        match &self.format {
            FileFormat::Bytes(format) => inferred(format, &*blob, self.compression),
            columns => Ok(columns.reader(blob)?.schema()),
        }
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("files", &self.set.describe()).field("format", &self.format).finish_non_exhaustive()
    }
}

/// A watch whose columns are known.
struct Watching {
    watch: Watch,
    schema: SchemaRef,
}

impl OpenSource for Watching {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    fn describe(&self) -> String {
        format!("watch({}), {}", self.watch.set.describe(), self.watch.format.name())
    }

    fn open(&self, config: &Config, clock: &SharedClock) -> Result<Box<dyn Source>> {
        let decoder = match &self.watch.format {
            FileFormat::Bytes(format) => format.decoder(self.schema(), config)?,
            // Decodes nothing, and carries what is not rows: names, ends, quarantine.
            FileFormat::Arrow | FileFormat::Parquet => Format::ArrowIpc.decoder(self.schema(), config)?,
        };
        let gather = Gather::new(decoder, config, SharedClock::clone(clock));
        Ok(Box::new(WatchSource {
            arrivals: Arrivals::new(nanos(self.watch.settle)),
            watch: self.watch.clone(),
            gather,
            clock: SharedClock::clone(clock),
            batch_rows: config.batch_rows,
            current: None,
            partitions: 0,
            looked: None,
            missing: 0,
            said_missing: false,
        }))
    }
}

struct WatchSource {
    watch: Watch,
    arrivals: Arrivals,
    gather: Gather,
    clock: SharedClock,
    batch_rows: usize,
    /// The file that is being read.
    current: Option<Current>,
    /// How many files were begun: the next one's number.
    partitions: u32,
    /// When the folder was last listed.
    looked: Option<u64>,
    /// Files that had gone, since the last delivery.
    missing: u64,
    said_missing: bool,
}

enum Current {
    Bytes(PartitionId, Turn),
    Rows(Rows),
}

/// A file of Parquet or Arrow that is being read.
struct Rows {
    partition: PartitionId,
    reader: Reader,
    /// What is left of the last batch.
    rest: Option<RecordBatch>,
    /// Rows handed on.
    offset: u64,
}

impl WatchSource {
    /// Lists the folder, if it is time to.
    fn look(&mut self, now: u64) -> Result<()> {
        if self.looked.is_some_and(|looked| now - looked < nanos(self.watch.poll)) {
            return Ok(());
        }
        let listed = self.watch.set.list()?;
        let is_first = self.looked.is_none();
        match is_first && !self.watch.existing {
            true => self.arrivals.ignore(listed),
            false => self.arrivals.look(listed, now),
        }
        if is_first && self.watch.bounded {
            self.arrivals.close();
        }
        self.looked = Some(now);
        Ok(())
    }

    /// Begins a file.
    fn begin(&mut self, entry: &FileEntry, now: u64) -> Result<()> {
        let Some(blob) = self.watch.set.open(entry)? else {
            self.missing += 1;
            if !std::mem::replace(&mut self.said_missing, true) {
                tracing::warn!(
                    path = entry.name,
                    "a file was deleted before it was read; it and others like it are counted in missing_files"
                );
            }
            return Ok(());
        };
        let partition = PartitionId(self.partitions);
        self.partitions = self.partitions.wrapping_add(1);
        self.gather.open(partition, Some(entry.name.clone()), now);
        self.current = match &self.watch.format {
            FileFormat::Bytes(_) => Some(Current::Bytes(partition, Turn::new(partition, blob, self.watch.compression)?)),
            columns => match columns.reader(blob).and_then(|reader| self.fits(&reader).map(|()| reader)) {
                Ok(reader) => Some(Current::Rows(Rows { partition, reader, rest: None, offset: 0 })),
                Err(error) => {
                    self.give_up(partition, 0, error, now)?;
                    None
                }
            },
        };
        Ok(())
    }

    /// Whether a file has the columns that were promised.
    fn fits(&self, reader: &Reader) -> Result<()> {
        match reader.schema().fields() == self.gather.schema().fields() {
            true => Ok(()),
            false => Err(Error::decode(format!("it has other columns than the stream: {:?}", reader.schema().fields()))),
        }
    }

    /// Ends a file that does not decode any further; what cannot be read at all ends the stream.
    fn give_up(&mut self, partition: PartitionId, offset: u64, error: Error, now: u64) -> Result<()> {
        if error.kind() == Kind::Connector {
            return Err(error);
        }
        self.gather.reject(Rejected::new(partition, offset, &[], error.to_string()), now);
        self.gather.end(partition, now);
        Ok(())
    }

    /// Reads on in the file that is being read; returns rows that are to be handed on by themselves.
    fn advance(&mut self, now: u64) -> Result<Option<Batch>> {
        match self.current.take() {
            Some(Current::Bytes(partition, mut turn)) => match turn.advance(&mut self.gather, now) {
                Ok(true) => self.current = Some(Current::Bytes(partition, turn)),
                Ok(false) => self.gather.end(partition, now),
                Err(error) => self.give_up(partition, turn.read_bytes(), error, now)?,
            },
            Some(Current::Rows(mut rows)) => match rows.next(self.batch_rows) {
                Ok(Some(records)) => {
                    let segments = vec![Segment { partition: rows.partition, rows: records.num_rows(), offset: rows.offset }];
                    rows.offset += records.num_rows() as u64;
                    self.current = Some(Current::Rows(rows));
                    return Ok(Some(Batch::of_source(records, segments, now)));
                }
                Ok(None) => self.gather.end(rows.partition, now),
                Err(error) => self.give_up(rows.partition, rows.offset, error, now)?,
            },
            None => {}
        }
        Ok(None)
    }

    fn take(&mut self, batch: Option<Batch>, end: bool) -> Result<Delivery> {
        let mut delivery = self.gather.take(end)?;
        delivery.batch = batch.or(delivery.batch);
        delivery.missing_files = std::mem::take(&mut self.missing);
        Ok(delivery)
    }
}

impl Rows {
    /// The next rows, at most `limit`.
    fn next(&mut self, limit: usize) -> Result<Option<RecordBatch>> {
        let batch = match self.rest.take() {
            Some(rest) => rest,
            None => loop {
                match self.reader.next().transpose().map_err(|error| of_batch(error, "the file"))? {
                    Some(batch) if batch.num_rows() == 0 => {}
                    Some(batch) => break batch,
                    None => return Ok(None),
                }
            },
        };
        let rows = batch.num_rows().min(limit);
        self.rest = (rows < batch.num_rows()).then(|| batch.slice(rows, batch.num_rows() - rows));
        Ok(Some(batch.slice(0, rows)))
    }
}

impl Source for WatchSource {
    fn schema(&self) -> SchemaRef {
        self.gather.schema()
    }

    fn keep_offsets(&mut self) {
        self.gather.keep_offsets();
    }

    fn poll(&mut self, wait: Duration) -> Result<Delivery> {
        let mut now = self.gather.begin();
        let deadline = now.saturating_add(nanos(wait));
        loop {
            if self.current.is_none() {
                self.look(now)?;
                if let Some(entry) = self.arrivals.next() {
                    self.begin(&entry, now)?;
                } else if self.watch.bounded && !self.arrivals.is_waiting() {
                    return self.take(None, true);
                } else {
                    // Nothing comes before the next look: what there is goes on now.
                    let next = self.looked.unwrap_or(now).saturating_add(nanos(self.watch.poll));
                    if self.gather.due().is_some() || self.missing > 0 || now >= deadline {
                        return self.take(None, false);
                    }
                    self.clock.sleep(Duration::from_nanos(next.min(deadline).saturating_sub(now)));
                }
            } else if let Some(batch) = self.advance(now)? {
                return self.take(Some(batch), false);
            }
            now = self.gather.now();
            if self.gather.is_full() || (now >= deadline && self.current.is_some()) {
                return self.take(None, false);
            }
        }
    }
}

#[cfg(test)]
mod tests;
