//! Sliding combination of panes by two stacks.
//!
//! Every window combines its panes in amortised constant work per pane, whatever the window's length and
//! whether or not the aggregate can be subtracted: complete panes are pushed on the back, whose running
//! aggregate is kept; when the front runs empty the back is turned over into suffix aggregates, in place.
//! Source: Tangwongsan, Hirzel, Schneider, "Low-Latency Sliding-Window Aggregation in Worst-Case Constant
//! Time", DEBS 2017, which calls it Two-Stacks.

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
