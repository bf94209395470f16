//! Windows of many panes and plain aggregates: counts, sums and extremes.
//!
//! Windows may be of thousands of panes with a few rows each. So keys have their slots once per batch and not once per pane, panes are
//! lists of the groups that they hold ([`Sparse`]), and the results of windows that fire together come in one batch.

use std::collections::BTreeMap;
use std::ops::Range;

use arrow::array::{ArrayRef, RecordBatch};

use super::admission::{Admitted, admit};
use super::open::OpenPanes;
use super::pane::{Pane, Rows, Sorter};
use super::partial::PartialPane;
use super::results::Results;
use super::saved::{FROM, LoadedGroups, PANE, PANES, Progress, SavedGroups, WHOLE};
use super::shared::Share;
use super::sparse::{Groups, Places, Sparse, Together};
use super::{first_window, over_bound};
use crate::batch::{Batch, EventTime};
use crate::config::MAX_OPEN_PANES;
use crate::error::{Error, Result};
use crate::operator::aggregate::{Accumulators, Finished, Placed, Spans, Values};
use crate::operator::compact::{keep, moves};
use crate::operator::devices::Devices;
use crate::operator::keys::{Keys, Slots};
use crate::operator::{Operator, Output};
use crate::state::Saved;
use crate::watermark::NONE;
use crate::window::Panes;

/// See the [module documentation](self).
pub(super) struct HoppingWindow {
    panes: Panes,
    results: Results,
    /// The keys of all panes.
    keys: Keys,
    /// By slot, how many panes hold the group.
    uses: Vec<u32>,
    /// Slots that no pane held at some time since results were last put out.
    unused: Vec<u32>,
    /// Panes that may still get rows on time, or whose windows have not come up yet.
    open: OpenPanes<Box<Groups>>,
    /// Rows that came when some but not all windows of their pane had closed, by the first window that may still count them.
    amendments: BTreeMap<(i64, i64), Box<Groups>>,
    sparse: Sparse,
    pending: Pending,
    /// How panes are taken up that other windows share.
    share: Option<Share>,
    /// Emptied panes, for those to come: nothing is allocated in steady state.
    spare: Spare,
    /// Bytes of the panes that are open or amended, as they were last counted.
    pane_bytes: usize,
    together: Together,
    /// No window before this one is open.
    next: i64,
    watermark: i64,
    max_state_bytes: usize,
    devices: Devices,
    sorter: Sorter,
    places: Places,
    slots: Vec<u32>,
    /// Rows that came so far: their numbers in order of arrival.
    sequence: u64,
}

/// Results of windows that have fired, to be put out together.
struct Pending {
    slots: Vec<u32>,
    groups: PendingGroups,
    starts: Vec<i64>,
    ends: Vec<i64>,
    /// Event times.
    times: Vec<i64>,
}

/// What results are made of.
enum PendingGroups {
    /// The results themselves, where each is a number that is near.
    Finished(Finished),
    Cells(Accumulators),
}

impl PendingGroups {
    fn new(results: &Results) -> PendingGroups {
        match results.aggregates.finished() {
            Some(finished) => PendingGroups::Finished(finished),
            None => PendingGroups::Cells(Accumulators::new(&results.aggregates)),
        }
    }

    fn append(&mut self, total: &Accumulators, slots: &[u32]) {
        match self {
            PendingGroups::Finished(finished) => finished.append(total, slots),
            PendingGroups::Cells(groups) => groups.append(total, slots),
        }
    }

    /// The results, of as many groups as there are `spans`; none are left.
    fn take(&mut self, rows: usize, spans: &Spans, results: &Results) -> Result<Vec<ArrayRef>> {
        match self {
            PendingGroups::Finished(finished) => Ok(finished.take()),
            PendingGroups::Cells(groups) => {
                let columns = results.aggregates.finish(groups, &Slots::Range(0..rows), spans)?;
                groups.truncate();
                Ok(columns)
            }
        }
    }

    fn bytes(&self) -> usize {
        match self {
            PendingGroups::Finished(finished) => finished.bytes(),
            PendingGroups::Cells(groups) => groups.bytes(),
        }
    }
}

impl Pending {
    fn new(groups: PendingGroups) -> Pending {
        Pending { slots: Vec::new(), groups, starts: Vec::new(), ends: Vec::new(), times: Vec::new() }
    }

