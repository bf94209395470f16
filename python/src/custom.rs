//! Aggregates that are Python classes.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyType};
use thalweg::state::{Reader, Writer};
use thalweg::{AggregateFunction, Error, Result};

use crate::aggregate::PyAggregate;
use crate::arrow::type_from;
use crate::call::{attached, batches_of, conform, pickled, unpickled};
use crate::stream::Names;
use crate::table::PyTable;

/// An aggregate of your own: an object, or a class that is made one without arguments, with these methods.
///
/// `init()` gives the state of a group without rows; without the method that is None. `accumulate(state, rows)` takes rows of one
/// group, a table of `columns`; `merge(state, other)` adds the state of other rows of the group. Both return the new state, or None if
/// they have changed the one that they were given. `finish(state)` gives the result, of the type that is named.
///
/// Windows of several panes merge the states of their panes; rows are cut as batches and panes cut them.
///
/// Args:
///     function: The object or class.
///     columns: One or more columns that it is given.
///     type: The type of the results.
///     where: A SQL condition on the rows that count.
///
/// Example:
///     >>> class Vwap:
///     ...     def init(self): return (0.0, 0.0)
///     ...     def accumulate(self, state, rows):
///     ...         prices, volumes = (rows.to_arrow()[name].to_numpy() for name in ("price", "volume"))
///     ...         return (state[0] + (prices * volumes).sum(), state[1] + volumes.sum())
///     ...     def merge(self, state, other): return (state[0] + other[0], state[1] + other[1])
///     ...     def finish(self, state): return state[0] / state[1] if state[1] else None
///     >>> windowed.agg(vwap=tw.custom(Vwap, ["price", "volume"], "float64"))
#[pyfunction]
#[pyo3(signature = (function, columns, r#type, *, r#where=None))]
pub fn custom(function: &Bound<'_, PyAny>, columns: Names, r#type: &Bound<'_, PyAny>, r#where: Option<&str>) -> PyResult<PyAggregate> {
    let function = PyFunction::new(function, columns.0.clone(), type_from(r#type)?)?;
    Ok(PyAggregate::of(thalweg::custom(function, columns.0), r#where))
}

/// The methods of an object.
struct PyFunction {
    name: String,
    columns: Vec<String>,
    result: SchemaRef,
    init: Option<Py<PyAny>>,
    accumulate: Py<PyAny>,
    merge: Py<PyAny>,
    finish: Py<PyAny>,
}

/// A state, which other groups may share until one of them changes; none of a group without rows.
#[derive(Clone, Default)]
struct PyGroup(Option<Arc<Py<PyAny>>>);

impl PyFunction {
    fn new(function: &Bound<'_, PyAny>, columns: Vec<String>, data_type: DataType) -> PyResult<PyFunction> {
        let object = if function.is_instance_of::<PyType>() { function.call0()? } else { function.clone() };
        let method = |name: &str| match object.hasattr(name)? {
            true => Ok(object.getattr(name)?.unbind()),
            false => Err(PyTypeError::new_err(format!(
                "custom takes an object or class with methods accumulate, merge and finish; {} has no {name}",
                object.get_type().name()?
            ))),
        };
        Ok(PyFunction {
            name: object.get_type().name()?.to_string(),
            columns,
            result: Arc::new(Schema::new(vec![Field::new("value", data_type, true)])),
            init: object.hasattr("init")?.then(|| method("init")).transpose()?,
            accumulate: method("accumulate")?,
            merge: method("merge")?,
            finish: method("finish")?,
        })
    }

    fn raised(&self, exception: PyErr) -> Error {
        Error::state(format!("`{}` raised", self.name)).with_source(exception)
    }

    fn not_saved(&self, exception: PyErr) -> Error {
        Error::state(format!("the state of `{}` does not go through pickle", self.name)).with_source(exception)
    }

    fn initial<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.init.as_ref().map_or_else(|| Ok(py.None().into_bound(py)), |init| init.bind(py).call0())
    }

    /// The state as an object that no other group has.
    fn own<'py>(&self, py: Python<'py>, state: &mut PyGroup) -> PyResult<Bound<'py, PyAny>> {
        match state.0.take() {
            None => self.initial(py),
            Some(object) => match Arc::try_unwrap(object) {
                Ok(object) => Ok(object.into_bound(py)),
                Err(shared) => py.import("copy")?.call_method1("deepcopy", (shared.bind(py),)),
            },
        }
    }

    /// Calls a method that changes the state or returns a new one.
    fn change<'py>(&self, py: Python<'py>, method: &Py<PyAny>, state: &mut PyGroup, with: impl IntoPyObject<'py>) -> PyResult<()> {
        let own = self.own(py, state)?;
        let returned = method.bind(py).call1((&own, with))?;
        state.0 = Some(Arc::new(if returned.is_none() { own } else { returned }.unbind()));
        Ok(())
    }

    fn results<'py>(&self, py: Python<'py>, states: &[&PyGroup]) -> PyResult<Bound<'py, PyDict>> {
        let values = PyList::empty(py);
        for state in states {
            let state = match &state.0 {
                Some(object) => object.bind(py).clone(),
                None => self.initial(py)?,
            };
            values.append(self.finish.bind(py).call1((state,))?)?;
        }
        let columns = PyDict::new(py);
        columns.set_item("value", values)?;
        Ok(columns)
    }
}

