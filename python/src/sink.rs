//! Where results go: files, standard output, topics, Python callables.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use thalweg::sink::{ArrowIpc, ArrowIpcOptions, Callback, Csv, CsvOptions, Ndjson, NdjsonOptions, Parquet, ParquetOptions, PartOptions};
use thalweg::time::SystemClock;
use thalweg::{Compression, Error, Result, Sink};

use crate::config::Interval;
use crate::error::raise;
use crate::format::byte;
use crate::source::FilePath;
use crate::storage::StorageOptions;
use crate::stream::Names;
use crate::table::PyTable;

/// Where results go. Made by `write_parquet`, `write_csv`, `write_ndjson`, `write_arrow`, `write_kafka`, `write_kinesis` and `callback`.
#[pyclass(name = "Sink", module = "thalweg", frozen)]
pub struct PySink(pub Destination);

/// Where to.
pub enum Destination {
    Made { description: String, make: Box<dyn Fn() -> BoxedSink + Send + Sync> },
    Callback(Py<PyAny>),
}

impl PySink {
    /// A sink that `make` makes anew for each run.
    pub fn made<S: Sink + 'static>(description: String, make: impl Fn() -> S + Send + Sync + 'static) -> PySink {
        PySink(Destination::Made { description, make: Box::new(move || BoxedSink(Box::new(make()))) })
    }
}

/// Options of parts as Python gives them.
struct Parts {
    max_rows: Option<usize>,
    max_bytes: Option<usize>,
    max_age: Option<Interval>,
    partition_by: Option<Names>,
    sort_by: Option<Names>,
}

impl Parts {
    /// Whether none is given.
    fn is_empty(&self) -> bool {
        let Parts { max_rows, max_bytes, max_age, partition_by, sort_by } = self;
        max_rows.is_none() && max_bytes.is_none() && max_age.is_none() && partition_by.is_none() && sort_by.is_none()
    }

    fn options(self) -> PyResult<PartOptions> {
        let default = PartOptions::default();
        let partition_by = names(self.partition_by).iter().map(|by| by.parse()).collect::<Result<_>>().map_err(raise)?;
        Ok(PartOptions {
            max_rows: self.max_rows.unwrap_or(default.max_rows),
            max_bytes: self.max_bytes.unwrap_or(default.max_bytes),
            max_age: self.max_age.map(|age| (age.0, SystemClock::shared())),
            partition_by,
            sort_by: names(self.sort_by),
        })
    }
}

fn names(names: Option<Names>) -> Vec<String> {
    names.map(|names| names.0).unwrap_or_default()
}

fn compression(name: Option<&str>) -> PyResult<Compression> {
    name.map_or(Ok(Compression::None), |name| Compression::parse(name).map_err(raise))
}

/// Writes Parquet files into a directory, or below a prefix of an object store (`s3://bucket/prefix`). A file appears whole, under its final
/// name, when it is published: at `max_rows`, `max_bytes` or `max_age` and at the end.
///
/// Args:
///     partition_by: What folders are made of, the outermost first: a column ("city", which is left out of the files then), or "year(ts)",
///         "month(ts)", "day(ts)" or "hour(ts)" of a time column, in UTC. Folders are named as Hive does: `city=Paris/ts_day=2026-11-27`.
///     sort_by: Columns that the rows of each file are sorted by. A file is held in memory until it is complete then.
///     bloom_filters: Columns of which each row group tells which values it does not hold, for readers that look for one.
///     row_group_rows: Rows in a row group: what a reader decodes at once and can skip.
///     zstd_level: Compression, 1 (fast) to 22 (small).
///     storage_options: Settings of the object store: "endpoint_url", "region", "access_key", "secret_key", "session_token", "allow_http",
///         "virtual_hosted_style", "max_retries", "retry_timeout"; "env:NAME" and "file:PATH" stand for what they hold. Never shown or
///         logged. Without keys the default chain of credentials is asked.
///
/// Example:
///     >>> q = w.run(sink=tw.write_parquet("out/", partition_by=["day(window_start)"], sort_by="card", max_age="5m"))
#[pyfunction]
#[pyo3(signature = (
    directory, max_rows=None, max_bytes=None, max_age=None, *, partition_by=None, sort_by=None, bloom_filters=None, row_group_rows=None,
    zstd_level=None, storage_options=None
))]
#[allow(clippy::too_many_arguments)]
pub fn write_parquet(
    directory: FilePath,
    max_rows: Option<usize>,
    max_bytes: Option<usize>,
    max_age: Option<Interval>,
    partition_by: Option<Names>,
    sort_by: Option<Names>,
    bloom_filters: Option<Names>,
    row_group_rows: Option<usize>,
    zstd_level: Option<i32>,
    storage_options: Option<StorageOptions>,
) -> PyResult<PySink> {
    let default = ParquetOptions::default();
    let options = ParquetOptions {
        parts: Parts { max_rows, max_bytes, max_age, partition_by, sort_by }.options()?,
        row_group_rows: row_group_rows.unwrap_or(default.row_group_rows),
        zstd_level: zstd_level.unwrap_or(default.zstd_level),
        bloom_filters: names(bloom_filters),
    };
    let description = format!("write_parquet({:?})", directory.0);
    Ok(match StorageOptions::store(&directory.0, storage_options)? {
        Some(store) => PySink::made(description, move || Parquet::at(store.clone()).options(options.clone())),
        None => PySink::made(description, move || Parquet::directory(&directory.0).options(options.clone())),
    })
}

