//! Rows in the order of arrival, told apart by group all at once.
//!
//! To take a row costs no more than its bytes, whereas the list of its group lies anywhere in memory. A log is for groups that are asked for
//! together and once: those of a pane.

use arrow::buffer::NullBuffer;
use thalweg_kernels::order_by_part;

use crate::operator::keys::Slots;

/// Rows to a group, on average, that are kept: with more, a sketch may be smaller than they are.
const ROWS_PER_GROUP: usize = 16;

/// Rows that are kept in any case.
const LEAST_ROWS: usize = 4_096;

/// Rows with the groups that they are of; once [settled](Log::settle), by group.
#[derive(Clone)]
pub(super) struct Log<T> {
    /// Whether rows may wait here at all.
    defers: bool,
    /// Whether they still may: no other rows of these groups are elsewhere.
    open: bool,
    slots: Vec<u32>,
    items: Vec<T>,
    /// Where the items of each group begin, once they lie by group; else empty.
    starts: Vec<u32>,
    /// Room to put them in order.
    sorted: Vec<T>,
}

/// The order of the rows that were told apart last. Tables that took the same rows need it once.
#[derive(Default)]
pub(crate) struct Order {
    slots: Vec<u32>,
    starts: Vec<u32>,
    rows: Vec<u32>,
}

impl Order {
    /// Forgets it and keeps the memory for others.
    pub fn clear(&mut self) {
        self.slots.clear();
        self.starts.clear();
    }

    /// Becomes that of rows of the groups `slots`, of which there are `groups`.
    fn become_of(&mut self, slots: &[u32], groups: usize) {
        if self.starts.len() == groups + 1 && self.slots == slots {
            return;
        }
        self.slots.clear();
        self.slots.extend_from_slice(slots);
        self.starts.resize(groups + 1, 0);
        self.rows.resize(slots.len(), 0);
        order_by_part(slots, &mut self.starts, &mut self.rows);
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        (self.slots.capacity() + self.starts.capacity() + self.rows.capacity()) * size_of::<u32>()
    }
}

impl<T: Copy> Log<T> {
    /// A log that takes no rows until it is told to.
    pub fn new() -> Log<T> {
        Log { defers: false, open: false, slots: Vec::new(), items: Vec::new(), starts: Vec::new(), sorted: Vec::new() }
    }

    /// Lets rows wait until they are settled.
    pub fn defer(&mut self) {
        (self.defers, self.open) = (true, true);
    }

    /// Whether so many more rows of `groups` groups may wait here.
    pub fn takes(&self, rows: usize, groups: usize) -> bool {
        self.open && self.starts.is_empty() && self.items.len() + rows <= (ROWS_PER_GROUP * groups).max(LEAST_ROWS)
    }

    /// Takes the rows that are not null.
    pub fn extend(&mut self, slots: &[u32], items: &[T], nulls: Option<&NullBuffer>) {
        match nulls {
            None => {
                self.slots.extend_from_slice(slots);
                self.items.extend_from_slice(items);
            }
            Some(nulls) => {
                let valid = || nulls.valid_indices();
                self.slots.extend(valid().map(|row| slots[row]));
                self.items.extend(valid().map(|row| items[row]));
            }
        }
    }

    /// Tells the rows apart by group, of which there are `groups`; within one they stay in order.
    pub fn settle(&mut self, groups: usize, order: &mut Order) {
        if self.items.is_empty() || !self.starts.is_empty() {
            return;
        }
        order.become_of(&self.slots, groups);
        self.starts.clone_from(&order.starts);
        self.sorted.clear();
        self.sorted.extend(order.rows.iter().map(|&row| self.items[row as usize]));
        std::mem::swap(&mut self.items, &mut self.sorted);
    }

    /// The rows of a group, if they are settled.
    pub fn of(&self, slot: u32) -> &[T] {
        let slot = slot as usize;
        match self.starts.get(slot..slot + 2) {
            Some(run) => &self.items[run[0] as usize..run[1] as usize],
            None => {
                debug_assert!(self.items.is_empty() || !self.starts.is_empty(), "rows that wait are settled before they are asked for");
                &[]
            }
        }
    }

    /// Where the rows of each of `slots` begin and those of the last end, and all rows by group; if they are settled, the slots lie
    /// side by side, and none has more than `most` rows.
    pub fn runs(&self, slots: &Slots<'_>, most: usize) -> Option<(&[u32], &[T])> {
        let Slots::Range(range) = slots else { return None };
        let starts = self.starts.get(range.start..=range.end)?;
        let fits = |run: &[u32]| (run[1] - run[0]) as usize <= most;
        starts.windows(2).all(fits).then_some((starts, &self.items))
    }

