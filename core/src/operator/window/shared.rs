//! Panes that several windows over one stream share.
//!
//! Rows are accumulated once, into panes of which those of each window are a whole number; when the watermark has passed one, each window
//! adds its groups to its own. So a row costs one look-up of its key and one accumulation, whatever the number of windows, and each window a
//! look-up for every key of a pane. Rows whose pane has been given away go to the windows, each of which has its own view of what is too
//! late. Where panes have hardly fewer keys than rows, sharing would cost more than it saves: all rows go to the windows then.
//!
//! The groups of a window come in the order of these panes, and within one in that in which their keys first came.
//!
//! Where workers share the rows by key hash, each has panes of its own. In two phases each has a stage that takes its rows in, and gives its part of
//! a pane to one stage behind all workers when the watermark has passed the pane; that combines the parts for the windows. So what
//! is combined of several workers is one pane, not one for each window. Rows that go to the windows go to those behind all workers then.
//!
//! The stage has no state of its own in snapshots: it gives away all it holds before one is taken, so that a window is restored alike where
//! it shares panes and where it does not.

use arrow::array::BooleanArray;

use super::partial::{self, PartialPane};
use super::saved::Progress;
use super::{Window, pane::Pane};
use crate::batch::{Batch, EventTime};
use crate::error::{Error, Result};
use crate::operator::aggregate::{Accumulators, Aggregates, Parts};
use crate::operator::{Operator, Output, not_its_own};
use crate::state::Saved;
use crate::watermark::NONE;
use crate::window::Panes;

/// Rows to a key of a pane from which on it is worth sharing.
const LEAST_ROWS_PER_KEY: u64 = 2;

/// Rows after which it is seen whether it is worth sharing.
const PROBE_ROWS: u64 = 1 << 16;

/// Rows that go to the windows, where it is not, before it is tried again.
const DIRECT_ROWS: u64 = 64 * PROBE_ROWS;

/// See the [module documentation](self).
pub struct SharedPanes {
    /// The panes, as tumbling windows that are never put out.
    panes: Window,
    windows: Vec<Panes>,
    worth: Worth,
    /// Whether it has some of the rows only, in the first of two phases.
    is_part: bool,
}

/// Whether it is worth sharing.
#[derive(Default)]
struct Worth {
    /// Rows and keys of the panes that were given away since it was last seen.
    rows: u64,
    keys: u64,
    /// Rows that still go to the windows.
    direct: u64,
}

impl Worth {
    /// A pane of so many rows and keys was given away.
    fn given(&mut self, rows: u64, keys: u64) {
        self.rows += rows;
        self.keys += keys;
        if self.rows >= PROBE_ROWS {
            self.direct = if self.rows < LEAST_ROWS_PER_KEY * self.keys { DIRECT_ROWS } else { 0 };
            (self.rows, self.keys) = (0, 0);
        }
    }
}

impl SharedPanes {
    /// How far apart the numbers of rows are, in order of arrival: those of a batch that go to the windows come after those that stay.
    pub const STRIDE: u64 = 2;

    /// The panes of tumbling windows `panes`, which `windows` share.
    pub fn new(panes: Window, windows: Vec<Panes>) -> SharedPanes {
        SharedPanes { panes, windows, worth: Worth::default(), is_part: false }
    }

    /// A worker's share of them, in two phases.
    pub fn part(self) -> SharedPanes {
        SharedPanes { is_part: true, ..self }
    }

    /// The rows of a batch whose panes are still here, and those whose are not, if there are any.
    fn split(&self, batch: Batch, time: &EventTime) -> Result<(Option<Batch>, Option<Batch>)> {
        if time.watermarks.is_none() && time.earliest > self.panes.watermark {
            return Ok((Some(batch), None));
        }
        let panes = &self.panes.panes;
        let is_given = |row: usize, time_of_row: i64| {
            let mark = time.watermarks.as_ref().map_or(NONE, |marks| marks[row]).max(self.panes.watermark);
            time_of_row <= mark && panes.is_closed(panes.pane_of(time_of_row), mark)
        };
        let given: Vec<bool> = time.times.iter().enumerate().map(|(row, &time)| is_given(row, time)).collect();
        if !given.contains(&true) {
            return Ok((Some(batch), None));
        }
        let here: BooleanArray = given.iter().map(|given| Some(!given)).collect();
        let direct = batch.clone().filter(&BooleanArray::from(given))?;
        Ok((Some(batch.filter(&here)?).filter(|batch| batch.rows() > 0), Some(direct)))
    }

    /// Gives away the panes that begin before `end`, in order.
    fn give(&mut self, end: i64, out: &mut Output) -> Result<()> {
        let panes = self.panes.panes;
        while let Some(entry) = self.panes.open.first_entry().filter(|entry| panes.start_of(*entry.key()) < end) {
            let (number, mut pane) = entry.remove_entry();
            pane.settle(&mut self.panes.room)?;
            if self.is_part {
                // Where the windows are is another thread: rows had better stay here.
                out.panes.push(PartialPane::part(number, pane));
                continue;
            }
            self.worth.given(pane.rows, pane.keys.slots() as u64);
            out.panes.push(PartialPane::shared(panes.start_of(number), pane));
        }
        Ok(())
    }
}

