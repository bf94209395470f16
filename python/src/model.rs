//! Detectors that are Python classes, and detectors outside of a stream.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Float64Array, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyType};
use pyo3_arrow::input::AnyRecordBatch;
use thalweg::operator::detect::{Detector, DetectorSpec, Observations, Told, watch};
use thalweg::state::{Reader, Writer};
use thalweg::time::Unit;
use thalweg::{Error, Result};

use crate::call::{attached, pickled, unpickled};
use crate::detect::PyDetector;
use crate::error::raise;
use crate::stream::Names;
use crate::table::PyTable;

/// A detector of your own: a class, or another callable without arguments, that is called once for each key. What it returns has a method
/// `score(rows)`, which takes the next rows of the key, a table of the watched columns as float64, and returns a number for each: at least 0,
/// the larger the stranger, NaN where there is none. Each is scored by the rows before it, however rows are cut into batches.
///
/// Snapshots pickle what was returned. What it holds is not counted in `state_bytes`.
///
/// Args:
///     make: The class or callable.
///     threshold: The score from which a row is an anomaly unless `detect` is told otherwise.
///     name: What plans and errors call it.
///
/// Example:
///     >>> class Jump:
///     ...     last = None
///     ...     def score(self, rows):
///     ...         values = rows.to_arrow()["amount"].to_pylist()
///     ...         jumps = [0.0 if a is None else abs(b - a) for a, b in zip([self.last, *values], values)]
///     ...         self.last = values[-1]
///     ...         return jumps
///     >>> s.detect(tw.anomaly.custom(Jump, threshold=100.0), on="amount", by="card")
#[pyfunction]
#[pyo3(name = "custom_detector", signature = (make, threshold=4.0, *, name=None))]
pub fn custom_detector(make: &Bound<'_, PyAny>, threshold: f64, name: Option<String>) -> PyResult<PyDetector> {
    if !make.is_callable() {
        return Err(PyTypeError::new_err(format!(
            "custom takes a class, or a callable that makes an object for each key, with a method score; not {}",
            make.get_type().name()?
        )));
    }
    let known = || match make.cast::<PyType>() {
        Ok(class) => Ok(class.name()?.to_string()),
        Err(_) => make.getattr("__name__").and_then(|name| name.extract()).or_else(|_| Ok(make.get_type().name()?.to_string())),
    };
    let name = name.map_or_else(known, Ok::<_, PyErr>)?;
    Ok(PyDetector::new(Model { name, make: Arc::new(make.clone().unbind()), threshold }))
}

/// What makes an object for each key.
struct Model {
    name: String,
    make: Arc<Py<PyAny>>,
    threshold: f64,
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "custom({})", self.name)
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl DetectorSpec for Model {
    fn build(&self, on: &[String], _unit: Option<Unit>) -> Result<Box<dyn Detector>> {
        let fields: Vec<Field> = on.iter().map(|name| Field::new(name, DataType::Float64, true)).collect();
        let schema = Arc::new(Schema::new(fields));
        Ok(Box::new(Models { name: self.name.clone(), make: Arc::clone(&self.make), schema, keys: Vec::new() }))
    }

    fn is_joint(&self) -> bool {
        true
    }

    fn threshold(&self) -> f64 {
        self.threshold
    }
}

/// An object for each key.
struct Models {
    name: String,
    make: Arc<Py<PyAny>>,
    schema: SchemaRef,
    keys: Vec<Option<Py<PyAny>>>,
}

impl Models {
    fn raised(&self, exception: PyErr) -> Error {
        Error::state(format!("`{}` raised", self.name)).with_source(exception)
    }

    /// Scores rows of one key.
    fn of_key(&mut self, py: Python<'_>, slot: usize, rows: RecordBatch) -> PyResult<Vec<f64>> {
        let object = match &self.keys[slot] {
            Some(object) => object.bind(py).clone(),
            None => {
                let made = self.make.bind(py).call0()?;
                self.keys[slot] = Some(made.clone().unbind());
                made
            }
        };
        let count = rows.num_rows();
        let scores: Vec<f64> = object.call_method1("score", (PyTable::of(Arc::clone(&self.schema), vec![rows]),))?.extract()?;
        if scores.len() != count {
            return Err(PyValueError::new_err(format!("score returned {} numbers for {count} rows", scores.len())));
        }
        match scores.iter().any(|score| *score < 0.0) {
            false => Ok(scores),
            true => Err(PyValueError::new_err("score returned a number below 0; scores are at least 0, or NaN")),
        }
    }
}

impl Detector for Models {
    fn score(&mut self, observations: &Observations<'_>, scores: &mut [f64], _told: &mut Told) -> Result<()> {
        self.keys.resize_with(observations.groups.max(self.keys.len()), || None);
        let mut order: Vec<u32> = (0..observations.slots.len() as u32).collect();
        order.sort_by_key(|&row| observations.slots[row as usize]);
        attached(|py| {
            for rows in order.chunk_by(|&a, &b| observations.slots[a as usize] == observations.slots[b as usize]) {
                let places = UInt32Array::from(rows.to_vec());
                let columns = observations.columns.iter().map(|column| take(column, &places, None)).collect::<Result<Vec<_>, _>>()?;
                let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
                let slot = observations.slots[rows[0] as usize] as usize;
                let own = self.of_key(py, slot, batch).map_err(|exception| self.raised(exception))?;
                rows.iter().zip(own).for_each(|(&row, score)| scores[row as usize] = score);
            }
            Ok(())
        })
    }

