//! Errors across the border: the engine's become exceptions, exceptions survive a trip through the engine.

use std::any::Any;
use std::error::Error as StdError;
use std::ffi::CString;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyUserWarning};
use pyo3::prelude::*;
use thalweg::{Error, Kind, Metrics};

create_exception!(
    thalweg,
    ThalwegError,
    PyException,
    "Anything that goes wrong in Thalweg. `code` names the domain, `retriable` says whether the same call may succeed when tried again."
);
create_exception!(thalweg, ConfigError, ThalwegError, "A setting is missing, out of range or contradicts another.");
create_exception!(
    thalweg,
    SchemaError,
    ThalwegError,
    "A column is unknown, has the wrong type, or an expression does not fit the columns."
);
create_exception!(thalweg, DecodeError, ThalwegError, "Bytes do not follow the format they were said to be in.");
create_exception!(thalweg, ConnectorError, ThalwegError, "A file, socket, broker or other outside system failed.");
create_exception!(thalweg, StateError, ThalwegError, "Operator state is over its bound or cannot be restored.");
create_exception!(thalweg, DeviceError, ThalwegError, "A compute device is missing or failed.");
create_exception!(thalweg, DroppedRowsWarning, PyUserWarning, "Rows were late or did not decode, and nothing was told to take them.");

/// Adds the exceptions, each with the `code` and `retriable` that its instances begin with.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let classes = [
        (py.get_type::<ThalwegError>(), "thalweg"),
        (py.get_type::<ConfigError>(), Kind::Config.code()),
        (py.get_type::<SchemaError>(), Kind::Schema.code()),
        (py.get_type::<DecodeError>(), Kind::Decode.code()),
        (py.get_type::<ConnectorError>(), Kind::Connector.code()),
        (py.get_type::<StateError>(), Kind::State.code()),
        (py.get_type::<DeviceError>(), Kind::Device.code()),
    ];
    for (class, code) in classes {
        class.setattr("code", code)?;
        class.setattr("retriable", false)?;
        module.add(class.name()?, class)?;
    }
    module.add("DroppedRowsWarning", py.get_type::<DroppedRowsWarning>())
}

/// The exception for an error of the engine.
pub fn raise(error: Error) -> PyErr {
    exception_of(&error)
}

/// The exception for an error that others look at too. A Python exception at its root (a callback's, a reader's)
/// comes back as itself, with what the engine was doing as a note.
pub fn exception_of(error: &Error) -> PyErr {
    Python::attach(|py| match python_cause(error) {
        Some(cause) => {
            let cause = cause.clone_ref(py);
            // Notes exist from Python 3.11 on; without them the exception alone must do.
            let _ = cause.value(py).call_method1("add_note", (error.to_string(),));
            cause
        }
        None => exception(py, error),
    })
}

fn exception(py: Python<'_>, error: &Error) -> PyErr {
    let message = error.to_string();
    let raised = match error.kind() {
        Kind::Config => ConfigError::new_err(message),
        Kind::Schema => SchemaError::new_err(message),
        Kind::Decode => DecodeError::new_err(message),
        Kind::Connector => ConnectorError::new_err(message),
        Kind::State => StateError::new_err(message),
        Kind::Device => DeviceError::new_err(message),
        _ => ThalwegError::new_err(message),
    };
    let value = raised.value(py);
    match value.setattr("code", error.kind().code()).and_then(|()| value.setattr("retriable", error.is_retriable())) {
        Ok(()) => raised,
        Err(failure) => failure,
    }
}

fn python_cause(error: &Error) -> Option<&PyErr> {
    let mut cause = StdError::source(error);
    while let Some(current) = cause {
        if let Some(exception) = current.downcast_ref::<PyErr>() {
            return Some(exception);
        }
        cause = current.source();
    }
    None
}

/// Does `work` while other Python threads run. A panic becomes an exception: none may cross the border.
pub fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> thalweg::Result<T> + Send) -> PyResult<T> {
    match py.detach(|| catch_unwind(AssertUnwindSafe(work))) {
        Ok(result) => result.map_err(raise),
        Err(panic) => Err(raise(Error::state(format!("internal defect, please report it: {}", panic_message(&*panic))))),
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)")
}

/// What became of the rows that did not make it into the results.
pub struct Untaken {
    /// What to do about late rows; `None` if something took them.
    pub late: Option<&'static str>,
    /// What to do about quarantined rows; `None` if something took them.
    pub quarantined: Option<&'static str>,
}

/// Warns of late and quarantined rows that nothing was told to take.
pub fn warn_of_dropped_rows(py: Python<'_>, metrics: &Metrics, untaken: &Untaken) -> PyResult<()> {
    let category = py.get_type::<DroppedRowsWarning>();
    let warn = |rows: u64, what: &str, remedy: Option<&str>| match remedy {
        Some(remedy) if rows > 0 => {
            let message = CString::new(format!("{rows} row{} {what}; {remedy}", if rows == 1 { "" } else { "s" }))?;
            PyErr::warn(py, &category, &message, 1)
        }
        _ => Ok(()),
    };
    warn(metrics.late_rows, "came after their windows had fired", untaken.late)?;
    warn(metrics.quarantined_rows, "did not decode or had no event time", untaken.quarantined)
}
