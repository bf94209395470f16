//! The accumulators of some groups: a column of cells per value column, a cell per slot, and one of moments where wanted.

use std::borrow::Cow;

use thalweg_kernels::{Cell, Moments, accumulate_count, accumulate_moments, combine, combine_count, combine_moments, resize_table};

use super::placed::Placed;
use crate::operator::aggregate::{Lane, ValueColumn, Values};
use crate::operator::keys::Slots;

/// See the [module documentation](self). Groups beyond those that rows have reached are empty.
pub(super) struct Accumulators {
    columns: Vec<Column>,
    /// Rows that no column has counted: all of them if there is no value column, else those where the first
    /// value column is null. Empty until there is one.
    counts: Vec<u64>,
}

struct Column {
    spec: ValueColumn,
    cells: Vec<Cell>,
    /// As long as the cells, or empty if nobody wants any.
    moments: Vec<Moments>,
}

impl Column {
    fn new(spec: &ValueColumn) -> Column {
        Column { spec: spec.clone(), cells: Vec::new(), moments: Vec::new() }
    }

    /// Makes room for `groups` groups.
    fn reserve(&mut self, groups: usize) {
        grow(&mut self.cells, groups, Cell::EMPTY);
        if self.spec.moments {
            grow(&mut self.moments, groups, Moments::EMPTY);
        }
    }

    fn accumulate(&mut self, slots: &[u32], values: &Values, placed: &mut Placed) {
        placed.accumulate(&mut self.cells, slots, values);
        if self.spec.moments {
            match values {
                Values::Float(array) => accumulate_moments(&mut self.moments, slots, array.values(), values.validity()),
                Values::Int(array) => accumulate_moments(&mut self.moments, slots, array.values(), values.validity()),
            }
        }
    }

    fn combine(&mut self, from: &Column) {
        self.reserve(from.cells.len());
        let cells = &mut self.cells[..from.cells.len()];
        match self.spec.lane {
            Lane::Float => combine::<f64>(cells, &from.cells),
            Lane::Int => combine::<i64>(cells, &from.cells),
        }
        combine_moments(&mut self.moments[..from.moments.len()], &from.moments);
    }
}

impl Accumulators {
    pub fn new(columns: &[ValueColumn]) -> Accumulators {
        Accumulators { columns: columns.iter().map(Column::new).collect(), counts: Vec::new() }
    }

    /// Accumulators of the same columns, without groups.
    pub fn empty(&self) -> Accumulators {
        Accumulators { columns: self.columns.iter().map(|column| Column::new(&column.spec)).collect(), counts: Vec::new() }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let bytes = |column: &Column| column.cells.capacity() * size_of::<Cell>() + column.moments.capacity() * size_of::<Moments>();
        self.columns.iter().map(bytes).sum::<usize>() + self.counts.capacity() * size_of::<u64>()
    }

    /// Makes room for `groups` groups.
    pub fn reserve(&mut self, groups: usize) {
        self.columns.iter_mut().for_each(|column| column.reserve(groups));
        if self.columns.is_empty() || !self.counts.is_empty() {
            grow(&mut self.counts, groups, 0);
        }
    }

    /// Adds `values[c]` of each row to the cell `slots[row]` of column `c`, by way of `placed[c]`; there must be room.
    /// Counts and sums are complete once [`Accumulators::settle`] was called.
    pub fn accumulate(&mut self, slots: &[u32], values: &[Values], placed: &mut [Placed]) {
        for ((column, values), placed) in self.columns.iter_mut().zip(values).zip(placed) {
            column.accumulate(slots, values, placed);
        }
        match values.first().map(Values::nulls) {
            None => accumulate_count(&mut self.counts, slots),
            Some(None) => {}
            Some(Some(nulls)) => {
                grow(&mut self.counts, self.columns[0].cells.len(), 0);
                let null_slots: Vec<u32> = slots.iter().zip(nulls.iter()).filter(|(_, valid)| !valid).map(|(slot, _)| *slot).collect();
                accumulate_count(&mut self.counts, &null_slots);
            }
        }
    }

