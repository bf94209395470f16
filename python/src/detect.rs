//! Anomaly detectors: the functions of `thalweg.anomaly`.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyInt;
use thalweg::Detection;
use thalweg::operator::detect::{Auto, DetectorSpec, Ewma, LeftDiscord, Novelty, Refractory};

use crate::config::Interval;

/// Adds the class and the functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyDetector>()?;
    module.add_function(wrap_pyfunction!(ewma, module)?)?;
    module.add_function(wrap_pyfunction!(novelty, module)?)?;
    module.add_function(wrap_pyfunction!(left_discord, module)?)?;
    module.add_function(wrap_pyfunction!(auto, module)?)
}

/// An anomaly detector and its parameters. Made by the functions of `thalweg.anomaly`.
#[pyclass(name = "Detector", module = "thalweg.anomaly", frozen)]
pub struct PyDetector {
    pub detection: Detection,
    description: String,
}

impl PyDetector {
    fn new(detector: impl DetectorSpec + 'static) -> PyDetector {
        PyDetector { description: detector.to_string(), detection: Detection::new(detector) }
    }
}

#[pymethods]
impl PyDetector {
    fn __repr__(&self) -> &str {
        &self.description
    }
}

/// Scores by the exponentially weighted z-score: |x − mean| / standard deviation, both as they were before the row.
///
/// Args:
///     alpha: The weight of the newest row, between 0 and 1; the memory is about 2 / alpha rows.
///     warmup: How many rows of a key score 0 because too little is known of it.
///
/// Equations: Finch, "Incremental calculation of weighted mean and variance", 2009. State: 24 bytes a key. Threshold: 4.
///
/// Example:
///     >>> s.detect(tw.anomaly.ewma(alpha=0.05), on="amount", by="card")
#[pyfunction]
#[pyo3(signature = (alpha=0.05, warmup=10))]
pub fn ewma(alpha: f64, warmup: u64) -> PyDetector {
    let description = format!("ewma(alpha={alpha}, warmup={warmup})");
    PyDetector { detection: Detection::new(Ewma { alpha, warmup }), description }
}

/// Scores by the distance to the nearest value that the key has shown lately, as a share of the range it has shown lately: from 0 to 1.
///
/// The distance is taken on a linear and on a compressed (logarithmic) scale, and the score is the geometric mean of both. For series of
/// any shape that come back to values they had; one that grows forever is novel forever.
///
/// Args:
///     history: After how many rows of a key a value is forgotten, from 64 to 2**24.
///     warmup: How many rows of a key score 0 because too little is known of it.
///
/// State: 1.2 kB a key, whatever the history. Threshold: 1/64.
///
/// Example:
///     >>> s.detect(tw.anomaly.novelty(), on="temperature", by="machine", refractory=128)
#[pyfunction]
#[pyo3(signature = (history=4096, warmup=64))]
pub fn novelty(history: u32, warmup: u32) -> PyDetector {
    PyDetector::new(Novelty { history, warmup })
}

/// Scores by shape: the z-normalised distance of the latest `length` values of a key to the nearest stretch of as many among the
/// `history` before, from 0 to the root of 2 (the streaming left matrix profile, exact).
///
/// For series with a pattern. In noise all stretches are far from each other: choose by `false_alarm_rate` there.
///
/// Args:
///     length: How many values a stretch has, at least 2.
///     history: In how many values stretches are looked for, at least twice the length.
///
/// A key's first 2 * length - 1 rows have no score. State: 48 bytes for each value of the history, 0.2 MB a key. Threshold: 0.8.
///
/// Example:
///     >>> s.detect(tw.anomaly.left_discord(length=100), on="ecg", by="patient", false_alarm_rate=1e-4)
#[pyfunction]
#[pyo3(signature = (length=64, history=4000))]
pub fn left_discord(length: u32, history: u32) -> PyDetector {
    PyDetector::new(LeftDiscord { length, history })
}

/// The combination that is recommended for a numeric series of which nothing is known, `auto-v1`: a value unlike those of late, or a
/// shape unlike others, max(novelty(x), novelty(left_discord(x)) / 4), from 0 to 1; later rows of an event are held back for 128 rows.
///
/// There is no parameter; another combination will have another name. State: 0.2 MB a key. Threshold: 1/64.
///
/// Example:
///     >>> s.detect(tw.anomaly.auto(), on="value", by="sensor").filter("is_anomaly")
#[pyfunction]
pub fn auto() -> PyDetector {
    PyDetector::new(Auto)
}

/// A number of rows or a span of event time.
pub struct Span(pub Refractory);

impl FromPyObject<'_, '_> for Span {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, '_, PyAny>) -> PyResult<Span> {
        if value.is_instance_of::<PyInt>() {
            let rows: u64 = value.extract().map_err(|_| PyTypeError::new_err("a number of rows may not be negative"))?;
            return Ok(Span(Refractory::Rows(rows)));
        }
        value.extract::<Interval>().map(|interval| Span(Refractory::Time(interval.0)))
    }
}
