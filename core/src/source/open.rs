//! What a stream holds until it runs: listeners and files with their format and columns.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatchIterator;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::format::Format;
use crate::format::arrow_ipc::{is_arrow_file, read_arrow_file};
use crate::format::compression::{Compression, Unpacker};
use crate::format::infer::infer;
use crate::source::endpoint::{Endpoint, Listener};
use crate::source::file::FileSource;
use crate::source::glob::expand;
use crate::source::reader::{Reader, Readers};
use crate::source::socket::SocketSource;
use crate::source::{Blobs, FileSet, OpenSource, Source};
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

/// Files to read, with their format and columns.
///
/// ```no_run
/// use thalweg::{Compression, Files, Format, Stream};
///
/// # fn main() -> thalweg::Result<()> {
/// let clicks = Files::new("clicks/*.log").format(Format::Ndjson).compression(Compression::Zstd);
/// println!("{}", Stream::read_files(clicks)?.collect()?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Files {
    place: Place,
    schema: Option<SchemaRef>,
    format: Format,
    compression: Option<Compression>,
}

/// Where files are.
#[derive(Clone)]
enum Place {
    /// On this machine, named by a pattern.
    Here(String),
    /// Wherever a set of files is.
    Set(Arc<dyn FileSet>),
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Here(pattern) => f.write_str(pattern),
            Place::Set(set) => f.write_str(&set.describe()),
        }
    }
}

impl Files {
    /// The files that match `pattern`: a path, or a pattern with `*`, `?` and `[…]`; `-` is standard input, and `s3://bucket/…` an object
    /// store with the default settings of its [connector](crate::connector). NDJSON unless told otherwise.
    pub fn new(pattern: impl Into<String>) -> Files {
        Files { place: Place::Here(pattern.into()), schema: None, format: Format::Ndjson, compression: None }
    }

    /// Files of any place. NDJSON unless told otherwise.
    pub fn at(set: impl FileSet + 'static) -> Files {
        Files::new("").of(set)
    }

    /// What these are, but of this place.
    pub(crate) fn of(self, set: impl FileSet + 'static) -> Files {
        Files { place: Place::Set(Arc::new(set)), ..self }
    }

    /// The path or pattern, unless they are given as a set.
    pub(crate) fn path(&self) -> Option<&str> {
        match &self.place {
            Place::Here(pattern) => Some(pattern),
            Place::Set(_) => None,
        }
    }

    /// The format of what they hold.
    pub fn format(mut self, format: Format) -> Files {
        self.format = format;
        self
    }

    /// The columns; without them, they are inferred from the beginning of the first file.
    pub fn schema(mut self, schema: SchemaRef) -> Files {
        self.schema = Some(schema);
        self
    }

    /// How all of them are packed; without it, the suffix of each says so: `.gz`, `.zst`, `.lz4`, or none.
    pub fn compression(mut self, compression: Compression) -> Files {
        self.compression = Some(compression);
        self
    }

    /// Looks for the files, and for their columns if they are not given.
    ///
    /// # Errors
    /// If no file matches, or the columns cannot be inferred.
    pub(crate) fn find(self) -> Result<Box<dyn OpenSource>> {
        let Files { place, schema, format, compression } = self;
        let pattern = match place {
            Place::Here(pattern) => pattern,
            Place::Set(set) => return Ok(Box::new(Blobs::new(set, schema, format, compression)?)),
        };
        let paths = expand(&pattern)?;
        let schema = match (schema, paths.first()) {
            (Some(schema), _) => schema,
            (None, Some(first)) => infer_file(&format, first, compression)?,
            (None, None) => return Err(Error::config(format!("no file matches `{pattern}`"))),
        };
        Ok(Box::new(Found { pattern, paths, schema, format, compression }))
    }
}

struct Found {
    pattern: String,
    paths: Vec<PathBuf>,
    schema: SchemaRef,
    format: Format,
    compression: Option<Compression>,
}

impl OpenSource for Found {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    fn describe(&self) -> String {
        let Found { pattern, format, compression, .. } = self;
        let packed = compression.map(|compression| format!(", compression {compression}")).unwrap_or_default();
        format!("read_{format}({pattern}{packed}), {} files", self.paths.len())
    }

    fn open(&self, config: &Config, clock: &SharedClock) -> Result<Box<dyn Source>> {
        let decoder = self.format.decoder(self.schema(), config)?;
        Ok(Box::new(FileSource::new(self.paths.clone(), self.compression, decoder, config, SharedClock::clone(clock))?))
    }
}

/// The columns of the file at `path`, from its beginning.
fn infer_file(format: &Format, path: &Path, compression: Option<Compression>) -> Result<SchemaRef> {
    if path == Path::new("-") {
        return Err(Error::config("the columns of standard input cannot be inferred, because it can be read only once; give a schema"));
    }
    let mut sample = Vec::new();
    let file = File::open(path).map_err(|error| Error::io(format!("cannot open {}", path.display()), error))?;
    file.take(SAMPLE_BYTES).read_to_end(&mut sample).map_err(|error| Error::io(format!("cannot read {}", path.display()), error))?;
    let compression = compression.unwrap_or_else(|| Compression::of_path(path));
    infer_packed(format, &sample, compression).map_err(|error| error.context(path.display()))
}

/// The columns of a file that begins so.
pub(super) fn infer_packed(format: &Format, beginning: &[u8], compression: Compression) -> Result<SchemaRef> {
    infer(format, &unpacked(beginning, compression)?).map(SchemaRef::new)
}

/// What the beginning of a file unpacks to, no more than a sample.
fn unpacked(packed: &[u8], compression: Compression) -> Result<Cow<'_, [u8]>> {
    let Some(mut unpacker) = Unpacker::new(compression)? else { return Ok(Cow::Borrowed(packed)) };
    let (mut sample, mut used) = (Vec::new(), 0);
    while sample.len() < SAMPLE_BYTES as usize {
        let (step, bytes) = unpacker.step(&packed[used..])?;
        if bytes.is_empty() {
            break;
        }
        sample.extend_from_slice(bytes);
        used += step;
    }
    Ok(Cow::Owned(sample))
}

/// The Arrow IPC files that match `pattern`: all of the file format, or all of the stream format, which may be packed.
///
/// # Errors
/// If no file matches or the first cannot be read.
pub(crate) fn arrow_files(pattern: &str) -> Result<Box<dyn OpenSource>> {
    let paths = expand(pattern)?;
    let Some(first) = paths.first() else { return Err(Error::config(format!("no file matches `{pattern}`"))) };
    if Compression::of_path(first) != Compression::None || !is_arrow_file(first)? {
        return Files::new(pattern).format(Format::ArrowIpc).find();
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
