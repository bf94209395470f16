//! Windows that put out results more than once: before they end, for rows that come after they have ended, or whenever they change.
//!
//! A window fires when the watermark passes its end, as any; it stays until the watermark is the allowed lateness past that.
//! Whatever comes for it meanwhile is counted, and the groups that it changed are put out again: the last result of a key and
//! window is the one to keep. Before its end a window puts out the groups that have changed, every so often or with every batch.
//!
//! Panes are kept until their last window is gone, and combined for each result: with many panes to a window that costs more
//! than results that come once.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::admission::{Admitted, admit};
use super::pane::{Pane, Rows, Sorter};
use super::results::Results;
use super::saved::{FROM, LoadedGroups, PANE, PANES, Progress, SavedGroups};
use super::sliding::Sliding;
use super::waiting::Room;
use crate::batch::{Batch, EventTime};
use crate::config::{Config, MAX_OPEN_PANES};
use crate::error::{Error, Result};
use crate::operator::aggregate::Aggregate;
use crate::operator::devices::Devices;
use crate::operator::keys::{KeyColumn, Slots};
use crate::operator::{Operator, Output};
use crate::state::Saved;
use crate::time::Unit;
use crate::watermark::{END, NONE};
use crate::window::{Panes, Revisions, WindowSpec};

/// In the table of panes of a snapshot, whether a group has changed since it was put out early.
const STALE: &str = "stale";

/// Windows that are revised, see the [module documentation](self).
pub struct RevisedWindow {
    panes: Panes,
    results: Results,
    lateness: i64,
    /// Event time from one early result to the next.
    early: Option<i64>,
    updates: bool,
    /// By the first window that counts their rows, and pane.
    held: BTreeMap<(i64, i64), Pane>,
    /// Keys of rows that came since groups were put out last, by window: those of the batch at hand.
    changed: BTreeMap<i64, Vec<KeyColumn>>,
    /// By pane, as in `held`, and slot: whether a group has changed since it was put out early.
    stale: BTreeMap<(i64, i64), Vec<bool>>,
    /// No window before this one has yet to end.
    next: i64,
    watermark: i64,
    max_state_bytes: usize,
    devices: Devices,
    sorter: Sorter,
    room: Room,
    /// Rows that came so far: their numbers in order of arrival.
    sequence: u64,
}

impl RevisedWindow {
    /// `aggregates` over the windows of `spec` for each key made of the columns `by`, on rows of `schema` whose
    /// event time counts `unit`s, put out as `revisions` says.
    ///
    /// # Errors
    /// As [`Window::new`](super::Window::new), and [`Kind::Config`](crate::error::Kind::Config) if a length of the revisions is
    /// impossible.
    pub fn new(
        (spec, revisions): (&WindowSpec, &Revisions),
        by: &[String],
        aggregates: &[Aggregate],
        schema: &SchemaRef,
        unit: Unit,
        config: &Config,
        devices: &Devices,
    ) -> Result<RevisedWindow> {
        Ok(RevisedWindow {
            panes: spec.panes(unit)?,
            results: Results::new(by, aggregates, schema, unit, config)?,
            lateness: unit.count(revisions.lateness)?,
            early: revisions.early(unit)?,
            updates: revisions.updates,
            held: BTreeMap::new(),
            changed: BTreeMap::new(),
            stale: BTreeMap::new(),
            next: i64::MIN,
            watermark: NONE,
            max_state_bytes: config.max_state_bytes,
            devices: devices.clone(),
            sorter: Sorter::default(),
            room: Room::default(),
            sequence: 0,
        })
    }

    /// Columns of the results: the keys, `window_start`, `window_end`, the aggregates.
    pub fn schema(&self) -> SchemaRef {
        self.results.schema()
    }

    /// Length of a pane in units of event time.
    pub fn pane_length(&self) -> i64 {
        self.panes.length
    }

    /// Takes rows into their panes, which the windows from `from` on count, or all of theirs.
    fn add(&mut self, records: &RecordBatch, time: &EventTime, from: Option<i64>) -> Result<()> {
        if time.times.is_empty() {
            return Ok(());
        }
        let rows = Rows::new(records, time, &mut self.results)?;
        let (mut sorter, panes) = (std::mem::take(&mut self.sorter), self.panes);
        let bounds = (time.earliest, time.latest);
        let added = sorter.by_pane(&panes, &time.times, bounds, &rows, |pane, rows| self.add_to_pane(pane, rows, from));
        self.sorter = sorter;
        added?;
        match self.state_bytes() {
            bytes if bytes > self.max_state_bytes => Err(self.over_bound(bytes)),
            _ => Ok(()),
        }
    }

