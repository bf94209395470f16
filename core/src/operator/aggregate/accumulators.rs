//! The accumulators of some groups: a column of cells for each input that is counted, summed or ordered, and the tables of all
//! other states.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowPrimitiveType, LargeBinaryArray, LargeBinaryBuilder, PrimitiveArray};
use arrow::datatypes::{TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType};
use thalweg_kernels::{Cell, accumulate_count, combine, combine_at, combine_count, gather, resize_table, sum_at};

use super::resolve::{CellColumn, Parts};
use super::table::Table;
use super::tables::Log;
use super::{Aggregates, Lane, Placed, Values};
use crate::error::Result;
use crate::operator::keys::Slots;
use crate::state::{Reader, Writer};
use crate::time::Unit;

/// See the [module documentation](self). Groups beyond those that rows have reached are empty.
pub(crate) struct Accumulators {
    columns: Vec<Column>,
    tables: Vec<Box<dyn Table>>,
    /// Rows that no column has counted: all of them if there is no column, else those where the first column's input is null.
    /// Empty until there is one.
    counts: Vec<u64>,
    /// Rows that wait for tables; none if they may not.
    logs: Vec<Log>,
}

struct Column {
    spec: CellColumn,
    cells: Vec<Cell>,
}

impl Column {
    fn new(spec: &CellColumn) -> Column {
        Column { spec: spec.clone(), cells: Vec::new() }
    }

    fn combine(&mut self, from: &[Cell]) {
        grow(&mut self.cells, from.len(), Cell::EMPTY);
        self.combine_from(0, from);
    }

    fn combine_from(&mut self, start: usize, from: &[Cell]) {
        let cells = &mut self.cells[start..start + from.len()];
        match self.spec.lane {
            Lane::Float => combine::<f64>(cells, from),
            Lane::Int => combine::<i64>(cells, from),
        }
    }

    fn combine_at(&mut self, slots: &[u32], from: &[Cell]) {
        match self.spec.lane {
            Lane::Float => combine_at::<f64>(&mut self.cells, slots, from),
            Lane::Int => combine_at::<i64>(&mut self.cells, slots, from),
        }
    }

    fn sum_at(&mut self, slots: &[u32], a: &[Cell], b: &[Cell]) {
        match self.spec.lane {
            Lane::Float => sum_at::<f64>(&mut self.cells, slots, a, b),
            Lane::Int => sum_at::<i64>(&mut self.cells, slots, a, b),
        }
    }
}

impl Accumulators {
    pub fn new(aggregates: &Aggregates) -> Accumulators {
        Accumulators {
            columns: aggregates.columns.iter().map(Column::new).collect(),
            tables: aggregates.tables.iter().map(|table| table.empty()).collect(),
            counts: Vec::new(),
            logs: Vec::new(),
        }
    }

    /// Accumulators of the same columns, without groups.
    pub fn empty(&self) -> Accumulators {
        Accumulators {
            columns: self.columns.iter().map(|column| Column::new(&column.spec)).collect(),
            tables: self.tables.iter().map(|table| table.empty()).collect(),
            counts: Vec::new(),
            logs: Vec::new(),
        }
    }

    /// Whether some of what is held is no cell nor count.
    pub fn has_tables(&self) -> bool {
        !self.tables.is_empty()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let cells: usize = self.columns.iter().map(|column| column.cells.capacity() * size_of::<Cell>()).sum();
        let tables: usize = self.tables.iter().map(|table| table.bytes()).sum();
        let logs: usize = self.logs.iter().map(Log::bytes).sum();
        cells + tables + self.counts.capacity() * size_of::<u64>() + logs
    }

    /// Groups that there is room for; of tables it is not known.
    pub fn room(&self) -> usize {
        self.columns.iter().map(|column| column.cells.capacity()).chain([self.counts.capacity()]).max().unwrap_or(0)
    }

    /// Makes room for `groups` groups.
    pub fn reserve(&mut self, groups: usize) {
        self.columns.iter_mut().for_each(|column| grow(&mut column.cells, groups, Cell::EMPTY));
        self.tables.iter_mut().for_each(|table| table.reserve(groups));
        self.logs.iter_mut().for_each(|log| log.reserve(groups));
        if self.columns.is_empty() || !self.counts.is_empty() {
            grow(&mut self.counts, groups, 0);
        }
    }

