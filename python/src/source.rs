//! Where streams come from.

use pyo3::prelude::*;

use thalweg::{Error, Format, Listen, Stream};

use crate::arrow::{schema_from, stream_of};
use crate::error::{detached, raise};
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
/// Example:
///     >>> s = tw.read_parquet("payments/2026-*/*.parquet")
#[pyfunction]
#[pyo3(signature = (path))]
pub fn read_parquet(py: Python<'_>, path: FilePath) -> PyResult<PyStream> {
    PyStream::checked(py, detached(py, || Stream::read_parquet(&path.0))?)
}

/// The rows of the Arrow IPC files that a path or glob names.
///
/// Example:
///     >>> s = tw.read_arrow("payments.arrow")
#[pyfunction]
#[pyo3(signature = (path))]
pub fn read_arrow(py: Python<'_>, path: FilePath) -> PyResult<PyStream> {
    PyStream::checked(py, detached(py, || Stream::read_arrow(&path.0))?)
}

/// The lines of the files that a path or glob names, each a JSON object. Without `schema` the columns are inferred
/// from the first lines. Lines that do not fit go to quarantine.
///
/// Example:
///     >>> s = tw.read_ndjson("clicks-*.ndjson", schema={"ts": "timestamp[ms]", "page": "string"})
#[pyfunction]
#[pyo3(signature = (path, schema=None))]
pub fn read_ndjson(py: Python<'_>, path: FilePath, schema: Option<&Bound<'_, PyAny>>) -> PyResult<PyStream> {
    let schema = schema.map(schema_from).transpose()?;
    PyStream::checked(py, detached(py, || Stream::read_ndjson(&path.0, schema))?)
}

/// The rows of the CSV files that a path or glob names. Without `schema` the columns are inferred from the first rows.
///
/// Example:
///     >>> s = tw.read_csv("sensors/*.csv", delimiter=";")
#[pyfunction]
#[pyo3(signature = (path, schema=None, delimiter=",", header=true))]
pub fn read_csv(py: Python<'_>, path: FilePath, schema: Option<&Bound<'_, PyAny>>, delimiter: &str, header: bool) -> PyResult<PyStream> {
    let schema = schema.map(schema_from).transpose()?;
    let csv = Format::Csv { delimiter: byte(delimiter)?, header };
    PyStream::checked(py, detached(py, || Stream::read(&path.0, schema, csv))?)
}

/// What clients send to a TCP address. Each connection is a partition of its own.
///
/// Args:
///     addr: Host and port; port 0 takes a free one, see `Stream.local_addr`.
///     schema: The columns, as `{"ts": "timestamp[ms]", …}` or an Arrow schema.
///     format: "ndjson", "csv", "tsv" or "arrow".
///     end_on_disconnect: The input ends when the last of its clients has gone: for tests and notebooks.
///     delimiter: What separates the fields of CSV, if not a comma.
///     header: Whether each client that sends CSV begins with a line of names.
///
/// Example:
///     >>> s = tw.listen_tcp("127.0.0.1:9000", schema={"ts": "timestamp[ms]", "card": "string", "amount": "float64"})
#[pyfunction]
#[pyo3(signature = (addr, schema, format="ndjson", end_on_disconnect=false, delimiter=None, header=true))]
pub fn listen_tcp(
    addr: &str,
    schema: &Bound<'_, PyAny>,
    format: &str,
    end_on_disconnect: bool,
    delimiter: Option<&str>,
    header: bool,
) -> PyResult<PyStream> {
    let listen = Listen::tcp(addr, schema_from(schema)?).format(format_of(format, delimiter, header)?);
    listening(schema.py(), listen.end_on_disconnect(end_on_disconnect))
}

/// What comes to a UDP address, one or more lines a datagram, CSV without a header. Arguments as for `listen_tcp`.
///
/// Example:
///     >>> s = tw.listen_udp("127.0.0.1:9001", schema={"ts": "timestamp[ms]", "level": "float64"})
#[pyfunction]
#[pyo3(signature = (addr, schema, format="ndjson", delimiter=None))]
pub fn listen_udp(addr: &str, schema: &Bound<'_, PyAny>, format: &str, delimiter: Option<&str>) -> PyResult<PyStream> {
    let listen = Listen::udp(addr, schema_from(schema)?).format(format_of(format, delimiter, false)?);
    listening(schema.py(), listen)
}

/// What clients send to a Unix socket that is made at `path`. Arguments as for `listen_tcp`.
///
/// Example:
///     >>> s = tw.listen_unix("/run/app/events.sock", schema={"ts": "timestamp[ms]", "level": "float64"})
#[pyfunction]
#[pyo3(signature = (path, schema, format="ndjson", end_on_disconnect=false, delimiter=None, header=true))]
pub fn listen_unix(
    path: FilePath,
    schema: &Bound<'_, PyAny>,
    format: &str,
    end_on_disconnect: bool,
    delimiter: Option<&str>,
    header: bool,
) -> PyResult<PyStream> {
    let listen = Listen::unix(&path.0, schema_from(schema)?).format(format_of(format, delimiter, header)?);
    listening(schema.py(), listen.end_on_disconnect(end_on_disconnect))
}

fn listening(py: Python<'_>, listen: Listen) -> PyResult<PyStream> {
    PyStream::checked(py, detached(py, || Stream::listen(listen))?)
}

/// The format called `name`, with other delimiters where they are given.
pub fn format_of(name: &str, delimiter: Option<&str>, header: bool) -> PyResult<Format> {
    Ok(match Format::parse(name).map_err(raise)? {
        Format::Csv { delimiter: own, .. } => Format::Csv { delimiter: delimiter.map_or(Ok(own), byte)?, header },
        other => other,
    })
}

fn byte(delimiter: &str) -> PyResult<u8> {
    match delimiter.as_bytes() {
        &[byte] => Ok(byte),
        _ => Err(raise(Error::config(format!("`delimiter` is {delimiter:?}; it must be one ASCII character")))),
    }
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
