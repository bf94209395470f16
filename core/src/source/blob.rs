//! Files by name and range, wherever they lie: on this machine or in an object store.

use std::collections::VecDeque;
use std::error::Error as StdError;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{RecordBatch, RecordBatchIterator, RecordBatchReader};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use super::Reader;
use crate::config::BATCH_ROWS;
use crate::error::{Error, Result};
use crate::format::arrow_ipc::{FILE_MAGIC, read_arrow};

/// Bytes that are read at once of a file that is read by ranges.
const BLOCK_BYTES: u64 = 1 << 20;

/// Blocks that are kept of one file: one for each column that is being read, of not too many.
const BLOCKS: usize = 16;

/// A file that a pattern names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Its path or URL.
    pub name: String,
    /// When it was last written, in nanoseconds since the Unix epoch.
    pub modified: i64,
    /// Its bytes.
    pub size: u64,
    /// What stays the same when it is renamed and is another's when it is replaced.
    pub id: String,
}

/// The files that a pattern names, now and later.
pub trait FileSet: Send + Sync {
    /// The files there are, in any order, and those in the same folders whose names say that they are unfinished, if the place has such.
    ///
    /// # Errors
    /// If the place cannot be asked.
    fn list(&self) -> Result<Vec<FileEntry>>;

    /// Opens one of them; `None` if it has gone.
    ///
    /// # Errors
    /// If it cannot be opened.
    fn open(&self, entry: &FileEntry) -> Result<Option<Arc<dyn Blob>>>;

    /// Whether a file is whole as soon as it is there.
    fn appear_whole(&self) -> bool;

    /// The pattern, without credentials.
    fn describe(&self) -> String;
}

impl FileSet for Box<dyn FileSet> {
    fn list(&self) -> Result<Vec<FileEntry>> {
        (**self).list()
    }

    fn open(&self, entry: &FileEntry) -> Result<Option<Arc<dyn Blob>>> {
        (**self).open(entry)
    }

    fn appear_whole(&self) -> bool {
        (**self).appear_whole()
    }

    fn describe(&self) -> String {
        (**self).describe()
    }
}

/// A file that is read by ranges.
pub trait Blob: Send + Sync {
    /// Its path or URL.
    fn name(&self) -> &str;

    /// Its bytes when it was opened.
    fn size(&self) -> u64;

    /// How many bytes are best read at once by someone who wants them all.
    fn piece_bytes(&self) -> u64;

    /// The bytes at `offset`, so many of them: fewer only where the file ends.
    ///
    /// # Errors
    /// If they cannot be read, or the file is another one by now.
    fn read_at(&self, offset: u64, len: u64) -> Result<Bytes>;
}

/// The rows of a Parquet file.
///
/// # Errors
/// [`Kind::Decode`](crate::error::Kind::Decode) if it is damaged or of another format, and if it cannot be read.
pub(super) fn parquet_reader(blob: Arc<dyn Blob>) -> Result<Reader> {
    let blocks = Blocks::new(blob);
    let reader = ParquetRecordBatchReaderBuilder::try_new(blocks.clone()).and_then(|builder| builder.with_batch_size(BATCH_ROWS).build());
    let reader = reader.map_err(|error| blocks.failure(error.into(), "Parquet"))?;
    Ok(boxed(reader.schema(), reader, blocks, "Parquet"))
}

/// The rows of a file of Arrow's file or stream format.
///
/// # Errors
/// As [`parquet_reader`].
pub(super) fn arrow_reader(blob: Arc<dyn Blob>) -> Result<Reader> {
    let is_file = is_arrow_file(&*blob)?;
    let blocks = Blocks::new(blob);
    let cursor = Cursor { blocks: blocks.clone(), at: 0 };
    let file = read_arrow(cursor, blocks.blob.name().to_owned(), is_file).map_err(|error| blocks.failure(error.into(), "Arrow"))?;
    let batches = |batch: Result<RecordBatch>| batch.map_err(|error| ArrowError::ExternalError(Box::new(error)));
    Ok(boxed(file.schema(), file.map(batches), blocks, "Arrow"))
}

/// A reader whose errors are those of the file, where it could not be read.
fn boxed(
    schema: SchemaRef,
    batches: impl Iterator<Item = Result<RecordBatch, ArrowError>> + Send + 'static,
    blocks: Blocks,
    format: &'static str,
) -> Reader {
    let said = move |error: ArrowError| ArrowError::ExternalError(Box::new(blocks.failure(error.into(), format)));
    Box::new(RecordBatchIterator::new(batches.map(move |batch| batch.map_err(&said)), schema))
}

/// What a reader's rows failed with; `name` is that of its input.
pub(super) fn of_batch(error: ArrowError, name: &str) -> Error {
    let error = match error {
        ArrowError::ExternalError(error) => match error.downcast::<Error>() {
            Ok(ours) => return *ours,
            Err(error) => ArrowError::ExternalError(error),
        },
        error => error,
    };
    Error::decode(format!("cannot read {name}")).with_source(error)
}

/// Whether a file is of Arrow's file format.
pub(super) fn is_arrow_file(blob: &dyn Blob) -> Result<bool> {
    Ok(*blob.read_at(0, (FILE_MAGIC.len() as u64).min(blob.size()))? == *FILE_MAGIC)
}

/// A file of which the blocks read last are kept. Clones share them.
#[derive(Clone)]
struct Blocks {
    blob: Arc<dyn Blob>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// By number, the one read last behind.
    kept: VecDeque<(u64, Bytes)>,
    /// What a read failed with: readers pass on no more than its words.
    failed: Option<Error>,
}

