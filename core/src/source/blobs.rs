//! Files that are read by ranges, to their ends: what the readers of local files are for object stores.
//!
//! Text is read in turns of [`Blob::piece_bytes`], so that files which cover the same time advance together and one piece is in memory
//! at a time, whatever their number. Files of Parquet and Arrow's file format are opened when the stream runs and give a batch a turn.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;

use super::blob::{arrow_reader, is_arrow_file, parquet_reader};
use super::gather::Gather;
use super::linger::nanos;
use super::open::SAMPLE_BYTES;
use super::{Blob, Delivery, FileEntry, FileSet, OpenSource, Reader, Readers, Source};
use crate::batch::PartitionId;
use crate::config::{Config, READ_BUFFER_BYTES};
use crate::error::{Error, Result};
use crate::format::Format;
use crate::format::infer::infer;
use crate::time::SharedClock;

/// The files of a set, by name.
///
/// # Errors
/// If there are none, or the place cannot be asked.
pub(super) fn entries(set: &dyn FileSet) -> Result<Vec<FileEntry>> {
    let mut entries = set.list()?;
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    match entries.is_empty() {
        false => Ok(entries),
        true => Err(Error::config(format!("no file matches `{}`; check the path", set.describe()))),
    }
}

pub(super) fn open(set: &dyn FileSet, entry: &FileEntry) -> Result<Arc<dyn Blob>> {
    set.open(entry)?.ok_or_else(|| Error::connector(format!("{} has gone since it was listed; read again", entry.name)))
}

/// The first of them, opened.
fn first(set: &dyn FileSet, entries: &[FileEntry]) -> Result<Arc<dyn Blob>> {
    match entries.first() {
        Some(entry) => open(set, entry),
        None => Err(Error::config(format!("no file matches `{}`", set.describe()))),
    }
}

/// The columns of a file of text, from its beginning.
pub(super) fn inferred(format: &Format, blob: &dyn Blob) -> Result<SchemaRef> {
    let sample = blob.read_at(0, SAMPLE_BYTES.min(blob.size()))?;
    infer(format, &sample).map(SchemaRef::new).map_err(|error| error.context(blob.name()))
}

/// The Parquet files of a set.
///
/// # Errors
/// If there are none or the first is not Parquet.
pub(crate) fn parquet_blobs(set: impl FileSet + 'static) -> Result<Readers> {
    readers(set, "read_parquet", parquet_reader)
}

/// The Arrow IPC files of a set: all of the file format, or all of the stream format.
///
/// # Errors
/// If there are none or the first cannot be read.
pub(crate) fn arrow_blobs(set: impl FileSet + 'static) -> Result<Box<dyn OpenSource>> {
    match is_arrow_file(&*first(&set, &entries(&set)?)?)? {
        true => Ok(Box::new(readers(set, "read_arrow", arrow_reader)?)),
        false => Ok(Box::new(Blobs::new(set, None, Format::ArrowIpc)?)),
    }
}

fn readers(set: impl FileSet + 'static, name: &str, read: fn(Arc<dyn Blob>) -> Result<Reader>) -> Result<Readers> {
    let entries = entries(&set)?;
    let schema = read(first(&set, &entries)?)?.schema();
    let description = format!("{name}({}), {} files", set.describe(), entries.len());
    let opened = move || entries.iter().map(|entry| Ok((entry.name.clone(), read(open(&set, entry)?)?))).collect();
    Ok(Readers::reopened(schema, description, opened))
}

/// Files of one format that come in as bytes.
pub(crate) struct Blobs {
    set: Arc<dyn FileSet>,
    entries: Vec<FileEntry>,
    schema: SchemaRef,
    format: Format,
}

impl Blobs {
    /// The files of a set; without `schema`, columns are inferred from the beginning of the first.
    ///
    /// # Errors
    /// If there are none, or the columns cannot be inferred.
    pub fn new(set: impl FileSet + 'static, schema: Option<SchemaRef>, format: Format) -> Result<Blobs> {
        let entries = entries(&set)?;
        let schema = match schema {
            Some(schema) => schema,
            None => inferred(&format, &*first(&set, &entries)?)?,
        };
        Ok(Blobs { set: Arc::new(set), entries, schema, format })
    }
}

