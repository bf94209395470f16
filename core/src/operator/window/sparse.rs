//! The panes of a window as lists of the groups that they hold, combined group by group.
//!
//! Two stacks of panes, as in [`stacks`](super::stacks), but of each pane only the groups that have rows in it are kept: taking a
//! pane in, turning the back over and letting a pane go cost as much as they have groups, however many keys the window holds. A
//! pane of the front keeps, for each of its groups, the aggregate of the younger panes of the front: what is left of the
//! group when the pane goes. So the aggregate of every group in the window is known at all times, and changes only with its rows.

use std::collections::BTreeMap;
use std::ops::Range;

use thalweg_kernels::{Bits, selected_rows};

use super::results::Results;
use super::saved::{ALONE, LoadedGroups, PANE, SLIDING, SavedGroups, UNTIL};
use crate::error::Result;
use crate::operator::aggregate::{Accumulators, Placed, Values};
use crate::operator::compact::{is_sparse, keep};
use crate::operator::keys::{Keys, Slots};
use crate::state::Saved;

/// No place.
const NONE: u32 = u32::MAX;

/// Some groups: their slots, and their accumulators in that order.
pub(super) struct Groups {
    pub slots: Vec<u32>,
    accumulators: Accumulators,
    /// The way of rows in here; none while no rows came but with those of other panes.
    placed: Vec<Placed>,
    is_settled: bool,
    /// Bytes held when they were last counted.
    pub counted: usize,
}

impl Groups {
    pub fn new(results: &Results) -> Groups {
        let accumulators = Accumulators::new(&results.aggregates);
        Groups { slots: Vec::new(), accumulators, placed: Vec::new(), is_settled: true, counted: 0 }
    }

    /// Takes in the rows `rows` of those that `values` are of, whose groups are `slots`. `places` has room for each slot, and is for the
    /// groups' places here; `way` makes what rows go through.
    pub fn add(
        &mut self,
        slots: &[u32],
        (values, rows): (&[Values], Range<usize>),
        places: &mut Places,
        way: impl FnOnce() -> Vec<Placed>,
    ) {
        places.of(slots, &mut self.slots);
        self.accumulate(values, rows, places, way);
    }

    fn accumulate(&mut self, values: &[Values], rows: Range<usize>, places: &Places, way: impl FnOnce() -> Vec<Placed>) {
        if self.placed.is_empty() {
            self.placed = way();
        }
        self.is_settled = false;
        self.accumulators.reserve(self.slots.len());
        self.accumulators.accumulate_rows(&places.found, values, rows, &mut self.placed);
    }

    /// Completes the accumulators: rows may be on their way over the GPU until then.
    pub fn settle(&mut self) {
        if !std::mem::replace(&mut self.is_settled, true) {
            self.accumulators.settle(&mut self.placed);
        }
    }

    /// Takes in the groups `part` of `from`, each of another slot.
    pub fn take_in(&mut self, from: &Groups, part: Range<usize>, places: &mut Places) {
        let slots = &from.slots[part.clone()];
        if self.slots.is_empty() {
            self.slots.extend_from_slice(slots);
            return self.accumulators.append_part(&from.accumulators, part);
        }
        places.of(slots, &mut self.slots);
        self.accumulators.reserve(self.slots.len());
        self.accumulators.combine_part_at(&places.found, &from.accumulators, part);
    }

    /// Adds the groups of `from` to those here.
    fn merge(&mut self, from: &Groups, places: &mut Places) {
        self.absorb(&from.slots, &from.accumulators, places);
    }

    /// Adds each of `groups` to that of its slot in `slots`.
    pub fn absorb(&mut self, slots: &[u32], groups: &Accumulators, places: &mut Places) {
        places.of(slots, &mut self.slots);
        self.accumulators.reserve(self.slots.len());
        self.accumulators.combine_at(&places.found, groups);
    }

    /// Adds groups of a snapshot, of which several may be of one slot.
    pub fn take_up(&mut self, slots: &[u32], groups: &Accumulators, places: &mut Places) {
        places.of(slots, &mut self.slots);
        self.accumulators.add_at(groups, &places.found, self.slots.len());
    }

