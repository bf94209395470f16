//! Where streams come from.

use pyo3::prelude::*;

use thalweg::format::avro::Avro;
use thalweg::source::Watch;
use thalweg::{Compression, Error, Files, Format, Listen, Stream};

use crate::arrow::{schema_from, stream_of};
use crate::config::Interval;
use crate::error::{detached, raise};
use crate::format::{DescriptorSet, FormatLike, JsonText, byte};
use crate::storage::StorageOptions;
use crate::stream::PyStream;

/// The rows of an Arrow object: a pyarrow, polars, pandas or DuckDB table, a record batch, a reader.
///
/// Tables are taken over without a copy and can be run any number of times; a reader can be run once.
///
/// Example:
///     >>> s = tw.from_arrow(pyarrow.table({"ts": [1, 2], "amount": [3.0, 4.0]}))
#[pyfunction]
pub fn from_arrow(data: &Bound<'_, PyAny>) -> PyResult<PyStream> {
    PyStream::checked(data.py(), stream_of(data)?)
}

/// The rows of the Parquet files that a path or glob names, in turns, each file a partition of its own.
///
/// Args:
///     path: A path or glob of this machine, or of an object store: `s3://bucket/prefix/*.parquet`.
///     storage_options: Settings of the object store: "endpoint_url", "region", "access_key", "secret_key", "session_token", "allow_http",
///         "virtual_hosted_style", "max_retries", "retry_timeout"; "env:NAME" and "file:PATH" stand for what they hold. Never shown or
///         logged. Without keys the default chain of credentials is asked.
///
/// Example:
///     >>> s = tw.read_parquet("payments/2026-*/*.parquet")
#[pyfunction]
#[pyo3(signature = (path, *, storage_options=None))]
pub fn read_parquet(py: Python<'_>, path: FilePath, storage_options: Option<StorageOptions>) -> PyResult<PyStream> {
    let store = StorageOptions::store(&path.0, storage_options)?;
    let read = || match store {
        Some(store) => Stream::read_parquet_at(store),
        None => Stream::read_parquet(&path.0),
    };
    PyStream::checked(py, detached(py, read)?)
}

/// The rows of the Arrow IPC files that a path or glob names. Files of Arrow's stream format may be packed; `compression` as for
/// `read_ndjson`, `storage_options` as for `read_parquet`.
///
/// Example:
///     >>> s = tw.read_arrow("payments.arrow")
#[pyfunction]
#[pyo3(signature = (path, compression=None, *, storage_options=None))]
pub fn read_arrow(
    py: Python<'_>,
    path: FilePath,
    compression: Option<&str>,
    storage_options: Option<StorageOptions>,
) -> PyResult<PyStream> {
    if compression.is_some() {
        return files(py, path, None, Format::ArrowIpc, compression, storage_options);
    }
    let store = StorageOptions::store(&path.0, storage_options)?;
    let read = || match store {
        Some(store) => Stream::read_arrow_at(store),
        None => Stream::read_arrow(&path.0),
    };
    PyStream::checked(py, detached(py, read)?)
}

/// The lines of the files that a path or glob names, each a JSON object. Without `schema` the columns are inferred
/// from the first lines. Lines that do not fit go to quarantine.
///
/// Args:
///     path: A path or glob; "-" is standard input.
///     schema: The columns, as `{"ts": "timestamp[ms]", …}` or an Arrow schema.
///     compression: "gzip", "zstd", "lz4" or "none" for all of the files; without it the suffix of each says so (.gz, .zst, .lz4). A file
///         that is damaged or cut off ends there: what is missing is reported in quarantine.
///     storage_options: Settings of the object store, as for `read_parquet`.
///
/// Example:
///     >>> s = tw.read_ndjson("clicks-*.ndjson.gz", schema={"ts": "timestamp[ms]", "page": "string"})
#[pyfunction]
#[pyo3(signature = (path, schema=None, compression=None, *, storage_options=None))]
pub fn read_ndjson(
    py: Python<'_>,
    path: FilePath,
    schema: Option<&Bound<'_, PyAny>>,
    compression: Option<&str>,
    storage_options: Option<StorageOptions>,
) -> PyResult<PyStream> {
    files(py, path, schema, Format::Ndjson, compression, storage_options)
}

