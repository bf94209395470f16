//! Where results go: files, standard output, topics, Python callables.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use thalweg::connector::kafka::KafkaSink;
use thalweg::sink::{Callback, Ndjson, Parquet, ParquetOptions};
use thalweg::time::SystemClock;
use thalweg::{Error, Result, Sink};

use crate::config::Interval;
use crate::error::raise;
use crate::source::FilePath;
use crate::stream::Names;
use crate::table::PyTable;

/// Where results go. Made by `write_parquet`, `write_ndjson`, `write_kafka` and `callback`.
#[pyclass(name = "Sink", module = "thalweg", frozen)]
pub struct PySink(pub Destination);

/// Where to.
pub enum Destination {
    Parquet { directory: String, options: ParquetOptions },
    Ndjson { path: String, append: bool },
    Kafka { description: String, make: Box<dyn Fn() -> KafkaSink + Send + Sync> },
    Callback(Py<PyAny>),
}

/// Writes Parquet files into a directory. A file appears whole, under its final name, when it is published: at
/// `max_rows`, `max_bytes` or `max_age` and at the end.
///
/// Args:
///     partition_by: What folders are made of, the outermost first: a column ("city", which is left out of the files then), or "year(ts)",
///         "month(ts)", "day(ts)" or "hour(ts)" of a time column, in UTC. Folders are named as Hive does: `city=Paris/ts_day=2026-11-27`.
///     sort_by: Columns that the rows of each file are sorted by. A file is held in memory until it is complete then.
///     bloom_filters: Columns of which each row group tells which values it does not hold, for readers that look for one.
///     row_group_rows: Rows in a row group: what a reader decodes at once and can skip.
///     zstd_level: Compression, 1 (fast) to 22 (small).
///
/// Example:
///     >>> q = w.run(sink=tw.write_parquet("out/", partition_by=["day(window_start)"], sort_by="card", max_age="5m"))
#[pyfunction]
#[pyo3(signature = (directory, max_rows=None, max_bytes=None, max_age=None, *, partition_by=None, sort_by=None, bloom_filters=None, row_group_rows=None, zstd_level=None))]
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
) -> PyResult<PySink> {
    let default = ParquetOptions::default();
    let names = |names: Option<Names>| names.map(|names| names.0).unwrap_or_default();
    let partition_by = names(partition_by).iter().map(|by| by.parse()).collect::<Result<_>>().map_err(raise)?;
    let options = ParquetOptions {
        max_rows: max_rows.unwrap_or(default.max_rows),
        max_bytes: max_bytes.unwrap_or(default.max_bytes),
        max_age: max_age.map(|age| (age.0, SystemClock::shared())),
        row_group_rows: row_group_rows.unwrap_or(default.row_group_rows),
        zstd_level: zstd_level.unwrap_or(default.zstd_level),
        partition_by,
        sort_by: names(sort_by),
        bloom_filters: names(bloom_filters),
    };
    Ok(PySink(Destination::Parquet { directory: directory.0, options }))
}

/// Writes one JSON object per line to a file, or to standard output for "-".
///
/// Without `append` the file appears under its name when it is published, in place of one that was there before the
/// run; with it lines are added as they come.
///
/// Example:
///     >>> q = w.run(sink=tw.write_ndjson("alerts.ndjson", append=True))
#[pyfunction]
#[pyo3(signature = (path, append=false))]
pub fn write_ndjson(path: FilePath, append: bool) -> PySink {
    PySink(Destination::Ndjson { path: path.0, append })
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
            Destination::Parquet { directory, .. } => format!("write_parquet({directory:?})"),
            Destination::Ndjson { path, append } => format!("write_ndjson({path:?}, append={})", if *append { "True" } else { "False" }),
            Destination::Kafka { description, .. } => description.clone(),
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
            "a sink must be made by tw.write_parquet, tw.write_ndjson, tw.write_kafka or tw.callback, or be callable; not {kind}"
        )));
    };
    Ok(match &sink.get().0 {
        Destination::Kafka { make, .. } => BoxedSink(Box::new(make())),
        Destination::Callback(function) => calling(function.clone_ref(value.py())),
        Destination::Ndjson { path, .. } if path == "-" => BoxedSink(Box::new(Ndjson::stdout())),
        Destination::Ndjson { path, append: true } => BoxedSink(Box::new(Ndjson::append(path))),
        Destination::Ndjson { path, append: false } => BoxedSink(Box::new(Ndjson::create(path))),
        Destination::Parquet { directory, options } => BoxedSink(Box::new(Parquet::directory(directory).options(options.clone()))),
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
