//! Results as Arrow IPC files, in a folder of parts.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::{BatchCoalescer, cast};
use arrow::datatypes::{Schema, SchemaRef};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions};

use super::Sink;
use super::parts::{Encoder, Failure, Format, LocalFolder, Output, PartOptions, Parts, Place};
use crate::config::ARROW_BATCH_ROWS;
use crate::error::{Error, Result};
use crate::format::compression::Compression;
use crate::format::values::arrow_ipc::plain;

/// Adds files of Arrow's file format to a folder.
///
/// Rows are gathered into record batches of [`ARROW_BATCH_ROWS`]. Dictionaries are written as their values: a file of this format has one
/// dictionary for all its batches, which a stream does not know beforehand.
///
/// **Guarantee:** exactly once within a run, by atomic publication, as [`Parquet`](super::Parquet): rows appear at the commit, each file whole.
pub struct ArrowIpc(Parts<File>);

/// When a part is complete, which folder it is in, and how it is written inside.
#[derive(Clone, Default)]
pub struct ArrowIpcOptions {
    /// When a part is complete, and which folder it is in.
    pub parts: PartOptions,
    /// What buffers are compressed with. Without it readers map files into memory instead of reading them.
    pub compression: Compression,
}

impl ArrowIpc {
    /// Adds part files to the folder at `path`, which is created if missing. Their names are unique, so that
    /// several pipelines may write to one folder.
    pub fn directory(path: impl Into<PathBuf>) -> ArrowIpc {
        ArrowIpc::at(LocalFolder::new(path))
    }

    /// Adds part files to a place, as [`ArrowIpc::directory`]: a prefix of an object store.
    pub fn at(place: impl Place + 'static) -> ArrowIpc {
        ArrowIpc(Parts::new(place, File(Compression::None)))
    }

    /// Sets when parts are complete and how they are written.
    pub fn options(mut self, options: ArrowIpcOptions) -> ArrowIpc {
        self.0.options = options.parts;
        self.0.format = File(options.compression);
        self
    }
}

impl Sink for ArrowIpc {
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

impl std::fmt::Debug for ArrowIpc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Arrow IPC parts in {}", self.0.describe())
    }
}

/// The format.
struct File(Compression);

impl Format for File {
    fn extension(&self) -> &'static str {
        ".arrow"
    }

    fn prepare(&mut self, _schema: &SchemaRef, _sort_by: &[usize]) -> Result<()> {
        match self.0 {
            Compression::Gzip => Err(Error::config("Arrow's format knows no gzip; take zstd or lz4, or none")),
            Compression::None | Compression::Zstd | Compression::Lz4 => Ok(()),
        }
    }

    fn begin(&self, schema: &SchemaRef, output: Output) -> Result<Box<dyn Encoder>, Failure> {
        let schema = Arc::new(Schema::new_with_metadata(schema.fields().iter().map(plain).collect::<Vec<_>>(), schema.metadata().clone()));
        let compression = match self.0 {
            Compression::None | Compression::Gzip => None,
            Compression::Zstd => Some(CompressionType::ZSTD),
            Compression::Lz4 => Some(CompressionType::LZ4_FRAME),
        };
        let options = IpcWriteOptions::default().try_with_compression(compression)?;
        let writer = FileWriter::try_new_with_options(BufWriter::new(output), &schema, options)?;
        Ok(Box::new(Batches { writer, rows: BatchCoalescer::new(SchemaRef::clone(&schema), ARROW_BATCH_ROWS), schema, held_bytes: 0 }))
    }
}

/// One file.
struct Batches {
    writer: FileWriter<BufWriter<Output>>,
    schema: SchemaRef,
    /// Rows that do not fill a batch yet.
    rows: BatchCoalescer,
    /// Bytes that these have in memory, or some more.
    held_bytes: usize,
}

impl Batches {
    fn write_full(&mut self) -> Result<(), Failure> {
        while let Some(batch) = self.rows.next_completed_batch() {
            self.writer.write(&batch)?;
            self.held_bytes = 0;
        }
        Ok(())
    }
}

impl Encoder for Batches {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), Failure> {
        let columns = batch.columns().iter().zip(self.schema.fields()).map(|(column, field)| cast(column, field.data_type()));
        let batch = RecordBatch::try_new(SchemaRef::clone(&self.schema), columns.collect::<Result<_, _>>()?)?;
        self.held_bytes += batch.get_array_memory_size();
        self.rows.push_batch(batch)?;
        self.write_full()
    }

    fn output(&self) -> &Output {
        self.writer.get_ref().get_ref()
    }

    fn file_bytes(&self) -> usize {
        self.output().bytes() + self.held_bytes
    }

    fn memory_bytes(&self) -> usize {
        self.output().memory_bytes() + self.held_bytes
    }

    fn finish(mut self: Box<Self>) -> Result<Output, Failure> {
        self.rows.finish_buffered_batch()?;
        self.write_full()?;
        let mut buffered = self.writer.into_inner()?;
        buffered.flush()?;
        Ok(buffered.into_inner().map_err(|error| error.into_error())?)
    }
}
