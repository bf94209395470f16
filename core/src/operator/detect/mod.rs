//! Anomaly detection: every row gets a score, the same rows in the same order.
//!
//! A detector scores each row against what the rows of its key before it have shown, then lets the key learn from it. Added are
//!
//! | column | what | when |
//! |---|---|---|
//! | `score` | how strange the row is, at least 0; what it counts is said by the detector | always |
//! | `p` | the share of the key's earlier scores that were at least as high, in (0, 1]; see [`thalweg_kernels::anomaly::calibration`] | [`Detection::with_p`], [`Detection::false_alarm_rate`] |
//! | `event_score` | the score of a row that begins an event or tops it, 0 of the others, which are held back | [`Detection::refractory`], or the detector has its own |
//! | `region` | the score smoothed over the key's latest rows | [`Detection::region`] |
//! | `expected` | the value that was expected; see below | [`Detection::with_expected`] |
//! | `attribution` | the part of each watched column in the score, with its direction; see below | [`Detection::with_attribution`] |
//! | `is_anomaly` | score ≥ threshold, or p ≤ rate, or among the k highest scores of the latest rows or of a span of event time, and not held back | always |
//!
//! * **Several columns**: most detectors watch a column each, and a row's score is the greatest of its columns' scores. Those that watch
//!   columns together say so. `expected` and `attribution` are numbers where one column is watched, else structs with a field for each.
//! * **Expected**: only of detectors that expect a value; null where there is none yet.
//! * **Attribution**: of a column that is watched by itself its own score, below 0 if the value is below the one expected. Of columns watched
//!   together signed parts whose magnitudes add up to the score.
//! * **Causal**: what a row gets depends on its key's rows up to it alone; not on the batch size, the number of workers or rows to come.
//! * **Order**: rows are taken in the order in which they come. Event times are for the refractory rule, for [`Detection::top_k`] of a
//!   span, and for detectors that ask for them.
//! * **Missing values**: a row without a value (null, NaN, infinite) has no score: `score` and the columns on request are null, except that
//!   `region` keeps its level; it is no anomaly, and teaches the key nothing.
//! * **Warm-up**: rows that are scored 0 because too little is known of their key count as scores like any other.
//! * **Names**: columns are numbers, unless the detector takes one for a name ([`DetectorSpec::is_name`]), which may be of text or any other type.
//! * **Gaps in time**: the detectors here count rows, but [`event_rate`], [`impossible_travel`] and [`velocity`], which go by time, and [`profile`], which looks
//!   at hours. To all others a gap changes nothing but the end of an event told by time, the rows that [`Detection::top_k`] of a span looks
//!   back on, or the key's end by a [`Detection::ttl`]. A key that falls silent is told by [`heartbeat`](crate::Stream::heartbeat).
//! * **Resets and drift**: a key is never forgotten, unless there is a [`Detection::ttl`]: a key that had no rows for longer than that begins anew, as if it
//!   had never been seen. Detectors forget old rows, each as it says, and so follow a level that has shifted.
//! * **State** is bounded by key; all keys together by [`Config::max_state_bytes`], and their number by [`Config::max_keys`].
//!
//! A detector sees dense slots and plain columns of `f64`, so that it knows nothing of keys or Arrow; the
//! operator around it keeps the keys and turns scores into columns.

mod adwin;
mod auto;
mod band;
mod by_key;
mod calibrations;
mod columns;
mod detection;
mod discord;
mod drift;
mod ensemble;
mod event_rate;
mod events;
mod ewma;
mod forecast;
mod forest;
mod half_space;
mod isolation;
mod knn;
mod lives;
mod loda;
mod mahalanobis;
mod novelty;
mod peaks;
mod profile;
mod robust;
mod rolling;
mod stepwise;
mod top;
mod travel;
mod velocity;

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, LargeBinaryBuilder, RecordBatch, StructArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Float64Type, Schema, SchemaRef};
use thalweg_kernels::{Bits, Hash};