    /// Gives each row with its group to `take`, and lets no more wait until all are forgotten.
    pub fn give(&mut self, mut take: impl FnMut(u32, T)) {
        self.open = false;
        if self.starts.is_empty() {
            self.slots.iter().zip(&self.items).for_each(|(&slot, &item)| take(slot, item));
        } else {
            let runs = (0u32..).zip(self.starts.windows(2));
            runs.for_each(|(slot, run)| self.items[run[0] as usize..run[1] as usize].iter().for_each(|&item| take(slot, item)));
        }
        self.empty();
    }

    /// Forgets all rows; others may wait again.
    pub fn clear(&mut self) {
        self.open = self.defers;
        self.empty();
    }

    fn empty(&mut self) {
        self.slots.clear();
        self.items.clear();
        self.starts.clear();
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let words = self.slots.capacity() + self.starts.capacity();
        words * size_of::<u32>() + (self.items.capacity() + self.sorted.capacity()) * size_of::<T>()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Schema};
    use proptest::prelude::*;

    use crate::operator::aggregate::{Accumulators, Aggregates, Spans, approx_distinct, median, quantile};
    use crate::operator::keys::Slots;
    use crate::time::Unit;

    /// Rows of a batch: the group and the value of each; and whether the groups are settled after it.
    type Step = (Vec<(u32, Option<u8>)>, bool);

    fn aggregates() -> Aggregates {
        let schema = Arc::new(Schema::new(vec![Field::new("value", DataType::Float64, true)]));
        let wanted = [approx_distinct("value"), median("value"), quantile("value", 0.99), approx_distinct("value").filter("value > 100")];
        Aggregates::new(&wanted, &schema).unwrap()
    }

    fn take(groups: &mut Accumulators, aggregates: &Aggregates, rows: &[(u32, Option<u8>)], all: usize) {
        let values: Float64Array = rows.iter().map(|(_, value)| value.map(f64::from)).collect();
        let schema = Arc::new(Schema::new(vec![Field::new("value", DataType::Float64, true)]));
        let records = RecordBatch::try_new(schema, vec![Arc::new(values) as ArrayRef]).unwrap();
        let values = aggregates.values(&records, &vec![0; rows.len()].into()).unwrap();
        let slots: Vec<u32> = rows.iter().map(|(slot, _)| *slot).collect();
        groups.reserve(all);
        groups.accumulate(&slots, &values, 0, &mut []).unwrap();
    }

    fn finished(groups: &Accumulators, aggregates: &Aggregates, slots: &Slots<'_>) -> Vec<ArrayRef> {
        let spans = Spans::same((0, 1_000), slots.len(), Unit::Millisecond);
        aggregates.finish(groups, slots, &spans).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn rows_that_wait_give_what_rows_give_that_do_not(
            groups in 1..40_u32,
            steps in prop::collection::vec((prop::collection::vec((0..40_u32, prop::option::weighted(0.9, any::<u8>())), 0..3_000), any::<bool>()), 1..5),
            chosen in prop::collection::vec(0..40_u32, 1..8),
        ) {
            let steps: Vec<Step> = steps;
            let (aggregates, all) = (aggregates(), groups as usize);
            let (mut waiting, mut plain) = (Accumulators::new(&aggregates).deferring(), Accumulators::new(&aggregates));
            for round in 0..2 {
                for (rows, settles) in &steps {
                    let rows: Vec<_> = rows.iter().map(|(slot, value)| (slot % groups, *value)).collect();
                    take(&mut waiting, &aggregates, &rows, all);
                    take(&mut plain, &aggregates, &rows, all);
                    if *settles {
                        waiting.settle(&mut []);
                    }
                }
                waiting.settle(&mut []);
                let chosen: Vec<u32> = chosen.iter().map(|slot| slot % groups).collect();
                for slots in [Slots::Range(0..all), Slots::List(&chosen)] {
                    let (found, expected) = (finished(&waiting, &aggregates, &slots), finished(&plain, &aggregates, &slots));
                    prop_assert_eq!(found, expected, "round {}", round);
                }
                let mut copied = Accumulators::new(&aggregates);
                copied.combine(&waiting);
                prop_assert_eq!(finished(&copied, &aggregates, &Slots::Range(0..all)), finished(&plain, &aggregates, &Slots::Range(0..all)));
                let mut loaded = Accumulators::new(&aggregates);
                let rows: Vec<u32> = (0..groups).collect();
                loaded.load(&waiting.save(&Slots::Range(0..all)).unwrap(), &rows).unwrap();
                prop_assert_eq!(finished(&loaded, &aggregates, &Slots::Range(0..all)), finished(&plain, &aggregates, &Slots::Range(0..all)));
                waiting.clear(all);
                plain.clear(all);
            }
        }
    }
}