/// The change events of Debezium in files that a path or glob names, each a line of JSON: a row is what is `after` the change, and of a delete
/// what was `before` it. Without `schema` the columns are those of the first events. Truncations, messages and what is no envelope go to
/// quarantine.
///
/// Args:
///     path: A path or glob; "-" is standard input.
///     schema: The columns, as `{"id": "int64", …}` or an Arrow schema: those of the table, and "__op" ("c" created, "u" updated, "d" deleted,
///         "r" read by a snapshot), "__ts_ms" (when the connector took the event in, milliseconds since 1970) and "__deleted" (a bool).
///     compression: As for `read_ndjson`.
///     storage_options: Settings of the object store, as for `read_parquet`.
///
/// Example:
///     >>> s = tw.read_debezium("s3://lake/shop.public.orders/*.json.gz", schema={"id": "int64", "__op": "string", "__ts_ms": "int64"})
#[pyfunction]
#[pyo3(signature = (path, schema=None, compression=None, *, storage_options=None))]
pub fn read_debezium(
    py: Python<'_>,
    path: FilePath,
    schema: Option<&Bound<'_, PyAny>>,
    compression: Option<&str>,
    storage_options: Option<StorageOptions>,
) -> PyResult<PyStream> {
    files(py, path, schema, Format::Debezium, compression, storage_options)
}

/// The rows of the CSV files that a path or glob names. Without `schema` the columns are inferred from the first rows. Other arguments
/// as for `read_ndjson`.
///
/// Example:
///     >>> s = tw.read_csv("sensors/*.csv", delimiter=";")
#[pyfunction]
#[pyo3(signature = (path, schema=None, delimiter=",", header=true, compression=None, *, storage_options=None))]
pub fn read_csv(
    py: Python<'_>,
    path: FilePath,
    schema: Option<&Bound<'_, PyAny>>,
    delimiter: &str,
    header: bool,
    compression: Option<&str>,
    storage_options: Option<StorageOptions>,
) -> PyResult<PyStream> {
    files(py, path, schema, Format::Csv { delimiter: byte(delimiter)?, header }, compression, storage_options)
}

/// The records of the Avro object container files that a path or glob names. Files may have different schemas: of each, the fields are
/// taken that bear the names of columns, cast to their types; a column without a field is null. A block that does not decode goes to
/// quarantine.
///
/// Args:
///     path: A path or glob.
///     schema: The columns, as `{"ts": "timestamp[ms]", …}` or an Arrow schema; without it those of `reader_schema`, or of the first file.
///     reader_schema: In Avro's JSON, a str or what `json.loads` makes of one: records are resolved against it, with its defaults and
///         aliases.
///     compression: As for `read_ndjson`, of the files as a whole; their blocks may be packed with deflate, snappy or zstandard.
///     storage_options: Settings of the object store, as for `read_parquet`.
///
/// Example:
///     >>> s = tw.read_avro("events/*.avro", schema={"ts": "timestamp[ms]", "card": "string"})
#[pyfunction]
#[pyo3(signature = (path, schema=None, reader_schema=None, compression=None, *, storage_options=None))]
pub fn read_avro(
    py: Python<'_>,
    path: FilePath,
    schema: Option<&Bound<'_, PyAny>>,
    reader_schema: Option<JsonText>,
    compression: Option<&str>,
    storage_options: Option<StorageOptions>,
) -> PyResult<PyStream> {
    let format = crate::format::resolved(Avro::container(), reader_schema);
    files(py, path, schema, format, compression, storage_options)
}

