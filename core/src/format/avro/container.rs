//! Object container files: a header with the writer's schema, then blocks of records, each closed by the file's marker.
//!
//! Each partition is one file. Blocks are put together here, with bounds on their size and on what they
//! unpack to, and are decoded whole. A block that does not decode is quarantined whole, and the next one goes on. If its marker is missing,
//! what follows is quarantined up to the next marker. Offsets are row numbers, as far as the blocks before tell them.

use std::collections::HashMap;
use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use memchr::memmem;

use super::resolved::{Resolved, Wrap};
use crate::batch::{Origins, PartitionId, Segment};
use crate::error::{Error, Result};
use crate::format::bulk::{self, Groups};
use crate::format::conform::conform;
use crate::format::{Decoded, Decoder, runs};
use crate::quality::Rejected;

const MAGIC: &[u8] = b"Obj\x01";

/// Bytes of the marker between blocks.
const SYNC: usize = 16;

/// Bytes of a header, most of which is the schema.
const MAX_HEADER_BYTES: usize = 16 << 20;

/// Bytes of one block, and of what the blocks of one read unpack to: far above what writers make, far below what harms.
const MAX_BLOCK_BYTES: usize = 256 << 20;

/// Records of one block; those that take no bytes are claimed for nothing.
const MAX_BLOCK_ROWS: usize = 1 << 26;

/// Bytes of blocks that are decoded at once.
const GROUP_BYTES: usize = 4 << 20;

/// A [`Decoder`] of object container files.
pub(super) struct ContainerDecoder {
    reader: Option<Arc<str>>,
    partitions: HashMap<PartitionId, File>,
    /// What decodes the blocks of files that have the same schema.
    writers: HashMap<Arc<str>, Writer>,
    rows: Rows,
    rejected: Vec<Rejected>,
}

/// Rows since the last take.
struct Rows {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    rows: usize,
    segments: Vec<Segment>,
}

/// One partition's file.
#[derive(Default)]
struct File {
    header: Option<Header>,
    /// Bytes that are not yet a whole block, and where in the partition they begin.
    carry: Vec<u8>,
    position: u64,
    /// Records so far.
    rows: u64,
    /// Whether the next block is wherever the marker is found.
    lost: bool,
}

/// What a file begins with.
#[derive(Clone)]
struct Header {
    schema: Arc<str>,
    codec: Codec,
    sync: [u8; SYNC],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Codec {
    Null,
    Deflate,
    Snappy,
    Zstandard,
}

struct Writer {
    resolved: Resolved,
    schema: SchemaRef,
}

/// Whole blocks, ready to be decoded.
#[derive(Default)]
struct Blocks {
    /// Each with its count before it and a zero behind it, as an array.
    arrays: Vec<u8>,
    frames: Vec<Range<usize>>,
    places: Vec<Place>,
}

/// A block that is ready to be decoded: how many records it has, where it begins in the partition.
#[derive(Debug, Clone, Copy)]
struct Place {
    count: u64,
    at: u64,
    /// Where in the arrays its own bytes begin.
    body: usize,
}

/// A block as it stands in a file: its count, its bytes, and how long all of it is.
struct Block {
    count: u64,
    data: Range<usize>,
    length: usize,
}

impl ContainerDecoder {
    pub(super) fn new(schema: SchemaRef, reader: Option<Arc<str>>) -> ContainerDecoder {
        let rows = Rows { schema, batches: Vec::new(), rows: 0, segments: Vec::new() };
        ContainerDecoder { reader, partitions: HashMap::new(), writers: HashMap::new(), rows, rejected: Vec::new() }
    }

