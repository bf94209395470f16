//! Windowed aggregation by key.
//!
//! A batch is accumulated once, into the panes of its rows; when the watermark passes the end of a window its
//! panes are combined and its groups put out, in the order in which their keys first came. A key is forgotten
//! when it leaves the last open pane.

mod stacks;
mod table;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, PrimitiveArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, Schema, SchemaRef};
use arrow::datatypes::{TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType};
use thalweg_kernels::{assign_panes, offset_slots};

use crate::batch::{Batch, EventTime};
use crate::config::{Config, MAX_OPEN_PANES};
use crate::error::{Error, Result};
use crate::operator::aggregate::{Aggregate, Aggregates};
use crate::operator::event_time::timed;
use crate::operator::keys::Keys;
use crate::operator::{Operator, Output};
use crate::time::Unit;
use crate::watermark::NONE;
use crate::window::{Panes, WindowSpec};
use stacks::Stacks;
use table::{PaneTable, Row};

/// Tumbling and hopping windows, see the [module documentation](self).
pub struct Window {
    panes: Panes,
    unit: Unit,
    keys: Keys,
    aggregates: Aggregates,
    schema: SchemaRef,
    table: PaneTable,
    /// Panes that may still get rows on time, or whose windows have not come up yet.
    open: BTreeMap<i64, Row>,
    /// The complete panes of the current window; unused by tumbling windows.
    stacks: Stacks,
    /// Rows that came when some but not all windows of their pane had closed, by the first window that may
    /// still count them.
    amendments: BTreeMap<(i64, i64), Row>,
    /// No window before this one is open.
    next: i64,
    watermark: i64,
    max_state_bytes: usize,
    scratch: Scratch,
}

/// Buffers that live from batch to batch, so that nothing is allocated in steady state.
#[derive(Default)]
struct Scratch {
    slots: Vec<u32>,
    panes: Vec<u32>,
    rows: Vec<Row>,
    live: Vec<u32>,
    counts: Vec<i64>,
}

const NO_ROW: Row = Row::MAX;

/// Panes that are all opened when a batch spans no more.
const FEW_PANES: usize = 3;

