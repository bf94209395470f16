//! Why windows do not fire, as Python sees it.

use std::time::Duration;

use pyo3::prelude::*;
use thalweg::HeldBack;
use thalweg::time::Unit;

/// The earliest window that waits, and the partition that it waits for. `str()` of it says so in a sentence, with what can
/// be done. Event times are integers in `unit`, from the Unix epoch on.
///
/// Example:
///     >>> print(q.why_not_firing())
#[pyclass(name = "HeldBack", module = "thalweg", frozen)]
pub struct PyHeldBack(pub HeldBack);

#[pymethods]
impl PyHeldBack {
    /// The end of the earliest window that waits.
    #[getter]
    fn window_end(&self) -> i64 {
        self.0.window_end
    }

    /// Event time up to which all rows have come; None before the first.
    #[getter]
    fn watermark(&self) -> Option<i64> {
        self.0.watermark
    }

    /// The partition that holds the watermark back: a file's path, a client's address, else a number. None if no partition
    /// is open, or event time is the clock's.
    #[getter]
    fn partition(&self) -> Option<&str> {
        self.0.partition.as_ref().map(|partition| partition.name.as_str())
    }

    /// Event time up to which all rows of that partition have come; None before the first.
    #[getter]
    fn partition_watermark(&self) -> Option<i64> {
        self.0.partition.as_ref().and_then(|partition| partition.watermark)
    }

    /// How long ago that partition last had rows, or began if it had none.
    #[getter]
    fn quiet_for(&self) -> Option<Duration> {
        self.0.partition.as_ref().map(|partition| partition.quiet_for)
    }

    /// What event times count: "ms", "us" or "ns".
    #[getter]
    fn unit(&self) -> &'static str {
        match self.0.unit {
            Unit::Millisecond => "ms",
            Unit::Microsecond => "us",
            Unit::Nanosecond => "ns",
        }
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __repr__(&self) -> String {
        format!("<thalweg.HeldBack: {}>", self.0)
    }
}
