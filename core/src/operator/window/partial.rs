//! Windows whose rows are shared by several workers, in two phases.
//!
//! Batches go to any worker, whole. Each worker accumulates its rows in panes of its own ([`PartialWindow`]); when the watermark closes
//! the first window of a pane, all give theirs to one [`Window`], which combines them and puts out results as if it had seen the
//! rows itself. So a key may have rows in every worker: right for few keys and for hot ones, where their hash would share the work
//! unequally.
//!
//! The answer is that of one worker. Which windows count a row is decided by the watermarks that came with it; groups stand in the order
//! in which their keys first came, as each worker notes the numbers of the rows that brought new ones; what depends on the order
//! of arrival goes by the same numbers. Only sums of floats are added in another order.

use std::fmt;
use std::ops::Range;

use super::Window;
use super::pane::Pane;
use crate::batch::Batch;
use crate::error::Result;
use crate::operator::{Operator, Output};
use crate::state::Saved;

/// The groups of one pane that came to one worker, or of one that several windows share.
pub struct PartialPane {
    /// Which it is; of a shared pane, when it begins.
    pub(super) number: i64,
    /// The first window that may count the rows, if they came when others had closed.
    amends: Option<i64>,
    pub(super) pane: Pane,
    /// Whether whoever takes it may keep nothing but its memory.
    pub(super) is_used_up: bool,
}

impl PartialPane {
    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.pane.bytes()
    }

    /// A pane that begins at `start`, which several windows share.
    pub(super) fn shared(start: i64, pane: Pane) -> PartialPane {
        PartialPane { number: start, amends: None, pane, is_used_up: true }
    }

    /// What came to one worker of pane `number`, which several windows share.
    pub(super) fn part(number: i64, pane: Pane) -> PartialPane {
        PartialPane { number, amends: None, pane, is_used_up: false }
    }
}

impl fmt::Debug for PartialPane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartialPane").field("number", &self.number).field("amends", &self.amends).finish_non_exhaustive()
    }
}

/// A worker's share of a window, see the [module documentation](self).
pub struct PartialWindow {
    window: Window,
}

impl PartialWindow {
    /// The share of such a window.
    pub fn new(window: Window) -> PartialWindow {
        PartialWindow { window }
    }
}

impl Operator for PartialWindow {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<()> {
        self.window.on_batch(batch, out)
    }

    /// Gives away the panes whose rows are due in a window.
    fn on_watermark(&mut self, watermark: i64, out: &mut Output) -> Result<()> {
        let window = &mut self.window;
        window.watermark = window.watermark.max(watermark);
        let (panes, watermark) = (window.panes, window.watermark);
        let room = &mut window.room;
        let mut give = |number, amends, mut pane: Pane| -> Result<()> {
            pane.settle(room)?;
            out.panes.push(PartialPane { number, amends, pane, is_used_up: false });
            Ok(())
        };
        while let Some(entry) = window.open.first_entry().filter(|entry| panes.is_closed(panes.first_window(*entry.key()), watermark)) {
            let (number, pane) = entry.remove_entry();
            give(number, None, pane)?;
        }
        while let Some(entry) = window.amendments.first_entry().filter(|entry| panes.is_closed(entry.key().0, watermark)) {
            let ((amended, number), pane) = entry.remove_entry();
            give(number, Some(amended), pane)?;
        }
        Ok(())
    }

    /// Takes emptied panes back.
    fn absorb(&mut self, panes: &mut Vec<PartialPane>) -> Result<()> {
        panes.drain(..).for_each(|partial| self.window.retire(partial.pane));
        Ok(())
    }

    fn waits_for(&self) -> Option<i64> {
        self.window.waits_for()
    }

    /// What was not given away yet. It is taken up by the window that puts out results.
    fn snapshot(&mut self) -> Result<Saved> {
        self.window.snapshot()
    }

    fn trim(&mut self) -> Result<()> {
        self.window.trim()
    }

    fn state_bytes(&self) -> usize {
        self.window.state_bytes()
    }
}

/// Adds what workers have accumulated to a window; leaves the panes that are emptied.
pub(super) fn absorb(window: &mut Window, partials: &mut Vec<PartialPane>) -> Result<()> {
    partials.sort_by_key(|partial| (partial.amends, partial.number));
    let mut emptied = Vec::new();
    let mut rest = std::mem::take(partials).into_iter().peekable();
    while let Some(first) = rest.next() {
        let place = (first.amends, first.number);
        let mut parts = vec![first.pane];
        while let Some(next) = rest.next_if(|next| (next.amends, next.number) == place) {
            parts.push(next.pane);
        }
        let held = match place {
            (None, number) => window.open.remove(&number),
            (Some(amended), number) => window.amendments.remove(&(amended, number)),
        };
        if let Some(mut pane) = held {
            pane.settle(&mut window.room)?;
            parts.push(pane);
        }
        let whole = if parts.len() > 1 { merge(window, &parts)? } else { parts.swap_remove(0) };
        match place {
            (None, number) => window.open.insert(number, whole),
            (Some(amended), number) => window.amendments.insert((amended, number), whole),
        };
        emptied.extend(parts.into_iter().map(|pane| PartialPane { number: 0, amends: None, pane, is_used_up: true }));
    }
    *partials = emptied;
    match window.state_bytes() {
        bytes if bytes > window.max_state_bytes => Err(window.over_bound(bytes)),
        _ => Ok(()),
    }
}

/// One pane of the groups of several, in the order in which their keys first came.
fn merge(window: &mut Window, parts: &[Pane]) -> Result<Pane> {
    let mut whole = window.spare.pop().unwrap_or_else(|| Pane::new(&window.results, &window.devices));
    let mut runs: Vec<(u64, usize, Range<usize>)> = parts.iter().enumerate().flat_map(|(part, pane)| runs(part, pane)).collect();
    runs.sort_by_key(|(sequence, ..)| *sequence);
    let mut slots: Vec<Vec<u32>> = parts.iter().map(|_| Vec::new()).collect();
    // The runs of one part are in the order of its slots.
    for (_, part, run) in runs {
        whole.keys.absorb_part(&parts[part].keys, run, &mut slots[part])?;
    }
    let groups = whole.keys.slots();
    for (number, (pane, slots)) in parts.iter().zip(&slots).enumerate() {
        match number {
            0 => whole.accumulators.place(&pane.accumulators, slots, groups),
            _ => whole.accumulators.absorb(&pane.accumulators, slots, groups, &mut window.moved),
        }
    }
    whole.firsts.push((0, 0));
    whole.rows = parts.iter().map(|pane| pane.rows).sum();
    whole.end = parts.iter().map(|pane| pane.end).max().unwrap_or(0);
    Ok(whole)
}

/// The slots of a pane by the rows that brought them.
fn runs(part: usize, pane: &Pane) -> Vec<(u64, usize, Range<usize>)> {
    let all = pane.keys.slots();
    let begins = if pane.firsts.is_empty() { &[(0, 0)][..] } else { &pane.firsts };
    let ends = begins.iter().skip(1).map(|(_, slot)| *slot).chain([all]);
    begins.iter().zip(ends).map(|(&(sequence, slot), end)| (sequence, part, slot..end)).collect()
}
