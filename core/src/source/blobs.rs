//! Files that are read by ranges, to their ends: what the readers of local files are for object stores.
//!
//! Text is read in turns of [`Blob::piece_bytes`], so that files which cover the same time advance together and one piece is in memory
//! at a time, whatever their number. What is packed is unpacked on the way to the decoder, as in the readers of local files: one that is
//! damaged or cut off ends there, with what could not be unpacked in quarantine. Files of Parquet and Arrow's file format are opened when the stream runs and give a batch a turn.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;

use super::blob::{arrow_reader, is_arrow_file, parquet_reader};
use super::gather::Gather;
use super::linger::nanos;
use super::open::{Files, SAMPLE_BYTES, infer_packed};
use super::{Blob, Delivery, FileEntry, FileSet, OpenSource, Reader, Readers, Source};
use crate::batch::PartitionId;
use crate::config::{Config, READ_BUFFER_BYTES};
use crate::error::{Error, Result};
use crate::format::Format;
use crate::format::compression::{Compression, Unpacker};
use crate::quality::Rejected;
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

/// How a file is packed, unless it is said.
fn packed(blob: &dyn Blob, compression: Option<Compression>) -> Compression {
    compression.unwrap_or_else(|| Compression::of_path(Path::new(blob.name())))
}

/// The columns of a file that comes in as bytes, from its beginning.
pub(super) fn inferred(format: &Format, blob: &dyn Blob, compression: Option<Compression>) -> Result<SchemaRef> {
    let sample = blob.read_at(0, SAMPLE_BYTES.min(blob.size()))?;
    infer_packed(format, &sample, packed(blob, compression)).map_err(|error| error.context(blob.name()))
}

/// The Parquet files of a set.
///
/// # Errors
/// If there are none or the first is not Parquet.
pub(crate) fn parquet_blobs(set: impl FileSet + 'static) -> Result<Readers> {
    readers(set, "read_parquet", parquet_reader)
}

/// The Arrow IPC files of a set: all of the file format, or all of the stream format, which may be packed.
///
/// # Errors
/// If there are none or the first cannot be read.
pub(crate) fn arrow_blobs(set: impl FileSet + 'static) -> Result<Box<dyn OpenSource>> {
    match is_arrow_file(&*first(&set, &entries(&set)?)?)? {
        true => Ok(Box::new(readers(set, "read_arrow", arrow_reader)?)),
        false => Files::at(set).format(Format::ArrowIpc).find(),
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
    compression: Option<Compression>,
}

impl Blobs {
    /// The files of a set; without `schema`, columns are inferred from the beginning of the first, and without `compression` the suffix of
    /// each says how it is packed.
    ///
    /// # Errors
    /// If there are none, or the columns cannot be inferred.
    pub fn new(set: Arc<dyn FileSet>, schema: Option<SchemaRef>, format: Format, compression: Option<Compression>) -> Result<Blobs> {
        let entries = entries(&*set)?;
        let schema = match schema {
            Some(schema) => schema,
            None => inferred(&format, &*first(&*set, &entries)?, compression)?,
        };
        Ok(Blobs { set, entries, schema, format, compression })
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
        let turn = |(number, entry)| Turn::new(PartitionId(number), open(&*self.set, entry)?, self.compression);
        let turns = (0..).zip(&self.entries).map(turn);
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
    /// What unpacks it, unless it is not packed.
    unpacker: Option<Box<Unpacker>>,
    /// Whether more may come out of what was unpacked last.
    holds: bool,
    /// The first byte that was not asked for.
    next: u64,
    /// What was read and not decoded.
    piece: Bytes,
}

impl Turn {
    /// A file from its beginning; without `compression`, its suffix says how it is packed.
    ///
    /// # Errors
    /// If what unpacks it cannot be made.
    pub fn new(partition: PartitionId, blob: Arc<dyn Blob>, compression: Option<Compression>) -> Result<Turn> {
        let unpacker = Unpacker::new(packed(&*blob, compression))?.map(Box::new);
        Ok(Turn { partition, blob, unpacker, holds: false, next: 0, piece: Bytes::new() })
    }

    /// Reads the next piece, if there is nothing left to decode.
    fn read(&mut self) -> Result<()> {
        if !self.is_within() && self.next < self.blob.size() {
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
        Ok(())
    }

    /// Decodes until a batch is full or what was read is used up; returns whether the file goes on.
    ///
    /// # Errors
    /// If it cannot be read, or not be decoded any further.
    pub fn advance(&mut self, gather: &mut Gather, now: u64) -> Result<bool> {
        self.read()?;
        while self.is_within() && !gather.is_full() {
            if self.unpacker.is_some() {
                self.unpack(gather, now)?;
                continue;
            }
            let some = self.piece.split_to(self.piece.len().min(READ_BUFFER_BYTES));
            let decoded = gather.decode(self.partition, &some, now);
            decoded.map_err(|error| error.context(format!("cannot decode {}", self.blob.name())))?;
        }
        if self.is_within() || self.next < self.blob.size() {
            return Ok(true);
        }
        if let Some(Err(error)) = self.unpacker.take().map(|unpacker| unpacker.finish().map_err(|error| (error, unpacker.unpacked()))) {
            self.cut(error, Bytes::new(), gather, now);
        }
        Ok(false)
    }

    /// Unpacks and decodes one step. A file that cannot be unpacked any further ends there.
    fn unpack(&mut self, gather: &mut Gather, now: u64) -> Result<()> {
        let Some(unpacker) = &mut self.unpacker else { return Ok(()) };
        match unpacker.step(&self.piece) {
            Ok((used, unpacked)) => {
                self.holds = !unpacked.is_empty();
                let decoded = gather.decode_unpacked(self.partition, unpacked, used, now);
                self.piece = self.piece.split_off(used);
                decoded.map_err(|error| error.context(format!("cannot decode {}", self.blob.name())))
            }
            Err(error) => {
                let offset = unpacker.unpacked();
                let rest = std::mem::take(&mut self.piece);
                (self.unpacker, self.holds, self.next) = (None, false, self.blob.size());
                self.cut((error, offset), rest, gather, now);
                Ok(())
            }
        }
    }

    /// Quarantines what could not be unpacked, and what it cuts in two.
    fn cut(&self, (error, offset): (Error, u64), rest: Bytes, gather: &mut Gather, now: u64) {
        let error = format!("{}: {error}", self.blob.name());
        tracing::warn!(error, "a packed file cannot be read to its end");
        gather.cut(self.partition, &error);
        gather.reject(Rejected::new(self.partition, offset, &rest, error), now);
    }

    /// How many bytes were read.
    pub fn read_bytes(&self) -> u64 {
        self.next - self.piece.len() as u64
    }

    /// Whether something was read that is not decoded.
    fn is_within(&self) -> bool {
        self.holds || !self.piece.is_empty()
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

    fn keep_offsets(&mut self) {
        self.gather.keep_offsets();
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