use crate::batch::Batch;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::operator::aggregate::hashes;
use crate::operator::column_index;
use crate::operator::devices::{Devices, cpu_only};
use crate::operator::expiry::Expiry;
use crate::operator::keys::{KeyColumns, Keys, Slots};
use crate::operator::{Operator, Output};
use crate::state::{Reader, Saved, Writer, bytes, numbers};
use crate::time::Unit;
use crate::watermark::NONE;
pub use adwin::{Adwin, adwin};
pub use auto::{Auto, auto};
pub use band::{QuantileBand, quantile_band};
use columns::Requested;
use detection::Rule;
pub use detection::{Among, DEFAULT_THRESHOLD, Detection, LEAST_RATE, MOST_SCORES_WITHIN, MOST_TOP_WITHIN, Refractory};
pub use discord::{LeftDiscord, left_discord};
pub use drift::{Cusum, PageHinkley, cusum, page_hinkley};
pub use ensemble::{Ensemble, How, ensemble};
pub use event_rate::{EventRate, event_rate};
pub use ewma::{Ewma, ewma};
pub use forecast::{ArRls, HoltWinters, Interval, ar_rls, holt_winters};
pub use forest::{RandomCutForest, random_cut_forest};
pub use half_space::{HalfSpaceTrees, half_space_trees};
pub use isolation::{IsolationForest, isolation_forest};
pub use knn::{Knn, knn};
pub use loda::{Loda, loda};
pub use mahalanobis::{Mahalanobis, mahalanobis};
pub use novelty::{Novelty, novelty};
pub use peaks::{PeaksOverThreshold, peaks_over_threshold};
pub use profile::{Profile, profile};
pub use robust::{RobustZ, robust_z};
pub use rolling::{RollingZ, rolling_z};
pub use travel::{ImpossibleTravel, impossible_travel};
pub use velocity::{Limit, Velocity, velocity};

/// The rows of a batch as a detector sees them.
pub struct Observations<'a> {
    /// The key of each row as a slot below `groups`.
    pub slots: &'a [u32],
    /// One more than the greatest slot that was given out, since [`Detector::keep`] was called last.
    pub groups: usize,
    /// The watched columns, one value per row; a null is a row without an observation there. One column, unless the detector watches
    /// several together ([`DetectorSpec::is_joint`]).
    pub columns: &'a [Float64Array],
    /// Event time of each row in the stream's unit, if the stream has one. Rows may be out of order.
    pub times: Option<&'a [i64]>,
}

impl<'a> Observations<'a> {
    /// The one column of a detector that watches one.
    pub fn values(&self) -> &'a Float64Array {
        &self.columns[0]
    }

    /// Which rows of the one column are not null, as kernels take it; `None` if all are.
    fn validity(&self) -> Option<Bits<'a>> {
        let nulls = self.values().nulls().filter(|nulls| nulls.null_count() > 0)?;
        Some(Bits { bytes: nulls.validity(), offset: nulls.offset(), len: nulls.len() })
    }

    /// All columns as numbers, NaN where one is null.
    fn floats(&self) -> Vec<Cow<'a, [f64]>> {
        let numbers = |column: &'a Float64Array| match column.null_count() {
            0 => Cow::Borrowed(&column.values()[..]),
            _ => Cow::Owned(column.iter().map(|value| value.unwrap_or(f64::NAN)).collect()),
        };
        self.columns.iter().map(numbers).collect()
    }
}

/// What a detector tells of each row beside its score, as far as it is asked for: by watched column a number per row, NaN where there is
/// none. The columns are there, of full length and all NaN, for the detector to fill in.
#[derive(Debug, Default)]
pub struct Told {
    /// The value that was expected, before the row was seen.
    pub expected: Option<Vec<Vec<f64>>>,
    /// The column's part in the score: above 0 if its values are rather too high, below 0 if too low. Asked of detectors that
    /// watch columns together; their magnitudes add up to the score.
    pub attribution: Option<Vec<Vec<f64>>>,
}

impl Told {
    fn asked(expected: bool, attribution: bool, columns: usize, rows: usize) -> Told {
        let blank = |asked: bool| asked.then(|| vec![vec![f64::NAN; rows]; columns]);
        Told { expected: blank(expected), attribution: blank(attribution) }
    }
}

