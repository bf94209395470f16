//! The right answers, computed by a plain loop over dense arrays.

use std::collections::VecDeque;

use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, Int32Type, Int64Type};

use crate::Result;
use crate::answer::Answer;
use crate::events::{Events, MAX_DELAY};

/// Length of a pane in milliseconds: longer than events are disordered, so that at most two panes get rows at a time.
pub const PANE: i64 = 1_000;
const _: () = assert!(PANE >= MAX_DELAY);

#[derive(Clone, Copy)]
struct Cell {
    n: i64,
    sum: f64,
    min: f64,
    max: f64,
}

const EMPTY: Cell = Cell { n: 0, sum: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY };

impl Cell {
    fn combine(&mut self, other: &Cell) {
        self.n += other.n;
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }
}

/// Windows of some panes each, one beginning with every pane, named by their last pane.
struct Windows {
    keys: usize,
    panes: i64,
    /// The panes that still matter, from number `first` on.
    open: VecDeque<Vec<Cell>>,
    first: i64,
    /// The window to fire next.
    next: i64,
    answer: Answer,
}

impl Windows {
    /// Makes room for rows of `pane` and fires the windows that get no more.
    fn reach(&mut self, pane: i64) {
        while self.first + (self.open.len() as i64) <= pane {
            self.open.push_back(vec![EMPTY; self.keys]);
        }
        self.fire(pane - 2);
    }

    fn fire(&mut self, newest: i64) {
        while self.next <= newest {
            let from = (self.next - self.panes + 1).max(self.first);
            let mut covered =
                self.open.range((from - self.first) as usize..(self.next + 1 - self.first).min(self.open.len() as i64) as usize);
            let mut totals = covered.next().cloned().unwrap_or_default();
            covered.for_each(|pane| totals.iter_mut().zip(pane).for_each(|(total, cell)| total.combine(cell)));
            for total in totals.iter().filter(|total| total.n > 0) {
                self.answer.rows += 1;
                self.answer.n += total.n;
                self.answer.sum += total.sum;
                self.answer.min += total.min;
                self.answer.max += total.max;
                self.answer.mean += total.sum / total.n as f64;
            }
            self.next += 1;
            while self.first < self.next - self.panes + 1 && self.open.pop_front().is_some() {
                self.first += 1;
            }
        }
    }
}

/// Count, sum, min, max and mean over windows of `panes` panes, one beginning with every pane, by one of
/// [`KEYS`](crate::events::KEYS).
pub fn windows(events: &Events, (key, keys): (&str, u32), panes: i64) -> Result<Answer> {
    let index = events.schema.index_of(key)?;
    let mut windows: Option<Windows> = None;
    for batch in &events.batches {
        let times = batch.column(0).as_primitive::<Int64Type>().values();
        let values = batch.column(1).as_primitive::<Float64Type>().values();
        let slots = batch.column(index).as_primitive::<Int32Type>().values();
        let mut last = i64::MIN;
        for ((time, value), slot) in times.iter().zip(values).zip(slots) {
            let pane = time.div_euclid(PANE);
            let windows = windows.get_or_insert_with(|| {
                // The very first rows may lie a pane before the first.
                Windows { keys: keys as usize, panes, open: VecDeque::new(), first: pane - 1, next: pane - 1, answer: Answer::default() }
            });
            if pane > last {
                windows.reach(pane);
                last = pane;
            }
            let cell = &mut windows.open[(pane - windows.first) as usize][*slot as usize];
            cell.combine(&Cell { n: 1, sum: *value, min: *value, max: *value });
        }
    }
    let Some(mut windows) = windows else { return Ok(Answer::default()) };
    windows.fire(windows.first + windows.open.len() as i64 + panes - 2);
    Ok(windows.answer)
}

/// How many windows of `size` milliseconds have a value above `limit`, and how many values there are.
pub fn counts_above(events: &Events, limit: f64, size: i64) -> Answer {
    let mut answer = Answer::default();
    let mut seen = std::collections::BTreeSet::new();
    for batch in &events.batches {
        let times = batch.column(0).as_primitive::<Int64Type>().values();
        let values = batch.column(1).as_primitive::<Float64Type>().values();
        for (time, _) in times.iter().zip(values).filter(|(_, value)| **value > limit) {
            seen.insert(time.div_euclid(size));
            answer.n += 1;
        }
    }
    answer.rows = seen.len() as u64;
    answer
}
