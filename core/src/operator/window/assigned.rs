//! Windows that a function assigns rows to. Each has a pane of its own, and fires when the watermark passes its end. If they are revised, they
//! stay for the allowed lateness after that and put out the groups that change, as [those of time](super::RevisedWindow) do.

use std::collections::BTreeMap;

use arrow::array::{BooleanArray, UInt32Array};
use arrow::datatypes::SchemaRef;

use super::over_bound;
use super::pane::{Pane, Rows};
use super::results::Results;
use super::saved::{LoadedGroups, PANES, SavedGroups};
use super::waiting::Room;
use crate::batch::{Batch, EventTime};
use crate::config::{Config, MAX_OPEN_PANES};
use crate::error::{Error, Result};
use crate::operator::aggregate::Aggregate;
use crate::operator::devices::Devices;
use crate::operator::keys::Slots;
use crate::operator::{Late, Operator, Output};
use crate::state::Saved;
use crate::time::Unit;
use crate::watermark::{self, NONE};
use crate::window::{AssignedSpec, Revisions, Row};

/// Columns of the table of panes in a snapshot: the bounds of each window, and whether a group has changed since it was put out early.
const START: &str = "start";
const END: &str = "end";
const STALE: &str = "stale";

/// End and start of a window, so that those that end first come first.
type Bounds = (i64, i64);

/// Windows that a function assigns rows to, see the [module documentation](self).
pub struct AssignedWindow {
    spec: AssignedSpec,
    results: Results,
    open: BTreeMap<Bounds, Open>,
    /// How long windows stay after their end.
    lateness: i64,
    /// Event time from one early result to the next.
    early: Option<i64>,
    updates: bool,
    watermark: i64,
    max_state_bytes: usize,
    devices: Devices,
    room: Room,
    /// Rows that came so far: their numbers in order of arrival.
    sequence: u64,
}

/// A window that still counts rows.
struct Open {
    pane: Pane,
    /// By slot, whether a group has changed since it was put out early.
    stale: Vec<bool>,
}

/// The rows of a batch by window, the late ones and the window that each of these has missed.
#[derive(Default)]
struct Assigned {
    rows: BTreeMap<Bounds, Vec<u32>>,
    late: Vec<bool>,
    missed: Vec<(i64, i64)>,
}

impl AssignedWindow {
    /// `aggregates` over the windows of `spec` for each key made of the columns `by`, on rows of `schema` whose event time counts `unit`s, put
    /// out as `revisions` says.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if a column is unknown, has a type that its aggregate does not
    /// take, or two results have one name; [`Kind::Config`](crate::error::Kind::Config) if a length of the revisions is impossible.
    pub fn new(
        (spec, revisions): (&AssignedSpec, &Revisions),
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
            lateness: unit.count(revisions.lateness)?,
            early: revisions.early(unit)?,
            updates: revisions.updates,
            watermark: NONE,
            max_state_bytes: config.max_state_bytes,
            devices: devices.clone(),
            room: Room::default(),
            sequence: 0,
        })
    }

    /// Columns of the results: the keys, `window_start`, `window_end`, the aggregates.
    pub fn schema(&self) -> SchemaRef {
        self.results.schema()
    }

    /// Sorts the rows of a batch by window: one counts rows until the watermark before them is the allowed lateness past its end.
    fn assign(&self, batch: &Batch, time: &EventTime) -> Result<Assigned> {
        let mut assigned = Assigned { late: vec![false; batch.rows()], ..Assigned::default() };
        let mut windows = Vec::new();
        for (index, &event_time) in time.times.iter().enumerate() {
            self.spec.assign(Row { records: &batch.records, index, time: event_time }, &mut windows)?;
            let Some(&last) = windows.iter().max_by_key(|(_, end)| *end) else { continue };
            let mark = time.watermarks.as_ref().map_or(NONE, |marks| marks[index]).max(self.watermark);
            let gone = mark.saturating_sub(self.lateness);
            if last.1.saturating_sub(1) <= gone {
                assigned.late[index] = true;
                assigned.missed.push(last);
                continue;
            }
            windows.sort_unstable();
            windows.dedup();
            for &(start, end) in windows.iter().filter(|(_, end)| end.saturating_sub(1) > gone) {
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
            let sequence = self.sequence;
            self.sequence += own.len() as u64;
            self.add(bounds, own, sequence, out)?;
        }
        match self.state_bytes() {
            bytes if bytes > self.max_state_bytes || self.open.len() > MAX_OPEN_PANES => {
                Err(over_bound(self.open.len(), bytes, self.max_state_bytes))
            }
            _ => Ok(()),
        }
    }

    /// Takes rows into a window; puts out the groups that they change if it has ended, or with every update.
    fn add(&mut self, bounds: Bounds, rows: &Rows, sequence: u64, out: &mut Output) -> Result<()> {
        let open = self.open.entry(bounds).or_insert_with(|| Open::new(&self.results, &self.devices));
        open.pane.add(rows, sequence, &mut self.room)?;
        if self.updates || bounds.0.saturating_sub(1) <= self.watermark {
            let mut slots = std::mem::take(&mut self.room.slots);
            slots.sort_unstable();
            slots.dedup();
            open.put_out(bounds, &Slots::List(&slots), (&mut self.results, &mut self.room), out)?;
            self.room.slots = slots;
            return Ok(());
        }
        if self.early.is_some() {
            open.stale.resize(open.pane.keys.slots(), false);
            self.room.slots.iter().for_each(|&slot| open.stale[slot as usize] = true);
        }
        Ok(())
    }

    /// Puts out the windows that have ended since the watermark was `before`.
    fn put_out_ended(&mut self, before: i64, out: &mut Output) -> Result<()> {
        let watermark = self.watermark;
        // None ends at the watermark that there is before any row.
        let ended = |end: i64| (before == NONE || end.saturating_sub(1) > before) && end.saturating_sub(1) <= watermark;
        for (&bounds, open) in self.open.iter_mut().filter(|((end, _), _)| ended(*end)) {
            open.stale.clear();
            // What was put out with every change is as it is.
            if !self.updates {
                let slots = Slots::Range(0..open.pane.keys.slots());
                open.put_out(bounds, &slots, (&mut self.results, &mut self.room), out)?;
            }
        }
        Ok(())
    }

    /// Puts out the groups that have changed since the last time, if the watermark has passed another.
    fn put_out_early(&mut self, before: i64, out: &mut Output) -> Result<()> {
        let Some(every) = self.early.filter(|_| !self.updates && self.watermark < watermark::END) else { return Ok(()) };
        if before == NONE || before.div_euclid(every) == self.watermark.div_euclid(every) {
            return Ok(());
        }
        for (&bounds, open) in &mut self.open {
            let stale = std::mem::take(&mut open.stale);
            let slots: Vec<u32> = (0u32..).zip(stale).filter(|(_, stale)| *stale).map(|(slot, _)| slot).collect();
            if !slots.is_empty() {
                open.put_out(bounds, &Slots::List(&slots), (&mut self.results, &mut self.room), out)?;
            }
        }
        Ok(())
    }
}