/// A keyed, incremental anomaly detector on one column, or on several together: of those here, or your own.
///
/// What it knows of a key should be bounded, and the scores of a key's rows depend on that key's rows alone, so that they are the same
/// whatever the batches and the number of workers.
pub trait Detector: Send {
    /// Scores each row against the state that its key had before it, then lets the key learn from it, row by row.
    /// `scores` has a place for each row. A score is at least 0, larger means stranger; NaN means that the row
    /// could not be scored (no value, or none that a score can be given). `told` says what else is asked for, of what
    /// [`DetectorSpec::tells_expected`] and [`DetectorSpec::tells_attribution`] promise.
    ///
    /// # Errors
    /// If it fails, which ends the run; those here do not.
    fn score(&mut self, observations: &Observations<'_>, scores: &mut [f64], told: &mut Told) -> Result<()>;

    /// Tells the devices that it may run on, once and before the first row. One that has no twin on a GPU need not know.
    fn place(&mut self, _devices: &Devices) {}

    /// In words, where it runs and why, if it has a twin on a GPU.
    fn placement(&self) -> Option<String> {
        None
    }

    /// Bytes of state held.
    fn state_bytes(&self) -> usize;

    /// Writes what is known of the key in `slot`, which may not have been scored yet, nor any slot as great.
    ///
    /// # Errors
    /// If it cannot be written; what those here know can be.
    fn save(&self, slot: u32, out: &mut Writer) -> Result<()>;

    /// Takes up what was written of the key in `slot`: its rows score as they would have where it was saved.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if it is not what this detector writes.
    fn load(&mut self, slot: u32, from: &mut Reader<'_>) -> Result<()>;

    /// Forgets the key in `slot`, which is given to another one, or to the same key anew. Takes up what is written of a slot that was never
    /// scored, unless you know a shorter way.
    ///
    /// # Errors
    /// As [`Detector::save`] and [`Detector::load`].
    fn forget(&mut self, slot: u32) -> Result<()> {
        let mut nothing = Writer::default();
        self.save(u32::MAX, &mut nothing)?;
        self.load(slot, &mut Reader::new(&nothing.take()))
    }

    /// Moves the keys in `slots`, which ascend, to the slots 0, 1 and so on, and forgets all others of `groups`: memory can be given back where keys
    /// have come and gone. Saves, takes up and forgets them one by one, unless you know a shorter way.
    ///
    /// # Errors
    /// As [`Detector::save`] and [`Detector::load`].
    fn keep(&mut self, slots: &[u32], groups: usize) -> Result<()> {
        for (to, &from) in (0u32..).zip(slots).filter(|(to, from)| to != *from) {
            let mut state = Writer::default();
            self.save(from, &mut state)?;
            self.load(to, &mut Reader::new(&state.take()))?;
        }
        (slots.len() as u32..groups as u32).try_for_each(|slot| self.forget(slot))
    }
}

/// A detector's parameters: makes one detector per watched column, or one for all. Displayed as one would call for it: `ewma(alpha=0.05)`.
pub trait DetectorSpec: Send + Sync + std::fmt::Debug + std::fmt::Display {
    /// A detector without history, for the column of this name, or for all of these if it watches them together. Event times count `unit`s, if there are any.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if a parameter is out of range, or the detector needs event times and there are none.
    fn build(&self, on: &[String], unit: Option<Unit>) -> Result<Box<dyn Detector>>;

    /// Whether one detector watches all columns together; else each column has its own.
    fn is_joint(&self) -> bool {
        false
    }

    /// Whether a column of this name is one of names, whatever its type: it is watched as numbers that stand for its values, equal ones for equal values.
    fn is_name(&self, _column: &str) -> bool {
        false
    }

    /// Whether it tells which value was expected.
    fn tells_expected(&self) -> bool {
        false
    }

    /// Whether it tells the parts of the columns in a score. One that watches a single column need not: telling what was expected is enough.
    fn tells_attribution(&self) -> bool {
        false
    }

    /// The score from which a row is an anomaly unless another is given.
    fn threshold(&self) -> f64 {
        DEFAULT_THRESHOLD
    }

    /// How long later rows of an event are held back unless something else is asked for; as a rule none is.
    fn refractory(&self) -> Option<Refractory> {
        None
    }
}

/// Name of the table of keys in a snapshot, and of its column of what detectors know of them.
const KEYS: &str = "keys";
const STATE: &str = "state";

/// Name of the column of the event time of a key's latest row, where keys are forgotten.
const LATEST: &str = "latest";

/// The hash that stands for a name: fixed for good, as snapshots hold what is made of it.
const NAMES: Hash = Hash::Seeded(1);

/// A detector and the columns that it watches.
struct Watched {
    columns: Vec<WatchedColumn>,
    detector: Box<dyn Detector>,
}

/// A column as a detector watches it.
#[derive(Debug, Clone, Copy)]
struct WatchedColumn {
    index: usize,
    is_name: bool,
}

/// Adds `score`, `is_anomaly` and what else is asked for to every row, see the [module documentation](self).
pub struct Detect {
    columns: KeyColumns,
    keys: Keys,
    watched: Vec<Watched>,
    requested: Requested,
    rule: Rule,
    /// Names of the watched columns.
    on: Vec<String>,
    schema: SchemaRef,
    slots: Vec<u32>,
    /// When keys are forgotten, if they are.
    expiry: Option<Expiry>,
    watermark: i64,
    max_state_bytes: usize,
}

impl Detect {
    /// Detection on rows of `schema` whose event time counts `unit`s, or who have none.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if a column is unknown or not numeric, or the stream already has a
    /// column that is to be added; [`Kind::Config`](crate::error::Kind::Config) if a parameter is out of range.
    pub fn new(detection: &Detection, schema: &SchemaRef, unit: Option<Unit>, config: &Config) -> Result<Detect> {
        if detection.on.is_empty() {
            return Err(Error::config("a detector needs at least one column to watch: name it in `on`"));
        }
        let watched = watched(detection, schema, unit)?;
        let columns = KeyColumns::new(&detection.by, schema, config.max_keys)?;
        let rule = detection.rule()?;
        let requested = Requested::new(detection, unit)?;
        Ok(Detect {
            keys: columns.dictionary(),
            columns,
            watched,
            schema: output_schema(schema, &requested, &detection.on)?,
            requested,
            rule,
            on: detection.on.clone(),
            slots: Vec::new(),
            expiry: lives::expiry(detection.ttl, unit)?,
            watermark: NONE,
            max_state_bytes: config.max_state_bytes,
        })
    }

    /// The same, with detectors that have a twin on a GPU on these devices.
    pub fn on_devices(mut self, devices: &Devices) -> Detect {
        self.watched.iter_mut().for_each(|watched| watched.detector.place(devices));
        self
    }

    /// The input's columns, then `score` (`float64`, null where a row could not be scored), what was asked for, and `is_anomaly`.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn scores(&mut self, records: &RecordBatch, times: Option<&[i64]>, slots: &[u32]) -> Result<(Vec<f64>, Told)> {
        let groups = self.keys.slots();
        let mut scores = vec![f64::NAN; records.num_rows()];
        let (mut own, mut all) = (Vec::new(), self.requested.told(0, 0));
        for Watched { columns, detector } in &mut self.watched {
            let columns = columns.iter().map(|column| watch(records.column(column.index), column.is_name)).collect::<Result<Vec<_>>>()?;
            own.clear();
            own.resize(scores.len(), f64::NAN);
            let mut told = self.requested.told(columns.len(), scores.len());
            detector.score(&Observations { slots, groups, columns: &columns, times }, &mut own, &mut told)?;
            if let ([values], Some(expected), Some(attribution)) = (&columns[..], &told.expected, &mut told.attribution) {
                sign(&own, values.values(), &expected[0], &mut attribution[0]);
            }
            scores.iter_mut().zip(&own).for_each(|(score, own)| *score = score.max(*own));
            self.requested.gather(told, &mut all);
        }
        Ok((scores, all))
    }

    /// The columns that are added to rows of keys in `slots`.
    fn judge(&mut self, records: &RecordBatch, times: Option<&[i64]>, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let (scores, told) = self.scores(records, times, slots)?;
        let made = self.requested.make(slots, self.keys.slots(), times, &scores);
        let held_back = |row: usize| made.event_score.as_ref().is_some_and(|events| events[row] < scores[row]);
        let is_anomaly = |row: usize| match self.rule {
            Rule::Threshold(threshold) => made.event_score.as_ref().unwrap_or(&scores)[row] >= threshold,
            Rule::FalseAlarmRate(rate) => made.p.as_ref().is_some_and(|p| p[row] <= rate) && !held_back(row),
            Rule::Top(k) => made.ranks.as_ref().is_some_and(|ranks| ranks[row] <= k) && !held_back(row),
        };
        let anomalies = BooleanBuffer::collect_bool(scores.len(), is_anomaly);
        let mut columns = vec![null_where_nan(scores)];
        columns.extend([made.p, made.event_score, made.region].into_iter().flatten().map(null_where_nan));
        columns.extend([told.expected, told.attribution].into_iter().flatten().map(|told| by_column(&self.on, told)));
        columns.push(Arc::new(BooleanArray::new(anomalies, None)));
        Ok(columns)
    }

    fn check_state(&self) -> Result<()> {
        let (bytes, keys) = (self.state_bytes(), self.keys.slots());
        if bytes <= self.max_state_bytes {
            return Ok(());
        }
        Err(Error::state(format!(
            "a detector holds {bytes} bytes for {keys} keys, over its bound of {} bytes; use a detector with less state, a coarser key, give a \
             `ttl` if keys come and go, or raise `max_state_bytes`",
            self.max_state_bytes
        )))
    }
}

impl Operator for Detect {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<()> {
        let mut slots = std::mem::take(&mut self.slots);
        self.keys.assign(&self.columns.encode(&batch.records)?, &mut slots)?;
        let lives = self.lives(&slots, batch.time.as_ref());
        let times = batch.time.as_ref().map(|time| &*time.times);
        let added = match lives.is_empty() {
            true => self.judge(&batch.records, times, &slots)?,
            false => self.judge_lives(&batch.records, times, &slots, &lives)?,
        };
        self.slots = slots;
        self.check_state()?;
        let columns = batch.records.columns().iter().cloned().chain(added).collect();
        let records = RecordBatch::try_new(self.schema(), columns)?;
        out.batches.push(batch.with_records(records));
        Ok(())
    }