    /// Takes rows into the groups `slots`, for which there must be room. `values` are all inputs of the rows, cells get theirs by
    /// way of `placed`; `sequence` is the number of the first row in order of arrival. Counts and sums are complete once
    /// [`Accumulators::settle`] was called.
    ///
    /// # Errors
    /// If Arrow cannot convert a column, which would be a defect.
    pub fn accumulate(&mut self, slots: &[u32], values: &[Values], sequence: u64, placed: &mut [Placed]) -> Result<()> {
        self.accumulate_rows(slots, values, 0..slots.len(), placed);
        for log in &mut self.logs {
            if !log.take(slots, values) {
                log.close(&mut self.tables);
            }
        }
        let waits = |table: usize| self.logs.iter().any(|log| log.is_open() && log.is_of(table));
        let tables = self.tables.iter_mut().enumerate().filter(|(number, _)| !waits(*number));
        tables.map(|(_, table)| table).try_for_each(|table| table.accumulate(slots, values, sequence))
    }

    /// The same of a range of the rows that `values` are of: the group of row `rows.start + i` is `slots[i]`. Not for tables.
    pub fn accumulate_rows(&mut self, slots: &[u32], values: &[Values], rows: Range<usize>, placed: &mut [Placed]) {
        for (column, placed) in self.columns.iter_mut().zip(placed) {
            placed.accumulate(&mut column.cells, slots, &values[column.spec.input], rows.clone());
        }
        let Some(first) = self.columns.first() else { return accumulate_count(&mut self.counts, slots) };
        let nulls = values[first.spec.input].nulls().map(|nulls| nulls.slice(rows.start, rows.len()));
        if let Some(nulls) = nulls.filter(|nulls| nulls.null_count() > 0) {
            self.count_rows();
            let null_slots: Vec<u32> = slots.iter().zip(nulls.iter()).filter(|(_, valid)| !valid).map(|(slot, _)| *slot).collect();
            accumulate_count(&mut self.counts, &null_slots);
        }
    }

    /// Lets rows wait until [`Accumulators::settle`], which is then called before anything is asked of the groups or done with them.
    pub fn deferring(mut self) -> Accumulators {
        for (number, table) in self.tables.iter().enumerate() {
            let Some(input) = table.waits_for() else { continue };
            match self.logs.iter_mut().find(|log| log.input == input) {
                Some(log) => log.tables.push(number),
                None => self.logs.push(Log::new(input, number)),
            }
        }
        self
    }

    /// Completes the groups: the cells whose rows went by way of `placed`, and the tables whose rows wait.
    pub fn settle(&mut self, placed: &mut [Placed]) {
        self.columns.iter_mut().zip(placed).for_each(|(column, placed)| placed.settle(&mut column.cells));
        self.logs.iter_mut().for_each(|log| log.settle(&mut self.tables));
    }

    /// Lets no rows wait until all groups are cleared, as some get other rows.
    fn close(&mut self) {
        self.logs.iter_mut().for_each(|log| log.close(&mut self.tables));
    }

    /// Adds the groups of `from` to those in the same slots here.
    pub fn combine(&mut self, from: &Accumulators) {
        self.close();
        self.columns.iter_mut().zip(&from.columns).for_each(|(into, from)| into.combine(&from.cells));
        self.tables.iter_mut().zip(&from.tables).for_each(|(into, from)| into.combine(from.as_ref()));
        if !from.counts.is_empty() {
            grow(&mut self.counts, from.counts.len(), 0);
            combine_count(&mut self.counts[..from.counts.len()], &from.counts);
        }
    }

    /// Becomes the groups of `from` in other slots, of which there are `groups`: group `s` moves to `slots[s]`.
    pub fn place(&mut self, from: &Accumulators, slots: &[u32], groups: usize) {
        self.close();
        for (into, from) in self.columns.iter_mut().zip(&from.columns) {
            place(&mut into.cells, &from.cells, Cell::EMPTY, slots, groups);
        }
        self.tables.iter_mut().zip(&from.tables).for_each(|(into, from)| into.place(from.as_ref(), slots, groups));
        place(&mut self.counts, &from.counts, 0, slots, if from.counts.is_empty() { 0 } else { groups });
    }

    /// Adds the groups of `from` to those in other slots here, of which there are `groups`: group `s` to that in `slots[s]`. `moved` is
    /// room for what tables have for them, in the slots here.
    pub fn absorb(&mut self, from: &Accumulators, slots: &[u32], groups: usize, moved: &mut Option<Accumulators>) {
        self.close();
        self.reserve(groups);
        self.combine_at(slots, from);
        if self.tables.is_empty() {
            return;
        }
        let moved = moved.get_or_insert_with(|| self.empty());
        for ((into, moved), from) in self.tables.iter_mut().zip(&mut moved.tables).zip(&from.tables) {
            moved.place(from.as_ref(), slots, groups);
            into.combine(moved.as_ref());
        }
    }