    /// Bytes held.
    fn bytes(&self) -> usize {
        let bounds = (self.starts.capacity() + self.ends.capacity() + self.times.capacity()) * size_of::<i64>();
        self.slots.capacity() * size_of::<u32>() + bounds + self.groups.bytes()
    }
}

/// The most rows of a batch of results where keys are bytes: many enough that each key is read once for many windows.
const MOST_RESULT_ROWS: usize = 32_768;

/// As many rows where keys are integers, or where there are cells and the keys are few: what the rows are made of, and the rows, stay in the
/// second-level cache.
const RESULT_ROWS: usize = 8_192;

/// Windows that each key is read for at least, if it is in all of them.
const WINDOWS_PER_KEY: usize = 8;

/// Emptied panes that are kept: as many as are open at once in a batch that spans many.
const SPARE_PANES: usize = 1_024;

/// Bytes of memory from which on a pane is not kept beside others.
const SPARE_BYTES: usize = 4 << 20;

/// Emptied panes.
#[derive(Default)]
struct Spare {
    #[expect(clippy::vec_box, reason = "a pane moves between lists and trees as it is")]
    panes: Vec<Box<Groups>>,
    /// Bytes held by them.
    bytes: usize,
}

impl Spare {
    /// An empty pane, whose bytes are counted in `all` from now on.
    fn take(&mut self, results: &Results, all: &mut usize) -> Box<Groups> {
        let Some(pane) = self.panes.pop() else { return Box::new(Groups::new(results)) };
        self.bytes -= pane.counted;
        *all += pane.counted;
        pane
    }

    /// Keeps the memory of a pane, whose bytes are counted nowhere else.
    fn give(&mut self, mut pane: Box<Groups>) {
        if self.panes.len() < SPARE_PANES && self.bytes < SPARE_BYTES {
            pane.clear();
            self.bytes += pane.counted;
            self.panes.push(pane);
        }
    }
}

/// Rows of a pane on average below which those of a batch are accumulated together: as many cost more to begin with than to add.
const FEW_ROWS: usize = 128;

/// What rows go through into cells.
fn way(results: &Results, devices: &Devices) -> Vec<Placed> {
    results.aggregates.columns.iter().map(|column| Placed::new(devices, column)).collect()
}

impl HoppingWindow {
    /// Windows of the aggregates and keys of `results`, which have no tables.
    pub fn new(panes: Panes, results: Results, max_state_bytes: usize, devices: Devices, share: Option<Share>) -> HoppingWindow {
        HoppingWindow {
            panes,
            keys: results.keys.dictionary(),
            uses: Vec::new(),
            unused: Vec::new(),
            open: OpenPanes::default(),
            amendments: BTreeMap::new(),
            sparse: Sparse::new(&results),
            pending: Pending::new(PendingGroups::new(&results)),
            share,
            spare: Spare::default(),
            pane_bytes: 0,
            together: Together::new(&results),
            next: i64::MIN,
            watermark: NONE,
            max_state_bytes,
            devices,
            sorter: Sorter::default(),
            places: Places::default(),
            slots: Vec::new(),
            sequence: 0,
            results,
        }
    }

    /// Accumulates rows into their panes, or into the amendments for the windows from `amends` on.
    fn add(&mut self, records: &RecordBatch, time: &EventTime, amends: Option<i64>) -> Result<()> {
        if time.times.is_empty() {
            return Ok(());
        }
        let rows = Rows::new(records, time, &mut self.results)?;
        let mut slots = std::mem::take(&mut self.slots);
        self.keys.assign(&rows.keys, &mut slots)?;
        let all = self.keys.slots();
        self.uses.resize(all.max(self.uses.len()), 0);
        self.places.reserve(all);
        self.sparse.reserve(all);
        let (order, runs) = self.sorter.runs(&self.panes, &time.times, (time.earliest, time.latest));
        let mut values = rows.values;
        if let Some(order) = order {
            values = values.iter().map(|values| values.take(&order)).collect::<Result<_>>()?;
            slots = order.values().iter().map(|&row| slots[row as usize]).collect();
        }
        if runs.len() > 1 && slots.len() < runs.len() * FEW_ROWS && !self.keys.is_single() {
            self.add_together(&slots, &values, &runs, amends)?;
        } else {
            for (pane, rows) in runs {
                self.add_to_pane(pane, &slots[rows.clone()], (&values, rows), amends)?;
            }
        }
        self.sequence += slots.len() as u64;
        self.slots = slots;
        match self.state_bytes() {
            bytes if bytes > self.max_state_bytes => Err(self.over_bound(bytes)),
            _ => Ok(()),
        }
    }

