//! Windows: what a stream is cut into.

use pyo3::prelude::*;
use thalweg::Error;
use thalweg::window::Windowing;

use crate::config::Interval;
use crate::error::raise;

/// What windows a stream is cut into. Made by `tumbling`, `hopping`, `session` and `rolling`.
#[pyclass(name = "Window", module = "thalweg", frozen)]
pub struct PyWindow(pub Windowing);

#[pymethods]
impl PyWindow {
    fn __repr__(&self) -> String {
        self.0.to_string()
    }
}

/// Windows that follow each other without gap or overlap, aligned to the Unix epoch.
///
/// Example:
///     >>> tw.tumbling("1s")
#[pyfunction]
pub fn tumbling(size: Interval) -> PyWindow {
    PyWindow(thalweg::tumbling(size.0).into())
}

/// Windows of `size` that begin every `slide`; a row lies in size / slide of them.
///
/// Example:
///     >>> tw.hopping("1min", "10s")
#[pyfunction]
pub fn hopping(size: Interval, slide: Interval) -> PyWindow {
    PyWindow(thalweg::hopping(size.0, slide.0).into())
}

/// Sessions: the rows of a key of which each is at most `gap` after the one before. A window's end is its last row + gap.
///
/// A row that is behind the watermark still counts if it falls into a session that has not ended, or if its own would not have.
///
/// Example:
///     >>> s.window(tw.session("30min"), by="user").agg(pages=tw.count(), path=tw.collect_list("page", limit=20))
#[pyfunction]
pub fn session(gap: Interval) -> PyWindow {
    PyWindow(thalweg::session(gap.0).into())
}

/// A window for each row, of the rows of its key up to it; every row comes out with its answers.
///
/// With an event time rows are taken in order of time, once the watermark has passed them, and late ones are put aside;
/// without one they are taken as they come.
///
/// Args:
///     rows: The last so many rows of the key, the row itself being one.
///     range: The row and those of its key before it that are earlier by at most this; needs an event time.
///
/// Example:
///     >>> s.window(tw.rolling(rows=100), by="card").agg(m=tw.mean("amount"), s=tw.std("amount"))
#[pyfunction]
#[pyo3(signature = (*, rows=None, range=None))]
pub fn rolling(rows: Option<u32>, range: Option<Interval>) -> PyResult<PyWindow> {
    match (rows, range) {
        (Some(rows), None) => Ok(PyWindow(thalweg::rolling_rows(rows).into())),
        (None, Some(length)) => Ok(PyWindow(thalweg::rolling_range(length.0).into())),
        _ => Err(raise(Error::config("a rolling window is of `rows` or of a `range` of time: give one of the two"))),
    }
}
