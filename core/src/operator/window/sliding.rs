//! Windows of several panes: complete panes brought to one set of slots and combined.

use std::collections::BTreeMap;

use super::pane::Pane;
use super::results::Results;
use super::saved::{ALONE, LoadedGroups, PANE, SLIDING, SavedGroups, UNTIL};
use super::stacks::Stacks;
use crate::error::Result;
use crate::operator::aggregate::Accumulators;
use crate::operator::keys::{KeyColumn, Keys, Slots};
use crate::state::Saved;

/// Accumulators that are kept: a stream's time may jump, and then as many panes go as a window has.
const SPARE: usize = 2;

/// The complete panes of the current window, and the keys that they have in common.
pub(super) struct Sliding {
    keys: Keys,
    stacks: Stacks,
    /// The current window, where it is the sum of two.
    total: Accumulators,
    /// Accumulators of panes that are gone, for those to come: nothing is allocated in steady state.
    spare: Vec<Accumulators>,
    slots: Vec<u32>,
    live: Vec<u32>,
}

impl Sliding {
    /// Without panes; `empty` is such a pane as will come.
    pub fn new(empty: Pane) -> Sliding {
        Sliding {
            keys: empty.keys,
            stacks: Stacks::new(empty.accumulators.empty()),
            total: empty.accumulators,
            spare: Vec::new(),
            slots: Vec::new(),
            live: Vec::new(),
        }
    }

    /// The oldest pane.
    pub fn oldest(&self) -> Option<i64> {
        self.stacks.oldest()
    }

    /// Adds the pane that follows all others.
    pub fn push(&mut self, number: i64, pane: &Pane) -> Result<()> {
        let groups = self.bring(pane)?;
        self.stacks.push(number, groups);
        Ok(())
    }

    /// Adds rows that came for a pane after younger panes had been pushed.
    pub fn amend(&mut self, number: i64, pane: &Pane) -> Result<()> {
        let groups = self.bring(pane)?;
        self.stacks.amend(number, groups);
        Ok(())
    }

    /// The groups of a pane in the slots that their keys have here.
    fn bring(&mut self, pane: &Pane) -> Result<Accumulators> {
        self.keys.absorb(&pane.keys, &mut self.slots)?;
        let mut groups = self.spare.pop().unwrap_or_else(|| pane.accumulators.empty());
        groups.place(&pane.accumulators, &self.slots, self.keys.slots());
        Ok(groups)
    }

    /// Combines the panes of the current window for [`Sliding::window`].
    pub fn combine(&mut self) {
        let mut totals = self.stacks.totals();
        if let (Some(front), Some(back)) = (totals.next(), totals.next()) {
            self.total.copy(front);
            self.total.combine(back);
        }
        let mut live = std::mem::take(&mut self.live);
        live.clear();
        self.groups().into_iter().for_each(|groups| groups.live(&mut live));
        self.live = live;
    }

    /// The keys and groups of the current window, and the slots of those that have rows; none if there is no pane.
    pub fn window(&self) -> Option<(&Keys, &Accumulators, &[u32])> {
        Some((&self.keys, self.groups()?, &self.live))
    }

    /// Replaces `slots` by the slots of some keys, all of which are in a pane.
    ///
    /// # Errors
    /// As [`Keys::assign`].
    pub fn slots_of(&mut self, keys: &KeyColumn, slots: &mut Vec<u32>) -> Result<()> {
        self.keys.assign(keys, slots)
    }

    fn groups(&self) -> Option<&Accumulators> {
        let mut totals = self.stacks.totals();
        let first = totals.next()?;
        Some(if totals.next().is_some() { &self.total } else { first })
    }

    /// Forgets the panes before `pane`, and the keys that no other pane holds.
    pub fn evict_before(&mut self, pane: i64) {
        while self.stacks.oldest().is_some_and(|oldest| oldest < pane) {
            if let Some((_, groups)) = self.stacks.pop() {
                groups.live(&mut self.live);
                self.live.retain(|&slot| self.stacks.totals().all(|held| held.count(slot) == 0));
                self.keys.remove_all(&self.live);
                if self.spare.len() < SPARE {
                    self.spare.push(groups);
                }
            }
        }
    }