    fn on_watermark(&mut self, watermark: i64, _out: &mut Output) -> Result<()> {
        self.expire(watermark)
    }

    fn snapshot(&mut self) -> Result<Saved> {
        let (mut saved, mut out, mut states) = (Saved::default(), Writer::default(), LargeBinaryBuilder::new());
        let alive = self.expiry.as_ref().map(Expiry::keys);
        let slots = alive.as_ref().map_or(Slots::Range(0..self.keys.slots()), |alive| Slots::List(alive));
        let saved_keys = slots.map(|slot| {
            self.watched.iter().try_for_each(|watched| watched.detector.save(slot, &mut out))?;
            self.requested.save(slot, &mut out);
            states.append_value(out.take());
            Ok(())
        });
        saved_keys.into_iter().collect::<Result<()>>()?;
        let (groups, keys) = self.columns.save(&self.keys, &slots)?;
        let states = bytes(STATE, Arc::new(states.finish()));
        let latest = self.expiry.as_ref().map(|expiry| numbers(LATEST, slots.map(|slot| expiry.latest(slot))));
        if latest.is_some() {
            saved.mark("watermark", self.watermark);
        }
        saved.add(KEYS, groups, latest.into_iter().chain([states]).chain(keys).collect())?;
        Ok(saved)
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        if self.expiry.is_some() {
            self.watermark = saved.marked("watermark")?;
        }
        let Some(rows) = saved.table(KEYS) else { return Ok(()) };
        self.keys.assign(&self.columns.load(&rows, STATE)?, &mut self.slots)?;
        if let Some(expiry) = &mut self.expiry {
            self.slots.iter().zip(rows.numbers(LATEST)?.values()).for_each(|(&slot, &latest)| {
                expiry.note(slot, latest, NONE);
            });
        }
        for (&slot, state) in self.slots.iter().zip(rows.bytes(STATE)?) {
            let mut from = Reader::new(state.unwrap_or_default());
            self.watched.iter_mut().try_for_each(|watched| watched.detector.load(slot, &mut from))?;
            self.requested.load(slot, &mut from)?;
            from.end()?;
        }
        Ok(())
    }