    /// Decodes the whole blocks that `bytes` begins with; returns their length.
    fn blocks(&mut self, partition: PartitionId, file: &mut File, bytes: &[u8]) -> Result<usize> {
        let (mut used, mut blocks, mut unpacked) = (0, Blocks::default(), 0);
        loop {
            let rest = &bytes[used..];
            let Some(Header { codec, sync, .. }) = file.header else {
                let Some((header, length)) = header(rest)? else { break };
                self.open(&header)?;
                file.header = Some(header);
                used += length;
                continue;
            };
            if file.lost {
                let Some(found) = memmem::find(rest, &sync) else {
                    used += rest.len().saturating_sub(SYNC - 1);
                    break;
                };
                file.lost = false;
                used += found + SYNC;
                continue;
            }
            let at = file.position + used as u64;
            match block(rest, &sync) {
                Ok(None) => break,
                Ok(Some(block)) => {
                    let data = &rest[block.data.clone()];
                    match blocks.push(block.count, at, data, codec) {
                        Ok(bytes) => unpacked += bytes,
                        Err(why) => self.reject(partition, file.rows, data, &format!("the block at byte {at} {why}")),
                    }
                    used += block.length;
                }
                Err(why) => {
                    self.flush(partition, file, &mut blocks);
                    self.reject(partition, file.rows, rest, &format!("the block at byte {at} {why}; it is passed over to the next marker"));
                    file.lost = true;
                }
            }
            if blocks.arrays.len() >= GROUP_BYTES {
                self.flush(partition, file, &mut blocks);
            }
            if unpacked > MAX_BLOCK_BYTES {
                return Err(Error::decode(format!("what is read at once unpacks to more than {MAX_BLOCK_BYTES} bytes, by byte {at}")));
            }
        }
        self.flush(partition, file, &mut blocks);
        Ok(used)
    }

    /// Makes ready for the blocks of a file that begins so.
    fn open(&mut self, header: &Header) -> Result<()> {
        if !self.writers.contains_key(&header.schema) {
            let schema = SchemaRef::clone(&self.rows.schema);
            let resolved = Resolved::new(&header.schema, self.reader.as_deref(), Some(&schema), Wrap::Block)?;
            self.writers.insert(Arc::clone(&header.schema), Writer { resolved, schema });
        }
        Ok(())
    }

    /// Decodes the blocks that there are.
    fn flush(&mut self, partition: PartitionId, file: &mut File, blocks: &mut Blocks) {
        let Some(writer) = file.header.as_ref().and_then(|header| self.writers.get_mut(&header.schema)) else { return };
        let Blocks { arrays, frames, places } = std::mem::take(blocks);
        let (mut batches, mut bad) = (Vec::new(), Vec::new());
        bulk::decode_placed(writer, &arrays, &frames, &mut batches, &mut bad);
        let mut bad = bad.into_iter().peekable();
        for (number, (Place { count, at, body }, frame)) in places.into_iter().zip(&frames).enumerate() {
            match bad.next_if(|(bad, _)| *bad == number) {
                Some((_, why)) => {
                    let why = format!("the block of {count} records at byte {at} does not decode: {why}");
                    self.rejected.push(Rejected::new(partition, file.rows, &arrays[body..frame.end - 1], why));
                }
                None => runs::extend(&mut self.rows.segments, partition, count as usize, file.rows),
            }
            file.rows += count;
        }
        self.rows.rows += batches.iter().map(RecordBatch::num_rows).sum::<usize>();
        self.rows.batches.extend(batches);
    }

    fn reject(&mut self, partition: PartitionId, row: u64, bytes: &[u8], why: &str) {
        self.rejected.push(Rejected::new(partition, row, bytes, why));
    }
}

impl Decoder for ContainerDecoder {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.rows.schema)
    }

    fn decode(&mut self, partition: PartitionId, bytes: &[u8]) -> Result<()> {
        let mut file = self.partitions.remove(&partition).unwrap_or_default();
        let mut carry = std::mem::take(&mut file.carry);
        let used = if carry.is_empty() {
            let used = self.blocks(partition, &mut file, bytes)?;
            carry.extend_from_slice(&bytes[used..]);
            used
        } else {
            carry.extend_from_slice(bytes);
            let used = self.blocks(partition, &mut file, &carry)?;
            carry.drain(..used);
            used
        };
        file.position += used as u64;
        file.carry = carry;
        self.partitions.insert(partition, file);
        Ok(())
    }

    fn end(&mut self, partition: PartitionId) {
        if let Some(file) = self.partitions.remove(&partition).filter(|file| !file.carry.is_empty() && !file.lost) {
            let why = format!("the Avro file ends in the middle of what begins at byte {}", file.position);
            self.rejected.push(Rejected::new(partition, file.rows, &file.carry, why));
        }
    }

    fn rows(&self) -> usize {
        self.rows.rows
    }

    fn take(&mut self) -> Result<Option<Decoded>> {
        self.rows.rows = 0;
        let segments = std::mem::take(&mut self.rows.segments);
        Ok(bulk::take(&self.rows.schema, &mut self.rows.batches)?.map(|records| Decoded { records, segments, origins: Origins::default() }))
    }

    fn take_rejected(&mut self, into: &mut Vec<Rejected>) {
        into.append(&mut self.rejected);
    }
}

