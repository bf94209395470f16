//! Anomaly detection: every row gets a score, the same rows in the same order.
//!
//! A detector sees dense slots and plain columns of `f64`, so that it knows nothing of keys or Arrow; the
//! operator around it keeps the keys and turns scores into columns.

mod ewma;

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Float64Array, LargeBinaryBuilder, RecordBatch};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef};

use crate::batch::Batch;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::operator::devices::cpu_only;
use crate::operator::keys::{KeyColumns, Keys, Slots, column_index};
use crate::operator::{Operator, Output};
use crate::state::{Reader, Saved, Writer, bytes};
pub use ewma::{Ewma, ewma};

/// The rows of a batch as a detector sees them.
pub struct Observations<'a> {
    /// The key of each row as a slot below `groups`.
    pub slots: &'a [u32],
    /// One more than the greatest slot that was ever given out.
    pub groups: usize,
    /// One value per row; nulls are rows without an observation.
    pub values: &'a Float64Array,
}

/// A keyed, incremental anomaly detector on one column.
pub trait Detector: Send {
    /// Scores each row against the state that its key had before it, then lets the key learn from it, row by row.
    /// `scores` has a place for each row. A score is at least 0, larger means stranger; NaN means that the row
    /// could not be scored (no value, or none that a score can be given).
    fn score(&mut self, observations: &Observations<'_>, scores: &mut [f64]);

    /// Bytes of state held.
    fn state_bytes(&self) -> usize;

    /// Writes what is known of the key in `slot`, which may not have been scored yet.
    fn save(&self, slot: u32, out: &mut Writer);

    /// Takes up what was written of the key in `slot`: its rows score as they would have where it was saved.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if it is not what this detector writes.
    fn load(&mut self, slot: u32, from: &mut Reader<'_>) -> Result<()>;
}

/// A detector's parameters: makes one detector per observed column. Displayed as one would call for it: `ewma(alpha=0.05)`.
pub trait DetectorSpec: Send + Sync + std::fmt::Debug + std::fmt::Display {
    /// A detector without history.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if a parameter is out of range.
    fn build(&self) -> Result<Box<dyn Detector>>;
}

/// What to detect: a detector, the columns that it watches, the keys that have a history of their own, and the
/// score from which a row is an anomaly.
#[derive(Debug, Clone)]
pub struct Detection {
    detector: Arc<dyn DetectorSpec>,
    on: Vec<String>,
    by: Vec<String>,
    threshold: f64,
}

/// Name of the table of keys in a snapshot, and of its column of what detectors know of them.
const KEYS: &str = "keys";
const STATE: &str = "state";

/// The score from which a row is an anomaly unless another is given: in units of standard deviations.
pub const DEFAULT_THRESHOLD: f64 = 4.0;

impl Detection {
    /// Detection by `detector`; name the columns with [`Detection::on`].
    pub fn new(detector: impl DetectorSpec + 'static) -> Detection {
        Detection { detector: Arc::new(detector), on: Vec::new(), by: Vec::new(), threshold: DEFAULT_THRESHOLD }
    }

    /// Watches these columns; a row's score is the greatest of its columns' scores.
    pub fn on<S: Into<String>>(mut self, columns: impl IntoIterator<Item = S>) -> Detection {
        self.on = columns.into_iter().map(Into::into).collect();
        self
    }

    /// Gives each key made of these columns a history of its own.
    pub fn by<S: Into<String>>(mut self, columns: impl IntoIterator<Item = S>) -> Detection {
        self.by = columns.into_iter().map(Into::into).collect();
        self
    }

    /// The score from which a row is an anomaly.
    pub fn threshold(mut self, threshold: f64) -> Detection {
        self.threshold = threshold;
        self
    }

    /// The columns that make a key.
    pub(crate) fn keys(&self) -> &[String] {
        &self.by
    }
}

impl std::fmt::Display for Detection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} on [{}] by [{}], threshold {}", self.detector, self.on.join(", "), self.by.join(", "), self.threshold)
    }
}

/// Adds `score` and `is_anomaly` to every row, see the [module documentation](self).
pub struct Detect {
    columns: KeyColumns,
    keys: Keys,
    watched: Vec<(usize, Box<dyn Detector>)>,
    threshold: f64,
    schema: SchemaRef,
    slots: Vec<u32>,
}

