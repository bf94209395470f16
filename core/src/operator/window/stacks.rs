//! Sliding combination of panes by two stacks.
//!
//! Every window combines its panes in amortised constant work per pane, whatever the window's length and
//! whether or not the aggregate can be subtracted: complete panes are pushed on the back, whose running
//! aggregate is kept; when the front runs empty the back is turned over into suffix aggregates, in place.
//! Source: Tangwongsan, Hirzel, Schneider, "Low-Latency Sliding-Window Aggregation in Worst-Case Constant
//! Time", DEBS 2017, which calls it Two-Stacks.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::operator::aggregate::Accumulators;

/// The panes of the current window, whose groups have the same slots in all of them.
pub(super) struct Stacks {
    /// Oldest pane last; each holds the aggregate of its pane and all younger ones in the front.
    front: Vec<(i64, Accumulators)>,
    /// Youngest pane last, each as it was.
    back: Vec<(i64, Accumulators)>,
    /// The aggregate of the back, unless that is empty.
    back_total: Accumulators,
}

impl Stacks {
    /// Without panes; `empty` has the columns of those that will come.
    pub fn new(empty: Accumulators) -> Stacks {
        Stacks { front: Vec::new(), back: Vec::new(), back_total: empty }
    }

    /// The oldest pane.
    pub fn oldest(&self) -> Option<i64> {
        self.front.last().or(self.back.first()).map(|(pane, _)| *pane)
    }

    /// Adds the pane that follows all others.
    pub fn push(&mut self, pane: i64, groups: Accumulators) {
        self.add_to_back(&groups);
        self.back.push((pane, groups));
    }

    /// Adds rows that came for `pane` after younger panes had been pushed.
    pub fn amend(&mut self, pane: i64, mut groups: Accumulators) {
        if self.front.first().is_none_or(|(youngest, _)| *youngest < pane) {
            self.add_to_back(&groups);
            let position = self.back.partition_point(|(held, _)| *held < pane);
            match self.back.get_mut(position) {
                Some((held, own)) if *held == pane => own.combine(&groups),
                _ => self.back.insert(position, (pane, groups)),
            }
            return;
        }
        let older = self.front.partition_point(|(held, _)| *held > pane);
        for (_, suffix) in &mut self.front[older..] {
            suffix.combine(&groups);
        }
        if self.front.get(older).is_some_and(|(held, _)| *held == pane) {
            return;
        }
        if let Some((_, younger)) = older.checked_sub(1).and_then(|index| self.front.get(index)) {
            groups.combine(younger);
        }
        self.front.insert(older, (pane, groups));
    }

    /// Removes the oldest pane. What it returns holds at least the groups of that pane.
    pub fn pop(&mut self) -> Option<(i64, Accumulators)> {
        if self.front.is_empty() {
            self.turn_over();
        }
        self.front.pop()
    }

    fn add_to_back(&mut self, groups: &Accumulators) {
        match self.back.is_empty() {
            true => self.back_total.copy(groups),
            false => self.back_total.combine(groups),
        }
    }

    fn turn_over(&mut self) {
        while let Some((pane, mut groups)) = self.back.pop() {
            if let Some((_, younger)) = self.front.last() {
                groups.combine(younger);
            }
            self.front.push((pane, groups));
        }
    }

    /// Keeps the groups in `slots`, which are all that there are and move together in this order.
    pub fn keep(&mut self, slots: &[u32]) {
        let panes = self.front.iter_mut().chain(&mut self.back).map(|(_, groups)| groups);
        panes.chain([&mut self.back_total]).for_each(|groups| groups.keep(slots));
    }

    /// The suffix aggregates of the front, each with its pane, and the panes of the back.
    pub fn parts(&self) -> [&[(i64, Accumulators)]; 2] {
        [&self.front, &self.back]
    }

    /// Panes of some groups: suffix aggregates in the front, youngest pane first, and panes of the back, oldest first.
    pub fn of_parts(front: Vec<(i64, Accumulators)>, back: Vec<(i64, Accumulators)>, empty: Accumulators) -> Stacks {
        let mut stacks = Stacks { front, back: Vec::new(), back_total: empty };
        back.into_iter().for_each(|(pane, groups)| stacks.push(pane, groups));
        stacks
    }

    /// Adds the groups of other panes, those of each pane to its own.
    pub fn merge(&mut self, mut other: Stacks) {
        let youngest = |stacks: &Stacks| stacks.front.first().map(|(pane, _)| *pane);
        if let Some(edge) = youngest(self).max(youngest(&other)) {
            self.turn_over_until(edge);
            other.turn_over_until(edge);
        }
        let (own, others) = (std::mem::take(&mut self.front), other.front);
        let mut panes: Vec<i64> = own.iter().chain(&others).map(|(pane, _)| *pane).collect();
        panes.sort_unstable_by(|a, b| b.cmp(a));
        panes.dedup();
        for pane in panes {
            // Of each, the aggregate from this pane on: that of its oldest pane which is not older.
            let mut total = self.back_total.empty();
            for front in [&own, &others] {
                let from = front.partition_point(|(held, _)| *held >= pane);
                if let Some((_, suffix)) = from.checked_sub(1).and_then(|index| front.get(index)) {
                    total.combine(suffix);
                }
            }
            self.front.push((pane, total));
        }
        let mut back: BTreeMap<i64, Accumulators> = std::mem::take(&mut self.back).into_iter().collect();
        for (pane, groups) in other.back {
            match back.entry(pane) {
                Entry::Occupied(mut own) => own.get_mut().combine(&groups),
                Entry::Vacant(place) => drop(place.insert(groups)),
            }
        }
        back.into_iter().for_each(|(pane, groups)| self.push(pane, groups));
    }

    /// Brings the panes of the back up to `edge`, none of which is in the front, to the front.
    fn turn_over_until(&mut self, edge: i64) {
        let rest = self.back.split_off(self.back.partition_point(|(pane, _)| *pane <= edge));
        let mut older = std::mem::take(&mut self.front);
        self.turn_over();
        if let Some((_, turned)) = self.front.last() {
            older.iter_mut().for_each(|(_, groups)| groups.combine(turned));
        }
        self.front.append(&mut older);
        rest.into_iter().for_each(|(pane, groups)| self.push(pane, groups));
    }

    /// What together is the aggregate of all panes: none, one or two.
    pub fn totals(&self) -> impl Iterator<Item = &Accumulators> {
        self.front.last().map(|(_, groups)| groups).into_iter().chain((!self.back.is_empty()).then_some(&self.back_total))
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let panes = self.front.iter().chain(&self.back).map(|(_, groups)| groups);
        panes.map(Accumulators::bytes).sum::<usize>() + self.back_total.bytes()
    }
}