impl Groups for Writer {
    fn rows(&mut self, text: &[u8], frames: &[Range<usize>]) -> Result<RecordBatch, String> {
        let found = self.resolved.rows(frames.iter().map(|frame| &text[frame.clone()]))?;
        conform(&found, &self.schema, "file").map_err(|error| error.to_string())
    }
}

impl Blocks {
    /// Adds a block; returns the bytes that it unpacks to.
    fn push(&mut self, count: u64, at: u64, data: &[u8], codec: Codec) -> Result<usize, String> {
        let start = self.arrays.len();
        put_long(count, &mut self.arrays);
        let body = self.arrays.len();
        if let Err(why) = codec.unpack(data, &mut self.arrays) {
            self.arrays.truncate(start);
            return Err(why);
        }
        let unpacked = self.arrays.len() - body;
        if count == 0 {
            self.arrays.truncate(start);
            return if unpacked == 0 { Ok(0) } else { Err(format!("has no records, and {unpacked} bytes")) };
        }
        self.arrays.push(0);
        self.frames.push(start..self.arrays.len());
        self.places.push(Place { count, at, body });
        Ok(unpacked)
    }
}

impl Codec {
    /// Adds what `data` unpacks to; says in words why it cannot be unpacked.
    fn unpack(self, data: &[u8], into: &mut Vec<u8>) -> Result<(), String> {
        let limit = MAX_BLOCK_BYTES as u64 + 1;
        let start = into.len();
        let failed = |error: std::io::Error| format!("does not unpack: {error}");
        match self {
            Codec::Null => into.extend_from_slice(data),
            Codec::Deflate => drop(flate2::read::DeflateDecoder::new(data).take(limit).read_to_end(into).map_err(failed)?),
            Codec::Zstandard => {
                let decoder = zstd::Decoder::with_buffer(data).map_err(failed)?;
                decoder.take(limit).read_to_end(into).map_err(failed)?;
            }
            Codec::Snappy => return unsnap(data, into),
        }
        match into.len() - start {
            0..=MAX_BLOCK_BYTES => Ok(()),
            _ => Err(format!("unpacks to more than {MAX_BLOCK_BYTES} bytes")),
        }
    }
}

/// Snappy, behind which stands the CRC-32 of what it unpacks to.
fn unsnap(data: &[u8], into: &mut Vec<u8>) -> Result<(), String> {
    let failed = |error: snap::Error| format!("does not unpack: {error}");
    let Some((data, checksum)) = data.split_last_chunk() else { return Err("is too short to be unpacked".to_owned()) };
    let length = snap::raw::decompress_len(data).map_err(failed)?;
    if length > MAX_BLOCK_BYTES {
        return Err(format!("unpacks to more than {MAX_BLOCK_BYTES} bytes"));
    }
    let start = into.len();
    into.resize(start + length, 0);
    snap::raw::Decoder::new().decompress(data, &mut into[start..]).map_err(failed)?;
    let mut found = flate2::Crc::new();
    found.update(&into[start..]);
    match found.sum() == u32::from_be_bytes(*checksum) {
        true => Ok(()),
        false => Err("does not match its checksum".to_owned()),
    }
}

/// The block that `bytes` begins with; `None` if it is not whole. Says in words what is wrong with it.
fn block(bytes: &[u8], sync: &[u8; SYNC]) -> Result<Option<Block>, String> {
    let Some((count, start)) = long(bytes, 0)? else { return Ok(None) };
    let Some((size, start)) = long(bytes, start)? else { return Ok(None) };
    let count = u64::try_from(count).ok().filter(|&count| count <= MAX_BLOCK_ROWS as u64);
    let count = count.ok_or_else(|| format!("claims a number of records that is not within 0 and {MAX_BLOCK_ROWS}"))?;
    let size = usize::try_from(size).ok().filter(|&size| size <= MAX_BLOCK_BYTES);
    let size = size.ok_or_else(|| format!("claims a size that is not within 0 and {MAX_BLOCK_BYTES} bytes"))?;
    let Some(marker) = bytes.get(start + size..start + size + SYNC) else { return Ok(None) };
    match marker == sync {
        true => Ok(Some(Block { count, data: start..start + size, length: start + size + SYNC })),
        false => Err("is not followed by the file's marker".to_owned()),
    }
}