/// Writes CSV files into a directory or an object store, published as by `write_parquet`. Null is written as nothing, as the empty text is.
///
/// Args:
///     partition_by: What folders are made of, as for `write_parquet`.
///     sort_by: Columns that the rows of each file are sorted by. A file is held in memory until it is complete then.
///     delimiter: What separates the fields.
///     header: Whether each file begins with the names of the columns.
///     compression: "gzip", "zstd" or "lz4", which add ".gz", ".zst" or ".lz4" to the names.
///     storage_options: Settings of the object store, as for `write_parquet`.
///
/// Example:
///     >>> q = w.run(sink=tw.write_csv("out/", partition_by="day(window_start)", max_rows=1_000_000))
#[pyfunction]
#[pyo3(signature = (
    directory, max_rows=None, max_bytes=None, max_age=None, *, partition_by=None, sort_by=None, delimiter=",", header=true, compression=None,
    storage_options=None
))]
#[allow(clippy::too_many_arguments)]
pub fn write_csv(
    directory: FilePath,
    max_rows: Option<usize>,
    max_bytes: Option<usize>,
    max_age: Option<Interval>,
    partition_by: Option<Names>,
    sort_by: Option<Names>,
    delimiter: &str,
    header: bool,
    compression: Option<&str>,
    storage_options: Option<StorageOptions>,
) -> PyResult<PySink> {
    let options = CsvOptions {
        parts: Parts { max_rows, max_bytes, max_age, partition_by, sort_by }.options()?,
        delimiter: byte(delimiter)?,
        header,
        compression: self::compression(compression)?,
    };
    let description = format!("write_csv({:?})", directory.0);
    Ok(match StorageOptions::store(&directory.0, storage_options)? {
        Some(store) => PySink::made(description, move || Csv::at(store.clone()).options(options.clone())),
        None => PySink::made(description, move || Csv::directory(&directory.0).options(options.clone())),
    })
}

/// Writes Arrow IPC files into a directory or an object store, published as by `write_parquet`. Dictionaries are written as their values.
///
/// Args:
///     partition_by: What folders are made of, as for `write_parquet`.
///     sort_by: Columns that the rows of each file are sorted by. A file is held in memory until it is complete then.
///     compression: "zstd" or "lz4". Without it readers map files into memory instead of reading them.
///     storage_options: Settings of the object store, as for `write_parquet`.
///
/// Example:
///     >>> q = w.run(sink=tw.write_arrow("out/", max_age="1m"))
#[pyfunction]
#[pyo3(signature = (
    directory, max_rows=None, max_bytes=None, max_age=None, *, partition_by=None, sort_by=None, compression=None, storage_options=None
))]
#[allow(clippy::too_many_arguments)]
pub fn write_arrow(
    directory: FilePath,
    max_rows: Option<usize>,
    max_bytes: Option<usize>,
    max_age: Option<Interval>,
    partition_by: Option<Names>,
    sort_by: Option<Names>,
    compression: Option<&str>,
    storage_options: Option<StorageOptions>,
) -> PyResult<PySink> {
    let options = ArrowIpcOptions {
        parts: Parts { max_rows, max_bytes, max_age, partition_by, sort_by }.options()?,
        compression: self::compression(compression)?,
    };
    let description = format!("write_arrow({:?})", directory.0);
    Ok(match StorageOptions::store(&directory.0, storage_options)? {
        Some(store) => PySink::made(description, move || ArrowIpc::at(store.clone()).options(options.clone())),
        None => PySink::made(description, move || ArrowIpc::directory(&directory.0).options(options.clone())),
    })
}

