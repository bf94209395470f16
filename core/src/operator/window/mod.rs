//! Windowed aggregation by key.
//!
//! A batch is accumulated once, into the panes of its rows; when the watermark passes the end of a window its
//! panes are combined and its groups put out, in the order in which their keys first came. A key is forgotten
//! when it leaves the last open pane.

mod admission;
mod assigned;
mod count;
mod global;
mod hopping;
mod idle;
mod keyed;
mod open;
mod pane;
mod partial;
mod results;
mod revised;
mod saved;
mod session;
mod shared;
mod sliding;
mod sparse;
mod stacks;
mod waiting;

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::batch::{Batch, EventTime};
use crate::config::{Config, MAX_OPEN_PANES};
use crate::error::{Error, Result};
use crate::operator::aggregate::{Accumulators, Aggregate};
use crate::operator::devices::Devices;
use crate::operator::keys::Slots;
use crate::operator::{Operator, Output};
use crate::state::Saved;
use crate::time::Unit;
use crate::watermark::NONE;
use crate::window::{Panes, WindowSpec};
use admission::{Admitted, admit};
pub use assigned::AssignedWindow;
pub use count::CountWindow;
pub use global::GlobalWindow;
use hopping::HoppingWindow;
use pane::{Pane, Rows, Sorter};
pub use partial::{PartialPane, PartialWindow};
use results::Results;
pub use revised::RevisedWindow;
use saved::{FROM, LoadedGroups, PANE, PANES, Progress, SavedGroups, WHOLE};
pub use session::SessionWindow;
use shared::Share;
pub use shared::SharedPanes;
use sliding::Sliding;
use waiting::Room;

/// Tumbling and hopping windows, see the [module documentation](self).
pub struct Window {
    panes: Panes,
    results: Results,
    /// Panes that may still get rows on time, or whose windows have not come up yet.
    open: BTreeMap<i64, Pane>,
    /// Rows that came when some but not all windows of their pane had closed, by the first window that may
    /// still count them.
    amendments: BTreeMap<(i64, i64), Pane>,
    /// The complete panes of the current window; unused by tumbling windows.
    sliding: Sliding,
    /// Emptied panes, for those to come: nothing is allocated in steady state.
    spare: Vec<Pane>,
    /// Room for what tables have for the groups of another pane, in the slots that they get here; only where panes are taken in.
    moved: Option<Accumulators>,
    /// How panes are taken up that other windows share.
    share: Option<Share>,
    /// No window before this one is open.
    next: i64,
    watermark: i64,
    max_state_bytes: usize,
    devices: Devices,
    sorter: Sorter,
    room: Room,
    /// Rows that came so far: their numbers in order of arrival.
    sequence: u64,
}

/// Emptied panes that are kept: as many as are open at once when windows are longer than the delay of rows.
const SPARE_PANES: usize = 3;