impl OpenSource for Blobs {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    fn describe(&self) -> String {
        format!("read_{}({}), {} files", self.format, self.set.describe(), self.entries.len())
    }

    fn open(&self, config: &Config, clock: &SharedClock) -> Result<Box<dyn Source>> {
        let decoder = self.format.decoder(self.schema(), config)?;
        let turns = (0..).zip(&self.entries).map(|(number, entry)| Ok(Turn::new(PartitionId(number), open(&*self.set, entry)?)));
        Ok(Box::new(BlobSource {
            gather: Gather::new(decoder, config, SharedClock::clone(clock)),
            turns: turns.collect::<Result<_>>()?,
            paused: BTreeSet::new(),
            begun: false,
        }))
    }
}

/// A file of which a part was read.
pub(super) struct Turn {
    partition: PartitionId,
    blob: Arc<dyn Blob>,
    /// The first byte that was not asked for.
    next: u64,
    /// What was read and not decoded.
    piece: Bytes,
}

impl Turn {
    pub fn new(partition: PartitionId, blob: Arc<dyn Blob>) -> Turn {
        Turn { partition, blob, next: 0, piece: Bytes::new() }
    }

    /// Reads the next piece, if there is none; false at the end.
    fn read(&mut self) -> Result<bool> {
        if self.piece.is_empty() && self.next < self.blob.size() {
            self.piece = self.blob.read_at(self.next, self.blob.piece_bytes())?;
            self.next += self.piece.len() as u64;
            if self.piece.is_empty() {
                tracing::warn!(
                    path = self.blob.name(),
                    expected = self.blob.size(),
                    found = self.next,
                    "a file was cut short while it was read"
                );
                self.next = self.blob.size();
            }
        }
        Ok(!self.piece.is_empty())
    }

    /// Decodes until a batch is full or what was read is used up; returns whether the file goes on.
    ///
    /// # Errors
    /// If it cannot be read, or not be decoded any further.
    pub fn advance(&mut self, gather: &mut Gather, now: u64) -> Result<bool> {
        if !self.read()? {
            return Ok(false);
        }
        while !self.piece.is_empty() && !gather.is_full() {
            let some = self.piece.split_to(self.piece.len().min(READ_BUFFER_BYTES));
            let decoded = gather.decode(self.partition, &some, now);
            decoded.map_err(|error| error.context(format!("cannot decode {}", self.blob.name())))?;
        }
        Ok(!self.piece.is_empty() || self.next < self.blob.size())
    }

    /// How many bytes were read.
    pub fn read_bytes(&self) -> u64 {
        self.next - self.piece.len() as u64
    }

    /// Whether something was read that is not decoded.
    fn is_within(&self) -> bool {
        !self.piece.is_empty()
    }
}

struct BlobSource {
    gather: Gather,
    /// Files that have not ended; the front is next.
    turns: VecDeque<Turn>,
    paused: BTreeSet<PartitionId>,
    begun: bool,
}

impl Source for BlobSource {
    fn schema(&self) -> SchemaRef {
        self.gather.schema()
    }

    fn poll(&mut self, wait: Duration) -> Result<Delivery> {
        let mut now = self.gather.begin();
        let deadline = now.saturating_add(nanos(wait));
        if !std::mem::replace(&mut self.begun, true) {
            self.turns.iter().for_each(|turn| self.gather.open(turn.partition, Some(turn.blob.name().to_owned()), now));
        }
        while !self.gather.is_full() && now <= deadline {
            let next = self.turns.iter().position(|turn| !self.paused.contains(&turn.partition));
            let Some(mut turn) = next.and_then(|next| self.turns.remove(next)) else { break };
            match turn.advance(&mut self.gather, now)? {
                false => self.gather.end(turn.partition, now),
                true if turn.is_within() => self.turns.push_front(turn),
                true => self.turns.push_back(turn),
            }
            now = self.gather.now();
        }
        self.gather.take(self.turns.is_empty())
    }

    fn pause(&mut self, partitions: &BTreeSet<PartitionId>) -> Result<()> {
        self.paused.clone_from(partitions);
        Ok(())
    }
}
