//! What a stream holds until it runs: listeners and files with their format and columns.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatchIterator;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::format::Format;
use crate::format::arrow_ipc::{is_arrow_file, read_arrow_file};
use crate::format::infer::infer;
use crate::source::endpoint::{Endpoint, Listener};
use crate::source::file::FileSource;
use crate::source::glob::expand;
use crate::source::reader::{Reader, Readers};
use crate::source::socket::SocketSource;
use crate::source::{OpenSource, Source};
use crate::time::SharedClock;

/// Bytes at the beginning of a file that columns are inferred from.
pub(super) const SAMPLE_BYTES: u64 = 1 << 20;

/// A socket to listen on, with the format and columns of what its clients send.
#[derive(Debug, Clone)]
pub struct Listen {
    endpoint: Endpoint,
    schema: SchemaRef,
    format: Format,
    end_on_disconnect: bool,
}

impl Listen {
    /// TCP on `host:port`, or a port alone for loopback; port 0 is any free one. NDJSON unless told otherwise.
    pub fn tcp(address: impl Into<String>, schema: SchemaRef) -> Listen {
        Listen::at(Endpoint::Tcp(address.into()), schema)
    }

    /// UDP, each datagram a whole number of frames. NDJSON unless told otherwise.
    pub fn udp(address: impl Into<String>, schema: SchemaRef) -> Listen {
        Listen::at(Endpoint::Udp(address.into()), schema)
    }

    /// A Unix socket at a path. NDJSON unless told otherwise.
    pub fn unix(path: impl Into<PathBuf>, schema: SchemaRef) -> Listen {
        Listen::at(Endpoint::Unix(path.into()), schema)
    }

    fn at(endpoint: Endpoint, schema: SchemaRef) -> Listen {
        Listen { endpoint, schema, format: Format::Ndjson, end_on_disconnect: false }
    }

    /// The format of what clients send.
    pub fn format(mut self, format: Format) -> Listen {
        self.format = format;
        self
    }

    /// Ends the input when clients have come and the last of them has gone: for tests and notebooks.
    pub fn end_on_disconnect(mut self, end: bool) -> Listen {
        self.end_on_disconnect = end;
        self
    }

    /// Binds the socket.
    ///
    /// # Errors
    /// As [`Listener::bind`].
    pub(crate) fn bind(self) -> Result<impl OpenSource> {
        Ok(Bound { listener: Listener::bind(self.endpoint.clone())?, listen: self })
    }
}

struct Bound {
    listener: Listener,
    listen: Listen,
}

impl OpenSource for Bound {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.listen.schema)
    }

    fn describe(&self) -> String {
        let address = self.local_addr().unwrap_or_default();
        match &self.listen.endpoint {
            Endpoint::Tcp(_) => format!("listen_tcp({address}), {}", self.listen.format),
            Endpoint::Udp(_) => format!("listen_udp({address}), {}", self.listen.format),
            Endpoint::Unix(_) => format!("listen_unix({address}), {}", self.listen.format),
        }
    }

    fn open(&self, config: &Config, clock: &SharedClock) -> Result<Box<dyn Source>> {
        let decoder = self.listen.format.decoder(self.schema(), config)?;
        let clock = SharedClock::clone(clock);
        Ok(Box::new(SocketSource::new(self.listener.clone(), decoder, config, clock, self.listen.end_on_disconnect)?))
    }

    fn local_addr(&self) -> Option<String> {
        match &self.listen.endpoint {
            Endpoint::Unix(path) => Some(path.display().to_string()),
            _ => self.listener.local_addr().map(|address| address.to_string()),
        }
    }
}

/// Files of one format that come in as bytes.
#[derive(Debug)]
pub(crate) struct Files {
    pattern: String,
    paths: Vec<PathBuf>,
    schema: SchemaRef,
    format: Format,
}

