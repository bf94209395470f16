//! The accumulators of a window operator: one row per pane, one column of cells per value column.
//!
//! All rows of a column lie in one allocation, `stride` cells apart, so that a batch that spans panes is
//! accumulated in one kernel call: its slots are simply offset by `row · stride`.

use thalweg_kernels::{Bits, Cell, accumulate, accumulate_count, combine, combine_count, resize_table};

use crate::operator::aggregate::{Lane, ValueColumn, Values};

/// A row of the table: the accumulators of one pane.
pub(super) type Row = u32;

pub(super) struct PaneTable {
    columns: Vec<Column>,
    /// Rows that no column has counted: all of them if there is no value column, else those where the first
    /// value column is null. Empty until there is one.
    counts: Vec<u64>,
    stride: usize,
    rows: u32,
    free: Vec<Row>,
}

struct Column {
    spec: ValueColumn,
    cells: Vec<Cell>,
}

impl PaneTable {
    pub fn new(columns: Vec<ValueColumn>) -> PaneTable {
        let columns = columns.into_iter().map(|spec| Column { spec, cells: Vec::new() }).collect();
        PaneTable { columns, counts: Vec::new(), stride: 0, rows: 0, free: Vec::new() }
    }

    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.columns.iter().map(|column| column.cells.capacity() * size_of::<Cell>()).sum::<usize>() + self.counts.capacity() * 8
    }

    /// Bytes that one more pane would add.
    pub fn bytes_per_row(&self) -> usize {
        self.stride * (self.columns.len() * size_of::<Cell>() + 8)
    }

    /// Makes room for `slots` groups in every row.
    pub fn reserve_slots(&mut self, slots: usize) {
        if slots <= self.stride {
            return;
        }
        let stride = slots.next_power_of_two().max(64);
        for column in &mut self.columns {
            column.cells = spread(&column.cells, self.stride, stride, Cell::EMPTY);
        }
        self.counts = spread(&self.counts, self.stride, stride, 0);
        self.stride = stride;
    }

    /// A row of empty accumulators.
    pub fn allocate(&mut self) -> Row {
        if let Some(row) = self.free.pop() {
            return row;
        }
        let row = self.rows;
        self.rows += 1;
        let cells = self.rows as usize * self.stride;
        for column in &mut self.columns {
            resize_table(&mut column.cells, cells, Cell::EMPTY);
        }
        if self.columns.is_empty() || !self.counts.is_empty() {
            resize_table(&mut self.counts, cells, 0);
        }
        row
    }

    /// Empties the first `slots` accumulators of `row`, the only ones in use, and gives it back.
    pub fn release(&mut self, row: Row, slots: usize) {
        let range = self.range(row, slots);
        for column in &mut self.columns {
            column.cells[range.clone()].fill(Cell::EMPTY);
        }
        if !self.counts.is_empty() {
            self.counts[range].fill(0);
        }
        self.free.push(row);
    }

    /// Adds `values[c]` of each row to the cell `slots[row]` (already offset by the pane's row) of column `c`.
    pub fn accumulate(&mut self, slots: &[u32], values: &[Values]) {
        for (column, values) in self.columns.iter_mut().zip(values) {
            let nulls = match values {
                Values::Float(array) => arrow::array::Array::nulls(array),
                Values::Int(array) => arrow::array::Array::nulls(array),
            };
            let validity = nulls.filter(|nulls| nulls.null_count() > 0).map(|nulls| Bits {
                bytes: nulls.validity(),
                offset: nulls.offset(),
                len: nulls.len(),
            });
            match values {
                Values::Float(array) => accumulate(&mut column.cells, slots, array.values(), validity, column.spec.want),
                Values::Int(array) => accumulate(&mut column.cells, slots, array.values(), validity, column.spec.want),
            }
        }
        match values.first() {
            None => accumulate_count(&mut self.counts, slots),
            Some(Values::Float(array)) => self.count_nulls(slots, arrow::array::Array::nulls(array)),
            Some(Values::Int(array)) => self.count_nulls(slots, arrow::array::Array::nulls(array)),
        }
    }

    fn count_nulls(&mut self, slots: &[u32], nulls: Option<&arrow::buffer::NullBuffer>) {
        let Some(nulls) = nulls.filter(|nulls| nulls.null_count() > 0) else { return };
        self.counts.resize(self.rows as usize * self.stride, 0);
        let null_slots: Vec<u32> = slots.iter().zip(nulls.iter()).filter(|(_, valid)| !valid).map(|(slot, _)| *slot).collect();
        accumulate_count(&mut self.counts, &null_slots);
    }

    /// Adds the first `slots` accumulators of `from` to those of `into`.
    pub fn combine(&mut self, into: Row, from: Row, slots: usize) {
        let (into, from) = (self.range(into, slots), self.range(from, slots));
        for column in &mut self.columns {
            let (target, source) = two(&mut column.cells, into.clone(), from.clone());
            match column.spec.lane {
                Lane::Float => combine::<f64>(target, source),
                Lane::Int => combine::<i64>(target, source),
            }
        }
        if !self.counts.is_empty() {
            let (target, source) = two(&mut self.counts, into, from);
            combine_count(target, source);
        }
    }

    /// The cells of `row`, a slice per value column.
    pub fn cells(&self, row: Row, slots: usize) -> Vec<&[Cell]> {
        let range = self.range(row, slots);
        self.columns.iter().map(|column| &column.cells[range.clone()]).collect()
    }

    /// Rows counted in group `slot` of `row`.
    pub fn count(&self, row: Row, slot: u32) -> u64 {
        let index = row as usize * self.stride + slot as usize;
        let counted = self.columns.first().map_or(0, |column| column.cells[index].count);
        counted + self.counts.get(index).copied().unwrap_or(0)
    }

    /// The groups of `row` that have rows, and how many.
    pub fn live(&self, row: Row, slots: usize, live: &mut Vec<u32>, counts: &mut Vec<i64>) {
        live.clear();
        counts.clear();
        let mut add = |slot: usize, count: u64| {
            if count > 0 {
                live.push(slot as u32);
                counts.push(count as i64);
            }
        };
        let range = self.range(row, slots);
        match (self.columns.first(), self.counts.is_empty()) {
            (Some(column), true) => column.cells[range].iter().enumerate().for_each(|(slot, cell)| add(slot, cell.count)),
            (None, _) => self.counts[range].iter().enumerate().for_each(|(slot, count)| add(slot, *count)),
            (Some(_), false) => (0..slots).for_each(|slot| add(slot, self.count(row, slot as u32))),
        }
    }

    fn range(&self, row: Row, slots: usize) -> std::ops::Range<usize> {
        let start = row as usize * self.stride;
        start..start + slots
    }
}

/// The same rows, `wide` instead of `narrow` elements apart.
fn spread<T: Copy>(values: &[T], narrow: usize, wide: usize, empty: T) -> Vec<T> {
    if values.is_empty() {
        return Vec::new();
    }
    let mut spread = Vec::new();
    resize_table(&mut spread, values.len() / narrow * wide, empty);
    for (to, row) in spread.chunks_exact_mut(wide).zip(values.chunks_exact(narrow)) {
        to[..narrow].copy_from_slice(row);
    }
    spread
}

/// Two ranges of one slice that do not overlap.
fn two<T>(values: &mut [T], a: std::ops::Range<usize>, b: std::ops::Range<usize>) -> (&mut [T], &[T]) {
    if a.start < b.start {
        let (low, high) = values.split_at_mut(b.start);
        (&mut low[a], &high[..b.end - b.start])
    } else {
        let (low, high) = values.split_at_mut(a.start);
        (&mut high[..a.end - a.start], &low[b])
    }
}
