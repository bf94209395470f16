//! Rolling windows: every row is answered from the rows of its key before it, as SQL's `OVER`.
//!
//! With an event time rows wait until the watermark has passed them and are taken in order of time, those of one time in the
//! order in which they came; a row behind the watermark is late. So neither disorder nor batch size changes an answer.
//! Without an event time rows are taken as they come, and answered at once.
//!
//! * **Nulls** take a place among the rows of a window but have no value. NaN counts as a value: means and deviations of
//!   windows with one are NaN, and in min and max it is larger than every number.
//! * Sums of integers are exact, and it is an error if one leaves `int64`; means, variances and scores take integers as the
//!   nearest `float64`. How near the results of floats are is said in [`thalweg_kernels::rolling`].
//! * **Device**: the kernels run on a GPU where one is asked for, with the same results but for the last digits of floats, and on the
//!   processor from where it fails.
//! * **State**: the rows that wait, and for each key the rows that its next window can hold. Keys of a range of time are
//!   forgotten once all their rows have left it; keys of a number of rows are kept.

mod measures;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::concat;
use arrow::datatypes::{Field, Schema, SchemaRef};
use thalweg_kernels::Extent;

use crate::batch::Batch;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::operator::aggregate::Aggregate;
use crate::operator::compact::keep;
use crate::operator::devices::Devices;
use crate::operator::event_time::{on_time, timed};
use crate::operator::held::{Held, Sorted};
use crate::operator::keys::{KeyColumns, Keys, Slots};
use crate::operator::{Operator, Output};
use crate::state::{Saved, bytes, numbers};
use crate::time::Unit;
use crate::watermark::NONE;
use crate::window::RollingSpec;
use measures::Measures;

/// Most rows of a rolling window: the kernels' bound.
const MAX_ROWS: u32 = 1 << 31;

/// Name of the table of keys in a snapshot, and of its columns: event time of a key's latest row, and the rows of its windows.
const KEYS: &str = "keys";
const LATEST: &str = "latest";
const WINDOWS: &str = "windows";

/// Rolling aggregates of every row, see the [module documentation](self).
pub struct Rolling {
    columns: KeyColumns,
    keys: Keys,
    measures: Measures,
    input: SchemaRef,
    schema: SchemaRef,
    /// The rows that wait for the watermark; none without an event time.
    held: Option<Held>,
    watermark: i64,
    idle: Option<IdleKeys>,
    slots: Vec<u32>,
    batch_rows: usize,
    max_state_bytes: usize,
}

impl Rolling {
    /// `aggregates` over the windows of `spec` for each key made of the columns `by`, on rows of `schema` whose event time
    /// counts `unit`s, or who have none. Without rows for longer than `ttl` a key is forgotten, if there is one.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if a column is unknown, has a type that its aggregate does not take, or a
    /// result is named like another column; [`Kind::Config`](crate::error::Kind::Config) if the windows are impossible.
    pub fn new(
        (spec, ttl): (RollingSpec, Option<Duration>),
        by: &[String],
        aggregates: &[Aggregate],
        schema: &SchemaRef,
        unit: Option<Unit>,
        config: &Config,
    ) -> Result<Rolling> {
        let extent = extent(spec, unit)?;
        let measures = Measures::new(aggregates, schema, extent)?;
        let columns = KeyColumns::new(by, schema, config.max_keys)?;
        Ok(Rolling {
            keys: columns.dictionary(),
            columns,
            input: Arc::clone(schema),
            schema: output_schema(schema, measures.fields())?,
            measures,
            held: unit.map(|_| Held::default()),
            watermark: NONE,
            idle: idle_after(spec, ttl, unit)?.map(|(length, begins_anew)| IdleKeys { length, begins_anew, latest: Vec::new(), rows: 0 }),
            slots: Vec::new(),
            batch_rows: config.batch_rows,
            max_state_bytes: config.max_state_bytes,
        })
    }

    /// Runs the kernels on these devices from now on: on a GPU if one is asked for.
    pub fn on_devices(mut self, devices: &Devices) -> Rolling {
        self.measures.place(devices);
        self
    }

    /// The input's columns, then the aggregates.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// The rows with their results. `times` are those of the rows, unless they have none.
    fn answer(&mut self, records: &RecordBatch, times: &[i64]) -> Result<RecordBatch> {
        self.keys.assign(&self.columns.encode(records)?, &mut self.slots)?;
        let mut columns = records.columns().to_vec();
        let anew = self.idle.as_mut().map(|idle| idle.note(&self.slots, times, self.keys.slots())).unwrap_or_default();
        columns.extend(self.measure(records, times, &anew)?);
        self.check_state()?;
        Ok(RecordBatch::try_new(self.schema(), columns)?)
    }

