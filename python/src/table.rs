//! Results as Python sees them: Arrow columns with a head for notebooks.

use std::collections::BTreeMap;
use std::fmt::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow::util::pretty::pretty_format_batches_with_options;
use pyo3::exceptions::{PyImportError, PyModuleNotFoundError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict};
use pyo3_arrow::ffi::to_schema_pycapsule;
use thalweg::{Error, Metrics, Table, quality};

use crate::arrow::{PyColumns, stream_capsule, type_name};
use crate::error::raise;

/// Rows that a printed table shows.
const SHOWN_ROWS: usize = 20;

/// Characters of a cell that a table in a notebook shows.
const SHOWN_CHARS: usize = 120;

/// What a run leaves besides its results.
struct Rest {
    late: Vec<RecordBatch>,
    late_schema: SchemaRef,
    quarantined: Vec<RecordBatch>,
    metrics: Metrics,
}

/// Rows in Arrow columns: the results of a run, or one batch of them. Arrow libraries take it as it is, without a
/// copy: `pyarrow.table(t)`, `polars.DataFrame(t)`, `duckdb.from_arrow(t.to_arrow())`.
///
/// Example:
///     >>> t = tw.from_arrow(payments).filter("amount > 100").collect()
///     >>> len(t), t.column_names
///     (17, ['ts', 'card', 'amount'])
#[pyclass(name = "Table", module = "thalweg", frozen)]
pub struct PyTable {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    rest: Option<Rest>,
}

impl PyTable {
    /// A table that is not a whole run.
    pub fn of(schema: SchemaRef, batches: Vec<RecordBatch>) -> PyTable {
        PyTable { schema, batches, rest: None }
    }

    /// The results of a run whose late rows have the columns `late_schema`.
    pub fn of_run(table: &Table, late_schema: SchemaRef) -> PyTable {
        let rest =
            Rest { late: table.late().to_vec(), late_schema, quarantined: table.quarantined().to_vec(), metrics: table.metrics().clone() };
        PyTable { schema: table.schema(), batches: table.batches().to_vec(), rest: Some(rest) }
    }

    fn rest(&self) -> PyResult<&Rest> {
        self.rest.as_ref().ok_or_else(|| {
            PyValueError::new_err("this table is part of a run; late and quarantined rows and metrics belong to the whole run")
        })
    }

    fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// The first `limit` rows, without a copy.
    fn first(&self, limit: usize) -> Vec<RecordBatch> {
        let mut left = limit;
        let mut taken = Vec::new();
        for batch in &self.batches {
            let rows = batch.num_rows().min(left);
            if rows > 0 {
                taken.push(batch.slice(0, rows));
            }
            left -= rows;
        }
        taken
    }

    fn shape(&self) -> String {
        let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let shape = format!("{} × {}", count(self.rows(), "row"), count(self.schema.fields().len(), "column"));
        if self.rows() > SHOWN_ROWS { format!("{shape}, the first {SHOWN_ROWS} shown") } else { shape }
    }
}

#[pymethods]
impl PyTable {
    /// How many rows.
    #[getter]
    fn num_rows(&self) -> usize {
        self.rows()
    }

    fn __len__(&self) -> usize {
        self.rows()
    }

    /// The names of the columns, in order.
    #[getter]
    fn column_names(&self) -> Vec<String> {
        self.schema.fields().iter().map(|field| field.name().clone()).collect()
    }

    /// Names and types of the columns.
    #[getter]
    fn schema(&self) -> PyColumns {
        PyColumns(SchemaRef::clone(&self.schema))
    }