impl Files {
    /// The files that match `pattern`; without `schema`, columns are inferred from the beginning of the first.
    ///
    /// # Errors
    /// If no file matches, or the columns cannot be inferred.
    pub fn new(pattern: &str, schema: Option<SchemaRef>, format: Format) -> Result<Files> {
        let paths = expand(pattern)?;
        let schema = match (schema, paths.first()) {
            (Some(schema), _) => schema,
            (None, Some(first)) => infer_file(format, first)?,
            (None, None) => return Err(Error::config(format!("no file matches `{pattern}`"))),
        };
        Ok(Files { pattern: pattern.to_owned(), paths, schema, format })
    }
}

impl OpenSource for Files {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    fn describe(&self) -> String {
        format!("read_{}({}), {} files", self.format, self.pattern, self.paths.len())
    }

    fn open(&self, config: &Config, clock: &SharedClock) -> Result<Box<dyn Source>> {
        let decoder = self.format.decoder(self.schema(), config)?;
        Ok(Box::new(FileSource::new(self.paths.clone(), decoder, config, SharedClock::clone(clock))?))
    }
}

/// The columns of the file at `path`, from its beginning.
fn infer_file(format: Format, path: &Path) -> Result<SchemaRef> {
    if path == Path::new("-") {
        return Err(Error::config("the columns of standard input cannot be inferred, because it can be read only once; give a schema"));
    }
    let mut sample = Vec::new();
    let file = File::open(path).map_err(|error| Error::io(format!("cannot open {}", path.display()), error))?;
    file.take(SAMPLE_BYTES).read_to_end(&mut sample).map_err(|error| Error::io(format!("cannot read {}", path.display()), error))?;
    infer(&format, &sample).map(SchemaRef::new).map_err(|error| error.context(path.display()))
}

/// The Arrow IPC files that match `pattern`: all of the file format, or all of the stream format.
///
/// # Errors
/// If no file matches or the first cannot be read.
pub(crate) fn arrow_files(pattern: &str) -> Result<Box<dyn OpenSource>> {
    let paths = expand(pattern)?;
    let Some(first) = paths.first() else { return Err(Error::config(format!("no file matches `{pattern}`"))) };
    if !is_arrow_file(first)? {
        return Ok(Box::new(Files::new(pattern, None, Format::ArrowIpc)?));
    }
    let schema = read_arrow_file(first)?.schema();
    let description = format!("read_arrow({pattern}), {} files", paths.len());
    let open = move || paths.iter().map(|path| Ok((path.display().to_string(), open_arrow(path)?))).collect();
    Ok(Box::new(Readers::reopened(schema, description, open)))
}

fn open_arrow(path: &Path) -> Result<Reader> {
    let file = read_arrow_file(path)?;
    let schema = file.schema();
    let batches = file.map(|batch| batch.map_err(|error| ArrowError::ExternalError(Box::new(error))));
    Ok(Box::new(RecordBatchIterator::new(batches, schema)))
}

/// The Parquet files that match `pattern`, read by the parquet crate (columns are pages, not a byte stream, so
/// io_uring does not carry them).
///
/// # Errors
/// If no file matches or the first is not Parquet.
pub(crate) fn parquet_files(pattern: &str) -> Result<Readers> {
    let paths = expand(pattern)?;
    let Some(first) = paths.first() else { return Err(Error::config(format!("no file matches `{pattern}`"))) };
    let schema = open_parquet(first, Config::default().batch_rows)?.schema();
    let description = format!("read_parquet({pattern}), {} files", paths.len());
    let open = move || paths.iter().map(|path| Ok((path.display().to_string(), open_parquet(path, crate::config::BATCH_ROWS)?))).collect();
    Ok(Readers::reopened(schema, description, open))
}

fn open_parquet(path: &Path, batch_rows: usize) -> Result<Reader> {
    let file = File::open(path).map_err(|error| Error::io(format!("cannot open {}", path.display()), error))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|builder| builder.with_batch_size(batch_rows).build());
    let reader = reader.map_err(|error| Error::decode(format!("{} cannot be read as Parquet", path.display())).with_source(error))?;
    Ok(Box::new(reader))
}