    fn add_to_pane(&mut self, pane: i64, slots: &[u32], rows: (&[Values], Range<usize>), amends: Option<i64>) -> Result<()> {
        if self.open.len() > MAX_OPEN_PANES {
            return Err(self.over_bound(self.state_bytes()));
        }
        let new = || self.spare.take(&self.results, &mut self.pane_bytes);
        let groups = match amends {
            None => self.open.get_or_insert_with(pane, new),
            Some(window) => self.amendments.entry((window, pane)).or_insert_with(new),
        };
        let known = groups.slots.len();
        groups.add(slots, rows, &mut self.places, || way(&self.results, &self.devices));
        groups.count_into(&mut self.pane_bytes);
        groups.slots[known..].iter().for_each(|&slot| self.uses[slot as usize] += 1);
        Ok(())
    }

    /// The same of the rows of several panes.
    fn add_together(&mut self, slots: &[u32], values: &[Values], runs: &[(i64, Range<usize>)], amends: Option<i64>) -> Result<()> {
        self.together.add(slots, values, runs, &mut self.places, || way(&self.results, &self.devices));
        for ((pane, _), part) in runs.iter().zip(&self.together.parts) {
            if self.open.len() > MAX_OPEN_PANES {
                return Err(self.over_bound(self.state_bytes()));
            }
            let new = || self.spare.take(&self.results, &mut self.pane_bytes);
            let groups = match amends {
                None => self.open.get_or_insert_with(*pane, new),
                Some(window) => self.amendments.entry((window, *pane)).or_insert_with(new),
            };
            groups.settle();
            let known = groups.slots.len();
            groups.take_in(&self.together.groups, part.clone(), &mut self.places);
            groups.count_into(&mut self.pane_bytes);
            groups.slots[known..].iter().for_each(|&slot| self.uses[slot as usize] += 1);
        }
        Ok(())
    }

    /// Adds the groups of a pane that begins at `start`, which other windows share.
    fn take_up(&mut self, start: i64, shared: &Pane, share: &mut Share) -> Result<()> {
        let mut slots = std::mem::take(&mut self.slots);
        self.keys.absorb(&shared.keys, &mut slots)?;
        let all = self.keys.slots();
        self.uses.resize(all.max(self.uses.len()), 0);
        self.places.reserve(all);
        self.sparse.reserve(all);
        let new = || self.spare.take(&self.results, &mut self.pane_bytes);
        let groups = self.open.get_or_insert_with(self.panes.pane_of(start), new);
        let known = groups.slots.len();
        groups.settle();
        self.sequence = self.sequence.max(shared.end);
        groups.absorb(&slots, share.part_of(shared), &mut self.places);
        groups.count_into(&mut self.pane_bytes);
        groups.slots[known..].iter().for_each(|&slot| self.uses[slot as usize] += 1);
        self.slots = slots;
        Ok(())
    }

    fn over_bound(&self, bytes: usize) -> Error {
        over_bound(self.open.len(), bytes, self.max_state_bytes)
    }

    /// The next window that has rows, if it is closed.
    fn next_closed(&self) -> Option<i64> {
        let oldest = self.sparse.oldest().into_iter().chain(self.open.first()).min();
        let window = first_window(&self.panes, oldest, self.amendments.keys())?.max(self.next);
        self.panes.is_closed(window, self.watermark).then_some(window)
    }

    fn fire(&mut self, window: i64, out: &mut Output) -> Result<()> {
        let panes = self.panes.panes_of(window);
        self.evict_before(panes.start);
        while let Some((number, mut groups)) = self.open.pop_before(panes.end) {
            groups.settle();
            self.pane_bytes -= groups.counted;
            self.sparse.push(number, groups);
        }
        while let Some(entry) = self.amendments.first_entry().filter(|entry| entry.key().0 <= window) {
            let ((_, number), mut groups) = entry.remove_entry();
            groups.settle();
            self.pane_bytes -= groups.counted;
            self.give_back(&groups.slots);
            let new = self.sparse.amend(number, groups, &mut self.places);
            new.iter().for_each(|&slot| self.uses[slot as usize] += 1);
        }
        self.collect(window, out)?;
        self.evict_before(self.panes.panes_of(window + 1).start);
        Ok(())
    }

