//! Windowed aggregation by key.
//!
//! A batch is accumulated once, into the panes of its rows; when the watermark passes the end of a window its
//! panes are combined and its groups put out, in the order in which their keys first came. A key is forgotten
//! when it leaves the last open pane.

mod pane;
mod session;
mod sliding;
mod stacks;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::batch::{Batch, EventTime};
use crate::config::{Config, MAX_OPEN_PANES};
use crate::error::{Error, Result};
use crate::operator::aggregate::{Accumulators, Aggregate, Aggregates, Placed, Spans};
use crate::operator::devices::{Devices, cpu_only};
use crate::operator::event_time::timed;
use crate::operator::keys::{KeyColumns, Keys, Slots};
use crate::operator::{Operator, Output};
use crate::time::Unit;
use crate::watermark::NONE;
use crate::window::{Panes, WindowSpec};
use pane::{Pane, Rows, Sorter};
pub use session::SessionWindow;
use sliding::Sliding;

/// Tumbling and hopping windows, see the [module documentation](self).
pub struct Window {
    panes: Panes,
    unit: Unit,
    keys: KeyColumns,
    aggregates: Aggregates,
    schema: SchemaRef,
    /// Panes that may still get rows on time, or whose windows have not come up yet.
    open: BTreeMap<i64, Pane>,
    /// Rows that came when some but not all windows of their pane had closed, by the first window that may
    /// still count them.
    amendments: BTreeMap<(i64, i64), Pane>,
    /// The complete panes of the current window; unused by tumbling windows.
    sliding: Sliding,
    /// Emptied panes, for those to come: nothing is allocated in steady state.
    spare: Vec<Pane>,
    /// No window before this one is open.
    next: i64,
    watermark: i64,
    max_state_bytes: usize,
    devices: Devices,
    sorter: Sorter,
    slots: Vec<u32>,
    /// Rows that came so far: their numbers in order of arrival.
    sequence: u64,
}

/// Emptied panes that are kept: as many as are open at once when windows are longer than the delay of rows.
const SPARE_PANES: usize = 3;

/// Groups that a plan is explained for, whose keys nobody knows yet.
const EXPLAINED_GROUPS: usize = 4_096;

/// Rows of a batch of results: few enough that the accumulators of its groups stay in the second-level cache while one
/// result after the other is made of them.
const RESULT_ROWS: usize = 8_192;

impl Window {
    /// `aggregates` over the windows of `spec` for each key made of the columns `by`, on rows of `schema` whose
    /// event time counts `unit`s.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if a column is unknown, has a type that its aggregate does not
    /// take, or two results have one name; [`Kind::Config`](crate::error::Kind::Config) if the windows are impossible.
    pub fn new(
        spec: &WindowSpec,
        by: &[String],
        aggregates: &[Aggregate],
        schema: &SchemaRef,
        unit: Unit,
        config: &Config,
        devices: &Devices,
    ) -> Result<Window> {
        let keys = KeyColumns::new(by, schema, config.max_keys)?;
        let aggregates = Aggregates::new(aggregates, schema)?;
        let schema = output_schema(&keys, &aggregates, unit)?;
        Ok(Window {
            panes: spec.panes(unit)?,
            unit,
            schema,
            open: BTreeMap::new(),
            amendments: BTreeMap::new(),
            sliding: Sliding::new(Pane::new(&keys, &aggregates, devices)),
            spare: Vec::new(),
            next: i64::MIN,
            watermark: NONE,
            max_state_bytes: config.max_state_bytes,
            devices: devices.clone(),
            sorter: Sorter::default(),
            slots: Vec::new(),
            sequence: 0,
            keys,
            aggregates,
        })
    }

    /// Columns of the results: the keys, `window_start`, `window_end`, the aggregates.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Length of a pane in units of event time.
    pub fn pane_length(&self) -> i64 {
        self.panes.length
    }

    /// Takes rows in, except those that are late.
    fn admit(&mut self, batch: Batch, time: &EventTime, out: &mut Output) -> Result<()> {
        if time.watermarks.is_none() && time.earliest > self.watermark {
            return self.add(&batch.records, time, None);
        }
        let (mut keep, mut late) = (vec![true; batch.rows()], vec![false; batch.rows()]);
        let mut amendments: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        for (row, &event_time) in time.times.iter().enumerate() {
            let watermark = time.watermarks.as_ref().map_or(NONE, |marks| marks[row]).max(self.watermark);
            if event_time > watermark {
                continue;
            }
            match self.first_open_window(event_time, watermark) {
                Admission::All => {}
                Admission::None => (keep[row], late[row]) = (false, true),
                Admission::From(window) => {
                    keep[row] = false;
                    amendments.entry(window).or_default().push(row as u32);
                }
            }
        }
        if late.contains(&true) {
            out.late.push(batch.clone().filter(&BooleanArray::from(late))?);
        }
        let kept = batch.clone().filter(&BooleanArray::from(keep))?;
        // The bounds may be those of rows that are gone; panes of theirs must not be opened again.
        if let Some(time) = kept.time.map(|time| timed(time.times)) {
            self.add(&kept.records, &time, None)?;
        }
        // Of rows of one time in one partition, those that fewer windows can count came later: so all are taken in the order in
        // which they came.
        amendments.into_iter().try_for_each(|(window, rows)| self.amend(window, &batch, time, rows))
    }