    /// Gives back memory that is kept for panes to come, and that of keys that are gone.
    ///
    /// # Errors
    /// If keys cannot be moved, which would be a defect.
    pub fn trim(&mut self, results: &Results) -> Result<()> {
        self.spare = Vec::new();
        if !self.keys.is_sparse() {
            return Ok(());
        }
        let mut live: Vec<u32> = (0..self.keys.slots() as u32).collect();
        live.retain(|&slot| self.stacks.totals().any(|held| held.count(slot) > 0));
        self.keys = results.keys.compacted(&self.keys, &live)?;
        self.stacks.keep(&live);
        (self.total, self.live, self.slots) = (self.total.empty(), Vec::new(), Vec::new());
        Ok(())
    }

    /// Puts the panes into a snapshot.
    ///
    /// # Errors
    /// If the keys cannot be decoded, which would be a defect.
    pub fn save(&self, results: &mut Results, saved: &mut Saved) -> Result<()> {
        let (mut panes, mut live) = (SavedGroups::new(&[UNTIL, PANE]), Vec::new());
        let [front, back] = self.stacks.parts();
        let until = front.first().map_or(ALONE, |(youngest, _)| *youngest);
        for (until, (pane, groups)) in front.iter().map(|pane| (until, pane)).chain(back.iter().map(|pane| (ALONE, pane))) {
            groups.live(&mut live);
            let slots = Slots::List(&live);
            panes.add(|name, _| if name == PANE { *pane } else { until }, results, (&self.keys, &slots), (groups, &slots))?;
        }
        panes.put(SLIDING, saved)
    }

    /// Adds the panes of a snapshot.
    ///
    /// # Errors
    /// As [`Keys::assign`], and [`Kind::State`](crate::error::Kind::State) if they are not those of such windows.
    pub fn restore(&mut self, results: &mut Results, saved: &Saved) -> Result<()> {
        let Some(loaded) = LoadedGroups::get(saved, SLIDING, results)? else { return Ok(()) };
        let mut parts: BTreeMap<i64, Vec<(i64, Accumulators)>> = BTreeMap::new();
        for ([until, pane], rows) in loaded.panes([UNTIL, PANE])? {
            self.keys.assign(&loaded.keys(&rows)?, &mut self.slots)?;
            let mut groups = self.total.empty();
            groups.add_at(&loaded.groups(&self.total, &rows)?, &self.slots, self.keys.slots());
            parts.entry(until).or_default().push((pane, groups));
        }
        for (until, mut panes) in parts {
            let (front, back) = if until == ALONE {
                (Vec::new(), panes)
            } else {
                panes.reverse();
                carry(&mut panes, self.keys.slots());
                (panes, Vec::new())
            };
            self.stacks.merge(Stacks::of_parts(front, back, self.total.empty()));
        }
        Ok(())
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let spare: usize = self.spare.iter().map(Accumulators::bytes).sum();
        self.keys.bytes() + self.stacks.bytes() + self.total.bytes() + spare
    }
}

/// Completes suffix aggregates, youngest pane first, of several workers: one that has no rows in a pane has no suffix from there on, and
/// that of its next pane stands for it.
fn carry(panes: &mut [(i64, Accumulators)], slots: usize) {
    let mut live = Vec::new();
    for place in 1..panes.len() {
        let (younger, older) = panes.split_at_mut(place);
        let ((_, younger), (_, own)) = (&younger[place - 1], &mut older[0]);
        younger.live(&mut live);
        live.retain(|&slot| own.count(slot) == 0);
        if !live.is_empty() {
            let mut carried = own.empty();
            carried.gather(younger, &live);
            own.add_at(&carried, &live, slots);
        }
    }
}
