//! Functions of Python as the engine calls them. The interpreter's lock is held during a call and no longer.

use arrow::array::RecordBatch;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::SchemaRef;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use pyo3_arrow::input::AnyRecordBatch;
use thalweg::{Error, Result};

use crate::arrow::PyColumns;

/// Calls with the interpreter's lock.
///
/// # Errors
/// What the call returns, and an error if there is no interpreter any more.
pub fn attached<R>(call: impl for<'py> FnOnce(Python<'py>) -> Result<R>) -> Result<R> {
    let gone = || Error::state("the interpreter is shutting down; stop the query and wait for it first");
    Python::try_attach(call).unwrap_or_else(|| Err(gone()))
}

/// An object of Python's as bytes, by pickle.
pub fn pickled(object: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    object.py().import("pickle")?.call_method1("dumps", (object,))?.extract()
}

/// The object of such bytes.
pub fn unpickled<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    py.import("pickle")?.call_method1("loads", (PyBytes::new(py, bytes),))
}

/// The rows that a function has returned: an object of Arrow's, or a dict of lists, which pyarrow makes into columns of `schema`.
pub fn batches_of(returned: &Bound<'_, PyAny>, schema: &SchemaRef) -> PyResult<Vec<Result<RecordBatch>>> {
    let py = returned.py();
    let table = match returned.cast::<PyDict>() {
        Ok(columns) => {
            let pyarrow = py.import("pyarrow")?;
            let schema = pyarrow.call_method1("schema", (PyColumns(SchemaRef::clone(schema)),))?;
            pyarrow.getattr("RecordBatch")?.call_method1("from_pydict", (columns, schema))?
        }
        Err(_) => returned.clone(),
    };
    if !table.hasattr("__arrow_c_array__")? && !table.hasattr("__arrow_c_stream__")? {
        return Err(PyTypeError::new_err(format!(
            "it must return rows (an object with __arrow_c_stream__ or __arrow_c_array__, or a dict of lists) or None, not {}",
            returned.get_type().name()?
        )));
    }
    Ok(table.extract::<AnyRecordBatch>()?.into_reader()?.map(|batch| batch.map_err(Error::from)).collect())
}

/// The same rows with the columns of `schema`: found by their names, and cast where a library has another type for the same.
pub fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let checked = CastOptions { safe: false, ..CastOptions::default() };
    let columns = schema.fields().iter().map(|field| {
        let column = batch.column_by_name(field.name()).ok_or_else(|| {
            let known: Vec<_> = batch.schema_ref().fields().iter().map(|field| field.name().clone()).collect();
            Error::schema(format!("rows without the column `{}` were returned; theirs are `{}`", field.name(), known.join("`, `")))
        })?;
        Ok(cast_with_options(column, field.data_type(), &checked)?)
    });
    Ok(RecordBatch::try_new(SchemaRef::clone(schema), columns.collect::<Result<Vec<_>>>()?)?)
}