    /// The results of rows; keys begin anew with the rows `anew`.
    fn measure(&mut self, records: &RecordBatch, times: &[i64], anew: &[usize]) -> Result<Vec<ArrayRef>> {
        let (keys, rows) = (self.keys.slots(), records.num_rows());
        let mut parts = Vec::with_capacity(anew.len() + 1);
        let mut start = 0;
        for end in anew.iter().copied().chain([rows]) {
            let times = if times.is_empty() { times } else { &times[start..end] };
            parts.push(self.measures.answer(&records.slice(start, end - start), &self.slots[start..end], keys, times)?);
            if end < rows {
                self.measures.forget(&self.slots[end..=end]);
            }
            start = end;
        }
        if parts.len() == 1 {
            return Ok(parts.pop().unwrap_or_default());
        }
        let column = |place: usize| concat(&parts.iter().map(|part| part[place].as_ref()).collect::<Vec<_>>());
        Ok((0..self.schema.fields().len() - self.input.fields().len()).map(column).collect::<Result<_, _>>()?)
    }

    fn check_state(&self) -> Result<()> {
        let (bytes, held) = (self.state_bytes(), self.held.as_ref().map_or(0, Held::bytes));
        if bytes <= self.max_state_bytes {
            return Ok(());
        }
        Err(Error::state(format!(
            "a rolling window holds {bytes} bytes, over its bound of {} bytes: {held} in rows that wait for the watermark, the rest in windows of \
             {} keys; use shorter windows, a coarser key or a smaller `max_delay`, or raise `max_state_bytes`",
            self.max_state_bytes,
            self.keys.slots()
        )))
    }

    /// Forgets the keys whose rows have all left the windows of rows to come.
    fn forget_idle(&mut self) {
        let Some(idle) = &mut self.idle else { return };
        let slots = idle.gone(self.watermark);
        if !slots.is_empty() {
            self.measures.forget(&slots);
            self.keys.remove_all(&slots);
        }
    }
}

/// When each key had its latest row, of windows that forget keys.
struct IdleKeys {
    /// How long after its latest row a key makes no difference any more.
    length: i64,
    /// Whether rows that come after that do not see those before, or would not anyway.
    begins_anew: bool,
    /// By slot; [`NONE`] of slots without a key.
    latest: Vec<i64>,
    /// Rows since the last look.
    rows: usize,
}

impl IdleKeys {
    /// Rows of these slots came, in order of time. Returns the rows with which their keys begin anew.
    fn note(&mut self, slots: &[u32], times: &[i64], keys: usize) -> Vec<usize> {
        self.latest.resize(keys.max(self.latest.len()), NONE);
        self.rows += slots.len();
        let mut anew = Vec::new();
        for (row, (&slot, &time)) in slots.iter().zip(times).enumerate() {
            let latest = std::mem::replace(&mut self.latest[slot as usize], time);
            if self.begins_anew && latest != NONE && time.saturating_sub(latest) > self.length {
                anew.push(row);
            }
        }
        anew
    }

    /// The slots that have keys.
    fn slots(&self) -> Vec<u32> {
        (0u32..).zip(&self.latest).filter(|(_, latest)| **latest != NONE).map(|(slot, _)| slot).collect()
    }

    /// Lets the next look be now.
    fn look_now(&mut self) {
        self.rows = self.latest.len();
    }

    /// The slots of which no row after `watermark` will see any, ascending. Looks once in half as many rows as there are slots, so that a
    /// row's share of it is constant, and slots are at most twice the keys that were live, and those of a batch.
    fn gone(&mut self, watermark: i64) -> Vec<u32> {
        if 2 * self.rows < self.latest.len() {
            return Vec::new();
        }
        self.rows = 0;
        let first_seen = watermark.saturating_add(1).saturating_sub(self.length);
        let slots = (0..self.latest.len() as u32).filter(|&slot| (NONE + 1..first_seen).contains(&self.latest[slot as usize]));
        let slots: Vec<u32> = slots.collect();
        slots.iter().for_each(|&slot| self.latest[slot as usize] = NONE);
        slots
    }
}

impl Operator for Rolling {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<()> {
        let (Some(_), Some(time)) = (&self.held, batch.time.clone()) else {
            let records = self.answer(&batch.records, &[])?;
            out.batches.push(batch.with_records(records));
            return Ok(());
        };
        let batch = on_time(batch, self.watermark, &mut self.columns, &mut out.late)?;
        let times = batch.time.map_or(time.times, |time| time.times);
        if let (Some(held), true) = (&mut self.held, !times.is_empty()) {
            held.push(batch.records, &times)?;
        }
        self.check_state()
    }

    fn on_watermark(&mut self, watermark: i64, out: &mut Output) -> Result<()> {
        self.watermark = self.watermark.max(watermark);
        let due = self.held.as_mut().map(|held| held.take(self.watermark)).transpose()?.flatten();
        let Some(Sorted { records, times }) = due else { return Ok(()) };
        for start in (0..times.len()).step_by(self.batch_rows) {
            let rows = self.batch_rows.min(times.len() - start);
            let times = times.slice(start, rows);
            let records = self.answer(&records.slice(start, rows), &times)?;
            out.batches.push(Batch::of_results(records, Some(timed(times))));
        }
        self.forget_idle();
        Ok(())
    }

