//! Scripted inputs and literal tables, for tests; the package gives them as `thalweg.testing`.

use arrow::array::RecordBatch;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use pyo3_arrow::input::AnyRecordBatch;
use thalweg::Error;
use thalweg::testing::{self, Step};

use crate::config::Interval;
use crate::error::{detached, raise};
use crate::stream::PyStream;

/// A step of a scripted input. Made by `rows`, `pause`, `eof` and `abort`.
#[pyclass(name = "Step", module = "thalweg.testing", frozen)]
pub struct PyStep {
    steps: Vec<Step>,
    description: String,
}

#[pymethods]
impl PyStep {
    fn __repr__(&self) -> &str {
        &self.description
    }
}

/// Rows of a partition: a literal table, an Arrow object, a list of dicts or a dict of lists. All partitions of a script are open from
/// its beginning on.
///
/// Example:
///     >>> tw.testing.rows("ts: int64 | card: string\n100 | a", partition=1)
#[pyfunction]
#[pyo3(signature = (data, partition=0))]
pub fn rows(data: &Bound<'_, PyAny>, partition: u32) -> PyResult<PyStep> {
    let steps = match data.extract::<String>() {
        Ok(text) => vec![testing::rows_of(partition, text)],
        Err(_) => batches(data)?.into_iter().map(|batch| testing::batch_of(partition, batch)).collect(),
    };
    Ok(PyStep { steps, description: format!("rows(…, partition={partition})") })
}

/// Nothing comes while the clock goes on.
///
/// Example:
///     >>> tw.testing.pause("5s")
#[pyfunction]
pub fn pause(duration: Interval) -> PyStep {
    PyStep { steps: vec![testing::pause(duration.0)], description: format!("pause({:?})", duration.0) }
}

/// The input ends here, whatever steps follow. It ends after the last step, too.
#[pyfunction]
pub fn eof() -> PyStep {
    PyStep { steps: vec![testing::eof()], description: "eof()".to_owned() }
}

/// The source fails here: the run ends with a `ConnectorError`.
#[pyfunction]
pub fn abort() -> PyStep {
    PyStep { steps: vec![testing::abort()], description: "abort()".to_owned() }
}

/// A stream of these steps, which runs on a clock of its own that only `pause` moves. A step may be what `rows` takes, too. The first
/// rows say the types of the columns.
///
/// Example:
///     >>> tw.testing.source(["ts: int64 | card: string\n100 | a", tw.testing.pause("5s"), tw.testing.abort()])
#[pyfunction]
pub fn source(py: Python<'_>, steps: Vec<Bound<'_, PyAny>>) -> PyResult<PyStream> {
    let mut script = Vec::new();
    for step in &steps {
        match step.cast::<PyStep>() {
            Ok(step) => script.extend(step.get().steps.iter().cloned()),
            Err(_) => script.extend(rows(step, 0)?.steps),
        }
    }
    let stream = detached(py, || testing::source(script))?;
    PyStream::checked(py, stream)
}

/// In what results are other than expected: a literal table, or rows as `rows` takes them. None if they are the same. What is
/// expected names the columns to look at; rows are compared as they are shown, in order.
#[pyfunction]
pub fn difference(result: &Bound<'_, PyAny>, expected: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    let came = batches(result)?;
    match expected.extract::<String>() {
        Ok(text) => testing::difference(&came, &text),
        Err(_) => testing::difference_of(&came, &batches(expected)?),
    }
    .map_err(raise)
}

/// Rows of an Arrow object, or of a list of dicts or a dict of lists, of which pyarrow makes one.
fn batches(data: &Bound<'_, PyAny>) -> PyResult<Vec<RecordBatch>> {
    let table = || data.py().import("pyarrow")?.getattr("Table");
    let data = match (data.is_instance_of::<PyList>(), data.is_instance_of::<PyDict>()) {
        (true, _) => table()?.call_method1("from_pylist", (data,))?,
        (_, true) => table()?.call_method1("from_pydict", (data,))?,
        _ => data.clone(),
    };
    if !data.hasattr("__arrow_c_array__")? && !data.hasattr("__arrow_c_stream__")? {
        return Err(PyTypeError::new_err(format!(
            "rows must be a literal table in a str, an Arrow object, a list of dicts or a dict of lists, not {}",
            data.get_type().name()?
        )));
    }
    data.extract::<AnyRecordBatch>()?.into_reader()?.map(|batch| batch.map_err(|error| raise(Error::from(error)))).collect()
}