    /// Adds the groups to a table of a snapshot; `place` as of [`SavedGroups::add`].
    pub fn save(&self, place: impl Fn(&str) -> i64, keys: &Keys, results: &mut Results, table: &mut SavedGroups) -> Result<()> {
        let all = Slots::Range(0..self.slots.len());
        table.add(|name, _| place(name), results, (keys, &Slots::List(&self.slots)), (&self.accumulators, &all))
    }

    /// Gives the groups other slots: that of `slot` becomes `moves[slot]`.
    pub fn rename(&mut self, moves: &[u32]) {
        self.slots.iter_mut().for_each(|slot| *slot = moves[*slot as usize]);
    }

    /// Gives back the memory of groups that it held before, if there were many more than now.
    pub fn trim(&mut self) {
        if is_sparse(self.slots.len(), self.slots.capacity().max(self.accumulators.room())) {
            self.settle();
            self.slots.shrink_to_fit();
            let all: Vec<u32> = (0..self.slots.len() as u32).collect();
            self.accumulators.keep(&all);
        }
    }

    /// Forgets all groups and keeps the memory for others.
    pub fn clear(&mut self) {
        self.accumulators.truncate();
        self.slots.clear();
    }

    /// Counts the bytes that it holds into `all`, of which those that were counted before are part.
    pub fn count_into(&mut self, all: &mut usize) {
        let bytes = self.bytes();
        *all = *all - std::mem::replace(&mut self.counted, bytes) + bytes;
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<u32>() + self.accumulators.bytes() + self.placed.iter().map(Placed::bytes).sum::<usize>()
    }
}

/// Finds the places of slots in a list of them.
#[derive(Default)]
pub(super) struct Places {
    /// By slot; [`NONE`] between two calls.
    by_slot: Vec<u32>,
    /// The places that were asked for last.
    found: Vec<u32>,
}

impl Places {
    /// Makes room for `slots` slots.
    pub fn reserve(&mut self, slots: usize) {
        self.by_slot.resize(slots.max(self.by_slot.len()), NONE);
    }

    /// Finds the place of each of `slots` in `known`, behind which new ones are added.
    fn of(&mut self, slots: &[u32], known: &mut Vec<u32>) {
        self.found.clear();
        if self.by_slot.len() == 1 {
            known.resize(1, 0);
            return self.found.resize(slots.len(), 0);
        }
        known.iter().enumerate().for_each(|(place, &slot)| self.by_slot[slot as usize] = place as u32);
        self.find(slots, known, 0);
    }

    /// Finds the place of each of `slots` among those of `known` from `start` on, and forgets these.
    fn find(&mut self, slots: &[u32], known: &mut Vec<u32>, start: usize) {
        self.found.extend(slots.iter().map(|&slot| {
            let place = &mut self.by_slot[slot as usize];
            if *place == NONE {
                *place = known.len() as u32;
                known.push(slot);
            }
            *place
        }));
        known[start..].iter().for_each(|&slot| self.by_slot[slot as usize] = NONE);
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        (self.by_slot.capacity() + self.found.capacity()) * size_of::<u32>()
    }
}

/// The rows of several panes, accumulated in one go: those of each are few.
pub(super) struct Together {
    /// Those of one pane behind those of another.
    pub groups: Groups,
    /// Which of them are those of each pane.
    pub parts: Vec<Range<usize>>,
}

impl Together {
    pub fn new(results: &Results) -> Together {
        Together { groups: Groups::new(results), parts: Vec::new() }
    }

    /// Takes in rows, of which `runs` are those of one pane each; else as [`Groups::add`].
    pub fn add(
        &mut self,
        slots: &[u32],
        values: &[Values],
        runs: &[(i64, Range<usize>)],
        places: &mut Places,
        way: impl FnOnce() -> Vec<Placed>,
    ) {
        self.groups.clear();
        self.parts.clear();
        places.found.clear();
        for (_, rows) in runs {
            let start = self.groups.slots.len();
            places.find(&slots[rows.clone()], &mut self.groups.slots, start);
            self.parts.push(start..self.groups.slots.len());
        }
        self.groups.accumulate(values, 0..slots.len(), places, way);
        self.groups.settle();
    }
}

/// A complete pane of the window.
struct Pane {
    number: i64,
    /// As they were in the back; in the front what is left of each when the pane goes.
    groups: Box<Groups>,
}

