//! Windows: what a stream is cut into.

use std::time::Duration;

use pyo3::prelude::*;
use thalweg::Error;
use thalweg::window::{WindowSpec, Windowing};

use crate::config::Interval;
use crate::error::raise;

/// What windows a stream is cut into. Made by `tumbling`, `hopping`, `cumulate`, `session`, `count_window`, `global_window` and
/// `rolling`.
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
/// Args:
///     size: Their length.
///     offset: Shifts them: days that begin at six, weeks that begin on Monday (four days after the Unix epoch).
///     zone: Aligns them to the days of a time zone, which are 23 or 25 hours long when the clock is changed; size and
///         offset are whole days then.
///
/// Example:
///     >>> tw.tumbling("1s"), tw.tumbling("1d", zone="Europe/Berlin"), tw.tumbling("7d", offset="4d")
#[pyfunction]
#[pyo3(signature = (size, *, offset=Interval(Duration::ZERO), zone=None))]
pub fn tumbling(size: Interval, offset: Interval, zone: Option<&str>) -> PyWindow {
    aligned(thalweg::tumbling(size.0), offset, zone)
}

/// Windows of `size` that begin every `slide`; a row lies in size / slide of them.
///
/// Args:
///     size: Their length.
///     slide: From the begin of one to that of the next.
///     offset: As of `tumbling`.
///     zone: As of `tumbling`.
///
/// Example:
///     >>> tw.hopping("1min", "10s")
#[pyfunction]
#[pyo3(signature = (size, slide, *, offset=Interval(Duration::ZERO), zone=None))]
pub fn hopping(size: Interval, slide: Interval, offset: Interval, zone: Option<&str>) -> PyWindow {
    aligned(thalweg::hopping(size.0, slide.0), offset, zone)
}

/// Windows that begin every `size` and end after every `step` of it: how the day, say, has come along by each hour.
///
/// Args:
///     size: The length of the longest; a whole number of steps.
///     step: From the end of one to that of the next.
///     offset: As of `tumbling`.
///     zone: As of `tumbling`.
///
/// Example:
///     >>> tw.cumulate("1d", "1h")
#[pyfunction]
#[pyo3(signature = (size, step, *, offset=Interval(Duration::ZERO), zone=None))]
pub fn cumulate(size: Interval, step: Interval, offset: Interval, zone: Option<&str>) -> PyWindow {
    aligned(thalweg::cumulate(size.0, step.0), offset, zone)
}

fn aligned(spec: WindowSpec, offset: Interval, zone: Option<&str>) -> PyWindow {
    let spec = spec.offset(offset.0);
    PyWindow(zone.map_or(spec.clone(), |zone| spec.zone(zone)).into())
}

/// Windows of so many rows of a key each, in the order in which they come: a window is complete with its last row.
///
/// `window_start` and `window_end` are the earliest and the latest event time of its rows. At the end of the input the rows that
/// are left make a window of fewer.
///
/// Args:
///     rows: How many rows a window has.
///     slide: After how many rows of a key the next window ends; `rows` unless told otherwise.
///
/// Example:
///     >>> s.window(tw.count_window(100, slide=10), by="sensor").agg(typical=tw.median("degrees"))
#[pyfunction]
#[pyo3(signature = (rows, slide=None))]
pub fn count_window(rows: u32, slide: Option<u32>) -> PyWindow {
    PyWindow(thalweg::count_window(rows).slide(slide.unwrap_or(rows)).into())
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

/// One window for all rows of a key, in order of event time. It is put out whenever a trigger says so, and at the end of the input.
///
/// `window_start` and `window_end` are the earliest and the latest event time of its rows. Rows wait until the watermark has passed
/// them; those behind it are late. A key is kept until the end of the input, or for the `ttl` of `Stream.window`.
///
/// Args:
///     rows: Puts a key out with every so many rows of it.
///     every: Puts out the keys that had rows since when event time passes a multiple of it.
///     purge: Begins a key anew whenever it was put out; otherwise results are of all its rows so far.
///
/// Example:
///     >>> s.window(tw.global_window(every="1h"), by="card", ttl="30d").agg(spent=tw.sum("amount"))
#[pyfunction]
#[pyo3(signature = (*, rows=None, every=None, purge=false))]
pub fn global_window(rows: Option<u64>, every: Option<Interval>, purge: bool) -> PyWindow {
    let spec = thalweg::global();
    let spec = rows.map_or(spec.clone(), |rows| spec.rows(rows));
    let spec = every.map_or(spec.clone(), |every| spec.every(every.0));
    PyWindow(if purge { spec.purge() } else { spec }.into())
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