impl AggregateFunction for PyFunction {
    type State = PyGroup;

    fn name(&self) -> String {
        self.name.to_lowercase()
    }

    fn data_type(&self, _inputs: &[DataType]) -> Result<DataType> {
        Ok(self.result.field(0).data_type().clone())
    }

    fn accumulate(&self, state: &mut PyGroup, rows: &[ArrayRef]) -> Result<()> {
        let fields: Vec<Field> =
            self.columns.iter().zip(rows).map(|(name, column)| Field::new(name, column.data_type().clone(), true)).collect();
        let schema = Arc::new(Schema::new(fields));
        let options = RecordBatchOptions::new().with_row_count(rows.first().map(|column| column.len()));
        let records = RecordBatch::try_new_with_options(Arc::clone(&schema), rows.to_vec(), &options)?;
        let table = PyTable::of(schema, vec![records]);
        attached(|py| self.change(py, &self.accumulate, state, table).map_err(|exception| self.raised(exception)))
    }

    fn merge(&self, state: &mut PyGroup, other: &PyGroup) -> Result<()> {
        let Some(object) = &other.0 else { return Ok(()) };
        if state.0.is_none() {
            state.0 = Some(Arc::clone(object));
            return Ok(());
        }
        attached(|py| self.change(py, &self.merge, state, object.bind(py)).map_err(|exception| self.raised(exception)))
    }

    fn save(&self, state: &PyGroup, out: &mut Writer) -> Result<()> {
        let bytes = match &state.0 {
            Some(object) => attached(|py| pickled(object.bind(py)).map_err(|exception| self.not_saved(exception)))?,
            None => Vec::new(),
        };
        out.bytes(&bytes);
        Ok(())
    }

    fn load(&self, from: &mut Reader<'_>) -> Result<PyGroup> {
        let bytes = from.bytes()?;
        if bytes.is_empty() {
            return Ok(PyGroup(None));
        }
        let object = attached(|py| unpickled(py, bytes).map(Bound::unbind).map_err(|exception| self.not_saved(exception)))?;
        Ok(PyGroup(Some(Arc::new(object))))
    }

    fn finish(&self, states: &[&PyGroup]) -> Result<ArrayRef> {
        let batches = attached(|py| {
            let results = || batches_of(self.results(py, states)?.as_any(), &self.result);
            results().map_err(|exception| self.raised(exception))
        })?;
        let columns =
            batches.into_iter().map(|batch| Ok(Arc::clone(conform(&batch?, &self.result)?.column(0)))).collect::<Result<Vec<_>>>()?;
        Ok(arrow::compute::concat(&columns.iter().map(AsRef::as_ref).collect::<Vec<_>>())?)
    }
}