/// The complete panes of the current window.
pub(super) struct Sparse {
    /// Oldest pane last.
    front: Vec<Pane>,
    /// Youngest pane last.
    back: Vec<Pane>,
    /// By slot, the aggregates of all panes of the front, of the back, and of both.
    front_total: Accumulators,
    back_total: Accumulators,
    total: Accumulators,
    /// By slot, how many panes hold the group.
    held: Vec<u32>,
    /// By slot, a bit: whether any does.
    live_bits: Vec<u8>,
    /// The slots of the groups that the window holds, in order, unless that has changed.
    live: Vec<u32>,
    is_live_known: bool,
    before: Accumulators,
    pane_bytes: usize,
}

impl Sparse {
    pub fn new(results: &Results) -> Sparse {
        let empty = || Accumulators::new(&results.aggregates);
        Sparse {
            front: Vec::new(),
            back: Vec::new(),
            front_total: empty(),
            back_total: empty(),
            total: empty(),
            held: Vec::new(),
            live_bits: Vec::new(),
            live: Vec::new(),
            is_live_known: false,
            before: empty(),
            pane_bytes: 0,
        }
    }

    /// The oldest pane.
    pub fn oldest(&self) -> Option<i64> {
        self.front.last().or(self.back.first()).map(|pane| pane.number)
    }

    /// Makes room for `slots` slots.
    pub fn reserve(&mut self, slots: usize) {
        if self.held.len() < slots {
            self.held.resize(slots, 0);
            self.live_bits.resize(slots.div_ceil(8), 0);
            [&mut self.front_total, &mut self.back_total, &mut self.total].into_iter().for_each(|total| total.reserve(slots));
        }
    }

    /// Gives back the memory of groups that panes held before.
    pub fn trim(&mut self) {
        for pane in self.front.iter_mut().chain(&mut self.back) {
            pane.groups.trim();
            pane.groups.count_into(&mut self.pane_bytes);
        }
        self.before = self.before.empty();
    }

    /// Keeps the groups in `slots`, which hold all those of panes and move together in this order, as `moves` says.
    pub fn keep(&mut self, slots: &[u32], moves: &[u32]) {
        let panes = self.front.iter_mut().chain(&mut self.back);
        panes.for_each(|pane| pane.groups.rename(moves));
        [&mut self.front_total, &mut self.back_total, &mut self.total].into_iter().for_each(|total| total.keep(slots));
        keep(&mut self.held, slots);
        self.live_bits = vec![0; slots.len().div_ceil(8)];
        let live = self.held.iter().enumerate().filter(|(_, held)| **held > 0);
        live.for_each(|(slot, _)| self.live_bits[slot / 8] |= 1 << (slot % 8));
        (self.live, self.is_live_known, self.before) = (Vec::new(), false, self.before.empty());
    }

    fn hold(&mut self, slots: &[u32]) {
        for slot in slots.iter().map(|&slot| slot as usize) {
            if self.held[slot] == 0 {
                self.live_bits[slot / 8] |= 1 << (slot % 8);
                self.is_live_known = false;
            }
            self.held[slot] += 1;
        }
    }

    fn release(&mut self, slots: &[u32]) {
        for slot in slots.iter().map(|&slot| slot as usize) {
            self.held[slot] -= 1;
            if self.held[slot] == 0 {
                self.live_bits[slot / 8] &= !(1 << (slot % 8));
                self.is_live_known = false;
            }
        }
    }

    /// Adds the pane that follows all others, whose bytes are counted nowhere else.
    pub fn push(&mut self, number: i64, mut groups: Box<Groups>) {
        self.hold(&groups.slots);
        self.back_total.combine_at(&groups.slots, &groups.accumulators);
        self.total.combine_at(&groups.slots, &groups.accumulators);
        self.pane_bytes += groups.counted;
        groups.count_into(&mut self.pane_bytes);
        self.back.push(Pane { number, groups });
    }