impl Open {
    fn new(results: &Results, devices: &Devices) -> Open {
        Open { pane: Pane::new(results, devices), stale: Vec::new() }
    }

    /// Puts out some groups of the window.
    fn put_out(
        &mut self,
        (end, start): Bounds,
        slots: &Slots<'_>,
        (results, room): (&mut Results, &mut Room),
        out: &mut Output,
    ) -> Result<()> {
        self.pane.settle(room)?;
        results.put_out((start, end), &self.pane.keys, &self.pane.accumulators, slots, out)
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
        let before = self.watermark;
        self.watermark = self.watermark.max(watermark);
        self.put_out_ended(before, out)?;
        self.put_out_early(before, out)?;
        let gone = self.watermark.saturating_sub(if self.watermark == watermark::END { 0 } else { self.lateness });
        while let Some(entry) = self.open.first_entry().filter(|entry| entry.key().0.saturating_sub(1) <= gone) {
            entry.remove();
        }
        Ok(())
    }

    fn waits_for(&self) -> Option<i64> {
        self.open.keys().map(|(end, _)| *end).find(|end| end.saturating_sub(1) > self.watermark)
    }

    fn snapshot(&mut self) -> Result<Saved> {
        let mut saved = Saved::default();
        saved.mark("watermark", self.watermark);
        saved.mark("sequence", self.sequence as i64);
        let mut groups = SavedGroups::new(&[END, START, STALE]);
        for (&(end, start), Open { pane, stale }) in &mut self.open {
            pane.settle(&mut self.room)?;
            let slots = Slots::Range(0..pane.keys.slots());
            let place = |name: &str, row: usize| match name {
                END => end,
                START => start,
                _ => i64::from(stale.get(row).copied().unwrap_or(false)),
            };
            groups.add(place, &mut self.results, (&pane.keys, &slots), (&pane.accumulators, &slots))?;
        }
        groups.put(PANES, &mut saved)?;
        Ok(saved)
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        self.watermark = saved.marked("watermark")?;
        self.sequence = saved.marked("sequence")? as u64;
        let Some(loaded) = LoadedGroups::get(saved, PANES, &mut self.results)? else { return Ok(()) };
        let stale = loaded.numbers(STALE)?;
        for ([end, start], rows) in loaded.panes([END, START])? {
            let open = self.open.entry((end, start)).or_insert_with(|| Open::new(&self.results, &self.devices));
            let slots = open.pane.take_up(&loaded, &rows)?;
            if rows.iter().any(|&row| stale[row as usize] != 0) {
                open.stale.resize(open.pane.keys.slots(), false);
                slots.iter().zip(&rows).for_each(|(&slot, &row)| open.stale[slot as usize] |= stale[row as usize] != 0);
            }
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.open.values().map(|open| open.pane.bytes() + open.stale.capacity()).sum()
    }

    fn placement(&self) -> Option<String> {
        Some(self.results.placement(&self.devices))
    }
}