/// Writes one JSON object per line: to a file, to standard output for "-", or in files of a directory or an object store. It is a
/// directory if the path ends in "/" or any of the options after `append` is given.
///
/// A single file without `append` appears under its name when it is published, in place of one that was there before the
/// run; with it lines are added as they come. The files of a directory are published as by `write_parquet`.
///
/// Args:
///     partition_by: What folders are made of, as for `write_parquet`.
///     sort_by: Columns that the rows of each file are sorted by. A file is held in memory until it is complete then.
///     compression: "gzip", "zstd" or "lz4", which add ".gz", ".zst" or ".lz4" to the names.
///     storage_options: Settings of the object store, as for `write_parquet`.
///
/// Example:
///     >>> q = w.run(sink=tw.write_ndjson("alerts.ndjson", append=True))
///     >>> q = w.run(sink=tw.write_ndjson("out/", partition_by="hour(ts)", compression="zstd"))
#[pyfunction]
#[pyo3(signature = (
    path, append=false, *, max_rows=None, max_bytes=None, max_age=None, partition_by=None, sort_by=None, compression=None,
    storage_options=None
))]
#[allow(clippy::too_many_arguments)]
pub fn write_ndjson(
    path: FilePath,
    append: bool,
    max_rows: Option<usize>,
    max_bytes: Option<usize>,
    max_age: Option<Interval>,
    partition_by: Option<Names>,
    sort_by: Option<Names>,
    compression: Option<&str>,
    storage_options: Option<StorageOptions>,
) -> PyResult<PySink> {
    let FilePath(path) = path;
    let parts = Parts { max_rows, max_bytes, max_age, partition_by, sort_by };
    let store = StorageOptions::store(&path, storage_options)?;
    let is_folder = store.is_some() || path.ends_with('/') || !parts.is_empty() || compression.is_some();
    if is_folder && (append || path == "-") {
        return Err(raise(Error::config(
            "the files of a directory are not appended to, and standard output is not one; leave out the other options",
        )));
    }
    let description = format!("write_ndjson({path:?}, append={})", if append { "True" } else { "False" });
    if !is_folder {
        return Ok(PySink::made(description, move || match (path.as_str(), append) {
            ("-", _) => Ndjson::stdout(),
            (path, true) => Ndjson::append(path),
            (path, false) => Ndjson::create(path),
        }));
    }
    let options = NdjsonOptions { parts: parts.options()?, compression: self::compression(compression)? };
    Ok(match store {
        Some(store) => PySink::made(description, move || Ndjson::at(store.clone()).options(options.clone())),
        None => PySink::made(description, move || Ndjson::directory(&path).options(options.clone())),
    })
}

/// Calls `function` with each batch of results as a `Table`, on the query's thread. An exception ends the query and
/// comes out of `Query.wait`. What a call has done cannot be taken back.
///
/// Example:
///     >>> q = w.run(sink=tw.callback(lambda batch: print(batch.to_polars())))
#[pyfunction]
pub fn callback(function: &Bound<'_, PyAny>) -> PyResult<PySink> {
    match function.is_callable() {
        true => Ok(PySink(Destination::Callback(function.clone().unbind()))),
        false => Err(PyTypeError::new_err(format!("a callback must be callable, not {}", function.get_type().name()?))),
    }
}

#[pymethods]
impl PySink {
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(match &self.0 {
            Destination::Made { description, .. } => description.clone(),
            Destination::Callback(function) => format!("callback({})", function.bind(py).repr()?),
        })
    }
}

/// The engine's sink for a `Sink` or a callable.
pub fn sink_of(value: &Bound<'_, PyAny>) -> PyResult<BoxedSink> {
    let Ok(sink) = value.cast::<PySink>() else {
        if value.is_callable() {
            return Ok(calling(value.clone().unbind()));
        }
        let kind = value.get_type().name()?;
        return Err(PyTypeError::new_err(format!(
            "a sink must be made by tw.write_parquet, tw.write_csv, tw.write_ndjson, tw.write_arrow, tw.write_kafka, tw.write_kinesis or \
             tw.callback, or be callable; not {kind}"
        )));
    };
    Ok(match &sink.get().0 {
        Destination::Made { make, .. } => make(),
        Destination::Callback(function) => calling(function.clone_ref(value.py())),
    })
}

/// Hands each batch to a Python callable.
fn calling(function: Py<PyAny>) -> BoxedSink {
    BoxedSink(Box::new(Callback::new(move |batch: &RecordBatch| {
        let table = PyTable::of(batch.schema(), vec![batch.clone()]);
        match Python::try_attach(|py| function.call1(py, (table,)).map(drop)) {
            Some(called) => called.map_err(|exception| Error::connector("the callback raised").with_source(exception)),
            None => Err(Error::connector("the interpreter is shutting down; stop the query and wait for it first")),
        }
    })))
}

/// A sink whose kind was chosen at run time.
pub struct BoxedSink(Box<dyn Sink>);

impl Sink for BoxedSink {
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