    /// Adds rows that came for a pane after younger panes had been pushed. Returns the slots of the groups that the pane had not.
    pub fn amend(&mut self, number: i64, mut groups: Box<Groups>, places: &mut Places) -> Vec<u32> {
        groups.counted = 0;
        self.total.combine_at(&groups.slots, &groups.accumulators);
        if self.front.first().is_some_and(|youngest| youngest.number >= number) {
            return self.amend_front(number, *groups, places);
        }
        self.back_total.combine_at(&groups.slots, &groups.accumulators);
        let at = self.back.partition_point(|pane| pane.number < number);
        match self.back.get_mut(at).filter(|pane| pane.number == number) {
            Some(pane) => {
                let known = pane.groups.slots.len();
                pane.groups.merge(&groups, places);
                let new = pane.groups.slots[known..].to_vec();
                self.hold(&new);
                new
            }
            None => {
                let new = groups.slots.clone();
                self.hold(&new);
                self.back.insert(at, Pane { number, groups });
                new
            }
        }
    }

    /// The same for a pane of the front: what is left when an older pane goes is more by these groups.
    fn amend_front(&mut self, number: i64, groups: Groups, places: &mut Places) -> Vec<u32> {
        let older = self.front.partition_point(|pane| pane.number >= number);
        // What is left of the groups when this pane goes is what was left after the one before it, or all.
        let mut left = self.before.empty();
        left.gather(&self.front_total, &groups.slots);
        let known = |pane: &Pane, slot: u32| pane.groups.slots.iter().position(|&known| known == slot);
        let mut one = self.before.empty();
        for (place, &slot) in groups.slots.iter().enumerate() {
            if let Some((pane, at)) = self.front[older..].iter().find_map(|pane| Some((pane, known(pane, slot)?))) {
                one.gather(&pane.groups.accumulators, &[at as u32]);
                left.copy_at(&[place as u32], &one);
            }
        }
        for pane in &mut self.front[older..] {
            for (place, &slot) in groups.slots.iter().enumerate() {
                if let Some(at) = known(pane, slot) {
                    one.gather(&groups.accumulators, &[place as u32]);
                    pane.groups.accumulators.combine_at(&[at as u32], &one);
                }
            }
        }
        self.front_total.combine_at(&groups.slots, &groups.accumulators);
        let added = Box::new(Groups { accumulators: left, ..groups });
        let Some(pane) = self.front[..older].last_mut().filter(|pane| pane.number == number) else {
            let new = added.slots.clone();
            self.hold(&new);
            self.front.insert(older, Pane { number, groups: added });
            return new;
        };
        // Of groups that the pane has already, as much is left as before.
        let new: Vec<u32> = (0..added.slots.len() as u32).filter(|&place| known(pane, added.slots[place as usize]).is_none()).collect();
        let mut kept = Groups { slots: new.iter().map(|&place| added.slots[place as usize]).collect(), ..*added };
        one.gather(&kept.accumulators, &new);
        std::mem::swap(&mut one, &mut kept.accumulators);
        pane.groups.merge(&kept, places);
        self.hold(&kept.slots);
        kept.slots
    }

    /// Removes the oldest pane if it comes before `pane`.
    pub fn evict_before(&mut self, pane: i64) -> Option<Box<Groups>> {
        if self.oldest().is_none_or(|oldest| oldest >= pane) {
            return None;
        }
        if self.front.is_empty() {
            self.turn_over();
        }
        let Pane { groups, .. } = self.front.pop()?;
        self.pane_bytes -= groups.counted;
        self.front_total.copy_at(&groups.slots, &groups.accumulators);
        self.total.sum_at(&groups.slots, &self.front_total, &self.back_total);
        self.release(&groups.slots);
        Some(groups)
    }

    fn turn_over(&mut self) {
        while let Some(mut pane) = self.back.pop() {
            self.before.gather(&self.front_total, &pane.groups.slots);
            self.front_total.combine_at(&pane.groups.slots, &pane.groups.accumulators);
            std::mem::swap(&mut self.before, &mut pane.groups.accumulators);
            self.front.push(pane);
        }
        self.back_total.truncate();
        self.back_total.reserve(self.held.len());
    }

    /// The aggregates of the current window by slot, and the slots of its groups.
    pub fn window(&mut self) -> (&Accumulators, &[u32]) {
        if !self.is_live_known {
            self.live.clear();
            selected_rows(Bits { bytes: &self.live_bits, offset: 0, len: self.held.len() }, &mut self.live);
            self.is_live_known = true;
        }
        (&self.total, &self.live)
    }