    fn add_to_pane(&mut self, pane: i64, rows: &Rows, from: Option<i64>) -> Result<()> {
        if self.held.len() > MAX_OPEN_PANES {
            return Err(self.over_bound(self.state_bytes()));
        }
        let from = from.unwrap_or_else(|| self.panes.first_window(pane));
        for window in from..=self.panes.last_window(pane) {
            if self.updates || window < self.next {
                self.changed.entry(window).or_default().push(rows.keys.clone());
            }
        }
        let new = || Pane::new(&self.results, &self.devices);
        let sequence = self.sequence;
        self.sequence += rows.len() as u64;
        let held = self.held.entry((from, pane)).or_insert_with(new);
        held.add(rows, sequence, &mut self.room)?;
        if self.early.is_some() && !self.updates {
            let stale = self.stale.entry((from, pane)).or_default();
            stale.resize(held.keys.slots(), false);
            self.room.slots.iter().for_each(|&slot| stale[slot as usize] = true);
        }
        Ok(())
    }

    fn over_bound(&self, bytes: usize) -> Error {
        Error::state(format!(
            "a window operator holds {} panes in {bytes} bytes, over its bound of {MAX_OPEN_PANES} panes and {} bytes; allow less lateness, \
             check the event times (one far ahead opens panes that wait), use a coarser key or window, or raise `max_state_bytes`",
            self.held.len(),
            self.max_state_bytes
        ))
    }

    /// The next window that has rows, if it has ended.
    fn next_ended(&self) -> Option<i64> {
        let windows = self.held.keys().map(|(from, pane)| (*from).max(self.panes.first_window(*pane)).max(self.next));
        let counted = windows.zip(self.held.keys()).filter(|(window, (_, pane))| *window <= self.panes.last_window(*pane));
        counted.map(|(window, _)| window).min().filter(|&window| self.panes.is_closed(window, self.watermark))
    }

    /// Puts out a window: all of its groups, or those of `keys`.
    fn put_out(&mut self, window: i64, keys: Option<&[KeyColumn]>, out: &mut Output) -> Result<()> {
        let (bounds, range) = (self.panes.bounds(window), self.panes.panes_of(window));
        let counted = |(from, pane): &(i64, i64)| *from <= window && range.contains(pane);
        let mut panes: Vec<(i64, &mut Pane)> =
            self.held.iter_mut().filter(|(key, _)| counted(key)).map(|((_, pane), held)| (*pane, held)).collect();
        panes.sort_by_key(|(number, _)| *number);
        panes.iter_mut().try_for_each(|(_, pane)| pane.settle(&mut self.room))?;
        if let [(_, pane)] = panes.as_mut_slice() {
            let slots = match keys {
                None => return self.results.put_out(bounds, &pane.keys, &pane.accumulators, &Slots::Range(0..pane.keys.slots()), out),
                Some(keys) => distinct_slots(keys, |column, slots| pane.keys.assign(column, slots))?,
            };
            return self.results.put_out(bounds, &pane.keys, &pane.accumulators, &Slots::List(&slots), out);
        }
        let mut sliding = Sliding::new(Pane::new(&self.results, &self.devices));
        let mut last = None;
        for (number, pane) in panes {
            match last == Some(number) {
                true => sliding.amend(number, pane)?,
                false => sliding.push(number, pane)?,
            }
            last = Some(number);
        }
        sliding.combine();
        let slots = match keys {
            None => sliding.window().map(|(.., live)| live.to_vec()).unwrap_or_default(),
            Some(keys) => distinct_slots(keys, |column, slots| sliding.slots_of(column, slots))?,
        };
        match sliding.window() {
            Some((keys, groups, _)) => self.results.put_out(bounds, keys, groups, &Slots::List(&slots), out),
            None => Ok(()),
        }
    }

    /// Puts out the groups that the batch at hand has changed.
    fn put_out_changes(&mut self, out: &mut Output) -> Result<()> {
        for (window, keys) in std::mem::take(&mut self.changed) {
            self.put_out(window, Some(&keys), out)?;
        }
        Ok(())
    }

    /// Puts out the groups that have changed since the last time, if the watermark has passed another.
    fn put_out_early(&mut self, before: i64, out: &mut Output) -> Result<()> {
        let Some(every) = self.early.filter(|_| self.watermark < END) else { return Ok(()) };
        if before == NONE || before.div_euclid(every) == self.watermark.div_euclid(every) {
            return Ok(());
        }
        let mut changed: BTreeMap<i64, Vec<KeyColumn>> = BTreeMap::new();
        for ((from, number), stale) in std::mem::take(&mut self.stale) {
            let Some(pane) = self.held.get(&(from, number)) else { continue };
            let slots: Vec<u32> = (0u32..).zip(stale).filter(|(_, stale)| *stale).map(|(slot, _)| slot).collect();
            let keys = self.results.keys.of(&pane.keys, &Slots::List(&slots))?;
            let windows = from.max(self.next)..=self.panes.last_window(number);
            windows.for_each(|window| changed.entry(window).or_default().push(keys.clone()));
        }
        changed.into_iter().try_for_each(|(window, keys)| self.put_out(window, Some(&keys), out))
    }