    /// Adds the results of a window to those that are pending.
    fn collect(&mut self, window: i64, out: &mut Output) -> Result<()> {
        let (start, end) = self.panes.bounds(window);
        let most = self.result_rows();
        let (mut first, mut more) = (0, true);
        while more {
            let (total, live) = self.sparse.window();
            let last = live.len().min(first + most.saturating_sub(self.pending.slots.len()));
            let slots = &live[first..last];
            self.pending.groups.append(total, slots);
            self.pending.slots.extend_from_slice(slots);
            self.pending.starts.resize(self.pending.slots.len(), start);
            self.pending.ends.resize(self.pending.slots.len(), end);
            // The event time of a result is the last instant of its window, as in Flink.
            self.pending.times.resize(self.pending.slots.len(), end.saturating_sub(1));
            (first, more) = (last, last < live.len());
            if self.pending.slots.len() >= most {
                self.flush(out)?;
            }
        }
        Ok(())
    }

    fn result_rows(&self) -> usize {
        match self.results.aggregates.columns.is_empty() {
            _ if self.keys.is_integers() => RESULT_ROWS,
            true => MOST_RESULT_ROWS,
            false => (WINDOWS_PER_KEY * self.keys.slots()).clamp(RESULT_ROWS, MOST_RESULT_ROWS),
        }
    }

    /// Puts out what is pending, and forgets the keys that no pane holds.
    fn flush(&mut self, out: &mut Output) -> Result<()> {
        if !self.pending.slots.is_empty() {
            let rows = self.pending.slots.len();
            let starts = std::mem::replace(&mut self.pending.starts, Vec::with_capacity(rows));
            let ends = std::mem::replace(&mut self.pending.ends, Vec::with_capacity(rows));
            let times = std::mem::replace(&mut self.pending.times, Vec::with_capacity(rows));
            let spans = Spans::new(starts, ends, self.results.unit);
            let results = self.pending.groups.take(rows, &spans, &self.results)?;
            self.results.put_out_finished((&self.keys, &self.pending.slots), results, spans, times, out)?;
            self.pending.slots.clear();
        }
        self.unused.retain(|&slot| self.uses[slot as usize] == 0);
        self.unused.sort_unstable();
        self.unused.dedup();
        self.keys.remove_all(&self.unused);
        self.unused.clear();
        Ok(())
    }

    fn evict_before(&mut self, pane: i64) {
        while let Some(groups) = self.sparse.evict_before(pane) {
            self.give_back(&groups.slots);
            self.spare.give(groups);
        }
    }

    /// Gives back the memory of results that were put out.
    fn trim_pending(&mut self) {
        self.pending = Pending::new(PendingGroups::new(&self.results));
    }

    /// Gives back the memory of keys that are gone. No results are pending.
    fn trim_keys(&mut self) -> Result<()> {
        let known = self.keys.slots();
        let slots = (0..known as u32).filter(|&slot| self.uses[slot as usize] > 0).collect::<Vec<_>>();
        self.keys = self.results.keys.compacted(&self.keys, &slots)?;
        keep(&mut self.uses, &slots);
        self.unused = Vec::new();
        let moves = moves(&slots, known);
        self.open.values_mut().chain(self.amendments.values_mut()).for_each(|groups| groups.rename(&moves));
        self.sparse.keep(&slots, &moves);
        self.places = Places::default();
        self.places.reserve(slots.len());
        Ok(())
    }

    fn give_back(&mut self, slots: &[u32]) {
        for &slot in slots {
            let uses = &mut self.uses[slot as usize];
            *uses -= 1;
            if *uses == 0 {
                self.unused.push(slot);
            }
        }
    }
}

impl Operator for HoppingWindow {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<()> {
        let Some(time) = batch.time.clone() else {
            return Err(Error::config("a window needs event times; call `event_time(column)` before `window`"));
        };
        let Admitted { whole, parts, late } = admit(&batch, &time, &self.panes, (self.watermark, 0), &mut self.results.keys)?;
        out.late.extend(late);
        if let Some((records, time)) = whole {
            self.add(&records, &time, None)?;
        }
        parts.into_iter().try_for_each(|(window, (records, time))| self.add(&records, &time, Some(window)))
    }