    /// Puts the panes into a snapshot: of those in the front, for each of their groups the aggregate from the pane on.
    ///
    /// # Errors
    /// If the keys cannot be decoded, which would be a defect.
    pub fn save(&self, keys: &Keys, results: &mut Results, saved: &mut Saved) -> Result<()> {
        let mut panes = SavedGroups::new(&[UNTIL, PANE]);
        let until = self.front.first().map_or(ALONE, |youngest| youngest.number);
        let (mut left, mut from) = (self.before.empty(), self.before.empty());
        left.copy(&self.front_total);
        for pane in self.front.iter().rev() {
            let slots = &pane.groups.slots;
            from.gather(&left, slots);
            let place = |name: &str, _| if name == PANE { pane.number } else { until };
            panes.add(place, results, (keys, &Slots::List(slots)), (&from, &Slots::Range(0..slots.len())))?;
            left.copy_at(slots, &pane.groups.accumulators);
        }
        for pane in &self.back {
            pane.groups.save(|name| if name == PANE { pane.number } else { ALONE }, keys, results, &mut panes)?;
        }
        panes.put(SLIDING, saved)
    }

    /// Takes up the panes of a snapshot, which may be those of several workers. Returns the slots of their groups, pane by pane.
    ///
    /// # Errors
    /// As [`Keys::assign`], and [`Kind::State`](crate::error::Kind::State) if they are not those of such windows.
    pub fn restore(&mut self, keys: &mut Keys, results: &mut Results, saved: &Saved) -> Result<Vec<u32>> {
        let Some(loaded) = LoadedGroups::get(saved, SLIDING, results)? else { return Ok(Vec::new()) };
        let mut slots = Vec::new();
        keys.assign(&loaded.keys(&(0..loaded.len() as u32).collect::<Vec<_>>())?, &mut slots)?;
        self.reserve(keys.slots());
        let mut panes: BTreeMap<i64, Vec<(i64, Vec<u32>)>> = BTreeMap::new();
        for ([number, until], rows) in loaded.panes([PANE, UNTIL])? {
            panes.entry(number).or_default().push((until, rows));
        }
        // What one worker has in the front is in the front for all, and with it what others have of panes as old.
        let edge = panes.values().flatten().map(|(until, _)| *until).max().unwrap_or(ALONE);
        let mut alone = self.before.empty();
        alone.reserve(keys.slots());
        for (&number, parts) in panes.range(..=edge).rev() {
            let mut groups = Box::new(Groups::new(results));
            for (until, rows) in parts {
                let slots: Vec<u32> = rows.iter().map(|&row| slots[row as usize]).collect();
                let own = loaded.groups(&self.before, rows)?;
                groups.accumulators.append(&self.front_total, &slots);
                // Aggregates until a pane do not hold the younger panes that the group has alone.
                if *until == ALONE {
                    alone.combine_at(&slots, &own);
                }
                self.before.gather(&alone, &slots);
                if *until != ALONE {
                    self.before.combine(&own);
                }
                self.front_total.copy_at(&slots, &self.before);
                groups.slots.extend(slots);
            }
            self.hold(&groups.slots);
            groups.count_into(&mut self.pane_bytes);
            self.front.push(Pane { number, groups });
        }
        let all: Vec<u32> = (0..keys.slots() as u32).collect();
        self.total.copy_at(&all, &self.front_total);
        for (&number, parts) in panes.range(edge.saturating_add(1)..) {
            let (mut groups, mut places) = (Box::new(Groups::new(results)), Places::default());
            places.reserve(keys.slots());
            for (_, rows) in parts {
                let slots: Vec<u32> = rows.iter().map(|&row| slots[row as usize]).collect();
                groups.take_up(&slots, &loaded.groups(&self.before, rows)?, &mut places);
            }
            self.push(number, groups);
        }
        Ok(self.front.iter().chain(&self.back).flat_map(|pane| &pane.groups.slots).copied().collect())
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let totals = [&self.front_total, &self.back_total, &self.total, &self.before];
        self.pane_bytes
            + totals.into_iter().map(Accumulators::bytes).sum::<usize>()
            + (self.held.capacity() + self.live.capacity()) * size_of::<u32>()
            + self.live_bits.capacity()
    }
}