    /// Forgets the panes that no window can need any more.
    fn expire(&mut self) {
        let gone = self.watermark.saturating_sub(if self.watermark == END { 0 } else { self.lateness });
        self.held.retain(|(_, pane), _| !self.panes.is_closed(self.panes.last_window(*pane), gone));
        self.stale.retain(|place, _| self.held.contains_key(place));
    }

    fn save(&mut self, saved: &mut Saved) -> Result<()> {
        let mut groups = SavedGroups::new(&[FROM, PANE, STALE]);
        for ((from, number), pane) in &mut self.held {
            pane.settle(&mut self.room)?;
            let (slots, stale) = (Slots::Range(0..pane.keys.slots()), self.stale.get(&(*from, *number)));
            let place = |name: &str, row: usize| match name {
                FROM => *from,
                PANE => *number,
                _ => i64::from(stale.is_some_and(|stale| stale[row])),
            };
            groups.add(place, &mut self.results, (&pane.keys, &slots), (&pane.accumulators, &slots))?;
        }
        groups.put(PANES, saved)
    }

    fn load(&mut self, saved: &Saved) -> Result<()> {
        let Some(loaded) = LoadedGroups::get(saved, PANES, &mut self.results)? else { return Ok(()) };
        let stale = loaded.numbers(STALE)?;
        for ([from, number], rows) in loaded.panes([FROM, PANE])? {
            let pane = self.held.entry((from, number)).or_insert_with(|| Pane::new(&self.results, &self.devices));
            let slots = pane.take_up(&loaded, &rows)?;
            if rows.iter().any(|&row| stale[row as usize] != 0) {
                let flags = self.stale.entry((from, number)).or_default();
                flags.resize(pane.keys.slots(), false);
                slots.iter().zip(&rows).for_each(|(&slot, &row)| flags[slot as usize] |= stale[row as usize] != 0);
            }
        }
        Ok(())
    }
}

/// The slots of all keys in some columns, each once, ascending.
fn distinct_slots(columns: &[KeyColumn], mut assign: impl FnMut(&KeyColumn, &mut Vec<u32>) -> Result<()>) -> Result<Vec<u32>> {
    let (mut all, mut slots) = (Vec::new(), Vec::new());
    for column in columns {
        assign(column, &mut slots)?;
        all.append(&mut slots);
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

impl Operator for RevisedWindow {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<()> {
        let Some(time) = &batch.time else {
            return Err(Error::config("a window needs event times; call `event_time(column)` before `window`"));
        };
        let Admitted { whole, parts, late } = admit(&batch, time, &self.panes, (self.watermark, self.lateness), &mut self.results.keys)?;
        out.late.extend(late);
        if let Some((records, time)) = whole {
            self.add(&records, &time, None)?;
        }
        for (window, (records, time)) in parts {
            self.add(&records, &time, Some(window))?;
        }
        self.put_out_changes(out)
    }

    fn on_watermark(&mut self, watermark: i64, out: &mut Output) -> Result<()> {
        let before = self.watermark;
        self.watermark = self.watermark.max(watermark);
        while let Some(window) = self.next_ended() {
            // What was put out with every change is as it is.
            if !self.updates {
                self.put_out(window, None, out)?;
            }
            self.next = window + 1;
        }
        if self.watermark < END {
            // Those without rows have ended, too: what comes for one of them is put out at once, whatever keys it has.
            self.next = self.next.max(self.panes.first_window(self.panes.pane_of(self.watermark.saturating_add(1))));
        }
        self.put_out_early(before, out)?;
        self.expire();
        Ok(())
    }

    fn waits_for(&self) -> Option<i64> {
        let windows = self.held.keys().map(|(from, pane)| ((*from).max(self.next), *pane));
        let waiting = windows.filter(|(window, pane)| *window <= self.panes.last_window(*pane));
        waiting.map(|(window, _)| self.panes.bounds(window).1).min()
    }

    fn snapshot(&mut self) -> Result<Saved> {
        let mut saved = Progress { watermark: self.watermark, next: self.next, sequence: self.sequence }.save();
        self.save(&mut saved)?;
        Ok(saved)
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        Progress { watermark: self.watermark, next: self.next, sequence: self.sequence } = Progress::load(saved)?;
        self.load(saved)
    }

    fn state_bytes(&self) -> usize {
        self.held.values().map(Pane::bytes).sum::<usize>() + self.stale.values().map(Vec::capacity).sum::<usize>()
    }

    fn placement(&self) -> Option<String> {
        Some(self.results.placement(&self.devices))
    }
}
