//! Rows in the order of arrival, told apart by group all at once.
//!
//! To take a row costs no more than its bytes, whereas the list of its group lies anywhere in memory. A log is for groups that are asked for
//! together and once: those of a pane. Tables of one input share it.

use std::ops::Range;
use std::sync::Arc;

use arrow::buffer::NullBuffer;
use thalweg_kernels::group_runs;

use super::super::table::Table;
use super::super::values::Values;
use crate::operator::keys::Slots;

/// Rows to a group, on average, that are kept: with more, a sketch may be smaller than they are.
const ROWS_PER_GROUP: usize = 16;

/// Rows that are kept in any case.
const LEAST_ROWS: usize = 4_096;

/// Values of one input.
pub(crate) enum Items {
    Floats(Vec<f64>),
    /// Hashes.
    Words(Vec<u64>),
}

/// All rows of some groups, by group; within one they are in order of arrival.
pub(crate) struct Runs {
    /// Where the items of each group begin, and those of the last end.
    starts: Vec<u32>,
    items: Items,
}

/// Rows of one input, with the groups that they are of.
pub(crate) struct Log {
    pub input: usize,
    /// The tables that they are for.
    pub tables: Vec<usize>,
    /// Whether rows may wait here: no others of these groups are elsewhere.
    open: bool,
    /// Groups that there are.
    groups: usize,
    slots: Vec<u32>,
    items: Items,
    /// The memory of the rows that were told apart last.
    runs: Arc<Runs>,
}

impl Items {
    const NONE: Items = Items::Words(Vec::new());

    fn bytes(&self) -> usize {
        match self {
            Items::Floats(floats) => floats.capacity() * size_of::<f64>(),
            Items::Words(words) => words.capacity() * size_of::<u64>(),
        }
    }

    fn clear(&mut self) {
        match self {
            Items::Floats(floats) => floats.clear(),
            Items::Words(words) => words.clear(),
        }
    }

    /// Adds the values that are not null; all are of one kind.
    fn extend(&mut self, values: &Values, nulls: Option<&NullBuffer>) {
        fn add<T: Copy>(items: &mut Vec<T>, values: &[T], nulls: Option<&NullBuffer>) {
            match nulls {
                None => items.extend_from_slice(values),
                Some(nulls) => items.extend(nulls.valid_indices().map(|row| values[row])),
            }
        }
        match (self, values) {
            (Items::Floats(floats), Values::Float(array)) => add(floats, array.values(), nulls),
            (Items::Words(words), Values::Hash(array)) => add(words, array.values(), nulls),
            (items @ Items::Words(_), Values::Float(_)) => {
                *items = Items::Floats(Vec::new());
                items.extend(values, nulls);
            }
            _ => unreachable!("rows that wait are floats or hashes"),
        }
    }

    /// Becomes the items of `rows`, the group of each of which is in `slots`, by group.
    fn group(&mut self, slots: &[u32], rows: &Items, starts: &mut [u32]) {
        fn put<T: Copy + Default>(grouped: &mut Vec<T>, slots: &[u32], rows: &[T], starts: &mut [u32]) {
            grouped.resize(rows.len(), T::default());
            group_runs(slots, rows, starts, grouped);
        }
        match (self, rows) {
            (Items::Floats(grouped), Items::Floats(rows)) => put(grouped, slots, rows, starts),
            (Items::Words(grouped), Items::Words(rows)) => put(grouped, slots, rows, starts),
            (grouped, rows) => {
                *grouped = match rows {
                    Items::Floats(_) => Items::Floats(Vec::new()),
                    Items::Words(_) => Items::NONE,
                };
                grouped.group(slots, rows, starts);
            }
        }
    }
}

impl Runs {
    fn none() -> Arc<Runs> {
        Arc::new(Runs { starts: Vec::new(), items: Items::NONE })
    }