impl Blocks {
    fn new(blob: Arc<dyn Blob>) -> Blocks {
        Blocks { blob, state: Arc::default() }
    }

    /// The rest of the block that holds `offset`; nothing behind the end.
    fn at(&self, offset: u64) -> Result<Bytes> {
        let (number, within) = (offset / BLOCK_BYTES, (offset % BLOCK_BYTES) as usize);
        if offset >= self.blob.size() {
            return Ok(Bytes::new());
        }
        let state = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = &mut state.kept;
        let block = match kept.iter().position(|(known, _)| *known == number).and_then(|place| kept.remove(place)) {
            Some((_, block)) => block,
            None => {
                let start = number * BLOCK_BYTES;
                self.blob.read_at(start, BLOCK_BYTES.min(self.blob.size() - start))?
            }
        };
        kept.push_back((number, block.clone()));
        if kept.len() > BLOCKS {
            kept.pop_front();
        }
        Ok(block.slice(within.min(block.len())..))
    }

    /// What a reader of the file in this format failed with.
    fn failure(&self, error: Box<dyn StdError + Send + Sync>, format: &str) -> Error {
        let failed = self.state.lock().unwrap_or_else(PoisonError::into_inner).failed.take();
        failed.unwrap_or_else(|| match error.downcast::<Error>() {
            Ok(ours) => *ours,
            Err(error) => Error::decode(format!("{} cannot be read as {format}", self.blob.name())).with_source(error),
        })
    }

    /// Keeps an error for [`Blocks::failure`]; what is passed on instead is its words.
    fn keep(&self, error: Error) -> io::Error {
        let words = io::Error::other(error.to_string());
        self.state.lock().unwrap_or_else(PoisonError::into_inner).failed = Some(error);
        words
    }

    /// So many bytes: put together from blocks, or read at once if they are more than some.
    fn bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let short = || Error::decode(format!("{} ends before byte {}", self.blob.name(), start + length as u64));
        let first = self.at(start)?;
        if first.len() >= length {
            return Ok(first.slice(..length));
        }
        if length as u64 > BLOCK_BYTES * BLOCKS as u64 / 4 {
            let bytes = self.blob.read_at(start, length as u64)?;
            return if bytes.len() == length { Ok(bytes) } else { Err(short()) };
        }
        let mut whole = first.to_vec();
        while whole.len() < length {
            let next = self.at(start + whole.len() as u64)?;
            if next.is_empty() {
                return Err(short());
            }
            whole.extend_from_slice(&next[..next.len().min(length - whole.len())]);
        }
        Ok(whole.into())
    }
}

impl Length for Blocks {
    fn len(&self) -> u64 {
        self.blob.size()
    }
}

impl ChunkReader for Blocks {
    type T = Cursor;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Cursor> {
        Ok(Cursor { blocks: self.clone(), at: start })
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        self.bytes(start, length).map_err(|error| ParquetError::External(Box::new(self.keep(error))))
    }
}

/// A place in a file.
pub(super) struct Cursor {
    blocks: Blocks,
    at: u64,
}

impl Read for Cursor {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let bytes = self.blocks.at(self.at).map_err(|error| self.blocks.keep(error))?;
        let read = bytes.len().min(into.len());
        into[..read].copy_from_slice(&bytes[..read]);
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for Cursor {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.blocks.blob.size().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    /// Bytes in memory, with the ranges that were read of them.
    struct Memory(Vec<u8>, Mutex<Vec<(u64, u64)>>);

    impl Blob for Memory {
        fn name(&self) -> &str {
            "memory"
        }

        fn size(&self) -> u64 {
            self.0.len() as u64
        }

        fn piece_bytes(&self) -> u64 {
            1
        }

        fn read_at(&self, offset: u64, len: u64) -> Result<Bytes> {
            self.1.lock().unwrap().push((offset, len));
            Ok(Bytes::copy_from_slice(&self.0[offset as usize..(offset + len) as usize]))
        }
    }

    fn memory(size: usize) -> Arc<Memory> {
        Arc::new(Memory((0..size).map(|n| (n * 31 % 251) as u8).collect(), Mutex::default()))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_range_is_what_the_file_has_there(size in 1_usize..5 << 20, places in prop::collection::vec((0.0..1.0, 0_usize..3 << 20), 1..12)) {
            let file = memory(size);
            let blocks = Blocks::new(file.clone());
            for (place, length) in places {
                let start = (size as f64 * place) as usize;
                let length = length.min(size - start);
                prop_assert!(blocks.bytes(start as u64, length).unwrap() == file.0[start..start + length]);
                let mut cursor = blocks.get_read(start as u64).unwrap();
                let mut read = vec![0; length];
                cursor.read_exact(&mut read).unwrap();
                prop_assert!(read == file.0[start..start + length]);
                prop_assert_eq!(cursor.stream_position().unwrap(), (start + length) as u64);
            }
            prop_assert!(blocks.bytes(size as u64, 1).is_err(), "nothing is behind the end");
        }
    }

    #[test]
    fn columns_side_by_side_read_each_block_once() {
        let file = memory(8 << 20);
        let blocks = Blocks::new(file.clone());
        for step in 0..1_024_u64 {
            for column in 0..8 {
                let start = column * BLOCK_BYTES + step * 1_024;
                assert_eq!(blocks.bytes(start, 1_024).unwrap(), file.0[start as usize..start as usize + 1_024]);
            }
        }
        assert_eq!(file.1.lock().unwrap().len(), 8);
    }
}