/// The header that `bytes` begins with, and its length; `None` if it is not whole.
fn header(bytes: &[u8]) -> Result<Option<(Header, usize)>> {
    if !MAGIC.starts_with(&bytes[..bytes.len().min(MAGIC.len())]) {
        return Err(Error::decode("this is no Avro file: it does not begin with `Obj` and a one"));
    }
    let malformed = |why: String| Error::decode(format!("the header of the Avro file {why}"));
    match metadata(bytes).map_err(malformed)? {
        Some((entries, at)) if bytes.len() >= at + SYNC => {
            let value = |name: &str| entries.iter().find(|(key, _)| *key == name.as_bytes()).map(|(_, value)| *value);
            let schema = value("avro.schema").ok_or_else(|| malformed("has no schema".to_owned()))?;
            let schema = std::str::from_utf8(schema).map_err(|_| malformed("has a schema that is not UTF-8".to_owned()))?;
            let codec = match value("avro.codec") {
                None | Some(b"null" | b"") => Codec::Null,
                Some(b"deflate") => Codec::Deflate,
                Some(b"snappy") => Codec::Snappy,
                Some(b"zstandard") => Codec::Zstandard,
                Some(other) => {
                    let other = other.escape_ascii();
                    return Err(malformed(format!("names the codec `{other}`; null, deflate, snappy and zstandard can be read")));
                }
            };
            let mut sync = [0; SYNC];
            sync.copy_from_slice(&bytes[at..at + SYNC]);
            Ok(Some((Header { schema: Arc::from(schema), codec, sync }, at + SYNC)))
        }
        _ if bytes.len() > MAX_HEADER_BYTES => Err(malformed(format!("is longer than {MAX_HEADER_BYTES} bytes"))),
        _ => Ok(None),
    }
}

type Entries<'a> = Vec<(&'a [u8], &'a [u8])>;

/// The names and values of a header, and where they end; `None` if they are not whole.
fn metadata(bytes: &[u8]) -> Result<Option<(Entries<'_>, usize)>, String> {
    let (mut entries, mut at) = (Vec::new(), MAGIC.len());
    loop {
        let Some((count, next)) = long(bytes, at)? else { return Ok(None) };
        at = next;
        if count == 0 {
            return Ok(Some((entries, at)));
        }
        if count < 0 {
            // The size of the entries follows, for those who pass over them.
            let Some((_, next)) = long(bytes, at)? else { return Ok(None) };
            at = next;
        }
        for _ in 0..count.unsigned_abs() {
            let Some((key, next)) = slice(bytes, at)? else { return Ok(None) };
            let Some((value, next)) = slice(bytes, next)? else { return Ok(None) };
            entries.push((key, value));
            at = next;
        }
    }
}

/// Bytes with their length before them at `at`, and where they end.
fn slice(bytes: &[u8], at: usize) -> Result<Option<(&[u8], usize)>, String> {
    let Some((length, start)) = long(bytes, at)? else { return Ok(None) };
    let length = usize::try_from(length).ok().filter(|&length| length <= MAX_HEADER_BYTES);
    let length = length.ok_or("has a length that is no length")?;
    Ok(bytes.get(start..start + length).map(|slice| (slice, start + length)))
}

/// The number at `at`, and where it ends; `None` if it is not whole. Numbers are zigzag and of seven bits a byte, the least first.
fn long(bytes: &[u8], at: usize) -> Result<Option<(i64, usize)>, String> {
    let mut number = 0_u64;
    for (place, byte) in bytes.get(at..).unwrap_or_default().iter().enumerate() {
        if place == 10 || place == 9 && *byte > 1 {
            return Err("has a number of more than 64 bits".to_owned());
        }
        number |= u64::from(byte & 0x7F) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok(Some(((number >> 1) as i64 ^ -((number & 1) as i64), at + place + 1)));
        }
    }
    Ok(None)
}

fn put_long(number: u64, into: &mut Vec<u8>) {
    let mut rest = number << 1;
    while rest >= 0x80 {
        into.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    into.push(rest as u8);
}

/// The columns of the file that begins with `sample`.
pub(super) fn columns(sample: &[u8]) -> Result<Schema> {
    match header(sample)? {
        Some((header, _)) => Ok(Resolved::new(&header.schema, None, None, Wrap::Block)?.columns().as_ref().clone()),
        None => Err(Error::decode("the sample is shorter than the header of the Avro file")),
    }
}