    fn state_bytes(&self) -> usize {
        self.keys.capacity() * size_of::<Option<Py<PyAny>>>()
    }

    fn save(&self, slot: u32, out: &mut Writer) -> Result<()> {
        let not_saved = |exception| Error::state(format!("what `{}` knows does not go through pickle", self.name)).with_source(exception);
        let bytes = match self.keys.get(slot as usize).and_then(Option::as_ref) {
            Some(object) => attached(|py| pickled(object.bind(py)).map_err(not_saved))?,
            None => Vec::new(),
        };
        out.bytes(&bytes);
        Ok(())
    }

    fn load(&mut self, slot: u32, from: &mut Reader<'_>) -> Result<()> {
        let bytes = from.bytes()?;
        let slot = slot as usize;
        self.keys.resize_with((slot + 1).max(self.keys.len()), || None);
        self.keys[slot] = match bytes.is_empty() {
            true => None,
            false => Some(attached(|py| unpickled(py, bytes).map(Bound::unbind).map_err(|exception| self.raised(exception)))?),
        };
        Ok(())
    }

    fn keep(&mut self, slots: &[u32], _groups: usize) -> Result<()> {
        self.keys = slots.iter().map(|&slot| self.keys.get_mut(slot as usize).and_then(Option::take)).collect();
        Ok(())
    }
}

/// A detector with the history of one series, outside of a stream: what the adapters of other libraries stand on.
///
/// Args:
///     detector: Of `thalweg.anomaly`; one that needs event time cannot be used here.
///     on: The columns that it watches.
///
/// Example:
///     >>> scorer = tw.anomaly.Scorer(tw.anomaly.ewma(), on="amount")
///     >>> scorer.score(pyarrow.table({"amount": [1.0, 2.0, 50.0]}))
#[pyclass(name = "Scorer", module = "thalweg.anomaly", frozen)]
pub struct PyScorer {
    on: Vec<String>,
    /// Which of them are names.
    names: Vec<bool>,
    description: String,
    detectors: Mutex<Vec<Watching>>,
}

/// The columns that a detector watches, and it.
type Watching = (Range<usize>, Box<dyn Detector>);

#[pymethods]
impl PyScorer {
    #[new]
    fn new(detector: &PyDetector, on: Names) -> PyResult<PyScorer> {
        let (spec, on) = (detector.detection.detector(), on.0);
        if on.is_empty() {
            return Err(raise(Error::config("a detector needs at least one column to watch: name it in `on`")));
        }
        let each = if spec.is_joint() { on.len() } else { 1 };
        let built = (0..on.len()).step_by(each).map(|first| Ok((first..first + each, spec.build(&on[first..first + each], None)?)));
        let detectors = built.collect::<Result<Vec<_>>>().map_err(raise)?;
        let names = on.iter().map(|name| spec.is_name(name)).collect();
        Ok(PyScorer { description: format!("Scorer({spec}, on={on:?})"), on, names, detectors: Mutex::new(detectors) })
    }

    /// The score of each row, a list of floats, NaN where there is none; the detector learns from each row before the next.
    fn score(&self, rows: AnyRecordBatch) -> PyResult<Vec<f64>> {
        let reader = rows.into_reader()?;
        let schema = reader.schema();
        let batches = reader.collect::<Result<Vec<_>, _>>().map_err(|error| raise(Error::from(error)))?;
        let batch = concat_batches(&schema, &batches).map_err(|error| raise(Error::from(error)))?;
        self.scores(&batch).map_err(raise)
    }

    /// What is known, to go on from with `load`.
    fn save<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let mut out = Writer::default();
        let detectors = self.detectors.lock().unwrap_or_else(PoisonError::into_inner);
        detectors.iter().try_for_each(|(_, detector)| detector.save(0, &mut out)).map_err(raise)?;
        Ok(PyBytes::new(py, &out.take()))
    }

    /// Takes up what `save` gave: rows score as they would have there.
    fn load(&self, state: &[u8]) -> PyResult<()> {
        let mut from = Reader::new(state);
        let mut detectors = self.detectors.lock().unwrap_or_else(PoisonError::into_inner);
        detectors.iter_mut().try_for_each(|(_, detector)| detector.load(0, &mut from)).map_err(raise)?;
        from.end().map_err(raise)
    }

    /// The columns that are watched.
    #[getter]
    fn on(&self) -> Vec<String> {
        self.on.clone()
    }

    fn __repr__(&self) -> &str {
        &self.description
    }
}

impl PyScorer {
    fn scores(&self, rows: &RecordBatch) -> Result<Vec<f64>> {
        let column = |(name, is_name): (&String, &bool)| -> Result<Float64Array> {
            let column = rows.column_by_name(name).ok_or_else(|| Error::schema(format!("the rows have no column `{name}`")))?;
            watch(column, *is_name)
        };
        let columns = self.on.iter().zip(&self.names).map(column).collect::<Result<Vec<_>>>()?;
        let slots = vec![0; rows.num_rows()];
        let mut all = vec![f64::NAN; rows.num_rows()];
        for (watched, detector) in self.detectors.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            let mut own = vec![f64::NAN; all.len()];
            let observations = Observations { slots: &slots, groups: 1, columns: &columns[watched.clone()], times: None };
            detector.score(&observations, &mut own, &mut Told::default())?;
            all.iter_mut().zip(own).for_each(|(score, own)| *score = score.max(own));
        }
        Ok(all)
    }
}