    /// Becomes the groups `slots` of `from`, in that order; groups beyond those that it has are empty.
    pub fn gather(&mut self, from: &Accumulators, slots: &[u32]) {
        self.close();
        for (into, from) in self.columns.iter_mut().zip(&from.columns) {
            into.cells.clear();
            into.cells.extend(slots.iter().map(|&slot| from.cells.get(slot as usize).copied().unwrap_or(Cell::EMPTY)));
        }
        self.tables.iter_mut().zip(&from.tables).for_each(|(into, from)| into.gather(from.as_ref(), slots));
        self.counts.clear();
        if !from.counts.is_empty() {
            self.counts.extend(slots.iter().map(|&slot| from.counts.get(slot as usize).copied().unwrap_or(0)));
        }
    }

    /// Becomes its own groups in `slots`, in that order, in no more memory than they need. Rows that wait have been settled.
    pub fn keep(&mut self, slots: &[u32]) {
        let mut kept = self.empty();
        kept.gather(self, slots);
        *self = kept;
    }

    /// Adds each group of `from` to group `slots[s]` here, of which there are `groups`; several may go to one.
    pub fn add_at(&mut self, from: &Accumulators, slots: &[u32], groups: usize) {
        self.reserve(groups);
        let mut rounds: Vec<(Vec<u32>, Vec<u32>)> = Vec::new();
        let mut seen: HashMap<u32, usize> = HashMap::with_capacity(slots.len());
        for (group, &slot) in (0u32..).zip(slots) {
            let round = seen.entry(slot).and_modify(|round| *round += 1).or_insert(0);
            if *round == rounds.len() {
                rounds.push((Vec::new(), Vec::new()));
            }
            let (from, into) = &mut rounds[*round];
            from.push(group);
            into.push(slot);
        }
        let (mut chosen, mut placed) = (self.empty(), self.empty());
        for (from_slots, into) in rounds {
            chosen.gather(from, &from_slots);
            placed.place(&chosen, &into, groups);
            self.combine(&placed);
        }
    }

    /// The groups of `slots` as bytes, for a snapshot.
    ///
    /// # Errors
    /// If an aggregate of the user's own cannot be saved.
    pub fn save(&self, slots: &Slots<'_>) -> Result<LargeBinaryArray> {
        let (mut states, mut out) = (LargeBinaryBuilder::new(), Writer::default());
        for slot in slots.map(|slot| slot) {
            for column in &self.columns {
                out.words(&column.cells.get(slot as usize).unwrap_or(&Cell::EMPTY).to_words());
            }
            self.tables.iter().try_for_each(|table| table.save(slot, &mut out))?;
            out.word(self.counts.get(slot as usize).copied().unwrap_or(0));
            states.append_value(out.take());
        }
        Ok(states.finish())
    }

    /// Becomes the groups that were saved as `states[rows]`, in that order. It has none.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if the bytes are not those of such groups.
    pub fn load(&mut self, states: &LargeBinaryArray, rows: &[u32]) -> Result<()> {
        self.close();
        self.reserve(rows.len());
        let mut counts = Vec::with_capacity(rows.len());
        for (slot, &row) in rows.iter().enumerate() {
            let mut from = Reader::new(states.value(row as usize));
            for column in &mut self.columns {
                column.cells[slot] = Cell::from_words(from.words()?);
            }
            for table in &mut self.tables {
                table.load(slot as u32, &mut from)?;
            }
            counts.push(from.word()?);
            from.end()?;
        }
        if self.columns.is_empty() || counts.iter().any(|&count| count > 0) {
            self.counts = counts;
        }
        Ok(())
    }

    /// Becomes a copy of `from`, in the memory that is here.
    pub fn copy(&mut self, from: &Accumulators) {
        self.close();
        self.columns.iter_mut().zip(&from.columns).for_each(|(into, from)| into.cells.clone_from(&from.cells));
        self.tables.iter_mut().zip(&from.tables).for_each(|(into, from)| into.copy(from.as_ref()));
        self.counts.clone_from(&from.counts);
    }