/// Panes of a window from which on they are kept as lists of their groups. A few panes hold most keys of the window each, and are
/// combined faster as columns: ten panes of 10,000 keys in two thirds of the time.
const MANY_PANES: i64 = 16;

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
        let results = Results::new(by, aggregates, schema, unit, config)?;
        Ok(Window {
            panes: spec.panes(unit)?,
            open: BTreeMap::new(),
            amendments: BTreeMap::new(),
            sliding: Sliding::new(Pane::new(&results, devices)),
            spare: Vec::new(),
            moved: None,
            share: None,
            next: i64::MIN,
            watermark: NONE,
            max_state_bytes: config.max_state_bytes,
            devices: devices.clone(),
            sorter: Sorter::default(),
            room: Room::default(),
            sequence: 0,
            results,
        })
    }

    /// The panes `panes` with the states of these windows.
    pub(crate) fn with_panes(self, panes: Panes) -> Window {
        Window { panes, ..self }
    }

    /// The same windows, which take up panes of `whole` too; `whole` has all of their aggregates.
    pub(crate) fn sharing(self, whole: &Window) -> Option<Window> {
        let share = Share::new(&self.results.aggregates, &whole.results.aggregates)?;
        Some(Window { share: Some(share), ..self })
    }

    /// The operator for these windows: another where they are of many panes and all aggregates are counts, sums and extremes, unless
    /// several workers share the rows, whose panes it does not combine.
    pub fn into_operator(self, workers: usize) -> Box<dyn Operator> {
        let longest = self.panes.panes_of(self.panes.last_window(0));
        match workers > 1 || longest.end - longest.start < MANY_PANES || !self.results.aggregates.tables.is_empty() {
            true => Box::new(self),
            false => Box::new(HoppingWindow::new(self.panes, self.results, self.max_state_bytes, self.devices, self.share)),
        }
    }

    /// Columns of the results: the keys, `window_start`, `window_end`, the aggregates.
    pub fn schema(&self) -> SchemaRef {
        self.results.schema()
    }

    /// Length of a pane in units of event time.
    pub fn pane_length(&self) -> i64 {
        self.panes.length
    }

    /// Takes rows in, except those that are late.
    fn admit(&mut self, batch: &Batch, time: &EventTime, out: &mut Output) -> Result<()> {
        let Admitted { whole, parts, late } = admit(batch, time, &self.panes, (self.watermark, 0), &mut self.results.keys)?;
        out.late.extend(late);
        if let Some((records, time)) = whole {
            self.add(&records, &time, None)?;
        }
        parts.into_iter().try_for_each(|(window, (records, time))| self.add(&records, &time, Some(window)))
    }

    /// Accumulates rows into their panes, or into the amendments for the windows from `amends` on.
    fn add(&mut self, records: &RecordBatch, time: &EventTime, amends: Option<i64>) -> Result<()> {
        if time.times.is_empty() {
            return Ok(());
        }
        let rows = Rows::new(records, time, &mut self.results)?;
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
        let new = || self.spare.pop().unwrap_or_else(|| Pane::new(&self.results, &self.devices));
        let pane = match amends {
            None => self.open.entry(pane).or_insert_with(new),
            Some(window) => self.amendments.entry((window, pane)).or_insert_with(new),
        };
        let sequence = self.sequence;
        self.sequence += rows.len() as u64;
        pane.put(rows, sequence, self.results.keys.limit(), &mut self.room)
    }

    fn over_bound(&self, bytes: usize) -> Error {
        over_bound(self.open.len(), bytes, self.max_state_bytes)
    }

    /// The next window that has rows, if it is closed.
    fn next_closed(&self) -> Option<i64> {
        let oldest = self.sliding.oldest().into_iter().chain(self.open.keys().next().copied()).min();
        let window = first_window(&self.panes, oldest, self.amendments.keys())?.max(self.next);
        self.panes.is_closed(window, self.watermark).then_some(window)
    }

    fn fire_tumbling(&mut self, window: i64, out: &mut Output) -> Result<()> {
        if let Some(mut pane) = self.open.remove(&window) {
            pane.settle(&mut self.room)?;
            let slots = Slots::Range(0..pane.keys.slots());
            self.results.put_out(self.panes.bounds(window), &pane.keys, &pane.accumulators, &slots, out)?;
            self.retire(pane);
        }
        Ok(())
    }

    fn fire_sliding(&mut self, window: i64, out: &mut Output) -> Result<()> {
        let panes = self.panes.panes_of(window);
        self.sliding.evict_before(panes.start);
        while let Some(entry) = self.open.first_entry().filter(|entry| *entry.key() < panes.end) {
            let (number, mut pane) = entry.remove_entry();
            pane.settle(&mut self.room)?;
            self.sliding.push(number, &pane)?;
            self.retire(pane);
        }
        while let Some(entry) = self.amendments.first_entry().filter(|entry| entry.key().0 <= window) {
            let ((_, number), mut pane) = entry.remove_entry();
            pane.settle(&mut self.room)?;
            self.sliding.amend(number, &pane)?;
            self.retire(pane);
        }
        self.sliding.combine();
        if let Some((keys, groups, live)) = self.sliding.window() {
            self.results.put_out(self.panes.bounds(window), keys, groups, &Slots::List(live), out)?;
        }
        self.sliding.evict_before(self.panes.panes_of(window + 1).start);
        Ok(())
    }

    fn save(&mut self, saved: &mut Saved) -> Result<()> {
        let mut groups = SavedGroups::new(&[FROM, PANE]);
        let whole = self.open.iter_mut().map(|(pane, groups)| ((WHOLE, *pane), groups));
        for ((from, number), pane) in whole.chain(self.amendments.iter_mut().map(|(place, groups)| (*place, groups))) {
            pane.settle(&mut self.room)?;
            let slots = Slots::Range(0..pane.keys.slots());
            let place = |name: &str, _| if name == FROM { from } else { number };
            groups.add(place, &mut self.results, (&pane.keys, &slots), (&pane.accumulators, &slots))?;
        }
        groups.put(PANES, saved)?;
        self.sliding.save(&mut self.results, saved)
    }

    fn load(&mut self, saved: &Saved) -> Result<()> {
        if let Some(loaded) = LoadedGroups::get(saved, PANES, &mut self.results)? {
            for ([from, number], rows) in loaded.panes([FROM, PANE])? {
                let new = || Pane::new(&self.results, &self.devices);
                let pane = match from {
                    WHOLE => self.open.entry(number).or_insert_with(new),
                    from => self.amendments.entry((from, number)).or_insert_with(new),
                };
                pane.take_up(&loaded, &rows)?;
            }
        }
        self.sliding.restore(&mut self.results, saved)
    }

    /// Keeps the memory of a pane whose groups have been put out.
    fn retire(&mut self, mut pane: Pane) {
        if self.spare.len() < SPARE_PANES {
            pane.clear();
            self.spare.push(pane);
        }
    }
}