    /// The counters of the run: rows_in, rows_out, late_rows (late_key_groups: by key group), quarantined_rows, …, the watermark and
    /// latencies.
    fn metrics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        metrics_dict(py, &self.rest()?.metrics)
    }

    /// The first rows that came after all their windows had fired: the columns that go into the window, then `late_by` (how far the
    /// watermark was past the row), `missed_start` and `missed_end` (of the last window that could have counted it), `partition` and
    /// `offset` (where the row stands in its input: the byte where its line begins in text, the offset of its record in Kafka, else the
    /// number of the row).
    #[getter]
    fn late(&self) -> PyResult<PyTable> {
        let rest = self.rest()?;
        Ok(PyTable::of(SchemaRef::clone(&rest.late_schema), rest.late.clone()))
    }

    /// The first rows that did not decode or had no event time: partition, offset, bytes and error of each.
    #[getter]
    fn quarantined(&self) -> PyResult<PyTable> {
        Ok(PyTable::of(quality::schema(), self.rest()?.quarantined.clone()))
    }

    /// The first `rows` rows, without a copy.
    #[pyo3(signature = (rows=5))]
    fn head(&self, rows: usize) -> PyTable {
        PyTable::of(SchemaRef::clone(&self.schema), self.first(rows))
    }

    /// As a `pyarrow.Table`, without a copy.
    fn to_arrow<'py>(slf: &Bound<'py, PyTable>) -> PyResult<Bound<'py, PyAny>> {
        optional(slf.py(), "pyarrow")?.call_method1("table", (slf,))
    }

    /// As a `polars.DataFrame`, without a copy where polars can.
    fn to_polars<'py>(slf: &Bound<'py, PyTable>) -> PyResult<Bound<'py, PyAny>> {
        optional(slf.py(), "polars")?.call_method1("DataFrame", (slf,))
    }

    /// As a `pandas.DataFrame`; goes through pyarrow.
    fn to_pandas<'py>(slf: &Bound<'py, PyTable>) -> PyResult<Bound<'py, PyAny>> {
        optional(slf.py(), "pandas")?;
        PyTable::to_arrow(slf)?.call_method0("to_pandas")
    }

    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        Ok(to_schema_pycapsule(py, &*self.schema)?)
    }

    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(&self, py: Python<'py>, requested_schema: Option<Bound<'py, PyCapsule>>) -> PyResult<Bound<'py, PyCapsule>> {
        stream_capsule(py, &self.schema, &self.batches, requested_schema)
    }

    fn __repr__(&self) -> PyResult<String> {
        let mut shown = self.first(SHOWN_ROWS);
        if shown.is_empty() {
            shown.push(RecordBatch::new_empty(SchemaRef::clone(&self.schema)));
        }
        let text = pretty_format_batches_with_options(&shown, &format()).map_err(|error| raise(Error::from(error)))?;
        Ok(format!("{text}\n{}", self.shape()))
    }

    fn _repr_html_(&self) -> PyResult<String> {
        let mut html = String::from("<table><thead><tr>");
        for field in self.schema.fields() {
            let _ = write!(html, "<th>{}<br><small>{}</small></th>", escape(field.name()), escape(&type_name(field.data_type())));
        }
        html.push_str("</tr></thead><tbody>");
        for batch in self.first(SHOWN_ROWS) {
            write_rows(&mut html, &batch).map_err(raise)?;
        }
        let _ = write!(html, "</tbody></table><small>{}</small>", self.shape());
        Ok(html)
    }
}

fn format() -> FormatOptions<'static> {
    FormatOptions::default().with_null("null").with_display_error(true)
}

fn write_rows(html: &mut String, batch: &RecordBatch) -> thalweg::Result<()> {
    let options = format();
    let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options)).collect::<Result<Vec<_>, _>>()?;
    for row in 0..batch.num_rows() {
        html.push_str("<tr>");
        for column in &columns {
            let text = column.value(row).to_string();
            let cut: String = text.chars().take(SHOWN_CHARS).collect();
            let _ = write!(html, "<td>{}{}</td>", escape(&cut), if cut.len() < text.len() { "…" } else { "" });
        }
        html.push_str("</tr>");
    }
    Ok(())
}

/// Text as HTML shows it, whatever it holds.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Imports a library that Thalweg works without.
fn optional<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyModule>> {
    py.import(name).map_err(|error| match error.is_instance_of::<PyModuleNotFoundError>(py) {
        true => {
            let missing = PyImportError::new_err(format!("this needs {name}, which is not installed; run `pip install {name}`"));
            missing.set_cause(py, Some(error));
            missing
        }
        false => error,
    })
}

/// Counters by name, with the watermark (`None` before the first), the GPU's break-even (`None` if not measured) and
/// latencies in milliseconds.
pub fn metrics_dict<'py>(py: Python<'py>, metrics: &Metrics) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, _, value) in metrics.entries() {
        dict.set_item(name, value)?;
    }
    dict.set_item("watermark", metrics.watermark)?;
    dict.set_item("gpu_break_even_rows", metrics.gpu_break_even_rows)?;
    dict.set_item("late_key_groups", metrics.late_key_groups.iter().copied().collect::<BTreeMap<u8, u64>>())?;
    dict.set_item("exchanges", &metrics.exchanges)?;
    dict.set_item("lag", metrics.lag.iter().cloned().collect::<BTreeMap<_, _>>())?;
    let behind = metrics.behind.iter().map(|(partition, behind)| (partition, behind.as_secs_f64() * 1e3));
    dict.set_item("behind_ms", behind.collect::<BTreeMap<_, _>>())?;
    let latency = &metrics.latency;
    let latencies = [("p50", latency.p50), ("p99", latency.p99), ("p999", latency.p999), ("max", latency.max)];
    for (name, duration) in latencies {
        dict.set_item(format!("latency_{name}_ms"), duration.as_secs_f64() * 1e3)?;
    }
    Ok(dict)
}