    /// Becomes a copy of the columns and tables `parts` of `from`, which has `groups` groups, in the memory that is here.
    pub fn copy_parts(&mut self, from: &Accumulators, parts: &Parts, groups: usize) {
        self.close();
        self.columns.iter_mut().zip(&parts.columns).for_each(|(into, &part)| into.cells.clone_from(&from.columns[part].cells));
        self.tables.iter_mut().zip(&parts.tables).for_each(|(into, &part)| into.copy(from.tables[part].as_ref()));
        self.counts.clear();
        self.reserve(groups);
        // The first column here may be another than there, and count other rows.
        let counted = |slot: usize| self.columns.first().map_or(0, |column| column.cells[slot].count);
        let counts = (0..groups).map(|slot| from.count(slot as u32) - counted(slot));
        if self.columns.is_empty() || counts.clone().any(|count| count > 0) {
            self.counts = counts.collect();
        }
    }

    /// Adds group `s` of `from` to the group in `slots[s]`, for which there must be room. Not for tables.
    pub fn combine_at(&mut self, slots: &[u32], from: &Accumulators) {
        self.combine_part_at(slots, from, 0..slots.len());
    }

    /// The same of the groups `part` of `from`, of which group `part.start + s` goes to `slots[s]`.
    pub fn combine_part_at(&mut self, slots: &[u32], from: &Accumulators, part: Range<usize>) {
        for (into, from) in self.columns.iter_mut().zip(&from.columns) {
            into.combine_at(slots, &from.cells[part.clone()]);
        }
        if !from.counts.is_empty() {
            self.count_rows();
            slots.iter().zip(from.counts.iter().skip(part.start)).for_each(|(&slot, count)| self.counts[slot as usize] += count);
        }
    }

    /// Makes the group in `slots[s]`, for which there must be room, group `s` of `from`. Not for tables.
    pub fn copy_at(&mut self, slots: &[u32], from: &Accumulators) {
        for (into, from) in self.columns.iter_mut().zip(&from.columns) {
            slots.iter().zip(&from.cells).for_each(|(&slot, cell)| into.cells[slot as usize] = *cell);
        }
        if !self.counts.is_empty() || !from.counts.is_empty() {
            self.count_rows();
            let counts = from.counts.iter().copied().chain(std::iter::repeat(0));
            slots.iter().zip(counts).for_each(|(&slot, count)| self.counts[slot as usize] = count);
        }
    }

    /// Makes each group in `slots` the sum of those in the same slots of `a` and `b`; all have room for them. Not for tables.
    pub fn sum_at(&mut self, slots: &[u32], a: &Accumulators, b: &Accumulators) {
        for ((into, a), b) in self.columns.iter_mut().zip(&a.columns).zip(&b.columns) {
            into.sum_at(slots, &a.cells, &b.cells);
        }
        if !self.counts.is_empty() {
            let count = |of: &Accumulators, slot: usize| of.counts.get(slot).copied().unwrap_or(0);
            slots.iter().map(|&slot| slot as usize).for_each(|slot| self.counts[slot] = count(a, slot) + count(b, slot));
        }
    }

    /// Adds the groups `slots` of `from` behind those that are here. Not for tables.
    pub fn append(&mut self, from: &Accumulators, slots: &[u32]) {
        if !from.counts.is_empty() {
            self.count_rows();
            gather(&from.counts, slots, &mut self.counts);
        } else if !self.counts.is_empty() {
            self.counts.resize(self.counts.len() + slots.len(), 0);
        }
        for (into, from) in self.columns.iter_mut().zip(&from.columns) {
            into.cells.extend(slots.iter().map(|&slot| from.cells[slot as usize]));
        }
    }

    /// Adds the groups `part` of `from` behind those that are here. Not for tables.
    pub fn append_part(&mut self, from: &Accumulators, part: Range<usize>) {
        if !from.counts.is_empty() {
            self.count_rows();
            self.counts.extend_from_slice(&from.counts[part.clone()]);
        } else if !self.counts.is_empty() {
            self.counts.resize(self.counts.len() + part.len(), 0);
        }
        for (into, from) in self.columns.iter_mut().zip(&from.columns) {
            into.cells.extend_from_slice(&from.cells[part.clone()]);
        }
    }

    /// Forgets all groups and keeps the memory for others. Not for tables.
    pub fn truncate(&mut self) {
        self.columns.iter_mut().for_each(|column| column.cells.clear());
        self.counts.clear();
    }

    /// Makes room to count rows that no column counts, as many as there are groups.
    fn count_rows(&mut self) {
        let groups = self.columns.first().map_or(0, |column| column.cells.len());
        grow(&mut self.counts, groups, 0);
    }