/// The messages of the files that a path or glob names, protocol buffers each behind its length (a varint), as `writeDelimitedTo` of Java
/// writes them. A message that does not decode goes to quarantine.
///
/// Args:
///     path: A path or glob.
///     descriptor_set: What `protoc --include_imports --descriptor_set_out=set.bin` makes: the bytes, or the path of the file.
///     message: The full name of the message, as "shop.v1.Payment".
///     schema: The columns, as `{"ts": "timestamp[ms]", …}` or an Arrow schema, found by name; without it all fields of the message.
///     compression: As for `read_ndjson`.
///     storage_options: Settings of the object store, as for `read_parquet`.
///
/// Example:
///     >>> s = tw.read_protobuf("payments-*.bin.zst", "shop.bin", "shop.v1.Payment")
#[pyfunction]
#[pyo3(signature = (path, descriptor_set, message, schema=None, compression=None, *, storage_options=None))]
pub fn read_protobuf(
    py: Python<'_>,
    path: FilePath,
    descriptor_set: DescriptorSet,
    message: &str,
    schema: Option<&Bound<'_, PyAny>>,
    compression: Option<&str>,
    storage_options: Option<StorageOptions>,
) -> PyResult<PyStream> {
    let format = detached(py, || descriptor_set.protobuf(message))?;
    files(py, path, schema, Format::Protobuf(format), compression, storage_options)
}

/// Files that come in as bytes.
fn files(
    py: Python<'_>,
    path: FilePath,
    schema: Option<&Bound<'_, PyAny>>,
    format: Format,
    compression: Option<&str>,
    options: Option<StorageOptions>,
) -> PyResult<PyStream> {
    let files = match StorageOptions::store(&path.0, options)? {
        Some(store) => Files::at(store),
        None => Files::new(path.0),
    };
    let mut files = files.format(format);
    if let Some(schema) = schema {
        files = files.schema(schema_from(schema)?);
    }
    if let Some(name) = compression {
        files = files.compression(Compression::parse(name).map_err(raise)?);
    }
    PyStream::checked(py, detached(py, || Stream::read_files(files))?)
}

/// The rows of files as they appear in a folder or below a prefix of an object store, each file once, in the order in which they were
/// written. The stream does not end until it is stopped.
///
/// A file is read once it is whole: when it has stayed as it is for `settle`, or at once if it was renamed from an unfinished name. Names
/// that begin with "_" or "." or end in ".tmp" or ".part" are unfinished. What is remembered is the names of the files that are there.
///
/// Args:
///     path: A glob of this machine, or of an object store: `s3://bucket/prefix/*.ndjson`.
///     format: "ndjson", "debezium" (change events in JSON), "csv", "tsv", "avro", "arrow", "parquet" or `formats.protobuf(…)`.
///     schema: The columns, as `{"ts": "timestamp[ms]", …}` or an Arrow schema; without it those of the first file that is there.
///     poll: How often the folder is listed.
///     settle: How long a file has to stay as it is: "5s" on this machine, no time in an object store. 0 if files appear by being renamed.
///     existing: Whether files that are there at first are read too.
///     end: "latest" to end behind the files that are there at first.
///     delimiter: What separates the fields of CSV, if not a comma.
///     header: Whether each file of CSV begins with a line of names.
///     compression: As for `read_ndjson`, in formats that are not Arrow's or Parquet.
///     storage_options: Settings of the object store, as for `read_parquet`.
///
/// Example:
///     >>> s = tw.watch("in/*.ndjson", schema={"ts": "timestamp[ms]", "card": "string"}, poll="500ms")
#[pyfunction]
#[pyo3(signature = (
    path, format=ndjson(), schema=None, *, poll=None, settle=None, existing=true, end=None, delimiter=None, header=true, compression=None,
    storage_options=None
))]
#[allow(clippy::too_many_arguments)]
pub fn watch(
    py: Python<'_>,
    path: FilePath,
    format: FormatLike,
    schema: Option<&Bound<'_, PyAny>>,
    poll: Option<Interval>,
    settle: Option<Interval>,
    existing: bool,
    end: Option<&str>,
    delimiter: Option<&str>,
    header: bool,
    compression: Option<&str>,
    storage_options: Option<StorageOptions>,
) -> PyResult<PyStream> {
    let format = format.of_files(delimiter, header)?;
    let mut watch = match StorageOptions::store(&path.0, storage_options)? {
        Some(store) => Watch::at(store, format),
        None => Watch::new(&path.0, format).map_err(raise)?,
    };
    if let Some(schema) = schema {
        watch = watch.schema(schema_from(schema)?);
    }
    if let Some(name) = compression {
        watch = watch.compression(Compression::parse(name).map_err(raise)?);
    }
    if let Some(Interval(every)) = poll {
        watch = watch.poll(every);
    }
    if let Some(Interval(after)) = settle {
        watch = watch.settle(after);
    }
    watch = match end {
        None => watch,
        Some("latest") => watch.bounded(true),
        Some(other) => return Err(raise(Error::config(format!("`end` is {other:?}; it may be latest, or None for no end")))),
    };
    PyStream::checked(py, detached(py, || Stream::watch(watch.existing(existing)))?)
}