    /// How many groups there are.
    pub fn groups(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// All rows by group.
    pub fn items(&self) -> &Items {
        &self.items
    }

    /// Where the rows of a group are.
    pub fn of(&self, slot: u32) -> Range<usize> {
        let slot = slot as usize;
        self.starts.get(slot..slot + 2).map_or(0..0, |run| run[0] as usize..run[1] as usize)
    }

    /// Where the rows of each of `slots` begin and those of the last end, if the slots lie side by side, and none has more than `most`
    /// rows.
    pub fn short(&self, slots: &Slots<'_>, most: usize) -> Option<&[u32]> {
        let Slots::Range(range) = slots else { return None };
        let starts = self.starts.get(range.start..=range.end)?;
        let longest = starts.windows(2).fold(0, |longest, run| longest.max(run[1] - run[0]));
        (longest as usize <= most).then_some(starts)
    }

    /// The part of its bytes that falls to one who holds it, so that those of all who do add up.
    pub fn share(runs: &Arc<Runs>) -> usize {
        (runs.starts.capacity() * size_of::<u32>() + runs.items.bytes()) / Arc::strong_count(runs)
    }
}

impl Log {
    /// Rows of the input `input` for the table of that number.
    pub fn new(input: usize, table: usize) -> Log {
        Log { input, tables: vec![table], open: true, groups: 0, slots: Vec::new(), items: Items::NONE, runs: Runs::none() }
    }

    /// Makes room for `groups` groups.
    pub fn reserve(&mut self, groups: usize) {
        self.groups = self.groups.max(groups);
    }

    /// Whether rows may wait here.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Whether no rows wait.
    pub fn is_settled(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether its rows are for the table of that number.
    pub fn is_of(&self, table: usize) -> bool {
        self.tables.contains(&table)
    }

    /// Takes rows that are not null of the groups `slots`, if they may wait. `values` are all inputs of the rows.
    pub fn take(&mut self, slots: &[u32], values: &[Values]) -> bool {
        let most = (ROWS_PER_GROUP * self.groups).max(LEAST_ROWS);
        if !self.open || self.slots.len() + slots.len() > most {
            return false;
        }
        let values = &values[self.input];
        let nulls = values.nulls();
        match &nulls {
            None => self.slots.extend_from_slice(slots),
            Some(nulls) => self.slots.extend(nulls.valid_indices().map(|row| slots[row])),
        }
        self.items.extend(values, nulls.as_ref());
        true
    }

    /// Gives the rows that wait to their tables, told apart by group. Others do not wait then until all are forgotten.
    pub fn settle(&mut self, tables: &mut [Box<dyn Table>]) {
        if self.slots.is_empty() {
            return;
        }
        if Arc::get_mut(&mut self.runs).is_none() {
            self.runs = Runs::none();
        }
        if let Some(Runs { starts, items }) = Arc::get_mut(&mut self.runs) {
            starts.resize(self.groups + 1, 0);
            items.group(&self.slots, &self.items, starts);
        }
        self.tables.iter().for_each(|&table| tables[table].take_runs(&self.runs));
        self.slots.clear();
        self.items.clear();
        self.open = false;
    }

    /// Lets no rows wait until all are forgotten.
    pub fn close(&mut self, tables: &mut [Box<dyn Table>]) {
        self.settle(tables);
        self.open = false;
    }

    /// Forgets all rows; others may wait again.
    pub fn clear(&mut self) {
        self.slots.clear();
        self.items.clear();
        (self.open, self.groups) = (true, 0);
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<u32>() + self.items.bytes() + Runs::share(&self.runs)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
    use proptest::prelude::*;

    use crate::operator::aggregate::{Accumulators, Aggregates, Spans, approx_distinct, median, quantile};
    use crate::operator::keys::Slots;
    use crate::time::Unit;

    /// Rows of a batch: the group and the value of each; and whether the groups are settled after it.
    type Step = (Vec<(u32, Option<u8>)>, bool);

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("value", DataType::Float64, true), Field::new("number", DataType::Int64, true)]))
    }

    fn aggregates() -> Aggregates {
        let distinct = approx_distinct("value").alias("some").filter("value > 100");
        let wanted = [approx_distinct("value"), median("value"), quantile("value", 0.99), approx_distinct("number"), distinct];
        Aggregates::new(&wanted, &schema()).unwrap()
    }

    /// Some of all that a float can be.
    fn float(byte: u8) -> f64 {
        let others = [0.0, -0.0, f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.5];
        others.get(usize::from(byte)).copied().unwrap_or(f64::from(byte))
    }

    fn take(groups: &mut Accumulators, aggregates: &Aggregates, rows: &[(u32, Option<u8>)], all: usize) {
        let values: Float64Array = rows.iter().map(|(_, value)| value.map(float)).collect();
        let numbers: Int64Array = rows.iter().map(|(_, value)| value.map(i64::from)).collect();
        let records = RecordBatch::try_new(schema(), vec![Arc::new(values) as ArrayRef, Arc::new(numbers)]).unwrap();
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