    /// The cells of each column in `slots`.
    pub(super) fn cells(&self, slots: &Slots<'_>) -> Vec<Cow<'_, [Cell]>> {
        self.columns.iter().map(|column| slots.of(&column.cells)).collect()
    }

    /// The cells of the column of that number, by slot.
    pub(super) fn cells_of(&self, column: usize) -> &[Cell] {
        &self.columns[column].cells
    }

    /// The number of rows by slot, where no column counts them.
    pub(super) fn plain_counts(&self) -> Option<&[u64]> {
        self.columns.is_empty().then_some(self.counts.as_slice())
    }

    /// The table of that number.
    pub(super) fn table(&self, table: usize) -> &dyn Table {
        debug_assert!(self.logs.iter().all(Log::is_settled), "rows that wait are settled before groups are asked for");
        self.tables[table].as_ref()
    }

    /// Rows counted in group `slot`.
    pub fn count(&self, slot: u32) -> u64 {
        let counted = self.columns.first().and_then(|column| column.cells.get(slot as usize)).map_or(0, |cell| cell.count);
        counted + self.counts.get(slot as usize).copied().unwrap_or(0)
    }

    /// Rows counted in the groups `slots`, in order.
    pub fn rows(&self, slots: &Slots<'_>) -> Vec<i64> {
        match (self.columns.first(), slots) {
            (None, Slots::Range(range)) if range.end <= self.counts.len() => {
                self.counts[range.clone()].iter().map(|&count| count as i64).collect()
            }
            _ => slots.map(|slot| self.count(slot) as i64),
        }
    }

    /// The groups that have rows.
    pub fn live(&self, live: &mut Vec<u32>) {
        live.clear();
        let groups = self.columns.first().map_or(self.counts.len(), |column| column.cells.len());
        live.extend((0..groups as u32).filter(|&slot| self.count(slot) > 0));
    }

    /// Forgets all groups, of which there are `groups`, and keeps the memory for others: cells are emptied when rows reach them.
    pub fn clear(&mut self, groups: usize) {
        self.truncate();
        self.tables.iter_mut().for_each(|table| table.clear(&Slots::Range(0..groups)));
        self.logs.iter_mut().for_each(Log::clear);
    }

    /// Adds group `from` to group `into` and empties it.
    pub fn merge(&mut self, into: u32, from: u32) {
        self.close();
        let (to, at) = (into as usize, from as usize);
        for column in &mut self.columns {
            let cell = std::mem::take(&mut column.cells[at]);
            column.combine_from(to, &[cell]);
        }
        self.tables.iter_mut().for_each(|table| table.merge(into, from));
        if !self.counts.is_empty() {
            self.counts[to] += std::mem::take(&mut self.counts[at]);
        }
    }

    /// Empties the groups in `slots`.
    pub fn forget(&mut self, slots: &[u32]) {
        for column in &mut self.columns {
            slots.iter().for_each(|&slot| column.cells[slot as usize] = Cell::EMPTY);
        }
        self.tables.iter_mut().for_each(|table| table.clear(&Slots::List(slots)));
        if !self.counts.is_empty() {
            slots.iter().for_each(|&slot| self.counts[slot as usize] = 0);
        }
    }
}

/// Start and end of the windows that results are of, one of each per result.
pub(crate) struct Spans {
    starts: Vec<i64>,
    ends: Vec<i64>,
    unit: Unit,
}

impl Spans {
    /// Windows that differ. There are as many starts as ends.
    pub fn new(starts: Vec<i64>, ends: Vec<i64>, unit: Unit) -> Spans {
        Spans { starts, ends, unit }
    }

    /// So many times the same window.
    pub fn same((start, end): (i64, i64), rows: usize, unit: Unit) -> Spans {
        Spans { starts: vec![start; rows], ends: vec![end; rows], unit }
    }

    /// The lengths of the windows.
    pub(super) fn seconds(&self) -> impl Iterator<Item = f64> + '_ {
        let per_second = self.unit.per_second() as f64;
        self.starts.iter().zip(&self.ends).map(move |(start, end)| end.saturating_sub(*start) as f64 / per_second)
    }

    /// The columns `window_start` and `window_end`.
    pub fn columns(self) -> [ArrayRef; 2] {
        fn column<T: ArrowPrimitiveType<Native = i64>>(values: Vec<i64>) -> ArrayRef {
            Arc::new(PrimitiveArray::<T>::new(values.into(), None))
        }
        let typed = match self.unit {
            Unit::Millisecond => column::<TimestampMillisecondType>,
            Unit::Microsecond => column::<TimestampMicrosecondType>,
            Unit::Nanosecond => column::<TimestampNanosecondType>,
        };
        [typed(self.starts), typed(self.ends)]
    }
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