    fn share(&mut self, panes: &[PartialPane]) -> Result<()> {
        let mut share = self.share.take();
        let taken = Share::each(&mut share, panes, |start, pane, share| self.take_up(start, pane, share));
        self.share = share;
        match self.state_bytes() {
            _ if taken.is_err() => taken,
            bytes if bytes > self.max_state_bytes => Err(self.over_bound(bytes)),
            _ => Ok(()),
        }
    }

    fn on_watermark(&mut self, watermark: i64, out: &mut Output) -> Result<()> {
        self.watermark = self.watermark.max(watermark);
        while let Some(window) = self.next_closed() {
            self.fire(window, out)?;
            self.next = window + 1;
            // What follows takes results while they are in the cache, and their memory serves the next.
            if !out.batches.is_empty() {
                out.more = true;
                return Ok(());
            }
        }
        self.flush(out)
    }

    fn waits_for(&self) -> Option<i64> {
        let pane = self.amendments.keys().map(|(_, pane)| *pane).chain(self.open.first()).chain(self.sparse.oldest()).min()?;
        Some(self.panes.bounds(self.panes.first_window(pane).max(self.next)).1)
    }

    fn snapshot(&mut self) -> Result<Saved> {
        let mut saved = Progress { watermark: self.watermark, next: self.next, sequence: self.sequence }.save();
        let mut table = SavedGroups::new(&[FROM, PANE]);
        let whole = self.open.iter_mut().map(|(pane, groups)| ((WHOLE, pane), groups));
        for ((from, pane), groups) in whole.chain(self.amendments.iter_mut().map(|(place, groups)| (*place, groups))) {
            groups.settle();
            groups.save(|name| if name == FROM { from } else { pane }, &self.keys, &mut self.results, &mut table)?;
        }
        table.put(PANES, &mut saved)?;
        self.sparse.save(&self.keys, &mut self.results, &mut saved)?;
        Ok(saved)
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        Progress { watermark: self.watermark, next: self.next, sequence: self.sequence } = Progress::load(saved)?;
        let complete = self.sparse.restore(&mut self.keys, &mut self.results, saved)?;
        if let Some(loaded) = LoadedGroups::get(saved, PANES, &mut self.results)? {
            let empty = Accumulators::new(&self.results.aggregates);
            for ([from, number], rows) in loaded.panes([FROM, PANE])? {
                self.keys.assign(&loaded.keys(&rows)?, &mut self.slots)?;
                self.places.reserve(self.keys.slots());
                let new = || Box::new(Groups::new(&self.results));
                let groups = match from {
                    WHOLE => self.open.get_or_insert_with(number, new),
                    from => self.amendments.entry((from, number)).or_insert_with(new),
                };
                groups.take_up(&self.slots, &loaded.groups(&empty, &rows)?, &mut self.places);
                groups.count_into(&mut self.pane_bytes);
            }
        }
        let all = self.keys.slots();
        self.sparse.reserve(all);
        self.places.reserve(all);
        self.uses.resize(all, 0);
        let open = self.open.values().chain(self.amendments.values()).flat_map(|groups| groups.slots.iter().copied());
        complete.into_iter().chain(open).for_each(|slot| self.uses[slot as usize] += 1);
        Ok(())
    }

    fn trim(&mut self) -> Result<()> {
        self.spare = Spare::default();
        self.share.iter_mut().for_each(Share::trim);
        self.trim_pending();
        self.together = Together::new(&self.results);
        for groups in self.open.values_mut().chain(self.amendments.values_mut()) {
            groups.trim();
            groups.count_into(&mut self.pane_bytes);
        }
        self.sparse.trim();
        if self.keys.is_sparse() {
            self.trim_keys()?;
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        let by_slot = (self.uses.capacity() + self.unused.capacity() + self.slots.capacity()) * size_of::<u32>();
        let pending = self.pending.bytes() + self.share.as_ref().map_or(0, Share::bytes) + self.spare.bytes;
        self.pane_bytes + self.together.groups.bytes() + self.sparse.bytes() + self.keys.bytes() + self.places.bytes() + by_slot + pending
    }

    fn placement(&self) -> Option<String> {
        Some(self.results.placement(&self.devices))
    }
}