    fn first_open_window(&self, event_time: i64, watermark: i64) -> Admission {
        let pane = self.panes.pane_of(event_time);
        let (first, last) = (self.panes.first_window(pane), self.panes.last_window(pane));
        if self.panes.is_closed(last, watermark) {
            return Admission::None;
        }
        if !self.panes.is_closed(first, watermark) {
            return Admission::All;
        }
        let mut window = last;
        while !self.panes.is_closed(window - 1, watermark) {
            window -= 1;
        }
        Admission::From(window)
    }

    /// Keeps `rows` of `batch` for the windows from `window` on.
    fn amend(&mut self, window: i64, batch: &Batch, time: &EventTime, rows: Vec<u32>) -> Result<()> {
        let time = timed(rows.iter().map(|&row| time.times[row as usize]).collect());
        let records = take_record_batch(&batch.records, &UInt32Array::from(rows))?;
        self.add(&records, &time, Some(window))
    }

    /// Accumulates rows into their panes, or into the amendments for the windows from `amends` on.
    fn add(&mut self, records: &RecordBatch, time: &EventTime, amends: Option<i64>) -> Result<()> {
        if time.times.is_empty() {
            return Ok(());
        }
        let rows = Rows::new(records, time, &mut self.keys, &self.aggregates)?;
        let (mut sorter, panes) = (std::mem::take(&mut self.sorter), self.panes);
        let bounds = (time.earliest, time.latest);
        let added = sorter.by_pane(&panes, &time.times, bounds, &rows, |pane, rows| self.add_to_pane(pane, rows, amends));
        self.sorter = sorter;
        added?;
        match self.state_bytes() {
            bytes if bytes > self.max_state_bytes => Err(self.over_bound(bytes)),
            _ => Ok(()),
        }
    }

    fn add_to_pane(&mut self, pane: i64, rows: &Rows, amends: Option<i64>) -> Result<()> {
        if self.open.len() > MAX_OPEN_PANES {
            return Err(self.over_bound(self.state_bytes()));
        }
        let new = || self.spare.pop().unwrap_or_else(|| Pane::new(&self.keys, &self.aggregates, &self.devices));
        let pane = match amends {
            None => self.open.entry(pane).or_insert_with(new),
            Some(window) => self.amendments.entry((window, pane)).or_insert_with(new),
        };
        let sequence = self.sequence;
        self.sequence += rows.len() as u64;
        pane.add(rows, sequence, &mut self.slots)
    }

    fn over_bound(&self, bytes: usize) -> Error {
        Error::state(format!(
            "a window operator holds {} open panes in {bytes} bytes, over its bound of {MAX_OPEN_PANES} panes and {} bytes; \
             check the event times (one far ahead opens panes that wait), use a coarser key or window, or raise `max_state_bytes`",
            self.open.len(),
            self.max_state_bytes
        ))
    }

    /// The next window that has rows, if it is closed.
    fn next_closed(&self) -> Option<i64> {
        let open = self.open.first_key_value().map(|(pane, _)| *pane);
        let amended = self.amendments.keys().map(|(window, pane)| (*window).max(self.panes.first_window(*pane))).min();
        let oldest = self.sliding.oldest().into_iter().chain(open).min().map(|pane| self.panes.first_window(pane));
        let window = oldest.into_iter().chain(amended).min()?.max(self.next);
        self.panes.is_closed(window, self.watermark).then_some(window)
    }

    fn fire_tumbling(&mut self, window: i64, out: &mut Output) -> Result<()> {
        if let Some(mut pane) = self.open.remove(&window) {
            pane.settle();
            let slots = Slots::Range(0..pane.keys.slots());
            self.emit(window, &pane.keys, &pane.accumulators, &slots, out)?;
            self.retire(pane);
        }
        Ok(())
    }