    fn trim(&mut self) -> Result<()> {
        let Some(expiry) = &mut self.expiry else { return Ok(()) };
        expiry.trim();
        if self.keys.is_sparse() {
            let (live, groups) = (expiry.keys(), self.keys.slots());
            expiry.keep(&live);
            self.watched.iter_mut().try_for_each(|watched| watched.detector.keep(&live, groups))?;
            self.requested.keep(&live);
            self.keys = self.columns.compacted(&self.keys, &live)?;
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        let detectors: usize = self.watched.iter().map(|watched| watched.detector.state_bytes()).sum();
        self.keys.bytes() + detectors + self.requested.bytes() + self.expiry.as_ref().map_or(0, Expiry::bytes)
    }

    fn placement(&self) -> Option<String> {
        Some(self.watched.iter().find_map(|watched| watched.detector.placement()).unwrap_or_else(cpu_only))
    }
}

/// A column of numbers, null where one is NaN.
fn null_where_nan(values: Vec<f64>) -> ArrayRef {
    let valid = values.iter().any(|value| value.is_nan()).then(|| values.iter().map(|value| !value.is_nan()).collect::<NullBuffer>());
    Arc::new(Float64Array::new(values.into(), valid))
}

/// A column as detectors see it. Of names a hash stands for each, cut to the bits that a float holds: two of a million names share one by a chance of
/// one in 18,000.
///
/// # Errors
/// [`Kind::Schema`](crate::error::Kind::Schema) if its type cannot be watched.
pub fn watch(column: &ArrayRef, is_name: bool) -> Result<Float64Array> {
    if !is_name {
        return Ok(cast(column, &DataType::Float64)?.as_primitive::<Float64Type>().clone());
    }
    let numbers = hashes(column, NAMES)?.into_iter().map(|hash| (hash >> 11) as f64).collect::<Vec<f64>>();
    Ok(Float64Array::new(numbers.into(), column.logical_nulls()))
}

/// The detectors of a detection, with the columns that each watches.
fn watched(detection: &Detection, schema: &Schema, unit: Option<Unit>) -> Result<Vec<Watched>> {
    let column = |name: &String| {
        let (index, is_name) = (column_index(schema, name)?, detection.detector.is_name(name));
        match schema.field(index).data_type() {
            _ if is_name => Ok(WatchedColumn { index, is_name }),
            number if number.is_numeric() => Ok(WatchedColumn { index, is_name }),
            other => Err(Error::schema(format!("a detector cannot watch `{name}`: it is of type {other}, not a number"))),
        }
    };
    let columns = detection.on.iter().map(column).collect::<Result<Vec<WatchedColumn>>>()?;
    let each = if detection.detector.is_joint() { columns.len() } else { 1 };
    let watch = |(columns, on): (&[WatchedColumn], &[String])| {
        Ok(Watched { columns: columns.to_vec(), detector: detection.detector.build(on, unit)? })
    };
    columns.chunks(each).zip(detection.on.chunks(each)).map(watch).collect()
}

/// What a column that is watched by itself has for attribution: its score, below 0 where the value is below the one expected.
fn sign(scores: &[f64], values: &[f64], expected: &[f64], attribution: &mut [f64]) {
    for (((score, value), expected), out) in scores.iter().zip(values).zip(expected).zip(attribution) {
        *out = if value < expected { -score } else { *score };
    }
}

/// Numbers told of each watched column: a column of them, or one with a field for each if there are several.
fn by_column(on: &[String], mut told: Vec<Vec<f64>>) -> ArrayRef {
    if on.len() == 1 {
        return null_where_nan(told.swap_remove(0));
    }
    let fields = told_fields(on);
    let columns = told.into_iter().map(null_where_nan).collect();
    Arc::new(StructArray::new(fields, columns, None))
}

fn told_fields(on: &[String]) -> Fields {
    on.iter().map(|name| Field::new(name, DataType::Float64, true)).collect()
}

fn output_schema(schema: &Schema, requested: &Requested, on: &[String]) -> Result<SchemaRef> {
    let numbers = std::iter::once("score").chain(requested.names()).map(|name| Field::new(name, DataType::Float64, true));
    let told_type = if on.len() == 1 { DataType::Float64 } else { DataType::Struct(told_fields(on)) };
    let told = requested.told_names().map(|name| Field::new(name, told_type.clone(), true));
    let added: Vec<_> = numbers.chain(told).chain([Field::new("is_anomaly", DataType::Boolean, false)]).collect();
    if let Some(taken) = added.iter().find(|field| schema.index_of(field.name()).is_ok()) {
        return Err(Error::schema(format!("the stream already has a column `{}`; rename it before `detect`", taken.name())));
    }
    let fields: Vec<_> = schema.fields().iter().cloned().chain(added.into_iter().map(Arc::new)).collect();
    Ok(Arc::new(Schema::new(fields)))
}