impl Detect {
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if a column is unknown or not numeric, or the stream already has a
    /// column `score` or `is_anomaly`; [`Kind::Config`](crate::error::Kind::Config) if a parameter is out of range.
    pub fn new(detection: &Detection, schema: &SchemaRef, config: &Config) -> Result<Detect> {
        if detection.on.is_empty() {
            return Err(Error::config("a detector needs at least one column to watch: name it in `on`"));
        }
        if detection.threshold.is_nan() {
            return Err(Error::config("`threshold` is NaN; it must be a number"));
        }
        let mut watched = Vec::with_capacity(detection.on.len());
        for name in &detection.on {
            let index = column_index(schema, name)?;
            let data_type = schema.field(index).data_type();
            if !data_type.is_numeric() {
                return Err(Error::schema(format!("a detector cannot watch `{name}`: it is of type {data_type}, not a number")));
            }
            watched.push((index, detection.detector.build()?));
        }
        let columns = KeyColumns::new(&detection.by, schema, config.max_keys)?;
        Ok(Detect {
            keys: columns.dictionary(),
            columns,
            watched,
            threshold: detection.threshold,
            schema: output_schema(schema)?,
            slots: Vec::new(),
        })
    }

    /// The input's columns, then `score` (`float64`, null where a row could not be scored) and `is_anomaly`.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn scores(&mut self, records: &RecordBatch) -> Result<Vec<f64>> {
        self.keys.assign(&self.columns.encode(records)?, &mut self.slots)?;
        let groups = self.keys.slots();
        let mut scores = vec![f64::NAN; records.num_rows()];
        let mut own = Vec::new();
        for (index, detector) in &mut self.watched {
            let column = cast(records.column(*index), &DataType::Float64)?;
            own.clear();
            own.resize(scores.len(), f64::NAN);
            detector.score(&Observations { slots: &self.slots, groups, values: column.as_primitive::<Float64Type>() }, &mut own);
            scores.iter_mut().zip(&own).for_each(|(score, own)| *score = score.max(*own));
        }
        Ok(scores)
    }
}

impl Operator for Detect {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<()> {
        let scores = self.scores(&batch.records)?;
        let threshold = self.threshold;
        let anomalies = BooleanBuffer::collect_bool(scores.len(), |row| scores[row] >= threshold);
        let scored = scores.iter().any(|score| score.is_nan()).then(|| scores.iter().map(|score| !score.is_nan()).collect::<NullBuffer>());
        let mut columns = batch.records.columns().to_vec();
        columns.push(Arc::new(Float64Array::new(scores.into(), scored)) as ArrayRef);
        columns.push(Arc::new(BooleanArray::new(anomalies, None)));
        let records = RecordBatch::try_new(self.schema(), columns)?;
        out.batches.push(batch.with_records(records));
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Saved> {
        let (mut saved, mut out, mut states) = (Saved::default(), Writer::default(), LargeBinaryBuilder::new());
        let slots = Slots::Range(0..self.keys.slots());
        slots.map(|slot| {
            self.watched.iter().for_each(|(_, detector)| detector.save(slot, &mut out));
            states.append_value(out.take());
        });
        let (groups, keys) = self.columns.save(&self.keys, &slots)?;
        let states = bytes(STATE, Arc::new(states.finish()));
        saved.add(KEYS, groups, std::iter::once(states).chain(keys).collect())?;
        Ok(saved)
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        let Some(rows) = saved.table(KEYS) else { return Ok(()) };
        self.keys.assign(&self.columns.load(&rows, STATE)?, &mut self.slots)?;
        for (&slot, state) in self.slots.iter().zip(rows.bytes(STATE)?) {
            let mut from = Reader::new(state.unwrap_or_default());
            self.watched.iter_mut().try_for_each(|(_, detector)| detector.load(slot, &mut from))?;
            from.end()?;
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.keys.bytes() + self.watched.iter().map(|(_, detector)| detector.state_bytes()).sum::<usize>()
    }

    fn placement(&self) -> Option<String> {
        Some(cpu_only())
    }
}

fn output_schema(schema: &Schema) -> Result<SchemaRef> {
    let added = [Field::new("score", DataType::Float64, true), Field::new("is_anomaly", DataType::Boolean, false)];
    if let Some(taken) = added.iter().find(|field| schema.index_of(field.name()).is_ok()) {
        return Err(Error::schema(format!("the stream already has a column `{}`; rename it before `detect`", taken.name())));
    }
    let fields: Vec<_> = schema.fields().iter().cloned().chain(added.map(Arc::new)).collect();
    Ok(Arc::new(Schema::new(fields)))
}