    fn fire_sliding(&mut self, window: i64, out: &mut Output) -> Result<()> {
        let panes = self.panes.panes_of(window);
        self.sliding.evict_before(panes.start);
        while let Some(entry) = self.open.first_entry().filter(|entry| *entry.key() < panes.end) {
            let (number, mut pane) = entry.remove_entry();
            pane.settle();
            self.sliding.push(number, &pane)?;
            self.retire(pane);
        }
        while let Some(entry) = self.amendments.first_entry().filter(|entry| entry.key().0 <= window) {
            let ((_, number), mut pane) = entry.remove_entry();
            pane.settle();
            self.sliding.amend(number, &pane)?;
            self.retire(pane);
        }
        self.sliding.combine();
        if let Some((keys, groups, live)) = self.sliding.window() {
            self.emit(window, keys, groups, &Slots::List(live), out)?;
        }
        self.sliding.evict_before(self.panes.panes_of(window + 1).start);
        Ok(())
    }

    /// Keeps the memory of a pane whose groups have been put out.
    fn retire(&mut self, mut pane: Pane) {
        if self.spare.len() < SPARE_PANES {
            pane.clear();
            self.spare.push(pane);
        }
    }

    /// Puts out the results of the groups in `slots` of one window.
    fn emit(&self, window: i64, keys: &Keys, groups: &Accumulators, slots: &Slots<'_>, out: &mut Output) -> Result<()> {
        let bounds = self.panes.bounds(window);
        for first in (0..slots.len()).step_by(RESULT_ROWS) {
            let slots = slots.part(first..slots.len().min(first + RESULT_ROWS));
            let rows = slots.len();
            let spans = Spans::same(bounds, rows, self.unit);
            let mut columns = self.keys.decode(keys, &slots)?;
            let results = self.aggregates.finish(groups, &slots, &spans)?;
            columns.extend(spans.columns());
            columns.extend(results);
            let records = RecordBatch::try_new(self.schema(), columns)?;
            // The event time of a result is the last instant of its window, as in Flink.
            let time = bounds.1.saturating_sub(1);
            let time = EventTime { times: vec![time; rows].into(), watermarks: None, earliest: time, latest: time };
            out.batches.push(Batch { time: Some(time), ..Batch::new(records, 0, 0) });
        }
        Ok(())
    }
}

/// Which windows of a row's pane may still count it.
enum Admission {
    All,
    None,
    From(i64),
}

impl Operator for Window {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<()> {
        let Some(time) = batch.time.clone() else {
            return Err(Error::config("a window needs event times; call `event_time(column)` before `window`"));
        };
        self.admit(batch, &time, out)
    }

    fn on_watermark(&mut self, watermark: i64, out: &mut Output) -> Result<()> {
        self.watermark = self.watermark.max(watermark);
        while let Some(window) = self.next_closed() {
            match self.panes.is_tumbling() {
                true => self.fire_tumbling(window, out)?,
                false => self.fire_sliding(window, out)?,
            }
            self.next = window + 1;
        }
        Ok(())
    }

    fn waits_for(&self) -> Option<i64> {
        let pane = self.open.keys().chain(self.amendments.keys().map(|(_, pane)| pane)).copied().chain(self.sliding.oldest()).min()?;
        Some(self.panes.bounds(self.panes.first_window(pane).max(self.next)).1)
    }

    fn state_bytes(&self) -> usize {
        let panes = self.open.values().chain(self.amendments.values()).chain(&self.spare);
        panes.map(Pane::bytes).sum::<usize>() + self.sliding.bytes()
    }

    fn placement(&self) -> Option<String> {
        let explain = |column| Placed::new(&self.devices, column).explain(EXPLAINED_GROUPS);
        let mut kernels: Vec<String> = self.aggregates.columns.iter().map(explain).collect();
        kernels.dedup();
        let tables = self.aggregates.tables_in_words();
        if !tables.is_empty() {
            kernels.push(format!("{} on {}", tables.join(", "), cpu_only()));
        }
        // Rows are counted where they are: to send their slots anywhere costs more.
        Some(if kernels.is_empty() { cpu_only() } else { kernels.join("; ") })
    }
}

fn output_schema(keys: &KeyColumns, aggregates: &Aggregates, unit: Unit) -> Result<SchemaRef> {
    let bound = |name: &str| Arc::new(Field::new(name, DataType::Timestamp(unit.arrow(), None), false));
    let mut fields = keys.fields().to_vec();
    fields.extend([bound("window_start"), bound("window_end")]);
    fields.extend(aggregates.fields().map(Arc::new));
    for (index, field) in fields.iter().enumerate() {
        if fields[..index].iter().any(|other| other.name() == field.name()) {
            return Err(Error::schema(format!(
                "two columns of the window's result are named `{}`; give one of them another name",
                field.name()
            )));
        }
    }
    Ok(Arc::new(Schema::new(fields)))
}
