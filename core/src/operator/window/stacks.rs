//! Sliding combination of panes by two stacks.
//!
//! Every window combines its panes in amortised constant work per pane, whatever the window's length and
//! whether or not the aggregate can be subtracted: complete panes are pushed on the back, whose running
//! aggregate is kept; when the front runs empty the back is turned over into suffix aggregates, in place.
//! Source: Tangwongsan, Hirzel, Schneider, "Low-Latency Sliding-Window Aggregation in Worst-Case Constant
//! Time", DEBS 2017, which calls it Two-Stacks.

use crate::operator::window::table::{PaneTable, Row};

/// The panes of the current window.
#[derive(Default)]
pub(super) struct Stacks {
    /// Oldest pane last; each row holds the aggregate of its pane and all younger ones in the front.
    front: Vec<(i64, Row)>,
    /// Youngest pane last, each as it was.
    back: Vec<(i64, Row)>,
    /// The aggregate of the back.
    back_total: Option<Row>,
}

impl Stacks {
    /// The oldest pane.
    pub fn oldest(&self) -> Option<i64> {
        self.front.last().or(self.back.first()).map(|(pane, _)| *pane)
    }

    /// Adds the pane that follows all others.
    pub fn push(&mut self, pane: i64, row: Row, table: &mut PaneTable, slots: usize) {
        let total = *self.back_total.get_or_insert_with(|| table.allocate());
        table.combine(total, row, slots);
        self.back.push((pane, row));
    }

    /// Adds rows that came for `pane` after younger panes had been pushed. Returns `row` if it is no longer needed.
    pub fn amend(&mut self, pane: i64, row: Row, table: &mut PaneTable, slots: usize) -> Option<Row> {
        if self.front.first().is_none_or(|(youngest, _)| *youngest < pane) {
            let total = *self.back_total.get_or_insert_with(|| table.allocate());
            table.combine(total, row, slots);
            return keep_sorted(&mut self.back, pane, row, table, slots);
        }
        let older = self.front.partition_point(|(held, _)| *held > pane);
        for (_, suffix) in &self.front[older..] {
            table.combine(*suffix, row, slots);
        }
        if self.front.get(older).is_some_and(|(held, _)| *held == pane) {
            return Some(row);
        }
        if let Some((_, younger)) = older.checked_sub(1).and_then(|index| self.front.get(index)) {
            table.combine(row, *younger, slots);
        }
        self.front.insert(older, (pane, row));
        None
    }

    /// Removes the oldest pane; its row is the caller's.
    pub fn pop(&mut self, table: &mut PaneTable, slots: usize) -> Option<(i64, Row)> {
        if self.front.is_empty() {
            self.turn_over(table, slots);
        }
        self.front.pop()
    }

    fn turn_over(&mut self, table: &mut PaneTable, slots: usize) {
        while let Some((pane, row)) = self.back.pop() {
            if let Some((_, younger)) = self.front.last() {
                table.combine(row, *younger, slots);
            }
            self.front.push((pane, row));
        }
        if let Some(total) = self.back_total.take() {
            table.release(total, slots);
        }
    }

    /// Rows that together hold the aggregate of all panes: none, one or two.
    pub fn totals(&self) -> impl Iterator<Item = Row> {
        self.front.last().map(|(_, row)| *row).into_iter().chain(self.back_total)
    }
}

/// Combines `row` with that of `pane` if it is held (and returns `row`), else inserts it in order.
fn keep_sorted(panes: &mut Vec<(i64, Row)>, pane: i64, row: Row, table: &mut PaneTable, slots: usize) -> Option<Row> {
    let position = panes.partition_point(|(held, _)| *held < pane);
    match panes.get(position) {
        Some((held, own)) if *held == pane => {
            table.combine(*own, row, slots);
            Some(row)
        }
        _ => {
            panes.insert(position, (pane, row));
            None
        }
    }
}