    fn waits_for(&self) -> Option<i64> {
        self.held.as_ref()?.earliest().map(|time| time.saturating_add(1))
    }

    fn snapshot(&mut self) -> Result<Saved> {
        let mut saved = Saved::default();
        saved.mark("watermark", self.watermark);
        if let Some(held) = &self.held {
            held.save(&mut self.columns, &mut saved)?;
        }
        let latest = |slot: u32| self.idle.as_ref().map_or(0, |idle| idle.latest[slot as usize]);
        let slots: Vec<u32> = (0..self.keys.slots() as u32).filter(|&slot| latest(slot) != NONE).collect();
        let (groups, keys) = self.columns.save(&self.keys, &Slots::List(&slots))?;
        let latest = numbers(LATEST, slots.iter().map(|&slot| latest(slot)).collect());
        let windows = bytes(WINDOWS, Arc::new(self.measures.save(&slots)));
        saved.add(KEYS, groups, [latest, windows].into_iter().chain(keys).collect())?;
        Ok(saved)
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        self.watermark = saved.marked("watermark")?;
        if let Some(held) = &mut self.held {
            held.restore(&self.input, saved)?;
        }
        let Some(rows) = saved.table(KEYS) else { return Ok(()) };
        self.keys.assign(&self.columns.load(&rows, WINDOWS)?, &mut self.slots)?;
        if let Some(idle) = &mut self.idle {
            idle.note(&self.slots, rows.numbers(LATEST)?.values(), self.keys.slots());
        }
        self.measures.load(&self.slots, self.keys.slots(), rows.bytes(WINDOWS)?)
    }

    fn trim(&mut self) -> Result<()> {
        if let Some(held) = &mut self.held {
            held.trim()?;
        }
        if let Some(idle) = &mut self.idle {
            idle.look_now();
        }
        self.forget_idle();
        let slots: Vec<u32> = match &self.idle {
            Some(idle) if self.keys.is_sparse() => idle.slots(),
            _ if self.measures.is_sparse() => (0..self.keys.slots() as u32).collect(),
            _ => return Ok(()),
        };
        self.measures.keep(&slots)?;
        if slots.len() < self.keys.slots() {
            self.keys = self.columns.compacted(&self.keys, &slots)?;
            self.idle.iter_mut().for_each(|idle| keep(&mut idle.latest, &slots));
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        let idle = self.idle.as_ref().map_or(0, |idle| idle.latest.capacity() * size_of::<i64>());
        self.held.as_ref().map_or(0, Held::bytes) + self.keys.bytes() + self.measures.bytes() + idle
    }

    fn placement(&self) -> Option<String> {
        Some(self.measures.placement())
    }
}

fn extent(spec: RollingSpec, unit: Option<Unit>) -> Result<Extent> {
    match (spec, unit) {
        (RollingSpec::Rows(rows @ 1..=MAX_ROWS), _) => Ok(Extent::Rows(rows)),
        (RollingSpec::Rows(rows), _) => Err(Error::config(format!(
            "a rolling window cannot hold {rows} rows; it may hold 1 to {MAX_ROWS}, of which the row itself is one"
        ))),
        (RollingSpec::Range(length), Some(unit)) => unit.count(length).map(Extent::Range),
        (RollingSpec::Range(_), None) => Err(Error::config(format!(
            "{spec} reaches back in event time, and the stream has none; call `event_time(column)` before `window`, or give the length in rows"
        ))),
    }
}

/// How long after its latest row a key is forgotten, and whether that makes a difference to rows that come later.
fn idle_after(spec: RollingSpec, ttl: Option<Duration>, unit: Option<Unit>) -> Result<Option<(i64, bool)>> {
    match (spec, ttl, unit) {
        (RollingSpec::Range(_), Some(_), _) => Err(Error::config(format!(
            "{spec} forgets a key when its rows have left the window; leave `ttl` out, or give the length in rows"
        ))),
        (RollingSpec::Rows(_), Some(_), None) => {
            Err(Error::config("`ttl` counts event time, and the stream has none; call `event_time(column)` before `window`"))
        }
        (RollingSpec::Rows(_), Some(ttl), Some(unit)) => Ok(Some((unit.count(ttl)?, true))),
        (RollingSpec::Range(length), None, Some(unit)) => Ok(Some((unit.count(length)?, false))),
        (_, None, _) => Ok(None),
    }
}

fn output_schema(input: &Schema, results: &[Field]) -> Result<SchemaRef> {
    let mut fields = input.fields().to_vec();
    for field in results {
        if fields.iter().any(|taken| taken.name() == field.name()) {
            return Err(Error::schema(format!("there is a column `{}` already; give the aggregate another name", field.name())));
        }
        fields.push(Arc::new(field.clone()));
    }
    Ok(Arc::new(Schema::new_with_metadata(fields, input.metadata().clone())))
}
