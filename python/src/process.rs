//! Python functions over the rows of each key.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};
use thalweg::operator::process::{Context, Process, Rows};
use thalweg::state::{Reader, Writer};
use thalweg::{Error, Result};

use crate::call::{attached, batches_of, conform, pickled, unpickled};
use crate::table::PyTable;

/// One call of a function of `Stream.process`: which key it is for, when it is, and what the function asks for.
#[pyclass(name = "Context", module = "thalweg", frozen)]
pub struct PyContext {
    time: Option<i64>,
    watermark: Option<i64>,
    key: RecordBatch,
    asked: Mutex<Asked>,
}

#[derive(Default)]
struct Asked {
    /// Times, with whether to set a timer or to delete it.
    timers: Vec<(i64, bool)>,
    clear: bool,
}

impl PyContext {
    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl PyContext {
    /// The greatest event time of the rows given, or the timer's, as a number in the stream's unit; None without event time.
    #[getter]
    fn time(&self) -> Option<i64> {
        self.time
    }

    /// How far event time has come: rows at or before it are late. None before the first rows.
    #[getter]
    fn watermark(&self) -> Option<i64> {
        self.watermark
    }

    /// The columns of the key, with one row.
    #[getter]
    fn key(&self) -> PyTable {
        PyTable::of(self.key.schema(), vec![self.key.clone()])
    }

    /// Lets `on_timer` be called for this key once the watermark has reached `time`.
    ///
    /// Example:
    ///     >>> ctx.set_timer(ctx.time + 60_000)
    fn set_timer(&self, time: i64) {
        self.asked().timers.push((time, true));
    }

    /// Takes back a timer of this key that is set to `time`, if there is one.
    fn delete_timer(&self, time: i64) {
        self.asked().timers.push((time, false));
    }

    /// Forgets the key after this call, with its state and all its timers.
    fn clear(&self) {
        self.asked().clear = true;
    }

    fn __repr__(&self) -> String {
        let known = |time: Option<i64>| time.map_or_else(|| "None".to_owned(), |time| time.to_string());
        format!("Context(time={}, watermark={})", known(self.time), known(self.watermark))
    }
}

/// A Python function as the engine calls it.
pub struct PyProcess {
    pub name: String,
    pub on_rows: Py<PyAny>,
    pub on_timer: Option<Py<PyAny>>,
    /// The columns that it puts out.
    pub schema: SchemaRef,
    pub time: Option<String>,
    pub ttl: Option<Duration>,
    pub in_order: bool,
}

/// What Python remembers of a key.
#[derive(Default)]
pub struct PyState {
    dict: Option<Py<PyDict>>,
    bytes: usize,
}

impl PyProcess {
    /// The function, or the object or class with a method `on_rows`, that Python gave.
    pub fn new(function: &Bound<'_, PyAny>, on_timer: Option<&Bound<'_, PyAny>>) -> PyResult<PyProcess> {
        let object = match function.hasattr("on_rows")? && function.is_instance_of::<PyType>() {
            true => function.call0()?,
            false => function.clone(),
        };
        let has_methods = object.hasattr("on_rows")?;
        let on_rows = if has_methods { object.getattr("on_rows")? } else { object.clone() };
        let on_timer = match on_timer {
            None if has_methods && object.hasattr("on_timer")? => Some(object.getattr("on_timer")?),
            given => given.cloned(),
        };
        for callable in [Some(&on_rows), on_timer.as_ref()].into_iter().flatten() {
            if !callable.is_callable() {
                return Err(PyTypeError::new_err(format!(
                    "process takes a function, or an object or class with a method on_rows, not {}",
                    callable.get_type().name()?
                )));
            }
        }
        let named = object.getattr("__name__").or_else(|_| object.get_type().getattr("__name__"))?;
        Ok(PyProcess {
            name: named.extract()?,
            on_rows: on_rows.unbind(),
            on_timer: on_timer.map(Bound::unbind),
            schema: SchemaRef::new(Schema::empty()),
            time: None,
            ttl: None,
            in_order: false,
        })
    }

    fn not_saved(&self, exception: PyErr) -> Error {
        Error::state(format!("the state of `{}` does not go through pickle", self.name)).with_source(exception)
    }

    /// Calls `function` with `first`, the state and a context, and does what it asks for.
    fn call<'py, T: IntoPyObject<'py>>(
        &self,
        py: Python<'py>,
        function: &Py<PyAny>,
        first: T,
        state: &mut PyState,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let raised = |exception: PyErr| Error::state(format!("`{}` raised", self.name)).with_source(exception);
        let dict = state.dict.get_or_insert_with(|| PyDict::new(py).unbind()).bind(py);
        let seen = PyContext { time: context.time(), watermark: context.watermark(), key: context.key()?, asked: Mutex::default() };
        let seen = Bound::new(py, seen).map_err(raised)?;
        let returned = function.bind(py).call1((first, dict, &seen)).map_err(raised)?;
        if !returned.is_none() {
            for batch in batches_of(&returned, &self.schema).map_err(raised)? {
                context.emit(conform(&batch?, &self.schema)?);
            }
        }
        state.bytes = dict.call_method0("__sizeof__").and_then(|bytes| bytes.extract()).map_err(raised)?;
        let asked = std::mem::take(&mut *seen.get().asked());
        for (time, set) in asked.timers {
            match set {
                true => context.set_timer(time)?,
                false => context.delete_timer(time),
            }
        }
        if asked.clear {
            context.clear();
        }
        Ok(())
    }
}

impl Process for PyProcess {
    type State = PyState;

    fn schema(&self, _input: &SchemaRef) -> Result<SchemaRef> {
        Ok(SchemaRef::clone(&self.schema))
    }

    fn on_rows(&self, rows: &Rows<'_>, state: &mut PyState, context: &mut Context<'_>) -> Result<()> {
        let table = PyTable::of(rows.records.schema(), vec![rows.records.clone()]);
        attached(|py| self.call(py, &self.on_rows, table, state, context))
    }

    fn on_timer(&self, time: i64, state: &mut PyState, context: &mut Context<'_>) -> Result<()> {
        match &self.on_timer {
            Some(on_timer) => attached(|py| self.call(py, on_timer, time, state, context)),
            None => Err(Error::config(format!("`{}` has set a timer but has no `on_timer`; give one to `process`", self.name))),
        }
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn event_time(&self) -> Option<&str> {
        self.time.as_deref()
    }

    fn ttl(&self) -> Option<Duration> {
        self.ttl
    }

    fn in_order(&self) -> bool {
        self.in_order
    }

    fn save(&self, state: &PyState, out: &mut Writer) -> Result<()> {
        let bytes = match &state.dict {
            Some(dict) => attached(|py| pickled(dict.bind(py)).map_err(|exception| self.not_saved(exception)))?,
            None => Vec::new(),
        };
        out.bytes(&bytes);
        Ok(())
    }

    fn load(&self, from: &mut Reader<'_>) -> Result<PyState> {
        let bytes = from.bytes()?;
        if bytes.is_empty() {
            return Ok(PyState::default());
        }
        let dict = attached(|py| {
            let dict = unpickled(py, bytes).and_then(|object| Ok(object.cast_into::<PyDict>()?.unbind()));
            dict.map_err(|exception| self.not_saved(exception))
        })?;
        Ok(PyState { dict: Some(dict), bytes: bytes.len() })
    }

    fn state_bytes(&self, state: &PyState) -> usize {
        size_of_val(state) + state.bytes
    }
}