/// What clients send to a TCP address. Each connection is a partition of its own.
///
/// Args:
///     addr: Host and port; port 0 takes a free one, see `Stream.local_addr`.
///     schema: The columns, as `{"ts": "timestamp[ms]", …}` or an Arrow schema.
///     format: "ndjson", "debezium" (change events in JSON), "csv", "tsv", "arrow", "avro" (object containers) or `formats.protobuf(…)`.
///     end_on_disconnect: The input ends when the last of its clients has gone: for tests and notebooks.
///     delimiter: What separates the fields of CSV, if not a comma.
///     header: Whether each client that sends CSV begins with a line of names.
///
/// Example:
///     >>> s = tw.listen_tcp("127.0.0.1:9000", schema={"ts": "timestamp[ms]", "card": "string", "amount": "float64"})
#[pyfunction]
#[pyo3(signature = (addr, schema, format=ndjson(), end_on_disconnect=false, delimiter=None, header=true))]
pub fn listen_tcp(
    addr: &str,
    schema: &Bound<'_, PyAny>,
    format: FormatLike,
    end_on_disconnect: bool,
    delimiter: Option<&str>,
    header: bool,
) -> PyResult<PyStream> {
    let listen = Listen::tcp(addr, schema_from(schema)?).format(format.format(delimiter, header)?);
    listening(schema.py(), listen.end_on_disconnect(end_on_disconnect))
}

/// What comes to a UDP address, one or more lines a datagram, CSV without a header. Arguments as for `listen_tcp`.
///
/// Example:
///     >>> s = tw.listen_udp("127.0.0.1:9001", schema={"ts": "timestamp[ms]", "level": "float64"})
#[pyfunction]
#[pyo3(signature = (addr, schema, format=ndjson(), delimiter=None))]
pub fn listen_udp(addr: &str, schema: &Bound<'_, PyAny>, format: FormatLike, delimiter: Option<&str>) -> PyResult<PyStream> {
    let listen = Listen::udp(addr, schema_from(schema)?).format(format.format(delimiter, false)?);
    listening(schema.py(), listen)
}

/// What clients send to a Unix socket that is made at `path`. Arguments as for `listen_tcp`.
///
/// Example:
///     >>> s = tw.listen_unix("/run/app/events.sock", schema={"ts": "timestamp[ms]", "level": "float64"})
#[pyfunction]
#[pyo3(signature = (path, schema, format=ndjson(), end_on_disconnect=false, delimiter=None, header=true))]
pub fn listen_unix(
    path: FilePath,
    schema: &Bound<'_, PyAny>,
    format: FormatLike,
    end_on_disconnect: bool,
    delimiter: Option<&str>,
    header: bool,
) -> PyResult<PyStream> {
    let listen = Listen::unix(&path.0, schema_from(schema)?).format(format.format(delimiter, header)?);
    listening(schema.py(), listen.end_on_disconnect(end_on_disconnect))
}

fn ndjson() -> FormatLike {
    FormatLike::Made(Format::Ndjson)
}

fn listening(py: Python<'_>, listen: Listen) -> PyResult<PyStream> {
    PyStream::checked(py, detached(py, || Stream::listen(listen))?)
}

/// A path or glob: a str or anything with `__fspath__`.
pub struct FilePath(pub String);

impl FromPyObject<'_, '_> for FilePath {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, '_, PyAny>) -> PyResult<FilePath> {
        let path = value.py().import("os")?.call_method1("fspath", (value,))?;
        Ok(FilePath(path.extract()?))
    }
}