    /// Completes the cells whose rows went by way of `placed`.
    pub fn settle(&mut self, placed: &mut [Placed]) {
        self.columns.iter_mut().zip(placed).for_each(|(column, placed)| placed.settle(&mut column.cells));
    }

    /// Adds the groups of `from` to those in the same slots here.
    pub fn combine(&mut self, from: &Accumulators) {
        self.columns.iter_mut().zip(&from.columns).for_each(|(into, from)| into.combine(from));
        if !from.counts.is_empty() {
            grow(&mut self.counts, from.counts.len(), 0);
            combine_count(&mut self.counts[..from.counts.len()], &from.counts);
        }
    }

    /// Becomes the groups of `from` in other slots, of which there are `groups`: group `s` moves to `slots[s]`.
    pub fn place(&mut self, from: &Accumulators, slots: &[u32], groups: usize) {
        for (into, from) in self.columns.iter_mut().zip(&from.columns) {
            place(&mut into.cells, &from.cells, Cell::EMPTY, slots, groups);
            place(&mut into.moments, &from.moments, Moments::EMPTY, slots, if into.spec.moments { groups } else { 0 });
        }
        place(&mut self.counts, &from.counts, 0, slots, if from.counts.is_empty() { 0 } else { groups });
    }

    /// Becomes a copy of `from`, in the memory that is here.
    pub fn copy(&mut self, from: &Accumulators) {
        for (into, from) in self.columns.iter_mut().zip(&from.columns) {
            into.cells.clone_from(&from.cells);
            into.moments.clone_from(&from.moments);
        }
        self.counts.clone_from(&from.counts);
    }

    /// The cells of each column in `slots`.
    pub fn cells(&self, slots: &Slots<'_>) -> Vec<Cow<'_, [Cell]>> {
        self.columns.iter().map(|column| slots.of(&column.cells)).collect()
    }

    /// The moments of each column in `slots`; none of a column that has none.
    pub fn moments(&self, slots: &Slots<'_>) -> Vec<Cow<'_, [Moments]>> {
        let moments = self.columns.iter().map(|column| match column.spec.moments {
            true => slots.of(&column.moments),
            false => Cow::Borrowed(&[][..]),
        });
        moments.collect()
    }

    /// Rows counted in group `slot`.
    pub fn count(&self, slot: u32) -> u64 {
        let counted = self.columns.first().and_then(|column| column.cells.get(slot as usize)).map_or(0, |cell| cell.count);
        counted + self.counts.get(slot as usize).copied().unwrap_or(0)
    }

    /// The groups that have rows.
    pub fn live(&self, live: &mut Vec<u32>) {
        live.clear();
        let groups = self.columns.first().map_or(self.counts.len(), |column| column.cells.len());
        live.extend((0..groups as u32).filter(|&slot| self.count(slot) > 0));
    }

    /// Empties the first `groups` groups, the only ones in use.
    pub fn clear(&mut self, groups: usize) {
        for column in &mut self.columns {
            clear(&mut column.cells, Cell::EMPTY, groups);
            clear(&mut column.moments, Moments::EMPTY, groups);
        }
        clear(&mut self.counts, 0, groups);
    }
}

/// Empties the first `groups` values, or all if there are fewer.
fn clear<T: Copy>(values: &mut [T], empty: T, groups: usize) {
    let used = groups.min(values.len());
    values[..used].fill(empty);
}

/// Makes room for `groups` groups.
fn grow<T: Copy>(values: &mut Vec<T>, groups: usize, empty: T) {
    if values.len() < groups {
        resize_table(values, groups, empty);
    }
}

/// Fills `into` with `groups` values: those of `from` in `slots`, each in one of its own, and `empty` in all others.
fn place<T: Copy>(into: &mut Vec<T>, from: &[T], empty: T, slots: &[u32], groups: usize) {
    into.truncate(groups);
    if slots.len().min(from.len()) < groups {
        into.fill(empty);
    }
    resize_table(into, groups, empty);
    slots.iter().zip(from).for_each(|(&slot, value)| into[slot as usize] = *value);
}