/// The first window that has rows, when `oldest` is the oldest pane and `amended` are rows that came for a pane from some window on.
fn first_window<'a>(panes: &Panes, oldest: Option<i64>, amended: impl Iterator<Item = &'a (i64, i64)>) -> Option<i64> {
    let amended = amended.map(|(window, pane)| (*window).max(panes.first_window(*pane)));
    amended.chain(oldest.map(|pane| panes.first_window(pane))).min()
}

fn over_bound(open: usize, bytes: usize, most: usize) -> Error {
    Error::state(format!(
        "a window operator holds {open} open panes in {bytes} bytes, over its bound of {MAX_OPEN_PANES} panes and {most} bytes; \
         check the event times (one far ahead opens panes that wait), use a coarser key or window, or raise `max_state_bytes`"
    ))
}

impl Operator for Window {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<()> {
        let Some(time) = batch.time.clone() else {
            return Err(Error::config("a window needs event times; call `event_time(column)` before `window`"));
        };
        let known = self.sequence;
        self.sequence = batch.sequence.unwrap_or(known);
        let admitted = self.admit(&batch, &time, out);
        // Panes that it shares may have had later numbers.
        self.sequence = self.sequence.max(known);
        admitted
    }

    fn absorb(&mut self, panes: &mut Vec<PartialPane>) -> Result<()> {
        partial::absorb(self, panes)
    }

    fn share(&mut self, panes: &[PartialPane]) -> Result<()> {
        let mut share = self.share.take();
        let taken = Share::each(&mut share, panes, |start, pane, share| shared::take_up(self, start, pane, share));
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

    fn snapshot(&mut self) -> Result<Saved> {
        let mut saved = Progress { watermark: self.watermark, next: self.next, sequence: self.sequence }.save();
        self.save(&mut saved)?;
        Ok(saved)
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        Progress { watermark: self.watermark, next: self.next, sequence: self.sequence } = Progress::load(saved)?;
        self.load(saved)
    }

    fn trim(&mut self) -> Result<()> {
        (self.spare, self.moved, self.room) = (Vec::new(), None, Room::default());
        self.share.iter_mut().for_each(Share::trim);
        self.open.values_mut().chain(self.amendments.values_mut()).try_for_each(|pane| pane.trim(&self.results))?;
        self.sliding.trim(&self.results)
    }

    fn state_bytes(&self) -> usize {
        let panes = self.open.values().chain(self.amendments.values()).chain(&self.spare);
        panes.map(Pane::bytes).sum::<usize>()
            + self.room.bytes()
            + self.sliding.bytes()
            + self.moved.as_ref().map_or(0, Accumulators::bytes)
            + self.share.as_ref().map_or(0, Share::bytes)
    }

    fn placement(&self) -> Option<String> {
        Some(self.results.placement(&self.devices))
    }
}