impl Window {
    /// `aggregates` over the windows of `spec` for each key made of the columns `by`, on rows of `schema` whose
    /// event time counts `unit`s.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if a column is unknown, has a type that its aggregate does not
    /// take, or two results have one name; [`Kind::Config`](crate::error::Kind::Config) if the windows are impossible.
    pub fn new(
        spec: WindowSpec,
        by: &[String],
        aggregates: &[Aggregate],
        schema: &SchemaRef,
        unit: Unit,
        config: &Config,
    ) -> Result<Window> {
        let keys = Keys::new(by, schema, config.max_keys)?;
        let aggregates = Aggregates::new(aggregates, schema)?;
        let schema = output_schema(&keys, &aggregates, unit)?;
        let table = PaneTable::new(aggregates.columns.clone());
        Ok(Window {
            panes: spec.panes(unit)?,
            unit,
            keys,
            aggregates,
            schema,
            table,
            open: BTreeMap::new(),
            stacks: Stacks::default(),
            amendments: BTreeMap::new(),
            next: i64::MIN,
            watermark: NONE,
            max_state_bytes: config.max_state_bytes,
            scratch: Scratch::default(),
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

    /// Takes out the rows that are late and those that only some of their windows can still count.
    fn admit(&mut self, batch: Batch, time: &EventTime, out: &mut Output) -> Result<Option<Batch>> {
        if time.watermarks.is_none() && time.earliest > self.watermark {
            return Ok(Some(batch));
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
        for (window, rows) in amendments {
            self.amend(window, &batch, time, rows)?;
        }
        if late.contains(&true) {
            out.late.push(batch.clone().filter(&BooleanArray::from(late))?);
        }
        let mut kept = batch.filter(&BooleanArray::from(keep))?;
        // The bounds may be those of rows that are gone; panes of theirs must not be opened again.
        kept.time = kept.time.map(|time| timed(time.times));
        Ok((kept.rows() > 0).then_some(kept))
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
        let times = &*time.times;
        if times.is_empty() {
            return Ok(());
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        self.keys.assign(records, &mut scratch.slots)?;
        self.table.reserve_slots(self.keys.slots());
        let (first, last) = (self.panes.pane_of(time.earliest), self.panes.pane_of(time.latest));
        let span = last.saturating_sub(first) as u64;
        scratch.panes.clear();
        if span < 4 * times.len() as u64 + 64 {
            assign_panes(times, first * self.panes.length, self.panes.length, &mut scratch.panes);
            scratch.rows.clear();
            scratch.rows.resize(span as usize + 1, NO_ROW);
            self.rows_for(&scratch.panes, first, amends, &mut scratch.rows)?;
        } else {
            self.scattered_rows(times, amends, &mut scratch)?;
        }
        offset_slots(&mut scratch.slots, &scratch.panes, &scratch.rows, self.table.stride() as u32);
        let values = self.aggregates.columns.iter().map(|column| column.values(records)).collect::<Result<Vec<_>>>()?;
        self.table.accumulate(&scratch.slots, &values);
        self.scratch = scratch;
        Ok(())
    }

    /// Fills `rows[p]` for each local pane number in `panes`.
    fn rows_for(&mut self, panes: &[u32], first: i64, amends: Option<i64>, rows: &mut [Row]) -> Result<()> {
        if rows.len() <= FEW_PANES {
            // An empty pane more costs less than a look at every row, and puts nothing out.
            for (pane, row) in (first..).zip(rows) {
                *row = self.row_of(pane, amends)?;
            }
            return Ok(());
        }
        for &pane in panes {
            if rows[pane as usize] == NO_ROW {
                rows[pane as usize] = self.row_of(first + i64::from(pane), amends)?;
            }
        }
        Ok(())
    }

    /// The same where few rows lie far apart: panes are numbered in order of appearance.
    fn scattered_rows(&mut self, times: &[i64], amends: Option<i64>, scratch: &mut Scratch) -> Result<()> {
        let mut numbers = BTreeMap::new();
        scratch.rows.clear();
        for &time in times {
            let pane = self.panes.pane_of(time);
            let next = scratch.rows.len() as u32;
            let number = *numbers.entry(pane).or_insert(next);
            if number == next {
                scratch.rows.push(self.row_of(pane, amends)?);
            }
            scratch.panes.push(number);
        }
        Ok(())
    }

    /// The table row of `pane`, made on first use.
    fn row_of(&mut self, pane: i64, amends: Option<i64>) -> Result<Row> {
        let held = match amends {
            None => self.open.get(&pane),
            Some(window) => self.amendments.get(&(window, pane)),
        };
        if let Some(row) = held {
            return Ok(*row);
        }
        let bytes = self.table.bytes() + self.table.bytes_per_row();
        if self.open.len() >= MAX_OPEN_PANES || bytes > self.max_state_bytes {
            return Err(Error::state(format!(
                "a window operator would hold {} open panes of {} keys in {bytes} bytes, over its bound of {MAX_OPEN_PANES} panes and {} bytes; \
                 check the event times (one far ahead opens panes that wait), use a coarser key or window, or raise `max_state_bytes`",
                self.open.len() + 1,
                self.keys.slots(),
                self.max_state_bytes
            )));
        }
        let row = self.table.allocate();
        match amends {
            None => self.open.insert(pane, row),
            Some(window) => self.amendments.insert((window, pane), row),
        };
        Ok(row)
    }

    /// The next window that has rows, if it is closed.
    fn next_closed(&self) -> Option<i64> {
        let open = self.open.first_key_value().map(|(pane, _)| *pane);
        let amended = self.amendments.keys().map(|(window, pane)| (*window).max(self.panes.first_window(*pane))).min();
        let oldest = self.stacks.oldest().into_iter().chain(open).min().map(|pane| self.panes.first_window(pane));
        let window = oldest.into_iter().chain(amended).min()?.max(self.next);
        self.panes.is_closed(window, self.watermark).then_some(window)
    }

    fn fire_tumbling(&mut self, window: i64, results: &mut Vec<RecordBatch>) -> Result<()> {
        if let Some(row) = self.open.remove(&window) {
            results.push(self.emit(window, row)?);
            self.retire(row);
        }
        Ok(())
    }

    fn fire_sliding(&mut self, window: i64, results: &mut Vec<RecordBatch>) -> Result<()> {
        let slots = self.keys.slots();
        let panes = self.panes.panes_of(window);
        self.evict_before(panes.start, slots);
        while let Some(entry) = self.open.first_entry() {
            if *entry.key() >= panes.end {
                break;
            }
            let (pane, row) = entry.remove_entry();
            self.stacks.push(pane, row, &mut self.table, slots);
        }
        while let Some(entry) = self.amendments.first_entry() {
            if entry.key().0 > window {
                break;
            }
            let ((_, pane), row) = entry.remove_entry();
            if let Some(row) = self.stacks.amend(pane, row, &mut self.table, slots) {
                self.table.release(row, slots);
            }
        }
        let totals: Vec<Row> = self.stacks.totals().collect();
        match totals.as_slice() {
            [] => {}
            [one] => results.push(self.emit(window, *one)?),
            several => {
                let total = self.table.allocate();
                several.iter().for_each(|row| self.table.combine(total, *row, slots));
                let result = self.emit(window, total);
                self.table.release(total, slots);
                results.push(result?);
            }
        }
        self.evict_before(self.panes.panes_of(window + 1).start, slots);
        Ok(())
    }

    fn evict_before(&mut self, pane: i64, slots: usize) {
        while self.stacks.oldest().is_some_and(|oldest| oldest < pane) {
            if let Some((_, row)) = self.stacks.pop(&mut self.table, slots) {
                let mut scratch = std::mem::take(&mut self.scratch);
                self.table.live(row, slots, &mut scratch.live, &mut scratch.counts);
                self.scratch = scratch;
                self.retire(row);
            }
        }
    }

    /// The results of one window whose accumulators are in `row`; leaves its groups in `scratch.live`.
    fn emit(&mut self, window: i64, row: Row) -> Result<RecordBatch> {
        let slots = self.keys.slots();
        self.table.live(row, slots, &mut self.scratch.live, &mut self.scratch.counts);
        let live = &self.scratch.live;
        let (start, end) = self.panes.bounds(window);
        let mut columns = self.keys.columns(live)?;
        columns.push(timestamps(start, live.len(), self.unit));
        columns.push(timestamps(end, live.len(), self.unit));
        columns.extend(self.aggregates.finish(live, &self.table.cells(row, slots), &self.scratch.counts)?);
        Ok(RecordBatch::try_new(self.schema(), columns)?)
    }

    /// Gives `row` back and forgets the keys of `scratch.live` that no other pane holds.
    fn retire(&mut self, row: Row) {
        let slots = self.keys.slots();
        let held: Vec<Row> = self.open.values().rev().chain(self.amendments.values()).copied().chain(self.stacks.totals()).collect();
        let gone = |slot: &u32| !held.iter().any(|&other| self.table.count(other, *slot) > 0);
        self.scratch.live.retain(gone);
        self.keys.remove_all(&self.scratch.live);
        self.table.release(row, slots);
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
        let Some(batch) = self.admit(batch, &time, out)? else { return Ok(()) };
        let time = batch.time.as_ref().unwrap_or(&time);
        self.add(&batch.records, time, None)
    }

    fn on_watermark(&mut self, watermark: i64, out: &mut Output) -> Result<()> {
        self.watermark = self.watermark.max(watermark);
        let mut results = Vec::new();
        while let Some(window) = self.next_closed() {
            match self.panes.is_tumbling() {
                true => self.fire_tumbling(window, &mut results)?,
                false => self.fire_sliding(window, &mut results)?,
            }
            self.next = window + 1;
        }
        for records in results.into_iter().filter(|records| records.num_rows() > 0) {
            out.batches.push(self.result(records));
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.table.bytes() + self.keys.bytes()
    }
}

impl Window {
    /// A batch of results; the event time of each is the last instant of its window, as in Flink.
    fn result(&self, records: RecordBatch) -> Batch {
        let ends = records.column(self.keys.fields().len() + 1).to_data();
        let ends = arrow::buffer::ScalarBuffer::<i64>::from(ends.buffers()[0].clone());
        let times = ends.iter().map(|end| end.saturating_sub(1)).collect();
        Batch { time: Some(timed(times)), ..Batch::new(records, 0, 0) }
    }
}

fn output_schema(keys: &Keys, aggregates: &Aggregates, unit: Unit) -> Result<SchemaRef> {
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

fn timestamps(value: i64, rows: usize, unit: Unit) -> ArrayRef {
    fn repeat<T: ArrowPrimitiveType<Native = i64>>(value: i64, rows: usize) -> ArrayRef {
        Arc::new(PrimitiveArray::<T>::from_value(value, rows))
    }
    match unit {
        Unit::Millisecond => repeat::<TimestampMillisecondType>(value, rows),
        Unit::Microsecond => repeat::<TimestampMicrosecondType>(value, rows),
        Unit::Nanosecond => repeat::<TimestampNanosecondType>(value, rows),
    }
}