impl Operator for SharedPanes {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<()> {
        let Some(time) = batch.time.clone() else {
            return Err(Error::config("a window needs event times; call `event_time(column)` before `window`"));
        };
        let (first, rows) = (batch.sequence.unwrap_or(self.panes.sequence), batch.rows() as u64);
        let (here, direct) = match self.worth.direct {
            0 => self.split(batch, &time)?,
            _ => (None, Some(batch)),
        };
        self.worth.direct = self.worth.direct.saturating_sub(rows);
        if let Some(batch) = here {
            self.panes.on_batch(Batch { sequence: Some(first), ..batch }, out)?;
        }
        if let Some(batch) = direct {
            // What is here of their panes came before them.
            let latest = batch.time.as_ref().and_then(|time| time.times.iter().max().copied());
            self.give(latest.map_or(i64::MIN, |latest| latest.saturating_add(1)), out)?;
            out.batches.push(Batch { sequence: Some(first + rows), ..batch });
        }
        self.panes.sequence = first + SharedPanes::STRIDE * rows;
        Ok(())
    }

    fn on_watermark(&mut self, watermark: i64, out: &mut Output) -> Result<()> {
        self.panes.watermark = self.panes.watermark.max(watermark);
        let panes = self.panes.panes;
        self.give(panes.start_of(panes.pane_of(self.panes.watermark.saturating_add(1))), out)
    }

    fn hand_over(&mut self, out: &mut Output) -> Result<()> {
        self.give(i64::MAX, out)
    }

    /// Takes emptied panes back, and the parts of panes that workers had.
    fn absorb(&mut self, panes: &mut Vec<PartialPane>) -> Result<()> {
        let (used_up, mut parts): (Vec<_>, Vec<_>) = panes.drain(..).partition(|partial| partial.is_used_up);
        used_up.into_iter().for_each(|partial| self.panes.retire(partial.pane));
        if !parts.is_empty() {
            partial::absorb(&mut self.panes, &mut parts)?;
            panes.append(&mut parts);
        }
        Ok(())
    }

    /// Takes up what one of the windows says of the rows so far.
    fn restore(&mut self, saved: &Saved) -> Result<()> {
        let progress = Progress::load(saved)?;
        self.panes.watermark = self.panes.watermark.max(progress.watermark);
        self.panes.sequence = self.panes.sequence.max(progress.sequence);
        Ok(())
    }

    fn waits_for(&self) -> Option<i64> {
        let start = self.panes.panes.start_of(*self.panes.open.first_key_value()?.0);
        self.windows.iter().map(|windows| windows.bounds(windows.first_window(windows.pane_of(start))).1).min()
    }

    fn trim(&mut self) -> Result<()> {
        self.panes.trim()
    }

    fn state_bytes(&self) -> usize {
        self.panes.state_bytes()
    }
}

/// How a window takes up shared panes: what of their states is its own.
pub(super) struct Share {
    parts: Parts,
    /// Room for a pane of its own states alone.
    part: Accumulators,
}

impl Share {
    /// How windows of `own` take up panes of `whole`; `None` if these lack one of their states.
    pub fn new(own: &Aggregates, whole: &Aggregates) -> Option<Share> {
        Some(Share { parts: own.parts_of(whole)?, part: Accumulators::new(own) })
    }

    /// What of a pane is the window's own, in the slots of the pane.
    pub fn part_of(&mut self, shared: &Pane) -> &Accumulators {
        self.part.copy_parts(&shared.accumulators, &self.parts, shared.keys.slots());
        &self.part
    }

    /// Gives back the room for a pane.
    pub fn trim(&mut self) {
        self.part = self.part.empty();
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.part.bytes()
    }

    /// Gives `take_up` the start of each pane and the pane.
    pub fn each(
        share: &mut Option<Share>,
        panes: &[PartialPane],
        mut take_up: impl FnMut(i64, &Pane, &mut Share) -> Result<()>,
    ) -> Result<()> {
        let share = share.as_mut().ok_or_else(not_its_own)?;
        panes.iter().try_for_each(|partial| take_up(partial.number, &partial.pane, share))
    }
}

/// Adds the groups of a pane that begins at `start`, which other windows share, to those of a window.
pub(super) fn take_up(window: &mut Window, start: i64, shared: &Pane, share: &mut Share) -> Result<()> {
    let new = || window.spare.pop().unwrap_or_else(|| Pane::new(&window.results, &window.devices));
    let pane = window.open.entry(window.panes.pane_of(start)).or_insert_with(new);
    pane.settle(&mut window.room)?;
    let known = pane.keys.slots();
    pane.keys.absorb(&shared.keys, &mut window.room.slots)?;
    let groups = pane.keys.slots();
    if groups > known {
        pane.firsts.push((window.sequence, known));
    }
    // The numbers of rows go on behind it, here and in what is restored from here.
    window.sequence = window.sequence.max(shared.end);
    if known == 0 {
        pane.accumulators.copy_parts(&shared.accumulators, &share.parts, groups);
        return Ok(());
    }
    pane.accumulators.absorb(share.part_of(shared), &window.room.slots, groups, &mut window.moved);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{DIRECT_ROWS, PROBE_ROWS, Worth};

    #[test]
    fn panes_are_shared_where_keys_come_often_and_tried_again_where_they_do_not() {
        let mut worth = Worth::default();
        worth.given(PROBE_ROWS - 1, PROBE_ROWS - 1);
        assert_eq!(worth.direct, 0, "too few rows to tell");
        worth.given(1, 1);
        assert_eq!(worth.direct, DIRECT_ROWS);
        worth.direct = 0;
        worth.given(PROBE_ROWS, PROBE_ROWS / 2);
        assert_eq!(worth.direct, 0);
    }
}
