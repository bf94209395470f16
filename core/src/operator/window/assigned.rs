//! Windows that a function assigns rows to. Each has a pane of its own, and fires when the watermark passes its end.

use std::collections::BTreeMap;

use arrow::array::{BooleanArray, UInt32Array};
use arrow::datatypes::SchemaRef;

use super::over_bound;
use super::pane::{Pane, Rows};
use super::results::Results;
use super::saved::{LoadedGroups, PANES, SavedGroups};
use crate::batch::{Batch, EventTime};
use crate::config::{Config, MAX_OPEN_PANES};
use crate::error::{Error, Result};
use crate::operator::aggregate::Aggregate;
use crate::operator::devices::Devices;
use crate::operator::keys::Slots;
use crate::operator::{Late, Operator, Output};
use crate::state::Saved;
use crate::time::Unit;
use crate::watermark::NONE;
use crate::window::{AssignedSpec, Row};

/// Columns of the table of panes in a snapshot: the bounds of each window.
const START: &str = "start";
const END: &str = "end";

/// End and start of a window, so that those that end first come first.
type Bounds = (i64, i64);

/// Windows that a function assigns rows to, see the [module documentation](self).
pub struct AssignedWindow {
    spec: AssignedSpec,
    results: Results,
    open: BTreeMap<Bounds, Pane>,
    watermark: i64,
    max_state_bytes: usize,
    devices: Devices,
    slots: Vec<u32>,
    /// Rows that came so far: their numbers in order of arrival.
    sequence: u64,
}

/// The rows of a batch by window, the late ones and the window that each of these has missed.
#[derive(Default)]
struct Assigned {
    rows: BTreeMap<Bounds, Vec<u32>>,
    late: Vec<bool>,
    missed: Vec<(i64, i64)>,
}

impl AssignedWindow {
    /// `aggregates` over the windows of `spec` for each key made of the columns `by`, on rows of `schema` whose event time counts `unit`s.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if a column is unknown, has a type that its aggregate does not
    /// take, or two results have one name.
    pub fn new(
        spec: &AssignedSpec,
        by: &[String],
        aggregates: &[Aggregate],
        schema: &SchemaRef,
        unit: Unit,
        config: &Config,
        devices: &Devices,
    ) -> Result<AssignedWindow> {
        Ok(AssignedWindow {
            spec: spec.clone(),
            results: Results::new(by, aggregates, schema, unit, config)?,
            open: BTreeMap::new(),
            watermark: NONE,
            max_state_bytes: config.max_state_bytes,
            devices: devices.clone(),
            slots: Vec::new(),
            sequence: 0,
        })
    }

    /// Columns of the results: the keys, `window_start`, `window_end`, the aggregates.
    pub fn schema(&self) -> SchemaRef {
        self.results.schema()
    }

    /// Sorts the rows of a batch by window: one counts rows until the watermark before them has passed its end.
    fn assign(&self, batch: &Batch, time: &EventTime) -> Result<Assigned> {
        let mut assigned = Assigned { late: vec![false; batch.rows()], ..Assigned::default() };
        let mut windows = Vec::new();
        for (index, &event_time) in time.times.iter().enumerate() {
            self.spec.assign(Row { records: &batch.records, index, time: event_time }, &mut windows)?;
            let Some(&last) = windows.iter().max_by_key(|(_, end)| *end) else { continue };
            let mark = time.watermarks.as_ref().map_or(NONE, |marks| marks[index]).max(self.watermark);
            if last.1.saturating_sub(1) <= mark {
                assigned.late[index] = true;
                assigned.missed.push(last);
                continue;
            }
            windows.sort_unstable();
            windows.dedup();
            for &(start, end) in windows.iter().filter(|(_, end)| end.saturating_sub(1) > mark) {
                assigned.rows.entry((end, start)).or_default().push(index as u32);
            }
        }
        Ok(assigned)
    }

    fn take(&mut self, batch: &Batch, time: &EventTime, out: &mut Output) -> Result<()> {
        let Assigned { rows: by_window, late, missed } = self.assign(batch, time)?;
        if !missed.is_empty() {
            let late = Late::of(batch, &BooleanArray::from(late), self.watermark, &mut self.results.keys)?;
            let mut missed = missed.into_iter();
            out.late.push(late.missed(|_| missed.next().unwrap_or_default()));
        }
        let rows = Rows::new(&batch.records, time, &mut self.results)?;
        for (bounds, selected) in by_window {
            let own = if selected.len() < rows.len() { Some(rows.take(&UInt32Array::from(selected))?) } else { None };
            let own = own.as_ref().unwrap_or(&rows);
            let pane = self.open.entry(bounds).or_insert_with(|| Pane::new(&self.results, &self.devices));
            pane.add(own, self.sequence, &mut self.slots)?;
            self.sequence += own.len() as u64;
        }
        match self.state_bytes() {
            bytes if bytes > self.max_state_bytes || self.open.len() > MAX_OPEN_PANES => {
                Err(over_bound(self.open.len(), bytes, self.max_state_bytes))
            }
            _ => Ok(()),
        }
    }
}

impl Operator for AssignedWindow {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<()> {
        match &batch.time {
            Some(time) => self.take(&batch, time, out),
            None => Err(Error::config("a window needs event times; call `event_time(column)` before `window`")),
        }
    }

    fn on_watermark(&mut self, watermark: i64, out: &mut Output) -> Result<()> {
        self.watermark = self.watermark.max(watermark);
        while let Some(entry) = self.open.first_entry().filter(|entry| entry.key().0.saturating_sub(1) <= self.watermark) {
            let ((end, start), mut pane) = entry.remove_entry();
            pane.settle();
            let slots = Slots::Range(0..pane.keys.slots());
            self.results.put_out((start, end), &pane.keys, &pane.accumulators, &slots, out)?;
        }
        Ok(())
    }

    fn waits_for(&self) -> Option<i64> {
        self.open.first_key_value().map(|((end, _), _)| *end)
    }

    fn snapshot(&mut self) -> Result<Saved> {
        let mut saved = Saved::default();
        saved.mark("watermark", self.watermark);
        saved.mark("sequence", self.sequence as i64);
        let mut groups = SavedGroups::new(&[END, START]);
        for (&(end, start), pane) in &mut self.open {
            pane.settle();
            let slots = Slots::Range(0..pane.keys.slots());
            let place = |name: &str, _| if name == END { end } else { start };
            groups.add(place, &mut self.results, (&pane.keys, &slots), (&pane.accumulators, &slots))?;
        }
        groups.put(PANES, &mut saved)?;
        Ok(saved)
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        self.watermark = saved.marked("watermark")?;
        self.sequence = saved.marked("sequence")? as u64;
        let Some(loaded) = LoadedGroups::get(saved, PANES, &mut self.results)? else { return Ok(()) };
        for ([end, start], rows) in loaded.panes([END, START])? {
            let pane = self.open.entry((end, start)).or_insert_with(|| Pane::new(&self.results, &self.devices));
            pane.take_up(&loaded, &rows)?;
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.open.values().map(Pane::bytes).sum()
    }

    fn placement(&self) -> Option<String> {
        Some(self.results.placement(&self.devices))
    }
}
